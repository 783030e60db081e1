"""The head around an inner ear: bone surfaces, soft tissue and air cells of one subject.

Frame: that of `anatomy` (right ear, cochlea's centre at the origin, mm; x medial, y back, z up).
Everything here is drawn anew for every subject: surfaces are heights and planes whose positions
are random and to which smooth random functions are added. The central skull base is mirrored at
the head's midline, so that a wide volume shows the other side's petrous apex.
"""

from dataclasses import dataclass
from functools import partial, reduce

import numpy as np
from numpy.typing import NDArray

from landmarkflow.cohorts.anatomy import InnerEar
from landmarkflow.cohorts.passages import Passages
from landmarkflow.cohorts.shapes import (
    Array,
    Ellipsoid,
    Points,
    SmoothNoise,
    Tube,
    rotation,
    smooth_max,
    smooth_min,
    unit,
)

MIDLINE_MM = 33.0
SLOPE = 0.82
CELL_REGION_MM = ((-36.0, 26.0), (-22.0, 34.0), (-28.0, 16.0))


class SkullParameters:
    """What varies between skulls, drawn for one of them: lengths in mm, densities in HU."""

    def __init__(self, random: np.random.Generator) -> None:
        normal, uniform = random.normal, random.uniform
        self.tegmen_height = normal(5.0, 0.6)  # middle fossa floor above the cochlea's centre
        self.tegmen_slope = uniform(0.4, 0.65)  # fall of the front face per mm towards the front
        self.ridge_height = normal(11.0, 0.8)  # of the petrous ridge
        self.eminence = uniform(0.6, 2.0)  # height of the arcuate eminence above what is around
        self.posterior_distance = normal(11.5, 1.0)  # cochlea's centre to posterior fossa's face
        # (3,) unit direction into the posterior fossa.
        self.posterior_normal = unit(np.array([0.52, 0.82, 0.22]) + normal(0, 0.06, 3))
        self.base_height = normal(-9.5, 1.0)  # underside of the skull base
        self.mastoid_depth = uniform(8.0, 16.0)  # of the mastoid process below that
        self.wall = normal(-31.0, 1.5)  # outer surface of the skull, distance to the side
        self.wall_thickness = uniform(3.0, 5.5)  # of the squama
        self.scalp = uniform(4.0, 8.0)  # thickness of scalp and cheek
        self.cortex = uniform(0.8, 1.5)  # mean thickness of the cortical layer
        self.cortical_hu = uniform(1150, 1450)
        self.trabecular_hu = uniform(450, 750)
        self.periotic_hu = uniform(1250, 1500)  # dense petrous bone around the capsule
        self.capsule_hu = uniform(1950, 2150)
        self.capsule_thickness = uniform(1.2, 1.7)  # around the cochlea; canals have 0.75 of it
        # Share of the mastoid that holds air cells, 0 to 1; whether the petrous apex holds some.
        self.pneumatisation = float(np.clip(random.beta(3.0, 1.2), 0.1, 1.0))
        self.apex_pneumatised = bool(random.random() < 0.4)
        self.cell_radius = uniform(0.9, 1.4)  # mean radius of an air cell


@dataclass(frozen=True, eq=False)
class Surfaces:
    """Signed distances (mm, negative inside) of one set of points.

    `bone` is skull, mandible and styloid without their passages; `skull` alone may hold air cells.
    `air` is middle ear, external ear canal, Eustachian tube and sphenoid sinus; `cranial` is the
    inside of the skull, `skin` the head, `labyrinth` the inner ear's lumen.
    """

    bone: Array
    skull: Array
    air: Array
    cranial: Array
    skin: Array
    labyrinth: Array


class Skull:
    """One subject's skull; its functions take points (..., 3) in the anatomy's frame."""

    def __init__(self, random: np.random.Generator, ear: InnerEar, passages: Passages) -> None:
        """Draw the skull around an inner ear and its passages."""
        self.parameters = SkullParameters(random)
        self.passages = passages
        self._ear = ear
        self._detail = SmoothNoise(random, 3.5)
        self._relief = SmoothNoise(random, 8.0)
        self._undulation = SmoothNoise(random, 26.0)
        self.bone_density = SmoothNoise(random, 10.0)
        self._patches = SmoothNoise(random, 14.0)
        self._fat = SmoothNoise(random, 16.0)
        # The mandible's condyle in its fossa.
        centre = np.array([-17.0, -15.0, -8.5]) + random.normal(0, 0.8, 3)
        lengths = np.array([8.0, 3.8, 5.5]) * random.uniform(0.9, 1.1, 3)
        self._condyle = Ellipsoid(centre, lengths, rotation([0, 0, 1], random.normal(20, 6)))
        # One side's sphenoid sinus, which ends at the midline's septum.
        lengths = np.array([5.5, 9.0, 5.5]) * random.uniform(0.8, 1.15)
        self._sinus = Ellipsoid(np.array([MIDLINE_MM - 6.2, -27.0, -5.5]), lengths, np.eye(3))

    def surfaces(self, points: Points) -> Surfaces:
        """Signed distances of the head's parts."""
        folded = points.copy()
        folded[..., 0] = MIDLINE_MM - np.abs(points[..., 0] - MIDLINE_MM)
        wave = self._undulation(points).astype(np.float64)
        bump = self._relief(points) + 0.6 * self._detail(points).astype(np.float64)
        labyrinth = self._ear.distance(points)
        cavities = (part.distance(folded) for part in self.passages.middle_ear)
        hollow = reduce(partial(smooth_min, width=1.5), cavities) + 0.6 * bump
        cranial = self._cranial(folded, wave, bump)
        below = self._below_base(folded, wave, bump)
        side, front = self._side(folded, wave, bump), self._front(folded, wave)
        skull = smooth_max(smooth_max(-cranial, -below, 1.5), -smooth_min(side, front, 2.0), 1.5)
        skull = smooth_min(skull, self._central_base(folded) + 0.6 * bump, 2.0)
        skull = smooth_min(skull, smooth_min(labyrinth - 1.6, hollow - 1.2, 2.0), 3.0)
        air = self._air(folded, hollow, bump)
        vessels = (*self.passages.vessels, self.passages.auditory_canal)
        hollows = np.minimum.reduce([tube.distance(folded) for tube in vessels])
        skull = smooth_max(smooth_max(skull, -hollows, 0.8), -air, 0.3)
        bone = np.minimum(skull, np.maximum(self._attached_bones(folded), -air))
        skin = -side - self.parameters.scalp
        return Surfaces(bone, skull, air, cranial, skin, labyrinth)

    def _cranial(self, p: Points, wave: Array, bump: Array) -> Array:
        """Inside the skull: middle and posterior fossa within the side and front walls."""
        q = self.parameters
        # Behind the pyramid's back face and above the occipital bone.
        face = q.posterior_distance + wave + 0.4 * bump - p @ q.posterior_normal
        posterior = smooth_max(face, q.base_height - 2.0 + 0.8 * wave - p[..., 2], 4.0)
        cavity = smooth_min(self._middle_fossa(p, wave, bump), posterior, 2.0)
        side = q.wall + q.wall_thickness - p[..., 0] + 0.6 * wave + 0.010 * (p[..., 1] - 2) ** 2
        front = q.wall_thickness - self._front(p, wave)
        return smooth_max(smooth_max(cavity, side, 4.0), front, 4.0)

    def _middle_fossa(self, p: Points, wave: Array, bump: Array) -> Array:
        """Above the floor: the pyramid's front face, the tegmen beside it, the eminence on it."""
        q = self.parameters
        x, y, z = p[..., 0], p[..., 1], p[..., 2]
        pyramid = q.tegmen_height + q.tegmen_slope * y - 0.12 * np.maximum(x - 6, 0)
        tegmen = 8.5 + 0.2 * y + wave
        beside = _step(-8.0 - x, 1.8)
        floor = beside * tegmen + (1 - beside) * pyramid
        floor = smooth_min(floor, q.ridge_height + 0.1 * np.maximum(-x - 8, 0), 4.0)
        floor = smooth_max(floor, np.full_like(x, -3.5), 5.0) + 0.6 * bump + 0.7 * wave
        floor = floor + q.eminence * np.exp(-((x + 4.3) ** 2 + (y - 4.5) ** 2) / 9.0)
        return np.asarray(SLOPE * (floor - z))

    def _below_base(self, p: Points, wave: Array, bump: Array) -> Array:
        """Below the skull: base, mastoid process, and the joint fossa in front of the ear."""
        q = self.parameters
        x, y, z = p[..., 0], p[..., 1], p[..., 2]
        mastoid = np.exp(-(((x + 22) / 9.0) ** 2) - ((y - 13) / 10.0) ** 2)
        level = q.base_height + 1.3 * wave + 1.1 * bump - q.mastoid_depth * mastoid
        level = level - 6.0 * _step(y - 10, 2.5) + 4.5 * _step(-17 - y, 2)
        joint = ((x + 17) / 11.0) ** 2 + ((y + 14.5) / 7.0) ** 2
        level = np.where(joint < 3.0, np.maximum(level, -0.5 - 6.0 * joint), level)
        return np.asarray(SLOPE * (z - level))

    def _side(self, p: Points, wave: Array, bump: Array) -> Array:
        """Positive inside the skull's outer side surface."""
        y, z = p[..., 1], p[..., 2]
        surface = self.parameters.wall + 0.012 * (y - 2) ** 2 + 0.01 * np.maximum(z - 5, 0) ** 1.5
        return np.asarray(p[..., 0] - surface - 0.6 * wave - 0.3 * bump)

    def _front(self, p: Points, wave: Array) -> Array:
        """Positive behind the sphenoid's outer surface in front of the middle fossa."""
        arch = 11.0 * np.sin(0.5 * np.pi * p[..., 0] / MIDLINE_MM) ** 2
        return np.asarray(SLOPE * (p[..., 1] + 40.0 - arch + 1.5 * wave))

    def _central_base(self, p: Points) -> Array:
        """Sphenoid body and clivus at the midline."""
        middle = np.array([MIDLINE_MM, -24.0, -6.0])
        body = Ellipsoid(middle, np.array([14.0, 17.0, 9.0]), np.eye(3))
        line = np.array([[MIDLINE_MM - 4, -13.0, -2.0], [MIDLINE_MM - 4, 4.0, -24.0]])
        return smooth_min(body.distance(p), Tube(line, np.array([5.5, 4.5])).distance(p), 3.0)

    def _attached_bones(self, p: Points) -> Array:
        """Mandible (condyle and neck) and styloid process."""
        ends = self._condyle.centre + np.array([[0.0, 0.0, 0.0], [-2.0, 3.0, -26.0]])
        neck = Tube(ends, np.array([3.2, 4.0]))
        styloid = Tube(np.array([[-7.5, 3.0, -8.0], [-6.5, -1.0, -36.0]]), np.array([2.4, 1.4]))
        mandible = smooth_min(self._condyle.distance(p), neck.distance(p), 2.0)
        return np.minimum(mandible, styloid.distance(p))

    def _air(self, p: Points, middle_ear: Array, bump: Array) -> Array:
        """Middle ear, its air tubes and the sphenoid sinus."""
        air = smooth_min(middle_ear, self._sinus.distance(p) + 0.8 * bump, 0.5)
        tubes = (tube.distance(p) for tube in self.passages.air_tubes)
        return reduce(partial(smooth_min, width=1.0), tubes, air)

    def soft_tissue(self, points: Points, surfaces: Surfaces) -> Array:
        """HU of what is neither bone nor air: brain, fluid around it, muscle and fat."""
        blotches = self._fat(points).astype(np.float64)
        brain = 36.0 + 3.0 * blotches
        cranial = brain + (12.0 - brain) * np.clip(1.0 + (surfaces.cranial + 2.0) / 1.5, 0, 1)
        below = 55.0 - 150.0 * np.clip(0.5 + (blotches - 0.4) / 0.2, 0, 1)
        below = below + (-90.0 - below) * np.clip(1.0 + (surfaces.skin + 1.5) / 1.0, 0, 1)
        below = below + (40.0 - below) * np.clip(1.0 + (surfaces.skin + 0.2) / 1.0, 0, 1)
        return np.asarray(below + (cranial - below) * np.clip(0.5 - surfaces.cranial, 0, 1))

    def draw_cells(self, random: np.random.Generator) -> tuple[Points, Array]:
        """Centres (n, 3) and radii (n,), mm, of the air cells of mastoid, middle ear and apex."""
        spacing = 1.7 * self.parameters.cell_radius
        axes = [np.arange(low, high, spacing) for low, high in CELL_REGION_MM]
        lattice = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
        centres = lattice + random.normal(0, 0.38 * spacing, lattice.shape)
        centres = centres[self._pneumatised(centres)]
        sizes = random.normal(0.12, 0.28, len(centres)) + 0.15 * self._patches(centres)
        return centres, np.clip(self.parameters.cell_radius * np.exp(sizes), 0.5, 3.0)

    def _pneumatised(self, points: Points) -> NDArray[np.bool_]:
        """Whether an air cell may be centred at each point (n, 3)."""
        share = self.parameters.pneumatisation
        x, y = points[:, 0], points[:, 1]
        surfaces = self.surfaces(points)
        patch = self._patches(points)
        around_antrum = np.exp(-((x + 13) ** 2 + (y - 10) ** 2) / 350.0)
        mastoid = (x < -6) & (y > -6 + 0.3 * x) & (patch > 1.6 - 3.4 * share - 0.6 * around_antrum)
        beside = (x <= 6) & (patch > 0.9 - 1.2 * share)
        apex = self.parameters.apex_pneumatised & (x > 6) & (patch > -0.3)
        deep = (surfaces.skull < -1.1) & (surfaces.labyrinth > 3.0)
        return np.asarray(deep & (mastoid | beside | apex))


def _step(value: Array, width: float) -> Array:
    """A smooth step from 0 to 1 over about 4 `width` mm."""
    return np.asarray(1.0 / (1.0 + np.exp(np.clip(-value / width, -50, 50))))
