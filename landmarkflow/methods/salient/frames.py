"""How a picture lies in the network's input, and a map's cells in the picture."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

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
