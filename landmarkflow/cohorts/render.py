"""From shapes to Hounsfield units on a voxel grid, and from there to a scan."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from landmarkflow.cohorts.anatomy import InnerEar
from landmarkflow.cohorts.passages import Ossicles
from landmarkflow.cohorts.settings import CohortSettings
from landmarkflow.cohorts.shapes import (
    Array,
    Ellipsoid,
    Field,
    Points,
    SmoothNoise,
    Tube,
    VoxelBox,
    cell_distance,
    coverage,
    swept_distance,
)
from landmarkflow.cohorts.skull import Skull, SkullParameters

AIR_HU = -1000.0
FLUID_HU = 15.0
NERVE_HU = 40.0
OSSICLE_HU = 1800.0
CELL_WALL_MM = 0.32
CAPSULE_BAND_MM = 4.0
COARSE_MM = 0.8
GRAIN_MM = 0.5
SLAB = 8
EAR_MM = (13.5, 13.5, 15.0)


@dataclass(frozen=True, eq=False)
class Pose:
    """Where the anatomy lies in the scan: point = turn @ anatomy_point + centre, LPS mm.

    The turn is a (3, 3) rotation, for a left ear times the mirror diag(-1, 1, 1).
    """

    turn: Points
    centre: Points

    def to_scan(self, points: Points) -> Points:
        """LPS positions of anatomy points (..., 3)."""
        return np.asarray(points @ self.turn.T + self.centre)

    def to_anatomy(self, points: Points) -> Points:
        """Anatomy positions of LPS points (..., 3)."""
        return np.asarray((points - self.centre) @ self.turn)


@dataclass(frozen=True, eq=False)
class Head:
    """One subject's anatomy and where it lies."""

    ear: InnerEar
    skull: Skull
    ossicles: Ossicles
    pose: Pose


class Upsampler:
    """Linear interpolation from an evenly spaced coarse box to slices of a fine one in it."""

    def __init__(self, fine: VoxelBox, spacing: float) -> None:
        """Choose a coarse box of `spacing` mm that covers the fine one."""
        axes = (fine.x, fine.y, fine.z)
        self.coarse = VoxelBox(*(np.arange(a[0], a[-1] + 2 * spacing, spacing) for a in axes))
        # The fine voxels' positions as fractional coarse indices.
        self._places = [(axis - axis[0]) / spacing for axis in axes]

    def slices(self, field: Field, rows: slice) -> Field:
        """Values of a coarse field on the fine box's slices `rows`."""
        x, y, z = self._places
        return _between(_between(_between(field, z[rows], 0), y, 1), x, 2)


def _between(field: Field, places: Array, axis: int) -> Field:
    """Linear interpolation at fractional indices along one axis."""
    low = places.astype(np.intp)
    share = (places - low).astype(np.float32)
    first, step = np.take(field, low, axis=axis), np.take(field, low + 1, axis=axis)
    step -= first
    step *= np.expand_dims(share, tuple({0, 1, 2} - {axis}))
    step += first
    return np.asarray(step)


@dataclass(frozen=True, eq=False)
class Canvas:
    """A part of the volume, in HU, on which tissues are painted one over the other in place."""

    hu: Field
    box: VoxelBox
    pose: Pose

    def tubes(self, *tubes: Tube, band: float = 1.0) -> Field:
        """Signed distance (mm) to a union of tubes, exact to `band` mm outside."""
        there = [Tube(self.pose.to_scan(tube.points), tube.radii) for tube in tubes]
        return swept_distance(self.box, there, band)

    def ellipsoid(self, shape: Ellipsoid) -> Field:
        """Signed distance (mm) to an ellipsoid."""
        centre, axes = self.pose.to_scan(shape.centre), self.pose.turn @ shape.axes
        there = Ellipsoid(centre, shape.semi_axes, axes)
        return there.distance(self.box.points()).astype(np.float32)

    def noise(self, noise: SmoothNoise, spacing: float) -> Field:
        """Noise on the voxels, sampled every `spacing` mm."""
        upsampler = Upsampler(self.box, spacing)
        values = noise(self.pose.to_anatomy(upsampler.coarse.points()))
        return upsampler.slices(values, slice(None))


def blend(hu: Field, value: float | Field, share: Field) -> None:
    """Mix a tissue into voxels, in place, by its share of each voxel."""
    hu += (value - hu) * share


def render_tissue(
    box: VoxelBox, head: Head, random: np.random.Generator
) -> tuple[Field, NDArray[np.uint8]]:
    """The anatomy before the scanner in HU, and labels: 1 cochlea's lumen, 2 vestibule, canals."""
    hu = _render_skull(box, head, random)
    labels = np.zeros(box.shape, dtype=np.uint8)
    middle = head.pose.to_scan(head.ear.vestibule.centre + np.array([0.0, 0.0, -3.0]))
    window = box.window(middle, EAR_MM)
    if labels[window].size:
        canvas = Canvas(hu[window], box.part(window), head.pose)
        labels[window] = _render_ear(canvas, head, random)
    return hu, labels


def _render_skull(box: VoxelBox, head: Head, random: np.random.Generator) -> Field:
    """Everything but the ear itself, a few slices at a time to bound the memory."""
    smooth = Upsampler(box, max(COARSE_MM, box.spacing.min()))
    points = head.pose.to_anatomy(smooth.coarse.points())
    # What varies smoothly: signed distances in mm, soft tissue in HU, bone density.
    surfaces = head.skull.surfaces(points)
    fields = {name: getattr(surfaces, name) for name in ("bone", "air", "skin", "labyrinth")}
    fields["soft"] = head.skull.soft_tissue(points, surfaces)
    fields["density"] = head.skull.bone_density(points)
    grained = Upsampler(box, max(GRAIN_MM, box.spacing.min()))
    grain = SmoothNoise(random, 1.3)(head.pose.to_anatomy(grained.coarse.points()))
    centres, radii = head.skull.draw_cells(random)
    cells = cell_distance(box, head.pose.to_scan(centres), radii, CELL_WALL_MM)
    hu = np.empty(box.shape, dtype=np.float32)
    coarse = {name: field.astype(np.float32) for name, field in fields.items()}
    for start in range(0, len(box.z), SLAB):
        rows = slice(start, min(start + SLAB, len(box.z)))
        near = {name: smooth.slices(field, rows) for name, field in coarse.items()}
        near |= {"grain": grained.slices(grain, rows), "cells": cells[rows]}
        hu[rows] = near["soft"]
        blend(hu[rows], AIR_HU, 1 - coverage(near["skin"], 0.4))
        blend(hu[rows], _bone(near, head.skull.parameters), coverage(near["bone"], 0.3))
        blend(hu[rows], AIR_HU, coverage(near["air"], 0.3))
    return hu


def _bone(near: dict[str, Field], q: SkullParameters) -> Field:
    """HU of bone: trabeculae, cortex, dense bone about the labyrinth, air cells."""
    density, cells = near["density"], near["cells"]
    bone = q.trabecular_hu + 90 * density + 120 * near["grain"]
    cortex = q.cortical_hu + 40 * density + 350 * np.clip(density - 0.8, 0, 1)
    blend(bone, cortex, coverage(-near["bone"] - q.cortex - 0.3 * density, 0.5))
    blend(bone, q.periotic_hu, coverage(near["labyrinth"] - 4.0 - 1.5 * density, 2.5))
    blend(bone, 0.85 * q.cortical_hu, coverage(cells - 0.6, 0.6))
    roughened = coverage(cells + 0.18 * near["grain"], 0.25)
    blend(bone, AIR_HU, roughened * coverage(near["bone"] + 0.7, 0.3))
    return bone


def _render_ear(canvas: Canvas, head: Head, random: np.random.Generator) -> NDArray[np.uint8]:
    """Capsule, nerve canals, niches, lumen and ossicles; returns the lumen's labels."""
    cochlea, canals = _lumen(canvas, head.ear)
    passages = head.skull.passages
    facial = canvas.tubes(passages.facial_canal)
    blend(canvas.hu, head.skull.parameters.cortical_hu, coverage(facial - 0.5, 0.3))
    _paint_capsule(canvas, head, cochlea, canals, random)
    blend(canvas.hu, NERVE_HU, coverage(facial, 0.3))
    blend(canvas.hu, AIR_HU, coverage(canvas.tubes(*passages.niches), 0.25))
    pores = canvas.noise(SmoothNoise(random, 0.9), 0.4)
    blend(canvas.hu, 1250 + 200 * pores, coverage(canvas.tubes(head.ear.cochlea.modiolus), 0.3))
    lumen = np.minimum(cochlea, canals)
    blend(canvas.hu, FLUID_HU, coverage(lumen, 0.25))
    # The tympanic membrane in air only, footplate, malleus, incus and stapes.
    drum = coverage(canvas.ellipsoid(head.ossicles.drum), 0.3)
    blend(canvas.hu, NERVE_HU, drum * (canvas.hu < -300))
    blend(canvas.hu, 1100.0, coverage(canvas.ellipsoid(head.ossicles.footplate), 0.3))
    blend(canvas.hu, OSSICLE_HU, coverage(canvas.tubes(*head.ossicles.tubes), 0.25))
    return np.where(lumen < 0, np.where(cochlea <= canals, 1, 2), 0).astype(np.uint8)


def _lumen(canvas: Canvas, ear: InnerEar) -> tuple[Field, Field]:
    """Signed distances (mm) of the cochlea's lumen and of vestibule and canals."""
    cochlea = canvas.tubes(ear.cochlea.tympani, ear.cochlea.vestibuli, band=CAPSULE_BAND_MM)
    np.maximum(cochlea, -canvas.tubes(*ear.cochlea.septum), out=cochlea)
    canals = canvas.tubes(*ear.canals, band=CAPSULE_BAND_MM)
    np.minimum(canals, canvas.ellipsoid(ear.vestibule), out=canals)
    return cochlea, canals


def _paint_capsule(
    canvas: Canvas, head: Head, cochlea: Field, canals: Field, random: np.random.Generator
) -> None:
    """Dense bone about the lumen, its hollows filled, thin where the nerves come in."""
    q = head.skull.parameters
    noise = canvas.noise(SmoothNoise(random, 5.0), COARSE_MM)
    thickness = q.capsule_thickness * (1 + 0.25 * noise)
    capsule = np.minimum(cochlea - thickness, canals - 0.75 * thickness)
    np.minimum(capsule, CAPSULE_BAND_MM / 3, out=capsule)
    ndimage.gaussian_filter(capsule, 0.6 / canvas.box.spacing, output=capsule, truncate=2.5)
    nerves = coverage(canvas.tubes(head.skull.passages.auditory_canal), 0.3)
    kept = coverage(np.minimum(cochlea, canals) - 0.4, 0.3)
    blend(canvas.hu, q.capsule_hu + 60 * noise, coverage(capsule, 0.5) * (1 - nerves * (1 - kept)))


def scan_of(
    hu: Field, spacing: Points, settings: CohortSettings, random: np.random.Generator
) -> NDArray[np.int16]:
    """What a scanner makes of the tissue: point spread, noise, whole HU in [-1024, 3071].

    The point spread is a Gaussian; its width and the noise's standard deviation are drawn from
    the settings' ranges. The noise is white noise smoothed by 0.6 voxel, as reconstruction
    leaves it. `hu` (z, y, x) is overwritten; `spacing` is x, y, z in mm.
    """
    width = random.uniform(*settings.blur_mm)
    sigma = width / np.sqrt(8 * np.log(2)) / spacing[::-1]
    ndimage.gaussian_filter(hu, sigma, output=hu, truncate=3.0)
    deviation = random.uniform(*settings.noise_hu)
    noise = random.standard_normal(hu.shape, dtype=np.float32)
    ndimage.gaussian_filter(noise, 0.6, output=noise, truncate=3.0)
    noise *= np.float32(deviation / noise.std())
    hu += noise
    np.clip(np.rint(hu, out=hu), -1024, 3071, out=hu)
    return hu.astype(np.int16)
