"""Shapes as signed distances (mm, negative inside) on points and on voxel grids."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

Array = NDArray[np.float64]
# (..., 3) mm.
Points = NDArray[np.float64]
Field = NDArray[np.float32]
Window = tuple[slice, slice, slice]

FAR = np.float32(1e3)
LATTICE = 64


@dataclass(frozen=True, eq=False)
class Tube:
    """A sphere swept along a centre line of (n, 3) points with (n,) radii, in mm."""

    points: Points
    radii: Array

    def along(self, step: float = 0.15) -> "Tube":
        """The same tube with its centre line sampled every `step` mm at most."""
        gaps = np.linalg.norm(np.diff(self.points, axis=0), axis=1)
        position = np.concatenate([[0.0], np.cumsum(gaps)])
        samples = np.linspace(0.0, position[-1], max(2, int(np.ceil(position[-1] / step)) + 1))
        columns = [np.interp(samples, position, column) for column in self.points.T]
        return Tube(np.stack(columns, axis=1), np.interp(samples, position, self.radii))

    def smoothed(self, length: float, step: float = 0.15) -> "Tube":
        """The tube with corners rounded over `length` mm; both ends stay where they are."""
        dense = self.along(step)
        points = ndimage.gaussian_filter1d(dense.points, length / step, axis=0, mode="nearest")
        fade = np.clip(np.arange(len(points)) * step / (2 * length), 0, 1)
        keep = np.minimum(fade, fade[::-1])[:, None]
        return Tube(keep * points + (1 - keep) * dense.points, dense.radii)

    def distance(self, points: Points, band: float = 5.0) -> Array:
        """Signed distance (mm) of points (..., 3), from the line's segments; FAR beyond `band`."""
        reach = self.radii.max() + band
        low, high = self.points.min(axis=0) - reach, self.points.max(axis=0) + reach
        inside = ((points > low) & (points < high)).all(axis=-1)
        near = points[inside]
        nearest = np.full(len(near), float(FAR))
        for start, end, first, last in zip(
            self.points[:-1], self.points[1:], self.radii[:-1], self.radii[1:], strict=True
        ):
            edge = end - start
            offset = near - start
            t = np.clip(offset @ edge / (edge @ edge), 0.0, 1.0)
            offset -= t[:, None] * edge
            gap = np.sqrt(np.einsum("ij,ij->i", offset, offset))
            np.minimum(nearest, gap - (first + t * (last - first)), out=nearest)
        result = np.full(points.shape[:-1], float(FAR))
        result[inside] = nearest
        return result


@dataclass(frozen=True, eq=False)
class Ellipsoid:
    """An ellipsoid by its centre and half lengths, (3,) mm, and (3, 3) columns of unit axes."""

    centre: Points
    semi_axes: Points
    axes: Points

    def distance(self, points: Points) -> Array:
        """Signed distance (mm, first order) of points (..., 3): f(f - 1) / |grad|."""
        local = (points - self.centre) @ (self.axes / self.semi_axes)
        f = np.sqrt(np.einsum("...i,...i->...", local, local))
        local /= self.semi_axes
        slope = np.sqrt(np.einsum("...i,...i->...", local, local))
        return np.asarray(f * (f - 1.0) / np.maximum(slope, 1e-6))

    def reach(self, direction: Points) -> float:
        """Distance (mm) from the centre to the surface along a unit direction."""
        return float(1.0 / np.linalg.norm(self.axes.T @ direction / self.semi_axes))

    def normal(self, point: Points) -> Points:
        """Outward unit normal at a surface point."""
        local = (point - self.centre) @ self.axes
        return unit(self.axes @ (local / self.semi_axes**2))


class SmoothNoise:
    """A smooth random function of position with mean 0 and sd 1: smoothed periodic noise."""

    def __init__(self, random: np.random.Generator, wavelength: float) -> None:
        """Draw a function that varies over about `wavelength` mm."""
        values = random.standard_normal((LATTICE, LATTICE, LATTICE), dtype=np.float32)
        smooth = ndimage.gaussian_filter(values, 1.2, mode="wrap")
        self._values = smooth / smooth.std()
        self._spacing = wavelength / 5.0

    def __call__(self, points: Points) -> Field:
        """Values at points (..., 3) in mm, linear between lattice points."""
        where = np.moveaxis(points / self._spacing, -1, 0).reshape(3, -1)
        values = ndimage.map_coordinates(
            self._values, where, order=1, mode="grid-wrap", output=np.float32
        )
        return np.asarray(values.reshape(points.shape[:-1]))


def unit(vector: ArrayLike) -> Points:
    """The vector divided by its length."""
    array = np.asarray(vector, dtype=np.float64)
    return np.asarray(array / np.linalg.norm(array))


def rotation(axis: ArrayLike, degrees: float) -> Points:
    """(3, 3) rotation about an axis (Rodrigues' formula)."""
    x, y, z = unit(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angle = np.radians(degrees)
    return np.asarray(np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross)


def smooth_min(first: ArrayLike, second: ArrayLike, width: float) -> Array:
    """Minimum of two distances whose crease is rounded over `width` mm."""
    a, b = np.asarray(first), np.asarray(second)
    overlap = np.maximum(width - np.abs(a - b), 0.0)
    return np.asarray(np.minimum(a, b) - overlap**2 / (4.0 * width))


def smooth_max(first: ArrayLike, second: ArrayLike, width: float) -> Array:
    """Maximum of two distances whose crease is rounded over `width` mm."""
    return -smooth_min(-np.asarray(first), -np.asarray(second), width)


def coverage(distance: NDArray[np.floating], width: float) -> Field:
    """Share of a voxel of size `width` mm that lies inside a surface at this distance."""
    share = np.asarray(distance, dtype=np.float32) / np.float32(-width)
    share += np.float32(0.5)
    return np.asarray(np.clip(share, 0.0, 1.0, out=share))


@dataclass(frozen=True, eq=False)
class VoxelBox:
    """Voxel centres along the axes of a scan, mm; arrays over them are (nz, ny, nx)."""

    x: Array
    y: Array
    z: Array

    @property
    def shape(self) -> tuple[int, int, int]:
        """Array shape (nz, ny, nx)."""
        return len(self.z), len(self.y), len(self.x)

    @property
    def spacing(self) -> Points:
        """Voxel size in mm in array order z, y, x."""
        return np.array([axis[1] - axis[0] for axis in (self.z, self.y, self.x)])

    def points(self) -> Points:
        """(nz, ny, nx, 3) positions in mm."""
        z, y, x = np.meshgrid(self.z, self.y, self.x, indexing="ij")
        return np.stack([x, y, z], axis=-1)

    def window(self, centre: Points, half: ArrayLike) -> Window:
        """Array slices (z, y, x) of the voxels within `half` mm of a centre along each axis."""
        low, high = centre - np.asarray(half), centre + np.asarray(half)
        x, y, z = (
            slice(axis.searchsorted(low[i]), axis.searchsorted(high[i], side="right"))
            for i, axis in enumerate((self.x, self.y, self.z))
        )
        return z, y, x

    def part(self, window: Window) -> "VoxelBox":
        """The box of a window's voxels."""
        return VoxelBox(self.x[window[2]], self.y[window[1]], self.z[window[0]])

    def distances(self, centre: Points, window: Window) -> Field:
        """Distance (mm) of a window's voxels to a centre."""
        x = (self.x[window[2]] - centre[0]).astype(np.float32)
        y = (self.y[window[1]] - centre[1]).astype(np.float32)
        z = (self.z[window[0]] - centre[2]).astype(np.float32)
        square = (z * z)[:, None, None] + (y * y)[:, None] + x * x
        return np.asarray(np.sqrt(square, out=square))


def swept_distance(box: VoxelBox, tubes: Sequence[Tube], band: float) -> Field:
    """Signed distance (mm) to a union of tubes, exact to `band` mm outside, FAR beyond."""
    nearest = np.full(box.shape, FAR, dtype=np.float32)
    for tube in tubes:
        dense = tube.along()
        for centre, radius in zip(dense.points, dense.radii, strict=True):
            window = box.window(centre, radius + band)
            part = nearest[window]
            if part.size:
                np.minimum(part, box.distances(centre, window) - np.float32(radius), out=part)
    return nearest


def cell_distance(box: VoxelBox, centres: Points, radii: Array, wall: float) -> Field:
    """Signed distance (mm) to the air of packed round cells with walls `wall` mm thick.

    Where cells meet, the wall lies halfway between their surfaces: with F1 <= F2 the signed
    distances to the two nearest spheres, the air's is max(F1, wall/2 - (F2 - F1)/2).
    """
    first, second = (np.full(box.shape, FAR, dtype=np.float32) for _ in range(2))
    for centre, radius in zip(centres, radii, strict=True):
        window = box.window(centre, radius + wall + 0.3)
        nearest, runner_up = first[window], second[window]
        if nearest.size:
            distance = box.distances(centre, window) - np.float32(radius)
            np.minimum(runner_up, np.maximum(nearest, distance), out=runner_up)
            np.minimum(nearest, distance, out=nearest)
    np.subtract(first, second, out=second)
    second += np.float32(wall)
    second *= np.float32(0.5)
    return np.asarray(np.maximum(first, second, out=first))
