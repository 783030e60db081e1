"""Names of landmarks that hold across pictures: clusters of their features, named by structures."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from landmarkflow.core.errors import InputError
from landmarkflow.core.files import replacing

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Clusters:
    """Clusters of features of one network.

    Attributes:
        mean: (channels,) of the features.
        axes: (channels, dimensions) principal axes; of unit length.
        centres: (k, dimensions).
        reach: (k,) distance within which features are a cluster's.
        names: of the clusters; several may have one name.
    """

    mean: Array
    axes: Array
    centres: Array
    reach: Array
    names: tuple[str, ...]

    def reduced(self, features: NDArray[np.floating]) -> Array:
        """Features (n, channels) along the principal axes."""
        return np.asarray((features - self.mean) @ self.axes, np.float64)

    def of(self, features: NDArray[np.floating]) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
        """The nearest cluster of each of n features, and whether they are within its reach."""
        points = self.reduced(features)
        away = np.linalg.norm(points[:, None] - self.centres[None], axis=2)
        nearest = away.argmin(axis=1)
        return nearest, away[np.arange(len(points)), nearest] <= self.reach[nearest]


def named(
    labels: NDArray[np.intp],
    count: int,
    near: Sequence[Sequence[str]],
    structures: Sequence[str],
    least: float,
) -> tuple[str, ...]:
    """Names of clusters: of the structure that most of their landmarks lie near, or a number.

    Args:
        labels: (n,) cluster of each landmark.
        count: number of clusters.
        near: of each landmark the structures that it lies near.
        structures: names that there are.
        least: share of a cluster's landmarks near a structure, from which on it has its name.
    """
    names = []
    for cluster in range(count):
        own = [near[row] for row in np.flatnonzero(labels == cluster)]
        shares = {name: sum(name in one for one in own) / max(len(own), 1) for name in structures}
        best = max(shares, key=lambda name: shares[name], default="")
        names.append(best if best and shares[best] >= least else f"cluster {cluster + 1}")
    return tuple(names)


def matched(
    reference: NDArray[np.intp], other: NDArray[np.intp], count: int
) -> NDArray[np.intp]:
    """(count,) cluster of a reference network that each cluster of another one is.

    Args:
        reference: (n,) clusters of landmarks by the reference network.
        other: (n,) clusters of the same landmarks by the other network.
        count: number of clusters of both.
    """
    table = np.zeros((count, count))
    np.add.at(table, (other, reference), 1)
    rows, columns = linear_sum_assignment(-table)
    found = np.zeros(count, np.intp)
    found[rows] = columns
    return found


def save_clusters(path: Path, clusters: dict[str, Clusters], more: dict[str, Any]) -> None:
    """Write the clusters of every network, and plain data, to one file without pickle."""
    arrays = {
        f"{name}/{part}": getattr(one, part)
        for name, one in clusters.items()
        for part in ("mean", "axes", "centres", "reach")
    }
    known = {"names": {name: one.names for name, one in clusters.items()}, **more}
    with replacing(path) as beside, beside.open("wb") as file:
        np.savez(file, known=np.array(json.dumps(known)), **arrays)  # type: ignore[arg-type]


def load_clusters(path: Path) -> tuple[dict[str, Clusters], dict[str, Any]]:
    """Read the clusters of `save_clusters`.

    Raises:
        InputError: the file is missing or damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            known = json.loads(str(stored["known"]))
            found = {
                network: Clusters(
                    *(stored[f"{network}/{part}"] for part in ("mean", "axes", "centres", "reach")),
                    names=tuple(names),
                )
                for network, names in known.pop("names").items()
            }
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise InputError(f"{path}: cannot be read as clusters of landmarks ({error})") from error
    return found, known
