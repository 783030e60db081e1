"""Random inner ears: anatomical parameters, and the shapes and landmarks that follow from them.

Frame: a right ear in millimetres with the cochlea's centre at the origin and head axes as in
LPS, so x points medially, y to the back, z up. A left ear is the mirror image (x negated).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from landmarkflow.cohorts.shapes import Array, Ellipsoid, Points, Tube, rotation, unit

# Mean, sd, lowest and highest value of 77 real ears' distances and angle, drawn from normal
# distributions cut at the extremes. The angle's sd is set above the published 8.1°, which the cut
# and the redrawing of whole ears reduce again; the published sheet gives no range of width and
# height, so these are cut at about 2.4 sd.
WIDTH_MM = (6.53, 0.35, 5.70, 7.40)
HEIGHT_MM = (3.26, 0.24, 2.70, 3.82)
OVAL_TO_ROUND_MM = (2.91, 0.22, 2.43, 3.63)
ANGLE_DEGREES = (73.0, 9.5, 57.6, 99.0)
APEX_TO_ROUND_MM = (5.76, 8.01)
APEX_TO_OVAL_MM = (5.62, 7.97)
SEPTUM_MM = 0.22

MODIOLAR_AXIS = unit([-0.48, -0.75, -0.40])
TOWARDS_ROUND_WINDOW = unit([-0.78, 0.60, -0.25])
ROUND_TO_OVAL_WINDOW = unit([-0.84, -1.45, 2.05])
VESTIBULE_ANCHOR = np.array([-2.2, 5.8, 3.3])

# Superior, posterior and lateral canal: centre from the vestibule's (mm), two directions in the
# canal's plane (0° and 90° of its angle), radius of the centre line (mm), its first and last angle
# (degrees) and the number of points between.
CANALS = (
    ((-1.1, -0.5, 4.0), ((-0.68, -0.73, 0.05), (0.0, 0.0, 1.0)), 3.15, (-45, 178, 30)),
    ((-1.0, 4.4, 0.9), ((-0.66, 0.75, -0.05), (0.0, 0.0, 1.0)), 3.2, (-125, 150, 36)),
    ((-3.0, 1.0, 1.4), ((-1.0, 0.1, 0.05), (0.08, 0.95, -0.36)), 2.75, (-122, 122, 30)),
)


class CochleaParameters:
    """What varies between cochleae, drawn for one of them: lengths in mm, unit directions (3,)."""

    def __init__(self, random: np.random.Generator) -> None:
        def draw(*distribution: float) -> float:
            return truncated_normal(random, *distribution)

        self.axis = _tilted(random, MODIOLAR_AXIS, 2.5)  # modiolar, base to apex
        towards = _tilted(random, TOWARDS_ROUND_WINDOW, 2.0)
        self.phase = unit(towards - (towards @ self.axis) * self.axis)  # axis to round window
        self.turns = draw(2.62, 0.07, 2.5, 2.75)  # number from the round window to the cupula
        self.width = draw(*WIDTH_MM)  # outer, across the basal turn 90° and 270° from the window
        self.height = draw(*HEIGHT_MM)  # axial, basal centre line at the window to cupula's top
        self.scala_radius = draw(0.94, 0.04, 0.82, 1.06)  # at the base
        self.taper = draw(0.62, 0.05, 0.50, 0.74)  # radius at the cupula over that at the base
        self.scala_offset = draw(0.26, 0.03, 0.18, 0.34)  # axial, scala to centre line at the base
        self.hook = draw(1.67, 0.46, 0.6, 2.8)  # how far the base reaches out of the spiral
        self.dip = draw(0.2, 0.1, 0.0, 0.45)  # how far the basal turn sinks below its start
        self.curl = draw(1.0, 0.06, 0.85, 1.15)  # exponent of the spiral radius's decrease


@dataclass(frozen=True, eq=False)
class Cochlea:
    """A cochlea's lumen and landmarks, with the parameters that it was made from.

    Scala tympani runs from the round window to the cupula, scala vestibuli from the hook. The
    modiolus is the bony core, base to tip; the septum are rails of the thin bony sheet between
    neighbouring turns. The centre, (3,), is the middle of the modiolar axis at half the height:
    the origin; the apex the lumen's surface above the end of the last turn. The round window's
    centre lies on the lumen's surface as well; its unit normal points out.
    """

    parameters: CochleaParameters
    tympani: Tube
    vestibuli: Tube
    modiolus: Tube
    septum: tuple[Tube, ...]
    centre: Points
    apex: Points
    round_window: Points
    round_window_normal: Points


@dataclass(frozen=True, eq=False)
class InnerEar:
    """A whole labyrinth: cochlea, vestibule, and canals with their ampullae and common crus.

    The oval window is (3,), the centre of the stapes footplate on the vestibule's surface; its
    unit normal points out of the vestibule.
    """

    cochlea: Cochlea
    vestibule: Ellipsoid
    canals: tuple[Tube, ...]
    oval_window: Points
    oval_window_normal: Points

    def distance(self, points: Points) -> Array:
        """Signed distance (mm) of points (..., 3) to the lumen's outline, FAR beyond 8 mm."""
        tubes = (self.cochlea.tympani.along(0.6), *(canal.along(0.6) for canal in self.canals))
        parts = [tube.distance(points, band=8.0) for tube in tubes]
        return np.asarray(np.minimum.reduce([*parts, self.vestibule.distance(points)]))


def truncated_normal(
    random: np.random.Generator, mean: float, deviation: float, low: float, high: float
) -> float:
    """A normal number, redrawn until it lies in [low, high]."""
    while True:
        value = float(random.normal(mean, deviation))
        if low <= value <= high:
            return value


def draw_inner_ear(random: np.random.Generator) -> InnerEar:
    """Draw a labyrinth, redrawing it until its distances lie in the published ranges."""
    while True:
        cochlea = build_cochlea(CochleaParameters(random))
        oval_window = _draw_oval_window(random, cochlea)
        vestibule = _draw_vestibule(random, oval_window)
        canals = _draw_canals(random, vestibule.centre)
        to_round = float(np.linalg.norm(cochlea.apex - cochlea.round_window))
        to_oval = float(np.linalg.norm(cochlea.apex - oval_window))
        if (
            APEX_TO_ROUND_MM[0] <= to_round <= APEX_TO_ROUND_MM[1]
            and APEX_TO_OVAL_MM[0] <= to_oval <= APEX_TO_OVAL_MM[1]
        ):
            joined = _with_vestibular_opening(cochlea, vestibule)
            return InnerEar(joined, vestibule, canals, oval_window, vestibule.normal(oval_window))


def _tilted(random: np.random.Generator, direction: Points, degrees: float) -> Points:
    """A direction tilted by a normal angle (sd `degrees` in each of two ways)."""
    return unit(direction + np.radians(degrees) * random.standard_normal(3))


def build_cochlea(parameters: CochleaParameters) -> Cochlea:
    """The helico-spiral of these parameters, its cupula and its round window."""
    angles = np.radians(np.linspace(0.0, 360.0 * parameters.turns, 400))
    share = angles / angles[-1]
    # Along the spiral, mm: scala's axial offset and radius, distance from the axis, level on it.
    offset = parameters.scala_offset * (1 - 0.6 * share)
    tube = parameters.scala_radius * (1 - (1 - parameters.taper) * share)
    radius = _axis_distance(parameters, angles, tube)
    level = _axial_level(parameters, angles, tube + offset)
    axis = parameters.axis
    line = _around_axis(parameters, angles, radius, level)
    tympani = Tube(line - offset[:, None] * axis, tube)
    vestibuli = Tube(line + offset[:, None] * axis, tube)
    outward = unit(parameters.phase - 0.35 * axis)
    base, tip = -parameters.height / 2, parameters.height / 2
    core = np.array([base - 1.0, base + 0.4, 0.35 * tip])[:, None] * axis
    rails = (
        _around_axis(parameters, *rail) for rail in _interscalar_septum(angles, radius, level, tube)
    )
    return Cochlea(
        parameters=parameters,
        tympani=tympani,
        vestibuli=vestibuli,
        modiolus=Tube(core, np.array([1.1, 0.8, 0.3])),
        septum=tuple(Tube(rail, np.full(len(rail), SEPTUM_MM / 2)) for rail in rails),
        centre=np.zeros(3),
        apex=vestibuli.points[-1] + tube[-1] * axis,
        round_window=tympani.points[0] + tube[0] * outward,
        round_window_normal=outward,
    )


def _around_axis(p: CochleaParameters, angles: Array, radius: Array, level: Array) -> Points:
    """(n, 3) points at these angles (radians) round, distances from and levels on the axis."""
    across = np.cross(p.axis, p.phase)
    outward = np.cos(angles)[:, None] * p.phase + np.sin(angles)[:, None] * across
    return np.asarray(radius[:, None] * outward + level[:, None] * p.axis)


def _axis_distance(p: CochleaParameters, angles: Array, tube: Array) -> Array:
    """The spiral's radius (mm), scaled so that the outer walls at 90° and 270° lie `width` apart.

    Before 45° the hook leaves the spiral towards the round window.
    """
    quarters = np.array([0.5, 1.5]) * np.pi
    walls = np.interp(quarters, angles, tube)
    sides = _spiral_profile(quarters, angles[-1], p.curl)
    scale = (p.width - walls.sum()) / sides.sum()
    hook = p.hook * np.clip(1 - angles / (np.pi / 4), 0, 1) ** 2
    return np.asarray(scale * _spiral_profile(angles, angles[-1], p.curl) + hook)


def _axial_level(p: CochleaParameters, angles: Array, half_height: Array) -> Array:
    """Level of the centre line (mm): at the base for half a turn, then up to the cupula."""
    start = np.radians(150)
    base, top = -p.height / 2, p.height / 2 - half_height[-1]
    dip = p.dip * np.sin(np.clip(angles / np.radians(220), 0, 1) * np.pi)
    # From the base (0) to the cupula (1) slow, then fast, then slow.
    v = np.clip((angles - start) / (angles[-1] - start), 0, 1)
    rise = 0.5 * v**2 * (3 - 2 * v) + 0.5 * (1 - (1 - v) ** 2)
    return np.asarray(base + (top - base) * rise - dip)


def _interscalar_septum(
    angles: Array, radius: Array, level: Array, tube: Array
) -> list[tuple[Array, Array, Array]]:
    """Angle, distance from the axis and axial level of rails of the sheet between two turns.

    It lies half way between the surfaces of a turn and the next one, across the line that joins
    their centres in the plane through the axis.
    """
    turn = int(np.searchsorted(angles, 2 * np.pi))
    below = np.stack([radius[:-turn], level[:-turn]], axis=1)
    above = np.stack([radius[turn:], level[turn:]], axis=1)
    apart = np.linalg.norm(above - below, axis=1, keepdims=True)
    share = tube[:-turn] / (tube[:-turn] + tube[turn:])
    middle = below + share[:, None] * (above - below)
    across = ((above - below) / apart)[:, ::-1] * [1.0, -1.0]
    rails = (middle + step * across for step in np.arange(-0.75, 0.76, 0.15))
    return [(angles[:-turn], rail[:, 0], rail[:, 1]) for rail in rails]


def _spiral_profile(angles: Array, end: float, curl: float) -> Array:
    """Relative distance from the axis, e + (1 - e)(1 - u)^curl: 1 at 90°, e = 0.22 at the end."""
    share = (angles - np.pi / 2) / (end - np.pi / 2)
    return np.asarray(0.22 + 0.78 * np.sign(1 - share) * np.abs(1 - share) ** curl)


def _draw_oval_window(random: np.random.Generator, cochlea: Cochlea) -> Points:
    """Place the oval window by its distance and its angle at the round window."""
    distance = truncated_normal(random, *OVAL_TO_ROUND_MM)
    angle = np.radians(truncated_normal(random, *ANGLE_DEGREES))
    towards_apex = unit(cochlea.apex - cochlea.round_window)
    sideways = ROUND_TO_OVAL_WINDOW - (ROUND_TO_OVAL_WINDOW @ towards_apex) * towards_apex
    sideways = rotation(towards_apex, float(random.normal(0, 4))) @ unit(sideways)
    direction = np.cos(angle) * towards_apex + np.sin(angle) * sideways
    return np.asarray(cochlea.round_window + distance * direction)


def _draw_vestibule(random: np.random.Generator, oval_window: Points) -> Ellipsoid:
    """An ellipsoid of about 3.1 x 4.7 x 4.9 mm that touches the oval window.

    It lies from the window towards a place behind the cochlea that varies little, so that
    vestibule and canals follow the window's own variation only in part.
    """
    semi_axes = np.array([1.55, 2.35, 2.45]) * random.normal(1.0, 0.05, 3)
    turn = rotation([0, 0, 1], float(random.normal(12, 6)))
    axes = turn @ rotation([1, 0, 0], float(random.normal(-15, 6)))
    outward = unit(oval_window - VESTIBULE_ANCHOR + random.normal(0, 0.15, 3))
    at_origin = Ellipsoid(np.zeros(3), semi_axes, axes)
    return replace(at_origin, centre=oval_window - at_origin.reach(outward) * outward)


def _with_vestibular_opening(cochlea: Cochlea, vestibule: Ellipsoid) -> Cochlea:
    """The cochlea whose scala vestibuli starts in the vestibule instead of at the round window."""
    start = 25
    scala = cochlea.vestibuli
    towards = unit(scala.points[start] - vestibule.centre)
    entry = vestibule.centre + 0.6 * vestibule.reach(towards) * towards
    points = np.vstack([entry, scala.points[start:]])
    radii = np.concatenate([[0.9 * scala.radii[start]], scala.radii[start:]])
    return replace(cochlea, vestibuli=Tube(points, radii))


def _draw_arc(
    random: np.random.Generator, nominal: Points, plane: Sequence[ArrayLike], radius: float,
    degrees: tuple[float, float, int],
) -> Points:  # fmt: skip
    """A canal's centre line about a nominal one: own tilt (sd 4°), place (sd 0.2 mm) and radii."""
    turn = rotation(random.standard_normal(3), float(random.normal(0, 4)))
    centre = nominal + random.normal(0, 0.2, 3)
    size = truncated_normal(random, radius, 0.2, radius - 0.4, radius + 0.4)
    other = size * random.normal(1.0, 0.05)
    angle = np.radians(np.linspace(*degrees))[:, None]
    first, second = (turn @ unit(direction) for direction in plane)
    return np.asarray(centre + size * np.cos(angle) * first + other * np.sin(angle) * second)


def _draw_canals(random: np.random.Generator, vestibule: Points) -> tuple[Tube, ...]:
    """Superior, posterior and lateral canals, the first two meeting in the common crus."""
    bore = truncated_normal(random, 0.60, 0.05, 0.50, 0.72)
    above, behind, beside = (
        _draw_arc(random, vestibule + np.array(place), plane, radius, degrees)
        for place, plane, radius, degrees in CANALS
    )
    crus = (above[-1] + behind[-1]) / 2
    utricle = vestibule + np.array([-0.3, 0.6, 1.0])
    return (
        _canal(utricle, np.vstack([above, crus]), bore),
        _canal(vestibule, np.vstack([behind, crus]), bore),
        _canal(utricle, np.vstack([beside, utricle]), bore),
        Tube(np.stack([crus, utricle]), np.array([1.15, 1.5]) * bore),
    )


def _canal(inlet: Points, line: Points, bore: float) -> Tube:
    """A canal of radius `bore` mm from its inlet through its ampulla along a line."""
    radii = np.full(len(line) + 1, bore)
    radii[:5] = bore * np.array([1.8, 1.9, 1.95, 1.6, 1.2])
    return Tube(np.vstack([inlet, line]), radii).smoothed(0.5)
