"""Changes of a scan as other scanners, exports and settings would have made it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from landmarkflow.core.grids import Grid
from landmarkflow.images.operations import array_of, grid_of, image_on
from landmarkflow.images.sampling import resample

Array = NDArray[np.float64]

# Grey values that a scan is written in, HU in CT.
LOWEST, HIGHEST = -1024.0, 3071.0
# Metal: a ball of this radius, so far from the scan's middle, and the height of its streaks.
METAL_MM, METAL_AWAY_MM, STREAK_HU = 1.5, 12.0, 600.0


@dataclass(frozen=True)
class Change:
    """A change and what it is, in a few words.

    Attributes:
        what: for tables.
        make: takes a scan and a generator of random numbers; returns the changed scan.
    """

    what: str
    make: Callable[[sitk.Image, np.random.Generator], sitk.Image]


def _greys(function: Callable[[Array], Array]) -> Callable[..., sitk.Image]:
    def make(scan: sitk.Image, random: np.random.Generator) -> sitk.Image:
        values = np.rint(function(array_of(scan).astype(np.float64)))
        return image_on(grid_of(scan), values.astype(np.int16))

    return make


def _bytes(low: float, high: float) -> Callable[..., sitk.Image]:
    def make(scan: sitk.Image, random: np.random.Generator) -> sitk.Image:
        share = (array_of(scan).astype(np.float64) - low) / (high - low)
        return image_on(grid_of(scan), np.rint(255 * np.clip(share, 0, 1)).astype(np.uint8))

    return make


def _noise(deviation: float) -> Callable[..., sitk.Image]:
    def make(scan: sitk.Image, random: np.random.Generator) -> sitk.Image:
        values = array_of(scan).astype(np.float64)
        values += deviation * random.standard_normal(values.shape)
        values = np.clip(np.rint(values), LOWEST, HIGHEST)
        return image_on(grid_of(scan), values.astype(np.int16))

    return make


def _voxels(x: float, y: float, z: float) -> Callable[..., sitk.Image]:
    """Voxels of another size, mm along the scan's axes; none becomes smaller than it was."""

    def make(scan: sitk.Image, random: np.random.Generator) -> sitk.Image:
        grid = grid_of(scan)
        spacing = np.maximum(grid.spacing, [x, y, z])
        size = np.maximum(np.floor(np.array(grid.size) * grid.spacing / spacing), 1).astype(int)
        first = grid.to_physical((((spacing - grid.spacing) / 2) / grid.spacing)[None])[0]
        coarse = Grid((int(size[0]), int(size[1]), int(size[2])), spacing, first, grid.direction)
        values = np.rint(array_of(resample(scan, coarse)))
        return image_on(coarse, values.astype(np.int16))

    return make


def _field(share: float) -> Callable[..., sitk.Image]:
    """The middle of a scan, a share of its length along each axis."""

    def make(scan: sitk.Image, random: np.random.Generator) -> sitk.Image:
        size = np.array(scan.GetSize())
        kept = np.maximum(np.rint(size * share), 1).astype(int)
        part: sitk.Image = sitk.RegionOfInterest(scan, kept.tolist(), ((size - kept) // 2).tolist())
        return part

    return make


def _metal(scan: sitk.Image, random: np.random.Generator) -> sitk.Image:
    """A ball of metal beside the target, with bright and dark streaks in the slices through it."""
    grid, values = grid_of(scan), array_of(scan).astype(np.float64)
    x, y, z = (np.arange(n) * step for n, step in zip(grid.size, grid.spacing, strict=True))
    turn = random.uniform(0, 2 * np.pi)
    away = METAL_AWAY_MM * np.array([np.cos(turn), np.sin(turn)])
    right, back, up = (
        x[None, None, :] - x.mean() - away[0],
        y[None, :, None] - y.mean() - away[1],
        z[:, None, None] - z.mean(),
    )
    distance = np.hypot(right, back)
    streaks = np.cos(7 * np.arctan2(back, right) + random.uniform(0, 2 * np.pi))
    fading = np.exp(-0.5 * (up / METAL_MM) ** 2) * METAL_MM / np.maximum(distance, METAL_MM)
    values += STREAK_HU * streaks * fading * (distance > METAL_MM)
    values[np.sqrt(distance**2 + up**2) <= METAL_MM] = HIGHEST
    return image_on(grid, np.clip(np.rint(values), LOWEST, HIGHEST).astype(np.int16))


CHANGES: Mapping[str, Change] = {
    "as-it-is": Change("as it is", lambda scan, random: scan),
    "cone-beam": Change("grey values × 0.6 + 300", _greys(lambda v: 0.6 * v + 300)),
    "bytes": Change("8 bits, −1024 to 3000", _bytes(-1024, 3000)),
    "window": Change("8 bits, −500 to 1500", _bytes(-500, 1500)),
    "clipped": Change("clipped at −200 and 1500", _greys(lambda v: np.clip(v, -200, 1500))),
    "inverted": Change("inverted contrast, 2000 − v", _greys(lambda v: 2000 - v)),
    "noise-100": Change("noise of 100 beside its own", _noise(100)),
    "noise-200": Change("noise of 200", _noise(200)),
    "noise-400": Change("noise of 400", _noise(400)),
    "voxels-0.4": Change("voxels of 0.4 mm", _voxels(0.4, 0.4, 0.4)),
    "voxels-0.6": Change("voxels of 0.6 mm", _voxels(0.6, 0.6, 0.6)),
    "voxels-1.0": Change("voxels of 1 mm", _voxels(1.0, 1.0, 1.0)),
    "slices-0.6": Change("slices of 0.6 mm", _voxels(0.0, 0.0, 0.6)),
    "slices-1.25": Change("slices of 1.25 mm", _voxels(0.0, 0.0, 1.25)),
    "half-field": Change("the middle half along each axis", _field(0.5)),
    "metal": Change("metal beside the target, streaks", _metal),
}
