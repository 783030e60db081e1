"""A fetal head in a picture, and the shapes that its structures are drawn with.

In the head's own frame lengths are shares of its long axis, the face is at -x, and y is down.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.special import expit

from landmarkflow.cohorts.fetal_head_settings import Plane

Array = NDArray[np.float64]

# Mean places of the structures in the head.
PLACES = {"csp": (-0.21, 0.0), "lv": (0.17, 0.145), "cerebellum": (0.27, 0.0)}


@dataclass(frozen=True, eq=False)
class Head:
    """One head: its shape and pose in the picture, and where its structures are.

    Attributes:
        plane: that is shown.
        long_axis: pixels.
        short: short axis, of the long one.
        centre: (2,) pixels.
        angle: of the long axis, radians.
        flip: whether the face is at the right.
        places: of the structures, in the head.
    """

    plane: Plane
    long_axis: float
    short: float
    centre: Array
    angle: float
    flip: bool
    places: dict[str, Array]

    def to_picture(self, points: Array) -> Array:
        """Points (n, 2) of the head as pixels."""
        sign = np.array([-1.0 if self.flip else 1.0, 1.0])
        return np.asarray((points * sign * self.long_axis) @ turned(self.angle).T + self.centre)

    def from_picture(self, pixels: Array) -> Array:
        """Pixels (..., 2) in the head's frame."""
        sign = np.array([-1.0 if self.flip else 1.0, 1.0])
        return np.asarray((pixels - self.centre) @ turned(self.angle) / self.long_axis * sign)


def turned(angle: float) -> Array:
    """(2, 2) rotation by an angle, radians."""
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def smooth(shape: tuple[int, int], sigma: float, random: np.random.Generator) -> Array:
    """Smooth noise of mean 0 and deviation 1."""
    drawn = ndimage.gaussian_filter(random.standard_normal(shape), sigma, mode="wrap")
    return np.asarray(drawn / drawn.std())


def ellipse(
    inside: Array, centre: Sequence[float] | Array, axes: Sequence[float], angle: float
) -> Array:
    """Distance from an ellipse's centre, 1 on its rim; axes are semi-axes, angle in degrees."""
    moved = (inside - np.array(centre)) @ turned(np.deg2rad(angle))
    return np.asarray(np.hypot(moved[..., 0] / axes[0], moved[..., 1] / axes[1]))


def rim(away: Array, width: float) -> Array:
    """1 on an ellipse's rim, falling off on both sides, by its distance."""
    return np.asarray(np.exp(-0.5 * ((away - 1) / width) ** 2))


def within(away: Array, width: float) -> Array:
    """1 inside an ellipse, 0 outside, by its distance; `width` is that of its edge."""
    return np.asarray(expit((1 - away) / width))


def line(
    inside: Array, start: Sequence[float] | Array, end: Sequence[float] | Array, width: float
) -> Array:
    """1 on a line from start to end, falling off across it."""
    first, along = np.array(start), np.subtract(end, start)
    share = np.clip(((inside - first) @ along) / (along @ along), 0, 1)
    away = np.linalg.norm(inside - first - share[..., None] * along, axis=-1)
    return np.asarray(np.exp(-0.5 * (away / width) ** 2))
