"""Registrations the other way round: which point of the template comes to lie at a scan's point."""

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from landmarkflow.images.sampling import map_points

Array = NDArray[np.float64]

# The inverse ends when each point is met this closely, mm, or after so many rounds.
CLOSE_MM = 0.02
ROUNDS = 8


def about_inverse(points: Array, mapped: Array) -> Array:
    """The affine map (3, 4) that takes mapped points back the closest, in the mean.

    Args:
        points: (n, 3) LPS mm in the template, not in one plane.
        mapped: (n, 3) where they come to lie in the scan.
    """
    return np.asarray(np.linalg.lstsq(homogeneous(mapped), points, rcond=None)[0].T)


def inverse_at(transform: sitk.Transform, affine: Array, points: Array) -> Array:
    """The template's points (n, 3) that come to lie at (n, 3) points of the scan, LPS mm.

    Args:
        transform: takes template points to the scan's.
        affine: (3, 4), its inverse nearly, from which the search starts.
        points: of the scan.
    """
    found = homogeneous(points) @ affine.T
    for _ in range(ROUNDS):
        missed = points - map_points(transform, found)
        if np.abs(missed).max() < CLOSE_MM:
            break
        found += missed @ affine[:, :3].T
    return found


def homogeneous(points: Array) -> Array:
    """(n, 4): points with a last coordinate of 1."""
    return np.column_stack([points, np.ones(len(points))])
