"""One simulated subject: scan, segmentation and landmarks."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import SimpleITK as sitk

from landmarkflow.cohorts.anatomy import draw_inner_ear
from landmarkflow.cohorts.passages import Ossicles, Passages
from landmarkflow.cohorts.render import Head, Pose, render_tissue, scan_of
from landmarkflow.cohorts.settings import CohortSettings, side_of
from landmarkflow.cohorts.shapes import VoxelBox, rotation
from landmarkflow.cohorts.skull import Skull
from landmarkflow.core.grids import Grid
from landmarkflow.core.points import Landmarks
from landmarkflow.images.operations import image_on

# The first three are the paper's names: centre of the cochlea, its apex, round window.
LABELS = ("CENTER", "TOP", "WINDOW", "oval_window")


@dataclass(frozen=True, eq=False)
class Subject:
    """One simulated subject: a scan, int16, and what is known of it.

    Of an ear the scan is in HU; the segmentation, uint8, is 1 in the cochlea's lumen and 2 in
    vestibule and canals; the landmarks are the four of LABELS, LPS mm, on the lumen's surface
    except CENTER. A subject without a side has an empty one.
    """

    scan: sitk.Image
    segmentation: sitk.Image
    landmarks: Landmarks
    side: Literal["", "left", "right"]


def simulate_subject(settings: CohortSettings, seed: int, index: int) -> Subject:
    """Make subject `index` of the cohort `seed`; the same numbers make the same bytes.

    Every subject has random streams of its own: subjects can be made in any order, and more of
    them change none. Subject 0, the template, is a right ear.
    """
    anatomy, background, scanner = np.random.default_rng([seed, index]).spawn(3)
    ear = draw_inner_ear(anatomy)
    side = side_of(settings, seed, index)
    grid, pose = _draw_pose(anatomy, settings, left=side == "left")
    skull = Skull(background, ear, Passages(background, ear))
    head = Head(ear, skull, Ossicles(background, ear), pose)
    ends = zip(grid.origin, grid.spacing, grid.size, strict=True)
    box = VoxelBox(*(start + step * np.arange(count) for start, step, count in ends))
    hu, labels = render_tissue(box, head, background)
    cochlea = ear.cochlea
    points = np.stack([cochlea.centre, cochlea.apex, cochlea.round_window, ear.oval_window])
    return Subject(
        scan=image_on(grid, scan_of(hu, grid.spacing, settings, scanner)),
        segmentation=image_on(grid, labels),
        landmarks=Landmarks(LABELS, pose.to_scan(points)),
        side=side,
    )


def _draw_pose(
    random: np.random.Generator, settings: CohortSettings, *, left: bool
) -> tuple[Grid, Pose]:
    """A table position, and the head's rotation and shift in the volume."""
    spacing = np.array(settings.spacing, dtype=np.float64)
    middle = random.uniform(-20, 20, 3) + np.array([40.0 if left else -40.0, 0.0, 0.0])
    origin = middle - spacing * (np.array(settings.size) - 1) / 2
    limit = settings.rotation_degrees
    x, y, z = (rotation(axis, random.uniform(-limit, limit)) for axis in np.eye(3))
    shift = random.uniform(-settings.shift_mm, settings.shift_mm, 3)
    mirror = np.diag([-1.0 if left else 1.0, 1.0, 1.0])
    return Grid(settings.size, spacing, origin, np.eye(3)), Pose(x @ y @ z @ mirror, middle + shift)
