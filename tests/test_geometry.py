import itertools
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from landmarkflow.core.errors import InputError
from landmarkflow.core.grids import Grid
from landmarkflow.core.points import Landmarks

coordinates = st.floats(-500, 500)
triples = st.tuples(coordinates, coordinates, coordinates)


@st.composite
def grids(draw: st.DrawFn) -> Grid:
    size = draw(st.tuples(*[st.integers(1, 600)] * 3))
    spacing = draw(st.tuples(*[st.floats(0.02, 5)] * 3))
    angles = draw(st.tuples(*[st.floats(-180, 180)] * 3))
    handedness = draw(st.sampled_from([1.0, -1.0]))
    direction = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    direction[:, 2] *= handedness
    return Grid(size, np.array(spacing), np.array(draw(triples)), direction)


@given(grids(), st.lists(triples, min_size=1, max_size=5))
def test_index_and_physical_are_inverse(grid: Grid, points: list[tuple[float, ...]]) -> None:
    there = grid.to_index(points)
    np.testing.assert_allclose(grid.to_physical(there), points, atol=1e-8)
    back = grid.to_index(grid.to_physical(points))
    np.testing.assert_allclose(back, points, atol=1e-7)


@given(grids())
def test_a_grid_contains_its_voxels_to_their_edges_and_no_further(grid: Grid) -> None:
    last = np.array(grid.size) - 1
    corners = np.array(list(itertools.product(*[(-0.5, edge + 0.5) for edge in last])))
    assert grid.contains(grid.to_physical(corners)).all()
    middle = last / 2
    for axis in range(3):
        for index in (-0.5 - 1e-3, last[axis] + 0.5 + 1e-3):
            beyond = middle.copy()
            beyond[axis] = index
            assert not grid.contains(grid.to_physical([beyond])).any()


def test_physical_positions_of_a_known_oblique_grid() -> None:
    # Axis x runs to anterior (-y), y to left (+x), z to superior.
    direction = np.array([[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    grid = Grid((4, 5, 6), np.array([1.0, 2.0, 3.0]), np.array([10.0, 20.0, 30.0]), direction)
    found = grid.to_physical([[0, 0, 0], [3, 0, 0], [0, 4, 0], [1, 1, 5]])
    expected = [[10, 20, 30], [10, 17, 30], [18, 20, 30], [12, 19, 45]]
    np.testing.assert_allclose(found, expected)
    np.testing.assert_allclose(grid.centre, [14, 18.5, 37.5])
    assert grid.extent_text() == "x 9.0 to 19.0, y 16.5 to 20.5, z 28.5 to 46.5 mm (LPS)"


def test_corners_are_the_outer_edges_with_the_first_axis_fastest() -> None:
    grid = Grid((2, 3, 4), np.ones(3), np.zeros(3), np.eye(3))
    np.testing.assert_allclose(
        grid.corners[[0, 1, 2, 7]],
        [
            [-0.5, -0.5, -0.5],
            [1.5, -0.5, -0.5],
            [-0.5, 2.5, -0.5],
            [1.5, 2.5, 3.5],
        ],
    )


def test_missing_points_lie_outside() -> None:
    grid = Grid((2, 2, 2), np.ones(3), np.zeros(3), np.eye(3))
    assert grid.contains([[np.nan] * 3, [0, 0, 0]]).tolist() == [False, True]


@given(triples, st.tuples(*[st.integers(1, 128)] * 3), st.floats(0.05, 4))
def test_a_centred_grid_has_its_middle_at_the_centre(
    centre: tuple[float, ...], size: tuple[int, int, int], spacing: float
) -> None:
    grid = Grid.centred(np.array(centre), size, spacing)
    np.testing.assert_allclose(grid.centre, centre, atol=1e-9)
    np.testing.assert_allclose(grid.spacing, spacing)
    np.testing.assert_array_equal(grid.direction, np.eye(3))
    assert grid.size == size


def test_a_grid_keeps_its_own_copy() -> None:
    origin = np.zeros(3)
    grid = Grid((2, 2, 2), np.ones(3), origin, np.eye(3))
    origin += 7
    assert grid.origin.tolist() == [0, 0, 0]


SHEARED = np.eye(3) + np.array([[0, 0.01, 0], [0, 0, 0], [0, 0, 0]])


@pytest.mark.parametrize(
    ("size", "spacing", "origin", "direction", "found"),
    [
        ((0, 2, 2), np.ones(3), np.zeros(3), np.eye(3), r"size \(0, 2, 2\)"),
        ((2, 2), np.ones(3), np.zeros(3), np.eye(3), r"size \(2, 2\)"),
        ((2, 2, 2), np.array([1, 0, 1]), np.zeros(3), np.eye(3), "positive"),
        ((2, 2, 2), np.array([1, np.nan, 1]), np.zeros(3), np.eye(3), "positive"),
        ((2, 2, 2), np.ones(3), np.array([0, np.inf, 0]), np.eye(3), "origin"),
        ((2, 2, 2), np.ones(3), np.zeros(3), SHEARED, "orthonormal"),
        ((2, 2, 2), np.ones(3), np.zeros(3), np.full((3, 3), np.nan), "orthonormal"),
        ((2, 2, 2), np.ones(3), np.zeros(3), np.eye(2), "orthonormal"),
    ],
)
def test_a_grid_refuses_what_is_no_grid(
    size: tuple[int, int, int],
    spacing: NDArray[np.float64],
    origin: NDArray[np.float64],
    direction: NDArray[np.float64],
    found: str,
) -> None:
    with pytest.raises(InputError, match=found):
        Grid(size, spacing, origin, direction)


def test_a_grid_accepts_the_rounding_of_a_header() -> None:
    direction = np.round(Rotation.from_euler("xyz", [10, 20, 30], degrees=True).as_matrix(), 4)
    grid = Grid((500, 500, 500), np.full(3, 0.2), np.array([3.0, 4, 5]), direction)
    points = np.array([[40.0, 50, 60]])
    np.testing.assert_allclose(grid.to_physical(grid.to_index(points)), points, atol=1e-9)


def test_points_must_be_n_by_3() -> None:
    grid = Grid((2, 2, 2), np.ones(3), np.zeros(3), np.eye(3))
    with pytest.raises(ValueError, match=r"expected \(n, 3\)"):
        grid.to_index([1.0, 2.0, 3.0])
    assert grid.to_index(np.empty((0, 3))).shape == (0, 3)


def test_landmarks_know_what_is_missing_and_give_a_selection_in_its_order() -> None:
    landmarks = Landmarks(("a", "b", "c"), np.array([[1, 2, 3], [np.nan] * 3, [7, 8, 9.0]]))
    assert landmarks.missing.tolist() == [False, True, False]
    chosen = landmarks.select(["c", "a"])
    assert chosen.labels == ("c", "a")
    assert chosen.positions.tolist() == [[7, 8, 9], [1, 2, 3]]
    assert landmarks.select([]).positions.shape == (0, 3)
    with pytest.raises(InputError, match=r'"d".*a, b, c'):
        landmarks.select(["a", "d"])


@pytest.mark.parametrize(
    ("labels", "positions", "found"),
    [
        (("a", "a"), np.zeros((2, 3)), '"a" stands more than once'),
        (("a", " "), np.zeros((2, 3)), "landmark 2 has the label ' '"),
        (("a",), np.zeros((1, 2)), r"shape \(1, 2\), expected \(1, 3\)"),
        (("a", "b"), np.zeros((1, 3)), r"shape \(1, 3\), expected \(2, 3\)"),
        (("a",), np.array([[0, np.nan, 0]]), '"a" lies at'),
        (("a",), np.array([[0, np.inf, 0]]), '"a" lies at'),
    ],
)
def test_landmarks_refuse_what_is_no_list_of_landmarks(
    labels: tuple[str, ...], positions: NDArray[np.float64], found: str
) -> None:
    with pytest.raises(InputError, match=found):
        Landmarks(labels, positions)


@given(grids(), st.lists(triples, min_size=1, max_size=5))
def test_the_distance_to_a_grid_is_that_to_its_nearest_edge(
    grid: Grid, points: list[tuple[float, ...]]
) -> None:
    distance = grid.distance_to(points)
    np.testing.assert_array_equal(distance[grid.contains(points)] < 1e-4, True)
    outside = grid.to_physical([[-0.5, -0.5, grid.size[2] - 0.5]]) + 7 * grid.direction[:, 2]
    np.testing.assert_allclose(grid.distance_to(outside), [7.0], atol=1e-6)


@given(grids())
def test_a_grid_survives_as_plain_data(grid: Grid) -> None:
    again = Grid.of_lists(json.loads(json.dumps(grid.as_lists())))
    assert again.size == grid.size
    for name in ("spacing", "origin", "direction"):
        np.testing.assert_array_equal(getattr(again, name), getattr(grid, name))
