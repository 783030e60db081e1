"""Cluster the landmarks of the pictures learned from, and name the clusters."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from landmarkflow.core.errors import InputError
from landmarkflow.core.files import table_text, write_text
from landmarkflow.engine.batch import Batch
from landmarkflow.learning.device import best_device
from landmarkflow.learning.folds import networks
from landmarkflow.learning.history import average_histories
from landmarkflow.methods.salient.choose import Choice, choices_of, clusters_of
from landmarkflow.methods.salient.examples import Example, load_examples
from landmarkflow.methods.salient.familiar import (
    Familiar,
    described,
    flatness,
    moves_of,
    save_familiar,
    steps_between,
)
from landmarkflow.methods.salient.frames import Frame
from landmarkflow.methods.salient.kinds import familiar_of
from landmarkflow.methods.salient.landmarks import maxima_of, maxima_of_views
from landmarkflow.methods.salient.maps import Seen, features_at
from landmarkflow.methods.salient.names import Clusters, matched, named, save_clusters
from landmarkflow.methods.salient.network import (
    Together,
    architecture,
    load_networks,
    save_networks,
)
from landmarkflow.methods.salient.see import looks, mean_of
from landmarkflow.methods.salient.settings import (
    ClusterSettings,
    DiscoverSettings,
    GazeSettings,
    PredictSettings,
    TrainSettings,
)

# Pictures learned from whose landmarks are clustered: more take longer and change little.
MOST_PICTURES = 240


@dataclass(frozen=True, eq=False)
class LookedAt:
    """A picture as one network sees it.

    Attributes:
        frame: of the picture.
        points: (n, 2) pixels of its landmarks.
        features: (n, channels) of these.
        views: maxima of its changed views, (m, 2) pixels each.
        described: (d,) features of the whole picture.
        flat: flatness of its map.
    """

    frame: Frame
    points: NDArray[np.float64]
    features: NDArray[np.float32]
    views: list[NDArray[np.float64]]
    described: NDArray[np.float64]
    flat: float


class Gathered:
    """Landmarks of the pictures that one network learned from.

    Attributes:
        pictures: each picture.
        features: of each landmark, by this network.
        of_first: of the same, by the first network.
        near: structures that each lies near.
        changes: differences of the views of a landmark from their mean.
    """

    def __init__(self) -> None:
        self.pictures: list[LookedAt] = []
        self.features: list[NDArray[np.float32]] = []
        self.of_first: list[NDArray[np.float32]] = []
        self.near: list[list[str]] = []
        self.changes: list[NDArray[np.float32]] = []

    def alike(self, settings: ClusterSettings) -> NDArray[np.float64]:
        """(m, channels) differences of features that tell nothing of which landmark it is.

        Those between views of a landmark and, where `alike` says so, those between landmarks near
        the same structure.

        Raises:
            InputError: no landmark lies near a structure, though these are to be compared.
        """
        features = np.array(self.features, np.float64)
        found = [np.array(self.changes, np.float64).reshape(-1, features.shape[1])]
        if settings.alike == "structures":
            sure = np.array([one[0] if len(one) == 1 else "" for one in self.near])
            names = sorted(set(sure.tolist()) - {""})
            if not names:
                raise InputError(
                    "cluster.alike is structures, but no landmark of the pictures learned from "
                    "lies near an annotated structure, expected annotated ones"
                )
            found += [
                features[sure == name] - features[sure == name].mean(axis=0) for name in names
            ]
        return np.concatenate(found)


def structures_near(one: Example, points: NDArray[np.float64], percent: float) -> list[list[str]]:
    """The annotated structures within a distance of each of (n, 2) points."""
    away = np.linalg.norm(points[:, None] - one.places[None], axis=2) * 100 / one.scale
    return [
        [name for name, distance in zip(one.structures, row, strict=True) if distance <= percent]
        for row in away
    ]


def gathered(
    examples: Sequence[Example],
    known: Mapping[str, Together],
    learned: Mapping[str, Sequence[str]],
    *,
    mirror: bool,
    discover: DiscoverSettings,
    settings: ClusterSettings,
) -> dict[str, Gathered]:
    """The landmarks of every network.

    Args:
        examples: pictures.
        known: networks by name; the first one's clusters are the others' reference.
        learned: names of the pictures that each network learned from.
        mirror: whether mirror images are looked at, too.
        discover: which maxima count.
        settings: which features.
    """
    found, device, first = {name: Gathered() for name in known}, best_device(), next(iter(known))
    for one in examples:
        looked = {
            name: looks(
                network, one.frame, one.picture, device, mirror=mirror, views=settings.views
            )
            for name, network in known.items()
            if name == first or one.scan in learned[name]
        }
        for name, look in looked.items():
            if one.scan not in learned[name]:
                continue
            rows, columns = one.frame.cells
            mean = torch.stack(look.maps).mean(dim=0)[:rows, :columns].numpy()
            saliency = (mean / mean.sum()).astype(np.float32)
            seen = Seen(saliency, mean_of(look.features), look.views(one.frame))
            points = maxima_of(seen, one.frame, discover, settings.features)
            cells, own = one.frame.to_cells(points.cells), found[name]
            views = [
                features_at(Seen(saliency, mean_of([each])), one.frame, cells, settings.features)
                for each in look.features
            ]
            own.changes += list(np.concatenate(views - np.mean(views, axis=0)))
            own.near += structures_near(one, points.fitted, settings.near)
            own.features += list(points.features)
            own.pictures.append(
                LookedAt(
                    one.frame,
                    points.fitted,
                    points.features,
                    maxima_of_views(seen, one.frame, discover),
                    described(seen, one.frame),
                    flatness(saliency),
                )
            )
            there = Seen(saliency, mean_of(looked[first].features))
            own.of_first += list(features_at(there, one.frame, cells, settings.features))
    return found


def clustered(
    found: Mapping[str, Gathered],
    structures: Sequence[str],
    settings: ClusterSettings,
    seed: int,
) -> tuple[dict[str, Clusters], list[Choice]]:
    """Clusters of every network, with names, and how their number was chosen.

    The number is that of the first network. Where no structure is annotated, clusters of the others
    have the numbers of the first one's that they agree with most.

    Raises:
        InputError: there are too few landmarks.
    """
    first, *others = found
    features = np.array(found[first].features)
    if len(features) < 4:
        raise InputError(
            f"the maps of the pictures learned from have {len(features)} maxima, expected at least "
            "4 to cluster"
        )
    changes = found[first].alike(settings)
    start, _ = clusters_of(features, changes, min(2, len(features) - 1), settings, seed)
    choices = choices_of(start.reduced(features), settings, seed)
    count = next(choice.clusters for choice in choices if choice.chosen)
    made: dict[str, Clusters] = {}
    for name in (first, *others):
        own = found[name]
        changes = own.alike(settings)
        clusters, labels = clusters_of(np.array(own.features), changes, count, settings, seed)
        names = named(labels, count, own.near, structures, settings.least_share)
        if name != first:
            there = made[first].of(np.array(own.of_first))
            sure = there >= 0
            same = matched(there[sure], labels[sure], count)
            names = tuple(
                made[first].names[int(same[k])] if not structures else names[k]
                for k in range(count)
            )
        made[name] = Clusters(clusters.mean, clusters.axes, clusters.centres, clusters.reach, names)
    return made, choices


def known_pictures(found: Gathered, clusters: Clusters) -> Familiar:
    """What the pictures that a network learned from are like, with the names of its clusters."""
    pictures = found.pictures
    names = [clusters.names_of(clusters.of_picture(one.features)) for one in pictures]
    both = list(zip(names, pictures, strict=True))
    return familiar_of(
        [one.described for one in pictures],
        [one.flat for one in pictures],
        [steps_between(own, one.points, one.frame) for own, one in both],
        [moves_of(own, one.points, one.views) for own, one in both],
    )


def run(batch: Batch) -> None:
    """Look at the pictures learned from, cluster their landmarks, and write clusters and choice."""
    torch.set_num_threads(batch.threads)
    settings, seed = batch.settings(ClusterSettings), int(batch.values["seed"])
    train, gaze = batch.settings(TrainSettings, "train"), batch.settings(GazeSettings, "gaze")
    folds = int(batch.values["folds"])
    examples = load_examples(batch.path("examples"))[:MOST_PICTURES]
    known = {
        name: load_networks(batch.path("weights", name), [name], train, gaze, best_device())[name]
        for name in batch.scans
    }
    learned = {
        name: {one.scan for one in examples if not folds or one.fold != number}
        for number, name in enumerate(networks(folds), start=1)
    }
    structures = tuple(dict.fromkeys(name for one in examples for name in one.structures))
    found = gathered(
        examples,
        known,
        {name: sorted(scans) for name, scans in learned.items()},
        mirror=batch.settings(PredictSettings, "predict").mirror,
        discover=batch.settings(DiscoverSettings, "discover"),
        settings=settings,
    )
    clusters, choices = clustered(found, structures, settings, seed)
    names = structures or tuple(sorted(next(iter(clusters.values())).names, key=_number))
    save_clusters(
        batch.path("clusters"), clusters, {"labels": names, "features": settings.features}
    )
    save_familiar(
        batch.path("familiar"),
        {name: known_pictures(found[name], own) for name, own in clusters.items()},
    )
    save_networks(batch.path("networks"), known, architecture(train, gaze))
    _write_choices(batch, choices)
    average_histories(batch.path("histories"), [batch.path("history", n) for n in batch.scans])


def _number(name: str) -> int:
    return int(name.rsplit(maxsplit=1)[-1])


def _write_choices(batch: Batch, choices: Sequence[Choice]) -> None:
    rows: list[Sequence[object]] = [
        ("clusters", "silhouette", "stability", "least_stability", "chosen")
    ]
    for one in choices:
        figures = (f"{value:.4f}" for value in (one.silhouette, one.stability, one.least))
        rows.append((one.clusters, *figures, "yes" if one.chosen else ""))
    write_text(batch.path("choices"), table_text(rows))
