"""Simulated fundus photographs: disc, vessel arcades, fovea, lesions, two cameras, both eyes."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage

from landmarkflow.cohorts.fundus_settings import FUNDUS_LANDMARKS, FundusSettings, camera_of
from landmarkflow.cohorts.picture import Picture
from landmarkflow.core.points import Landmarks

Array = NDArray[np.float64]

# Vessels are drawn so many times as fine as the photograph, so that their borders are smooth.
FINER = 2
# The distance of disc and fovea, share of a field of 50 degrees, and its largest relative change.
DISTANCE, DISTANCE_CHANGE = 0.375, 0.08
# Radius of the disc and width of the fovea's shade, shares of the distance.
DISC_RADIUS, FOVEA_WIDTH = 0.2, 0.13
# Vessels end at this distance from the fovea, share of the distance.
WITHOUT_VESSELS = 0.17


@dataclass(frozen=True, eq=False)
class Eye:
    """Where things lie, in pixels.

    Attributes:
        fovea: (2,) x, y.
        disc: (2,) its centre.
        across: (2,) unit vector from fovea to disc.
        up: (2,) unit vector at a right angle to it, upwards.
        distance: of both, pixels.
    """

    fovea: Array
    disc: Array
    across: Array
    up: Array
    distance: float

    def at(self, along: float | Array, above: float | Array) -> Array:
        """Pixels of places given in distances from the fovea, (..., 2)."""
        steps = np.stack(np.broadcast_arrays(along, above), axis=-1) * self.distance
        return np.asarray(self.fovea + steps[..., :1] * self.across + steps[..., 1:] * self.up)


@dataclass(frozen=True)
class Camera:
    """Size of the photograph, and its round field: centre and radius, pixels."""

    columns: int
    rows: int
    radius: float
    tint: tuple[float, float, float]
    blur: float

    @property
    def centre(self) -> Array:
        """(2,) x, y of the middle of the picture."""
        return np.array([self.columns - 1, self.rows - 1]) / 2


def simulate_fundus(settings: FundusSettings, seed: int, index: int) -> Picture:
    """Photograph number `index`, from 1 on; each has random streams of its own.

    Fovea and disc lie where they were drawn, between pixels.
    """
    random = np.random.default_rng([seed, index, 0])
    camera = _camera(settings, camera_of(settings, seed, index), random)
    eye = _eye(settings, camera, random)
    y, x = np.indices((camera.rows, camera.columns)).astype(np.float64)
    depth = _background(camera, random)
    disc = _disc(eye, x, y, random)
    vessels = _vessels(eye, camera, random)
    shade = _fovea(eye, x, y, random)
    bright, dark = _lesions(eye, camera, settings, random)
    # Red, green and blue of the retina, the disc, the vessels and the lesions.
    image = depth[..., None] * np.array([0.72, 0.36, 0.14])
    image *= 1 - shade[..., None] * np.array([0.35, 0.6, 0.5])
    image += disc[..., None] * (np.array([1.0, 0.82, 0.5]) - image)
    image *= 1 - vessels[..., None] * np.array([0.35, 0.62, 0.5])
    image *= 1 - dark[..., None] * np.array([0.4, 0.65, 0.5])
    image += bright[..., None] * (np.array([1.0, 0.9, 0.45]) - image)
    image *= _light(camera, x, y, random)[..., None] * np.array(camera.tint)
    image = ndimage.gaussian_filter(image, (camera.blur, camera.blur, 0))
    away = np.hypot(x - camera.centre[0], y - camera.centre[1])
    image *= np.clip(camera.radius - away + 0.5, 0, 1)[..., None]
    noisy = 255 * image + random.normal(0, settings.noise, image.shape) + 4
    points = np.zeros((2, 3))
    points[:, :2] = eye.fovea, eye.disc
    return Picture(
        image=np.clip(noisy, 0, 255).round().astype(np.uint8),
        landmarks=Landmarks(FUNDUS_LANDMARKS, points),
    )


def _camera(settings: FundusSettings, name: str, random: np.random.Generator) -> Camera:
    width, height = settings.width, settings.width * 3 // 4
    light = random.uniform(0.75, 1.15)
    blur = random.uniform(0.5, 1.4) * width / 640
    if name == "camera B":
        tint = (0.85 * light, 1.15 * light, 1.5 * light)
        return Camera(height, height, 0.48 * height, tint, blur)
    return Camera(width, height, settings.field_share * width / 2, (light, light, light), blur)


def _eye(settings: FundusSettings, camera: Camera, random: np.random.Generator) -> Eye:
    right = random.random() < settings.right_fraction
    diameter = 2 * camera.radius
    # The narrower field of camera B shows less, so what it shows is larger.
    seen = 1.1 if camera.columns == camera.rows else 1.0
    distance = diameter * DISTANCE * seen * (1 + DISTANCE_CHANGE * random.uniform(-1, 1))
    turn = math.radians(settings.rotation_degrees) * random.uniform(-1, 1)
    side = 1.0 if right else -1.0
    across = np.array([side * math.cos(turn), math.sin(turn)])
    up = np.array([side * math.sin(turn), -math.cos(turn)])
    start = camera.centre - 0.08 * diameter * across
    fovea = start + settings.shift * diameter * random.uniform(-1, 1, 2)
    # The disc lies a little above the fovea.
    disc = fovea + distance * (across * 0.995 + up * random.uniform(0.02, 0.18))
    towards = disc - fovea
    length = float(np.linalg.norm(towards))
    across = towards / length
    up = np.array([across[1], -across[0]])
    return Eye(fovea, disc, across, up if up[1] < 0 else -up, length)


def _background(camera: Camera, random: np.random.Generator) -> Array:
    """Brightness of the retina: smooth unevenness, and a fine grain."""
    shape = (camera.rows, camera.columns)
    depth = np.ones(shape)
    for width, strength in ((0.12, 0.10), (0.03, 0.05), (0.004, 0.025)):
        noise = ndimage.gaussian_filter(random.standard_normal(shape), width * camera.columns)
        depth += strength * noise / max(float(noise.std()), 1e-9)
    return depth


def _disc(eye: Eye, x: Array, y: Array, random: np.random.Generator) -> Array:
    """How much of a pixel is disc: an upright ellipse with a brighter cup."""
    radius = DISC_RADIUS * eye.distance * random.uniform(0.9, 1.1)
    flat = random.uniform(0.85, 1.0)
    away = np.hypot((x - eye.disc[0]) / flat, y - eye.disc[1]) / radius
    soft = random.uniform(0.04, 0.1)
    rim = random.uniform(0.45, 0.7) / (1 + np.exp((away - 1) / soft))
    cup = 0.3 / (1 + np.exp((away - random.uniform(0.35, 0.6)) / 0.08))
    halo = random.uniform(0.05, 0.2) * np.exp(-((away / 1.9) ** 2))
    return np.asarray(np.clip(rim + cup + halo, 0, 1))


def _fovea(eye: Eye, x: Array, y: Array, random: np.random.Generator) -> Array:
    """How dark a pixel is by the fovea, with a small reflex in its middle in some eyes."""
    square = ((x - eye.fovea[0]) ** 2 + (y - eye.fovea[1]) ** 2) / eye.distance**2
    depth = random.uniform(0.25, 0.65)
    wide = random.uniform(0.8, 1.3) * FOVEA_WIDTH
    shade = depth * (0.6 * np.exp(-square / wide**2 / 2) + 0.4 * np.exp(-square / wide**2 / 12))
    if random.random() < 0.4:
        shade = shade - 0.5 * depth * np.exp(-square / (0.02**2) / 2)
    return np.asarray(shade)


def _vessels(eye: Eye, camera: Camera, random: np.random.Generator) -> Array:
    """How much of a pixel is vessel: arcades around the fovea and nasal ones, with branches."""
    size = (camera.columns * FINER, camera.rows * FINER)
    picture = Image.new("L", size)
    pen = ImageDraw.Draw(picture)
    paths: list[tuple[Array, float, float]] = []
    for above in (1.0, -1.0):
        for vein in (False, True):
            height = above * random.uniform(0.55, 0.8)
            end = random.uniform(-1.1, -0.6)
            t = np.linspace(0, 1, 60)
            # From the disc out to the arcade's height, past the fovea, and slowly back.
            along = 1 + (end - 1) * t**1.25
            arc = height * np.sin(np.pi * np.minimum(t, 0.999) ** 0.6 * 0.85)
            arc += 0.02 * np.cumsum(random.normal(0, 0.15, 60))
            paths.append((eye.at(along, arc), 0.055 if vein else 0.042, 0.9 if vein else 0.65))
            reach = random.uniform(0.5, 1.0)
            out = eye.at(1 + reach * t, above * (0.15 + random.uniform(0.3, 0.9) * t**1.2))
            paths.append((out, 0.035, 0.8 if vein else 0.6))
    for path, width, strength in list(paths):
        for _ in range(int(random.integers(5, 10))):
            start = int(random.integers(8, 52))
            step = path[start] - path[start - 1]
            turned = math.atan2(step[1], step[0]) + random.choice([-1, 1]) * random.uniform(0.4, 1)
            length = eye.distance * random.uniform(0.25, 0.7)
            bend = np.cumsum(random.normal(0, 0.06, 40))
            steps = np.stack([np.cos(turned + bend), np.sin(turned + bend)], axis=1) * length / 40
            branch = path[start] + np.cumsum(steps, axis=0)
            paths.append((branch, width * 0.5 * (1 - start / 80), strength * 0.85))
    for path, width, strength in paths:
        thick = np.linspace(1.0, 0.35, len(path)) * width * eye.distance * FINER
        clear = np.linalg.norm(path - eye.fovea, axis=1) < WITHOUT_VESSELS * eye.distance
        last = int(np.argmax(clear)) if clear.any() else len(path)
        dots = (path[:last] + 0.5) * FINER - 0.5
        for one, other, pixels in zip(dots, dots[1:], thick, strict=False):
            line = (*one.tolist(), *other.tolist())
            pen.line(line, fill=int(255 * strength), width=max(1, round(float(pixels))))
    fine = np.asarray(picture, dtype=np.float64) / 255
    blocks = fine.reshape(camera.rows, FINER, camera.columns, FINER).mean(axis=(1, 3))
    return np.asarray(ndimage.gaussian_filter(blocks, 0.6))


def _lesions(
    eye: Eye, camera: Camera, settings: FundusSettings, random: np.random.Generator
) -> tuple[Array, Array]:
    """How much of a pixel is exudate, and how much is bleeding."""
    found = []
    for size in (0.012, 0.03):
        whole = np.zeros((camera.rows, camera.columns))
        for _ in range(int(random.poisson(settings.lesions / 2))):
            middle = eye.at(random.uniform(-1, 1), random.uniform(-0.8, 0.8))
            for _ in range(int(random.integers(1, 9))):
                place = middle + random.normal(0, 0.08 * eye.distance, 2)
                radius = eye.distance * size * random.uniform(0.5, 1.6)
                _stamp(whole, place, radius, random.uniform(0.4, 1.0))
        found.append(whole)
    return found[0], found[1]


def _stamp(whole: Array, place: Array, radius: float, strength: float) -> None:
    """Draw a spot with soft borders where none is as strong."""
    reach = int(2 * radius) + 2
    x0, y0 = (max(0, int(value) - reach) for value in place)
    x1, y1 = (max(0, int(value) + reach + 1) for value in place)
    part = whole[y0:y1, x0:x1]
    y, x = np.indices(part.shape)
    away = np.hypot(x + x0 - place[0], y + y0 - place[1]) / radius
    np.maximum(part, strength / (1 + np.exp((away - 1) * 6)), out=part)


def _light(camera: Camera, x: Array, y: Array, random: np.random.Generator) -> Array:
    """Vignetting, a slope of brightness, and a crescent of haze at the border in some."""
    across, down = (x - camera.centre[0]) / camera.radius, (y - camera.centre[1]) / camera.radius
    square = across**2 + down**2
    light = 1 - random.uniform(0.15, 0.45) * square
    light += random.uniform(-0.15, 0.15) * across + random.uniform(-0.15, 0.15) * down
    if random.random() < 0.3:
        angle = random.uniform(0, 2 * math.pi)
        rim = np.clip(math.cos(angle) * across + math.sin(angle) * down - 0.6, 0, 1)
        light += 1.2 * rim**1.5
    return np.asarray(np.clip(light, 0.1, None))
