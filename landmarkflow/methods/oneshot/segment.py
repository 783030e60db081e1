"""Warp the template's labels into each scan.

The registration takes template points to the scan. A voxel of the scan is labelled by that voxel of
the template that comes to lie there: the map is inverted, on a lattice around the target.
"""

import functools

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from landmarkflow.core.errors import ScanFailure
from landmarkflow.core.grids import Grid
from landmarkflow.core.records import Record, read_record
from landmarkflow.engine.batch import Batch
from landmarkflow.engine.store import Task
from landmarkflow.formats.transforms import read_transform
from landmarkflow.formats.written import read_written, write_volume
from landmarkflow.images.masks import points_inside
from landmarkflow.images.operations import array_of, cropped, grid_of, image_on
from landmarkflow.images.sampling import map_points
from landmarkflow.methods.oneshot.inverse import about_inverse, homogeneous, inverse_at

Array = NDArray[np.float64]

# Between the points at which the map is inverted. A registration's lattices are two to four times
# as wide; a finer lattice costs more and changes no label. In coarse scans it is two voxels wide.
LATTICE_MM, LATTICE_VOXELS = 0.75, 2.0
# So far beyond the mapped voxels' centres the target may reach.
MARGIN_MM = 0.5
# Of the template's voxels so many, evenly taken, measure where the target comes to lie.
MEASURED = 5000


def warp_labels(labels: sitk.Image, transform: sitk.Transform, scan: Grid) -> sitk.Image:
    """Label a scan's voxels by the template's.

    Args:
        labels: whole numbers, 0 for none, on any grid around the template's target.
        transform: takes template points to the scan's, LPS mm.
        scan: the grid to label.

    Returns:
        uint8 or the labels' own type, on the scan's grid.

    Raises:
        ScanFailure: the target comes to lie outside the scan.
    """
    inside = points_inside(labels)
    known = inside[:: max(1, len(inside) // MEASURED)]
    mapped = map_points(transform, known)
    index = scan.to_index(mapped)
    margin = MARGIN_MM / scan.spacing + 1
    first = np.maximum(np.floor(index.min(axis=0) - margin), 0).astype(int)
    last = np.minimum(np.ceil(index.max(axis=0) + margin), np.array(scan.size) - 1).astype(int)
    known_labels = array_of(labels)
    whole = np.zeros(scan.size[::-1], dtype=known_labels.dtype)
    if (last < first).any():
        raise ScanFailure("the template's target comes to lie outside the scan")
    affine = about_inverse(known, mapped)
    box = tuple(slice(a, b + 1) for a, b in zip(first[::-1], last[::-1], strict=True))
    x, y, z = _source(scan, (first, last), transform, affine, grid_of(labels))
    sizes = zip((x, y, z), labels.GetSize(), strict=True)
    inside = np.all([(place >= 0) & (place < count) for place, count in sizes], axis=0)
    whole[box][inside] = known_labels[z[inside], y[inside], x[inside]]
    return image_on(scan, whole)


def _source(
    scan: Grid,
    box: tuple[NDArray[np.int_], NDArray[np.int_]],
    transform: sitk.Transform,
    affine: Array,
    labels: Grid,
) -> list[NDArray[np.int32]]:
    """For each voxel of a box, (z, y, x), the indices x, y, z of the label's voxel that lies there.

    The inverse map is `affine`, (3, 4), and a smooth rest, which is found on a lattice of nodes and
    interpolated linearly, axis by axis.
    """
    first, last = box
    step = np.maximum(LATTICE_MM, LATTICE_VOXELS * scan.spacing)
    counts = np.ceil((last - first) * scan.spacing / step).astype(int) + 1
    steps = np.maximum(last - first, 1) / np.maximum(counts - 1, 1)
    nodes = scan.to_physical(first + _raster(counts) * steps)
    rest = inverse_at(transform, affine, nodes) - homogeneous(nodes) @ affine.T
    to_index = np.linalg.inv(labels.direction * labels.spacing)
    rest = (rest @ to_index.T).reshape(*counts[::-1], 3).astype(np.float32)
    by_x, by_y, by_z = (_between(last[k] - first[k] + 1, counts[k], steps[k]) for k in range(3))
    linear = to_index @ affine[:, :3] @ (scan.direction * scan.spacing)
    corner = labels.to_index(homogeneous(scan.to_physical(first[None])) @ affine.T)[0]
    source = []
    for axis in range(3):
        smooth = np.einsum("zc,cba->zba", by_z, rest[..., axis])
        smooth = np.einsum("yb,zba->zya", by_y, smooth) @ by_x.T
        along = [
            np.arange(b - a + 1) * linear[axis, k]
            for k, (a, b) in enumerate(zip(first, last, strict=True))
        ]
        smooth += (corner[axis] + along[2][:, None, None] + along[1][:, None] + along[0]).astype(
            np.float32
        )
        source.append(np.rint(smooth).astype(np.int32))
    return source


def _between(voxels: int, nodes: int, step: float) -> NDArray[np.float32]:
    """(voxels, nodes) weights of linear interpolation between nodes, so many voxels apart."""
    place = np.arange(voxels)[:, None] / step
    return np.asarray(np.clip(1 - np.abs(place - np.arange(nodes)), 0, 1), dtype=np.float32)


def _raster(counts: NDArray[np.int_]) -> Array:
    """(n, 3) indices x, y, z of a box, x fastest."""
    z, y, x = np.meshgrid(*(np.arange(count) for count in counts[::-1]), indexing="ij")
    return np.stack([x.ravel(), y.ravel(), z.ravel()], axis=1).astype(np.float64)


def run(batch: Batch) -> None:
    """Write every scan's labels on its own grid."""

    @functools.cache
    def template() -> sitk.Image:
        labels = read_written(batch.path("template_target"))
        return cropped(labels, points_inside(labels), 0.0)

    def compute(task: Task) -> Record:
        grid = Grid.of_lists(read_record(task.inputs["locate_record"]).details["grid"])
        found = warp_labels(template(), read_transform(task.inputs["bspline"]), grid)
        write_volume(found, task.outputs["found"])
        return Record(task.scan, "segment")

    batch.run(compute)
