"""Let matched scans vote on each other's landmarks.

The template's landmarks reach a scan directly, and again by way of every peer: template to peer,
peer to scan. Each way errs in its own manner; their mean errs by less.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Votes:
    """What the ways agree on.

    Attributes:
        positions: (n, 3) LPS mm, the means.
        spread: (n,) mm, root mean square distance of the votes from their mean.
        counted: (n,) votes that the mean is of.
    """

    positions: Array
    spread: Array
    counted: NDArray[np.int64]


def count_votes(ways: Sequence[Array], farthest_mm: float) -> Votes:
    """Take the mean of the ways' points, without those that went astray.

    Args:
        ways: (n, 3) LPS mm for each way.
        farthest_mm: a vote farther than this from the ways' median does not count; where none
            is that close, the median stands.
    """
    votes = np.array(ways)
    median = np.median(votes, axis=0)
    near = np.linalg.norm(votes - median, axis=2) <= farthest_mm
    counted = near.sum(axis=0)
    total = (votes * near[..., None]).sum(axis=0)
    mean = np.where(counted[:, None] > 0, total / np.maximum(counted, 1)[:, None], median)
    square = (((votes - mean) ** 2).sum(axis=2) * near).sum(axis=0)
    return Votes(mean, np.sqrt(square / np.maximum(counted, 1)), counted)


def way_between(to_peer: sitk.Transform, to_scan: sitk.Transform) -> sitk.AffineTransform:
    """The affine map from a peer to a scan, by way of the template.

    Args:
        to_peer: affine, takes template points to the peer's.
        to_scan: affine, takes template points to the scan's.
    """
    back = to_peer.GetInverse()

    def mapped(point: tuple[float, float, float]) -> Array:
        return np.array(to_scan.TransformPoint(back.TransformPoint(point)))

    origin = mapped((0.0, 0.0, 0.0))
    axes = [mapped(unit) - origin for unit in ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))]
    way = sitk.AffineTransform(3)
    way.SetMatrix(np.stack(axes, axis=1).ravel().tolist())
    way.SetTranslation(origin.tolist())
    return way
