"""Passages and small bones around an inner ear: middle ear, vessels, nerves, ossicles.

Frame: that of `anatomy` (right ear, cochlea's centre at the origin, mm; x medial, y back, z up).
Nominal positions are those of a textbook temporal bone; each subject draws its own about them.
"""

import numpy as np

from landmarkflow.cohorts.anatomy import InnerEar
from landmarkflow.cohorts.shapes import Ellipsoid, Points, Tube, unit

UMBO = np.array([-1.2, -3.4, -2.6])


class Passages:
    """Hollow ways through the bone around an inner ear."""

    def __init__(self, random: np.random.Generator, ear: InnerEar) -> None:
        """Draw them, always in this order."""
        self.middle_ear = _draw_middle_ear(random)  # tympanum, retrotympanum, attic and antrum
        self.air_tubes = _draw_air_tubes(random)  # external ear canal, aditus, Eustachian tube
        self.vessels = _draw_vessels(random)  # carotid; sigmoid sinus with jugular bulb and vein
        self.auditory_canal = _draw_auditory_canal(random)  # from its fundus to beyond its porus
        self.facial_canal = _draw_facial_canal(random, ear)
        self.niches = _niches(ear)  # air between round and oval windows and the middle ear


def _jittered(random: np.random.Generator, points: list[list[float]], spread: float) -> Points:
    """Nominal points moved by one common shift and by half as much each."""
    nominal = np.array(points, dtype=np.float64)
    common = random.normal(0, spread, 3)
    return np.asarray(nominal + common + random.normal(0, spread / 2, nominal.shape))


def _draw_middle_ear(random: np.random.Generator) -> tuple[Ellipsoid, ...]:
    size = random.uniform(0.88, 1.12, (4, 3))
    centres = _jittered(
        random, [[-8.0, 0.2, -1.5], [-7.0, 5.0, -1.5], [-9.2, 1.5, 4.6], [-13.0, 9.0, 6.0]], 0.4
    )
    lengths = np.array([[3.0, 6.0, 6.2], [2.6, 3.0, 4.0], [3.2, 4.6, 3.0], [3.6, 4.6, 3.8]])
    return tuple(Ellipsoid(c, s, np.eye(3)) for c, s in zip(centres, lengths * size, strict=True))


def _draw_air_tubes(random: np.random.Generator) -> tuple[Tube, ...]:
    width = random.uniform(3.0, 4.0)
    ear_canal = _jittered(
        random, [[-9.5, -0.5, -2.0], [-16, -1.5, -1.5], [-24, -1.0, 0.0], [-45, -3, 1.0]], 0.6
    )
    eustachian = _jittered(
        random, [[-6.5, -4, -1.5], [-2.5, -10, -4], [3, -17, -7.5], [12, -27, -13]], 0.5
    )
    return (
        Tube(ear_canal, np.array([1.1, 1.0, 0.95, 1.1]) * width).smoothed(2.0, 2.5),
        Tube(np.array([[-9.5, 3.0, 5.0], [-12.5, 8.0, 6.0]]), np.array([2.2, 2.4])),
        Tube(eustachian, np.array([2.6, 1.7, 1.1, 1.0])).smoothed(1.5, 1.5),
    )


def _draw_vessels(random: np.random.Generator) -> tuple[Tube, ...]:
    carotid = _jittered(
        random,
        [[-1, -6, -30], [-0.5, -6.5, -12], [1, -8, -8.5], [6, -11, -6.5], [18, -18, -4.5],
         [22, -24, -1], [21, -26, 8]],
        0.7,
    )  # fmt: skip
    bulb_top = random.normal(-9.5, 1.5)
    sinus = _jittered(
        random,
        [[-2, 7, -32], [-1, 7.5, -16], [-0.5, 8, bulb_top - 4], [-6, 13, -11], [-13, 17, -8],
         [-16, 19.5, 1], [-16, 24, 9], [-12, 34, 14]],
        0.9,
    )  # fmt: skip
    calibre = random.uniform(0.8, 1.2)
    return (
        Tube(carotid, np.full(7, random.uniform(2.4, 3.1))).smoothed(2.0, 2.5),
        Tube(sinus, calibre * np.array([3.6, 4, 4.4, 3.8, 4.2, 4.6, 4.4, 4.4])).smoothed(2.0, 2.5),
    )


def _draw_auditory_canal(random: np.random.Generator) -> Tube:
    points = _jittered(random, [[2.7, 3.1, 1.6], [6, 4.2, 1.6], [12, 6.2, 1.3], [19, 9, 1]], 0.25)
    radii = random.uniform(0.9, 1.15) * np.array([1.5, 2.0, 2.4, 3.6])
    return Tube(points, radii).smoothed(1.0, 1.0)


def _draw_facial_canal(random: np.random.Generator, ear: InnerEar) -> Tube:
    """Facial nerve: fundus, geniculum, over the oval window, second genu, mastoid part."""
    x, y, z = ear.oval_window + np.array([-0.4, 0.0, 2.0])
    points = _jittered(
        random,
        [[2.6, 2.0, 3.0], [1.0, -0.5, 4.4], [-0.8, -1.8, 4.6], [x, y, z],
         [x - 2.4, y + 3.2, z - 1.0], [x - 3.6, y + 5.2, z - 3.6], [-8.8, 9, -8], [-9.6, 9.2, -20]],
        0.15,
    )  # fmt: skip
    return Tube(points, np.array([0.5, 0.5, 0.8, 0.65, 0.65, 0.75, 0.8, 0.85])).smoothed(0.8)


def _niches(ear: InnerEar) -> tuple[Tube, ...]:
    window, out = ear.cochlea.round_window, ear.cochlea.round_window_normal
    mouth = window + 1.2 * out + np.array([-0.9, 0.3, -0.4])
    oval, away = ear.oval_window, ear.oval_window_normal
    return (
        _tube([window + 0.85 * out, mouth, mouth + np.array([-1.6, 0.0, -0.6])], [0.8, 1.1, 1.4]),
        _tube(
            [oval + 1.35 * away, oval + 2.0 * away, oval + np.array([-4.0, -1, -1])],
            [1.15, 1.3, 1.8],
        ),
    )


def _tube(points: list[Points], radii: list[float]) -> Tube:
    return Tube(np.stack(points), np.array(radii))


class Ossicles:
    """Malleus, incus and stapes, from the eardrum to the oval window."""

    def __init__(self, random: np.random.Generator, ear: InnerEar) -> None:
        """Draw the bodies, processes and crura, the footplate of the stapes, and the eardrum."""
        oval, out = ear.oval_window, ear.oval_window_normal
        along = unit(np.cross(out, [0.0, 0.0, 1.0]))
        stapes = oval + 3.0 * unit(out - np.array([0.9, 0.0, 0.0]))
        attic = stapes + random.normal(0, 0.25, 3)
        head = attic + np.array([-2.0, -3.2, 4.3])
        body = attic + np.array([-2.4, -0.8, 4.2])
        self.tubes = (
            # Malleus: head and handle.
            _tube([head, head + np.array([0.0, 0.0, 0.5])], [1.2, 1.1]),
            _tube([head, head + np.array([0.1, -0.2, -2.0]), attic + UMBO], [0.8, 0.55, 0.4]),
            # Incus: body, short process, and long process down to the stapes.
            _tube([body, body + np.array([0.0, -0.8, 0.1])], [1.15, 1.05]),
            _tube([body, body + np.array([-0.8, 3.2, 0.1])], [0.9, 0.5]),
            _tube([body, attic + np.array([-1.6, 0.2, 1.8]), stapes], [0.85, 0.5, 0.4]),
            # Crura of the stapes.
            _tube([stapes, oval - 1.1 * along + 0.2 * out], [0.35, 0.25]),
            _tube([stapes, oval + 1.1 * along + 0.2 * out], [0.35, 0.25]),
        )
        axes = np.stack([along, np.cross(out, along), out], axis=1)
        self.footplate = Ellipsoid(oval, np.array([1.4, 0.8, 0.16]), axes)
        self.drum = _drum(attic + UMBO)


def _drum(umbo: Points) -> Ellipsoid:
    """The tympanic membrane through the malleus's tip, facing outward, forward and down."""
    facing = unit([-0.75, 0.3, -0.55])
    across = unit(np.cross(facing, [0.0, 0.0, 1.0]))
    axes = np.stack([across, np.cross(facing, across), facing], axis=1)
    return Ellipsoid(umbo - 0.4 * facing, np.array([4.6, 4.6, 0.12]), axes)
