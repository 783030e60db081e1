from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from stage_runs import Outcome, assert_refused, path_of, run_stage

from landmarkflow.core.points import Landmarks, PointList
from landmarkflow.core.records import TEMPLATE, Record, read_record, write_record
from landmarkflow.formats.slicer import read_complete_markups, write_markups
from landmarkflow.methods.oneshot.settings import SymmetriseSettings
from landmarkflow.methods.oneshot.stages import SYMMETRISE
from landmarkflow.methods.oneshot.symmetrise import symmetrise

SETTINGS = SymmetriseSettings(enabled=True, partner_mm=1.0)
# Left, right, in the midplane x = 2, and one that nobody marked on the other side.
TRUE = np.array([[6.0, 1.0, 3.0], [-2.0, 1.0, 3.0], [2.0, 5.0, -1.0], [9.0, -8.0, 4.0]])
LABELS = ("left", "right", "middle", "alone")


@pytest.fixture
def reflection() -> sitk.AffineTransform:
    """The mirror image in the plane x = 2."""
    transform = sitk.AffineTransform(3)
    transform.SetMatrix((-1, 0, 0, 0, 1, 0, 0, 0, 1))
    transform.SetTranslation((4.0, 0.0, 0.0))
    return transform


def test_partners_share_their_errors(reflection: sitk.Transform) -> None:
    marked = TRUE.copy()
    marked[0] += [0.0, 0.4, 0.0]
    marked[2] += [0.2, 0.3, 0.0]
    found = symmetrise(Landmarks(LABELS, marked), reflection, SETTINGS)
    assert found.partners == {"left": "right", "right": "left", "middle": "middle"}
    shifts = np.array([[0, 0.2, 0], [0, 0.2, 0], [0, 0.3, 0], [0, 0, 0]])
    np.testing.assert_allclose(found.landmarks.positions, TRUE + shifts, atol=1e-12)


def test_symmetric_landmarks_stay(reflection: sitk.Transform) -> None:
    found = symmetrise(Landmarks(LABELS, TRUE), reflection, SETTINGS)
    np.testing.assert_allclose(found.landmarks.positions, TRUE, atol=1e-12)


def test_a_partner_too_far_away_is_none(reflection: sitk.Transform) -> None:
    marked = TRUE.copy()
    marked[0, 1] += 1.1
    found = symmetrise(Landmarks(LABELS, marked), reflection, SETTINGS)
    assert found.partners == {"middle": "middle"}
    np.testing.assert_array_equal(found.landmarks.positions[:2], marked[:2])


def test_of_two_that_claim_one_partner_the_nearer_gets_it(reflection: sitk.Transform) -> None:
    labels = (*LABELS, "rival")
    marked = np.vstack([TRUE, TRUE[0] + [0.0, 0.5, 0.0]])
    found = symmetrise(Landmarks(labels, marked), reflection, SETTINGS)
    assert found.partners["left"] == "right"
    assert "rival" not in found.partners


def run(folder: Path, reflection: sitk.Transform, record: Record) -> Outcome:
    marked = PointList("reference", Landmarks(LABELS, TRUE + 0.1), None)
    write_markups(path_of(folder, SYMMETRISE, "template_reference"), [marked])
    write_record(path_of(folder, SYMMETRISE, "template_deform_record"), record)
    sitk.WriteTransform(reflection, str(path_of(folder, SYMMETRISE, "template_bspline")))
    return run_stage(SYMMETRISE, folder, settings={"symmetrise": SETTINGS})


def test_the_record_says_who_pairs_with_whom_and_what_moved(
    tmp_path: Path, reflection: sitk.Transform
) -> None:
    assert run(tmp_path, reflection, Record(TEMPLATE, "deform")).status == 0
    written = read_complete_markups(path_of(tmp_path, SYMMETRISE, "symmetrised"))
    assert written.labels == LABELS
    # 0.1 mm along x, away from the midplane on one side and towards it on the other, evens out.
    np.testing.assert_allclose(written.positions[:3] - TRUE[:3], [[0, 0.1, 0.1]] * 3, atol=1e-6)
    details = read_record(path_of(tmp_path, SYMMETRISE, "record")).details
    assert details["partners"] == {"left": "right", "right": "left", "middle": "middle"}
    assert details["moved_mm"] == {"left": 0.1, "right": 0.1, "middle": 0.1, "alone": 0.0}


def test_a_template_that_misses_its_mirror_image_stops_the_study(
    tmp_path: Path, reflection: sitk.Transform
) -> None:
    failed = Record(TEMPLATE, "align", "failed", "correlation 0.1, expected 0.3")
    said = "mirror image: align failed: correlation 0.1, expected 0.3"
    assert_refused(run(tmp_path, reflection, failed), said)
    assert not path_of(tmp_path, SYMMETRISE, "symmetrised").exists()
