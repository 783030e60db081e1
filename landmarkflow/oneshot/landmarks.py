"""Place the template's landmarks in a scan (Eq. 7), and tell how alike their surroundings are."""

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from landmarkflow.geometry import Landmarks
from landmarkflow.similarity import Interpolator, ball, correlation, normalised

Array = NDArray[np.float64]

RADIUS_IN_STEPS = 4


def place_landmarks(annotated: Landmarks, transform: sitk.Transform) -> Landmarks:
    """Map the annotated landmarks to a scan.

    With the template as the fixed image the registration's own point map does what Eq. 7 does by
    inverting the transforms.

    Args:
        annotated: the template's landmarks, LPS mm.
        transform: takes template points to the scan's points.
    """
    positions = [transform.TransformPoint(point) for point in annotated.positions.tolist()]
    return Landmarks(annotated.labels, np.array(positions))


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
    template: sitk.Image,
    target: sitk.Image,
    radius_mm: float,
) -> Array:
    """Normalised cross-correlation in a ball around each landmark, (n,) in [-1, 1].

    Args:
        annotated: the template's landmarks, LPS mm.
        transform: takes template points to the scan's points.
        template: the template's crop.
        target: the scan's crop.
        radius_mm: of the ball.
    """
    # A few hundred points tell the similarity as well as all voxels do.
    around = ball(radius_mm, radius_mm / RADIUS_IN_STEPS)
    fixed, moving = Interpolator.of(template), Interpolator.of(target)

    def similarity(point: Array) -> float:
        points = point + around
        mapped = np.array([transform.TransformPoint(p) for p in points.tolist()])
        here = fixed.sample(points)[0].astype(np.float64)
        return correlation(normalised(here), moving.sample(mapped)[0].astype(np.float64))[0]

    return np.array([similarity(point) for point in annotated.positions])
