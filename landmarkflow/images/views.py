"""The three planes of the LPS axes as pictures, and where points lie on them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class View:
    """A slice plane of the LPS axes.

    Attributes:
        name: What radiologists call it.
        plane: The axes (0 x, 1 y, 2 z) that are shown to the right and upright.
        sides: Patient's sides at the left, right, top and bottom of the picture.
    """

    name: str
    plane: tuple[int, int]
    sides: tuple[str, str, str, str]

    @property
    def normal(self) -> int:
        """The axis (0 x, 1 y, 2 z) across the plane."""
        return 3 - sum(self.plane)

    @property
    def down(self) -> float:
        """1 where the upright axis grows downwards in a picture, as y does; -1 where upwards."""
        return 1.0 if self.sides[2] == "A" else -1.0


# Radiological convention: the patient's right, and anterior, are on the left.
VIEWS = (
    View("axial", (0, 1), ("R", "L", "A", "P")),
    View("coronal", (0, 2), ("R", "L", "S", "I")),
    View("sagittal", (1, 2), ("A", "P", "S", "I")),
)


@dataclass(frozen=True)
class Frame:
    """A square slice through a point, as a part of a picture.

    Attributes:
        view: its plane.
        centre: (3,) LPS mm, in the middle.
        window: side, mm.
        left: where it begins in the picture, pixels.
        top: where it begins in the picture, pixels.
        side: pixels.
    """

    view: View
    centre: tuple[float, float, float]
    window: float
    left: int
    top: int
    side: int

    def to_picture(self, points: ArrayLike) -> Array:
        """(n, 2) pixels to the right and down of the picture's corner, for (n, 3) LPS mm."""
        away = np.asarray(points, dtype=np.float64).reshape(-1, 3) - self.centre
        across, up = (away[:, axis] / self.window for axis in self.view.plane)
        shares = np.stack([across, self.view.down * up], axis=1) + 0.5
        return np.asarray(shares * self.side + [self.left, self.top])

    def points(self) -> Array:
        """(side · side, 3) LPS mm of the pixels' centres, row by row."""
        shares = (np.arange(self.side) + 0.5) / self.side - 0.5
        down, right = np.meshgrid(shares, shares, indexing="ij")
        points = np.tile(np.array(self.centre), (self.side**2, 1))
        points[:, self.view.plane[0]] += self.window * right.ravel()
        points[:, self.view.plane[1]] += self.window * self.view.down * down.ravel()
        return points

    def as_record(self) -> dict[str, object]:
        """The attributes as plain data, which `of_record` takes back."""
        return vars(self) | {"view": self.view.name, "centre": list(self.centre)}

    @staticmethod
    def of_record(data: dict[str, object]) -> "Frame":
        """The frame of `as_record`."""
        view = next(view for view in VIEWS if view.name == data["view"])
        x, y, z = np.array(data["centre"], dtype=np.float64).tolist()
        window, left, top, side = (float(str(data[k])) for k in ("window", "left", "top", "side"))
        return Frame(view, (x, y, z), window, int(left), int(top), int(side))
