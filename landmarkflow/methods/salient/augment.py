"""Pictures as they might have been taken, and with them the places that were looked at."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from landmarkflow.methods.salient.examples import Example, blurred
from landmarkflow.methods.salient.see import places_of
from landmarkflow.methods.salient.settings import TrainSettings

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Lesson:
    """A step's pictures.

    Attributes:
        pictures: (n, 3, height, width), 0 to 1.
        where: (n, 2, rows, columns) of each cell in its picture, shares.
        target: (n, rows, columns) density, of sum 1.
        counts: (n, rows, columns) how often a cell was looked at.
        maps: of each picture, (3, 3) from places of the new picture to those of the old, both from
            -1 to 1 across the input.
    """

    pictures: Tensor
    where: Tensor
    target: Tensor
    counts: Tensor
    maps: tuple[Array, ...]

    def on(self, device: torch.device) -> "Lesson":
        """The same on a device."""
        tensors = (self.pictures, self.where, self.target, self.counts)
        return Lesson(*(value.to(device) for value in tensors), self.maps)


def lesson_of(
    examples: Sequence[Example],
    settings: TrainSettings | None = None,
    random: np.random.Generator | None = None,
) -> Lesson:
    """Pictures and targets, changed by chance where a generator is given."""
    frames = [one.frame for one in examples]
    if settings is None or random is None:
        maps = [np.eye(3)] * len(examples)
    else:
        maps = [_warp(one, settings, random) for one in examples]
    theta = torch.tensor(np.array([each[:2] for each in maps]), dtype=torch.float32)
    pictures = torch.from_numpy(np.stack([one.picture for one in examples])).float() / 255
    where = places_of(frames, theta)
    if settings is not None and random is not None:
        grid = functional.affine_grid(theta, list(pictures.shape), align_corners=False)
        # Beyond a picture its border goes on, not the black beside it.
        extent = torch.tensor([frame.extent for frame in frames], dtype=torch.float32)
        last = (2 * extent - 1)[:, None, None] - 2 / torch.tensor(
            [pictures.shape[3], pictures.shape[2]]
        )
        pictures = functional.grid_sample(
            pictures, torch.minimum(grid, last), padding_mode="border", align_corners=False
        )
        pictures = _coloured(pictures, settings, random)
    return Lesson(pictures, where, *_targets(examples, maps, where), tuple(maps))


def _warp(one: Example, settings: TrainSettings, random: np.random.Generator) -> Array:
    """(3, 3) from places of the new picture to those of the old, both from -1 to 1."""
    frame = one.frame
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


def _coloured(pictures: Tensor, settings: TrainSettings, random: np.random.Generator) -> Tensor:
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


def moved(cells: Array, change: Array, shape: tuple[int, int]) -> Array:
    """Where places (n, 2) in cells of the old picture lie in the new one, of (rows, columns)."""
    size = np.array([shape[1], shape[0]])
    old = 2 * (cells + 0.5) / size - 1
    new = (old - change[:2, 2]) @ np.linalg.inv(change[:2, :2]).T
    return np.asarray((new + 1) / 2 * size - 0.5)


def _targets(
    examples: Sequence[Example], maps: Sequence[Array], where: Tensor
) -> tuple[Tensor, Tensor]:
    """Densities and counts of each cell, of the places that are still in the picture."""
    shape = (where.shape[2], where.shape[3])
    outside = ((where < 0) | (where > 1)).any(dim=1).numpy()
    density = np.zeros((len(examples), *shape), np.float32)
    counts = np.zeros((len(examples), *shape), np.float32)
    for number, (one, change) in enumerate(zip(examples, maps, strict=True)):
        size = np.array([shape[1], shape[0]])
        cells = moved(one.frame.to_cells(one.points), change, shape)
        zoom = float(np.sqrt(abs(np.linalg.det(change[:2, :2]))))
        sigma = one.sigma / one.frame.pixels_per_cell / zoom
        density[number] = blurred(cells, one.weights, sigma, shape)
        whole = np.rint(cells).astype(int)
        kept = ((whole >= 0) & (whole < size)).all(axis=1)
        np.add.at(counts[number], (whole[kept, 1], whole[kept, 0]), one.weights[kept])
    density[outside], counts[outside] = 0, 0
    density += 1e-12 * ~outside
    density /= density.sum(axis=(1, 2), keepdims=True)
    return torch.from_numpy(density), torch.from_numpy(counts)
