"""One simulated subject: scan, segmentation and landmarks."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import SimpleITK as sitk

from landmarkflow.cohorts.anatomy import InnerEar, draw_inner_ear
from landmarkflow.cohorts.passages import draw_ossicles, draw_passages
from landmarkflow.cohorts.render import Head, Pose, render_tissue, scan_of
from landmarkflow.cohorts.settings import CohortSettings
from landmarkflow.cohorts.shapes import Points, VoxelBox, rotation
from landmarkflow.cohorts.sides import side_of
from landmarkflow.cohorts.skull import Skull
from landmarkflow.core.grids import Grid
from landmarkflow.core.points import Landmarks
from landmarkflow.images.operations import image_on

# The first three are the paper's names: centre of the cochlea, its apex, round window.
LABELS = ("CENTER", "TOP", "WINDOW", "oval_window")


@dataclass(frozen=True, eq=False)
class Subject:
    """One simulated subject.

    Attributes:
        scan: int16 HU, LPS.
        segmentation: uint8 on the scan's grid: 1 cochlea's lumen, 2 vestibule and canals.
        landmarks: The four of LABELS in LPS mm, on the lumen's surface except CENTER.
        side: Which ear it is.
    """

    scan: sitk.Image
    segmentation: sitk.Image
    landmarks: Landmarks
    side: Literal["left", "right"]


def simulate_subject(settings: CohortSettings, seed: int, index: int) -> Subject:
    """Make subject `index` of the cohort `seed`; the same numbers make the same bytes.

    Every subject has random streams of its own: subjects can be made in any order, and more of
    them change none. Subject 0, the template, is a right ear.
    """
    anatomy, background, scanner = np.random.default_rng([seed, index]).spawn(3)
    ear = draw_inner_ear(anatomy)
    side = side_of(settings, seed, index)
    grid, pose = _draw_pose(anatomy, settings, left=side == "left")
    skull = Skull(background, ear, draw_passages(background, ear))
    head = Head(ear, skull, draw_ossicles(background, ear), pose)
    hu, labels = render_tissue(_voxels(grid), head, background)
    return Subject(
        scan=image_on(grid, scan_of(hu, grid.spacing, settings, scanner)),
        segmentation=image_on(grid, labels),
        landmarks=Landmarks(LABELS, pose.to_scan(_landmark_points(ear))),
        side=side,
    )


def _voxels(grid: Grid) -> VoxelBox:
    """The voxel centres of a grid along the LPS axes."""
    return VoxelBox(*(grid.origin[i] + grid.spacing[i] * np.arange(grid.size[i]) for i in range(3)))


def _landmark_points(ear: InnerEar) -> Points:
    """The landmarks (4, 3) in the anatomy's frame, in the order of LABELS."""
    cochlea = ear.cochlea
    return np.stack([cochlea.centre, cochlea.apex, cochlea.round_window, ear.oval_window])


def _draw_pose(
    random: np.random.Generator, settings: CohortSettings, *, left: bool
) -> tuple[Grid, Pose]:
    """A table position, and the head's rotation and shift in the volume."""
    spacing = np.array(settings.spacing, dtype=np.float64)
    middle = random.uniform(-20, 20, 3) + np.array([40.0 if left else -40.0, 0.0, 0.0])
    origin = middle - spacing * (np.array(settings.size) - 1) / 2
    grid = Grid(settings.size, spacing, origin, np.eye(3))
    limit = settings.rotation_degrees
    x, y, z = (rotation(axis, random.uniform(-limit, limit)) for axis in np.eye(3))
    shift = random.uniform(-settings.shift_mm, settings.shift_mm, 3)
    mirror = np.diag([-1.0 if left else 1.0, 1.0, 1.0])
    return grid, Pose(x @ y @ z @ mirror, middle + shift)
