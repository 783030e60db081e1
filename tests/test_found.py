"""What was found, without any reference: coordinates, and scans in the order of doubt."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from landmarkflow.core.files import read_json, write_json
from landmarkflow.core.points import Landmarks, PointList
from landmarkflow.core.records import Record, Step, write_record
from landmarkflow.engine.store import Task
from landmarkflow.evaluation.comparison import write_comparison
from landmarkflow.evaluation.errors import ScanPoints, error_table
from landmarkflow.evaluation.evaluate import Kind, evaluate
from landmarkflow.evaluation.found import (
    COORDINATES,
    Found,
    coordinate_table,
    scan_table,
    wide_table,
)
from landmarkflow.evaluation.results import read_run, read_scans
from landmarkflow.evaluation.settings import EvaluateSettings
from landmarkflow.formats.slicer import write_markups

LABELS = ("apex", "window")
NOWHERE = [math.nan] * 3
NO_ERRORS = error_table([])


def found(
    scan: str,
    positions: list[list[float]] | None = None,
    *steps: Step,
    radius: float = 0.3,
    similarity: float | None = 0.9,
    notes: tuple[str, ...] = (),
    reason: str = "",
) -> Found:
    """What a run found of two landmarks, or of as many as there are positions."""
    lists: tuple[PointList, ...] = ()
    alike: dict[str, float | None] = {}
    if positions is not None:
        labels = LABELS if len(positions) == len(LABELS) else tuple("abcd"[: len(positions)])
        landmarks = Landmarks(labels, np.array(positions))
        before = Landmarks(labels, landmarks.positions + np.array([0.0, 0.5, 0.0]))
        radii = np.full(len(labels), radius)
        lists = (PointList("final", landmarks, radii, notes), PointList("rigid", before, None))
        alike = dict.fromkeys(labels, similarity)
    return Found(ScanPoints(scan, lists, None, reason), steps or (Step("place"),), alike)


def test_every_landmark_of_every_scan_has_a_row_with_its_place_or_the_reason() -> None:
    scans = [
        found("good", [[1, 2, 3], [4, 5, 6]]),
        found("half", [[1, 2, 3], NOWHERE], notes=("", "out of sight")),
        found("doubtful", [[1, 2, 3], [4, 5, 6]], Step("place", "doubtful", "far apart")),
        found("lost", None, Step("rigid", "failed", "no overlap"), reason="rigid: no overlap"),
    ]
    table = coordinate_table(scans, in_pixels=False)
    assert tuple(table.columns) == COORDINATES
    said = table[["scan", "landmark", "x", "radius", "similarity", "status", "reason"]]
    nan = pytest.approx(math.nan, nan_ok=True)
    assert said.to_numpy().tolist() == [
        ["good", "apex", 1, 0.3, 0.9, "ok", ""],
        ["good", "window", 4, 0.3, 0.9, "ok", ""],
        ["half", "apex", 1, 0.3, 0.9, "ok", ""],
        ["half", "window", nan, nan, nan, "missing", "out of sight"],
        ["doubtful", "apex", 1, 0.3, 0.9, "doubtful", "place: far apart"],
        ["doubtful", "window", 4, 0.3, 0.9, "doubtful", "place: far apart"],
        ["lost", "apex", nan, nan, nan, "failed", "rigid: no overlap"],
        ["lost", "window", nan, nan, nan, "failed", "rigid: no overlap"],
    ]
    assert set(table["frame"]) == {"LPS"}
    assert set(coordinate_table(scans, in_pixels=True)["frame"]) == {"pixels"}
    wide = wide_table(table).set_index("scan")
    assert wide.loc["good", ["apex_z", "window_x"]].tolist() == [3, 4]
    assert wide["status"].tolist() == ["ok", "missing", "doubtful", "failed"]
    assert math.isnan(wide.loc["half", "window_y"])


def test_scans_are_ranked_by_status_and_then_by_doubt() -> None:
    triangle = [[0, 0, 0], [1, 0, 0], [0, 1, 0]]
    scans = [
        found(f"good{i}", (np.array(triangle) * (1 + 0.1 * i)).tolist(), radius=0.3 + 0.01 * i)
        for i in range(5)
    ]
    scans += [
        found("far", triangle, radius=0.9),
        found("unlike", triangle, radius=0.9, similarity=0.4),
        found("bent", [[0, 0, 0], [1, 0, 0], [1, 1, 0]], radius=0.9, similarity=0.4),
        found("flagged", triangle, Step("place", "doubtful", "far apart")),
        found("lost", None, Step("rigid", "failed", "no overlap")),
    ]
    table = scan_table(scans, NO_ERRORS)
    assert table["scan"].tolist()[:5] == ["lost", "flagged", "bent", "unlike", "far"]
    assert table["rank"].tolist() == list(range(1, 11))
    bent = table.set_index("scan").loc["bent"]
    assert bent["doubt"] > 0.8
    assert bent["moved"] == pytest.approx(0.5)
    assert bent["unusual"] > 0.1
    # The size alone of a scan's landmarks is nothing unusual.
    good = table[table["scan"].str.startswith("good")]
    assert good["unusual"].to_numpy() == pytest.approx(0, abs=1e-6)
    assert math.isnan(table.set_index("scan").loc["lost", "doubt"])


def test_errors_stand_beside_the_rank_and_do_not_decide_it() -> None:
    points = [[0, 0, 0], [1, 0, 0]]
    scans = [found("sure", points, radius=0.2), found("unsure", points, radius=0.4)]
    errors = pd.DataFrame(
        {"scan": ["sure"], "landmark": ["apex"], "stage": ["final"], "error": [9.0]}
    )
    table = scan_table(scans, errors)
    assert table["scan"].tolist() == ["unsure", "sure"]
    assert table["error"].tolist()[1] == 9.0


def write_run(folder: Path) -> list[Task]:
    scans = []
    for i, scan in enumerate(("s1", "s2", "lost")):
        files = {
            "found": folder / f"landmarks/{scan}.mrk.json",
            "record": folder / f"landmarks/{scan}.json",
        }
        details = {"similarity": {"apex": 0.9, "window": None}}
        record = Record(scan, "place", details=details)
        write_markups(files["found"], found(scan, [[i, 2, 3], [4, 5, 6]]).points.lists)
        if scan == "lost":
            files["found"].write_bytes(b"")
            record = Record(scan, "rigid", "failed", "no overlap")
        write_record(files["record"], record)
        scans.append(Task(scan, files, {}))
    return scans


def test_a_study_without_references_has_no_empty_tables(tmp_path: Path) -> None:
    run = tmp_path / "oneshot"
    settings = EvaluateSettings()
    evaluate(write_run(run), run, settings, seed=0, kind=Kind(referenced=False))
    written = sorted(path.relative_to(run).as_posix() for path in run.rglob("*.csv"))
    expected = ["evaluation/failures.csv", "landmarks.csv", "landmarks_wide.csv", "scans.csv"]
    assert written == expected
    lines = (run / "landmarks.csv").read_text("utf-8").splitlines()
    assert lines[1] == "s1,apex,0.0000,2.0000,3.0000,LPS,0.3000,0.9000,ok,"
    assert lines[-1] == "lost,window,,,,LPS,,,failed,rigid: no overlap"
    assert read_scans(run)["scan"].tolist()[0] == "lost"
    summary = read_json(run / "evaluation/summary.json")
    assert summary["statuses"] == {"ok": 2, "doubtful": 0, "failed": 1, "refused": 0}
    made = {"run": "oneshot", "entry": "oneshot", "method": "m", "seed": 0, "steps": {}}
    write_json(run / "made.json", made)
    write_comparison(tmp_path, [read_run(run)])
    assert (tmp_path / "comparison.csv").read_text("utf-8").splitlines() == [
        "run,method,seeds,scans,ok,doubtful,failed,refused",
        "oneshot,m,1,3,2,0,1,0",
    ]
    said = (tmp_path / "comparison.md").read_text("utf-8")
    assert "No scan has reference landmarks: no distance was measured." in said
    assert not (tmp_path / "steps.csv").exists()
