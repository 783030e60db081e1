"""The template's target: the segmentation as given, or one from its scan and landmarks alone."""

import logging
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from scipy import ndimage
from scipy.spatial import cKDTree

from landmarkflow.core.errors import InputError, about
from landmarkflow.core.points import Landmarks
from landmarkflow.data.derive import derive_target
from landmarkflow.data.target_picture import draw_target
from landmarkflow.engine.batch import Batch
from landmarkflow.formats.landmarks import frame_of, read_landmarks
from landmarkflow.formats.volumes import read_labels, read_segmentation, read_volume
from landmarkflow.formats.written import write_volume
from landmarkflow.images.operations import array_of, grid_of

logger = logging.getLogger(__name__)

# As parts of the diagonal of the target's bounding box. Half of the landmarks may lie so far from
# it: a smaller part refuses targets of which only a piece is segmented.
FARTHEST = 1 / 4
# So near its surface landmarks are taken to lie at it: a larger part suspects the frame of more.
AT_TARGET = 1 / 30
# Of their distance, where they lie once turned, for the frame to be named as the likely cause.
NEARER = 1 / 4


def check_distance(landmarks: Landmarks, target: sitk.Image, source: Path) -> None:
    """Refuse landmarks that lie far from the target, as those of another frame or scan do.

    Args:
        landmarks: the template's.
        target: its segmentation, 0 outside.
        source: the landmarks' file, for messages.

    Raises:
        InputError: half of the landmarks lie farther than a quarter of the target's diagonal, or
            all lie at its surface once the signs of x and y are turned, and do not as they are.
    """
    inside, grid = array_of(target) > 0, grid_of(target)
    surface = np.argwhere(inside & ~ndimage.binary_erosion(inside))[:, ::-1]
    points = grid.to_physical(surface.astype(np.float64))
    positions = landmarks.positions[~landmarks.missing]
    if not len(positions):
        return
    nearest = cKDTree(points)
    distance, turned = (nearest.query(positions * signs)[0] for signs in ([1, 1, 1], [-1, -1, 1]))
    x, y, z = np.clip(np.rint(grid.to_index(positions)).astype(int), 0, np.array(grid.size) - 1).T
    distance[inside[z, y, x] & grid.contains(positions)] = 0
    across = float(np.linalg.norm(np.ptp(points, axis=0) + grid.spacing))
    half = float(np.median(distance))
    other_frame = float(turned.max()) <= AT_TARGET * across < half
    if other_frame or half > FARTHEST * across:
        expected = f"half of them within {FARTHEST * across:.1f} mm"
        if float(np.median(turned)) < NEARER * half:
            expected = "near it; with x and y turned they would lie at it: is the frame wrong?"
        raise InputError(
            f"{source}: the landmarks lie {distance.min():.1f} to {distance.max():.1f} mm from the "
            f"template's segmentation, expected {expected}"
        )


def run(batch: Batch) -> None:
    """Write each template's labels, of a derived target 1, and a picture of them.

    Raises:
        InputError: a segmentation is unusable, or none can be derived.
    """
    asked, largest = batch.values["target"], int(batch.values["largest_gib"] * 2**30)
    for task in batch.tasks:
        image, segmentation = Path(task.row["image"]), Path(task.row["segmentation"])
        given, frame = Path(task.row["landmarks"]), frame_of(task.row["frame"])
        scan = read_volume(image, largest, task.row["series"])
        picture = task.outputs["picture"]
        if task.row["segmentation"]:
            grid = grid_of(scan)
            target = read_segmentation(segmentation, grid, batch.values["labels"], largest)
            landmarks = read_landmarks(given, frame, image.name)
            check_distance(landmarks, target, given)
            labels = read_labels(segmentation, grid, largest)
        else:
            landmarks = read_landmarks(given, frame, image.name)
            with about(image):
                found = derive_target(scan, landmarks, **asked)
            target = labels = found.target
            logger.info("%s: the target is %s; see %s", task.scan, found.said, picture)
        draw_target(scan, target, landmarks, picture)
        write_volume(labels, task.outputs["target"])
