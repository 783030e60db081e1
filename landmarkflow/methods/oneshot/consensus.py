"""Let matched scans vote on each other's landmarks.

The template's landmarks reach a scan directly, and again by way of every peer: template to peer,
peer to scan. Each way errs in its own manner; their mean errs by less.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from landmarkflow.images.transforms import matrix_and_offset

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Votes:
    """What the ways agree on.

    Attributes:
        positions: (n, 3) LPS mm, the means.
        spread: (n,) mm, root mean square distance of the votes from their mean.
        counted: (n,) votes that the mean is of.
        near: (ways, n) the votes that count.
    """

    positions: Array
    spread: Array
    counted: NDArray[np.int64]
    near: NDArray[np.bool_]


def count_votes(ways: Sequence[Array], farthest_mm: float) -> Votes:
    """Take the mean of the ways' points, without those that went astray.

    Args:
        ways: (n, 3) LPS mm for each way; NaN where a way has no such landmark.
        farthest_mm: a vote farther than this from the ways' median does not count; where none
            is that close, the median stands.
    """
    votes = np.array(ways)
    median = np.full(votes.shape[1:], np.nan)
    somewhere = ~np.isnan(votes).all(axis=(0, 2))
    median[somewhere] = np.nanmedian(votes[:, somewhere], axis=0)
    near = np.linalg.norm(votes - median, axis=2) <= farthest_mm
    counted = near.sum(axis=0)
    total = np.where(near[..., None], votes, 0.0).sum(axis=0)
    mean = np.where(counted[:, None] > 0, total / np.maximum(counted, 1)[:, None], median)
    square = np.where(near, ((votes - mean) ** 2).sum(axis=2), 0.0).sum(axis=0)
    return Votes(mean, np.sqrt(square / np.maximum(counted, 1)), counted, near)


def joint_radius(radii: Array, votes: Votes, shared_error: float) -> Array:
    """How far the mean of several ways errs: (n,) mm.

    Their errors shrink by averaging, but for what all have in common; where they disagree, more
    is wrong than each knows.

    Args:
        radii: (ways, n) mm, of each way's points.
        votes: of these ways; where none of them counts, the largest radius stands.
        shared_error: share of a squared error that all ways have in common.
    """
    count = np.maximum(votes.counted, 1)
    square = np.where(votes.near, radii**2, 0.0).sum(axis=0) / count
    square = np.where(votes.counted > 0, square, np.fmax.reduce(radii) ** 2)
    shrunk: Array = square * (shared_error + (1 - shared_error) / count)
    return np.sqrt(shrunk + votes.spread**2)


def way_between(to_peer: sitk.Transform, to_scan: sitk.Transform) -> sitk.AffineTransform:
    """The affine map from a peer to a scan, by way of the template.

    Args:
        to_peer: affine, takes template points to the peer's.
        to_scan: affine, takes template points to the scan's.
    """
    whole = sitk.CompositeTransform([to_scan, to_peer.GetInverse()])
    matrix, offset = matrix_and_offset(whole)
    way = sitk.AffineTransform(3)
    way.SetMatrix(matrix.ravel().tolist())
    way.SetTranslation(offset.tolist())
    return way
