"""What the two networks learn: heat maps of whole pictures, and of regions of interest in them."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from landmarkflow.methods.zoomin.batches import Shown, draw
from landmarkflow.methods.zoomin.learn import Course
from landmarkflow.methods.zoomin.losses import coarse_loss, zoom_loss
from landmarkflow.methods.zoomin.network import Coarse, Zoom
from landmarkflow.methods.zoomin.settings import TrainSettings

Array = NDArray[np.float64]


def coarse_course(train: TrainSettings, streams: tuple[int, ...], device: torch.device) -> Course:
    """The coarse branch's: a heat map of each landmark over the whole picture."""

    def loss(network: nn.Module, shown: Sequence[Shown], random: np.random.Generator) -> Tensor:
        seen, _ = draw(shown, random, train)
        logits, _ = network(seen.pictures.to(device))
        return coarse_loss(logits, seen, train)

    return Course("coarse", train.coarse, loss, (*streams, 0))


def zoom_course(
    train: TrainSettings,
    coarse: Coarse,
    misses: Sequence[Array],
    streams: tuple[int, ...],
    device: torch.device,
) -> Course:
    """The regions': a heat map of each landmark around places near it.

    Args:
        train: settings.
        coarse: the coarse branch as it was learned; with `train.joint` the one that goes on
            learning is taken, which the network must hold as `coarse` beside `zoom`.
        misses: for each landmark (n, 2) errors of coarse branches, shares of the field.
        streams: numbers that random streams are made of.
        device: where to compute.
    """
    # Whether the coarse branch looks at the pictures, too.
    needs = train.joint or (train.parts.fusion and train.parts.coarse_features)

    def loss(network: nn.Module, shown: Sequence[Shown], random: np.random.Generator) -> Tensor:
        zoom = network["zoom"] if isinstance(network, nn.ModuleDict) else network
        first = network["coarse"] if isinstance(network, nn.ModuleDict) else coarse
        assert isinstance(zoom, Zoom) and isinstance(first, Coarse)
        wide, near = draw(shown, random, train, misses, whole=needs)
        if near is None:
            return zoom.head.weight.sum() * 0
        maps = [frame.coarser(train.coarse.stem) for frame in wide.frames]
        total: Tensor | float = 0.0
        if train.joint:
            logits, features = first(wide.pictures.to(device))
            total = coarse_loss(logits, wide, train)
        elif needs:
            with torch.no_grad():
                features = first(wide.pictures.to(device))[1]
        else:
            features = torch.zeros((len(shown), 1, 1, 1), device=device)
        logits, alone = zoom(
            near.regions.to(device),
            near.frames,
            features[list(near.picture)],
            [maps[number] for number in near.picture],
        )
        return total + zoom_loss(logits, alone, near, train)

    return Course("zoom", train.regions, loss, (*streams, 1))
