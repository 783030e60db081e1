from pathlib import Path

import numpy as np
import pytest
from landmarkflow.methods.oneshot.consensus import count_votes, joint_radius
from numpy.typing import NDArray

from landmarkflow.__main__ import main
from landmarkflow.commands.fuse_landmarks import Way, fused
from landmarkflow.core.points import Landmarks, PointList
from landmarkflow.core.records import Record, Status, read_record, write_record
from landmarkflow.formats.slicer import read_point_lists, write_markups
from landmarkflow.methods.oneshot.settings import FuseSettings

Points = NDArray[np.float64]

LABELS = ("tip", "dent")
TRUTH = np.array([[1.0, 2.0, 3.0], [-4.0, 5.0, 6.0]])
SETTINGS = FuseSettings(farthest_mm=1.0, shared_error=0.6)
OFFSETS = np.array([[0.3, 0.0, 0.0], [-0.3, 0.0, 0.0], [0.0, 0.3, 0.0]])


def way(
    name: str, positions: Points, status: Status = "ok", labels: tuple[str, ...] = LABELS
) -> Way:
    """What a template found, with a radius of 0.5 mm; nothing where a stage failed."""
    reason = None if status == "ok" else f"{name} is {status}"
    records = [Record("a", "deform", status, reason), Record("a", "landmarks")]
    if status == "failed":
        positions = np.full_like(positions, np.nan)
        records[1] = Record("a", "landmarks", status, reason)
    landmarks = Landmarks(labels, positions)
    notes = tuple(f"{name} is missing" if lacks else "" for lacks in landmarks.missing)
    final = PointList("final", landmarks, np.full(len(labels), 0.5), notes)
    return Way(name, [final, PointList("rigid", landmarks, None, notes)], records)


def positions_of(ways: list[Way]) -> tuple[Points, Record]:
    lists, record = fused(ways, LABELS, SETTINGS)
    assert [one.name for one in lists] == ["final", "alone", "rigid"]
    return lists[0].landmarks.positions, record


def test_the_mean_of_all_templates_is_taken_and_the_first_ones_points_are_kept() -> None:
    ways = [way(str(n), TRUTH + offset) for n, offset in enumerate(OFFSETS)]
    lists, record = fused(ways, LABELS, SETTINGS)
    np.testing.assert_allclose(lists[0].landmarks.positions, TRUTH + OFFSETS.mean(axis=0))
    np.testing.assert_allclose(lists[1].landmarks.positions, TRUTH + OFFSETS[0])
    assert record.status == "ok"
    assert record.details["templates"] == ["0", "1", "2"]


def test_a_template_in_doubt_does_not_count() -> None:
    ways = [way("0", TRUTH), way("1", TRUTH + 7.0, "doubtful"), way("2", TRUTH + 0.2)]
    positions, record = positions_of(ways)
    np.testing.assert_allclose(positions, TRUTH + 0.1)
    assert record.status == "ok"
    assert record.details["templates"] == ["0", "2"]


def test_a_template_that_went_astray_unnoticed_is_outvoted() -> None:
    positions, record = positions_of([way("0", TRUTH), way("1", TRUTH + 7.0), way("2", TRUTH)])
    np.testing.assert_allclose(positions, TRUTH)
    assert record.status == "ok"
    assert record.details["counted"] == [2, 2]


def test_where_most_templates_doubt_the_scan_is_doubtful() -> None:
    ways = [way("0", TRUTH, "doubtful"), way("1", TRUTH, "doubtful"), way("2", TRUTH + 0.5)]
    positions, record = positions_of(ways)
    np.testing.assert_allclose(positions, TRUTH + 0.5)
    assert (record.status, record.reason) == (
        "doubtful",
        "1 of 3 templates gave landmarks beyond doubt",
    )


def test_templates_that_disagree_make_the_scan_doubtful() -> None:
    apart = TRUTH + np.array([[0.0, 0.0, 0.0], [0.0, 3.0, 0.0]])
    _, record = positions_of([way("0", TRUTH), way("1", apart)])
    assert record.status == "doubtful"
    assert record.reason == "the templates differ by more than 1 mm on dent"


def test_a_scan_that_only_another_template_found_has_its_landmarks() -> None:
    positions, record = positions_of([way("0", TRUTH, "failed"), way("1", TRUTH + 0.1)])
    np.testing.assert_allclose(positions, TRUTH + 0.1)
    assert record.status == "ok"


def test_a_scan_that_no_template_found_says_why_the_first_did_not() -> None:
    lists, record = fused([way(n, TRUTH, "failed") for n in "01"], LABELS, SETTINGS)
    assert lists[0].landmarks.missing.all()
    assert lists[0].notes == ("0 is missing",) * 2
    assert (record.status, record.reason) == ("failed", "0 is failed")


def test_a_template_need_not_have_all_landmarks() -> None:
    ways = [way("0", TRUTH), way("1", TRUTH[1:] + 0.2, labels=("dent",))]
    positions, record = positions_of(ways)
    np.testing.assert_allclose(positions, [TRUTH[0], TRUTH[1] + 0.1])
    assert record.details["counted"] == [1, 2]
    lists, _ = fused([way("0", TRUTH, "failed"), ways[1]], LABELS, SETTINGS)
    assert lists[0].landmarks.missing.tolist() == [True, False]
    assert lists[0].notes == ("no template that counts has this landmark", "")


def test_a_joint_radius_shrinks_by_what_is_not_shared_and_grows_by_disagreement() -> None:
    radii = np.full((2, 1), 0.5)
    agreeing = count_votes([np.zeros((1, 3))] * 2, farthest_mm=1.0)
    assert joint_radius(radii, agreeing, shared_error=1.0)[0] == pytest.approx(0.5)
    assert joint_radius(radii, agreeing, shared_error=0.0)[0] == pytest.approx(0.5 / np.sqrt(2))
    apart = count_votes([np.zeros((1, 3)), np.array([[0.8, 0.0, 0.0]])], farthest_mm=1.0)
    assert joint_radius(radii, apart, shared_error=1.0)[0] == pytest.approx(np.hypot(0.5, 0.4))
    alone = count_votes([np.zeros((1, 3))], farthest_mm=1.0)
    assert joint_radius(radii[:1], alone, shared_error=0.6)[0] == pytest.approx(0.5)


@pytest.mark.usefixtures("quiet")
def test_files_come_template_by_template_and_scan_by_scan(tmp_path: Path) -> None:
    scans, templates, stages = ("a", "b"), ("template", "t2"), ("deform", "landmarks")
    write_markups(tmp_path / "t.mrk.json", [PointList("reference", Landmarks(LABELS, TRUTH), None)])
    placed, records = [], []
    for far, template in enumerate(templates):
        for number, scan in enumerate(scans):
            folder = tmp_path / template
            folder.mkdir(exist_ok=True)
            landmarks = Landmarks(LABELS, TRUTH + 10.0 * number + 0.2 * far)
            final = PointList("final", landmarks, np.full(2, 0.5))
            placed.append(folder / f"{scan}.mrk.json")
            write_markups(placed[-1], [final])
            for stage in stages:
                records.append(folder / f"{scan}.{stage}.json")
                write_record(records[-1], Record(scan, stage))
    write_record(records[-1], Record("b", "landmarks", "doubtful", "odd"))
    outputs = [tmp_path / f"{scan}.{suffix}" for suffix in ("mrk.json", "json") for scan in scans]
    arguments = ["--settings", SETTINGS.model_dump_json()]
    arguments += ["--template-landmarks", str(tmp_path / "t.mrk.json")]
    arguments += ["--templates", *templates, "--scans", *scans, "--placed", *map(str, placed)]
    arguments += ["--records", *map(str, records), "--landmarks", *map(str, outputs[:2])]
    assert main(["fuse_landmarks", *arguments, "--record", *map(str, outputs[2:])]) == 0
    first, second = (read_point_lists(path)[0].landmarks.positions for path in outputs[:2])
    np.testing.assert_allclose(first, TRUTH + 0.1, atol=1e-4)
    np.testing.assert_allclose(second, TRUTH + 10.0, atol=1e-4)
    assert read_record(outputs[2]).details["templates"] == list(templates)
    assert read_record(outputs[3]).details["templates"] == ["template"]
