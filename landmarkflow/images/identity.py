"""Whether two images are one and the same, saved anew: in another format, order or compression."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from landmarkflow.core.errors import InputError
from landmarkflow.core.grids import Grid
from landmarkflow.images.operations import grid_of, view_of

# Formats round where voxels lie, by less than this part of a voxel.
SAME_PLACE = 0.1


@dataclass(frozen=True, eq=False)
class Identity:
    """What tells an image from others, whatever its file: its voxels, and where they lie.

    Attributes:
        voxels: SHA-256 of all voxels, taken along the patient's axes, as int16 where all are
            whole numbers that it holds, else as float32.
        grid: where they lie, its axes as near to the patient's (L, P, S) as can be.
    """

    voxels: str
    grid: Grid

    @staticmethod
    def of(image: sitk.Image) -> "Identity":
        """That of a 3D image, LPS mm, by one pass over its voxels."""
        grid = grid_of(image)
        axes, flips = _turn(grid)
        values = view_of(image).transpose([2 - axis for axis in axes[::-1]])
        values = values[tuple(slice(None, None, -1 if flip else 1) for flip in flips[::-1])]
        digest = hashlib.sha256()
        # Half as many bytes are half the time.
        is_short = all(_is_short(part) for part in values)
        for part in values:
            if is_short:
                digest.update(np.asarray(part, np.int16, order="C").data)
            else:
                # Adding zero makes a negative zero, which some formats know, one like the others.
                digest.update((np.asarray(part, np.float32, order="C") + np.float32(0)).data)
        return Identity(digest.hexdigest(), _turned(grid, axes, flips))

    @staticmethod
    def of_record(stated: Mapping[str, Any]) -> "Identity":
        """As `as_record` wrote it.

        Raises:
            InputError: it states no voxels, or no grid.
        """
        try:
            return Identity(str(stated["voxels"]), Grid.of_lists(stated["grid"]))
        except (KeyError, TypeError):
            raise InputError("states no image, expected its voxels and its grid") from None

    def as_record(self) -> dict[str, Any]:
        """Plain data for a record."""
        return {"voxels": self.voxels, "grid": self.grid.as_lists()}

    def is_same(self, other: "Identity") -> bool:
        """Whether the other image has the same voxels at the same places."""
        if self.voxels != other.voxels or self.grid.size != other.grid.size:
            return False
        apart = np.linalg.norm(self.grid.corners - other.grid.corners, axis=1).max()
        return bool(apart <= SAME_PLACE * self.grid.spacing.min())


def _is_short(values: NDArray[Any]) -> bool:
    """Whether all values are whole numbers that int16 holds."""
    if np.can_cast(values.dtype, np.int16):
        return True
    ends = np.iinfo(np.int16)
    if values.min() < ends.min or values.max() > ends.max:
        return False
    return bool((values == np.rint(values)).all())


def _turn(grid: Grid) -> tuple[tuple[int, ...], tuple[bool, ...]]:
    """The voxel axes nearest to L, P and S, and which of them run the other way."""
    cosines = np.abs(grid.direction)
    axes = [int(np.argmax(row)) for row in cosines]
    if len(set(axes)) < len(axes):
        # Halfway between two axes: as they are.
        axes = [0, 1, 2]
    return tuple(axes), tuple(bool(grid.direction[row, axis] < 0) for row, axis in enumerate(axes))


def _turned(grid: Grid, axes: tuple[int, ...], flips: tuple[bool, ...]) -> Grid:
    order = list(axes)
    signs = np.where(flips, -1.0, 1.0)
    first = np.zeros(3)
    for axis, flip in zip(axes, flips, strict=True):
        first[axis] = grid.size[axis] - 1 if flip else 0
    x, y, z = (grid.size[axis] for axis in axes)
    return Grid(
        (x, y, z),
        grid.spacing[order],
        grid.to_physical([first])[0],
        grid.direction[:, order] * signs,
    )
