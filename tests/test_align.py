import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray
from phantoms import DENSE, LANDMARKS, MIXTURE, SOFT, bone, cut, depth_mask, sampled
from scipy.spatial.transform import Rotation
from stage_runs import Outcome, assert_refused, path_of, run_stage

from landmarkflow.core.errors import ScanFailure
from landmarkflow.core.grids import Grid
from landmarkflow.core.records import TEMPLATE, Record, Step, read_record, write_record
from landmarkflow.formats.transforms import read_transform
from landmarkflow.formats.written import read_written, write_volume
from landmarkflow.images.extent import Extent
from landmarkflow.images.identity import Identity
from landmarkflow.images.operations import array_of, grid_of, image_on, mirrored
from landmarkflow.images.sampling import map_points
from landmarkflow.methods.oneshot.align import (
    Template,
    align,
    prepare_template,
    starting_poses,
)
from landmarkflow.methods.oneshot.crops import crop_around
from landmarkflow.methods.oneshot.mixture import Mixture
from landmarkflow.methods.oneshot.moments import PROPER_FLIPS, Moments, Pose, Subject, moments_of
from landmarkflow.methods.oneshot.rigid import Samples, Similarity
from landmarkflow.methods.oneshot.settings import AlignSettings
from landmarkflow.methods.oneshot.stages import ALIGN

Points = NDArray[np.float64]

SETTINGS = AlignSettings(samples=2000)
TEMPLATE_GRID = Grid.centred((0.4, -0.3, 0.2), (44, 44, 44), 0.5)
# Where the target's centre lies in its own scan, and by how much the network misses it.
PLACE, MISS = np.array([-41.3, 22.7, 108.9]), np.array([0.8, -0.6, 0.5])
ANISOTROPIC = Grid((70, 55, 44), np.array([0.3, 0.4, 0.5]), PLACE + MISS - 10.4, np.eye(3))
ISOTROPIC = Grid.centred(PLACE + MISS, (44, 44, 44), 0.5)
# The mirror image in the plane x = 0.
MIRROR = np.array([-1.0, 1.0, 1.0])


def turn(x: float, y: float, z: float) -> Points:
    matrix: Points = Rotation.from_euler("xyz", [x, y, z], degrees=True).as_matrix()
    return matrix


def posed(rotation: Points, grid: Grid = ISOTROPIC) -> Subject:
    """The bone turned about its origin and put at its place."""
    return Subject(sampled(grid, lambda p: bone((p - PLACE) @ rotation)), MIXTURE)


@pytest.fixture(scope="module")
def annotated() -> Subject:
    return Subject(sampled(TEMPLATE_GRID, bone), MIXTURE)


@pytest.fixture(scope="module")
def template(annotated: Subject) -> Template:
    return prepare_template(annotated, depth_mask(TEMPLATE_GRID), SETTINGS)


def applied(pose: Pose, points: Points) -> Points:
    """Where a pose takes (n, 3) points."""
    return np.asarray(pose.turned(points) + pose.pivot + pose.translation)


def worst_error(mapped: Points, rotation: Points) -> float:
    truth = LANDMARKS.positions @ rotation.T + PLACE
    return float(np.linalg.norm(mapped - truth, axis=1).max())


# Recovery of known poses


@pytest.mark.parametrize(
    "angles",
    [
        (0, 0, 0),
        (12, -15, 9),
        (180, 0, 0),
        (0, 180, 0),
        (0, 0, 180),
        (130, 50, -70),
        (-95, -40, 100),
    ],
    ids=str,
)
def test_a_known_pose_is_recovered(template: Template, angles: tuple[float, ...]) -> None:
    rotation = turn(*angles)
    found = align(template, posed(rotation), SETTINGS)
    assert worst_error(applied(found.pose, LANDMARKS.positions), rotation) < 0.1
    assert found.correlation > 0.98
    assert len(found.tried) == 5
    assert found.start in {start.name for start in found.tried}


@pytest.mark.parametrize("flip", range(4))
def test_half_turns_about_the_principal_axes_are_told_apart(
    template: Template, annotated: Subject, flip: int
) -> None:
    axes = moments_of(annotated, SETTINGS).axes
    rotation = turn(5, -8, 4) @ axes @ PROPER_FLIPS[flip] @ axes.T
    moments_only = SETTINGS.model_copy(update={"starts": ("moments",)})
    found = align(template, posed(rotation), moments_only)
    assert worst_error(applied(found.pose, LANDMARKS.positions), rotation) < 0.1
    correlations = sorted(start.correlation for start in found.tried)
    assert len(correlations) == 4
    assert correlations[-1] > correlations[-2] + 0.02


def test_voxels_need_not_be_cubes(template: Template) -> None:
    rotation = turn(25, -30, 140)
    found = align(template, posed(rotation, ANISOTROPIC), SETTINGS)
    assert worst_error(applied(found.pose, LANDMARKS.positions), rotation) < 0.1


@pytest.mark.parametrize("angles", [(10, -12, 20), (160, 20, -100)], ids=str)
def test_the_other_side_is_aligned_as_its_mirror_image(
    template: Template, tmp_path: Path, angles: tuple[float, ...]
) -> None:
    rotation = turn(*angles)
    mirror = np.diag([-1.0, 1.0, 1.0])
    place = mirror @ PLACE
    other_side = sampled(
        Grid.centred(place + MISS, (44, 44, 44), 0.5),
        lambda p: bone(MIRROR * (p - place) @ rotation),
    )
    truth = MIRROR * (LANDMARKS.positions @ rotation.T) + place
    found = align(template, Subject(mirrored(other_side), MIXTURE), SETTINGS)
    sitk.WriteTransform(found.pose.transform(mirrored=True), str(tmp_path / "a.tfm"))
    transform = sitk.ReadTransform(str(tmp_path / "a.tfm"))
    mapped = np.array([transform.TransformPoint(p) for p in LANDMARKS.positions.tolist()])
    assert np.linalg.norm(mapped - truth, axis=1).max() < 0.1
    unmirrored = align(template, Subject(other_side, MIXTURE), SETTINGS)
    assert unmirrored.correlation < found.correlation - 0.02


def test_an_upright_start_needs_no_good_moments(template: Template) -> None:
    rotation = turn(6, -5, 8)
    upright = SETTINGS.model_copy(update={"starts": ("upright",)})
    found = align(template, posed(rotation), upright)
    assert [start.name for start in found.tried] == ["upright"]
    assert worst_error(applied(found.pose, LANDMARKS.positions), rotation) < 0.1


def test_the_same_input_gives_the_same_pose_to_the_bit(template: Template) -> None:
    target = posed(turn(30, 20, 10))
    one, again = align(template, target, SETTINGS), align(template, target, SETTINGS)
    np.testing.assert_array_equal(one.pose.rotation, again.pose.rotation)
    np.testing.assert_array_equal(one.pose.translation, again.pose.translation)


def test_without_dense_bone_near_the_centre_there_is_no_pose(template: Template) -> None:
    soft = image_on(ISOTROPIC, np.full(ISOTROPIC.size[::-1], SOFT, dtype=np.float32))
    with pytest.raises(ScanFailure, match="no dense bone within 8 mm"):
        align(template, Subject(soft, MIXTURE), SETTINGS)


def test_a_scan_whose_mixture_lost_the_dense_bone_is_aligned(template: Template) -> None:
    rotation = turn(10, -8, 12)
    lost = Mixture(np.array([1.0, 1e-9]), np.array([SOFT, 0.999]), np.array([0.5, 1e-4]))
    target = Subject(posed(rotation).crop, lost)
    assert lost.dense_probability(array_of(target.crop).astype(np.float64)).max() < 1e-3
    found = align(template, target, SETTINGS)
    assert worst_error(applied(found.pose, LANDMARKS.positions), rotation) < 0.1


# A scan that shows a part of the target

# A landmark, the axis that the border stands on, and towards which end of it.
BORDERS = [("tip", 0, 1), ("knob", 1, 1), ("flank", 1, -1), ("bump", 2, 1)]


@pytest.mark.parametrize(("label", "axis", "side"), BORDERS)
@pytest.mark.parametrize("before_mm", [-0.5, 1.0, 2.0])
def test_of_a_target_cut_at_the_border_what_is_seen_is_compared(
    template: Template, label: str, axis: int, side: int, before_mm: float
) -> None:
    rotation = turn(12, -15, 9)
    place = LANDMARKS.select([label]).positions[0] @ rotation.T + PLACE
    crop, extent = cut(posed(rotation).crop, axis, side, float(place[axis]) - side * before_mm)
    assert (extent.depth(place[None])[0] < 0) == (before_mm > 0)
    found = align(template, Subject(crop, MIXTURE, extent), SETTINGS)
    assert worst_error(applied(found.pose, LANDMARKS.positions), rotation) < 0.05
    assert found.correlation > 0.98
    assert {"upright, of what is seen", "upright, shifted"} < {start.name for start in found.tried}
    # Air beyond the border, taken for what it seems, draws the template into the scan.
    padded = align(template, Subject(crop, MIXTURE), SETTINGS)
    assert worst_error(applied(padded.pose, LANDMARKS.positions), rotation) > 0.25


def test_a_pose_that_puts_next_to_nothing_into_the_scan_is_worth_nothing(
    template: Template,
) -> None:
    crop, extent = cut(posed(np.eye(3)).crop, 0, 1, float(PLACE[0]) - 4.0)
    similarity = Similarity.of(template.samples[0], Subject(crop, MIXTURE, extent))
    right = Pose(np.eye(3), np.zeros(3), PLACE)
    seen = similarity.seen(right)
    assert seen is not None
    assert 0 < seen.mean() < 0.3
    assert similarity.value(right) == -1.0
    assert similarity.ascend(right, SETTINGS) == (right, -1.0)


def test_the_gradient_counts_the_samples_that_are_seen(template: Template) -> None:
    crop, extent = cut(posed(turn(20, -10, 30)).crop, 0, 1, float(PLACE[0]) + 2.0)
    similarity = Similarity.of(template.samples[0], Subject(crop, MIXTURE, extent))
    pose = Pose(turn(10, -2, 22), np.zeros(3), PLACE + np.array([0.7, -0.5, 0.4]))
    seen = similarity.seen(pose)
    assert seen is not None
    assert 0.3 < seen.mean() < 0.9
    value, gradient = similarity.value_and_gradient(pose, seen)
    there = applied(pose, similarity.samples.points[seen])
    values, _ = similarity.target.sample(there)
    assert value == pytest.approx(np.corrcoef(similarity.samples.values[seen], values)[0, 1])
    assert value == pytest.approx(similarity.value(pose))
    steps = np.eye(6) * 0.05
    measured = [
        similarity.value_and_gradient(pose.moved(step), seen)[0]
        - similarity.value_and_gradient(pose.moved(-step), seen)[0]
        for step in steps
    ]
    assert np.corrcoef(gradient, measured)[0, 1] > 0.98


# Moments


def test_moments_are_those_of_the_weighted_points() -> None:
    grid = Grid.centred((3.0, -5.0, 7.0), (30, 30, 30), 0.5)
    axes = turn(20, 35, -50)

    def box(p: Points) -> Points:
        half = np.array([4.0, 2.5, 1.5])
        inside = (np.abs((p - [3.4, -5.2, 7.3]) @ axes) < half).all(axis=1)
        return np.where(inside, DENSE, SOFT)

    found = moments_of(Subject(sampled(grid, box), MIXTURE), SETTINGS)
    np.testing.assert_allclose(found.centre, [3.4, -5.2, 7.3], atol=0.1)
    # The longest axis has the least moment of inertia and comes first.
    np.testing.assert_allclose(np.abs(np.sum(found.axes * axes, axis=0)), [1, 1, 1], atol=0.01)
    assert np.linalg.det(found.axes) == pytest.approx(1.0)


def test_bone_beyond_the_radius_does_not_count() -> None:
    def with_neighbour(p: Points) -> Points:
        return np.where(np.linalg.norm(p - [10.5, 0, 0], axis=1) < 2, DENSE, bone(p))

    near = SETTINGS.model_copy(update={"moments_radius_mm": 7.0})
    alone = moments_of(Subject(sampled(TEMPLATE_GRID, bone), MIXTURE), near)
    beside = moments_of(Subject(sampled(TEMPLATE_GRID, with_neighbour), MIXTURE), near)
    np.testing.assert_allclose(beside.centre, alone.centre, atol=1e-6)
    everything = SETTINGS.model_copy(update={"moments_radius_mm": 30.0})
    pulled = moments_of(Subject(sampled(TEMPLATE_GRID, with_neighbour), MIXTURE), everything)
    assert pulled.centre[0] > alone.centre[0] + 0.5


def test_the_starts_are_four_rotations_and_one_is_right(annotated: Subject) -> None:
    rotation = turn(130, 50, -70)
    fixed = moments_of(annotated, SETTINGS)
    moving = moments_of(posed(rotation), SETTINGS)
    starts = dict(starting_poses(fixed, moving, SETTINGS))
    assert list(starts) == ["upright", *(f"moments, flip {n}" for n in range(4))]
    angles = []
    for pose in starts.values():
        assert np.linalg.det(pose.rotation) == pytest.approx(1.0)
        np.testing.assert_allclose(applied(pose, fixed.centre[None])[0], moving.centre, atol=1e-9)
        angles.append(np.degrees(Rotation.from_matrix(pose.rotation @ rotation.T).magnitude()))
    assert min(angles[1:]) < 10.0
    # The other three are half turns away.
    assert sorted(angles[1:])[1] > 150.0


# Poses


@pytest.mark.parametrize("hand", [False, True])
def test_a_poses_transform_maps_as_the_pose_does(tmp_path: Path, hand: bool) -> None:
    pose = Pose(turn(20, -130, 75), np.array([3.0, -4.0, 5.0]), np.array([-40.123456789, 21, 99]))
    expected = applied(pose, LANDMARKS.positions)
    if hand:
        expected = MIRROR * expected
    sitk.WriteTransform(pose.transform(mirrored=hand), str(tmp_path / "pose.tfm"))
    for transform in (
        pose.transform(mirrored=hand),
        sitk.ReadTransform(str(tmp_path / "pose.tfm")),
    ):
        mapped = [transform.TransformPoint(point) for point in LANDMARKS.positions.tolist()]
        np.testing.assert_allclose(mapped, expected, atol=1e-9)


def test_a_step_turns_about_the_moved_pivot() -> None:
    pose = Pose(turn(20, -130, 75), np.array([3.0, -4.0, 5.0]), np.array([-40.0, 21, 99]))
    moved = pose.moved(np.array([0.0, 0.0, np.pi / 2, 1.0, 2.0, 3.0]))
    pivot = pose.pivot + pose.translation
    arm = applied(pose, LANDMARKS.positions) - pivot
    quarter = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    expected = arm @ quarter.T + pivot + [1.0, 2.0, 3.0]
    np.testing.assert_allclose(applied(moved, LANDMARKS.positions), expected, atol=1e-9)


# Similarity


def finite_differences(similarity: Similarity, pose: Pose, size: float) -> Points:
    steps = np.eye(6) * size
    return np.array(
        [
            similarity.value_and_gradient(pose.moved(step))[0]
            - similarity.value_and_gradient(pose.moved(-step))[0]
            for step in steps
        ]
    ) / (2 * size)


def test_the_gradient_is_exact_where_interpolation_is() -> None:
    grid = Grid((30, 26, 22), np.array([0.3, 0.4, 0.5]), np.array([10.0, -20.0, 5.0]), np.eye(3))

    def trilinear(p: Points) -> Points:
        x, y, z = (p - grid.centre).T
        return x - 2 * y + 0.5 * z + 0.3 * x * y - 0.4 * y * z + 0.2 * x * z + 0.1 * x * y * z

    random = np.random.default_rng(0)
    points = random.uniform(-2, 2, (300, 3))
    values = random.normal(size=300) + points @ [1.0, -1.0, 0.5]
    values -= values.mean()
    samples = Samples(0.1, points, values / np.linalg.norm(values))
    similarity = Similarity.of(samples, Subject(sampled(grid, trilinear), MIXTURE))
    assert tuple(similarity.target.size) == grid.size
    pose = Pose(
        turn(15, -20, 30), np.array([0.5, 0.2, -0.1]), grid.centre + np.array([0.3, -0.2, 0.1])
    )
    value, gradient = similarity.value_and_gradient(pose)
    expected = np.corrcoef(samples.values, trilinear(applied(pose, points)))[0, 1]
    assert value == pytest.approx(expected, abs=1e-5)
    measured = finite_differences(similarity, pose, 1e-3)
    assert np.abs(measured).min() > 1e-3
    np.testing.assert_allclose(gradient, measured, rtol=5e-3, atol=1e-4)


def test_the_gradient_points_uphill_on_a_bone(template: Template) -> None:
    similarity = Similarity.of(template.samples[0], posed(turn(20, -10, 30)))
    pose = Pose(turn(10, -2, 22), np.zeros(3), PLACE + np.array([0.7, -0.5, 0.4]))
    _, gradient = similarity.value_and_gradient(pose)
    measured = finite_differences(similarity, pose, 0.05)
    cosine = gradient @ measured / np.linalg.norm(gradient) / np.linalg.norm(measured)
    assert cosine > 0.99
    # Differences over two voxels of 1 mm flatten the bone's edges a little.
    assert 0.8 < np.linalg.norm(gradient) / np.linalg.norm(measured) < 1.05


def test_the_right_pose_correlates_fully_and_far_off_nothing_breaks(template: Template) -> None:
    similarity = Similarity.of(template.samples[-1], posed(np.eye(3)))
    right = Pose(np.eye(3), np.zeros(3), PLACE)
    assert similarity.value_and_gradient(right)[0] > 0.99
    far = Pose(np.eye(3), np.zeros(3), PLACE + 1000.0)
    value, gradient = similarity.value_and_gradient(far)
    assert value == 0.0
    assert np.isfinite(gradient).all()


def test_brightness_and_contrast_do_not_matter(template: Template) -> None:
    target = posed(turn(5, 5, 5))
    dim = Subject(target.crop * 0.3 + 0.5, MIXTURE)
    pose = Pose(np.eye(3), np.zeros(3), PLACE)
    one = Similarity.of(template.samples[0], target).value_and_gradient(pose)
    other = Similarity.of(template.samples[0], dim).value_and_gradient(pose)
    assert one[0] == pytest.approx(other[0], abs=1e-5)
    np.testing.assert_allclose(one[1], other[1], atol=1e-5)


@pytest.mark.parametrize("optimiser", ["lbfgs", "gradient_descent"])
def test_both_optimisers_climb(template: Template, optimiser: str) -> None:
    rotation = turn(8, -6, 10)
    similarity = Similarity.of(template.samples[0], posed(rotation))
    start = Pose(np.eye(3), np.zeros(3), PLACE + np.array([0.8, -0.5, 0.6]))
    settings = SETTINGS.model_copy(update={"optimiser": optimiser})
    reached, value = similarity.ascend(start, settings)
    assert value == pytest.approx(similarity.value_and_gradient(reached)[0], abs=1e-9)
    assert value > similarity.value_and_gradient(start)[0] + 0.05
    before = worst_error(applied(start, LANDMARKS.positions), rotation)
    assert worst_error(applied(reached, LANDMARKS.positions), rotation) < 0.5 * before


# The template


def test_the_templates_samples_lie_in_its_mask_with_its_intensities(template: Template) -> None:
    for samples, spacing in zip(template.samples, SETTINGS.spacings_mm, strict=True):
        assert samples.spacing == spacing
        assert np.linalg.norm(samples.points, axis=1).max() < 7.0 + spacing
        assert samples.values.sum() == pytest.approx(0.0, abs=1e-9)
        assert np.linalg.norm(samples.values) == pytest.approx(1.0)
        assert np.corrcoef(samples.values, bone(samples.points))[0, 1] > 0.95
        # Spread over the whole mask, and not only where its voxels begin.
        np.testing.assert_allclose(samples.points.mean(axis=0), np.zeros(3), atol=0.3)
    coarse, fine = (len(samples.points) for samples in template.samples)
    assert SETTINGS.samples <= fine < 2 * SETTINGS.samples
    assert coarse == pytest.approx(4 / 3 * np.pi * 7**3, rel=0.1)


def test_the_flips_are_no_turn_and_three_half_turns() -> None:
    assert all(np.linalg.det(flip) == pytest.approx(1.0) for flip in PROPER_FLIPS)
    assert len({tuple(np.diag(flip)) for flip in PROPER_FLIPS}) == 4
    moments = Moments(np.zeros(3), np.eye(3))
    poses = [pose for _, pose in starting_poses(moments, moments, SETTINGS)]
    np.testing.assert_array_equal(poses[0].rotation, np.eye(3))


# The stage

SIDES = {"left": True, "right": False}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory, annotated: Subject) -> Path:
    """A right template, the same bone in a right scan, and its mirror image in a left one."""
    folder = tmp_path_factory.mktemp("align")
    grid = Grid.centred(PLACE, (400, 400, 400), 0.5)
    located = {"mixture": MIXTURE.as_record(), "grid": grid.as_lists()}
    centred = {"steps": [{"centre": PLACE.tolist()}], "rivals": []}
    write_volume(annotated.crop, path_of(folder, ALIGN, "template_centred"))
    write_volume(depth_mask(TEMPLATE_GRID, 4.5), path_of(folder, ALIGN, "template_target"))
    for name in (TEMPLATE, *SIDES):
        record = Record(name, "locate", details=located)
        write_record(path_of(folder, ALIGN, "locate_record", name), record)
        record = Record(name, "centre", details=centred, earlier=(Step("locate"),))
        write_record(path_of(folder, ALIGN, "centre_record", name), record)
    right = posed(turn(10, -12, 20)).crop
    for name, image in (("right", right), ("left", mirrored(right))):
        write_volume(image, path_of(folder, ALIGN, "centred", name))
        write_volume(image, path_of(folder, ALIGN, "region", name))
    for role, name in (("template_probability", ""), *(("probability", side) for side in SIDES)):
        write_volume(depth_mask(TEMPLATE_GRID, 4.5), path_of(folder, ALIGN, role, name))
    return folder


@pytest.fixture
def study(prepared: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(prepared, tmp_path / "study"))


def run(
    folder: Path, side: str = "right", settings: AlignSettings = SETTINGS, **sides: str
) -> Outcome:
    """Align scans, each of which the sheet says to be of a side."""
    rows = {name: {"side": said} for name, said in (*sides.items(), (TEMPLATE, side))}
    return run_stage(ALIGN, folder, list(sides), settings={"align": settings}, sheet=rows)


def record_of(folder: Path, scan: str) -> Record:
    return read_record(path_of(folder, ALIGN, "record", scan))


@pytest.mark.parametrize(
    ("side", "status"), [("", "refused"), ("right", "refused"), ("left", "ok")]
)
def test_the_template_saved_anew_is_refused_unless_its_other_side_is_meant(
    study: Path, side: str, status: str
) -> None:
    image = Identity.of(sampled(TEMPLATE_GRID, bone)).as_record()
    for name in (TEMPLATE, "left"):
        path = path_of(study, ALIGN, "locate_record", name)
        record = read_record(path)
        write_record(path, replace(record, details={**record.details, "image": image}))
    done = run(study, left=side, right="right")
    assert done.status == 0, done.stderr
    assert record_of(study, "right").status == "ok"
    record = record_of(study, "left")
    assert record.status == status
    if status == "refused":
        assert record.reason == (
            "scan left: holds the same image as the template, saved anew, expected another image, "
            "or another side of it that is stated for each"
        )
        assert path_of(study, ALIGN, "rigid", "left").stat().st_size == 0


@pytest.mark.parametrize("said", ["its own", ""])
def test_a_scan_of_the_other_side_is_mirrored_told_or_not(study: Path, said: str) -> None:
    done = run(study, **{name: name if said else "" for name in SIDES})
    assert done.status == 0, done.stderr
    truth = LANDMARKS.positions @ turn(10, -12, 20).T + PLACE
    for name, flip in SIDES.items():
        record = record_of(study, name)
        assert (record.status, record.details["mirrored"]) == ("ok", flip)
        assert record.earlier == (Step("locate"), Step("centre"))
        assert record.details["start"] in record.details["tried"]
        transform = read_transform(path_of(study, ALIGN, "rigid", name))
        expected = truth * MIRROR if flip else truth
        error = np.linalg.norm(map_points(transform, LANDMARKS.positions) - expected, axis=1)
        assert error.max() < 0.1


def test_without_the_template_s_side_no_scan_is_mirrored(study: Path) -> None:
    assert run(study, side="", left="").status == 0
    assert record_of(study, "left").details["mirrored"] is False


def test_the_side_of_one_scan_is_not_the_other_s_business(study: Path) -> None:
    run(study, left="left", right="right")
    changed = run(study, left="", right="right")
    assert "1/2 left: computed" in changed.stderr
    assert "2/2 right: known" in changed.stderr


def shows(folder: Path, scan: str, extent: Extent) -> None:
    """Say of a scan how far it reaches."""
    path = path_of(folder, ALIGN, "locate_record", scan)
    details = read_record(path).details | {"grid": extent.grid.as_lists()}
    write_record(path, Record(scan, "locate", details=details))


def test_how_far_a_scan_goes_on_beyond_its_crop_makes_no_difference(study: Path) -> None:
    written = []
    for size in (46, 300):
        shows(study, "right", Extent(Grid.centred(PLACE + MISS, (size, size, size), 0.5)))
        assert run(study, right="right").status == 0
        assert record_of(study, "right").status == "ok"
        roles = ("rigid", "moments", "crop")
        written.append([path_of(study, ALIGN, role, "right").read_bytes() for role in roles])
    assert written[0] == written[1]


def test_a_scan_that_shows_a_part_is_aligned_by_that_part(study: Path) -> None:
    truth = LANDMARKS.positions @ turn(10, -12, 20).T + PLACE
    crop, extent = cut(posed(turn(10, -12, 20)).crop, 0, 1, float(truth[0, 0]) - 1.0)
    for name, flip in SIDES.items():
        write_volume(mirrored(crop) if flip else crop, path_of(study, ALIGN, "centred", name))
        shows(study, name, extent.mirrored() if flip else extent)
    assert run(study, **{name: name for name in SIDES}).status == 0
    for name, flip in SIDES.items():
        transform = read_transform(path_of(study, ALIGN, "rigid", name))
        expected = truth * MIRROR if flip else truth
        error = np.linalg.norm(map_points(transform, LANDMARKS.positions) - expected, axis=1)
        assert error.max() < 0.05


# Two targets in one scan

ROTATION = turn(10, -12, 20)
PLACES = {"right": PLACE, "left": PLACE * MIRROR}


def tissue(points: Points) -> Points:
    """The bone, mottled everywhere, which is less like its mirror image than the bone alone."""
    x, y, z = points.T
    mottle = np.sin(1.9 * x + 0.3 * z) * np.sin(1.7 * y + 0.2 + 0.2 * x) * np.sin(1.8 * z + 0.4 * y)
    return bone(points) + 0.2 * mottle


@pytest.fixture(scope="module")
def two_bones() -> sitk.Image:
    """A region with a right bone and its mirror image in the plane x = 0."""
    grid = Grid.centred(PLACE * [0, 1, 1], (230, 64, 64), 0.5)
    right = np.array([MIRROR, np.ones(3)])
    return sampled(
        grid, lambda p: tissue((p * right[(p[:, 0] < 0).astype(int)] - PLACE) @ ROTATION)
    )


def with_both(study: Path, region: sitk.Image, first: str) -> Path:
    """A scan of two bones; the network found the first of them likelier."""
    here, there = (PLACES[side] for side in (first, *({*PLACES} - {first})))
    write_volume(sampled(TEMPLATE_GRID, tissue), path_of(study, ALIGN, "template_centred"))
    write_volume(region, path_of(study, ALIGN, "region", "both"))
    write_volume(crop_around(region, here, 30.0), path_of(study, ALIGN, "centred", "both"))
    write_volume(crop_around(region, here, 8.0), path_of(study, ALIGN, "probability", "both"))
    grid = Grid.centred(PLACE * [0, 1, 1], (300, 300, 300), 0.5)
    located = {"mixture": MIXTURE.as_record(), "grid": grid.as_lists()}
    centred = {"steps": [{"centre": here.tolist()}], "rivals": [there.tolist()]}
    for stage, details in (("locate", located), ("centre", centred)):
        path = path_of(study, ALIGN, f"{stage}_record", "both")
        write_record(path, Record("both", stage, details=details))
    return study


@pytest.mark.parametrize("first", PLACES)
@pytest.mark.parametrize("side", PLACES)
def test_of_two_targets_that_of_the_stated_side_is_found(
    study: Path, two_bones: sitk.Image, first: str, side: str
) -> None:
    with_both(study, two_bones, first)
    assert run(study, both=side).status == 0
    record = record_of(study, "both")
    assert (record.status, record.details["side"]) == ("ok", side)
    np.testing.assert_allclose(record.details["centre"], PLACES[side])
    found = map_points(read_transform(path_of(study, ALIGN, "rigid", "both")), LANDMARKS.positions)
    truth = LANDMARKS.positions @ ROTATION.T + PLACE
    error = np.linalg.norm(found - (truth * MIRROR if side == "left" else truth), axis=1)
    assert error.max() < 0.1
    # Later stages look where it is.
    crop = grid_of(read_written(path_of(study, ALIGN, "crop", "both")))
    np.testing.assert_allclose(crop.centre, PLACES[side], atol=0.51)


def test_of_two_targets_one_is_taken_and_both_places_told_where_no_side_is(
    study: Path, two_bones: sitk.Image
) -> None:
    with_both(study, two_bones, "left")
    assert run(study, both="").status == 0
    record = record_of(study, "both")
    assert record.status == "doubtful"
    taken = record.details["side"]
    here, there = (
        f"({', '.join(f'{x:.0f}' for x in PLACES[side])})"
        for side in (taken, *({*PLACES} - {taken}))
    )
    assert record.reason == (
        f"two regions fit about equally well, at {here} and {there} mm: the {taken} one is taken; "
        "state the side"
    )


def test_another_place_without_a_target_raises_no_doubt(study: Path, two_bones: sitk.Image) -> None:
    with_both(study, two_bones, "right")
    alone = array_of(two_bones).copy()
    alone[:, :, 115:] = np.random.default_rng(0).normal(SOFT, 0.05, alone[:, :, 115:].shape)
    write_volume(image_on(grid_of(two_bones), alone), path_of(study, ALIGN, "region", "both"))
    assert run(study, both="").status == 0
    record = record_of(study, "both")
    assert (record.status, record.details["side"]) == ("ok", "right")


def test_what_does_not_look_like_the_template_fails(study: Path) -> None:
    noise = np.random.default_rng(0)
    unlike = sampled(ISOTROPIC, lambda p: noise.uniform(size=len(p)))
    write_volume(unlike, path_of(study, ALIGN, "centred", "right"))
    assert run(study, right="right").status == 0
    record = record_of(study, "right")
    assert record.status == "failed"
    assert "expected at least 0.3: this does not look like the template's" in str(record.reason)
    assert path_of(study, ALIGN, "rigid", "right").stat().st_size == 0


def test_a_template_that_was_not_centred_stops_the_study(study: Path) -> None:
    failed = Record(TEMPLATE, "centre", "failed", "no target")
    write_record(path_of(study, ALIGN, "template_centre_record"), failed)
    assert_refused(run(study, right="right"), "template: centre failed: no target")
