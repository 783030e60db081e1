"""The picture of a scan's way: the template is drawn where its registration puts it."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image
from scipy.spatial.transform import Rotation

from landmarkflow.core.grids import Grid
from landmarkflow.core.points import Landmarks, PointList
from landmarkflow.images.operations import grid_of, image_on
from landmarkflow.images.sampling import resample
from landmarkflow.images.similarity import Interpolator
from landmarkflow.images.views import VIEWS, Frame, View
from landmarkflow.methods.oneshot.panel import SIDE, Warped, Way, centres_of, draw

LABELS = ("apex", "window", "round", "oval", "fifth")


def ball(points: np.ndarray, centre: list[float], radius: float) -> np.ndarray:
    distance = np.linalg.norm(points - centre, axis=-1)
    return 1 / (1 + np.exp((distance - radius) / 0.3))


def bone(points: np.ndarray) -> np.ndarray:
    """(n,) intensities of a shape without any symmetry, at (n, 3) points."""
    parts = (([0, 0, 0], 4.0, 0.9), ([5, 1, 2], 2.0, 0.5), ([-1, 6, -2], 2.5, 0.7))
    return np.max([weight * ball(points, c, r) for c, r, weight in parts], axis=0)


def image_of(grid: Grid, to_template: sitk.Transform | None = None) -> sitk.Image:
    index = np.stack(np.meshgrid(*map(np.arange, grid.size), indexing="ij"), axis=-1)
    points = grid.to_physical(index.reshape(-1, 3))
    if to_template is not None:
        points = np.array([to_template.TransformPoint(p) for p in points.tolist()])
    return image_on(grid, bone(points).reshape(grid.size).T.astype(np.float32))


@pytest.fixture(scope="module")
def there() -> sitk.Transform:
    """A mirrored, turned and shifted map from template to scan, and a smooth bending before it."""
    bend = sitk.BSplineTransformInitializer(image_of(cube()), [3, 3, 3])
    random = np.random.default_rng(3)
    bend.SetParameters((0.4 * random.standard_normal(len(bend.GetParameters()))).tolist())
    affine = sitk.AffineTransform(3)
    turn = Rotation.from_euler("xyz", [15, -20, 30], degrees=True).as_matrix()
    affine.SetMatrix((np.diag([-1.0, 1.0, 1.0]) @ turn).ravel().tolist())
    affine.SetTranslation([30.0, -12.0, 7.0])
    return sitk.CompositeTransform([affine, bend])


def cube(centre: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> Grid:
    return Grid.centred(centre, (44, 44, 44), 0.5)


def looked_up(template: sitk.Image) -> tuple[np.ndarray, Interpolator]:
    return grid_of(template).corners, Interpolator.of(template)


def marked(positions: np.ndarray, radius: float | None = None) -> PointList:
    radii = None if radius is None else radius + 0.01 * np.arange(len(positions))
    return PointList("final", Landmarks(LABELS[: len(positions)], positions), radii)


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.name)
def test_the_template_is_drawn_where_its_points_come_to_lie(
    view: View, there: sitk.Transform
) -> None:
    template = image_of(cube())
    warped = Warped.of(there, *looked_up(template), marked(np.zeros((1, 3))))
    for point in ([0.0, 0, 0], [5.0, 1, 2], [-1.0, 6, -2]):
        x, y, z = there.TransformPoint(point)
        frame = Frame(view, (x, y, z), 10.0, 0, 0, SIDE)
        drawn = warped.slice(frame).reshape(SIDE, SIDE)
        # What the template has at some points lies at their own places in the slice.
        for away in np.random.default_rng(1).uniform(-4, 4, (20, 2)):
            place = np.array([x, y, z])
            place[list(frame.view.plane)] += away
            column, row = frame.to_picture(place)[0].astype(int)
            back = inverse(there, place, np.array(point))
            assert drawn[row, column] == pytest.approx(float(bone(back[None])[0]), abs=0.06)


def inverse(there: sitk.Transform, place: np.ndarray, start: np.ndarray) -> np.ndarray:
    """The point that comes to lie at a place, by Newton's method on differences."""
    found = start.copy()
    for _ in range(30):
        here = np.array(there.TransformPoint(found.tolist()))
        steps = [np.array(there.TransformPoint((found + d).tolist())) for d in 1e-3 * np.eye(3)]
        slope = np.stack([(step - here) / 1e-3 for step in steps], axis=1)
        found = found + np.linalg.solve(slope, place - here)
    return found


def test_a_frame_says_where_its_pixels_lie() -> None:
    for view in VIEWS:
        frame = Frame(view, (1.0, 2.0, 3.0), 20.0, 7, 9, 40)
        right, down = (frame.to_picture(frame.points()) - [7, 9]).T
        assert right.reshape(40, 40)[5] == pytest.approx(np.arange(40) + 0.5)
        assert down.reshape(40, 40)[:, 5] == pytest.approx(np.arange(40) + 0.5)
        assert Frame.of_record(frame.as_record()) == frame
    # The patient's left is on the right; what is posterior, or inferior, is down.
    axial, coronal, sagittal = (Frame(view, (0.0, 0.0, 0.0), 10.0, 0, 0, 10) for view in VIEWS)
    assert axial.to_picture([2, 3, 4])[0] == pytest.approx([7, 8])
    assert coronal.to_picture([2, 3, 4])[0] == pytest.approx([7, 1])
    assert sagittal.to_picture([2, 3, 4])[0] == pytest.approx([8, 1])


def test_a_panel_shows_the_least_sure_landmarks_and_says_where(tmp_path: Path) -> None:
    scan = image_of(cube((0, 0, 0)))
    shifted = sitk.TranslationTransform(3, (1.0, 0.0, 0.0))
    positions = np.array([[0.0, 0, 0], [5, 1, 2], [-1, 6, -2], [2, 2, 2], [1, 1, 1]])
    rigid = Warped.of(shifted, *looked_up(scan), marked(positions + np.array([1.0, 0, 0])))
    bspline = Warped.of(sitk.Transform(3, sitk.sitkIdentity), *looked_up(scan), marked(positions))
    centres = np.array([[6.0, 1, -2], [0.5, 0, 0], [0.0, 0, 0]])
    steps = {"rigid": rigid, "bspline": bspline}
    found = marked(positions, radius=0.3)
    sheet, tiles = draw(Way(scan, scan, centres, 22.0, found, steps))
    assert [tile["landmark"] for tile in tiles] == ["fifth", "oval", "round", "window"]
    sheet.save(tmp_path / "way.webp")
    picture = np.asarray(Image.open(tmp_path / "way.webp").convert("L")).astype(float)
    frame = Frame.of_record(tiles[2]["frame"])
    assert frame.centre == pytest.approx(positions[2])
    # The scan's slice is where the record says, as it is in the scan.
    assert frame.view.normal != 0
    across = resample(scan, Grid.centred(frame.centre, (1, 1, 1), 0.5))
    expected = 255 * sitk.GetArrayFromImage(across).ravel()[0]
    middle = picture[frame.top + SIDE // 2, frame.left + SIDE // 2]
    assert middle == pytest.approx(expected, abs=25)
    words = tiles[2]["words"]
    assert frame.top + SIDE < words["top"] < frame.top + 2 * SIDE


def test_the_way_of_the_centre_begins_at_the_candidate_that_was_chosen() -> None:
    centred = {"steps": [{"centre": [1.0, 2, 3]}, {"centre": [1.5, 2, 3]}], "candidate": 1}
    located = {"candidates": [{"centre": [9.0, 9, 9]}, {"centre": [4.0, 2, 3]}]}
    assert centres_of(located, centred).tolist() == [[4, 2, 3], [1, 2, 3], [1.5, 2, 3]]
    assert centres_of({"candidates": []}, centred).tolist() == [[1, 2, 3], [1.5, 2, 3]]
