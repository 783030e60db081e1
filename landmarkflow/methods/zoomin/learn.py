"""Learn one network step by step, with checkpoints, and keep the running mean of its weights."""

import copy
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from landmarkflow.learning.checkpoints import load_checkpoint, load_optimiser, save_checkpoint
from landmarkflow.learning.descent import Schedule, descend, follow, in_turn
from landmarkflow.methods.zoomin.batches import Shown
from landmarkflow.methods.zoomin.settings import BranchSettings, TrainSettings

logger = logging.getLogger(__name__)

# The share of the steps in which the rate rises, and that of the rate which is left at the end.
WARM_UP, LAST_RATE = 0.1, 0.005


@dataclass(frozen=True)
class Epoch:
    """What one epoch came to.

    Attributes:
        epoch: from 1 on.
        network: `coarse` or `zoom`.
        learning_rate: at its end.
        train_loss: mean over its batches.
        seconds: it took.
    """

    epoch: int
    network: str
    learning_rate: float
    train_loss: float
    seconds: float


@dataclass(frozen=True)
class Course:
    """What a network learns.

    Attributes:
        network: `coarse` or `zoom`, for the history.
        settings: steps, batch, rate.
        loss: of the network for pictures, drawn from a random stream.
        streams: numbers that the random streams of all steps are made of.
    """

    network: str
    settings: BranchSettings
    loss: Callable[[nn.Module, Sequence[Shown], np.random.Generator], Tensor]
    streams: tuple[int, ...]


def learn(
    network: nn.Module,
    course: Course,
    shown: Sequence[Shown],
    train: TrainSettings,
    *,
    name: str,
    checkpoint: Path | None = None,
) -> tuple[nn.Module, list[Epoch]]:
    """Train a network; return the running mean of its weights in evaluation mode.

    Every step's batch has random streams of its own, so that a training that goes on at a
    checkpoint ends with the weights of one that nothing disturbed.

    Args:
        network: with its first weights; it is changed.
        course: what it learns.
        shown: pictures to learn from.
        train: settings that both networks share.
        name: for the log.
        checkpoint: file that is written after each epoch and read where it is there.

    Raises:
        InputError: the loss is not finite.
    """
    settings = course.settings
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    both = nn.ModuleDict({"now": network, "mean": copy.deepcopy(network)})
    optimiser = torch.optim.AdamW(
        network.parameters(), lr=settings.learning_rate, weight_decay=train.weight_decay
    )
    schedule = Schedule(settings.steps, settings.learning_rate, WARM_UP, LAST_RATE)
    history: list[Epoch] = []
    first = 0
    if checkpoint is not None and (memo := load_checkpoint(checkpoint, both)) is not None:
        load_optimiser(checkpoint, optimiser)
        first, history = int(memo["step"]), [Epoch(**epoch) for epoch in memo["history"]]
        logger.info("%s: goes on after epoch %d", name, len(history))
    while first < settings.steps:
        last = min(settings.steps, first + train.steps_per_epoch)
        started = time.monotonic()
        losses = []
        both.train()
        for step in range(first, last):
            chosen = [
                shown[in_turn(number, len(shown), course.streams)]
                for number in range(step * settings.batch, (step + 1) * settings.batch)
            ]
            loss = course.loss(network, chosen, np.random.default_rng([*course.streams, step]))
            of = f" of the {course.network} network"
            losses.append(descend(network, optimiser, loss, schedule=schedule, step=step, of=of))
            follow(both["mean"], network, step=step, most=train.average)
        seconds = time.monotonic() - started
        rate = schedule.rate(last - 1)
        history.append(
            Epoch(len(history) + 1, course.network, rate, float(np.mean(losses)), seconds)
        )
        left = seconds / (last - first) * (settings.steps - last) / 60
        logger.info(
            "%s: epoch %d of %d (%s): loss %.3f; about %.0f minutes left",
            name,
            len(history),
            -(-settings.steps // train.steps_per_epoch),
            course.network,
            history[-1].train_loss,
            left,
        )
        first = last
        if checkpoint is not None:
            memo = {"step": first, "history": [asdict(epoch) for epoch in history]}
            save_checkpoint(checkpoint, both, optimiser, memo)
    return both["mean"].eval(), history


def seeded(seed: int, fold: int, number: int) -> None:
    """Make the first weights those of a seed, a fold and a network's number."""
    torch.manual_seed((seed * 1009 + fold) * 7 + number)
