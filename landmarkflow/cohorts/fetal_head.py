"""Simulated fetal heads in two standard planes of ultrasound, and where observers look at them.

In the head's own frame lengths are shares of its long axis, the face is at -x, and y is down.
A picture is the echo of what is drawn there, with speckle, shadows and the scanner's fan.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from landmarkflow.cohorts.fetal_head_scanner import scanned
from landmarkflow.cohorts.fetal_head_settings import (
    HEAD_CENTRE,
    STRUCTURES,
    FetalHeadSettings,
    long_axis_of,
    plane_of,
)
from landmarkflow.cohorts.fetal_head_shapes import (
    PLACES,
    Array,
    Head,
    ellipse,
    line,
    rim,
    smooth,
    within,
)
from landmarkflow.cohorts.picture import Look, Picture
from landmarkflow.core.points import Landmarks

# How observers divide their looks among the structures.
DWELL = {"csp": 0.42, "lv": 0.58, "cerebellum": 0.58}
# The short axis of a head, of its long one.
ROUNDNESS = (0.74, 0.82)


def simulate_fetal_head(settings: FetalHeadSettings, seed: int, index: int) -> Picture:
    """One picture with its landmarks, and where its observers look; each number is its own.

    The landmarks are the structures of the picture's plane and the head's centre.
    """
    head = _head(settings, seed, index)
    names = (*STRUCTURES[head.plane], HEAD_CENTRE)
    inside = np.array([*(head.places[name] for name in names[:-1]), (0.0, 0.0)])
    points = head.to_picture(inside)
    positions = np.column_stack([points, np.zeros(len(points))]).round(4)
    shown = scanned if settings.look == "scanner" else _image
    return Picture(
        image=shown(settings, head, np.random.default_rng([seed, index, 2])),
        landmarks=Landmarks(names, positions),
        gaze=_gaze(settings, head, points[:2], np.random.default_rng([seed, index, 3])),
    )


def _head(settings: FetalHeadSettings, seed: int, index: int) -> Head:
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
    return Head(plane, axis, short, centre, float(angle), flip, places)


def _gaze(
    settings: FetalHeadSettings, head: Head, structures: Array, random: np.random.Generator
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
    settings: FetalHeadSettings, head: Head, random: np.random.Generator
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


def _speckle(shape: tuple[int, int], random: np.random.Generator) -> Array:
    """Multiplicative speckle: the amplitude of a blurred complex noise, of mean 1."""
    parts = [ndimage.gaussian_filter(random.standard_normal(shape), (0.8, 1.5)) for _ in range(2)]
    amplitude = np.hypot(*parts)
    return np.asarray(amplitude / amplitude.mean())


def _surroundings(head: Head, inside: Array, depth: Array, random: np.random.Generator) -> Array:
    """Tissue of the mother above and below, and fluid about the head."""
    shape = (inside.shape[0], inside.shape[1])
    tissue = 0.20 * np.exp(0.5 * smooth(shape, 14, random) + 0.35 * smooth(shape, 4, random))
    near = np.exp(-0.5 * (depth / random.uniform(0.1, 0.2)) ** 2)
    away = ellipse(inside, (0, 0), (0.5, head.short / 2), 0)
    fluid = 1 / (
        1 + np.exp(-((away - random.uniform(1.1, 1.5)) + 0.15 * smooth(shape, 20, random)) / 0.06)
    )
    return np.asarray(tissue * (0.08 + 0.92 * fluid) + 0.25 * near * tissue)


def _skull(head: Head, inside: Array, echo: Array, random: np.random.Generator) -> Array:
    """A bright rim, weak where the beam runs along it and where the bone is open."""
    shape = (inside.shape[0], inside.shape[1])
    away = ellipse(inside, (0, 0), (0.5, head.short / 2), 0)
    angle = np.arctan2(inside[..., 1] / head.short, inside[..., 0])
    up = np.abs(np.sin(angle))
    strength = (0.3 + 0.7 * up) * np.clip(0.85 + 0.3 * smooth(shape, 9, random), 0.2, 1.3)
    for _ in range(2):
        gap = np.abs(np.angle(np.exp(1j * (angle - random.uniform(-np.pi, np.pi)))))
        strength *= 1 - 0.7 * np.exp(-0.5 * (gap / 0.1) ** 2)
    brain = 0.030 * np.exp(0.35 * smooth(shape, 6, random))
    echo = np.where(away < 1, brain, echo)
    return np.asarray(echo + 1.1 * strength * rim(away, 0.035))


def _brain(head: Head, inside: Array, echo: Array, random: np.random.Generator) -> Array:
    """Midline, cavum septi pellucidi, thalami, fissures, and haze below the near bone."""
    shape = (inside.shape[0], inside.shape[1])
    csp = head.places["csp"]
    broken = np.clip(0.6 + 0.5 * smooth(shape, 5, random), 0.05, 1.2)
    front = line(inside, (-0.46, 0.0), (csp[0] - 0.07, csp[1]), 0.008)
    back = line(inside, (csp[0] + 0.09, csp[1]), (0.44 if head.plane == "TV" else 0.14, 0), 0.008)
    echo = echo + 0.30 * broken * (front + back)
    thalami = [
        ellipse(inside, (0.04, side), (0.10, 0.055), 12 * np.sign(side)) for side in (-0.07, 0.07)
    ]
    for away in thalami:
        echo = echo * (1 - 0.4 * within(away, 0.1))
    for side in (-1.0, 1.0):
        at = side * random.uniform(0.2, 0.25) * head.short / 0.78
        fissure = line(inside, (-0.12, at), (0.06, at * 0.93), 0.012)
        echo = echo + random.uniform(0.05, 0.25) * broken * fissure
    box = (np.abs(inside[..., 0] - csp[0]) < 0.062) & (np.abs(inside[..., 1] - csp[1]) < 0.025)
    echo = np.where(box, 0.4 * echo, echo)
    for side in (-0.027, 0.027):
        start, end = (csp[0] - 0.06, csp[1] + side), (csp[0] + 0.06, csp[1] + side)
        echo = echo + random.uniform(0.45, 0.8) * line(inside, start, end, 0.007)
    # The near hemisphere lies behind echoes of the near bone.
    beam = inside[..., 1] * np.cos(head.angle)
    away = ellipse(inside, (0, 0), (0.5, head.short / 2), 0)
    haze = np.where(away < 1, np.exp(-0.5 * ((beam + 0.3) / 0.12) ** 2), 0)
    return np.asarray(echo + random.uniform(0.02, 0.10) * haze)


def _ventricle(head: Head, inside: Array, echo: Array, random: np.random.Generator) -> Array:
    """The lateral ventricle of the far hemisphere, with the choroid plexus in it."""
    x, y = head.places["lv"]
    turn = random.normal(14, 4)
    away = ellipse(inside, (x, y), (0.125, 0.04), turn)
    hollow = within(away, 0.08)
    echo = echo * (1 - 0.75 * hollow) + random.uniform(0.3, 0.55) * rim(away, 0.13)
    plexus = ellipse(inside, (x - 0.045, y - 0.004), (0.065, 0.025), turn)
    blob = within(plexus, 0.12)
    return np.asarray(echo + random.uniform(0.25, 0.5) * blob)


def _cerebellum(head: Head, inside: Array, echo: Array, random: np.random.Generator) -> Array:
    """Two round lobes beside a bright vermis, and the dark cistern behind them."""
    x, y = head.places["cerebellum"]
    wide = random.uniform(0.95, 1.1)
    cistern = ellipse(inside, (x + 0.10, y), (0.05, 0.11), 0)
    echo = echo * (1 - 0.7 * within(cistern, 0.1))
    for side in (-1, 1):
        away = ellipse(inside, (x, y + side * 0.088 * wide), (0.062, 0.082 * wide), -12 * side)
        lobe = within(away, 0.08)
        echo = echo + 0.035 * lobe + random.uniform(0.2, 0.4) * rim(away, 0.10)
    vermis = ellipse(inside, (x, y), (0.045, 0.028), 0)
    return np.asarray(echo + random.uniform(0.3, 0.5) * within(vermis, 0.12))


def _shadows(head: Head, x: Array, y: Array, random: np.random.Generator) -> Array:
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
