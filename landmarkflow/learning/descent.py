"""Steps of a training: what is learned from, how fast, one step down a loss, and their mean."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from landmarkflow.core.errors import InputError


@dataclass(frozen=True)
class Schedule:
    """The learning rate over a training: it rises linearly, then falls as half a cosine.

    Attributes:
        steps: of the whole training.
        learning_rate: the highest.
        warm_up: share of the steps in which the rate rises.
        last: share of the highest rate that is left at the end.
        largest_gradient: norm to which a longer gradient is shortened: a single batch must not
            throw the weights away.
    """

    steps: int
    learning_rate: float
    warm_up: float = 0.05
    last: float = 0.01
    largest_gradient: float = 5.0

    def rate(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        rising = min(1.0, (step + 1) / max(1.0, self.warm_up * self.steps))
        cosine = (1 + math.cos(math.pi * step / self.steps)) / 2
        return self.learning_rate * rising * (self.last + (1 - self.last) * cosine)


def descend(
    network: nn.Module,
    optimiser: torch.optim.Optimizer,
    loss: Tensor,
    *,
    schedule: Schedule,
    step: int,
    of: str = "",
) -> float:
    """Change the weights by one step down a loss.

    Args:
        network: whose gradient is shortened.
        optimiser: of its weights.
        loss: a number, computed by the network as it is.
        schedule: of the training.
        step: counted from 0 in the whole training.
        of: what learns, where there is more than one, for the message: ` of the coarse pass`.

    Returns:
        The loss.

    Raises:
        InputError: the loss is not finite.
    """
    value = float(loss.detach())
    if not math.isfinite(value):
        raise InputError(
            f"training diverges: the loss of step {step + 1}{of} is {value}; expected a finite "
            "loss, choose a lower `learning_rate`"
        )
    for group in optimiser.param_groups:
        group["lr"] = schedule.rate(step)
    optimiser.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(network.parameters(), schedule.largest_gradient)
    optimiser.step()
    return value


def follow(mean: nn.Module, network: nn.Module, *, step: int, most: float) -> None:
    """Move the running mean of the weights, and of the statistics of layers, after a step.

    Args:
        mean: of the same parts as the network.
        network: after the step.
        step: counted from 0 in the whole training.
        most: share of the mean that stays, once there are enough steps; fewer leave less.
    """
    share = min(most, (1 + step) / (10 + step))
    with torch.no_grad():
        own = mean.state_dict()
        for key, value in network.state_dict().items():
            if value.dtype.is_floating_point:
                own[key].lerp_(value, 1 - share)
            else:
                own[key].copy_(value)


def in_turn(number: int, count: int, streams: Sequence[int]) -> int:
    """Which of so many comes at a place: each once before any again, each time in another order.

    Args:
        number: the place, from 0 on.
        count: how many there are.
        streams: numbers that the random streams of the orders are made of.
    """
    order = np.random.default_rng([*streams, number // count, 1]).permutation(count)
    return int(order[number % count])
