"""Clusters of features, and their number by silhouette."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score, silhouette_score

from landmarkflow.core.errors import InputError
from landmarkflow.methods.salient.names import Clusters
from landmarkflow.methods.salient.settings import ClusterSettings

Array = NDArray[np.float64]

# Samples that a silhouette is measured on; it compares all with all.
MOST_SAMPLES = 3000
# Share of the mean variance that is added to every direction, of which few views say little.
RIDGE, TINY = 0.1, 1e-12


@dataclass(frozen=True)
class Choice:
    """One number of clusters, as it was tried.

    Attributes:
        clusters: how many.
        silhouette: mean over the samples, -1 to 1.
        stability: mean adjusted Rand index of every two seeds, 1 for the same clusters.
        least: of them.
        chosen: whether it is taken.
    """

    clusters: int
    silhouette: float
    stability: float
    least: float
    chosen: bool = False


def axes_of(
    features: NDArray[np.floating], changes: NDArray[np.floating], dimensions: int
) -> tuple[Array, Array]:
    """Mean of features, and the axes along which they are told apart.

    What changes from view to view of one landmark tells nothing of which it is: features are
    divided by that first (whitened by its covariance), so that the principal axes are those along
    which landmarks differ by more than their views do.

    Args:
        features: (n, channels).
        changes: (m, channels) differences of views of a landmark from their mean; none of them:
            nothing is divided.
        dimensions: number of principal axes; all of the channels for 0.

    Returns:
        (channels,) and (channels, dimensions).
    """
    mean, whiten = features.astype(np.float64).mean(axis=0), np.eye(features.shape[1])
    if len(changes):
        spread = changes.T.astype(np.float64) @ changes / len(changes)
        ridge = RIDGE * np.trace(spread) / len(spread) + TINY
        values, vectors = np.linalg.eigh(spread + ridge * np.eye(len(spread)))
        whiten = vectors / np.sqrt(values)
    if not dimensions:
        return mean, whiten
    _, _, axes = np.linalg.svd((features - mean) @ whiten, full_matrices=False)
    kept = whiten @ axes[:dimensions].T
    # The sign of an axis is arbitrary: its largest part is positive.
    return mean, np.asarray(kept * np.sign(kept[np.abs(kept).argmax(axis=0), range(kept.shape[1])]))


def choices_of(points: Array, settings: ClusterSettings, seed: int) -> list[Choice]:
    """Silhouette and stability of every number of clusters that is tried.

    Args:
        points: (n, dimensions).
        settings: how many are tried, and how often.
        seed: of the first start; the others follow it.
    """
    most = min(settings.most, len(points) - 1)
    numbers = [settings.clusters] if settings.clusters else list(range(2, most + 1))
    found = []
    for count in numbers:
        labels = [
            KMeans(count, n_init=1, random_state=seed + 1 + start).fit_predict(points)
            for start in range(settings.seeds)
        ]
        pairs = [
            float(adjusted_rand_score(a, b)) for n, a in enumerate(labels) for b in labels[:n]
        ] or [1.0]
        best = fitted(points, count, settings, seed).labels_
        size = min(len(points), MOST_SAMPLES)
        value = float(silhouette_score(points, best, sample_size=size, random_state=seed))
        found.append(Choice(count, value, float(np.mean(pairs)), min(pairs)))
    best_of = max(range(len(found)), key=lambda number: found[number].silhouette)
    return [
        Choice(one.clusters, one.silhouette, one.stability, one.least, number == best_of)
        for number, one in enumerate(found)
    ]


def fitted(points: Array, count: int, settings: ClusterSettings, seed: int) -> KMeans:
    """k-means with the best of several starts."""
    return KMeans(count, n_init=settings.restarts, random_state=seed).fit(points)


def clusters_of(
    features: NDArray[np.floating],
    changes: NDArray[np.floating],
    count: int,
    settings: ClusterSettings,
    seed: int,
) -> tuple[Clusters, NDArray[np.intp]]:
    """Clusters of features, the largest first, without names; and each feature's.

    Args:
        features: (n, channels).
        changes: (m, channels), as `axes_of` takes them.
        count: number of clusters.
        settings: dimensions and starts.
        seed: of the starts.

    Raises:
        InputError: there are fewer landmarks than clusters.
    """
    if len(features) <= count:
        raise InputError(
            f"the maps of the pictures learned from have {len(features)} maxima, expected more "
            f"than the {count} clusters"
        )
    mean, axes = axes_of(features, changes, settings.dimensions)
    points = np.asarray((features - mean) @ axes, np.float64)
    found = fitted(points, count, settings, seed)
    order = np.argsort(-np.bincount(found.labels_, minlength=count), kind="stable")
    labels = np.argsort(order)[found.labels_]
    centres = found.cluster_centers_[order]
    away = np.linalg.norm(points - centres[labels], axis=1)
    reach = np.array(
        [settings.farthest * np.percentile(away[labels == k], 95) for k in range(count)]
    )
    names = tuple(f"cluster {k + 1}" for k in range(count))
    return Clusters(mean, axes, centres, reach, names), labels
