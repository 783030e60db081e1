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

# What a landmark without a cluster costs, in squared reaches: more than any that has one.
BEYOND = 100.0


@dataclass(frozen=True, eq=False)
class Clusters:
    """Clusters of features of one network.

    Attributes:
        mean: (channels,) of the features.
        axes: (channels, dimensions) that features are projected on, see `choose.axes_of`.
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

    def of(self, features: NDArray[np.floating]) -> NDArray[np.intp]:
        """(n,) the nearest cluster of each feature, -1 beyond its reach."""
        away = self._distances(features)
        nearest = away.argmin(axis=1)
        return np.where(away[np.arange(len(away)), nearest] <= 1, nearest, -1)

    def of_picture(self, features: NDArray[np.floating]) -> NDArray[np.intp]:
        """(n,) the cluster of each landmark of one picture, -1 for none.

        A structure is in a picture once: every cluster is given to one landmark at most, so that
        the sum of squared distances is least, those beyond a cluster's reach left out.
        """
        away = self._distances(features)
        cost = np.where(away <= 1, away**2 - BEYOND, 0.0)
        rows, columns = linear_sum_assignment(cost)
        found = np.full(len(away), -1, np.intp)
        kept = cost[rows, columns] < 0
        found[rows[kept]] = columns[kept]
        return found

    def names_of(self, numbers: NDArray[np.intp]) -> list[str]:
        """Names of the clusters of `of_picture`; empty for none."""
        return [self.names[number] if number >= 0 else "" for number in numbers]

    def _distances(self, features: NDArray[np.floating]) -> Array:
        """(n, k) distances from the centres, in their reaches."""
        points = self.reduced(features)
        away = np.linalg.norm(points[:, None] - self.centres[None], axis=2)
        return np.asarray(away / self.reach)


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
        own = [one for one, label in zip(near, labels, strict=True) if label == cluster]
        shares = {name: sum(name in one for one in own) / max(len(own), 1) for name in structures}
        best = max(shares, key=lambda name: shares[name], default="")
        names.append(best if best and shares[best] >= least else f"cluster {cluster + 1}")
    return tuple(names)


def matched(reference: NDArray[np.intp], other: NDArray[np.intp], count: int) -> NDArray[np.intp]:
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
        np.savez(file, known=np.array(json.dumps(known)), **arrays)


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
                    mean=stored[f"{network}/mean"],
                    axes=stored[f"{network}/axes"],
                    centres=stored[f"{network}/centres"],
                    reach=stored[f"{network}/reach"],
                    names=tuple(names),
                )
                for network, names in known.pop("names").items()
            }
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise InputError(f"{path}: cannot be read as clusters of landmarks ({error})") from error
    return found, known
