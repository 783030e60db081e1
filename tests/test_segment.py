"""The template's labels, warped into scans of which the truth is known at every point."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from image_files import DIRECTIONS
from numpy.typing import NDArray
from phantoms import PARTS, sampled
from scipy.spatial.transform import Rotation
from stage_runs import path_of, run_stage

from landmarkflow.core.errors import ScanFailure
from landmarkflow.core.grids import Grid
from landmarkflow.core.records import Record, Step, read_record, write_record
from landmarkflow.formats.transforms import write_transform
from landmarkflow.formats.written import read_written, write_volume
from landmarkflow.images.operations import array_of, grid_of
from landmarkflow.images.sampling import map_points
from landmarkflow.methods.oneshot.segment import warp_labels
from landmarkflow.methods.oneshot.stages import SEGMENT

Points = NDArray[np.float64]
Labels = NDArray[np.uint8]

TEMPLATE_GRID = Grid(
    (110, 95, 80),
    np.array([0.12, 0.12, 0.15]),
    np.array([-6.4, -5.6, -6.0]),
    DIRECTIONS["along"],
)
THERE = np.array([-40.0, 25.0, 60.0])
MIRROR = np.diag([-1.0, 1.0, 1.0])
TURN = Rotation.from_euler("xyz", [20, -30, 140], degrees=True).as_matrix()
STRETCH = np.array([[1.15, 0.1, 0.0], [0.0, 0.9, -0.08], [0.05, 0.0, 1.05]])
AFFINES = {"turned": TURN, "stretched": TURN @ STRETCH, "mirrored": MIRROR @ TURN @ STRETCH}


def bone(points: Points) -> Labels:
    """Label 1 in the ellipsoid, 2 in the knob and 5 in the bump; 0 outside."""
    found = np.zeros(len(points), np.uint8)
    for value, (centre, axes) in zip((1, 2, 5), PARTS, strict=True):
        inside = np.linalg.norm((points - np.array(centre)) / np.array(axes), axis=1) < 1
        found[inside] = value
    return found


def grid_about(centre: Points, direction: str, spacing: tuple[float, ...], size: int) -> Grid:
    axes, steps = DIRECTIONS[direction], np.array(spacing)
    counts = np.round(size * 0.3 / steps).astype(int)
    origin = centre - axes @ (steps * (counts - 1) / 2)
    x, y, z = counts.tolist()
    return Grid((x, y, z), steps, origin, axes)


def affine(matrix: Points, shift: Points = THERE) -> sitk.AffineTransform:
    transform = sitk.AffineTransform(3)
    transform.SetMatrix(matrix.ravel().tolist())
    transform.SetTranslation(shift.tolist())
    return transform


def overlaps(found: sitk.Image, truth: sitk.Image) -> dict[int, float]:
    """The Dice coefficient of each label that the truth has."""
    marked = {n: (array_of(found) == n, array_of(truth) == n) for n in np.unique(array_of(truth))}
    return {n: 2 * (a & b).sum() / (a.sum() + b.sum()) for n, (a, b) in marked.items() if n}


@pytest.fixture(scope="module")
def template() -> sitk.Image:
    return sampled(TEMPLATE_GRID, bone)


@pytest.mark.parametrize("matrix", AFFINES.values(), ids=AFFINES.keys())
@pytest.mark.parametrize(
    ("direction", "spacing"),
    [
        ("along", (0.3, 0.3, 0.3)),
        ("oblique", (0.25, 0.3, 0.5)),
        ("oblique left-handed", (0.2, 0.2, 0.6)),
        ("permuted", (0.3, 0.3, 0.4)),
    ],
)
def test_labels_go_where_an_affine_map_takes_them(
    template: sitk.Image, matrix: Points, direction: str, spacing: tuple[float, ...]
) -> None:
    scan = grid_about(THERE, direction, spacing, 60)
    found = warp_labels(template, affine(matrix), scan)
    truth = sampled(scan, lambda p: bone((p - THERE) @ np.linalg.inv(matrix).T))
    assert grid_of(found).size == scan.size
    np.testing.assert_allclose(grid_of(found).direction, scan.direction)
    assert found.GetPixelID() == template.GetPixelID()
    assert min(overlaps(found, truth).values()) > 0.95


def bend() -> sitk.BSplineTransform:
    """A smooth deformation of up to a millimetre that ends beyond the bone."""
    transform = sitk.BSplineTransform(3)
    transform.SetTransformDomainOrigin((-15.0, -15.0, -15.0))
    transform.SetTransformDomainPhysicalDimensions((30.0, 30.0, 30.0))
    transform.SetTransformDomainMeshSize((10, 10, 10))
    moves = np.zeros((3, 13, 13, 13))
    moves[:, 4:-4, 4:-4, 4:-4] = np.random.default_rng(0).uniform(-1.5, 1.5, (3, 5, 5, 5))
    transform.SetParameters(moves.ravel().tolist())
    return transform


@pytest.mark.parametrize("matrix", AFFINES.values(), ids=AFFINES.keys())
def test_labels_go_where_a_spline_takes_them(template: sitk.Image, matrix: Points) -> None:
    scan = grid_about(THERE, "oblique", (0.3, 0.35, 0.4), 54)
    whole = sitk.CompositeTransform([affine(matrix), bend()])
    unbent = np.linalg.inv(matrix).T

    def back(points: Points) -> Points:
        """Where points come from: met at every one of them, and not on a lattice."""
        found = (points - THERE) @ unbent
        for _ in range(12):
            found += (points - map_points(whole, found)) @ unbent
        assert np.abs(points - map_points(whole, found)).max() < 0.01
        return found

    found = warp_labels(template, whole, scan)
    truth = sampled(scan, lambda p: bone(back(p)))
    assert min(overlaps(found, truth).values()) > 0.95
    straight = sampled(scan, lambda p: bone((p - THERE) @ unbent))
    assert max(overlaps(straight, truth).values()) < 0.9


def test_labels_on_their_own_grid_stay_to_the_voxel(template: sitk.Image) -> None:
    found = warp_labels(template, sitk.Transform(3, sitk.sitkIdentity), TEMPLATE_GRID)
    np.testing.assert_array_equal(array_of(found), array_of(template))


def test_labels_of_a_part_of_the_template_are_those_of_the_whole(template: sitk.Image) -> None:
    scan = grid_about(THERE, "along", (0.3, 0.3, 0.3), 60)
    part = sitk.RegionOfInterest(template, [100, 85, 70], [5, 5, 5])
    whole, some = (warp_labels(one, affine(TURN), scan) for one in (template, part))
    assert np.mean(array_of(whole) != array_of(some)) < 1e-4


def test_a_target_partly_outside_the_scan_is_cut(template: sitk.Image) -> None:
    edge = THERE + np.array([0.0, 9.0, 0.0])
    scan = grid_about(edge, "along", (0.3, 0.3, 0.3), 60)
    found = warp_labels(template, affine(TURN), scan)
    truth = sampled(scan, lambda p: bone((p - THERE) @ TURN))
    assert 0 < array_of(truth).astype(bool).sum() < array_of(template).astype(bool).sum() / 3
    assert overlaps(found, truth)[1] > 0.95


@pytest.mark.parametrize("away", [[60.0, 0, 0], [0, -60.0, 0], [0, 0, 40.0], [30.0, 30.0, 30.0]])
def test_a_target_outside_the_scan_is_a_failure(template: sitk.Image, away: list[float]) -> None:
    scan = grid_about(THERE + np.array(away), "oblique", (0.3, 0.3, 0.3), 60)
    with pytest.raises(ScanFailure, match="target comes to lie outside the scan"):
        warp_labels(template, affine(TURN), scan)


def test_each_scan_gets_the_labels_on_its_own_grid(tmp_path: Path, template: sitk.Image) -> None:
    write_volume(template, path_of(tmp_path, SEGMENT, "template_target"))
    places = {"a": THERE, "lost": THERE + 60.0}
    scans = {name: grid_about(p, "oblique", (0.25, 0.3, 0.5), 60) for name, p in places.items()}
    for name, scan in scans.items():
        located = Record(name, "locate", details={"grid": scan.as_lists()})
        write_record(path_of(tmp_path, SEGMENT, "locate_record", name), located)
        write_transform(affine(TURN), path_of(tmp_path, SEGMENT, "bspline", name))
        deformed = Record(name, "deform", earlier=(Step("align"),))
        write_record(path_of(tmp_path, SEGMENT, "deform_record", name), deformed)
    assert run_stage(SEGMENT, tmp_path, list(scans)).status == 0
    expected = warp_labels(
        template, affine(TURN), grid_about(THERE, "oblique", (0.25, 0.3, 0.5), 60)
    )
    found = read_written(path_of(tmp_path, SEGMENT, "found", "a"))
    np.testing.assert_array_equal(array_of(found), array_of(expected))
    record = read_record(path_of(tmp_path, SEGMENT, "record", "a"))
    assert record == Record("a", "segment", earlier=(Step("align"), Step("deform")))
    lost = read_record(path_of(tmp_path, SEGMENT, "record", "lost"))
    assert (lost.stage, lost.status) == ("segment", "failed")
    assert path_of(tmp_path, SEGMENT, "found", "lost").stat().st_size == 0
