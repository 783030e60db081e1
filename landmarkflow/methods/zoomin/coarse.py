"""Train the coarse branch of a fold, and measure its misses in pictures that it never saw."""

import math

import torch

from landmarkflow.core.files import write_json
from landmarkflow.engine.batch import Batch
from landmarkflow.learning.checkpoints import checkpoint_of, discard_checkpoints
from landmarkflow.learning.device import best_device
from landmarkflow.learning.folds import fold_of
from landmarkflow.learning.history import write_history
from landmarkflow.methods.zoomin.courses import coarse_course
from landmarkflow.methods.zoomin.examples import hold_back, load_examples
from landmarkflow.methods.zoomin.find import Finder, Pair
from landmarkflow.methods.zoomin.learn import learn, seeded
from landmarkflow.methods.zoomin.network import Coarse
from landmarkflow.methods.zoomin.networks import coarse_architecture, new_coarse, save_networks
from landmarkflow.methods.zoomin.settings import TrainSettings, ZoomSettings

# Misses are those of the usual search, so that another search in use trains nothing again.
MEASURED = ZoomSettings()


def run(batch: Batch) -> None:
    """Train the branches that are asked for; leave weights, history and misses."""
    torch.set_num_threads(batch.threads)
    settings = batch.settings(TrainSettings, "train")
    seed, folds, device = int(batch.values["seed"]), int(batch.values["folds"]), best_device()
    examples = hold_back(load_examples(batch.path("examples")), settings.held_back, seed)
    for name in batch.scans:
        fold = fold_of(name, folds)
        learned, held = examples.learned(fold), examples.held_back(fold)
        path = batch.path("weights", name)
        decides = (seed, fold, batch.threads, batch.path("examples"))
        seeded(seed, fold, 0)
        network, history = learn(
            new_coarse(settings, examples.colours, len(examples.landmarks)).to(device),
            coarse_course(settings, (seed, fold), device),
            [example.shown for example in learned],
            settings,
            name=name,
            checkpoint=checkpoint_of(path, name, settings, decides),
        )
        assert isinstance(network, Coarse)
        shape = coarse_architecture(settings, examples.colours, examples.landmarks)
        save_networks(path, {name: network}, shape)
        write_history(batch.path("history", name), history)
        finder = Finder([Pair(network, None)], settings, MEASURED, device)
        misses = {}
        for example in held:
            found = finder.coarse_places(example.shown.pyramid)
            # A missing landmark has no miss, which JSON has as null.
            off = (found - example.points) / example.channels.shape[1]
            misses[example.scan] = [[_plain(value) for value in row] for row in off]
        write_json(batch.path("misses", name), {"network": name, "misses": misses})
        discard_checkpoints(path, name)


def _plain(value: float) -> float | None:
    return round(float(value), 6) if math.isfinite(value) else None
