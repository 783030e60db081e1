from collections.abc import Callable

import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray
from phantoms import LANDMARKS, bone, moved, sampled

from landmarkflow.core.grids import Grid
from landmarkflow.images.operations import array_of, image_on
from landmarkflow.methods.oneshot.landmarks import place_landmarks, shift, similarity_around

Points = NDArray[np.float64]

GRID = Grid.centred((0.3, -0.2, 0.1), (40, 40, 40), 0.5)
IDENTITY = sitk.Transform(3, sitk.sitkIdentity)
EULER = sitk.Euler3DTransform((0.5, 0.2, -0.3), 0.3, -2.0, 0.6, (40.0, -20.0, 7.0))


@pytest.fixture(scope="module")
def template() -> sitk.Image:
    return sampled(GRID, bone)


def similarity(template: sitk.Image, target: sitk.Image, transform: sitk.Transform) -> Points:
    found = place_landmarks(LANDMARKS, transform)
    return similarity_around(LANDMARKS, transform, found, template, target, radius_mm=2.0)


def test_surroundings_are_those_of_the_places_found(template: sitk.Image) -> None:
    beside = sitk.CompositeTransform([sitk.TranslationTransform(3, (1.5, 0.0, 0.0)), EULER])
    target, found = moved(bone, EULER), place_landmarks(LANDMARKS, EULER)
    there = similarity_around(LANDMARKS, beside, found, template, target, radius_mm=2.0)
    assert there.min() > 0.98
    assert similarity(template, target, beside).max() < 0.9


def test_a_scan_is_like_itself(template: sitk.Image) -> None:
    placed = place_landmarks(LANDMARKS, IDENTITY)
    assert placed.labels == LANDMARKS.labels
    np.testing.assert_allclose(placed.positions, LANDMARKS.positions)
    np.testing.assert_allclose(similarity(template, template, IDENTITY), np.ones(4), atol=1e-6)


def test_positions_and_neighbourhoods_go_through_the_transform(template: sitk.Image) -> None:
    placed = place_landmarks(LANDMARKS, EULER)
    for position, mapped in zip(LANDMARKS.positions, placed.positions, strict=True):
        assert tuple(mapped) == pytest.approx(EULER.TransformPoint(position.tolist()), abs=1e-12)
    assert similarity(template, moved(bone, EULER), EULER).min() > 0.97


def test_a_deformation_maps_points_as_itk_does(template: sitk.Image) -> None:
    spline = sitk.BSplineTransformInitializer(template, [4, 4, 4])
    random = np.random.default_rng(0)
    spline.SetParameters(random.normal(0, 0.5, len(spline.GetParameters())).tolist())
    whole = sitk.CompositeTransform([EULER, spline])
    placed = place_landmarks(LANDMARKS, whole)
    expected = [
        EULER.TransformPoint(spline.TransformPoint(p)) for p in LANDMARKS.positions.tolist()
    ]
    np.testing.assert_allclose(placed.positions, expected, atol=1e-9)
    assert np.linalg.norm(expected - place_landmarks(LANDMARKS, EULER).positions) > 0.1


def test_a_wrong_place_is_less_alike(template: sitk.Image) -> None:
    wrong = sitk.TranslationTransform(3, (1.5, 1.0, -1.0))
    assert similarity(template, template, wrong).max() < 0.9


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
    found = similarity(template, target, IDENTITY)
    assert found.min() >= lowest - 1e-6
    assert found.max() <= highest + 1e-6


def test_only_the_ball_around_a_landmark_counts(template: sitk.Image) -> None:
    def spoilt(reach: float) -> sitk.Image:
        random = np.random.default_rng(0)
        near = np.linalg.norm(GRID.to_physical(np.argwhere(np.ones(GRID.size))) - tip, axis=1)
        keep = (near < reach).reshape(GRID.size).T
        return image_on(GRID, np.where(keep, array_of(template), random.random(keep.shape)))

    tip = LANDMARKS.positions[0]
    # Interpolation reaches one voxel beyond the ball.
    assert similarity(template, spoilt(2.0 + 0.9), IDENTITY)[0] == pytest.approx(1, abs=1e-6)
    assert similarity(template, spoilt(1.5), IDENTITY)[0] < 0.95


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_shift_takes_centre_to_centre_and_keeps_or_mirrors_the_axes(mirrored: bool) -> None:
    start, goal, step = np.array([[3.0, -2.0, 8.0], [-40.0, 5.0, 1.0], [1.0, 2.0, 3.0]])
    way = shift(start, goal, mirrored=mirrored)
    np.testing.assert_allclose(way.TransformPoint(start.tolist()), goal)
    beside = way.TransformPoint((start + step).tolist())
    np.testing.assert_allclose(beside - goal, [-1.0 if mirrored else 1.0, 2.0, 3.0])
