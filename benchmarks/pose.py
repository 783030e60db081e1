"""Lay a scan roughly on the template, as elastix and ANTs need it of heads in any orientation.

Principal axes of the bone, four flips, a rigid registration from each, the best by correlation.
"""

import json
from pathlib import Path

import numpy as np
import SimpleITK as sitk

COARSE_MM = 0.6


def read(path: Path) -> sitk.Image:
    """A volume as float32, LPS mm."""
    return sitk.ReadImage(str(path), sitk.sitkFloat32)


def points_of(path: Path) -> dict[str, list[float]]:
    """Landmarks of 3D Slicer markups that are in LPS, label to (3,) mm."""
    markups = json.loads(path.read_text())["markups"][0]
    assert markups["coordinateSystem"] in ("LPS", "1"), f"{path}: expected LPS"
    return {point["label"]: point["position"] for point in markups["controlPoints"]}


def laid_on(template: sitk.Image, scan: sitk.Image, above: float) -> sitk.Transform:
    """The rigid map from template points to scan points with the best correlation.

    Args:
        template: the fixed image.
        scan: the moving image.
        above: intensity from which on a voxel is bone.
    """
    (middle, axes), (scan_middle, scan_axes) = (frame(image, above) for image in (template, scan))
    fixed, moving = (coarse(image) for image in (template, scan))
    # ITK's own estimate of the scales draws at random, without a seed.
    reach = max(fixed.GetSpacing()) * max(fixed.GetSize()) / 4
    found = []
    for signs in ((1, 1), (1, -1), (-1, 1), (-1, -1)):
        flipped = scan_axes * (*signs, signs[0] * signs[1])
        start = sitk.AffineTransform(3)
        start.SetCenter(middle.tolist())
        start.SetMatrix((flipped @ axes.T).ravel().tolist())
        start.SetTranslation((scan_middle - middle).tolist())
        correction = sitk.Euler3DTransform()
        correction.SetCenter(middle.tolist())
        search = sitk.ImageRegistrationMethod()
        search.SetMetricAsCorrelation()
        search.SetInterpolator(sitk.sitkLinear)
        search.SetOptimizerAsRegularStepGradientDescent(1.0, 1e-3, 100)
        search.SetOptimizerScales([reach**2] * 3 + [1.0] * 3)
        search.SetShrinkFactorsPerLevel([2, 1])
        search.SetSmoothingSigmasPerLevel([2 * COARSE_MM, COARSE_MM])
        # Euler angles lose a degree of freedom at 90 degrees: turn by the start, search near zero.
        search.SetMovingInitialTransform(start)
        search.SetInitialTransform(correction, inPlace=True)
        search.Execute(fixed, moving)
        found.append((search.GetMetricValue(), sitk.CompositeTransform([start, correction])))
    return min(found, key=lambda pair: pair[0])[1]


def frame(image: sitk.Image, above: float) -> tuple[np.ndarray, np.ndarray]:
    """Centre (3,) and principal axes (3, 3), columns, right-handed, of an image's bone."""
    index = np.argwhere(sitk.GetArrayViewFromImage(coarse(image)) > above)[:, ::-1]
    grid = coarse(image)
    directions = np.array(grid.GetDirection()).reshape(3, 3) * grid.GetSpacing()
    points = index @ directions.T + grid.GetOrigin()
    _, axes = np.linalg.eigh(np.cov(points.T))
    return points.mean(axis=0), axes * (1, 1, np.sign(np.linalg.det(axes)))


def coarse(image: sitk.Image) -> sitk.Image:
    """The image in blocks of about COARSE_MM."""
    factors = [max(1, round(COARSE_MM / s)) for s in image.GetSpacing()]
    shrunk: sitk.Image = sitk.BinShrink(image, factors)
    return shrunk
