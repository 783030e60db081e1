"""What a network learns from: pictures fitted into its input, and places that were looked at."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from landmarkflow.core.errors import InputError
from landmarkflow.core.files import replacing
from landmarkflow.methods.salient.settings import GazeSettings

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Frame:
    """How a picture lies in the network's input: scaled by one factor, at the top left.

    Attributes:
        width: of the picture, pixels.
        height: the same.
        input_width: of the input, pixels.
        input_height: the same.
        stride: input pixels of a cell.
    """

    width: int
    height: int
    input_width: int
    input_height: int
    stride: int

    @classmethod
    def of(cls, width: int, height: int, settings: GazeSettings) -> "Frame":
        """The frame of a picture of this size."""
        return cls(width, height, settings.width, settings.height, settings.stride)

    @property
    def factor(self) -> float:
        """Input pixels of a picture's pixel."""
        return min(self.input_width / self.width, self.input_height / self.height)

    @property
    def extent(self) -> tuple[float, float]:
        """Shares of the input's width and height that the picture fills."""
        return (
            self.width * self.factor / self.input_width,
            self.height * self.factor / self.input_height,
        )

    @property
    def pixels_per_cell(self) -> float:
        """Pixels of the picture in a cell of the map."""
        return self.stride / self.factor

    @property
    def cells(self) -> tuple[int, int]:
        """Rows and columns of cells whose centre lies in the picture."""
        return (
            int(self.height / self.pixels_per_cell + 0.5),
            int(self.width / self.pixels_per_cell + 0.5),
        )

    def to_cells(self, points: Array) -> Array:
        """Pixels of the picture (n, 2) as cells; both count from the first one's centre."""
        return np.asarray((points + 0.5) / self.pixels_per_cell - 0.5)

    def to_pixels(self, cells: Array) -> Array:
        """Cells (n, 2) as pixels of the picture."""
        return np.asarray((cells + 0.5) * self.pixels_per_cell - 0.5)

    def fitted(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """A picture (height, width, 3) as the input (3, input height, input width)."""
        whole = Image.fromarray(picture)
        shape = max(1, round(self.width * self.factor)), max(1, round(self.height * self.factor))
        shrunk = np.asarray(whole.resize(shape, Image.Resampling.LANCZOS))
        laid = np.zeros((self.input_height, self.input_width, 3), np.uint8)
        laid[: shape[1], : shape[0]] = shrunk
        return laid.transpose(2, 0, 1)


@dataclass(frozen=True, eq=False)
class Example:
    """A picture to learn from.

    Attributes:
        scan: its id.
        fold: from 1 on, in which it is held back; 0 for none.
        frame: how it lies in the input.
        picture: (3, input height, input width) uint8.
        points: (n, 2) pixels of the picture that were looked at.
        weights: (n,) of the points.
        observers: (n,) numbers of those who looked.
        sigma: of the fixations' Gaussian, pixels of the picture.
        structures: names of annotated structures, for the names of clusters.
        places: (k, 2) pixels of the picture; NaN for one that is not annotated.
        scale: length that distances are compared with, pixels of the picture.
    """

    scan: str
    fold: int
    frame: Frame
    picture: NDArray[np.uint8]
    points: Array
    weights: Array
    observers: NDArray[np.int64]
    sigma: float
    structures: tuple[str, ...] = ()
    places: Array = np.zeros((0, 2))
    scale: float = float("nan")


def save_examples(path: Path, examples: Sequence[Example]) -> None:
    """Write examples to one file without pickle."""
    arrays: dict[str, NDArray[Any]] = {}
    known = []
    for number, one in enumerate(examples):
        for name in ("picture", "points", "weights", "observers", "places"):
            arrays[f"{number}/{name}"] = getattr(one, name)
        known.append(
            {
                "scan": one.scan,
                "fold": one.fold,
                "frame": vars(one.frame),
                "sigma": one.sigma,
                "structures": one.structures,
                "scale": one.scale,
            }
        )
    with replacing(path) as beside, beside.open("wb") as file:
        np.savez(file, known=np.array(json.dumps(known)), **arrays)  # type: ignore[arg-type]


def load_examples(path: Path) -> tuple[Example, ...]:
    """Read the examples of `save_examples`.

    Raises:
        InputError: the file is missing or damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            return tuple(
                Example(
                    scan=one["scan"],
                    fold=one["fold"],
                    frame=Frame(**one["frame"]),
                    sigma=one["sigma"],
                    structures=tuple(one["structures"]),
                    scale=one["scale"],
                    **{
                        name: stored[f"{number}/{name}"]
                        for name in ("picture", "points", "weights", "observers", "places")
                    },
                )
                for number, one in enumerate(json.loads(str(stored["known"])))
            )
    except (OSError, ValueError, KeyError, EOFError, TypeError) as error:
        raise InputError(f"{path}: cannot be read as examples to learn from ({error})") from error


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


def blurred(
    points: Array, weights: Array, sigma: float, shape: tuple[int, int]
) -> NDArray[np.float32]:
    """Gaussians at places (n, 2) in cells, summed over places, on (rows, columns) cells."""
    along = [
        np.exp(-0.5 * ((np.arange(count) - points[:, axis, None]) / sigma) ** 2)
        for axis, count in ((0, shape[1]), (1, shape[0]))
    ]
    return np.asarray((along[1] * weights[:, None]).T @ along[0], np.float32)
