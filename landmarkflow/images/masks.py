"""Masks: images that are 0 outside and another number inside."""

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from landmarkflow.images.operations import cropped, grid_of, view_of
from landmarkflow.images.sampling import resample


def dilated(mask: sitk.Image, margin_mm: float) -> sitk.Image:
    """Returns a 0/1 mask grown by a margin, mm, on its own grid."""
    grown: sitk.Image = sitk.Cast(mask > 0, sitk.sitkUInt8)
    inside = points_inside(grown)
    if not len(inside):
        return grown
    # Distances are taken no further than they matter.
    part = cropped(grown, inside, margin_mm + 1e-6)
    distance = sitk.SignedMaurerDistanceMap(
        part, insideIsPositive=False, squaredDistance=False, useImageSpacing=True
    )
    near = sitk.Cast(distance <= margin_mm, sitk.sitkUInt8)
    first = mask.TransformPhysicalPointToIndex(part.GetOrigin())
    pasted: sitk.Image = sitk.Paste(grown, near, near.GetSize(), destinationIndex=first)
    return pasted


def mask_around_target(crop: sitk.Image, target: sitk.Image, margin_mm: float) -> sitk.Image:
    """Returns a target, a mask on any grid, and a margin around it as a mask on a crop's grid."""
    return dilated(resample(target, grid_of(crop), "nearest"), margin_mm)


def points_inside(mask: sitk.Image) -> NDArray[np.float64]:
    """Returns (n, 3) LPS mm, the centres of a mask's voxels that are not zero, x fastest."""
    inside = view_of(mask) > 0
    # By numbers in a row, since numpy takes thrice as long for indices along each axis.
    z, y, x = np.unravel_index(np.flatnonzero(inside), inside.shape)
    return grid_of(mask).to_physical(np.stack([x, y, z], axis=1, dtype=np.float64))


def otsu_threshold(values: NDArray[np.float64]) -> float:
    """Otsu's threshold of intensities (n,), by a histogram of 256 bins."""
    otsu = sitk.OtsuMultipleThresholdsImageFilter()
    otsu.SetNumberOfThresholds(1)
    otsu.SetNumberOfHistogramBins(256)
    otsu.Execute(sitk.GetImageFromArray(values[None]))
    return float(otsu.GetThresholds()[0])
