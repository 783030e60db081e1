"""Cubic B-splines on a regular lattice: displacements, bending, refinement."""

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import sparse

Array = NDArray[np.float64]

ORDER = 3


@dataclass(frozen=True)
class Lattice:
    """The control points of a cubic B-spline, along the LPS axes.

    Attributes:
        size: control points along x, y, z.
        spacing: mm, the same along each axis.
        start: (3,) LPS mm, where the first cell begins; the first control point lies one spacing
            before it.
    """

    size: tuple[int, int, int]
    spacing: float
    start: Array

    @staticmethod
    def over(points: Array, spacing: float) -> "Lattice":
        """The smallest lattice whose cells cover (n, 3) points, with one cell to spare around."""
        lowest, highest = points.min(axis=0), points.max(axis=0)
        cells = np.ceil((highest - lowest) / spacing).astype(int) + 2
        x, y, z = (cells + ORDER).tolist()
        return Lattice((x, y, z), spacing, (lowest + highest - cells * spacing) / 2)

    @property
    def count(self) -> int:
        """Number of control points."""
        return int(np.prod(self.size))

    def weights(self, points: Array) -> sparse.csr_matrix:
        """(n, count) float32 weights of the control points at (n, 3) points, LPS mm.

        Control points are counted x fastest. Points beyond the cells get those of the last cell.
        """
        along = []
        for axis in range(3):
            cell, share = self._cells(points[:, axis], axis)
            along.append((cell[:, None] + np.arange(ORDER + 1), _cubic(share).astype(np.float32)))
        (x, by_x), (y, by_y), (z, by_z) = along
        columns = (z[:, :, None, None] * self.size[1] + y[:, None, :, None]) * self.size[0] + x[
            :, None, None, :
        ]
        weights = by_z[:, :, None, None] * by_y[:, None, :, None] * by_x[:, None, None, :]
        near = (ORDER + 1) ** 3
        rows = np.arange(0, near * len(points) + 1, near)
        return sparse.csr_matrix(
            (weights.ravel(), columns.astype(np.int32).ravel(), rows),
            shape=(len(points), self.count),
        )

    def bending(self) -> sparse.csr_matrix:
        """The matrix B, (count, count), of the bending cᵀ B c of coefficients c in mm.

        The bending is Σ |∂²u/∂i∂j|² over all pairs i, j of axes, in 1/mm², with differences of
        the coefficients for derivatives, averaged over the control points.
        """
        total = sparse.csr_matrix((self.count, self.count))
        for one in range(3):
            for other in range(3):
                orders = [(axis == one) + (axis == other) for axis in range(3)]
                x, y, z = (_squared(n, order) for n, order in zip(self.size, orders, strict=True))
                total = total + sparse.kron(z, sparse.kron(y, x))
        return sparse.csr_matrix(total / (self.count * self.spacing**4))

    def refined(self, coefficients: Array, finer: "Lattice") -> Array:
        """The coefficients on another lattice that agree in value at its control points.

        Args:
            coefficients: (count, 3) mm.
            finer: where they are wanted.
        """
        field = coefficients.reshape(*self.size[::-1], 3)
        for axis in range(3):
            where = finer.start[axis] + finer.spacing * (np.arange(finer.size[axis]) - 1)
            cell, share = self._cells(where, axis)
            values = np.zeros((len(where), self.size[axis]))
            for step, weight in enumerate(_cubic(share).T):
                values[np.arange(len(where)), cell + step] += weight
            side = np.full(len(where) - 1, 1 / 6)
            spline = np.diag(np.full(len(where), 4 / 6)) + np.diag(side, 1) + np.diag(side, -1)
            # Beyond its ends a spline goes on as it ended.
            spline[[0, -1], [0, -1]] = 5 / 6
            place = 2 - axis
            field = np.moveaxis(
                np.tensordot(np.linalg.solve(spline, values), field, (1, place)), 0, place
            )
        return np.ascontiguousarray(field).reshape(-1, 3)

    def transform(self, coefficients: Array) -> sitk.BSplineTransform:
        """The map p → p + u(p) as an ITK transform; beyond the cells u is zero."""
        transform = sitk.BSplineTransform(3, ORDER)
        cells = np.array(self.size) - ORDER
        transform.SetTransformDomainOrigin(self.start.tolist())
        transform.SetTransformDomainPhysicalDimensions((cells * self.spacing).tolist())
        transform.SetTransformDomainMeshSize(cells.tolist())
        transform.SetParameters(coefficients.T.ravel().tolist())
        return transform

    def _cells(self, where: Array, axis: int) -> tuple[NDArray[np.int64], Array]:
        """For (n,) positions along an axis, their cell and the way through it in [0, 1]."""
        along = (where - self.start[axis]) / self.spacing
        cell = np.clip(np.floor(along), 0, self.size[axis] - ORDER - 1)
        return cell.astype(np.int64), np.clip(along - cell, 0, 1)


def _cubic(share: Array) -> Array:
    """(n, 4) weights of the four control points around, by the way through the cell."""
    rest = 1 - share
    return np.stack(
        [
            rest**3 / 6,
            (3 * share**3 - 6 * share**2 + 4) / 6,
            (3 * rest**3 - 6 * rest**2 + 4) / 6,
            share**3 / 6,
        ],
        axis=1,
    )


def _squared(count: int, order: int) -> sparse.csr_matrix:
    """Dᵀ D of the differences of an order, along one axis."""
    difference = sparse.csr_matrix(np.diff(np.eye(count), order, axis=0))
    return difference.T @ difference
