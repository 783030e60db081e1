"""Cubic B-splines on a regular lattice: displacements, bending, refinement.

On a raster along the lattice's axes a spline is three small dense products, one for each axis;
point by point it would be 64 weights for each.
"""

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import sparse

from landmarkflow.core.grids import bounds
from landmarkflow.images.banded import Banded
from landmarkflow.images.masks import points_inside
from landmarkflow.images.operations import grid_of, view_of

Array = NDArray[np.float64]
Values = NDArray[np.float32]

ORDER = 3


@dataclass(frozen=True)
class Raster:
    """Some points of a raster: its positions along the LPS axes, mm, and (n,) points' numbers.

    The numbers are those of all points of the raster in their order, x fastest.
    """

    axes: tuple[Array, Array, Array]
    chosen: NDArray[np.int64]

    @staticmethod
    def inside(mask: sitk.Image, count: int, phase: Array) -> "Raster":
        """About `count` points evenly in a mask, or one a voxel where it has fewer.

        The phase, (3,) in [0, 1), is where in its step the raster starts along each axis.
        """
        grid = grid_of(mask)
        within = points_inside(mask)
        voxel = float(np.prod(grid.spacing))
        step = (voxel * max(1.0, len(within) / count)) ** (1 / 3)
        half = np.abs(grid.direction) @ grid.spacing / 2
        low, high = bounds(within)
        x, y, z = (
            np.arange(start + offset * step, end, step)
            for start, end, offset in zip(low - half, high + half, phase, strict=True)
        )
        index = np.rint(grid.to_index(_product(x, y, z))).astype(np.int64).T
        known = np.logical_and.reduce(
            [(i >= 0) & (i < n) for i, n in zip(index, grid.size, strict=True)]
        )
        i, j, k = index[:, known]
        known[known] = view_of(mask)[k, j, i] > 0
        return Raster((x, y, z), np.flatnonzero(known))

    @property
    def points(self) -> Array:
        """(n, 3) LPS mm."""
        return _product(*self.axes)[self.chosen]


@dataclass(frozen=True)
class Spline:
    """A lattice's displacements at the points of a raster, as float32 products along the axes."""

    chosen: NDArray[np.int64]
    by_x: Values
    by_y: Values
    by_z: Banded

    @staticmethod
    def on(raster: Raster, lattice: "Lattice") -> "Spline":
        """Compute what does not depend on the coefficients."""
        x, y, z = (lattice.along(axis, raster.axes[axis]) for axis in range(3))
        return Spline(raster.chosen, x, y, Banded.of(z))

    @property
    def seen(self) -> NDArray[np.int64]:
        """The numbers, (m,), of the control points on which any displacement depends."""
        one = np.ones((3, len(self.chosen)), np.float32)
        return np.flatnonzero(self.collected(one)[0])

    def displacements(self, coefficients: Array) -> Values:
        """(3, n) displacements in mm, of (3, count) coefficients in mm, x fastest."""
        shape = (3, self.by_z.shape[1], self.by_y.shape[1], self.by_x.shape[1])
        field = self.by_y @ (coefficients.reshape(shape).astype(np.float32) @ self.by_x.T)
        everywhere = self.by_z.along(field, 1)
        return everywhere.reshape(3, -1).take(self.chosen, axis=1)

    def collected(self, gradients: Values) -> Values:
        """(3, count) derivatives by the coefficients, of (3, n) ones by the displacements."""
        shape = (3, self.by_z.shape[0], len(self.by_y), len(self.by_x))
        everywhere = np.zeros((3, int(np.prod(shape[1:]))), dtype=np.float32)
        # Row by row, since numpy takes three times as long for all at once.
        for row, along in zip(everywhere, gradients, strict=True):
            row[self.chosen] = along
        field: Values = self.by_y.T @ self.by_z.back(everywhere.reshape(shape), 1)
        return (field @ self.by_x).reshape(3, -1)


@dataclass(frozen=True)
class Lattice:
    """The control points of a cubic B-spline, along the LPS axes, `spacing` mm apart.

    The first cell begins at `start`, (3,) LPS mm; the first control point lies one spacing before.
    """

    size: tuple[int, int, int]
    spacing: float
    start: Array

    @staticmethod
    def over(points: Array, spacing: float) -> "Lattice":
        """The smallest lattice whose cells cover (n, 3) points, with one cell to spare around."""
        lowest, highest = bounds(points)
        cells = np.ceil((highest - lowest) / spacing).astype(int) + 2
        x, y, z = (cells + ORDER).tolist()
        return Lattice((x, y, z), spacing, (lowest + highest - cells * spacing) / 2)

    @property
    def count(self) -> int:
        """Number of control points."""
        return int(np.prod(self.size))

    def along(self, axis: int, where: Array) -> Values:
        """(n, control points along the axis) float32 weights at (n,) positions, LPS mm.

        Positions beyond the cells get the weights of the last cell's end.
        """
        along = (where - self.start[axis]) / self.spacing
        cell = np.clip(np.floor(along), 0, self.size[axis] - ORDER - 1).astype(np.int64)
        weights = np.zeros((len(where), self.size[axis]), dtype=np.float32)
        for step, weight in enumerate(_cubic(np.clip(along - cell, 0, 1))):
            weights[np.arange(len(where)), cell + step] = weight
        return weights

    def bending(self) -> sparse.csr_matrix:
        """The matrix B, (count, count), of the bending cᵀ B c of coefficients c in mm.

        The bending is Σ |∂²u/∂i∂j|² over all pairs i, j of axes, in 1/mm², with differences of
        the coefficients for derivatives, averaged over the control points.
        """
        total = sparse.csr_matrix((self.count, self.count))
        for one in range(3):
            for other in range(one, 3):
                orders = [(axis == one) + (axis == other) for axis in range(3)]
                x, y, z = (_squared(n, order) for n, order in zip(self.size, orders, strict=True))
                times = 1 if one == other else 2
                total = total + times * sparse.kron(z, sparse.kron(y, x))
        return total / (self.count * self.spacing**4)

    def refined(self, coefficients: Array, finer: "Lattice") -> Array:
        """The coefficients, (3, count) mm, on another lattice: as much at its control points."""
        field = coefficients.reshape(3, *self.size[::-1])
        for axis in range(3):
            where = finer.start[axis] + finer.spacing * (np.arange(finer.size[axis]) - 1)
            values = self.along(axis, where)
            side = np.full(len(where) - 1, 1 / 6)
            spline = np.diag(np.full(len(where), 4 / 6)) + np.diag(side, 1) + np.diag(side, -1)
            # Beyond its ends a spline goes on as it ended.
            spline[[0, -1], [0, -1]] = 5 / 6
            field = np.tensordot(np.linalg.solve(spline, values), field, (1, 3 - axis))
            field = np.moveaxis(field, 0, 3 - axis)
        return np.ascontiguousarray(field).reshape(3, -1)

    def transform(self, coefficients: Array) -> sitk.BSplineTransform:
        """The map p → p + u(p) as an ITK transform; beyond the cells u is zero."""
        transform = sitk.BSplineTransform(3, ORDER)
        cells = np.array(self.size) - ORDER
        transform.SetTransformDomainOrigin(self.start.tolist())
        transform.SetTransformDomainPhysicalDimensions((cells * self.spacing).tolist())
        transform.SetTransformDomainMeshSize(cells.tolist())
        # To a nanometre: in a file, all the digits of a double take twice the time and space.
        transform.SetParameters(coefficients.round(6).ravel().tolist())
        return transform


def _product(x: Array, y: Array, z: Array) -> Array:
    """(n, 3) all points with these coordinates, x fastest."""
    return np.stack(np.meshgrid(z, y, x, indexing="ij")[::-1], axis=-1).reshape(-1, 3)


def _cubic(share: Array) -> tuple[Array, Array, Array, Array]:
    """(n,) weights of each of the four control points around, by the way through the cell."""
    rest = 1 - share
    second, third = ((3 * way**3 - 6 * way**2 + 4) / 6 for way in (share, rest))
    return rest**3 / 6, second, third, share**3 / 6


def _squared(count: int, order: int) -> sparse.csr_matrix:
    """Dᵀ D of the differences of an order, along one axis."""
    difference = sparse.csr_matrix(np.diff(np.eye(count), order, axis=0))
    return difference.T @ difference
