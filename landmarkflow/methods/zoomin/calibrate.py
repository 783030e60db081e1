"""Radii from errors on pictures that the networks never saw, and all networks in one file."""

import logging
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from landmarkflow.core.files import read_json, write_json
from landmarkflow.engine.batch import Batch
from landmarkflow.learning.device import best_device
from landmarkflow.learning.folds import never_seen_by
from landmarkflow.learning.history import average_histories
from landmarkflow.learning.radii import Radii
from landmarkflow.learning.trained import write_held_back
from landmarkflow.methods.zoomin.examples import (
    Example,
    hold_back,
    load_examples,
    shape_of,
)
from landmarkflow.methods.zoomin.find import Found, Pair
from landmarkflow.methods.zoomin.networks import (
    architecture,
    finder_of,
    load_pairs,
    save_networks,
)
from landmarkflow.methods.zoomin.settings import CalibrateSettings, TrainSettings, ZoomSettings

logger = logging.getLogger(__name__)

Array = NDArray[np.float64]

COLUMNS = ("scan", "network", "landmark", "coarse_error", "error", "spread", "presence", "radius")


@dataclass(frozen=True, eq=False)
class Measured:
    """One picture held back: what was found, and errors (k,), NaN without a true place.

    Lengths are in pixels of the frame that pictures are brought into.
    """

    scan: str
    network: str
    found: Found
    error: Array
    coarse_error: Array

    @staticmethod
    def of(example: Example, network: str, found: Found) -> "Measured":
        """That of an answer."""
        error = np.linalg.norm(found.positions - example.points, axis=1)
        coarse = np.linalg.norm(found.coarse - example.points, axis=1)
        return Measured(example.scan, network, found, error, coarse)

    def figures(self, radii: Radii) -> Array:
        """(k, 5) errors, width of the heat map, probability, and the radius that these give."""
        found = self.found
        radius = radii.of_scan(found.spread)
        columns = [self.coarse_error, self.error, found.spread, found.presence, radius]
        return np.stack(columns, axis=1)


def run(batch: Batch) -> None:
    """Measure on every picture held back; leave radii, errors, histories and all networks."""
    torch.set_num_threads(batch.threads)
    train, search = batch.settings(TrainSettings, "train"), batch.settings(ZoomSettings, "zoom")
    settings, device = batch.settings(CalibrateSettings), best_device()
    trained = [read_json(batch.path("training", name)) for name in batch.scans]
    seed = int(trained[0]["seed"])
    examples = hold_back(load_examples(batch.path("examples")), train.held_back, seed)
    pairs: dict[str, Pair] = {}
    for name in batch.scans:
        pairs |= load_pairs(
            batch.path("weights", name),
            [name],
            train=train,
            colours=examples.colours,
            landmarks=examples.landmarks,
            device=device,
        )
    # That of the pictures that a network learned from, so that none counts for its own answer.
    shapes = {
        facts["network"]: shape_of(
            [e for e in examples.scans if e.scan in set(facts["learned_from"])],
            both_ways=train.augment.flip,
        )
        for facts in trained
    }
    measured = []
    for example in examples.scans:
        # A picture that several networks never saw is measured by all of them together.
        unseen = {
            facts["network"]: pairs[facts["network"]]
            for facts in trained
            if example.scan in facts["held_back"]
        }
        if unseen:
            shape = shapes[next(iter(unseen))]
            finder = finder_of(unseen, train, search, device, shape)
            found = finder.find(example.shown.pyramid)
            measured.append(Measured.of(example, "+".join(unseen), found))
    count = len(examples.landmarks)
    radii = Radii.of(
        np.array([one.error for one in measured]).reshape(-1, count),
        np.array([one.found.spread for one in measured]).reshape(-1, count),
        teacher=np.zeros(count),
        coverage=settings.coverage,
        by_spread=settings.by_spread,
    )
    modules = {
        name: nn.ModuleDict({"coarse": pair.coarse, "zoom": pair.zoom})
        for name, pair in pairs.items()
        if pair.zoom is not None
    }
    described = architecture(train, examples.colours, examples.landmarks)
    save_networks(batch.path("networks"), modules, described)
    write_json(
        batch.path("calibration"),
        {
            "landmarks": list(examples.landmarks),
            "colours": examples.colours,
            "networks": list(pairs),
            "held_back_from": never_seen_by(examples.scans, trained),
            "shapes": {name: shape.as_data() for name, shape in shapes.items()},
            "radii": radii.as_data(),
            "measured": len(measured),
            "left_out": examples.left_out,
            "device": trained[0]["device"],
        },
    )
    rows = ((one.scan, one.network, one.figures(radii)) for one in measured)
    write_held_back(batch.path("held_back"), COLUMNS, examples.landmarks, rows)
    average_histories(batch.path("histories"), [batch.path("history", n) for n in batch.scans])
    errors = np.concatenate([np.empty(0), *(one.error for one in measured)])
    known = errors[np.isfinite(errors)]
    if len(known):
        logger.info(
            "%d pictures held back: mean error %.2f, median %.2f pixels of the frame",
            len(measured),
            known.mean(),
            np.median(known),
        )
    if not np.isfinite(radii.quantile).any():
        logger.warning(
            "%d landmarks of pictures held back are too few for radii: landmarks have none",
            len(known),
        )
