"""Place the template's landmarks in a scan (Eq. 7), each with the similarity around it."""

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from landmarkflow.geometry import Grid, Landmarks
from landmarkflow.oneshot.settings import LandmarkSettings
from landmarkflow.similarity import correlation, normalised
from landmarkflow.volumes import array_of, image_on

RADIUS_IN_STEPS = 5


@dataclass(frozen=True, eq=False)
class Placed:
    """Landmarks of one scan, LPS mm, with a similarity for each: (n,) in [-1, 1]."""

    landmarks: Landmarks
    similarity: NDArray[np.float64]


def place_landmarks(
    annotated: Landmarks,
    transform: sitk.Transform,
    template: sitk.Image,
    target: sitk.Image,
    settings: LandmarkSettings,
) -> Placed:
    """Map the annotated landmarks to a scan.

    With the template as the fixed image the registration's own point map does what Eq. 7 does by
    inverting the transforms.

    Args:
        annotated: the template's landmarks, LPS mm.
        transform: takes template points to the scan's points.
        template: the template's crop.
        target: the scan's crop.
        settings: the neighbourhood's radius.
    """
    positions = np.array([transform.TransformPoint(p.tolist()) for p in annotated.positions])
    similarity = [
        _similarity(point, transform, template, target, settings.radius_mm)
        for point in annotated.positions
    ]
    return Placed(Landmarks(annotated.labels, positions), np.array(similarity))


def _similarity(
    point: NDArray[np.float64],
    transform: sitk.Transform,
    template: sitk.Image,
    target: sitk.Image,
    radius_mm: float,
) -> float:
    """Normalised cross-correlation of template and target in a ball around a template point."""
    # A few hundred points tell the similarity as well as all voxels do.
    count = 2 * RADIUS_IN_STEPS + 1
    grid = Grid.centred(point, (count, count, count), radius_mm / RADIUS_IN_STEPS)
    steps = (np.arange(count) - RADIUS_IN_STEPS) * (radius_mm / RADIUS_IN_STEPS)
    ball = (
        steps[:, None, None] ** 2 + steps[None, :, None] ** 2 + steps[None, None, :] ** 2
    ) <= radius_mm**2
    reference = image_on(grid, np.zeros(ball.shape, dtype=np.float32))
    fixed, moving = (
        array_of(sitk.Resample(image, reference, way, sitk.sitkLinear, 0.0))[ball]
        for image, way in ((template, sitk.Transform(3, sitk.sitkIdentity)), (target, transform))
    )
    return correlation(normalised(fixed.astype(np.float64)), moving.astype(np.float64))[0]
