import numpy as np
import pytest

from landmarkflow.core.grids import Grid
from landmarkflow.core.points import Landmarks
from landmarkflow.methods.oneshot.confidence import Calibration, Evidence, calibrate, doubts, radii
from landmarkflow.methods.oneshot.settings import PlaceSettings

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
    assert np.isnan(unknown)
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
        ({"median_deviation_mm": None}, "every landmark lies at the edge"),
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
    evidence = Evidence.of(CUBE, twice, similarity, deviation, SCAN)
    expected = Evidence(0.8, pytest.approx(0.3), pytest.approx(2.0), (), "b", 0.7)
    assert evidence == expected


def test_one_landmark_has_no_size() -> None:
    one = CUBE.select(["b"])
    assert Evidence.of(one, one, np.array([0.9]), np.array([np.nan]), SCAN) == Evidence(
        0.9, None, 1.0, (), "b", 0.9
    )


def test_landmarks_outside_the_scan_are_named() -> None:
    low = SCAN.corners.min(axis=0)
    found = Landmarks(
        CUBE.labels, np.array([low + 1, low - [0.4, 0.0, 0.0], low - [0.0, 3.0, 0.0]])
    )
    evidence = Evidence.of(CUBE, found, np.full(3, 0.95), np.full(3, 0.05), SCAN)
    assert evidence.beyond == ("c",)
    assert "outside the scan lie the landmarks c" in doubts(evidence, CALIBRATION, SETTINGS)
