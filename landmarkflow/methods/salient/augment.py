"""Pictures as they might have been taken, and with them the places that were looked at."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from landmarkflow.methods.salient.examples import Example, blurred
from landmarkflow.methods.salient.settings import TrainSettings
from landmarkflow.methods.salient.warps import coloured, places_of, warp_of, warped

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
        return Lesson(
            self.pictures.to(device),
            self.where.to(device),
            self.target.to(device),
            self.counts.to(device),
            self.maps,
        )


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
        maps = [warp_of(frame, settings, random) for frame in frames]
    pictures = torch.from_numpy(np.stack([one.picture for one in examples])).float() / 255
    if settings is None or random is None:
        where = places_of(frames, torch.eye(3)[:2].expand(len(frames), 2, 3))
    else:
        pictures, where = warped(pictures, frames, maps)
        pictures = coloured(pictures, settings, random)
    lesson = Lesson(pictures, where, *_targets(examples, maps, where), tuple(maps))
    if settings is not None and random is not None and random.random() < settings.mixed:
        return mixed(lesson, random)
    return lesson


def mixed(lesson: Lesson, random: np.random.Generator) -> Lesson:
    """Pictures of which one side, or the upper or lower part, is the next picture's."""
    share, axis, first = random.uniform(0.3, 0.7), int(random.integers(2)), random.random() < 0.5

    def put(values: Tensor) -> Tensor:
        along = 3 - axis if values.ndim == 4 else 2 - axis
        steps = (torch.arange(values.shape[along]) + 0.5) / values.shape[along]
        taken = steps < share if first else steps >= share
        shape = [1] * values.ndim
        shape[along] = -1
        return torch.where(taken.view(shape), values.roll(1, dims=0), values)

    target = put(lesson.target)
    whole = target.sum(dim=(1, 2), keepdim=True).clamp(min=1e-6)
    where, counts = put(lesson.where), put(lesson.counts)
    return Lesson(put(lesson.pictures), where, target / whole, counts, lesson.maps)


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
