"""Look at a picture with networks."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from landmarkflow.methods.salient.frames import Frame
from landmarkflow.methods.salient.maps import LEAST, Seen
from landmarkflow.methods.salient.network import Together
from landmarkflow.methods.salient.settings import GazeSettings, TrainSettings
from landmarkflow.methods.salient.warps import coloured, places_of, warp_of, warped

# How views of a picture differ, by which features that tell nothing of a landmark are known.
CHANGED = TrainSettings(
    mirror=0.5,
    rotation_degrees=15,
    scale=0.15,
    shift=0.05,
    contrast=0.3,
    brightness=0.15,
    colour=0.3,
    gamma=0.3,
    noise=0.02,
)


@dataclass(frozen=True, eq=False)
class Looks:
    """What one network says of a picture, as it is and changed, all laid back onto the picture.

    Attributes:
        maps: (rows, columns) probabilities of the picture, and of its mirror image if it is looked
            at.
        changed: the same of each changed view, by the first network alone.
        features: of every look the levels (channels, rows, columns) of the first network.
    """

    maps: list[Tensor]
    changed: list[Tensor]
    features: list[list[Tensor]]

    def views(self, frame: Frame) -> NDArray[np.float32]:
        """(views, rows, columns) of the changed views, on the cells of a frame."""
        rows, columns = frame.cells
        kept = [view[:rows, :columns].float().numpy() for view in self.changed]
        return np.array(kept, np.float32).reshape(-1, rows, columns)


def looks(
    network: Together,
    frame: Frame,
    picture: NDArray[np.uint8],
    device: torch.device,
    *,
    mirror: bool,
    views: int,
) -> Looks:
    """Look at a picture as it is, mirrored, and changed.

    Args:
        network: in evaluation mode.
        frame: of the picture.
        picture: (3, height, width) uint8, fitted into the input.
        device: where the network is.
        mirror: whether the mirror image is looked at.
        views: number of changed views, the same for every picture.
    """
    shown = torch.from_numpy(picture.copy())[None].float() / 255
    where = places_of([frame], torch.eye(3)[None, :2])
    maps, changed, features = [], [], []
    with torch.inference_mode():
        for turned in (False, True) if mirror else (False,):
            # Of a picture that does not fill its input, the mirror image lies at the right.
            view, at = (shown.flip(3), _mirrored(where)) if turned else (shown, where)
            logits, levels = network(view.to(device), at.to(device))
            found = _probabilities(logits)
            maps.append((found.flip(1) if turned else found).cpu())
            features.append([(x.flip(3) if turned else x)[0].float().cpu() for x in levels])
        for number in range(views):
            random = np.random.default_rng([11, number])
            change = warp_of(frame, CHANGED, random)
            view, at = warped(shown, [frame], [change])
            logits, levels = network.first(
                coloured(view, CHANGED, random).to(device), at.to(device)
            )
            changed.append(_laid_back(_probabilities(logits).cpu()[None, None], change)[0, 0])
            features.append([_laid_back(x.float().cpu(), change)[0] for x in levels])
    return Looks(maps, changed, features)


def _probabilities(logits: Tensor) -> Tensor:
    """(rows, columns) of sum 1, of the logits of one picture."""
    return torch.softmax(logits.double().flatten(), 0).view(logits.shape[1:])


def _mirrored(where: Tensor) -> Tensor:
    sign, shift = torch.tensor([-1.0, 1.0]), torch.tensor([1.0, 0.0])
    return where.flip(3) * sign.view(1, 2, 1, 1) + shift.view(1, 2, 1, 1)


def _laid_back(level: Tensor, change: NDArray[np.float64]) -> Tensor:
    """Values (1, channels, rows, columns) of a changed view, as if it had not been changed."""
    theta = torch.tensor(np.linalg.inv(change)[None, :2], dtype=level.dtype)
    grid = functional.affine_grid(theta, list(level.shape), align_corners=False)
    return functional.grid_sample(level, grid, padding_mode="border", align_corners=False)


def see(
    networks: Sequence[Together],
    frame: Frame,
    picture: NDArray[np.uint8],
    device: torch.device,
    *,
    mirror: bool,
    views: int,
) -> Seen:
    """What networks say of a picture: maps of all, features of the first; arguments as in `looks`.

    Features are means over all looks: a structure has the same ones on either side.
    """
    first, *others = (
        looks(network, frame, picture, device, mirror=mirror, views=0 if number else views)
        for number, network in enumerate(networks)
    )
    total = torch.stack(first.maps).mean(dim=0)
    for other in others:
        total = total + torch.stack(other.maps).mean(dim=0)
    rows, columns = frame.cells
    kept = total[:rows, :columns].numpy()
    saliency = (kept / kept.sum()).astype(np.float32)
    return Seen(saliency, mean_of(first.features), first.views(frame))


def on_cells_of(frame: Frame, other: Frame, saliency: NDArray[np.floating]) -> NDArray[np.float64]:
    """(rows, columns) a map on the cells of another frame of its picture, of sum 1.

    Args:
        frame: of the cells that are asked for.
        other: of the map.
        saliency: the map.
    """
    rows, columns = frame.cells
    cells = np.stack(np.meshgrid(np.arange(columns), np.arange(rows)), axis=-1).reshape(-1, 2)
    at = other.to_cells(frame.to_pixels(cells.astype(np.float64)))
    logs = np.log(np.maximum(saliency.astype(np.float64), LEAST))
    found = np.exp(ndimage.map_coordinates(logs, [at[:, 1], at[:, 0]], order=3, mode="nearest"))
    return np.asarray((found / found.sum()).reshape(rows, columns))


def at_scales(
    networks: Sequence[Together],
    picture: NDArray[np.uint8],
    settings: GazeSettings,
    scales: Sequence[float],
    device: torch.device,
    *,
    mirror: bool,
) -> list[NDArray[np.float64]]:
    """Maps of a picture (rows, columns, 3) looked at in other sizes, on the cells of its own frame.

    Args:
        networks: whose maps are averaged.
        picture: as it is given.
        settings: of the networks' input.
        scales: sizes of the input, of its own.
        device: where the networks are.
        mirror: whether mirror images are looked at, too.
    """
    height, width = picture.shape[:2]
    frame, found = Frame.of(width, height, settings), []
    for scale in scales:
        # The encoder halves its input five times.
        size = {
            name: 32 * math.ceil(getattr(settings, name) * scale / 32)
            for name in ("width", "height")
        }
        other = Frame.of(width, height, settings.model_copy(update=size))
        shown = other.fitted(picture)
        seen = see(networks, other, shown, device, mirror=mirror, views=0)
        found.append(on_cells_of(frame, other, seen.saliency))
    return found


def mean_of(features: Sequence[Sequence[Tensor]]) -> tuple[NDArray[np.float32], ...]:
    """The mean of every level over looks."""
    return tuple(torch.stack(same).mean(dim=0).numpy() for same in zip(*features, strict=True))
