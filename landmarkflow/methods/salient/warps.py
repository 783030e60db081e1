"""Changes of pictures: where they are taken from, and their colours."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from landmarkflow.methods.salient.frames import Frame
from landmarkflow.methods.salient.network import blurred_maps
from landmarkflow.methods.salient.settings import TrainSettings

Array = NDArray[np.float64]


def places_of(frames: Sequence[Frame], theta: Tensor) -> Tensor:
    """(n, 2, rows, columns) where each cell of a map lies in its picture, as shares.

    Args:
        frames: of the pictures.
        theta: (n, 2, 3) from normalised places of the map to those of the input, as torch has it.
    """
    first = frames[0]
    rows, columns = first.input_height // first.stride, first.input_width // first.stride
    grid = functional.affine_grid(theta, [len(frames), 1, rows, columns], align_corners=False)
    extent = torch.tensor([frame.extent for frame in frames], dtype=grid.dtype)
    return ((grid + 1) / 2 / extent[:, None, None]).permute(0, 3, 1, 2)


def warp_of(frame: Frame, settings: TrainSettings, random: np.random.Generator) -> Array:
    """(3, 3) from places of the new picture to those of the old, both from -1 to 1."""
    sign = -1.0 if random.random() < settings.mirror else 1.0
    size = np.exp(random.uniform(-1, 1) * np.log1p(settings.scale))
    angle = np.deg2rad(random.uniform(-1, 1) * settings.rotation_degrees)
    shift = random.uniform(-1, 1, 2) * settings.shift
    half = np.array([frame.input_width, frame.input_height]) / 2
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    linear = np.diag(1 / half) @ (turn * size) @ np.diag([sign, 1.0]) @ np.diag(half)
    middle = np.array(frame.extent) - 1
    whole = np.eye(3)
    whole[:2, :2] = linear
    whole[:2, 2] = middle + 2 * shift * np.array(frame.extent) - linear @ middle
    return whole


def warped(
    pictures: Tensor, frames: Sequence[Frame], maps: Sequence[Array]
) -> tuple[Tensor, Tensor]:
    """Changed pictures, and where each cell of their maps lies in the old ones (`places_of`).

    Beyond a picture its border goes on, not the black beside it.

    Args:
        pictures: (n, 3, height, width).
        frames: of the pictures.
        maps: of each, as `warp_of` gives them.
    """
    theta = torch.tensor(np.array([each[:2] for each in maps]), dtype=torch.float32)
    grid = functional.affine_grid(theta, list(pictures.shape), align_corners=False)
    extent = torch.tensor([frame.extent for frame in frames], dtype=torch.float32)
    pixel = 2 / torch.tensor([pictures.shape[3], pictures.shape[2]])
    last = (2 * extent - 1)[:, None, None] - pixel
    found = functional.grid_sample(
        pictures, torch.minimum(grid, last), padding_mode="border", align_corners=False
    )
    return found, places_of(frames, theta)


def coloured(pictures: Tensor, settings: TrainSettings, random: np.random.Generator) -> Tensor:
    """Pictures (n, 3, height, width) with other contrast, brightness, colours and noise."""
    count = len(pictures)

    def drawn(largest: float, channels: int = 1) -> Tensor:
        values = random.uniform(-largest, largest, (count, channels, 1, 1))
        return torch.tensor(values, dtype=torch.float32)

    pictures = pictures.clamp(0, 1) ** torch.exp(drawn(settings.gamma))
    # One multiplication and one addition a pixel: brightness and contrast are a straight line.
    mean = pictures.mean(dim=(1, 2, 3), keepdim=True)
    slope = 1 + drawn(settings.contrast)
    pictures = torch.addcmul(mean * (1 - slope) + drawn(settings.brightness), pictures, slope)
    if settings.colour:
        grey = pictures.mean(dim=1, keepdim=True)
        other = torch.lerp(grey, pictures, 1 + 1.5 * drawn(settings.colour))
        pictures = other * (1 + drawn(settings.colour / 2, 3))
    if settings.shade or settings.grain or settings.blur_px:
        pictures = _seen_through(pictures, settings, random)
    if settings.noise:
        spread = torch.tensor(random.uniform(0, settings.noise, (count, 1, 1, 1)))
        noise = torch.empty_like(pictures).normal_(generator=_generator(random))
        pictures = torch.addcmul(pictures, noise, spread.float())
    return pictures


def _generator(random: np.random.Generator) -> torch.Generator:
    """A stream of torch's own, which is faster, begun by one of numpy's."""
    return torch.Generator().manual_seed(int(random.integers(2**31)))


def _seen_through(pictures: Tensor, settings: TrainSettings, random: np.random.Generator) -> Tensor:
    """Pictures with light that differs from place to place, speckle of another size, and blur."""
    count, _, height, width = pictures.shape
    stream = _generator(random)

    def spread(largest: float) -> Tensor:
        return torch.tensor(random.uniform(0, largest, (count, 1, 1, 1)), dtype=torch.float32)

    def field(rows: int, columns: int) -> Tensor:
        drawn = torch.empty(count, 1, rows, columns).normal_(generator=stream)
        return functional.interpolate(
            drawn, size=(height, width), mode="bilinear", align_corners=False
        )

    if settings.shade:
        light = (0.5 * field(4, 5)).clamp(-1, 1)
        pictures = pictures * (1 + spread(settings.shade) * light)
    if settings.grain:
        grain = int(random.integers(1, 5))
        speckle = field(-(-height // grain), -(-width // grain))
        pictures = pictures * (1 + spread(settings.grain) * speckle).clamp(min=0)
    if settings.blur_px:
        sigma = torch.tensor(max(1e-3, float(random.uniform(0, settings.blur_px))))
        flat = blurred_maps(pictures.reshape(-1, 1, height, width), sigma)
        pictures = flat.view(pictures.shape)
    return pictures
