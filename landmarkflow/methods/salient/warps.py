"""Changes of pictures: where they are taken from, and their colours."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from landmarkflow.methods.salient.frames import Frame
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
    grid = torch.nn.functional.affine_grid(
        theta, [len(frames), 1, rows, columns], align_corners=False
    )
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
    mean = pictures.mean(dim=(1, 2, 3), keepdim=True)
    pictures = (pictures - mean) * (1 + drawn(settings.contrast)) + mean
    pictures = pictures + drawn(settings.brightness)
    if settings.colour:
        grey = pictures.mean(dim=1, keepdim=True)
        pictures = grey + (pictures - grey) * (1 + 1.5 * drawn(settings.colour))
        pictures = pictures * (1 + drawn(settings.colour / 2, 3))
    if settings.noise:
        spread = torch.tensor(random.uniform(0, settings.noise, (count, 1, 1, 1)))
        noise = random.standard_normal(tuple(pictures.shape), np.float32)
        pictures = pictures + spread.float() * torch.from_numpy(noise)
    return pictures
