from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from stage_runs import path_of, run_stage

from landmarkflow.core.points import Landmarks, PointList
from landmarkflow.core.records import Record, Status, Step, read_record, write_nothing, write_record
from landmarkflow.core.votes import count_votes
from landmarkflow.formats.slicer import read_point_lists, write_markups
from landmarkflow.methods.fuse.fuse import Way, fused, joint_radius
from landmarkflow.methods.fuse.settings import FuseSettings
from landmarkflow.methods.fuse.stages import FUSE

Points = NDArray[np.float64]

LABELS = ("tip", "dent")
TRUTH = np.array([[1.0, 2.0, 3.0], [-4.0, 5.0, 6.0]])
SETTINGS = FuseSettings(farthest=1.0, shared_error=0.6)
OFFSETS = np.array([[0.3, 0.0, 0.0], [-0.3, 0.0, 0.0], [0.0, 0.3, 0.0]])


def way(
    name: str, positions: Points, status: Status = "ok", labels: tuple[str, ...] = LABELS
) -> Way:
    """What a run found, with a radius of 0.5 mm; nothing where a stage failed."""
    reason = None if status == "ok" else f"{name} is {status}"
    record = Record("a", "place", earlier=(Step("deform", status, reason),))
    if status == "failed":
        positions = np.full_like(positions, np.nan)
        record = Record("a", "deform", status, reason)
    landmarks = Landmarks(labels, positions)
    notes = tuple(f"{name} is missing" if lacks else "" for lacks in landmarks.missing)
    final = PointList("final", landmarks, np.full(len(labels), 0.5), notes)
    return Way(name, [final, PointList("rigid", landmarks, None, notes)], record)


def positions_of(ways: list[Way]) -> tuple[Points, Record]:
    lists, record = fused(ways, LABELS, SETTINGS)
    assert [one.name for one in lists] == ["final", "alone", "rigid"]
    return lists[0].landmarks.positions, record


def test_the_mean_of_all_runs_is_taken_and_the_first_ones_points_are_kept() -> None:
    ways = [way(str(n), TRUTH + offset) for n, offset in enumerate(OFFSETS)]
    lists, record = fused(ways, LABELS, SETTINGS)
    np.testing.assert_allclose(lists[0].landmarks.positions, TRUTH + OFFSETS.mean(axis=0))
    np.testing.assert_allclose(lists[1].landmarks.positions, TRUTH + OFFSETS[0])
    assert record.status == "ok"
    assert record.details["runs"] == ["0", "1", "2"]


def test_a_run_in_doubt_does_not_count() -> None:
    ways = [way("0", TRUTH), way("1", TRUTH + 7.0, "doubtful"), way("2", TRUTH + 0.2)]
    positions, record = positions_of(ways)
    np.testing.assert_allclose(positions, TRUTH + 0.1)
    assert record.status == "ok"
    assert record.details["runs"] == ["0", "2"]


def test_a_run_that_went_astray_unnoticed_is_outvoted() -> None:
    positions, record = positions_of([way("0", TRUTH), way("1", TRUTH + 7.0), way("2", TRUTH)])
    np.testing.assert_allclose(positions, TRUTH)
    assert record.status == "ok"
    assert record.details["counted"] == [2, 2]


def test_where_most_runs_doubt_the_scan_is_doubtful() -> None:
    ways = [way("0", TRUTH, "doubtful"), way("1", TRUTH, "doubtful"), way("2", TRUTH + 0.5)]
    positions, record = positions_of(ways)
    np.testing.assert_allclose(positions, TRUTH + 0.5)
    assert (record.status, record.reason) == (
        "doubtful",
        "1 of 3 runs gave landmarks beyond doubt",
    )


def test_runs_that_disagree_make_the_scan_doubtful() -> None:
    apart = TRUTH + np.array([[0.0, 0.0, 0.0], [0.0, 3.0, 0.0]])
    _, record = positions_of([way("0", TRUTH), way("1", apart)])
    assert record.status == "doubtful"
    assert record.reason == "the runs differ by more than 1 on dent"


def test_a_scan_that_only_another_run_found_has_its_landmarks() -> None:
    positions, record = positions_of([way("0", TRUTH, "failed"), way("1", TRUTH + 0.1)])
    np.testing.assert_allclose(positions, TRUTH + 0.1)
    assert record.status == "ok"


def test_a_scan_that_no_run_found_says_why_the_first_did_not() -> None:
    lists, record = fused([way(n, TRUTH, "failed") for n in "01"], LABELS, SETTINGS)
    assert lists[0].landmarks.missing.all()
    assert lists[0].notes == ("0 is missing",) * 2
    assert (record.status, record.reason) == ("failed", "0 is failed")


def test_a_run_need_not_have_all_landmarks() -> None:
    ways = [way("0", TRUTH), way("1", TRUTH[1:] + 0.2, labels=("dent",))]
    positions, record = positions_of(ways)
    np.testing.assert_allclose(positions, [TRUTH[0], TRUTH[1] + 0.1])
    assert record.details["counted"] == [1, 2]
    lists, _ = fused([way("0", TRUTH, "failed"), ways[1]], LABELS, SETTINGS)
    assert lists[0].landmarks.missing.tolist() == [True, False]
    assert lists[0].notes == ("no run that counts has this landmark", "")


def test_a_joint_radius_shrinks_by_what_is_not_shared_and_grows_by_disagreement() -> None:
    radii = np.full((2, 1), 0.5)
    agreeing = count_votes([np.zeros((1, 3))] * 2, 1.0)
    assert joint_radius(radii, agreeing, shared_error=1.0)[0] == pytest.approx(0.5)
    assert joint_radius(radii, agreeing, shared_error=0.0)[0] == pytest.approx(0.5 / np.sqrt(2))
    apart = count_votes([np.zeros((1, 3)), np.array([[0.8, 0.0, 0.0]])], 1.0)
    assert joint_radius(radii, apart, shared_error=1.0)[0] == pytest.approx(np.hypot(0.5, 0.4))
    alone = count_votes([np.zeros((1, 3))], 1.0)
    assert joint_radius(radii[:1], alone, shared_error=0.6)[0] == pytest.approx(0.5)


def test_files_come_run_by_run_and_scan_by_scan(tmp_path: Path) -> None:
    reference = path_of(tmp_path, FUSE, "template_reference")
    write_markups(reference, [PointList("reference", Landmarks(LABELS, TRUTH), None)])
    for far, run in enumerate(("first", "second")):
        for number, scan in enumerate("ab"):
            found = Landmarks(LABELS, TRUTH + 10.0 * number + 0.2 * far)
            final = PointList("final", found, np.full(2, 0.5))
            folder = tmp_path / f"{run}/landmarks"
            write_markups(folder / f"{scan}.mrk.json", [final], scan=scan)
            if run == "first":
                rigid = PointList("rigid", found, None)
                write_markups(folder / f"{scan}.steps.mrk.json", [rigid], scan=scan)
            else:
                write_nothing(folder / f"{scan}.steps.mrk.json")
            of_scan = {"side": "left", "mirrored": False, "scaling": 1.0}
            write_record(folder / f"{scan}.json", Record(scan, "place", details=of_scan))
    doubtful = Record("b", "place", "doubtful", "odd")
    write_record(tmp_path / "second/landmarks/b.json", doubtful)
    settings = SETTINGS.model_dump()
    assert run_stage(FUSE, tmp_path, "ab", settings=settings, of=["first", "second"]).status == 0
    for scan, mean, counted in (("a", 0.1, ["first", "second"]), ("b", 10.0, ["first"])):
        (final,) = read_point_lists(path_of(tmp_path, FUSE, "landmarks", scan))
        np.testing.assert_allclose(final.landmarks.positions, TRUTH + mean, atol=1e-4)
        steps = read_point_lists(path_of(tmp_path, FUSE, "steps", scan))
        names = [points.name for points in (final, *steps)]
        assert names == [f"{scan} final", f"{scan} alone", f"{scan} rigid"]
        details = read_record(path_of(tmp_path, FUSE, "record", scan)).details
        assert details["runs"] == counted
        assert details["side"] == "left"
        assert "scaling" not in details
