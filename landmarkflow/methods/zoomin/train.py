"""Train the networks of a fold that look at regions of interest around what coarse ones found."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from landmarkflow.core.files import read_json
from landmarkflow.engine.batch import Batch
from landmarkflow.learning.checkpoints import checkpoint_of, discard_checkpoints
from landmarkflow.learning.device import best_device
from landmarkflow.learning.folds import fold_of
from landmarkflow.learning.history import join_histories, write_history
from landmarkflow.learning.trained import write_training
from landmarkflow.methods.zoomin.courses import zoom_course
from landmarkflow.methods.zoomin.examples import hold_back, load_examples
from landmarkflow.methods.zoomin.learn import learn, seeded
from landmarkflow.methods.zoomin.networks import (
    COARSE,
    ZOOM,
    architecture,
    load_coarse,
    new_zoom,
    save_networks,
)
from landmarkflow.methods.zoomin.settings import TrainSettings

Array = NDArray[np.float64]


def misses_of(
    measured: Sequence[Mapping[str, Any]], learned: set[str], landmarks: int
) -> list[Array]:
    """For each landmark (n, 2) misses of the coarse branches, shares of the field.

    They are of pictures that a branch never saw. Pictures that the network to be trained must not
    see count neither, so that nothing of them decides where its regions are laid.

    Args:
        measured: what the stage `coarse` said of each fold.
        learned: the pictures that the network learns from.
        landmarks: how many there are.
    """
    measures = [
        np.array([[np.nan if v is None else v for v in row] for row in off], dtype=np.float64)
        for one in measured
        for scan, off in one["misses"].items()
        if scan in learned
    ]
    stacked = np.array(measures, dtype=np.float64).reshape(-1, landmarks, 2)
    by_landmark = (stacked[:, k] for k in range(landmarks))
    return [rows[~np.isnan(rows).any(axis=1)] for rows in by_landmark]


def run(batch: Batch) -> None:
    """Train the networks that are asked for; leave weights, history and what was trained."""
    torch.set_num_threads(batch.threads)
    settings, seed = batch.settings(TrainSettings), int(batch.values["seed"])
    folds, device = int(batch.values["folds"]), best_device()
    examples = hold_back(load_examples(batch.path("examples")), settings.held_back, seed)
    measured = read_json(batch.path("pooled"))["networks"]
    count = len(examples.landmarks)
    shape = architecture(settings, examples.colours, examples.landmarks)
    for name in batch.scans:
        fold = fold_of(name, folds)
        learned = examples.learned(fold)
        coarse = load_coarse(
            batch.path("coarse_weights", name), name, settings, examples.colours, examples.landmarks
        ).to(device)
        coarse.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        own = {example.scan for example in learned}
        misses = misses_of(measured, own, count)
        path = batch.path("weights", name)
        files = [batch.path("examples"), batch.path("coarse_weights", name), batch.path("pooled")]
        decides = (seed, fold, batch.threads, *files)
        seeded(seed, fold, 1)
        zoom: nn.Module = new_zoom(settings, examples.colours, count).to(device)
        network, history = learn(
            nn.ModuleDict({COARSE: coarse, ZOOM: zoom}) if settings.joint else zoom,
            zoom_course(settings, coarse, misses, (seed, fold), device),
            [example.shown for example in learned],
            settings,
            name=name,
            checkpoint=checkpoint_of(path, name, settings, decides),
        )
        pair = network if settings.joint else nn.ModuleDict({COARSE: coarse, ZOOM: network})
        save_networks(path, {name: pair}, shape)
        own_history = path.with_suffix(".own.csv")
        write_history(own_history, history)
        joined = [batch.path("coarse_history", name), own_history]
        join_histories(batch.path("history", name), joined)
        own_history.unlink()
        write_training(
            batch.path("training", name),
            name,
            made_by={
                "fold": fold,
                "seed": seed,
                "threads": batch.threads,
                "misses": [len(one) for one in misses],
            },
            device=device,
            precision=settings.precision,
            learned=learned,
            held=examples.held_back(fold),
        )
        discard_checkpoints(path, name)
