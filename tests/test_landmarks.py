from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray
from phantoms import LANDMARKS, bone, sampled

from landmarkflow.__main__ import main
from landmarkflow.geometry import Grid
from landmarkflow.markups import PointList, read_point_lists, write_markups
from landmarkflow.oneshot.landmarks import Placed, place_landmarks
from landmarkflow.oneshot.settings import LandmarkSettings
from landmarkflow.records import Record, read_record, write_record
from landmarkflow.volumes import array_of, image_on, write_volume

Points = NDArray[np.float64]

SETTINGS = LandmarkSettings(radius_mm=2.0)
GRID = Grid.centred((0.3, -0.2, 0.1), (40, 40, 40), 0.5)
IDENTITY = sitk.Transform(3, sitk.sitkIdentity)
EULER = sitk.Euler3DTransform((0.5, 0.2, -0.3), 0.3, -2.0, 0.6, (40.0, -20.0, 7.0))


@pytest.fixture(scope="module")
def template() -> sitk.Image:
    return sampled(GRID, bone)


def place(template: sitk.Image, target: sitk.Image, transform: sitk.Transform) -> Placed:
    return place_landmarks(LANDMARKS, transform, template, target, SETTINGS)


def moved_by(transform: sitk.Transform) -> sitk.Image:
    """The bone where the transform puts it."""
    inverse = transform.GetInverse()
    grid = Grid.centred(transform.TransformPoint(GRID.centre.tolist()), (44, 44, 44), 0.5)
    return sampled(grid, lambda p: bone(np.array([inverse.TransformPoint(q) for q in p.tolist()])))


def test_a_scan_is_like_itself(template: sitk.Image) -> None:
    placed = place(template, template, IDENTITY)
    assert placed.landmarks.labels == LANDMARKS.labels
    np.testing.assert_allclose(placed.landmarks.positions, LANDMARKS.positions)
    np.testing.assert_allclose(placed.similarity, np.ones(4), atol=1e-6)


def test_positions_and_neighbourhoods_go_through_the_transform(template: sitk.Image) -> None:
    placed = place(template, moved_by(EULER), EULER)
    for position, mapped in zip(LANDMARKS.positions, placed.landmarks.positions, strict=True):
        assert tuple(mapped) == EULER.TransformPoint(position.tolist())
    assert placed.similarity.min() > 0.97


def test_a_deformation_maps_points_as_itk_does(template: sitk.Image) -> None:
    spline = sitk.BSplineTransformInitializer(template, [4, 4, 4])
    random = np.random.default_rng(0)
    spline.SetParameters(random.normal(0, 0.5, len(spline.GetParameters())).tolist())
    whole = sitk.CompositeTransform([EULER, spline])
    placed = place(template, moved_by(EULER), whole)
    expected = [
        EULER.TransformPoint(spline.TransformPoint(p)) for p in LANDMARKS.positions.tolist()
    ]
    np.testing.assert_allclose(placed.landmarks.positions, expected, atol=1e-9)
    assert np.linalg.norm(expected - place(template, template, EULER).landmarks.positions) > 0.1


def test_a_wrong_place_is_less_alike(template: sitk.Image) -> None:
    wrong = sitk.TranslationTransform(3, (1.5, 1.0, -1.0))
    assert place(template, template, wrong).similarity.max() < 0.9


@pytest.mark.parametrize(
    ("change", "lowest", "highest"),
    [
        (lambda a: np.random.default_rng(0).random(a.shape), -0.2, 0.2),
        (lambda a: 1 - a, -1.0, -0.999),
        (lambda a: 0.2 * a + 0.5, 0.999, 1.0),
        (lambda a: np.full(a.shape, 0.4), 0.0, 0.0),
    ],
    ids=["noise", "negative", "less contrast", "flat"],
)
def test_the_similarity_is_a_correlation(
    template: sitk.Image, change: Callable[[Points], Points], lowest: float, highest: float
) -> None:
    target = image_on(GRID, change(array_of(template)).astype(np.float32))
    similarity = place(template, target, IDENTITY).similarity
    assert similarity.min() >= lowest - 1e-6
    assert similarity.max() <= highest + 1e-6


def test_only_the_ball_around_a_landmark_counts(template: sitk.Image) -> None:
    def spoilt(reach: float) -> sitk.Image:
        random = np.random.default_rng(0)
        near = np.linalg.norm(GRID.to_physical(np.argwhere(np.ones(GRID.size))) - tip, axis=1)
        keep = (near < reach).reshape(GRID.size).T
        return image_on(GRID, np.where(keep, array_of(template), random.random(keep.shape)))

    tip = LANDMARKS.positions[0]
    # Interpolation reaches one voxel beyond the ball.
    assert place(template, spoilt(2.0 + 0.9), IDENTITY).similarity[0] == pytest.approx(
        1.0, abs=1e-6
    )
    assert place(template, spoilt(1.5), IDENTITY).similarity[0] < 0.95


# The command


def placed_record(folder: Path, template: sitk.Image, target: sitk.Image) -> Record:
    """The record of a scan in which the registrations found nothing to move."""
    write_volume(template, folder / "template.nii.gz")
    write_volume(target, folder / "centred.nii.gz")
    write_markups(folder / "annotated.mrk.json", [PointList("reference", LANDMARKS, None)])
    for name in ("rigid", "bspline"):
        sitk.WriteTransform(sitk.AffineTransform(3), str(folder / f"{name}.tfm"))
    write_record(folder / "bspline.json", Record("a", "deform"))
    options = {
        "settings": SETTINGS.model_dump_json(),
        "template-landmarks": folder / "annotated.mrk.json",
        "template-centred": folder / "template.nii.gz",
        "scans": "a",
        "store": folder / "store",
        "centred": folder / "centred.nii.gz",
        "rigid": folder / "rigid.tfm",
        "bspline": folder / "bspline.tfm",
        "bspline_record": folder / "bspline.json",
        "landmarks": folder / "landmarks.mrk.json",
        "record": folder / "record.json",
    }
    arguments = [str(part) for name, value in options.items() for part in (f"--{name}", value)]
    assert main(["place_landmarks", *arguments]) == 0
    return read_record(folder / "record.json")


@pytest.mark.usefixtures("quiet")
def test_a_scan_like_the_template_is_ok(tmp_path: Path, template: sitk.Image) -> None:
    record = placed_record(tmp_path, template, template)
    assert record.status == "ok"
    assert record.details["median_similarity"] == pytest.approx(1, abs=1e-5)


@pytest.mark.usefixtures("quiet")
def test_an_answer_in_a_scan_of_something_else_is_doubtful(
    tmp_path: Path, template: sitk.Image
) -> None:
    noise = np.random.default_rng(0).uniform(size=array_of(template).shape).astype(np.float32)
    record = placed_record(tmp_path, template, image_on(GRID, noise))
    assert record.status == "doubtful"
    assert "alike to" in str(record.reason)
    assert "expected at least 0.8" in str(record.reason)
    final = read_point_lists(tmp_path / "landmarks.mrk.json")[0]
    np.testing.assert_allclose(final.landmarks.positions, LANDMARKS.positions)
