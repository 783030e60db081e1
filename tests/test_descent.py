"""Steps of a training: order, rate, one step down a loss, and the running mean of weights."""

import math

import pytest
import torch

from landmarkflow.core.errors import InputError
from landmarkflow.learning.descent import Schedule, descend, follow, in_turn


def test_the_rate_rises_and_then_falls_to_its_last_share() -> None:
    schedule = Schedule(steps=200, learning_rate=0.01, warm_up=0.05, last=0.1)
    rates = [schedule.rate(step) for step in range(200)]
    assert rates[0] == pytest.approx(0.001)
    assert max(rates) == pytest.approx(0.01, rel=0.01)
    assert rates.index(max(rates)) == 9
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[100] == pytest.approx(0.01 * (0.1 + 0.9 / 2))
    assert schedule.rate(200) == pytest.approx(0.001)


def test_a_step_shortens_a_long_gradient_and_tells_a_loss_that_is_not_finite() -> None:
    network = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(network.weight, 2.0)
    optimiser = torch.optim.SGD(network.parameters(), lr=1.0)
    schedule = Schedule(steps=4, learning_rate=0.5, warm_up=0, largest_gradient=3.0)
    loss = 100 * network(torch.ones(1, 1)).sum()
    assert descend(network, optimiser, loss, schedule=schedule, step=0) == 200
    assert network.weight.item() == pytest.approx(2 - 0.5 * 3, abs=1e-5)
    with pytest.raises(InputError) as refused:
        descend(network, optimiser, loss * math.inf, schedule=schedule, step=2, of=" of the fine")
    assert str(refused.value) == (
        "training diverges: the loss of step 3 of the fine is inf; expected a finite loss, choose "
        "a lower `learning_rate`"
    )


def test_each_comes_once_before_any_again_each_time_in_another_order() -> None:
    rounds = [[in_turn(7 * r + n, 7, (1, 2)) for n in range(7)] for r in range(3)]
    assert all(sorted(one) == list(range(7)) for one in rounds)
    assert rounds[0] != rounds[1] != rounds[2]
    assert rounds[0] != [in_turn(n, 7, (1, 3)) for n in range(7)]


def test_the_running_mean_follows_fast_at_first_and_takes_counts_as_they_are() -> None:
    mean, network = (torch.nn.BatchNorm1d(1) for _ in range(2))
    torch.nn.init.constant_(network.weight, 3.0)
    network.num_batches_tracked.fill_(5)
    follow(mean, network, step=0, most=0.9)
    assert mean.weight.item() == pytest.approx(0.1 * 1 + 0.9 * 3)
    follow(mean, network, step=10_000, most=0.9)
    assert mean.weight.item() == pytest.approx(0.9 * 2.8 + 0.1 * 3)
    assert mean.num_batches_tracked.item() == 5
