"""The trained network, asked where the target is: in a window, or in the whole of a region."""

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
import torch
from numpy.typing import NDArray
from scipy import ndimage

from landmarkflow.core.grids import Grid
from landmarkflow.images.operations import array_of, grid_of, image_on
from landmarkflow.images.sampling import resample
from landmarkflow.methods.oneshot.network import UNet, predict_slices
from landmarkflow.methods.oneshot.settings import NetworkSettings

Array = NDArray[np.float64]

# A slice in which the views so far leave no voxel more than this is not looked at.
NEGLIGIBLE = 1e-3
# In the whole of a region, one slice of so many is looked at: more would miss a small target.
SWEEP_EVERY = 3
# There, places are maxima of the probability under a Gaussian of this share of the window, this
# share of the window apart, the strongest of at most so many, none weaker than a share of it.
SWEEP_SIGMA, SWEEP_APART, MOST_PLACES, LEAST_PLACE = 1 / 8, 0.25, 4, 0.1


@dataclass(frozen=True)
class Localiser:
    """A trained network with what is needed to use it."""

    network: UNet
    settings: NetworkSettings
    device: torch.device
    target_mm3: float


def predict_joint(
    seen: sitk.Image, position: Array, localiser: Localiser, every: int = 1
) -> sitk.Image:
    """Joint probability pX·pY·pZ of the slices across x, y and z in a window around a point.

    Args:
        seen: the region at about the network's spacing.
        position: (3,) the window's centre, LPS mm.
        localiser: the trained network.
        every: of so many slices across each axis one is looked at.

    Returns:
        float32 volume where the slices meet, LPS-aligned: window_pixels³ voxels at the network's
        spacing, or fewer, as much farther apart.
    """
    pixels = localiser.settings.window_pixels
    return _joint(seen, position, (pixels, pixels, pixels), localiser, every)


def places_in(seen: sitk.Image, localiser: Localiser) -> Array:
    """Places, (n, 3) LPS mm, that may hold the target anywhere in a region, the likeliest first.

    The network, being made of convolutions, sees slices of the whole region at once.

    Args:
        seen: the region at about the network's spacing.
        localiser: the trained network.
    """
    settings, grid = localiser.settings, grid_of(seen)
    extent = np.array(grid.size) * grid.spacing
    # Every level of the network halves the slice, and the last voxels looked at are its last.
    step = int(np.lcm(2 ** (settings.levels - 1), SWEEP_EVERY))
    x, y, z = (int(np.ceil(length / settings.spacing_mm / step)) * step for length in extent)
    joint = _joint(seen, grid.centre, (x, y, z), localiser, SWEEP_EVERY)
    found = grid_of(joint)
    smooth = ndimage.gaussian_filter(
        array_of(joint), SWEEP_SIGMA * settings.window_mm / found.spacing[0], mode="constant"
    )
    peaks = (smooth == ndimage.maximum_filter(smooth, size=3)) & (smooth > 0)
    order = np.argsort(-smooth[peaks], kind="stable")
    heights = smooth[peaks][order]
    places = found.to_physical(np.argwhere(peaks)[order][:, ::-1].astype(np.float64))
    kept: list[Array] = []
    for place, height in zip(places, heights, strict=True):
        if len(kept) == MOST_PLACES or height < LEAST_PLACE * heights[0]:
            break
        apart = [np.linalg.norm(place - other) for other in kept]
        if min(apart, default=np.inf) >= SWEEP_APART * settings.window_mm:
            kept.append(place)
    return np.array(kept).reshape(-1, 3)


def _joint(
    seen: sitk.Image,
    middle: Array,
    size: tuple[int, int, int],
    localiser: Localiser,
    every: int,
) -> sitk.Image:
    grid = Grid.centred(middle, size, localiser.settings.spacing_mm)
    window = array_of(resample(seen, grid))
    joint = np.ones_like(window[::every, ::every, ::every])
    for axis in range(3):
        so_far = np.moveaxis(joint, axis, 0)
        promising = so_far.max(axis=(1, 2)) > NEGLIGIBLE
        so_far[~promising] = 0
        if promising.any():
            slices = np.ascontiguousarray(np.moveaxis(window, axis, 0)[::every][promising])
            probability = predict_slices(localiser.network, slices, localiser.device)
            so_far[promising] *= probability[:, ::every, ::every]
    z, y, x = joint.shape
    return image_on(Grid((x, y, z), grid.spacing * every, grid.origin, np.eye(3)), joint)
