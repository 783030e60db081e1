"""A simulated picture with its truth."""

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from landmarkflow.core.points import Landmarks

# One row: observer, x, y (pixels), duration_ms and order, from 1 within an observer's look.
Look = tuple[Any, float, float, float, int]
LOOK_COLUMNS = ("image", "observer", "x", "y", "duration_ms", "order")


@dataclass(frozen=True, eq=False)
class Picture:
    """A simulated picture.

    Attributes:
        image: (rows, columns) grey or (rows, columns, 3) red, green and blue, uint8.
        landmarks: in pixels (z = 0), the centre of the first at (0, 0); a missing one is NaN.
        gaze: where simulated observers looked; empty for none.
    """

    image: NDArray[Any]
    landmarks: Landmarks
    gaze: tuple[Look, ...] = ()
