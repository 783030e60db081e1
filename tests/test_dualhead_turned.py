"""The turned pass of the two-headed network: targets are seen as the template's lies."""

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from dualhead_phantoms import LABELS, phantom
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation
from torch import Tensor, nn

from landmarkflow.core.grids import Grid
from landmarkflow.images.operations import image_on
from landmarkflow.methods.dualhead.examples import Examples, Statistics
from landmarkflow.methods.dualhead.find import Finder, Found
from landmarkflow.methods.dualhead.gather import example_of
from landmarkflow.methods.dualhead.network import DualHead, new_networks, take_over
from landmarkflow.methods.dualhead.seen import Seer
from landmarkflow.methods.dualhead.settings import (
    CloseSettings,
    GatherSettings,
    PassSettings,
    PredictSettings,
    TrainSettings,
    TurnedSettings,
)
from landmarkflow.methods.dualhead.turns import Turn, turn_of
from landmarkflow.methods.dualhead.views import View
from landmarkflow.methods.dualhead.windows import Windows

Array = NDArray[np.float64]

CPU = torch.device("cpu")
TEMPLATE = np.array([[-4.0, -1.5, 0.5], [3.0, -2.5, -2.0], [2.0, 4.0, 1.5]])
PEAKS = np.array([1.0, 0.7, 0.45])
ROTATION = Rotation.from_rotvec([0.9, -1.4, 0.5]).as_matrix()
TRAIN = TrainSettings(
    coarse=PassSettings(window=16, levels=2, channels=4, sigma_voxels=1.0, steps=2),
    fine=PassSettings(window=16, levels=2, channels=4, sigma_voxels=1.5, steps=2, shift_mm=1),
    turned=TurnedSettings(steps=2, rotation_degrees=0),
    rotation_degrees=180,
    scale=0,
    stretch=0,
    bend_mm=0,
    other_background=0,
    cut=0,
)


def test_a_rotation_is_told_by_three_landmarks_and_by_no_line() -> None:
    here = TEMPLATE @ ROTATION.T + [10.0, 20, 30]
    weights = np.array([1.0, 3, 2])
    turn = turn_of(here, TEMPLATE, weights)
    assert turn is not None
    np.testing.assert_allclose(turn.rotation, ROTATION, atol=1e-9)
    np.testing.assert_allclose(turn.about, weights @ here / 6, atol=1e-9)
    # In the turned scan the landmarks lie as in the template, but for a shift.
    upright = turn.from_scan(here)
    np.testing.assert_allclose(np.diff(upright, axis=0), np.diff(TEMPLATE, axis=0), atol=1e-9)
    np.testing.assert_allclose(turn.to_scan(upright), here, atol=1e-9)
    assert turn_of(here, TEMPLATE, np.array([1.0, 1, 0])) is None
    assert turn_of(np.array([here[0], here[1], [np.nan] * 3]), TEMPLATE, weights) is None
    line = np.array([[0.0, 0, 0], [1, 1, 1], [3, 3, 3.1]])
    assert turn_of(line, TEMPLATE, weights) is None


def test_a_turned_view_shows_the_scan_upright() -> None:
    grid = Grid((64, 60, 56), np.array([0.4, 0.45, 0.5]), np.array([-12.0, 4, 7]), np.eye(3))
    centre = grid.centre
    here = TEMPLATE @ ROTATION.T + centre
    view = View(_blobs(grid, here), 0.0, 1.0, Turn(ROTATION, centre))
    shown = view.on(Grid.centred(centre, (33, 33, 33), 0.5))
    expected = _blobs(Grid.centred(centre, (33, 33, 33), 0.5), TEMPLATE + centre)
    plain = View(expected, 0.0, 1.0).on(Grid.centred(centre, (33, 33, 33), 0.5))
    # Interpolation between voxels takes some off the peaks.
    assert np.abs(shown - plain).max() < 0.04


def test_windows_of_the_turned_pass_lie_as_the_template_does() -> None:
    scans = []
    for number, name in enumerate(("template", "s1", "s2")):
        image, labels, centres = phantom(number)
        turn = Rotation.from_rotvec([0.4 * number, -0.7 * number, 0.2]).as_matrix()
        scans.append(
            example_of(
                name, image, segmentation=labels, positions=centres @ turn.T, labels=(1, 2, 3),
                settings=GatherSettings(low=-200, high=1400, coarse_mm=2, fine_mm=1),
            )
        )  # fmt: skip
    examples = Examples(LABELS, (1, 2, 3), "right", -200.0, 1400.0, tuple(scans), TEMPLATE)
    windows = Windows(examples.scans, "turned", TRAIN, 4, examples.template)
    for number in range(3):
        for window in (
            windows.draw(number, np.random.default_rng([3, number])),
            windows.plain(scans[number], scans[number].centre),
        ):
            steps = np.diff(window.points.numpy(), axis=0)
            expected = np.diff(TEMPLATE, axis=0)
            cosine = (steps * expected).sum(1) / np.linalg.norm(steps, axis=1)
            np.testing.assert_allclose(cosine, np.linalg.norm(expected, axis=1), rtol=0.02)
    fine = Windows(examples.scans, "fine", TRAIN, 4, examples.template)
    drawn = [fine.draw(0, np.random.default_rng([4, step])).points.numpy() for step in range(3)]
    assert np.std([np.diff(points, axis=0) for points in drawn], axis=0).max() > 1


def test_a_turned_network_starts_as_the_fine_one_and_a_close_one_sees_turned_targets() -> None:
    assert list(TRAIN.passes) == ["coarse", "fine", "turned"]
    both = TRAIN.model_copy(update={"close": CloseSettings(steps=2, window=8)})
    assert list(both.passes) == ["coarse", "fine", "turned", "close"]
    assert [both.rotation_of(name) for name in both.passes] == [180, 180, 0, 0]
    alone = both.model_copy(update={"turned": TurnedSettings()})
    assert [alone.rotation_of(name) for name in alone.passes] == [180, 180, 180]
    networks = new_networks(TRAIN, 3, 3)
    take_over(networks["turned"], networks["fine"])
    window = torch.rand((1, 1, 8, 8, 8), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.equal(networks["turned"](window), networks["fine"](window))


class Knows(DualHead):
    """A network that knows three blobs by the height of their peaks, in any orientation."""

    def __init__(self, settings: PassSettings) -> None:
        super().__init__(settings, 2, 3)

    def forward(self, windows: Tensor) -> Tensor:
        """Background, label, and a heat map for each blob."""
        bright = windows[:, :1]
        top = (bright == nn.functional.max_pool3d(bright, 5, 1, 2)) & (bright > 0.3)
        nearest = (bright[:, None] - torch.tensor(PEAKS).view(1, 3, 1, 1, 1, 1)).abs().argmin(1)
        heat = []
        for number in range(3):
            near = nn.functional.max_pool3d((top & (nearest == number)).float(), 7, 1, 3)
            heat.append(torch.log(near * bright**2 + 1e-9) + 5)
        marked = 20 * (bright - 0.3)
        return torch.cat([-marked, marked, *heat], dim=1)


class Shifted(Knows):
    """One whose heat maps are a voxel too far along x of its window."""

    def forward(self, windows: Tensor) -> Tensor:
        """What the other says, its heat maps moved."""
        seen = super().forward(windows)
        return torch.cat([seen[:, :2], seen[:, 2:].roll(1, -1)], dim=1)


def _blobs(grid: Grid, centres: Array) -> sitk.Image:
    index = np.stack(np.meshgrid(*(np.arange(n) for n in grid.size), indexing="ij"), -1)
    points = grid.to_physical(index.reshape(-1, 3).astype(np.float64))
    square = ((points[None] - centres[:, None]) ** 2).sum(axis=2)
    values = (PEAKS[:, None] * np.exp(-0.5 * square / 1.3**2)).max(axis=0)
    return image_on(grid, values.reshape(grid.size).T.astype(np.float32))


@pytest.mark.parametrize("count", [3, 2])
def test_what_is_found_in_the_turned_scan_lies_in_the_scan(count: int) -> None:
    grid = Grid((56, 54, 52), np.full(3, 0.5), np.array([5.0, -20, 30]), np.eye(3))
    here = TEMPLATE @ ROTATION.T + grid.centre
    shown = here.copy()
    shown[count:] += 1000
    coarse = PassSettings(window=16, levels=2, sigma_voxels=1.5)
    fine = PassSettings(window=40, levels=2, sigma_voxels=2.0)

    def seer(network: type[Knows], settings: PassSettings) -> Seer:
        return Seer([network(settings).eval()], settings, "softmax", 1, 0.25, CPU)

    finder = Finder(
        seer(Knows, coarse),
        seer(Knows, fine),
        (1.0, 0.5),
        Statistics(6.0, None, ()),
        PredictSettings(block_voxels=48),
        TEMPLATE,
        turned=seer(Shifted, fine),
        # Two landmarks do not tell how a target lies: it is seen as it is, closely, too.
        close=seer(Shifted, fine) if count == 2 else None,
    )
    found = finder.find(View(_blobs(grid, shown), 0.0, 1.0))
    np.testing.assert_allclose(found.fine[:count], here[:count], atol=0.12)
    # One voxel along x of the window is one along the template's x, turned, where that is known.
    off = 0.5 * (ROTATION if count == 3 else np.eye(3))[:, 0]
    np.testing.assert_allclose(
        found.positions[:count] - here[:count], np.tile(off, (count, 1)), atol=0.12
    )
    _marks_the_blobs(found, here[:count])


def _marks_the_blobs(found: Found, centres: Array) -> None:
    """Labels lie in the scan's frame, whichever way the window was turned."""
    inside = found.answer.grid.to_physical(np.argwhere(found.kept)[:, ::-1].astype(np.float64))
    away = np.linalg.norm(inside[:, None] - centres[None], axis=2)
    assert away.min(axis=1).max() < 2.6
