"""What networks say of parts of a scan."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from monai.inferers.inferer import SlidingWindowInferer
from numpy.typing import NDArray
from torch import Tensor, nn

from landmarkflow.core.grids import Grid
from landmarkflow.methods.dualhead.losses import heat_of
from landmarkflow.methods.dualhead.network import DualHead
from landmarkflow.methods.dualhead.settings import (
    PassSettings,
    PredictSettings,
    TrainSettings,
)
from landmarkflow.methods.dualhead.views import covering

Array = NDArray[np.float64]
Maps = NDArray[np.float32]

# A part up to so many times as wide as the window that a network learned from is seen at once:
# what it holds is much the same, and seams cost more than they bring.
AT_ONCE = 1.45


@dataclass(frozen=True, eq=False)
class Answer:
    """What networks say of a grid.

    Attributes:
        grid: along LPS.
        labels: (classes, z, y, x) probabilities of background and labels; of size 0 without.
        heat: (k, z, y, x), nowhere negative; of size 0 without.
        presence: (k,) probability that the landmark is there.
        single: for each network its heat maps.
    """

    grid: Grid
    labels: Maps
    heat: Maps
    presence: Array
    single: tuple[Maps, ...] = ()


@dataclass(frozen=True)
class Seer:
    """The networks of one pass, by which a part of a scan is seen.

    Attributes:
        networks: of one pass, of all folds that count.
        settings: of the pass.
        loss: of the landmarks, which says what a heat map is.
        rotations: orientations in which each part is seen: 1, or 24.
        overlap: of windows, as a share.
        device: where to compute.
    """

    networks: Sequence[nn.Module]
    settings: PassSettings
    loss: str
    rotations: int
    overlap: float
    device: torch.device

    def answer(self, values: Maps, grid: Grid) -> Answer:
        """What all networks together say of (z, y, x) intensities on a grid: the mean of each's."""
        classes = _dual(self.networks[0]).classes
        labels: Maps | None = None
        heat: Maps | None = None
        presence: Array | None = None
        single: list[Maps] = []
        for network in self.networks:
            logits = self._logits(network, values)
            own: Maps = torch.softmax(logits[:classes], dim=0).numpy()
            found, shares = heat_of(logits[classes:], self.loss)
            there = np.asarray(shares.numpy(), dtype=np.float64)
            single.append(found.numpy())
            presence = there if presence is None else presence + there
            labels = own if labels is None else labels + own
            heat = single[-1] if heat is None else heat + single[-1]
        assert labels is not None and heat is not None and presence is not None
        count = len(self.networks)
        share = np.float32(1 / count)
        return Answer(grid, labels * share, heat * share, presence / count, tuple(single))

    def _logits(self, network: nn.Module, values: Maps) -> Tensor:
        """(channels, z, y, x), the mean over orientations."""
        whole: Tensor | None = None
        turns = proper_rotations()[: self.rotations]
        for axes, flips in turns:
            turned = np.flip(np.transpose(values, axes), flips)
            seen = self._windows(network, np.ascontiguousarray(turned))
            back = torch.flip(seen, [flip + 1 for flip in flips])
            inverse = np.argsort(axes)
            back = back.permute(0, *(int(axis) + 1 for axis in inverse))
            whole = back if whole is None else whole + back
        assert whole is not None
        return whole / len(turns)

    def _windows(self, network: nn.Module, values: Maps) -> Tensor:
        """(channels, z, y, x) of one orientation, in one window or in sliding ones."""
        step = 2 ** (self.settings.levels - 1)
        window = self.settings.window
        size = [-(-count // step) * step for count in values.shape]
        if max(size) > AT_ONCE * window:
            size = [window] * 3
        inferer = SlidingWindowInferer(
            roi_size=size,
            sw_batch_size=1,
            overlap=self.overlap,
            mode="gaussian",
            device=torch.device("cpu"),
            sw_device=self.device,
        )
        with torch.inference_mode():
            found = inferer(torch.from_numpy(values)[None, None], network)
        assert isinstance(found, Tensor)
        return found[0]


def _dual(network: nn.Module) -> DualHead:
    assert isinstance(network, DualHead)
    return network


def proper_rotations() -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """The 24 rotations of a cube: an order of the axes, then axes to flip; the first is none."""
    found: list[tuple[tuple[int, ...], tuple[int, ...]]] = []
    for axes in ((0, 1, 2), (1, 2, 0), (2, 0, 1), (0, 2, 1), (2, 1, 0), (1, 0, 2)):
        even = axes in ((0, 1, 2), (1, 2, 0), (2, 0, 1))
        for number in range(8):
            flips = tuple(axis for axis in range(3) if number >> axis & 1)
            if (len(flips) % 2 == 0) == even:
                found.append((axes, flips))
    return found


def blocks(low: Array, high: Array, spacing: float, side: int, shared: int) -> Iterator[Grid]:
    """Grids that cover a box, none wider than `side` voxels, neighbours sharing some voxels.

    Args:
        low: (3,) corner of the box, LPS mm.
        high: (3,) the opposite corner.
        spacing: mm.
        side: of a grid, voxels.
        shared: voxels that neighbours share.
    """
    whole = covering(low, high, spacing)
    size = np.array(whole.size)
    starts = []
    for count in size:
        last = max(0, int(count) - side)
        steps = -(-last // max(1, side - shared)) if last else 0
        starts.append([round(last * k / steps) for k in range(steps + 1)] if steps else [0])
    for x in starts[0]:
        for y in starts[1]:
            for z in starts[2]:
                first = np.array([x, y, z])
                count = np.minimum(side, size - first)
                origin = whole.to_physical(first[None].astype(np.float64))[0]
                sizes = (int(count[0]), int(count[1]), int(count[2]))
                yield Grid(sizes, whole.spacing, origin, np.eye(3))


def seer_of(
    by_fold: Mapping[str, nn.ModuleDict],
    name: str,
    train: TrainSettings,
    predict: PredictSettings,
    device: torch.device,
) -> Seer:
    """The networks of one pass of several folds."""
    networks = [of_fold[name] for of_fold in by_fold.values()]
    rotations = 24 if predict.orientations == "all" else 1
    of_pass = train.passes[name]
    loss = train.landmark_loss
    return Seer(networks, of_pass, loss, rotations, predict.overlap, device)
