"""Place the template's landmarks in a scan (Eq. 7), and tell how alike their surroundings are."""

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from landmarkflow.core.points import Landmarks
from landmarkflow.images.sampling import map_points
from landmarkflow.images.similarity import Interpolator, Surroundings

Array = NDArray[np.float64]


def place_landmarks(annotated: Landmarks, transform: sitk.Transform) -> Landmarks:
    """Map the annotated landmarks to a scan.

    With the template as the fixed image the registration's own point map does what Eq. 7 does by
    inverting the transforms.

    Args:
        annotated: the template's landmarks, LPS mm.
        transform: takes template points to the scan's points.
    """
    return Landmarks(annotated.labels, map_points(transform, annotated.positions))


def shift(start: Array, goal: Array, *, mirrored: bool) -> sitk.AffineTransform:
    """The map that takes one centre to another and leaves the axes, as far as hands allow.

    Args:
        start: (3,) a centre in the template, LPS mm.
        goal: (3,) the centre that answers it in the scan.
        mirrored: whether the scan shows the other side; then x changes its sign.
    """
    transform = sitk.AffineTransform(3)
    transform.SetMatrix(np.diag([-1.0 if mirrored else 1.0, 1.0, 1.0]).ravel().tolist())
    transform.SetCenter(start.tolist())
    transform.SetTranslation((goal - start).tolist())
    return transform


def similarity_around(
    annotated: Landmarks,
    transform: sitk.Transform,
    found: Landmarks,
    template: sitk.Image,
    target: sitk.Image,
    *,
    radius_mm: float,
) -> Array:
    """Normalised cross-correlation in a ball around each landmark, (n,) in [-1, 1].

    Args:
        annotated: the template's landmarks, LPS mm.
        transform: takes template points to the scan's points.
        found: where the landmarks lie in the scan, LPS mm; each ball is shifted there.
        template: the template's crop.
        target: the scan's crop.
        radius_mm: of the ball.
    """
    fixed, moving = Interpolator.of(template), Interpolator.of(target)
    shifts = found.positions - place_landmarks(annotated, transform).positions
    around = Surroundings.of(annotated.positions, transform, fixed, radius_mm)
    return around.similarity(moving, shifts)
