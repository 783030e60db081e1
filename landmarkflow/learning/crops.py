"""Crops of pictures: one grid of pixels laid over a picture, and one sampling, for all that crop.

Pixels are squares with their centres at whole numbers from 0 on, so a picture of width W spans
-0.5 to W - 0.5. Every step between two pictures (letterbox, region of interest, augmentation, heat
map) is a `Frame`, and places go through it both ways without a shift.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Frame:
    """A grid of pixels over a picture.

    Attributes:
        centre: (2,) x, y in pixels of the picture, of the middle of the grid.
        axes: (2, 2) its columns are the steps, in pixels of the picture, from a pixel of the grid
            to the next along x and along y.
        size: width and height of the grid, pixels.
    """

    centre: Array
    axes: Array
    size: tuple[int, int]

    @staticmethod
    def upright(centre: Sequence[float] | Array, scale: float, size: tuple[int, int]) -> "Frame":
        """One along the picture's axes, each of whose pixels is `scale` of the picture's wide."""
        return Frame(np.asarray(centre, dtype=np.float64), scale * np.eye(2), size)

    @property
    def middle(self) -> Array:
        """(2,) the middle in pixels of the grid; between two pixels where a size is even."""
        return (np.array(self.size, dtype=np.float64) - 1) / 2

    @property
    def scale(self) -> float:
        """Width of a pixel of the grid, in pixels of the picture (the root of its area)."""
        return math.sqrt(abs(float(np.linalg.det(self.axes))))

    def to_picture(self, points: Array) -> Array:
        """(..., 2) pixels of the grid as pixels of the picture."""
        return np.asarray((points - self.middle) @ self.axes.T + self.centre)

    def to_grid(self, points: Array) -> Array:
        """(..., 2) pixels of the picture as pixels of the grid."""
        return np.asarray((points - self.centre) @ np.linalg.inv(self.axes).T + self.middle)

    @property
    def places(self) -> Tensor:
        """(height, width, 2) the pixels of the picture that those of the grid lie on."""
        return _places([self])[0]

    def coarser(self, factor: int) -> "Frame":
        """The grid whose pixels each cover a square of so many pixels of this one."""
        return Frame(
            self.centre, self.axes * factor, (self.size[0] // factor, self.size[1] // factor)
        )

    def moved(self, centre: Array, zoom: float, size: tuple[int, int]) -> "Frame":
        """One turned as this is, elsewhere, with pixels `zoom` times as wide, of another size."""
        return Frame(np.asarray(centre, dtype=np.float64), self.axes * zoom, size)

    def mirrored(self) -> "Frame":
        """One whose pixel x is the pixel W - 1 - x of this one."""
        return replace(self, axes=self.axes * np.array([-1.0, 1.0]))


@dataclass(frozen=True, eq=False)
class Pyramid:
    """A picture, and the same at a half, a quarter, ... of its resolution.

    Attributes:
        levels: (channels, rows, columns) each, of the picture's own type; a pixel of a level is
            the mean of four of the level before, so its centre x lies at 2^level · (x + 0.5) - 0.5.
    """

    levels: tuple[Tensor, ...]

    @property
    def width(self) -> int:
        """Of the picture, pixels."""
        return int(self.levels[0].shape[2])

    @staticmethod
    def of(picture: Tensor, smallest: int = 32) -> "Pyramid":
        """That of a picture (channels, rows, columns), down to about so many pixels."""
        levels = [picture]
        while min(levels[-1].shape[1:]) >= 2 * smallest:
            below = levels[-1].float()
            odd = (0, below.shape[2] % 2, 0, below.shape[1] % 2)
            padded = nn.functional.pad(below[None], odd, mode="replicate")
            half = nn.functional.avg_pool2d(padded, 2)[0]
            levels.append((half if picture.is_floating_point() else half.round()).to(picture.dtype))
        return Pyramid(tuple(levels))

    def crop(self, frame: Frame) -> Tensor:
        """(channels, height, width) float32 of the picture on a grid, 0 beyond the picture.

        It is sampled linearly at the level whose pixels are nearest in width to the grid's.
        """
        level = min(max(round(math.log2(max(frame.scale, 1e-6))), 0), len(self.levels) - 1)
        picture, width = self.levels[level], 2.0**level
        # The level as a frame's picture: the same places counted in its wider pixels.
        there = Frame((frame.centre + 0.5) / width - 0.5, frame.axes / width, frame.size)
        ends = np.array([[x, y] for x in (0, frame.size[0] - 1) for y in (0, frame.size[1] - 1)])
        seen = there.to_picture(ends)
        # Only the part that is touched is made float, with a pixel around it for the sampling.
        low = np.clip(np.floor(seen.min(axis=0)) - 1, 0, None).astype(int)
        high = np.ceil(seen.max(axis=0)).astype(int) + 2
        part = picture[:, low[1] : max(high[1], 0), low[0] : max(high[0], 0)].float()
        rows, columns = part.shape[1:]
        if not rows or not columns:
            return torch.zeros((len(picture), frame.size[1], frame.size[0]))
        moved = replace(there, centre=there.centre - low)
        return _sampled(part[None], _places([moved]))[0]


def _places(frames: Sequence[Frame]) -> Tensor:
    """(n, height, width, 2) pixels of the pictures that the pixels of grids of one size lie on."""
    width, height = frames[0].size
    axes = torch.from_numpy(np.stack([frame.axes for frame in frames]))[:, None]
    start = torch.from_numpy(np.stack([frame.to_picture(np.zeros(2)) for frame in frames]))
    across = torch.arange(width).double()[:, None] * axes[..., 0]
    down = torch.arange(height).double()[:, None] * axes[..., 1] + start[:, None]
    return across[:, None] + down[:, :, None]


def _sampled(pictures: Tensor, places: Tensor) -> Tensor:
    """Pictures (n, c, rows, columns) linearly at places (n, height, width, 2), 0 beyond them."""
    rows, columns = pictures.shape[2:]
    # To -1 ... 1 over the outer edges.
    sizes = torch.tensor([columns, rows], dtype=places.dtype)
    grid = ((2 * places + 1) / sizes - 1).to(pictures.device, pictures.dtype)
    return nn.functional.grid_sample(pictures, grid, mode="bilinear", align_corners=False)


def regridded(maps: Tensor, sources: Sequence[Frame], targets: Sequence[Frame]) -> Tensor:
    """Maps on some grids as they are on other grids over the same pictures.

    Args:
        maps: (n, c, height, width).
        sources: the n grids that the maps lie on.
        targets: n grids of one size.
    """
    steps = []
    for source, target in zip(sources, targets, strict=True):
        inverse = np.linalg.inv(source.axes)
        steps.append(Frame(source.to_grid(target.centre), inverse @ target.axes, target.size))
    return _sampled(maps, _places(steps))
