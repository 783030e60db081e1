"""Simulated fetal heads in two standard planes of ultrasound, and where observers look at them.

In the head's own frame lengths are shares of its long axis, the face is at -x, and y is down.
A picture is the echo of what is drawn there, with speckle, shadows and the scanner's fan.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.special import expit

from landmarkflow.cohorts.fetal_head_settings import (
    HEAD_CENTRE,
    STRUCTURES,
    FetalHeadSettings,
    Plane,
    long_axis_of,
    plane_of,
)
from landmarkflow.cohorts.picture import Look, Picture
from landmarkflow.core.points import Landmarks

Array = NDArray[np.float64]

# Mean places of the structures in the head, and how observers divide their looks among them.
PLACES = {"csp": (-0.21, 0.0), "lv": (0.17, 0.145), "cerebellum": (0.27, 0.0)}
DWELL = {"csp": 0.42, "lv": 0.58, "cerebellum": 0.58}
# The short axis of a head, of its long one.
ROUNDNESS = (0.74, 0.82)


@dataclass(frozen=True, eq=False)
class _Head:
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
        return np.asarray((points * sign * self.long_axis) @ _turn(self.angle).T + self.centre)

    def from_picture(self, pixels: Array) -> Array:
        """Pixels (..., 2) in the head's frame."""
        sign = np.array([-1.0 if self.flip else 1.0, 1.0])
        return np.asarray((pixels - self.centre) @ _turn(self.angle) / self.long_axis * sign)


def simulate_fetal_head(settings: FetalHeadSettings, seed: int, index: int) -> Picture:
    """One picture with its landmarks, and where its observers look; each number is its own.

    The landmarks are the structures of the picture's plane and the head's centre.
    """
    head = _head(settings, seed, index)
    names = (*STRUCTURES[head.plane], HEAD_CENTRE)
    inside = np.array([*(head.places[name] for name in names[:-1]), (0.0, 0.0)])
    points = head.to_picture(inside)
    positions = np.column_stack([points, np.zeros(len(points))]).round(4)
    return Picture(
        image=_image(settings, head, np.random.default_rng([seed, index, 2])),
        landmarks=Landmarks(names, positions),
        gaze=_gaze(settings, head, points[:2], np.random.default_rng([seed, index, 3])),
    )


def _head(settings: FetalHeadSettings, seed: int, index: int) -> _Head:
    random, plane = np.random.default_rng([seed, index, 0]), plane_of(settings, seed, index)
    axis, width, height = long_axis_of(settings, seed, index), *settings.size
    angle = np.deg2rad(np.clip(random.normal(0, settings.rotation_degrees), -45, 45))
    short = random.uniform(*ROUNDNESS)
    # The head stays in the picture; where it hardly fits, it is in the middle.
    reach = (
        0.5
        * axis
        * np.hypot([np.cos(angle), np.sin(angle)], short * np.array([np.sin(angle), np.cos(angle)]))
    )
    room = np.maximum(np.array([width, height]) / 2 - reach - 4, 0)
    shift = np.clip(random.normal(0, settings.shift * axis, 2), -room, room)
    flip = bool(random.random() < settings.flipped)
    places = {
        name: np.array(PLACES[name]) + random.normal(0, settings.variation, 2)
        for name in STRUCTURES[plane]
    }
    centre = np.array([width - 1, height - 1]) / 2 + shift
    return _Head(plane, axis, short, centre, float(angle), flip, places)


def _turn(angle: float) -> Array:
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def _gaze(
    settings: FetalHeadSettings, head: _Head, structures: Array, random: np.random.Generator
) -> tuple[Look, ...]:
    """Fixations in the order of their observers; such as the tracker loses are not there."""
    size = np.array(settings.size, float)
    found: list[Look] = []
    dwell = np.array([DWELL[name] for name in STRUCTURES[head.plane]])
    drawn = [settings.centre_bias, settings.elsewhere]
    chances = np.array([*drawn, *((1 - sum(drawn)) * dwell / dwell.sum())])
    for observer in range(1, settings.observers + 1):
        bias, order = random.normal(0, settings.tracker_bias, 2), 0
        for _ in range(max(1, random.poisson(settings.points))):
            kind = int(random.choice(len(chances), p=chances))
            if kind == 0:
                place = random.normal((size - 1) / 2, 0.16 * size)
            elif kind == 1:
                place = random.uniform(-0.5, size - 0.5)
            else:
                spread = settings.spread * head.long_axis
                place = random.normal(structures[kind - 2], spread)
            place = place + bias + random.normal(0, settings.tracker_noise, 2)
            duration = int(np.clip(random.gamma(3.0, 80.0), 40, 1500))
            lost = random.random() < settings.dropout
            if lost or (place < -0.5).any() or (place >= size - 0.5).any():
                continue
            order += 1
            x, y = (round(float(value), 2) for value in place)
            found.append((str(observer), x, y, duration, order))
    return tuple(found)


def _image(
    settings: FetalHeadSettings, head: _Head, random: np.random.Generator
) -> NDArray[np.uint8]:
    """The picture, (rows, columns) uint8."""
    width, height = settings.size
    y, x = np.mgrid[:height, :width].astype(np.float64)
    inside = head.from_picture(np.stack([x, y], axis=-1))
    echo = _surroundings(head, inside, y / height, random)
    echo = _skull(head, inside, echo, random)
    echo = _brain(head, inside, echo, random)
    echo = (_ventricle if head.plane == "TV" else _cerebellum)(head, inside, echo, random)
    echo *= _shadows(head, x, y, random)
    speckled = echo * _speckle(x.shape, random) + 0.004 * _speckle(x.shape, random)
    shown = np.log(1 + 30 * speckled) / np.log(31) * random.uniform(0.8, 1.05)
    return np.asarray(np.clip(255 * shown * _fan(x, y, random), 0, 255), np.uint8)


def _smooth(shape: tuple[int, int], sigma: float, random: np.random.Generator) -> Array:
    """Smooth noise of mean 0 and deviation 1."""
    drawn = ndimage.gaussian_filter(random.standard_normal(shape), sigma, mode="wrap")
    return np.asarray(drawn / drawn.std())


def _speckle(shape: tuple[int, int], random: np.random.Generator) -> Array:
    """Multiplicative speckle: the amplitude of a blurred complex noise, of mean 1."""
    parts = [ndimage.gaussian_filter(random.standard_normal(shape), (0.8, 1.5)) for _ in range(2)]
    amplitude = np.hypot(*parts)
    return np.asarray(amplitude / amplitude.mean())


def _ellipse(inside: Array, centre: Sequence[float], axes: Sequence[float], angle: float) -> Array:
    """Distance from an ellipse's centre, 1 on its rim; axes are semi-axes, angle in degrees."""
    moved = (inside - np.array(centre)) @ _turn(np.deg2rad(angle))
    return np.asarray(np.hypot(moved[..., 0] / axes[0], moved[..., 1] / axes[1]))


def _rim(away: Array, width: float) -> Array:
    return np.asarray(np.exp(-0.5 * ((away - 1) / width) ** 2))


def _within(away: Array, width: float) -> Array:
    """1 inside an ellipse, 0 outside, by its distance; `width` is that of its edge."""
    return np.asarray(expit((1 - away) / width))


def _line(inside: Array, start: Sequence[float], end: Sequence[float], width: float) -> Array:
    """1 on a line from start to end, falling off across it."""
    first, along = np.array(start), np.subtract(end, start)
    share = np.clip(((inside - first) @ along) / (along @ along), 0, 1)
    away = np.linalg.norm(inside - first - share[..., None] * along, axis=-1)
    return np.asarray(np.exp(-0.5 * (away / width) ** 2))


def _surroundings(head: _Head, inside: Array, depth: Array, random: np.random.Generator) -> Array:
    """Tissue of the mother above and below, and fluid about the head."""
    shape = (inside.shape[0], inside.shape[1])
    tissue = 0.20 * np.exp(0.5 * _smooth(shape, 14, random) + 0.35 * _smooth(shape, 4, random))
    near = np.exp(-0.5 * (depth / random.uniform(0.1, 0.2)) ** 2)
    away = _ellipse(inside, (0, 0), (0.5, head.short / 2), 0)
    fluid = 1 / (
        1 + np.exp(-((away - random.uniform(1.1, 1.5)) + 0.15 * _smooth(shape, 20, random)) / 0.06)
    )
    return np.asarray(tissue * (0.08 + 0.92 * fluid) + 0.25 * near * tissue)


def _skull(head: _Head, inside: Array, echo: Array, random: np.random.Generator) -> Array:
    """A bright rim, weak where the beam runs along it and where the bone is open."""
    shape = (inside.shape[0], inside.shape[1])
    away = _ellipse(inside, (0, 0), (0.5, head.short / 2), 0)
    angle = np.arctan2(inside[..., 1] / head.short, inside[..., 0])
    up = np.abs(np.sin(angle))
    strength = (0.3 + 0.7 * up) * np.clip(0.85 + 0.3 * _smooth(shape, 9, random), 0.2, 1.3)
    for _ in range(2):
        gap = np.abs(np.angle(np.exp(1j * (angle - random.uniform(-np.pi, np.pi)))))
        strength *= 1 - 0.7 * np.exp(-0.5 * (gap / 0.1) ** 2)
    brain = 0.030 * np.exp(0.35 * _smooth(shape, 6, random))
    echo = np.where(away < 1, brain, echo)
    return np.asarray(echo + 1.1 * strength * _rim(away, 0.035))


def _brain(head: _Head, inside: Array, echo: Array, random: np.random.Generator) -> Array:
    """Midline, cavum septi pellucidi, thalami, fissures, and haze below the near bone."""
    shape = (inside.shape[0], inside.shape[1])
    csp = head.places["csp"]
    broken = np.clip(0.6 + 0.5 * _smooth(shape, 5, random), 0.05, 1.2)
    front = _line(inside, (-0.46, 0.0), (csp[0] - 0.07, csp[1]), 0.008)
    back = _line(inside, (csp[0] + 0.09, csp[1]), (0.44 if head.plane == "TV" else 0.14, 0), 0.008)
    echo = echo + 0.30 * broken * (front + back)
    thalami = [
        _ellipse(inside, (0.04, side), (0.10, 0.055), 12 * np.sign(side)) for side in (-0.07, 0.07)
    ]
    for away in thalami:
        echo = echo * (1 - 0.4 * _within(away, 0.1))
    for side in (-1.0, 1.0):
        at = side * random.uniform(0.2, 0.25) * head.short / 0.78
        fissure = _line(inside, (-0.12, at), (0.06, at * 0.93), 0.012)
        echo = echo + random.uniform(0.05, 0.25) * broken * fissure
    box = (np.abs(inside[..., 0] - csp[0]) < 0.062) & (np.abs(inside[..., 1] - csp[1]) < 0.025)
    echo = np.where(box, 0.4 * echo, echo)
    for side in (-0.027, 0.027):
        start, end = (csp[0] - 0.06, csp[1] + side), (csp[0] + 0.06, csp[1] + side)
        echo = echo + random.uniform(0.45, 0.8) * _line(inside, start, end, 0.007)
    # The near hemisphere lies behind echoes of the near bone.
    beam = inside[..., 1] * np.cos(head.angle)
    away = _ellipse(inside, (0, 0), (0.5, head.short / 2), 0)
    haze = np.where(away < 1, np.exp(-0.5 * ((beam + 0.3) / 0.12) ** 2), 0)
    return np.asarray(echo + random.uniform(0.02, 0.10) * haze)


def _ventricle(head: _Head, inside: Array, echo: Array, random: np.random.Generator) -> Array:
    """The lateral ventricle of the far hemisphere, with the choroid plexus in it."""
    x, y = head.places["lv"]
    turn = random.normal(14, 4)
    away = _ellipse(inside, (x, y), (0.125, 0.04), turn)
    hollow = _within(away, 0.08)
    echo = echo * (1 - 0.75 * hollow) + random.uniform(0.3, 0.55) * _rim(away, 0.13)
    plexus = _ellipse(inside, (x - 0.045, y - 0.004), (0.065, 0.025), turn)
    blob = _within(plexus, 0.12)
    return np.asarray(echo + random.uniform(0.25, 0.5) * blob)


def _cerebellum(head: _Head, inside: Array, echo: Array, random: np.random.Generator) -> Array:
    """Two round lobes beside a bright vermis, and the dark cistern behind them."""
    x, y = head.places["cerebellum"]
    wide = random.uniform(0.95, 1.1)
    cistern = _ellipse(inside, (x + 0.10, y), (0.05, 0.11), 0)
    echo = echo * (1 - 0.7 * _within(cistern, 0.1))
    for side in (-1, 1):
        away = _ellipse(inside, (x, y + side * 0.088 * wide), (0.062, 0.082 * wide), -12 * side)
        lobe = _within(away, 0.08)
        echo = echo + 0.035 * lobe + random.uniform(0.2, 0.4) * _rim(away, 0.10)
    vermis = _ellipse(inside, (x, y), (0.045, 0.028), 0)
    return np.asarray(echo + random.uniform(0.3, 0.5) * _within(vermis, 0.12))


def _shadows(head: _Head, x: Array, y: Array, random: np.random.Generator) -> Array:
    """Dark wedges below bone, from the probe above the picture."""
    width, height = x.shape[1], x.shape[0]
    angle = np.arctan2(x - (width - 1) / 2, y + 0.35 * height)
    light = np.ones_like(x)
    for _ in range(int(random.integers(0, 4))):
        at, wide = random.uniform(-0.6, 0.6), random.uniform(0.02, 0.06)
        below = 1 / (1 + np.exp(-(y - head.centre[1] + 0.3 * head.long_axis) / 8))
        light *= 1 - random.uniform(0.3, 0.75) * below * np.exp(-0.5 * ((angle - at) / wide) ** 2)
    return np.asarray(light * np.exp(-random.uniform(0, 0.5) * y / height))


def _fan(x: Array, y: Array, random: np.random.Generator) -> Array:
    """1 in the scanner's fan, 0 beside it."""
    width, height = x.shape[1], x.shape[0]
    across, down = x - (width - 1) / 2, y + 0.35 * height
    angle, far = np.abs(np.arctan2(across, down)), np.hypot(across, down)
    edge = random.uniform(0.62, 0.9)
    seen = (angle < edge) & (far > 0.36 * height) & (far < random.uniform(1.38, 1.5) * height)
    return np.asarray(ndimage.gaussian_filter(seen.astype(np.float64), 0.6))
