"""The close pass of the two-headed network: small windows around single landmarks."""

from pathlib import Path

import numpy as np
import pytest
import torch
from dualhead_phantoms import CENTRES, LABELS, Oracle, phantom
from numpy.typing import NDArray
from pydantic import ValidationError
from torch import Tensor

from landmarkflow.core.grids import Grid
from landmarkflow.images.operations import image_on
from landmarkflow.methods.dualhead.examples import Examples, Statistics
from landmarkflow.methods.dualhead.find import Finder
from landmarkflow.methods.dualhead.gather import example_of
from landmarkflow.methods.dualhead.network import new_networks, take_over
from landmarkflow.methods.dualhead.seen import Seer
from landmarkflow.methods.dualhead.settings import (
    CloseSettings,
    GatherSettings,
    PassSettings,
    PredictSettings,
    TrainSettings,
)
from landmarkflow.methods.dualhead.train import train
from landmarkflow.methods.dualhead.views import View
from landmarkflow.methods.dualhead.windows import Windows

CPU = torch.device("cpu")
COARSE = PassSettings(window=16, levels=2, channels=4, sigma_voxels=1.0, steps=2)
FINE = PassSettings(window=16, levels=2, channels=4, sigma_voxels=1.5, steps=2, shift_mm=1)
GATHER = GatherSettings(low=-200, high=1400, coarse_mm=2, fine_mm=1, fine_margin_mm=5)
CLOSE = CloseSettings(window=8, steps=4, shift_mm=0.5)
TRAIN = TrainSettings(coarse=COARSE, fine=FINE, close=CLOSE, steps_per_epoch=2, validation_scans=1)


@pytest.fixture(scope="module")
def examples() -> Examples:
    torch.set_num_threads(1)
    scans = []
    for number, name in enumerate(("template", "s1", "s2")):
        image, labels, centres = phantom(number)
        if number == 2:
            centres[1] = np.nan
        one = example_of(
            name, image, segmentation=labels, positions=centres, labels=(1, 2, 3), settings=GATHER
        )
        scans.append(one)
    return Examples(LABELS, (1, 2, 3), "right", -200.0, 1400.0, tuple(scans), CENTRES)


def test_windows_lie_around_single_landmarks(examples: Examples) -> None:
    windows = Windows(examples.scans, "close", TRAIN, 0, examples.template)
    nearest = set()
    for step in range(40):
        window = windows.draw(2, np.random.default_rng([1, step]))
        assert window.image.shape == (1, 8, 8, 8)
        points = window.points.numpy()
        away = np.linalg.norm(points - 3.5, axis=1)
        # Half a millimetre along each axis, and what turn, size and bend make of it.
        assert np.nanmin(away) < 1.5
        nearest.add(int(np.nanargmin(away)))
    assert nearest == {0, 2}


def test_the_close_network_starts_as_the_fine_one_and_a_killed_training_goes_on(
    examples: Examples, tmp_path: Path
) -> None:
    def trained(name: str) -> tuple[list[NDArray[np.float32]], list[tuple[str, int]]]:
        networks, history = train(
            examples, name, settings=TRAIN, seed=2, fold=0, device=CPU,
            checkpoint=tmp_path / f"{name}.npz",
        )  # fmt: skip
        weights = [value.numpy() for value in networks.state_dict().values()]
        return weights, [(epoch.network, epoch.epoch) for epoch in history]

    whole, history = trained("whole")
    assert history == [("coarse", 1), ("fine", 2), ("close", 3), ("close", 4)]

    class Killed(BaseException):
        pass

    for stop_after in (2, 3):

        def tell(name, history, settings, stop=stop_after) -> None:  # type: ignore[no-untyped-def]
            if len(history) == stop + 1:
                raise Killed

        name = f"killed{stop_after}"
        with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
            patch.setattr("landmarkflow.methods.dualhead.train._tell", tell)
            trained(name)
        for one, other in zip(whole, trained(name)[0], strict=True):
            np.testing.assert_array_equal(one, other)
    networks = new_networks(TRAIN, 3, 3)
    take_over(networks["close"], networks["fine"])
    window = torch.rand((1, 1, 8, 8, 8), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(networks["close"](window), networks["fine"](window)[:, 4:])


class Shifted(Oracle):
    """One whose heat maps are two voxels too far along x."""

    def forward(self, windows: Tensor) -> Tensor:
        """What the oracle says, its last channel moved."""
        seen = super().forward(windows)
        return torch.cat([seen[:, :2], seen[:, 2:].roll(2, -1)], dim=1)


class Blind(Oracle):
    """One that sees no landmark."""

    def forward(self, windows: Tensor) -> Tensor:
        """Heat maps of nothing."""
        return super().forward(windows) - 40


@pytest.mark.parametrize(("close", "off"), [(Oracle, 0.0), (Blind, 2.0), (None, 2.0)])
def test_a_landmark_is_read_off_the_window_around_it(
    close: type[Oracle] | None, off: float
) -> None:
    wide = PassSettings(window=16, levels=2, sigma_voxels=1.5)
    fine = PassSettings(window=24, levels=2, sigma_voxels=2.0)
    near = fine.model_copy(update={"window": 16})

    def seer(network: type[Oracle], settings: PassSettings) -> Seer:
        return Seer([network(settings).eval()], settings, "softmax", 1, 0.25, CPU)

    finder = Finder(
        seer(Oracle, wide),
        seer(Shifted, fine),
        (1.0, 0.5),
        Statistics(4.0, None, ()),
        PredictSettings(block_voxels=32),
        CENTRES[:1],
        close=seer(close, near) if close else None,
    )
    grid = Grid((48, 44, 40), np.full(3, 0.7), np.array([5.0, -20, 30]), np.eye(3))
    centre = grid.to_physical(np.array([[22.3, 20.8, 19.1]]))[0]
    index = np.stack(np.meshgrid(*(np.arange(n) for n in grid.size), indexing="ij"), -1)
    square = ((grid.to_physical(index.reshape(-1, 3).astype(float)) - centre) ** 2).sum(axis=1)
    values = np.exp(-0.5 * square / 1.3**2).reshape(grid.size).T
    found = finder.find(View(image_on(grid, values.astype(np.float32)), 0.0, 1.0))
    np.testing.assert_allclose(found.positions[0] - centre, [0.5 * off, 0, 0], atol=0.03)
    np.testing.assert_allclose(found.fine[0] - centre, [1, 0, 0], atol=0.03)


def test_without_steps_or_landmarks_there_is_no_close_pass_and_windows_must_fit() -> None:
    assert list(TRAIN.passes) == ["coarse", "fine", "close"]
    assert list(TrainSettings(close=CloseSettings(steps=0)).passes) == ["coarse", "fine"]
    alone = TRAIN.model_copy(update={"heads": ("segmentation",)})
    assert list(alone.passes) == ["coarse", "fine"]
    with pytest.raises(ValidationError, match=r"close.window \(20\) must be a multiple of 8"):
        TrainSettings(close=CloseSettings(steps=1, window=20))
