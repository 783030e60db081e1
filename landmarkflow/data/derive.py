"""A target for a template that was given none: what its landmarks lie in, by intensity."""

import itertools
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import ConvexHull, Delaunay

from landmarkflow.core.errors import InputError
from landmarkflow.core.grids import Grid
from landmarkflow.core.points import Landmarks
from landmarkflow.images.masks import otsu_threshold
from landmarkflow.images.operations import array_of, grid_of, image_on

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

# Of the landmarks' root mean square distance from their centre. More takes in what the landmarks
# say nothing of, less cuts the target off at the outermost of them; surroundings that are the
# target as a whole are larger, so that a network finds them again.
MARGIN, WHOLE_MARGIN = 0.5, 1.0
# In voxels, for landmarks that all lie in one place.
LEAST_MARGIN = 3.0
# A part smaller than this share of the largest is noise, or belongs to something else.
LEAST_PART = 0.05
# Of the surroundings, what a target takes up at least: less is a speck that no network learns.
LEAST_SHARE = 0.02
# Of fewer voxels nothing has a shape.
LEAST_VOXELS = 200
# Of the variance of intensities, what two kinds of tissue explain at least; of one kind with
# noise alone they explain 0.64.
LEAST_CONTRAST = 0.68
# Of the surface of a kind of tissue, what may be cut by the margin: bone around a brain has 0.01,
# a labyrinth within bone, some of whose canals leave the landmarks' surroundings, 0.5.
MOST_CUT = 0.25
# Directions in which a landmark's margin reaches: to the corners, edges and faces of a cube.
_CUBE = [p for p in itertools.product((-1.0, 0.0, 1.0), repeat=3) if any(p)]
AROUND = np.array(_CUBE) / np.linalg.norm(_CUBE, axis=1, keepdims=True)
HELP = "give a segmentation, or say its intensities with `target.above` or `target.below`"


@dataclass(frozen=True)
class Derived:
    """A target and how it was found.

    Attributes:
        target: uint8 mask on the scan's grid.
        said: what it is, in one line.
    """

    target: sitk.Image
    said: str


def derive_target(
    scan: sitk.Image,
    landmarks: Landmarks,
    above: float | None = None,
    below: float | None = None,
    margin_mm: float | None = None,
) -> Derived:
    """Mark what the landmarks lie in: the bright or dark voxels around them, or all.

    Around are the places within a margin of the landmarks' convex hull. Where no intensity is
    given, Otsu's threshold parts the voxels there into two kinds. The one whose surface is less
    cut by the margin is the target, without parts of less than a twentieth of the largest: an
    organ has a surface of its own, what surrounds it goes on. Where both are cut, or the voxels
    are of one kind, the target is all that is around, within a larger margin.

    Args:
        scan: the template in its own intensity units.
        landmarks: the template's landmarks, at least one.
        above: intensity above which a voxel is part of the target.
        below: intensity below which a voxel is part of the target; with `above`, between both.
        margin_mm: how far beyond the landmarks' hull the target reaches; None for half of their
            root mean square distance from their centre, or, of all that is around, for the whole.

    Raises:
        InputError: there is no landmark in the scan, or too little of what was asked for; the
            sentence says which and what helps.
    """
    grid, points = grid_of(scan), landmarks.positions[~landmarks.missing]
    if not len(points):
        raise InputError("the template has no landmark, so no target can be derived")
    spread = float(np.sqrt(((points - points.mean(axis=0)) ** 2).sum(axis=1).mean()))
    least = LEAST_MARGIN * float(grid.spacing.max())

    def around(share: float) -> tuple[float, tuple[slice, ...], Mask]:
        margin = max(share * spread, least) if margin_mm is None else margin_mm
        box, near = _surroundings(grid, points, margin)
        if not near.any():
            raise InputError("no landmark of the template lies in its scan: no target is derived")
        return margin, box, near

    margin, box, near = around(MARGIN)
    values = array_of(scan)[box].astype(np.float64)
    if above is None and below is None:
        kind, inside = _kind_of_tissue(values, near)
        if not kind:
            margin, box, near = around(WHOLE_MARGIN)
            kind, inside = "of any intensity", near
    else:
        low, high = (-np.inf if above is None else above), (np.inf if below is None else below)
        inside = _parts(near & (values > low) & (values < high))
        asked = {"above": above, "below": below}
        kind = " and ".join(
            f"{name} {value:g}" for name, value in asked.items() if value is not None
        )
    _check_size(inside, near, kind, grid)
    mask = np.zeros(grid.size[::-1], dtype=np.uint8)
    mask[box] = inside
    volume = float(inside.sum() * np.prod(grid.spacing))
    said = (
        f"{volume:.3g} mm³ {kind}, within {margin:.3g} mm of the landmarks' hull, "
        f"{100 * inside.sum() / near.sum():.0f} % of the voxels there"
    )
    return Derived(image_on(grid, mask), said)


def _kind_of_tissue(values: Array, around: Mask) -> tuple[str, Mask]:
    """The bright or the dark voxels, whichever have a surface of their own; no name for neither."""
    usual = np.clip(values[around], *np.percentile(values[around], (0.5, 99.5)))
    threshold = otsu_threshold(usual)
    kinds = {
        f"brighter than {threshold:.4g}": _parts(around & (values > threshold)),
        f"darker than {threshold:.4g}": _parts(around & (values <= threshold)),
    }
    cut = {kind: _cut_share(mask, around) for kind, mask in kinds.items()}
    kind = min(cut, key=lambda name: cut[name])
    if cut[kind] > MOST_CUT or _explained(usual, threshold) < LEAST_CONTRAST:
        return "", around
    return kind, kinds[kind]


def _surroundings(grid: Grid, points: Array, margin_mm: float) -> tuple[tuple[slice, ...], Mask]:
    """The box around the landmarks (z, y, x), and which of its voxels are near."""
    swollen = (points[:, None] + margin_mm * AROUND).reshape(-1, 3)
    swollen = swollen[ConvexHull(swollen).vertices]
    index = grid.to_index(swollen)
    last = np.array(grid.size) - 1
    low = np.clip(np.floor(index.min(axis=0)).astype(int), 0, last)
    high = np.clip(np.ceil(index.max(axis=0)).astype(int), 0, last)
    shape = (high - low + 1)[::-1]
    voxels = np.indices(shape).reshape(3, -1).T[:, ::-1] + low
    near = Delaunay(swollen).find_simplex(grid.to_physical(voxels.astype(np.float64))) >= 0
    box = tuple(slice(a, b + 1) for a, b in zip(low[::-1], high[::-1], strict=True))
    return box, near.reshape(shape)


def _explained(values: Array, threshold: float) -> float:
    """Of the variance of intensities (n,), the share that two kinds of tissue explain."""
    bright = values > threshold
    share = float(bright.mean())
    if not 0 < share < 1:
        return 0.0
    apart = values[bright].mean() - values[~bright].mean()
    return float(share * (1 - share) * apart**2 / values.var())


def _parts(mask: Mask) -> Mask:
    """A mask without its small parts."""
    parts, count = ndimage.label(mask)
    if not count:
        return mask
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    kept: Mask = (sizes >= LEAST_PART * sizes.max())[parts]
    return kept & mask


def _cut_share(mask: Mask, around: Mask) -> float:
    """Of the surface of a mask, the share that lies where its surroundings end."""
    if not mask.any():
        return 1.0
    border = around & ~ndimage.binary_erosion(around)
    surface = mask & ~ndimage.binary_erosion(mask)
    return float((surface & border).sum() / surface.sum())


def _check_size(inside: Mask, around: Mask, kind: str, grid: Grid) -> None:
    count, share = int(inside.sum()), float(inside.sum() / around.sum())
    if count < LEAST_VOXELS or share < LEAST_SHARE:
        volume = count * float(np.prod(grid.spacing))
        raise InputError(
            f"of the voxels around the template's landmarks {count} ({volume:.3g} mm³, "
            f"{100 * share:.2g} %) are {kind}, expected {LEAST_VOXELS} and {100 * LEAST_SHARE:g} % "
            f"or more of a target: {HELP}"
        )
