"""The template's target: the segmentation as given, or one from its scan and landmarks alone."""

from pathlib import Path

import numpy as np
import SimpleITK as sitk
from scipy import ndimage
from scipy.spatial import Delaunay, QhullError, cKDTree

from landmarkflow.core.errors import InputError
from landmarkflow.core.points import Landmarks
from landmarkflow.engine.batch import Batch
from landmarkflow.formats.landmarks import frame_of, read_landmarks
from landmarkflow.formats.volumes import read_grid, read_labels, read_segmentation, read_volume
from landmarkflow.formats.written import write_volume
from landmarkflow.images.operations import array_of, grid_of, image_on

# As parts of the diagonal of the target's bounding box. Half of the landmarks may lie so far from
# it: a smaller part refuses targets of which only a piece is segmented.
FARTHEST = 1 / 4
# So near its surface landmarks are taken to lie at it: a larger part suspects the frame of more.
AT_TARGET = 1 / 30
# Of their distance, where they lie once turned, for the frame to be named as the likely cause.
NEARER = 1 / 4


def derive_segmentation(
    scan: sitk.Image, landmarks: Landmarks, above: float, margin_mm: float
) -> sitk.Image:
    """Mark the bright voxels of the largest component that the landmarks enclose.

    Args:
        scan: the template in its own intensity units.
        landmarks: the template's landmarks, at least four that do not lie in one plane.
        above: intensity above which a voxel is bright.
        margin_mm: how far the landmarks' convex hull is pushed outwards from their centre.

    Returns:
        uint8 mask on the scan's grid.

    Raises:
        InputError: the landmarks enclose no volume, or no bright voxel lies among them.
    """
    points = landmarks.positions[~landmarks.missing]
    centre = points.mean(axis=0) if len(points) else np.zeros(3)
    distance = np.linalg.norm(points - centre, axis=1, keepdims=True)
    pushed = centre + (points - centre) * (1 + margin_mm / np.maximum(distance, 1e-9))
    try:
        hull = Delaunay(pushed)
    except (QhullError, ValueError):
        raise InputError(
            f"the template's {len(points)} landmarks enclose no volume; a segmentation can only "
            "be derived from four or more that do not lie in one plane: give one"
        ) from None
    parts, count = ndimage.label(array_of(scan) > above)
    if count:
        largest = 1 + int(np.argmax(np.bincount(parts.ravel())[1:]))
        voxels = np.argwhere(parts == largest)
        inside = hull.find_simplex(grid_of(scan).to_physical(voxels[:, ::-1].astype(float))) >= 0
        mask = np.zeros(parts.shape, dtype=np.uint8)
        mask[tuple(voxels[inside].T)] = 1
        if mask.any():
            return image_on(grid_of(scan), mask)
    raise InputError(
        f"no voxel above {above:g} lies among the template's landmarks; check "
        "`target.above` or give a segmentation"
    )


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
    """Write each template's labels; of a derived target 1.

    Raises:
        InputError: a segmentation is unusable, or none can be derived.
    """
    asked, largest = batch.values["target"], int(batch.values["largest_gib"] * 2**30)
    for task in batch.tasks:
        image, segmentation = Path(task.row["image"]), Path(task.row["segmentation"])
        given, frame = Path(task.row["landmarks"]), frame_of(task.row["frame"])
        if task.row["segmentation"]:
            grid = read_grid(image, largest, task.row["series"])
            target = read_segmentation(segmentation, grid, batch.values["labels"], largest)
            check_distance(read_landmarks(given, frame, image.name), target, given)
            labels = read_labels(segmentation, grid, largest)
        else:
            landmarks = read_landmarks(given, frame, image.name)
            scan = read_volume(image, largest, task.row["series"])
            labels = derive_segmentation(scan, landmarks, asked["above"], asked["margin_mm"])
        write_volume(labels, task.outputs["target"])
