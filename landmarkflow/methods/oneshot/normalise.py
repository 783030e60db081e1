"""Normalise intensities to [0, 1] (Eq. 8)."""

import numpy as np
import SimpleITK as sitk

from landmarkflow.images.operations import grid_of, image_on
from landmarkflow.methods.oneshot.settings import NormaliseSettings


def normalise(scan: sitk.Image, settings: NormaliseSettings) -> sitk.Image:
    """Map intensities linearly so that `low` becomes 0 and `high` 1, and clip (Eq. 8).

    Args:
        scan: scalar volume in its own intensity units (HU in CT).
        settings: the two intensities.

    Returns:
        float32 volume in [0, 1] on the scan's own grid.
    """
    values = sitk.GetArrayViewFromImage(scan).astype(np.float32)
    values -= np.float32(settings.low)
    values /= np.float32(settings.high - settings.low)
    np.clip(values, 0.0, 1.0, out=values)
    return image_on(grid_of(scan), values)
