import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray
from phantoms import LANDMARKS, bone, sampled
from stage_runs import Outcome, path_of, run_stage

from landmarkflow.core.files import write_json
from landmarkflow.core.grids import Grid
from landmarkflow.core.points import Landmarks, PointList
from landmarkflow.core.records import Record, Step, read_record, write_nothing, write_record
from landmarkflow.formats.slicer import read_point_lists, write_markups
from landmarkflow.formats.written import write_volume
from landmarkflow.images.extent import Extent
from landmarkflow.methods.oneshot.place import (
    Calibration,
    Evidence,
    beyond_border,
    calibrate,
    doubts,
    grown,
    radii,
)
from landmarkflow.methods.oneshot.settings import PlaceSettings
from landmarkflow.methods.oneshot.stages import PLACE

SETTINGS = PlaceSettings(radius_in_loops=2.0, annotation_mm=0.0)
CALIBRATION = Calibration(loop_mm=0.1, deviation_mm=0.05)
USUAL = Evidence(median_similarity=0.95, median_deviation_mm=0.05, scaling=1.02)
SCAN = Grid.centred((5.0, 5.0, 5.0), (40, 40, 40), 0.5)
CUBE = Landmarks(("a", "b", "c"), np.array([[0.0, 0, 0], [1, 2, 3], [-3, 1, 2]]))


def test_a_study_is_measured_by_its_loops_and_few_that_went_astray_do_not_count() -> None:
    loops = np.array([[0.1] * 17 + [9.0, 20.0, 30.0]])
    assert calibrate(loops, np.array([0.2, np.nan, 0.4, 0.3])) == Calibration(
        pytest.approx(0.1), pytest.approx(0.3)
    )


def test_a_scan_that_was_lost_measures_no_error() -> None:
    loops = np.array([[0.1, 0.1], [0.12, 0.1], [7.0, 9.0]])
    calibration = calibrate(loops, np.array([0.3]))
    assert calibration is not None
    assert 0.1 <= calibration.loop_mm <= 0.12


@pytest.mark.parametrize("deviations", [[], [np.nan, np.nan]])
def test_without_a_loop_or_a_deviation_there_is_no_calibration(deviations: list[float]) -> None:
    assert calibrate(np.empty(0), np.array([0.1])) is None
    assert calibrate(np.array([[0.1]]), np.array(deviations)) is None


def test_a_radius_grows_with_loop_and_deviation() -> None:
    usual, unsure, unknown = radii(np.array([0.05, 0.4, np.nan]), CALIBRATION, SETTINGS)
    assert usual == pytest.approx(2.0 * 0.1 * np.sqrt(2))
    assert unsure == pytest.approx(2.0 * 0.1 * 3)
    # A landmark whose windows tell nothing is at the border, where every radius grows.
    assert unknown == usual
    wider = radii(np.array([0.05]), Calibration(0.3, 0.05), SETTINGS)
    assert wider[0] == pytest.approx(3 * usual)
    assert np.isnan(radii(np.array([0.05]), None, SETTINGS)).all()


def test_annotations_scatter_however_well_the_loops_close() -> None:
    settings = PlaceSettings(radius_in_loops=2.0, annotation_mm=0.3)
    assert radii(np.array([0.05]), Calibration(0.0, 0.05), settings)[0] == pytest.approx(0.3)
    wide = radii(np.array([0.05]), CALIBRATION, settings)[0]
    assert wide**2 == pytest.approx(0.3**2 + 2 * 0.2**2)


@pytest.mark.parametrize(
    ("seen", "said"),
    [
        ({"median_similarity": 0.42}, "alike to 0.42 in the median, expected at least 0.8"),
        ({"median_similarity": float("nan")}, "alike to nan"),
        (
            {"most_unlike": "WINDOW", "lowest_similarity": 0.43},
            "surroundings of the landmark WINDOW are alike to 0.43, expected at least 0.5",
        ),
        ({"scaling": 1.6}, "lie 1.60 times as far apart"),
        ({"scaling": 0.5}, "lie 0.50 times as far apart"),
        ({"median_deviation_mm": 0.25}, "5.0 times as unsure as usual"),
        ({"beyond": ("b", "c")}, "or close to it, lie b, c"),
        ({"median_deviation_mm": None}, "every landmark lies at the border of the scan"),
    ],
)
def test_each_doubt_is_said(seen: dict[str, object], said: str) -> None:
    evidence = Evidence(
        **({"median_similarity": 0.95, "median_deviation_mm": 0.05, "scaling": 1.0} | seen)
    )
    (reason,) = doubts(evidence, CALIBRATION, SETTINGS)
    assert said in reason


def test_a_usual_scan_is_beyond_doubt_and_several_doubts_stand_together() -> None:
    assert doubts(USUAL, CALIBRATION, SETTINGS) == []
    (uncalibrated,) = doubts(USUAL, None, SETTINGS)
    assert "no scan of the study could be registered back" in uncalibrated
    assert len(doubts(Evidence(0.1, 1.0, 3.0), CALIBRATION, SETTINGS)) == 3


def test_evidence_is_the_median_and_the_size() -> None:
    twice = Landmarks(CUBE.labels, 2 * CUBE.positions + 7)
    similarity, deviation = np.array([0.9, 0.7, 0.8]), np.array([np.nan, 0.2, 0.4])
    evidence = Evidence.of(CUBE, twice, similarity, deviation, np.zeros(3, dtype=bool))
    expected = Evidence(0.8, pytest.approx(0.3), pytest.approx(2.0), (), "b", 0.7)
    assert evidence == expected


def test_one_landmark_has_no_size() -> None:
    one = CUBE.select(["b"])
    evidence = Evidence.of(one, one, np.array([0.9]), np.array([np.nan]), np.array([True]))
    assert evidence == Evidence(0.9, None, 1.0, ("b",), "b", 0.9)


def test_surroundings_that_a_scan_shows_in_part_are_not_called_unlike() -> None:
    def seen(*similarity: float) -> Evidence:
        deviation, beyond = np.full(3, 0.05), np.zeros(3, dtype=bool)
        return Evidence.of(CUBE, CUBE, np.array(similarity), deviation, beyond)

    evidence = seen(np.nan, 0.9, np.nan)
    assert (evidence.most_unlike, evidence.lowest_similarity) == ("b", 0.9)
    assert doubts(evidence, CALIBRATION, SETTINGS) == []
    assert doubts(seen(np.nan, np.nan, np.nan), CALIBRATION, SETTINGS) == []
    # Nor do they make up for others that are.
    assert seen(np.nan, 0.6, np.nan).median_similarity == 0.6


# At the border of a scan

NEAR = 2.0
DEPTHS = np.array([9.0, 2.0, 1.0, 0.4, -0.2, -0.4, -3.0])


def along(depths: NDArray[np.float64]) -> Landmarks:
    """Landmarks so deep in SCAN, below its upper border along y, mm."""
    middle = np.tile(SCAN.centre, (len(depths), 1))
    middle[:, 1] = SCAN.corners[:, 1].max() - depths
    return Landmarks(tuple(map(str, depths)), middle)


@pytest.mark.parametrize("cut_share", [0.0, 0.004])
def test_where_no_border_cuts_the_target_landmarks_beyond_it_by_more_than_rounding_are_told(
    cut_share: float,
) -> None:
    told = beyond_border(DEPTHS, cut_share, 0.5, NEAR)
    assert told.tolist() == [False] * 5 + [True, True]


def test_where_a_border_cuts_the_target_landmarks_close_to_it_are_told_too() -> None:
    told = beyond_border(DEPTHS, 0.02, 0.5, NEAR)
    assert told.tolist() == [False] * 3 + [True] * 4


def test_a_radius_grows_from_where_the_border_hides_surroundings_and_on_beyond_it() -> None:
    usual = np.full(len(DEPTHS), 0.4)
    found = grown(usual, along(DEPTHS), Extent(SCAN), NEAR)
    np.testing.assert_array_equal(found[:2], usual[:2])
    assert (np.diff(found[1:]) > 0).all()
    # Half of the surroundings is seen at the border; 3 mm beyond it none.
    at_border = grown(usual[:1], along(np.array([0.0])), Extent(SCAN), NEAR)
    assert at_border[0] == pytest.approx(0.4 * 1.5)
    assert found[-1] == pytest.approx(0.4 * 2 + 0.5 * 3)
    assert np.isnan(grown(np.full(1, np.nan), along(np.zeros(1)), Extent(SCAN), NEAR)).all()


# The stage

THERE = Grid.centred((-40.0, 25.0, 60.0), (44, 40, 36), 0.6)
POINTS = Landmarks(LANDMARKS.labels, LANDMARKS.positions + THERE.centre)
REASON = "no such file, expected a scan"
# How far each step before the last is off along x, mm.
MISSES = {"bspline": 0.2, "rigid": 0.5, "moments": 0.9, "centred": 2.0, "region": 5.0}
BEFORE = (Step("locate"), Step("centre", "doubtful", "wandered"))


def file(folder: Path, role: str, scan: str = "") -> Path:
    return path_of(folder, PLACE, role, scan)


def missed(step: str) -> list[float]:
    return [float(THERE.centre[0]) + MISSES[step], *THERE.centre[1:].tolist()]


def say(folder: Path, role: str, scan: str, **details: object) -> None:
    """Write the record of an earlier stage, called as the role that reads it."""
    stage = role.removesuffix("_record")
    write_record(file(folder, role, scan), Record(scan, stage, details=details, earlier=BEFORE))


def say_loops(folder: Path, *lengths: float) -> None:
    """Write what was found of scans that were registered back, all landmarks alike."""
    known = [0.1, 0.1, 0.4, None]
    loops = [
        {"scan": "good", "loop_mm": dict.fromkeys(POINTS.labels, length), "deviation_mm": known}
        for length in lengths
    ]
    write_json(file(folder, "calibration"), {"made_by": "", "loops": loops})


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """What earlier stages left of a scan that is the template, moved, and of a refused one."""
    origin = [0.0, 0.0, 0.0]
    write_volume(
        sampled(Grid.centred(tuple(origin), (44, 40, 36), 0.5), bone),
        file(tmp_path, "template_centred"),
    )
    write_markups(file(tmp_path, "template_reference"), [PointList("reference", LANDMARKS, None)])
    write_json(file(tmp_path, "training"), {"device": "Some GPU"})
    say(tmp_path, "locate_record", "template", centre=origin)
    say(tmp_path, "centre_record", "template", steps=[{"centre": origin}])
    write_volume(sampled(THERE, lambda p: bone(p - THERE.centre)), file(tmp_path, "crop", "good"))
    for name in ("bspline", "rigid", "moments"):
        path = file(tmp_path, name, "good")
        path.parent.mkdir(parents=True, exist_ok=True)
        sitk.WriteTransform(sitk.TranslationTransform(3, missed(name)), str(path))
    write_markups(file(tmp_path, "refined", "good"), [PointList("refined", POINTS, None)])
    say(tmp_path, "locate_record", "good", centre=missed("region"), grid=THERE.as_lists())
    say(tmp_path, "centre_record", "good", device="cpu")
    say(tmp_path, "align_record", "good", mirrored=False, centre=missed("centred"))
    say(tmp_path, "deform_record", "good", cut_share=0.0)
    say(tmp_path, "refine_record", "good", deviation_mm=[0.1, 0.1, 0.4, None])
    say_loops(tmp_path, 0.2)
    for role in ("crop", "rigid", "moments", "bspline", "refined"):
        write_nothing(file(tmp_path, role, "bad"))
    for role in ("locate", "centre", "align", "deform", "refine"):
        refused = Record("bad", "locate", "refused", REASON)
        write_record(file(tmp_path, f"{role}_record", "bad"), refused)
    return tmp_path


def place(folder: Path, **settings: object) -> Outcome:
    return run_stage(PLACE, folder, ["good", "bad"], settings=settings)


def placed(folder: Path, scan: str = "good") -> dict[str, PointList]:
    """The lists of both files, by their names without the scan's."""
    files = [file(folder, role, scan) for role in ("landmarks", "steps")]
    return {points.name: points for path in files for points in read_point_lists(path, scan)}


def record_of(folder: Path, scan: str = "good") -> Record:
    return read_record(file(folder, "record", scan))


def off(points: PointList, truth: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(points.landmarks.positions - truth)


def test_landmarks_are_placed_step_by_step_and_missing_ones_say_why(study: Path) -> None:
    assert place(study).status == 0
    lists = placed(study)
    assert list(lists) == ["final", *MISSES]
    np.testing.assert_allclose(off(lists["final"], POINTS.positions), np.zeros((4, 3)), atol=1e-4)
    for name, miss in MISSES.items():
        away = off(lists[name], POINTS.positions)
        np.testing.assert_allclose(away, [[miss, 0.0, 0.0]] * 4, atol=2e-4)
        assert lists[name].radius is None
    assert lists["final"].radius is not None
    sure, _, unsure, unknown = lists["final"].radius
    assert 0.2 < sure < unsure
    assert unknown == sure
    good = record_of(study)
    assert good == Record("good", "place", details=good.details, earlier=good.earlier)
    assert good.earlier == (*BEFORE, Step("refine"))
    assert good.details["median_similarity"] > 0.9
    assert good.details["scaling"] == pytest.approx(1)
    assert good.details["devices"] == ["Some GPU", "cpu"]
    for points in placed(study, "bad").values():
        assert points.landmarks.labels == LANDMARKS.labels
        assert points.landmarks.missing.all()
        assert points.notes == (f"locate refused: {REASON}",) * 4
        assert points.radius is None
    assert record_of(study, "bad") == Record("bad", "locate", "refused", REASON)


def test_a_mirrored_scan_is_mirrored_from_the_first_step(study: Path) -> None:
    say(study, "align_record", "good", mirrored=True, centre=missed("centred"))
    assert place(study).status == 0
    mirrored = LANDMARKS.positions * [-1.0, 1.0, 1.0] + THERE.centre
    for name in ("centred", "region"):
        away = off(placed(study)[name], mirrored)
        np.testing.assert_allclose(away, [[MISSES[name], 0.0, 0.0]] * 4, atol=2e-4)


@pytest.mark.parametrize(("side", "note"), [("left", "left side"), ("", "")])
def test_the_side_found_stands_at_every_point_and_in_the_record(
    study: Path, side: str, note: str
) -> None:
    found = {"mirrored": side == "left", "side": side}
    say(study, "align_record", "good", centre=missed("centred"), **found)
    assert place(study).status == 0
    for points in placed(study).values():
        assert set(points.notes) == {note}
    details = record_of(study).details
    assert {name: details[name] for name in found} == found
    data = json.loads(file(study, "landmarks", "good").read_text(encoding="utf-8"))
    assert data["markups"][0]["name"] == "good final"
    described = data["markups"][0]["controlPoints"][0]["description"]
    assert described.startswith(f"{note}; true place" if note else "true place")


def test_votes_are_a_step_where_scans_vote_and_nowhere_else(study: Path) -> None:
    votes = Landmarks(POINTS.labels, POINTS.positions + 0.1)
    write_markups(file(study, "voted", "good"), [PointList("voted", votes, None)])
    assert place(study).status == 0
    assert "voted" not in placed(study)
    done = place(study, vote={"peers": 1, "farthest_mm": 0.5})
    assert done.status == 0
    np.testing.assert_allclose(off(placed(study)["voted"], votes.positions), 0, atol=1e-4)


def test_landmarks_that_were_evened_out_are_the_template_s(study: Path) -> None:
    even = Landmarks(LANDMARKS.labels, LANDMARKS.positions + np.array([0.0, 0.3, 0.0]))
    write_markups(file(study, "symmetrised"), [PointList("symmetrised", even, None)])
    for enabled, step in ((False, 0.0), (True, 0.3)):
        assert place(study, symmetrise={"enabled": enabled}).status == 0
        away = off(placed(study)["rigid"], POINTS.positions)
        np.testing.assert_allclose(away, [[MISSES["rigid"], step, 0.0]] * 4, atol=2e-4)


def test_a_study_whose_loops_all_failed_is_doubtful_and_has_no_radii(study: Path) -> None:
    say_loops(study)
    assert place(study).status == 0
    assert record_of(study).status == "doubtful"
    assert "no scan of the study could be registered back" in str(record_of(study).reason)
    final = placed(study)["final"]
    assert final.radius is None
    assert not final.landmarks.missing.any()


def test_an_answer_in_a_scan_of_something_else_is_doubtful(study: Path) -> None:
    noise = np.random.default_rng(0)
    scan = sampled(THERE, lambda p: noise.uniform(size=len(p)))
    write_volume(scan, file(study, "crop", "good"))
    assert place(study).status == 0
    assert record_of(study).status == "doubtful"
    assert "expected at least 0.8" in str(record_of(study).reason)


def test_a_landmark_beyond_the_scan_is_told_and_less_sure(study: Path) -> None:
    radius = {}
    for miss in (0.0, 1.0):
        # The scan ends so far before the tip, which lies farthest along x.
        shown = THERE.as_lists()
        cut = int((THERE.to_index(POINTS.positions)[0, 0] - miss / 0.6) + 0.5)
        grid = shown | {"size": [cut if miss else THERE.size[0], *THERE.size[1:]]}
        say(study, "locate_record", "good", centre=missed("region"), grid=grid)
        say(study, "deform_record", "good", cut_share=0.1 if miss else 0.0)
        assert place(study).status == 0
        final = placed(study)["final"]
        np.testing.assert_allclose(off(final, POINTS.positions), np.zeros((4, 3)), atol=1e-4)
        assert final.radius is not None
        radius[miss] = final.radius
    assert radius[1.0][0] > 1.6 * radius[0.0][0] + 0.3
    np.testing.assert_array_equal(radius[1.0][2:], radius[0.0][2:])
    record = record_of(study)
    assert record.reason == (
        "the target reaches the border of the scan: beyond it, or close to it, lie tip"
    )
    assert record.details["similarity"]["tip"] is None


def test_a_batch_computes_what_changed_and_links_the_rest(study: Path) -> None:
    assert "1/2 good: computed" in place(study).stderr
    outputs = [file(study, role, scan) for scan in ("good", "bad") for role in PLACE.writes]
    before = [path.read_bytes() for path in outputs]
    for path in outputs:
        path.unlink()
    again = place(study)
    assert "1/2 good: known" in again.stderr
    assert "2/2 bad: known" in again.stderr
    assert [path.read_bytes() for path in outputs] == before

    failed = Record("bad", "align", "failed", "unlike")
    write_record(file(study, "refine_record", "bad"), failed)
    partly = place(study)
    assert "1/2 good: known" in partly.stderr
    assert "2/2 bad: computed" in partly.stderr
    assert placed(study, "bad")["final"].notes[0] == "align failed: unlike"

    other = PlaceSettings(similarity_radius_mm=1.0)
    assert "1/2 good: computed" in place(study, place=other).stderr
    # What the loops say is said of every scan.
    say_loops(study, 0.3)
    assert "2/2 bad: computed" in place(study).stderr


def test_an_earlier_record_that_is_none_stops_the_batch(study: Path) -> None:
    broken = file(study, "refine_record", "bad")
    broken.write_text("{}")
    stopped = place(study)
    assert stopped.status == 1
    assert str(broken) in stopped.stderr
    # What was done before is known to the next run.
    write_record(broken, Record("bad", "align", "failed", "unlike"))
    assert "1/2 good: known" in place(study).stderr
