"""Fetal heads as a scanner shows them: echoes along its beams, speckle, shadows, log compression.

Echoes are drawn on the scanner's own samples, (depths, beams) from a probe above the picture, and
laid on the picture last, so that speckle and lines are wider the deeper they lie. Amplitudes are
shares of the brightest bone. What tissue scatters becomes speckle; bone and the walls of structures
are smooth mirrors, bright where the beam meets them at a right angle.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.special import expit

from landmarkflow.cohorts.fetal_head_settings import FetalHeadSettings, ScannerSettings
from landmarkflow.cohorts.fetal_head_shapes import (
    Array,
    Head,
    ellipse,
    line,
    rim,
    smooth,
    turned,
    within,
)

# Samples along a beam, and beams: about one a pixel of the pictures that are made.
DEPTHS, BEAMS = 320, 224


@dataclass(frozen=True, eq=False)
class _Fan:
    """Where the scanner's beams lie in the picture.

    Attributes:
        apex: (2,) pixels at which all beams would meet, above the picture.
        near: distance of the first sample from it, pixels.
        far: the same of the last one.
        edge: angle of the last beam from the vertical, radians.
    """

    apex: Array
    near: float
    far: float
    edge: float

    @classmethod
    def drawn(cls, width: int, height: int, random: np.random.Generator) -> "_Fan":
        """A fan that may be wider than the picture, and begin above it."""
        above = height * np.exp(random.uniform(np.log(0.2), np.log(1.6)))
        half = 0.5 * width * random.uniform(0.85, 1.35)
        near = above + height * random.uniform(-0.15, 0.1)
        far = above + height * random.uniform(0.95, 1.3)
        apex = np.array([width / 2 + width * random.normal(0, 0.04), -above])
        return cls(apex, near, far, float(np.arctan2(half, above + height / 2)))

    def pixels(self) -> Array:
        """(depths, beams, 2) of the samples."""
        depth = np.linspace(self.near, self.far, DEPTHS)[:, None]
        angle = np.linspace(-self.edge, self.edge, BEAMS)
        beams = np.stack([np.sin(angle), np.cos(angle)], axis=-1)
        return np.asarray(self.apex + depth[..., None] * beams)

    def laid(self, samples: Array, width: int, height: int) -> Array:
        """Samples (depths, beams) on the picture's pixels, 0 beside the fan."""
        y, x = np.mgrid[:height, :width].astype(np.float64)
        across, down = x - self.apex[0], y - self.apex[1]
        depth = (np.hypot(across, down) - self.near) / (self.far - self.near) * (DEPTHS - 1)
        beam = (np.arctan2(across, down) / self.edge + 1) / 2 * (BEAMS - 1)
        return np.asarray(ndimage.map_coordinates(samples, [depth, beam], order=1, cval=0.0))


@dataclass(frozen=True, eq=False)
class _Echo:
    """What sends echoes back, at the samples of a fan, all (depths, beams) unless said otherwise.

    Attributes:
        inside: (depths, beams, 2) places in the head.
        away: distance from the head's centre, 1 on its rim.
        facing: 1 where the beam meets the head's rim at a right angle, 0 where it runs along it.
        step: pixels between two depths.
        scattered: amplitude that becomes speckle; structures are drawn into it.
        mirrored: amplitude of smooth surfaces; the same.
        turn: cosine of the angle between the beam and the head's short axis.
    """

    inside: Array
    away: Array
    facing: Array
    step: float
    scattered: Array
    mirrored: Array
    turn: float

    def hollow(self, share: Array) -> None:
        """Take a share of every echo away, as fluid does."""
        self.take(share)
        np.multiply(self.mirrored, 1 - share, out=self.mirrored)

    def take(self, share: Array) -> None:
        """Take a share of what tissue scatters away."""
        np.multiply(self.scattered, 1 - share, out=self.scattered)

    def scatter(self, amplitude: Array) -> None:
        """Add what tissue scatters."""
        np.add(self.scattered, amplitude, out=self.scattered)

    def mirror(self, amplitude: Array) -> None:
        """Add a smooth surface."""
        np.add(self.mirrored, amplitude, out=self.mirrored)

    def below(self) -> Array:
        """Way of the beam within the head, pixels."""
        return np.asarray(np.cumsum(self.away < 1, axis=0) * self.step)


def scanned(
    settings: FetalHeadSettings, head: Head, random: np.random.Generator
) -> NDArray[np.uint8]:
    """The picture of a head, (rows, columns) uint8."""
    width, height = settings.size
    fan, look = _Fan.drawn(width, height, random), settings.scanner
    echo = _surroundings(head, fan, random)
    bone = _skull(head, echo, random)
    _brain(head, echo, look, random)
    (_ventricle if head.plane == "TV" else _cerebellum)(head, echo, look, random)
    _reverberations(head, echo, look, random)
    light = _light(head, echo, bone, random)
    seen = _received(echo, light, look, random)
    grey = np.clip(fan.laid(_compressed(seen, look, random), width, height), 0, 1)
    grey = ndimage.gaussian_filter(grey, random.uniform(0.2, 0.7))
    return _marked((255 * grey).astype(np.uint8), look, random)


def _level(random: np.random.Generator, low: float, high: float) -> float:
    """An amplitude drawn between two levels in decibels."""
    return float(10 ** (random.uniform(low, high) / 20))


def _gain(look: ScannerSettings, random: np.random.Generator) -> float:
    """How strongly a structure shows: of some hardly anything is seen."""
    if random.random() < look.hidden:
        return float(random.uniform(0.0, 0.15))
    return float(np.exp(random.normal(-0.1, 0.4)))


def _surroundings(head: Head, fan: _Fan, random: np.random.Generator) -> _Echo:
    """Layers of the mother's wall or the placenta, fluid about the head, tissue behind it."""
    pixels = fan.pixels()
    inside = head.from_picture(pixels)
    shape, step = (DEPTHS, BEAMS), (fan.far - fan.near) / (DEPTHS - 1)
    away = ellipse(inside, (0, 0), (0.5, head.short / 2), 0)
    bulge = smooth(shape, 24, random)
    # Bone is no ellipse: flatter or fuller in some places.
    away = away * (1 + 0.025 * random.uniform(0, 1) * bulge)
    facing = _facing(head, inside, pixels - fan.apex)
    # Layers follow the probe's surface; each has a level of its own.
    depth = np.linspace(0, 1, DEPTHS)[:, None] + 0.03 * smooth(shape, 30, random)
    level = np.full(shape, random.uniform(-42, -18))
    for border in np.sort(random.uniform(0.03, 0.45, int(random.integers(1, 5)))):
        level = level + (random.uniform(-42, -12) - level) * expit((depth - border) / 0.008)
    level = level + 3 * smooth(shape, 12, random)
    streaks = ndimage.gaussian_filter(random.standard_normal(shape), (1.5, 14), mode="nearest")
    level = level + random.uniform(0, 5) * streaks / streaks.std()
    reach = random.uniform(0.85, 1.7)
    fluid = expit((reach - away + 0.25 * smooth(shape, 28, random)) / random.uniform(0.02, 0.15))
    level = np.where(depth > 0.12, level * (1 - fluid) - 55 * fluid, level)
    mirrored = 0.2 * random.random() ** 2 * np.exp(-0.5 * ((away - reach) / 0.015) ** 2) * facing**4
    turn = float(np.cos(head.angle))
    return _Echo(inside, away, facing, step, 10 ** (level / 20), mirrored, turn)


def _facing(head: Head, inside: Array, beam: Array) -> Array:
    """Cosine of the angle between beams (..., 2) and the normal of the head's rim."""
    normal = inside / np.array([0.5, head.short / 2]) ** 2
    normal = (normal * [-1.0 if head.flip else 1.0, 1.0]) @ turned(head.angle).T
    lengths = np.linalg.norm(normal, axis=-1) * np.linalg.norm(beam, axis=-1)
    return np.asarray(np.abs((normal * beam).sum(axis=-1)) / (lengths + 1e-9))


def _skull(head: Head, echo: _Echo, random: np.random.Generator) -> Array:
    """Bone: thick and bright across the beam, thin or lost along it, open at sutures."""
    shape = (DEPTHS, BEAMS)
    angle = np.arctan2(echo.inside[..., 1] / head.short, echo.inside[..., 0])
    strength = np.clip(1 + 0.35 * smooth(shape, 12, random), 0.15, 1.6)
    strength *= random.uniform(0.0, 0.3) + echo.facing ** random.uniform(1.0, 5.0)
    for _ in range(int(random.integers(1, 5))):
        gap = np.abs(np.angle(np.exp(1j * (angle - random.uniform(-np.pi, np.pi)))))
        wide = random.uniform(0.04, 0.2)
        strength *= 1 - random.uniform(0.4, 1.0) * np.exp(-0.5 * (gap / wide) ** 2)
    thick = random.uniform(0.014, 0.04) * np.clip(1 + 0.3 * smooth(shape, 14, random), 0.5, 1.6)
    shell = strength * np.exp(-0.5 * ((echo.away - 1) / thick) ** 2)
    level = random.uniform(-50, -28) + 3 * smooth(shape, 9, random) + 1.5 * smooth(shape, 4, random)
    brain = within(echo.away, 0.012)
    echo.hollow(brain)
    echo.scatter(brain * 10 ** (level / 20))
    echo.mirror(_level(random, -5, 0) * shell)
    # Scalp, a fainter line outside the bone.
    scalp = random.uniform(1.05, 1.16)
    outer = np.exp(-0.5 * ((echo.away - scalp) / 0.012) ** 2) * echo.facing**3
    echo.mirror(random.choice([0.0, 0.15]) * random.random() * outer)
    return np.asarray(shell)


def _brain(head: Head, echo: _Echo, look: ScannerSettings, random: np.random.Generator) -> None:
    """Midline, cavum septi pellucidi, thalami, fissures, and folds, which differ."""
    inside, shape = echo.inside, (DEPTHS, BEAMS)
    csp, across = head.places["csp"], abs(echo.turn)
    broken = np.clip(0.5 + 0.7 * smooth(shape, 6, random), 0.0, 1.3)
    thin, bright = random.uniform(0.004, 0.009), _level(random, -26, -8) * (0.3 + 0.7 * across)
    end = 0.46 if head.plane == "TV" else 0.14
    bend = 0.02 * random.normal()
    front = line(inside, (-0.46, bend), (csp[0] - 0.06, csp[1]), thin)
    middle = line(inside, (csp[0] + 0.07, csp[1]), (end, 0.5 * bend), thin)
    echo.mirror(_gain(look, random) * bright * broken * (front + middle))
    gain = _gain(look, random)
    for side in (-1, 1):
        away = ellipse(inside, (0.02, side * 0.075), (0.11, 0.06), 14 * side)
        dark = random.uniform(-0.5, 0.9) * min(gain, 1.0)
        echo.take(dark * within(away, 0.15))
    # Echoes of the cisterns about the midbrain, and of folds, differ too much to be modelled.
    clutter = np.clip(smooth(shape, 3, random) - 1.4, 0, None) * within(echo.away / 0.8, 0.05)
    echo.scatter(_level(random, -36, -18) * clutter)
    for half in (-1.0, 1.0):
        at = half * random.uniform(0.19, 0.27) * head.short / 0.78
        start, stop = (random.uniform(-0.2, -0.05), at), (random.uniform(0.0, 0.15), at * 0.93)
        fissure = line(inside, start, stop, thin * random.uniform(1, 2))
        echo.mirror(_gain(look, random) * _level(random, -30, -14) * broken * fissure)
    for _ in range(int(random.integers(0, 7))):
        place = random.uniform((-0.38, -0.3), (0.38, 0.3))
        stroke = random.normal(0, 1, 2) * (0.04, 0.012)
        fold = line(inside, place, place + stroke, thin)
        echo.mirror(_level(random, -34, -14) * fold * (echo.away < 0.92))
    _cavum(csp, echo, _gain(look, random), random)


def _cavum(csp: Array, echo: _Echo, gain: float, random: np.random.Generator) -> None:
    """A dark box in the midline between two short bright walls, or what is seen of it."""
    inside, along = echo.inside, random.uniform(0.035, 0.07)
    half, thin = random.uniform(0.014, 0.03), random.uniform(0.005, 0.01)
    offset = np.abs(inside - csp)
    box = expit((along - offset[..., 0]) / 0.006) * expit((half - offset[..., 1]) / 0.004)
    echo.hollow(min(1.0, gain) * random.uniform(0.6, 1.0) * box)
    for side in (-half, half):
        start = csp + np.array([-along, side])
        end = csp + np.array([along, side * random.uniform(0.7, 1.2)])
        wall = gain * _level(random, -16, -3) * (0.4 + 0.6 * abs(echo.turn))
        echo.mirror(wall * line(inside, start, end, thin))
    # Frontal horns: short walls beside the cavum, on one side or both.
    for side in (-1, 1):
        at = csp + np.array([random.uniform(-0.05, 0.02), side * random.uniform(0.06, 0.11)])
        horn = line(inside, at, at + np.array([0.07, -0.015 * side]), thin)
        echo.mirror(random.choice([0.0, 1.0]) * gain * _level(random, -24, -8) * horn)


def _ventricle(head: Head, echo: _Echo, look: ScannerSettings, random: np.random.Generator) -> None:
    """The far lateral ventricle with the choroid plexus in it; sometimes the near one, too."""
    far = head.places["lv"]
    _one_ventricle(far, echo, _gain(look, random), random.normal(14, 6), random)
    if random.random() < look.both:
        near = np.array([far[0], -far[1]]) + random.normal(0, 0.015, 2)
        faint = 0.6 * _gain(look, random)
        _one_ventricle(near, echo, faint, random.normal(-14, 6), random)


def _one_ventricle(
    place: Array, echo: _Echo, gain: float, turn: float, random: np.random.Generator
) -> None:
    x, y = place
    size = random.uniform(0.8, 1.35)
    away = ellipse(echo.inside, (x, y), (0.125 * size, 0.045 * size), turn)
    echo.hollow(min(1.0, gain) * random.uniform(0.5, 0.95) * within(away, 0.1))
    # Walls are seen where the beam crosses them: above and below, not at the ends.
    across = np.abs(echo.inside[..., 1] - y) / (0.045 * size)
    wall = rim(away, 0.12) * np.clip(across, 0, 1) ** 2
    echo.mirror(gain * _level(random, -24, -8) * wall)
    at = (x - random.uniform(0.0, 0.06), y + random.uniform(-0.01, 0.015))
    axes = (random.uniform(0.04, 0.08) * size, random.uniform(0.022, 0.042) * size)
    plexus = within(ellipse(echo.inside, at, axes, turn + random.normal(0, 8)), 0.15)
    echo.scatter(gain * _level(random, -22, -8) * plexus)


def _cerebellum(
    head: Head, echo: _Echo, look: ScannerSettings, random: np.random.Generator
) -> None:
    """Two round lobes beside a bright vermis, and the dark cistern behind them."""
    (x, y), gain = head.places["cerebellum"], _gain(look, random)
    inside, wide = echo.inside, random.uniform(0.85, 1.15)
    cistern = ellipse(inside, (x + 0.10, y), (0.05, 0.11), 0)
    echo.take(min(1.0, gain) * 0.8 * within(cistern, 0.12))
    for side in (-1, 1):
        away = ellipse(inside, (x, y + side * 0.088 * wide), (0.062, 0.082 * wide), -12 * side)
        echo.scatter(gain * _level(random, -36, -22) * within(away, 0.1))
        echo.mirror(gain * _level(random, -26, -12) * rim(away, 0.10))
    vermis = ellipse(inside, (x, y), (0.045, 0.028), 0)
    echo.scatter(gain * _level(random, -20, -8) * within(vermis, 0.15))


def _reverberations(
    head: Head, echo: _Echo, look: ScannerSettings, random: np.random.Generator
) -> None:
    """Echoes that ran between near bone and probe: a haze with bands over the near hemisphere."""
    depth = echo.below() / head.long_axis
    reach, apart = random.uniform(0.06, 0.3), random.uniform(0.04, 0.12)
    bands = 1 + random.uniform(0, 0.8) * np.cos(2 * np.pi * depth / apart)
    haze = np.exp(-depth / reach) * bands * (echo.away < 1) * (depth > 0)
    echo.scatter(look.haze * _level(random, -34, -14) * haze * echo.facing)


def _light(head: Head, echo: _Echo, bone: Array, random: np.random.Generator) -> Array:
    """What is left of the beam: less behind bone, behind its edges, and in shadows from above."""
    passed = np.cumsum(bone, axis=0) * echo.step / head.long_axis
    light = np.exp(-random.uniform(0.0, 12.0) * passed)
    # At the head's sides the beam is bent away: long shadows behind them.
    grazing = (np.abs(echo.away - 1) < 0.03) * np.clip(1 - 2.5 * echo.facing, 0, 1)
    sides = np.cumsum(grazing, axis=0) * echo.step / head.long_axis
    sides = ndimage.gaussian_filter(sides, (0, 3))
    light = light * np.exp(-random.uniform(0.0, 25.0) * sides)
    beams, depth = np.linspace(-1, 1, BEAMS), np.linspace(0, 1, DEPTHS)[:, None]
    for _ in range(int(random.integers(0, 4))):
        at, wide = random.uniform(-1, 1), random.uniform(0.02, 0.12)
        below = expit((depth - random.uniform(0, 0.5)) / 0.03)
        dark = random.uniform(0.3, 0.9) * np.exp(-0.5 * ((beams - at) / wide) ** 2)
        light = light * (1 - dark * below)
    fall = random.uniform(-0.5, 1.5) * depth + random.uniform(0, 0.8) * beams**4
    return np.asarray(light * np.exp(-fall) * np.exp(0.15 * smooth((DEPTHS, BEAMS), 40, random)))


def _received(
    echo: _Echo, light: Array, look: ScannerSettings, random: np.random.Generator
) -> Array:
    """Amplitudes of the received echoes, the mean of several looks with speckle of their own."""
    axial, lateral = random.uniform(0.6, 1.3), random.uniform(0.8, 2.2)
    looks = int(random.integers(1, look.looks + 1))
    mirrored = ndimage.gaussian_filter(echo.mirrored, (axial, lateral)) * light
    total = np.zeros((DEPTHS, BEAMS))
    for _ in range(looks):
        parts = [
            ndimage.gaussian_filter(
                random.standard_normal(total.shape) * echo.scattered, (axial, lateral)
            )
            for _ in range(2)
        ]
        # The blur of a white noise leaves this deviation of it.
        left = 1 / np.sqrt(4 * np.pi * axial * lateral)
        total += np.hypot(parts[0] / left * light + mirrored, parts[1] / left * light)
    return np.asarray(total / looks + _level(random, -70, -50) * random.uniform(size=total.shape))


def _compressed(seen: Array, look: ScannerSettings, random: np.random.Generator) -> Array:
    """Grey of 0 to 1: the logarithm of amplitudes over the scanner's range, with its gain."""
    shown = 20 * np.log10(seen / np.percentile(seen, 99.7) + 1e-6)
    grey = np.clip(1 + (shown + random.uniform(-6, 6)) / random.uniform(*look.range_db), 0, 1)
    return np.asarray(grey ** random.uniform(0.9, 2.2))


def _marked(
    grey: NDArray[np.uint8], look: ScannerSettings, random: np.random.Generator
) -> NDArray[np.uint8]:
    """The picture with the scanner's grey scale at the left, and black boxes over its text."""
    height, width = grey.shape
    for _ in range(int(random.binomial(2, look.boxed))):
        wide, high = int(width * random.uniform(0.1, 0.3)), int(height * random.uniform(0.08, 0.3))
        x, y = width - int(wide * random.uniform(0.6, 1.2)), height - high
        grey[y if random.random() < 0.8 else 0 :][:high, max(0, x) : x + wide] = 0
    if random.random() < look.boxed:
        rows = slice(int(0.04 * height), int(random.uniform(0.3, 0.5) * height))
        grey[rows, 1:4] = np.linspace(255, 0, rows.stop - rows.start)[:, None].astype(np.uint8)
    return grey
