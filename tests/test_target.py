from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray
from phantoms import sampled
from PIL import Image
from scipy.spatial.transform import Rotation
from stage_runs import Outcome, assert_refused, path_of, run_stage

from landmarkflow.core.errors import InputError
from landmarkflow.core.grids import Grid
from landmarkflow.core.points import Landmarks, PointList
from landmarkflow.core.records import TEMPLATE
from landmarkflow.data.derive import derive_target
from landmarkflow.data.stages import TARGET
from landmarkflow.data.target import check_distance
from landmarkflow.data.target_picture import OUTLINE
from landmarkflow.formats.slicer import write_markups
from landmarkflow.formats.written import read_written, write_volume
from landmarkflow.images.operations import array_of, grid_of

Points = NDArray[np.float64]

GRID = Grid(
    (40, 34, 26),
    np.array([0.5, 0.6, 0.8]),
    np.array([-30.0, 20.0, 5.0]),
    Rotation.from_euler("xyz", [15, -25, 40], degrees=True).as_matrix(),
)
MIDDLE = GRID.centre
REACH = 5.0
OCTAHEDRON = Landmarks(tuple("abcdef"), MIDDLE + REACH * np.concatenate([np.eye(3), -np.eye(3)]))


def ball(points: Points, radius: float = 6.0) -> NDArray[np.bool_]:
    return np.asarray(np.linalg.norm(points - MIDDLE, axis=1) < radius)


def scan(bright: Callable[[Points], NDArray[np.bool_]] = ball) -> sitk.Image:
    return sampled(GRID, lambda p: np.where(bright(p), 1000.0, 0.0))


def octahedron(points: Points, reach: float) -> NDArray[np.bool_]:
    return np.asarray(np.abs(points - MIDDLE).sum(axis=1) < reach)


def marked(scan_: sitk.Image, landmarks: Landmarks = OCTAHEDRON, **more: float | None) -> Points:
    return np.asarray(array_of(derive_target(scan_, landmarks, **more).target) > 0)


@pytest.mark.parametrize("inverted", [False, True])
def test_the_kind_of_tissue_with_a_surface_of_its_own_is_marked(inverted: bool) -> None:
    """A ball of any intensity, noise beside it, in surroundings that go on beyond the margin."""
    sign = -1 if inverted else 1
    noise = np.random.default_rng(3)

    def values(p: Points) -> Points:
        return sign * np.where(ball(p, 4.0), 900.0, 100.0) + noise.normal(0, 60, len(p))

    found = marked(sampled(GRID, values), margin_mm=4.0)
    truth = array_of(sampled(GRID, lambda p: ball(p, 4.0).astype(np.uint8))) > 0
    assert 2 * (found & truth).sum() / (found.sum() + truth.sum()) > 0.99


def test_the_target_ends_at_the_margin_around_the_landmarks() -> None:
    for margin in (0.0, 1.5):
        derived = derive_target(scan(), OCTAHEDRON, above=500.0, margin_mm=margin)
        found = array_of(derived.target) > 0
        hull = array_of(sampled(GRID, lambda p: octahedron(p, REACH).astype(np.uint8))) > 0
        beyond = octahedron_distance(found)
        assert not (hull & ~found & (array_of(scan()) > 500)).any()
        assert beyond.max() <= margin + 1e-6
        assert beyond.max() > 0.7 * margin - 0.1
        assert derived.target.GetPixelID() == sitk.sitkUInt8
        np.testing.assert_allclose(grid_of(derived.target).direction, GRID.direction)
        assert "above 500, within" in derived.said


def octahedron_distance(found: NDArray[np.bool_]) -> Points:
    """How far beyond the octahedron's nearest face or corner marked voxels lie at least, mm."""
    voxels = GRID.to_physical(np.argwhere(found)[:, ::-1].astype(float))
    return np.asarray((np.abs(voxels - MIDDLE).sum(axis=1) - REACH) / np.sqrt(3))


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_few_landmarks_and_landmarks_in_a_plane_have_surroundings_too(count: int) -> None:
    few = OCTAHEDRON.select(["a", "d", "b", "e"][:count])
    found = marked(scan(lambda p: ball(p, 30.0)), few, above=500.0, margin_mm=3.0)
    volume = found.sum() * np.prod(GRID.spacing)
    # Of a ball rolled over a point, a line of 10 mm, a triangle and a square of 50 mm².
    area, around = {1: (0.0, 0.0), 2: (0.0, 20.0), 3: (25.0, 24.14), 4: (50.0, 28.28)}[count]
    rolled = 6 * area + np.pi * 9 * around / 2 + 4 / 3 * np.pi * 27
    assert 0.75 * rolled < volume < 1.02 * rolled


def test_small_parts_beside_the_target_are_left_out() -> None:
    def bright(p: Points) -> NDArray[np.bool_]:
        speck = np.linalg.norm(p - MIDDLE, axis=1) < 1.0
        return np.asarray(speck | (np.abs(np.linalg.norm(p - MIDDLE, axis=1) - 4.0) < 0.9))

    found = marked(scan(bright), above=500.0, margin_mm=3.0)
    speck = array_of(sampled(GRID, lambda p: ball(p, 1.0).astype(np.uint8))) > 0
    assert speck.any()
    assert found.any()
    assert not (found & speck).any()


def test_missing_landmarks_do_not_matter() -> None:
    positions = np.vstack([OCTAHEDRON.positions, np.full(3, np.nan)])
    found = marked(scan(), Landmarks(tuple("abcdefg"), positions), above=500.0)
    np.testing.assert_array_equal(found, marked(scan(), above=500.0))


@pytest.mark.parametrize("shows", ["noise alone", "a wall that goes on"])
def test_where_no_tissue_has_a_surface_of_its_own_the_target_is_all_around(shows: str) -> None:
    noise = np.random.default_rng(1)

    def values(p: Points) -> Points:
        wall = 900.0 * (np.abs(p[:, 0] - MIDDLE[0]) < 2.0) if shows != "noise alone" else 0.0
        return wall + noise.normal(0, 60, len(p))

    derived = derive_target(sampled(GRID, values), OCTAHEDRON)
    assert "of any intensity, within 5 mm of the landmarks' hull, 100 %" in derived.said
    inside = array_of(derived.target) > 0
    assert octahedron_distance(inside).max() == pytest.approx(5.0, abs=0.6)
    hull = array_of(sampled(GRID, lambda p: octahedron(p, REACH).astype(np.uint8))) > 0
    assert inside[hull].all()


def test_what_cannot_be_a_target_is_refused_with_what_helps() -> None:
    said = r"0 \(0 mm³, 0 %\) are above 5000, expected 200 and 2 % .* `target\.above` or `target"
    with pytest.raises(InputError, match=said):
        derive_target(scan(), OCTAHEDRON, above=5000.0)
    with pytest.raises(InputError, match="the template has no landmark"):
        derive_target(scan(), Landmarks(("a",), np.full((1, 3), np.nan)))
    with pytest.raises(InputError, match="no landmark of the template lies in its scan"):
        derive_target(scan(), Landmarks(("a",), MIDDLE[None] + 500.0))


# Landmarks and target

# A volume centred on 0, as many programs write it, whose target lies on one side of the middle.
ABOUT_ZERO = Grid.centred(np.zeros(3), (60, 60, 40), 0.6)


def labyrinth(points: Points) -> NDArray[np.bool_]:
    """A shell that is neither its own mirror image nor its own half turn; 14 mm across."""
    off = (points - [5, -3, 1]) / [6.0, 4.0, 3.0]
    distance = np.linalg.norm(off, axis=1)
    return np.asarray((distance < 1) & (distance > 0.7) & (off[:, 0] + off[:, 1] > -0.5))


def brain(points: Points) -> NDArray[np.bool_]:
    """Solid, and the same after half a turn about the z axis."""
    return np.asarray(np.linalg.norm(points / [11, 14, 9], axis=1) < 1)


def at(target: Callable[[Points], NDArray[np.bool_]], count: int, seed: int = 0) -> Points:
    """Places in a target."""
    rng = np.random.default_rng(seed)
    places = rng.uniform(-17, 17, (200_000, 3))
    return np.asarray(rng.permutation(places[target(places)])[:count])


def checked(positions: Points, target: Callable[[Points], NDArray[np.bool_]]) -> None:
    labels = tuple(f"l{number}" for number in range(len(positions)))
    mask = sampled(ABOUT_ZERO, lambda p: target(p).astype(np.uint8))
    check_distance(Landmarks(labels, positions), mask, Path("t.csv"))


@pytest.mark.parametrize("target", [labyrinth, brain])
@pytest.mark.parametrize("count", [1, 3, 40])
def test_landmarks_at_the_target_or_some_mm_off_it_are_fine(
    target: Callable[[Points], NDArray[np.bool_]], count: int
) -> None:
    for seed in range(5):
        places = at(target, count, seed)
        checked(places, target)
        away = np.random.default_rng(seed).normal(size=places.shape)
        checked(places + 3 * away / np.linalg.norm(away, axis=1, keepdims=True), target)
        checked(np.vstack([places, np.full((1, 3), np.nan)]), target)
    checked(np.full((2, 3), np.nan), target)


def test_some_landmarks_may_lie_far_from_the_target_and_all_in_front_of_it() -> None:
    checked(np.vstack([at(labyrinth, 4), [[-12.0, -9, 5], [-15, 14, -9], [0, 15, 9]]]), labyrinth)
    # After half a turn, these lie deep in the target.
    eyes = np.array([[4.0, -17, 0], [-4, -17, 0], [0, -16, -4]])
    assert brain(eyes * [-1, 0.3, 1]).all()
    checked(eyes, brain)


@pytest.mark.parametrize("count", [1, 4, 45])
def test_landmarks_far_from_the_target_are_refused(count: int) -> None:
    with pytest.raises(InputError) as error:
        checked(at(labyrinth, count) - np.array([0, -16, -2]), labyrinth)
    assert str(error.value).startswith("t.csv: the landmarks lie ")
    assert str(error.value).endswith(" mm")
    assert " mm from the template's segmentation, expected half of them within " in str(error.value)


@pytest.mark.parametrize("count", [1, 4, 45])
def test_landmarks_of_another_frame_are_refused_with_a_hint(count: int) -> None:
    with pytest.raises(
        InputError, match="; with x and y turned they would lie at it: is the frame"
    ):
        checked(at(labyrinth, count) * [-1, -1, 1], labyrinth)


# The stage


def prepare(folder: Path, segmentation: Path | str = "", above: float = 500) -> Outcome:
    row = {"image": folder / "scan.nrrd", "landmarks": folder / "points.mrk.json", "frame": ""}
    write_volume(scan(), row["image"])
    write_markups(row["landmarks"], [PointList("reference", OCTAHEDRON, None)])
    settings = {"target": {"above": above, "margin_mm": 1.5}, "labels": [3]}
    sheet = {TEMPLATE: {**row, "segmentation": segmentation}}
    return run_stage(TARGET, folder, [TEMPLATE], settings=settings, sheet=sheet)


def target(folder: Path) -> NDArray[np.uint8]:
    return array_of(read_written(path_of(folder, TARGET, "target", TEMPLATE)))


def test_a_template_without_a_segmentation_gets_one(tmp_path: Path) -> None:
    assert prepare(tmp_path).status == 0
    expected = derive_target(scan(), OCTAHEDRON, above=500.0, margin_mm=1.5).target
    np.testing.assert_array_equal(target(tmp_path), array_of(expected))
    with Image.open(path_of(tmp_path, TARGET, "picture", TEMPLATE)) as picture:
        red = (np.asarray(picture) == OUTLINE).all(axis=-1)
    # Three slices through a part of a ball, side by side, each with an outline.
    thirds = np.array_split(red, 3, axis=1)
    assert all(100 < third.sum() < 3000 for third in thirds)


def test_a_given_segmentation_keeps_all_its_labels(tmp_path: Path) -> None:
    given = sampled(GRID, lambda p: (3 * ball(p, 4.0) + 2 * ball(p, 2.0)).astype(np.uint8))
    write_volume(given, tmp_path / "s.nii.gz")
    assert prepare(tmp_path, tmp_path / "s.nii.gz").status == 0
    np.testing.assert_array_equal(target(tmp_path), array_of(given))


def test_landmarks_that_lie_elsewhere_are_refused_before_anything_is_learned(
    tmp_path: Path,
) -> None:
    far = sampled(GRID, lambda p: 3 * (np.linalg.norm(p - MIDDLE, axis=1) > 14).astype(np.uint8))
    near = sampled(GRID, lambda p: 3 * ball(p + np.array([0, 11, 0]), 2.0).astype(np.uint8))
    for given, said in ((near, "mm from the template's segmentation"), (far, "")):
        write_volume(given, tmp_path / "s.nii.gz")
        done = prepare(tmp_path, tmp_path / "s.nii.gz")
        if said:
            assert_refused(done, f"{tmp_path}/points.mrk.json: the landmarks lie ", said)
            assert not path_of(tmp_path, TARGET, "target", TEMPLATE).exists()
    assert done.status == 0


def test_a_target_that_cannot_be_had_is_refused(tmp_path: Path) -> None:
    assert_refused(prepare(tmp_path, above=5000), f"{tmp_path}/scan.nrrd: of the voxels around")
    write_volume(sampled(GRID, lambda p: ball(p).astype(np.uint8)), tmp_path / "s.nrrd")
    said = f"{tmp_path}/s.nrrd: no voxel has one of the labels 3; the values found are 0, 1"
    assert_refused(prepare(tmp_path, tmp_path / "s.nrrd"), said)
    assert not path_of(tmp_path, TARGET, "target", TEMPLATE).exists()
