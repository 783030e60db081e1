import numpy as np
import pytest
import SimpleITK as sitk

from landmarkflow.geometry import Landmarks
from landmarkflow.oneshot.settings import SymmetriseSettings
from landmarkflow.oneshot.symmetrise import symmetrise

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
