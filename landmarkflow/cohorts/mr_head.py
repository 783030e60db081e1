"""Simulated heads in magnetic resonance: scan, the brain's segmentation and landmarks.

A head is made of tissues that lie in each other, each an ellipsoid, a tube or a folded surface
whose parameters are drawn anew for every head. What a scanner adds is drawn beside: pose, a smooth
field of brightness, Rician noise, and grey values in any unit.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from landmarkflow.cohorts.mr_head_settings import LABELS, MrHeadSettings
from landmarkflow.cohorts.shapes import Array, Ellipsoid, SmoothNoise, Tube, coverage
from landmarkflow.cohorts.simulate import Subject
from landmarkflow.core.grids import Grid
from landmarkflow.core.points import Landmarks
from landmarkflow.images.operations import image_on

# Brightness of each tissue; white matter in T1 is nearly the brightest.
BRIGHTNESS: dict[Literal["t1", "t2"], dict[str, float]] = {
    "t1": {
        "air": 0.0,
        "scalp": 0.95,
        "skull": 0.1,
        "fluid": 0.18,
        "grey": 0.55,
        "white": 0.85,
        "core": 0.62,
        "muscle": 0.45,
    },
    "t2": {
        "air": 0.0,
        "scalp": 0.7,
        "skull": 0.08,
        "fluid": 1.0,
        "grey": 0.6,
        "white": 0.4,
        "core": 0.5,
        "muscle": 0.25,
    },
}
# Depth and wavelength of the brain's folds, and the thickness of grey matter, mm.
FOLD_MM, FOLD_WAVELENGTH_MM, CORTEX_MM = 6.0, 26.0, 3.5
# Of the third ventricle, mm.
THIRD_RADIUS_MM = 3.0


@dataclass(frozen=True, eq=False)
class Anatomy:
    """One head about its own origin, LPS mm.

    Attributes:
        scalp: its skin.
        skull: the outside of the bone.
        dura: the inside of the bone, which fluid fills.
        brain: the cerebrum, before it is folded.
        cerebellum: with white matter in it.
        neck: below the head.
        face: in front of the skull and below it, with the nose's air in it.
        callosum: white matter between the hemispheres, an arc.
        stem: the brain's stem.
        pons: the bulge at its front.
        ventricles: filled with fluid.
        cores: the nuclei beside the third ventricle.
        eyes: filled with fluid.
        points: (6, 3) of `LABELS`.
    """

    scalp: Ellipsoid
    skull: Ellipsoid
    dura: Ellipsoid
    brain: Ellipsoid
    cerebellum: Ellipsoid
    neck: Tube
    face: tuple[Ellipsoid, Ellipsoid]
    callosum: Tube
    stem: Tube
    pons: Ellipsoid
    ventricles: tuple[Tube, ...]
    cores: tuple[Ellipsoid, ...]
    eyes: tuple[Ellipsoid, ...]
    points: Array


def simulate_mr_head(settings: MrHeadSettings, seed: int, index: int) -> Subject:
    """Make head `index` of the cohort `seed`; the same numbers make the same bytes.

    Every head has random streams of its own. Head 0, the template, lies upright.
    """
    shape, texture, scanner = np.random.default_rng([seed, index, 7]).spawn(3)
    anatomy = draw_anatomy(shape, settings.variation)
    grid, rotation, place = _draw_pose(shape, settings, upright=index == 0)
    index_of = np.stack(np.meshgrid(*map(np.arange, grid.size), indexing="ij"), axis=-1)
    points = grid.to_physical(index_of.reshape(-1, 3).astype(np.float64))
    inside = (points - place) @ rotation
    brightness, brain = render(anatomy, inside, settings, texture)
    seen = scanned(brightness, points - grid.centre, settings, scanner)
    return Subject(
        image_on(grid, np.ascontiguousarray(seen.reshape(grid.size).T)),
        image_on(grid, np.ascontiguousarray(brain.reshape(grid.size).T)),
        Landmarks(LABELS, anatomy.points @ rotation.T + place),
        "",
    )


def draw_anatomy(random: np.random.Generator, variation: float) -> Anatomy:
    """Draw a head's parameters; `variation` is the standard deviation of their relative change."""

    def vary(*values: float) -> Array:
        return np.array(values) * (
            1 + variation * np.clip(random.standard_normal(len(values)), -2, 2)
        )

    brain = vary(64, 80, 56)
    inner = brain + vary(5, 5, 5)
    half = vary(12.0)[0]
    genu = np.array([0, -vary(34)[0], vary(4)[0]])
    splenium = np.array([0, vary(32)[0], vary(6)[0]])
    crown = np.array([0, 0, vary(22)[0]])
    turn = np.linspace(0, np.pi, 25)[:, None]
    arc = (genu + splenium) / 2 + (genu - splenium) / 2 * np.cos(turn) + crown * np.sin(turn)
    callosum = Tube(arc, np.full(len(arc), vary(4.5)[0]))
    front, back = arc[0], arc[-1]
    width, length, radius = vary(11)[0], vary(0.8)[0], vary(4.5)[0]
    ventricles, horns = [], []
    for side in (1.0, -1.0):
        # LPS: the left side has larger x.
        body = arc[2:-2] * [1, length, 1] - [0, 0, 4.0]
        path = body + np.array([side * width, 0, 0])
        path[:, 0] += side * np.linspace(3, 8, len(path)) * vary(1.0)[0]
        ventricles.append(Tube(path, np.full(len(path), radius)))
        ahead = (path[0] - path[1]) / np.linalg.norm(path[0] - path[1])
        horns.append(path[0] + radius * ahead)
    third = np.array([[0, -8, -4], [0, 10, -6]]) * vary(1.0)[0]
    ventricles.append(Tube(third, np.full(2, THIRD_RADIUS_MM)))
    pons_place = np.array([0, vary(8)[0], -vary(38)[0]])
    pons = Ellipsoid(pons_place, vary(14, 11, 13), np.eye(3))
    cerebellum = Ellipsoid(np.array([0, vary(42)[0], -vary(42)[0]]), vary(46, 24, 20), np.eye(3))
    fourth = np.array([[0, 24.0, 4.0], [0, 22.0, -12.0]]) + pons_place - [0, 8, 0]
    ventricles.append(Tube(fourth, vary(5.0, 3.0)))
    fastigium = fourth[0] + ventricles[-1].radii[0] * np.array([0, 0.8, 0.6])
    stem = Tube(
        np.array([[0, 4.0, -12.0], [0, 10.0, -34.0], pons_place + np.array([0, 6, -34])]),
        vary(11, 12, 9),
    )
    cores = tuple(
        Ellipsoid(np.array([side * half * 1.3, 4.0, -2.0]), vary(9, 15, 9), np.eye(3))
        for side in (1.0, -1.0)
    )
    eyes = tuple(
        Ellipsoid(np.array([side * 31.0, -brain[1] + 8, -36.0]), vary(12, 12, 12), np.eye(3))
        for side in (1.0, -1.0)
    )
    middle = np.array([0.0, 0.0, -5.0])
    pineal = third[1] + np.array([0, THIRD_RADIUS_MM, 0])
    points = np.stack(
        [
            front - [0, callosum.radii[0], 0],
            back + np.array([0, callosum.radii[-1], 0]),
            *horns,
            pineal,
            fastigium,
        ]
    )
    return Anatomy(
        Ellipsoid(middle, inner + np.array([12, 14, 14]), np.eye(3)),
        Ellipsoid(middle, inner + 6, np.eye(3)),
        Ellipsoid(middle, inner + np.array([0, 0, 2]), np.eye(3)),
        Ellipsoid(np.zeros(3), brain, np.eye(3)),
        cerebellum,
        Tube(np.array([[0, 20.0, -60.0], [0, 30.0, -140.0]]), np.array([52.0, 52.0])),
        (
            Ellipsoid(np.array([0, -62.0, -62.0]), vary(46, 42, 52), np.eye(3)),
            Ellipsoid(np.array([0, -78.0, -56.0]), vary(11, 20, 20), np.eye(3)),
        ),
        callosum,
        stem,
        pons,
        tuple(ventricles),
        cores,
        eyes,
        points,
    )


def render(
    anatomy: Anatomy, points: Array, settings: MrHeadSettings, random: np.random.Generator
) -> tuple[Array, NDArray[np.uint8]]:
    """Brightness (n,) of tissue at (n, 3) points about the head's origin, and 1 in the brain."""
    tissue = BRIGHTNESS[settings.contrast]
    edge = float(max(settings.spacing))
    values = np.full(len(points), tissue["air"])
    folds, grain = SmoothNoise(random, FOLD_WAVELENGTH_MM), SmoothNoise(random, 12.0)

    def fill(distance: Array, kind: str) -> None:
        share = coverage(distance, edge).astype(np.float64)
        values[:] += share * (tissue[kind] - values)

    fill(anatomy.neck.distance(points), "muscle")
    fill(anatomy.face[0].distance(points), "scalp")
    fill(anatomy.face[0].distance(points) + 5, "muscle")
    fill(anatomy.face[1].distance(points), "air")
    fill(anatomy.scalp.distance(points), "scalp")
    fill(anatomy.scalp.distance(points) + 4, "muscle")
    fill(anatomy.skull.distance(points), "skull")
    fill(anatomy.dura.distance(points), "fluid")
    folded = anatomy.brain.distance(points) + FOLD_MM * (np.abs(folds(points)) - 0.8)
    # Between the hemispheres a cleft that ends below the corpus callosum.
    cleft = 2.5 * np.clip((points[:, 2] + 2) / 12, -1, 1) - np.abs(points[:, 0])
    cerebrum = np.maximum(folded, cleft)
    hind = anatomy.cerebellum.distance(points) + np.abs(np.sin(points[:, 2] / 1.6)) - 0.5
    fill(cerebrum, "grey")
    fill(cerebrum + CORTEX_MM + np.abs(folds(points[:, [1, 2, 0]])), "white")
    fill(hind, "grey")
    fill(hind + 6, "white")
    stem = np.minimum(anatomy.stem.distance(points, 60.0), anatomy.pons.distance(points))
    around = np.minimum(stem - 5, anatomy.pons.distance(points) - 6)
    # Before the stem alone: behind it fluid would hide where the fourth ventricle ends.
    before = (points[:, 2] < -22) & (points[:, 1] < anatomy.pons.centre[1] + 4)
    fill(np.where(before, np.maximum(around, -hind), 50.0), "fluid")
    fill(stem, "white")
    for core in anatomy.cores:
        fill(core.distance(points), "core")
    fill(anatomy.callosum.distance(points) - 2.0, "grey")
    fill(anatomy.callosum.distance(points), "white")
    for ventricle in anatomy.ventricles:
        fill(ventricle.distance(points), "fluid")
    for eye in anatomy.eyes:
        fill(eye.distance(points), "fluid")
    values *= 1 + 0.04 * grain(points)
    brain = np.minimum(np.minimum(cerebrum, hind), stem) < 0
    return values, brain.astype(np.uint8)


def scanned(
    brightness: Array, points: Array, settings: MrHeadSettings, random: np.random.Generator
) -> NDArray[np.int16]:
    """What a scanner makes of brightness (n,) at (n, 3) points about the volume's centre.

    A smooth field of the second order changes it, Rician noise is added, and a factor drawn for
    each scan makes grey values of it.
    """
    reach = np.abs(points).max(axis=0)
    x, y, z = (points / reach).T
    terms = np.stack([x, y, z, x * x, y * y, z * z, x * y, y * z, z * x])
    field = random.standard_normal(len(terms)) @ terms
    field *= settings.bias * random.uniform(0.4, 1.0) / np.abs(field).max()
    sd = random.uniform(*settings.noise)
    real, imaginary = (sd * random.standard_normal(len(points)) for _ in range(2))
    magnitude = np.hypot(brightness * (1 + field) + real, imaginary)
    gain = random.uniform(*settings.gain)
    return np.asarray(np.clip(np.rint(gain * magnitude), 0, 32767), np.int16)


def _draw_pose(
    random: np.random.Generator, settings: MrHeadSettings, *, upright: bool
) -> tuple[Grid, Array, Array]:
    """The volume, the head's rotation (3, 3) and its origin's place, LPS mm."""
    spacing = np.array(settings.spacing, dtype=np.float64)
    middle = random.uniform(-20, 20, 3)
    origin = middle - spacing * (np.array(settings.size) - 1) / 2
    axis = random.standard_normal(3)
    angle = random.uniform(0, settings.rotation_degrees) * (not upright)
    turn = Rotation.from_rotvec(np.radians(angle) * axis / np.linalg.norm(axis)).as_matrix()
    shift = random.uniform(-settings.shift_mm, settings.shift_mm, 3)
    return Grid(settings.size, spacing, origin, np.eye(3)), np.asarray(turn), middle + shift
