"""Train the saliency network of one fold."""

import logging
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from landmarkflow.core.errors import InputError
from landmarkflow.engine.batch import Batch
from landmarkflow.learning.checkpoints import (
    checkpoint_of,
    discard_checkpoints,
    load_checkpoint,
    load_optimiser,
    save_checkpoint,
)
from landmarkflow.learning.descent import Schedule, descend, follow
from landmarkflow.learning.device import best_device
from landmarkflow.learning.folds import fold_of
from landmarkflow.learning.history import write_history
from landmarkflow.learning.trained import write_training
from landmarkflow.methods.salient.augment import Lesson, lesson_of
from landmarkflow.methods.salient.examples import Example, load_examples
from landmarkflow.methods.salient.losses import saliency_loss
from landmarkflow.methods.salient.metrics import cc, kld
from landmarkflow.methods.salient.network import (
    SaliencyNetwork,
    Together,
    architecture,
    save_networks,
)
from landmarkflow.methods.salient.settings import GazeSettings, TrainSettings

logger = logging.getLogger(__name__)

# The gradient's largest norm: single steps must not throw the weights away.
LARGEST_GRADIENT = 2.0
# What the seeds of networks that are averaged differ by: more than any two studies' do.
MEMBERS_APART = 1_000_003
# Pictures held back that are looked at after each epoch.
LOOKED_AT = 24
# Names of the two sets of weights in a checkpoint: as they are, and their running mean.
LEARNING, AVERAGE = "learning", "average"


@dataclass(frozen=True)
class Epoch:
    """What one epoch came to; NaN where nothing is measured.

    Attributes:
        epoch: from 1 on.
        learning_rate: at its end.
        train_loss: mean over its steps.
        validation_kld: Kullback-Leibler divergence of pictures held back, on the map's cells.
        validation_cc: correlation, of the same.
        seconds: it took.
    """

    epoch: int
    learning_rate: float
    train_loss: float
    validation_kld: float
    validation_cc: float
    seconds: float


def train(
    learned: Sequence[Example],
    held: Sequence[Example],
    name: str,
    *,
    settings: TrainSettings,
    stride: int,
    seed: int,
    fold: int,
    checkpoint: Path,
    device: torch.device,
) -> tuple[SaliencyNetwork, list[Epoch]]:
    """Train a network on pictures; return the running mean of its weights.

    Every step has a random stream of its own, made of seed, fold and step, so that a training that
    goes on at a checkpoint ends with the weights of one that nothing disturbed.

    Raises:
        InputError: the loss is not finite.
    """
    both = nn.ModuleDict()
    for part in (LEARNING, AVERAGE):
        torch.manual_seed(seed * 1009 + fold)
        both[part] = SaliencyNetwork(settings, stride).to(device)
    network, average = both[LEARNING], both[AVERAGE]
    assert isinstance(network, SaliencyNetwork)
    assert isinstance(average, SaliencyNetwork)
    optimiser = torch.optim.AdamW(
        network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
    )
    steps = max(1, len(learned) // settings.pictures)
    schedule = Schedule(
        settings.epochs * steps, settings.learning_rate, largest_gradient=LARGEST_GRADIENT
    )
    history: list[Epoch] = []
    if (memo := load_checkpoint(checkpoint, both)) is not None:
        load_optimiser(checkpoint, optimiser)
        history = [Epoch(**epoch) for epoch in memo["history"]]
        logger.info("%s: goes on after epoch %d", name, len(history))
    shown = [(one, lesson_of([one])) for one in held[:LOOKED_AT]]
    for epoch in range(len(history), settings.epochs):
        started, losses = time.monotonic(), []
        network.train()
        order = np.random.default_rng([seed, fold, epoch, 1]).permutation(len(learned))
        for step in range(steps):
            number = epoch * steps + step
            chosen = order[step * settings.pictures : (step + 1) * settings.pictures]
            random = np.random.default_rng([seed, fold, number, 2])
            lesson = lesson_of([learned[at] for at in chosen], settings, random).on(device)
            # Dropout draws from torch's own stream.
            torch.manual_seed(int(random.integers(2**31)))
            logits, _ = network(lesson.pictures, lesson.where)
            loss = saliency_loss(
                logits,
                lesson.target,
                lesson.counts,
                kld=settings.kld,
                cc=settings.cc,
                nss=settings.nss,
            )
            losses.append(descend(network, optimiser, loss, schedule=schedule, step=number))
            follow(average, network, step=number, most=settings.average)
        rate = schedule.rate((epoch + 1) * steps - 1)
        found = _validated(average, shown, device)
        history.append(
            Epoch(epoch + 1, rate, float(np.mean(losses)), *found, time.monotonic() - started)
        )
        _tell(name, history, settings)
        save_checkpoint(
            checkpoint, both, optimiser, {"history": [asdict(each) for each in history]}
        )
    return average.eval(), history


def _together(histories: Sequence[Sequence[Epoch]]) -> list[Epoch]:
    """One history of several networks: the mean of each number, and the sum of their seconds."""

    def mean(epochs: Sequence[Epoch], name: str) -> float:
        return float(np.mean([getattr(one, name) for one in epochs]))

    return [
        Epoch(
            same[0].epoch,
            same[0].learning_rate,
            mean(same, "train_loss"),
            mean(same, "validation_kld"),
            mean(same, "validation_cc"),
            sum(one.seconds for one in same),
        )
        for same in zip(*histories, strict=True)
    ]


def _validated(
    network: SaliencyNetwork, held: Sequence[tuple[Example, Lesson]], device: torch.device
) -> tuple[float, float]:
    """Mean divergence and correlation of pictures held back."""
    network.eval()
    found = []
    with torch.inference_mode():
        for one, lesson in held:
            logits, _ = network(lesson.pictures.to(device), lesson.where.to(device))
            shown = torch.softmax(logits.flatten(), 0).view(logits.shape[1:]).double().cpu().numpy()
            true = lesson.target[0].double().numpy()
            rows, columns = one.frame.cells
            shown, true = shown[:rows, :columns], true[:rows, :columns]
            found.append((kld(shown, true), cc(shown, true)))
    means = np.mean(found, axis=0) if found else (math.nan, math.nan)
    return float(means[0]), float(means[1])


def _tell(name: str, history: Sequence[Epoch], settings: TrainSettings) -> None:
    latest = history[-1]
    left = (settings.epochs - latest.epoch) * latest.seconds / 60
    logger.info(
        "%s: epoch %d of %d: loss %.3f, held back: KLD %.3f, CC %.3f; about %.0f minutes left",
        name,
        latest.epoch,
        settings.epochs,
        latest.train_loss,
        latest.validation_kld,
        latest.validation_cc,
        left,
    )


def parts_of(
    examples: Sequence[Example], fold: int, settings: TrainSettings, seed: int
) -> tuple[list[Example], list[Example]]:
    """The pictures that a network learns from, and those held back from it."""
    if fold:
        learned = [one for one in examples if one.fold != fold]
        return learned, [one for one in examples if one.fold == fold]
    order = np.random.default_rng([seed, 3]).permutation(len(examples))
    count = round(settings.held_back * len(examples))
    held = set(order[:count].tolist())
    return (
        [one for number, one in enumerate(examples) if number not in held],
        [one for number, one in enumerate(examples) if number in held],
    )


def run(batch: Batch) -> None:
    """Train the networks that are asked for; leave weights, history and what was trained."""
    torch.set_num_threads(batch.threads)
    settings, gaze = batch.settings(TrainSettings), batch.settings(GazeSettings, "gaze")
    seed, folds, device = int(batch.values["seed"]), int(batch.values["folds"]), best_device()
    examples = load_examples(batch.path("examples"))
    for name in batch.scans:
        fold = fold_of(name, folds)
        learned, held = parts_of(examples, fold, settings, seed)
        if len(learned) < settings.pictures:
            raise InputError(
                f"{name}: there are {len(learned)} pictures to learn from that are not held back, "
                f"expected at least {settings.pictures} (`train.pictures`)"
            )
        weights = batch.path("weights", name)
        members, histories, count = [], [], settings.members
        for member in range(count):
            called = f"{name}, network {member + 1} of {count}" if count > 1 else name
            decides = (seed, fold, batch.threads, batch.path("examples"), member)
            network, history = train(
                learned,
                held,
                called,
                settings=settings,
                stride=gaze.stride,
                seed=seed + MEMBERS_APART * member,
                fold=fold,
                checkpoint=checkpoint_of(weights, name, settings, decides),
                device=device,
            )
            members.append(network)
            histories.append(history)
        save_networks(weights, {name: Together(members)}, architecture(settings, gaze))
        write_history(batch.path("history", name), _together(histories))
        write_training(
            batch.path("training", name),
            name,
            made_by={"fold": fold, "seed": seed, "threads": batch.threads},
            device=device,
            precision=settings.precision,
            learned=learned,
            held=held,
        )
        discard_checkpoints(weights, name)
