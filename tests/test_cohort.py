"""The simulated cohort: anatomy's statistics, rendered tissues, pose, sides, determinism."""

from functools import cache

import numpy as np
import pytest
import SimpleITK as sitk
from pydantic import ValidationError
from scipy import ndimage

from landmarkflow.cohorts.anatomy import InnerEar, draw_inner_ear
from landmarkflow.cohorts.passages import Passages
from landmarkflow.cohorts.render import Pose, Upsampler
from landmarkflow.cohorts.settings import CohortSettings, side_of
from landmarkflow.cohorts.shapes import Ellipsoid, Tube, VoxelBox, rotation, swept_distance
from landmarkflow.cohorts.simulate import Subject, simulate_subject
from landmarkflow.cohorts.skull import Skull
from landmarkflow.images.operations import array_of, grid_of

SMALL = CohortSettings(size=(96, 96, 64), spacing=(0.5, 0.5, 0.5))
SUBJECTS = range(4)

PUBLISHED = {
    "apex to round window": (6.93, 0.49, 5.76, 8.01),
    "apex to oval window": (6.70, 0.57, 5.62, 7.97),
    "oval to round window": (2.91, 0.22, 2.43, 3.63),
    "angle at the round window": (73.6, 8.1, 57.6, 99.0),
    "width": (6.53, 0.35, 5.4, 7.7),
    "height": (3.26, 0.24, 2.5, 4.1),
}


@cache
def subject(index: int) -> Subject:
    return simulate_subject(SMALL, 11, index)


@cache
def ears() -> tuple[InnerEar, ...]:
    return tuple(draw_inner_ear(np.random.default_rng([5, index])) for index in range(80))


def distances(ear: InnerEar) -> dict[str, float]:
    apex, oval, window = ear.cochlea.apex, ear.oval_window, ear.cochlea.round_window
    cosine = (apex - window) @ (oval - window)
    cosine /= np.linalg.norm(apex - window) * np.linalg.norm(oval - window)
    return {
        "apex to round window": float(np.linalg.norm(apex - window)),
        "apex to oval window": float(np.linalg.norm(apex - oval)),
        "oval to round window": float(np.linalg.norm(oval - window)),
        "angle at the round window": float(np.degrees(np.arccos(cosine))),
        "width": measured_width(ear),
        "height": measured_height(ear),
    }


def measured_width(ear: InnerEar) -> float:
    """Outer width of the basal turn across the modiolar axis, square to the round window."""
    p, scala = ear.cochlea.parameters, ear.cochlea.tympani
    across = np.cross(p.axis, p.phase)
    walls = [
        side * scala.points[i] @ across + scala.radii[i]
        for side, degrees in ((1, 90), (-1, 270))
        for i in [round(degrees / (360 * p.turns) * (len(scala.points) - 1))]
    ]
    return float(sum(walls))


def measured_height(ear: InnerEar) -> float:
    """Axial distance from the basal turn's centre line at the round window to the cupula."""
    axis, cochlea = ear.cochlea.parameters.axis, ear.cochlea
    base = cochlea.tympani.points[0] + cochlea.parameters.scala_offset * axis
    return float((cochlea.apex - base) @ axis)


@pytest.mark.parametrize("name", PUBLISHED)
def test_cohort_has_the_published_statistics(name: str) -> None:
    mean, deviation, low, high = PUBLISHED[name]
    values = np.array([distances(ear)[name] for ear in ears()])
    assert abs(values.mean() - mean) < 0.3 * deviation
    assert 0.7 * deviation < values.std() < 1.3 * deviation
    assert low <= values.min() and values.max() <= high


def test_centre_is_the_middle_of_the_axis() -> None:
    for ear in ears()[:10]:
        axis, height = ear.cochlea.parameters.axis, measured_height(ear)
        np.testing.assert_allclose(ear.cochlea.centre, 0)
        assert ear.cochlea.apex @ axis == pytest.approx(height / 2, abs=1e-9)


def test_windows_and_apex_lie_on_the_lumen() -> None:
    for ear in ears()[:20]:
        cochlea = ear.cochlea
        assert abs(cochlea.tympani.distance(cochlea.round_window[None])[0]) < 0.02
        assert abs(cochlea.vestibuli.distance(cochlea.apex[None])[0]) < 0.02
        assert abs(ear.vestibule.distance(ear.oval_window[None])[0]) < 1e-6


def test_apex_lies_before_and_beside_the_round_window() -> None:
    offsets = np.array([ear.cochlea.apex - ear.cochlea.round_window for ear in ears()])
    assert (offsets[:, 1] < -4).all()
    assert (offsets[:, 0] > 0).all()


def test_ears_differ_in_shape_after_the_best_rigid_fit() -> None:
    template, *others = (outline(ear) for ear in ears()[:25])
    residuals = np.concatenate([rigid_residual(template, other) for other in others])
    assert 0.3 < residuals.mean() < 1.0


def outline(ear: InnerEar) -> np.ndarray:
    canals = [
        tube.along(0.3).points[:: len(tube.along(0.3).points) // 10][:10] for tube in ear.canals
    ]
    marks = np.stack([ear.cochlea.centre, ear.cochlea.apex, ear.cochlea.round_window])
    return np.vstack([marks, ear.cochlea.tympani.points[::20], *canals])


def rigid_residual(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Distances (mm) that the first three points keep after a least-squares rigid fit of all."""
    a, b = first - first.mean(axis=0), second - second.mean(axis=0)
    u, _, v = np.linalg.svd(a.T @ b)
    turn = u @ np.diag([1, 1, np.sign(np.linalg.det(u @ v))]) @ v
    return np.linalg.norm(a @ turn - b, axis=1)[:3]


def test_same_numbers_make_the_same_bytes() -> None:
    again = simulate_subject(SMALL, 11, 1)
    assert array_of(again.scan).tobytes() == array_of(subject(1).scan).tobytes()
    assert array_of(again.segmentation).tobytes() == array_of(subject(1).segmentation).tobytes()
    assert again.landmarks.positions.tobytes() == subject(1).landmarks.positions.tobytes()


KNOWN = {
    0: (
        [[-29.050073, 21.714143, -16.375118], [-29.782719, 20.209339, -16.427706],
         [-32.209073, 26.599968, -16.582684]],
        [737, 481, 423, 409], (222.632, 577.436), [91764, 192, 204],
    ),
    1: (
        [[51.502236, -1.461839, 4.56537], [52.309578, -2.997413, 4.303466],
         [53.498024, 3.659973, 3.390504]],
        [-116, -97, 22, 3], (212.409, 628.773), [91777, 167, 216],
    ),
}  # fmt: skip


@pytest.mark.parametrize("index", KNOWN)
def test_known_subjects_do_not_change(index: int) -> None:
    settings = CohortSettings(size=(48, 48, 40), spacing=(0.7, 0.7, 0.9), left_fraction=1.0)
    positions, row, spread, counts = KNOWN[index]
    one = simulate_subject(settings, 11, index)
    hu = array_of(one.scan)
    np.testing.assert_allclose(one.landmarks.positions[:3], positions, atol=2e-6)
    # A processor may round a voxel or a surface otherwise; another random number changes all.
    np.testing.assert_allclose(hu[10, 20:24, 30], row, atol=1)
    np.testing.assert_allclose((hu.mean(), hu.std()), spread, atol=0.01)
    np.testing.assert_allclose(np.bincount(array_of(one.segmentation).ravel()), counts, atol=1)


def test_any_number_makes_a_subject() -> None:
    tiny = CohortSettings(size=(16, 16, 16), spacing=(2.0, 2.0, 2.0))
    for index in (25, 9999, 20_000):
        one = simulate_subject(tiny, 1, index)
        assert one.side == side_of(tiny, 1, index)
        assert np.isfinite(one.landmarks.positions).all()


def test_other_index_or_seed_makes_another_subject() -> None:
    coarse = CohortSettings(size=(16, 16, 16), spacing=(2.0, 2.0, 2.0))
    scans = [simulate_subject(coarse, seed, index) for seed, index in ((1, 0), (1, 1), (2, 0))]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert (array_of(scans[one].scan) != array_of(scans[other].scan)).mean() > 0.9
        shapes = [
            scans[i].landmarks.positions - scans[i].landmarks.positions[0] for i in (one, other)
        ]
        assert np.abs(shapes[0] - shapes[1]).max() > 0.05


def test_anatomy_does_not_depend_on_the_grid() -> None:
    fine = subject(2)
    coarse = simulate_subject(CohortSettings(size=(48, 48, 32), spacing=(1.0, 1.0, 1.0)), 11, 2)
    centres = [grid_of(one.scan).centre for one in (fine, coarse)]
    np.testing.assert_allclose(
        fine.landmarks.positions - centres[0], coarse.landmarks.positions - centres[1], atol=1e-9
    )


def test_scan_and_segmentation_share_a_grid_and_types() -> None:
    for index in SUBJECTS:
        one = subject(index)
        assert one.scan.GetPixelID() == sitk.sitkInt16
        assert one.segmentation.GetPixelID() == sitk.sitkUInt8
        assert one.scan.GetSize() == one.segmentation.GetSize() == SMALL.size
        assert one.scan.GetOrigin() == one.segmentation.GetOrigin()
        assert set(np.unique(array_of(one.segmentation))) == {0, 1, 2}
        assert array_of(one.scan).min() >= -1024 and array_of(one.scan).max() <= 3071


def test_landmarks_lie_in_the_volume_off_its_centre() -> None:
    offsets = []
    for index in SUBJECTS:
        one = subject(index)
        assert one.landmarks.labels == ("CENTER", "TOP", "WINDOW", "oval_window")
        assert grid_of(one.scan).contains(one.landmarks.positions).all()
        offsets.append(one.landmarks.positions[0] - grid_of(one.scan).centre)
    assert np.abs(offsets).max() <= SMALL.shift_mm
    assert np.linalg.norm(offsets, axis=1).mean() > 3


def lumen_distance(one: Subject, label: int) -> np.ndarray:
    """Distances (mm) of the landmarks to the nearest voxel of a label, in their order."""
    grid = grid_of(one.segmentation)
    voxels = np.argwhere(array_of(one.segmentation) == label)[:, ::-1]
    points = grid.to_physical(voxels.astype(float))
    gaps = points[None] - one.landmarks.positions[:, None]
    return np.asarray(np.linalg.norm(gaps, axis=-1).min(axis=1))


def test_landmarks_lie_at_the_segmented_cochlea() -> None:
    for index in SUBJECTS:
        to_cochlea = lumen_distance(subject(index), 1)
        assert to_cochlea[0] < 1.3
        assert to_cochlea[1] < 0.6
        assert to_cochlea[2] < 0.6


def test_oval_window_lies_on_the_vestibule_and_off_the_cochlea() -> None:
    for index in SUBJECTS:
        assert lumen_distance(subject(index), 2)[3] < 0.6
        assert lumen_distance(subject(index), 1)[3] > 0.6
    for ear in ears():
        window = ear.oval_window[None]
        others = (ear.cochlea.tympani, ear.cochlea.vestibuli, *ear.canals)
        assert min(tube.distance(window)[0] for tube in others) > 0.2
        assert ear.oval_window_normal[0] < -0.5


def test_distances_in_a_scan_are_those_of_its_ear() -> None:
    for index in SUBJECTS:
        _, top, window, oval = subject(index).landmarks.positions
        found = (top - window, top - oval, oval - window)
        expected = distances(ear_of(index))
        np.testing.assert_allclose(
            [np.linalg.norm(line) for line in found], list(expected.values())[:3], atol=1e-9
        )


def ear_of(index: int) -> InnerEar:
    return draw_inner_ear(np.random.default_rng([11, index]).spawn(3)[0])


def test_labels_are_the_cochlea_and_the_vestibule_with_its_canals() -> None:
    for index in SUBJECTS:
        one, ear = subject(index), ear_of(index)
        cochlea, others = (
            labels_at(one, ear, points)
            for points in (
                np.vstack([ear.cochlea.tympani.points[40:], ear.cochlea.vestibuli.points[60:]]),
                np.vstack(
                    [ear.vestibule.centre, *(canal.along(0.3).points for canal in ear.canals)]
                ),
            )
        )
        assert (cochlea == 1).mean() > 0.95
        assert (others == 2).mean() > 0.95


def labels_at(one: Subject, ear: InnerEar, points: np.ndarray) -> np.ndarray:
    """Labels of the voxels at points of the anatomy that lie in the scan."""
    marks = np.stack(
        [ear.cochlea.centre, ear.cochlea.apex, ear.cochlea.round_window, ear.oval_window]
    )
    turn = np.linalg.solve(marks[1:], one.landmarks.positions[1:] - one.landmarks.positions[0])
    grid = grid_of(one.segmentation)
    places = points @ turn + one.landmarks.positions[0]
    x, y, z = np.rint(grid.to_index(places[grid.contains(places)])).astype(int).T
    return np.asarray(array_of(one.segmentation)[z, y, x])


def test_centre_lies_between_the_cochlea_voxels() -> None:
    for index in SUBJECTS:
        one = subject(index)
        voxels = np.argwhere(array_of(one.segmentation) == 1)[:, ::-1]
        around = grid_of(one.scan).to_physical(voxels.astype(float)) - one.landmarks.positions[0]
        directions = np.random.default_rng(0).standard_normal((200, 3))
        assert ((around @ directions.T).max(axis=0) > 0.3).all()


def test_window_faces_air() -> None:
    for index in SUBJECTS:
        one = subject(index)
        scan, grid = array_of(one.scan), grid_of(one.scan)
        z, y, x = np.indices(scan.shape)
        points = grid.to_physical(np.stack([x, y, z], axis=-1).reshape(-1, 3).astype(float))
        near = np.linalg.norm(points - one.landmarks.positions[2], axis=1) < 2.2
        assert scan.reshape(-1)[near].min() < -600


def test_labyrinth_has_a_plausible_volume() -> None:
    for index in SUBJECTS:
        labels = array_of(subject(index).segmentation)
        voxel = float(np.prod(SMALL.spacing))
        cochlea, rest = ((labels == label).sum() * voxel for label in (1, 2))
        assert 45 < cochlea < 110
        assert 70 < rest < 160
        assert 140 < cochlea + rest < 250


def test_labyrinth_is_one_piece() -> None:
    for index in SUBJECTS:
        labels = array_of(subject(index).segmentation)
        pieces, _ = ndimage.label(labels > 0, np.ones((3, 3, 3)))
        sizes = np.bincount(pieces.ravel())[1:]
        assert sizes.max() > 0.95 * sizes.sum()


def test_tissues_have_their_hounsfield_units() -> None:
    for index in SUBJECTS:
        scan, labels = array_of(subject(index).scan), array_of(subject(index).segmentation)
        inside = ndimage.binary_erosion(labels > 0, iterations=2)
        assert -40 < np.median(scan[inside]) < 250
        depth = ndimage.distance_transform_edt(labels == 0, sampling=0.5)
        capsule = scan[(depth > 0.6) & (depth < 1.1)]
        assert 1500 < np.percentile(capsule, 70) < 2300
        far = scan[depth > 6]
        assert -1010 < np.median(far[far < -900]) < -970
        soft = far[(far > -150) & (far < 200)]
        assert 0 < np.median(soft) < 60
        assert (far > 600).mean() > 0.05


def test_dense_bone_lies_in_several_places() -> None:
    counts = []
    for index in SUBJECTS:
        smooth = ndimage.gaussian_filter(array_of(subject(index).scan).astype(float), 0.8)
        pieces, _ = ndimage.label(smooth > 1450)
        counts.append(int((np.bincount(pieces.ravel())[1:] > 8).sum()))
    assert max(counts) >= 2


def test_both_sides_occur_and_the_template_is_a_right_ear() -> None:
    tiny = CohortSettings(size=(16, 16, 16), spacing=(2.0, 2.0, 2.0))
    sides = [side_of(tiny, 3, index) for index in range(30)]
    assert sides[0] == "right"
    assert 5 < sides.count("left") < 25
    assert [simulate_subject(tiny, 3, index).side for index in range(3)] == sides[:3]


@pytest.mark.parametrize(("left_fraction", "side", "sign"), [(0.0, "right", 1), (1.0, "left", -1)])
def test_left_ears_are_mirrored(left_fraction: float, side: str, sign: int) -> None:
    tiny = CohortSettings(
        size=(16, 16, 16), spacing=(2.0, 2.0, 2.0), rotation_degrees=5, left_fraction=left_fraction
    )
    one = simulate_subject(tiny, 3, 1)
    _, top, window, _ = one.landmarks.positions
    assert one.side == side
    assert sign * (top - window)[0] > 0
    assert (top - window)[1] < 0


def test_handedness_of_a_pose() -> None:
    points = np.random.default_rng(1).standard_normal((5, 3))
    pose = Pose(rotation([1, 2, 3], 20) @ np.diag([-1.0, 1, 1]), np.array([4.0, 5, 6]))
    np.testing.assert_allclose(pose.to_anatomy(pose.to_scan(points)), points, atol=1e-12)
    assert np.linalg.det(pose.turn) == pytest.approx(-1)


def test_air_cells_stay_in_bone_and_out_of_the_labyrinth() -> None:
    random = np.random.default_rng(4)
    ear = ears()[0]
    skull = Skull(random, ear, Passages(random, ear))
    centres, radii = skull.draw_cells(random)
    surfaces = skull.surfaces(centres)
    assert len(centres) > 100
    assert (surfaces.skull < 0).all()
    assert (surfaces.labyrinth > 2).all()
    assert (radii > 0).all()


def test_tube_distance_matches_a_capsule() -> None:
    tube = Tube(np.array([[0.0, 0, 0], [4, 0, 0]]), np.array([1.0, 1.0]))
    points = np.array([[2.0, 3, 0], [-2, 0, 0], [2, 0, 0.5], [5.5, 0, 0]])
    np.testing.assert_allclose(tube.distance(points), [2, 1, -0.5, 0.5])
    axis = np.arange(-3, 8, 0.5)
    box = VoxelBox(axis, axis, axis)
    painted = swept_distance(box, [tube], band=2.0)
    exact = tube.distance(box.points())
    near = (exact > -0.5) & (exact < 1.9)
    np.testing.assert_allclose(painted[near], exact[near], atol=0.01)


def test_ellipsoid_reach_and_normal() -> None:
    shape = Ellipsoid(np.array([1.0, 2, 3]), np.array([1.0, 2, 3]), rotation([0, 0, 1], 30))
    direction = np.array([0.6, 0.0, 0.8])
    surface = shape.centre + shape.reach(direction) * direction
    assert shape.distance(surface[None])[0] == pytest.approx(0, abs=1e-9)
    outside = surface + 0.1 * shape.normal(surface)
    assert shape.distance(outside[None])[0] == pytest.approx(0.1, abs=0.01)


def test_upsampling_a_linear_field_is_exact() -> None:
    box = VoxelBox(np.arange(7) * 0.3 + 1, np.arange(5) * 0.25, np.arange(4) * 0.5 - 2)
    upsampler = Upsampler(box, 0.8)
    points = upsampler.coarse.points()
    field = (points @ [1.0, -2.0, 0.5]).astype(np.float32)
    expected = box.points() @ [1.0, -2.0, 0.5]
    np.testing.assert_allclose(upsampler.slices(field, slice(None)), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"size": (40, 192, 96)}, "10.0 mm along x, expected at least 32.0 mm"),
        ({"noise_hu": (80.0, 40.0)}, "noise_hu is 80.0 to 40.0"),
        ({"sizes": (1, 1, 1)}, "Extra inputs"),
    ],
)
def test_settings_refuse_what_cannot_be_made(choice: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        CohortSettings.model_validate(choice)


def test_every_setting_is_described() -> None:
    for name, field in CohortSettings.model_fields.items():
        assert field.description, name
