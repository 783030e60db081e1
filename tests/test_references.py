from pathlib import Path

import numpy as np
import pytest

from landmarkflow.core.errors import InputError
from landmarkflow.core.grids import Grid
from landmarkflow.core.points import Landmarks
from landmarkflow.data.references import check_reference

NAN = [float("nan")] * 3
GRID = Grid((10, 20, 30), np.array([1.0, 1.0, 2.0]), np.array([-5.0, 0.0, 100.0]), np.eye(3))


def landmarks(**positions: list[float]) -> Landmarks:
    return Landmarks(tuple(positions), np.array(list(positions.values()), dtype=float))


def test_reference_is_put_into_the_templates_order():
    reference = landmarks(b=[0, 1, 101], a=[1, 1, 101])
    checked = check_reference(reference, GRID, ("a", "b"), Path("x.mrk.json"))
    assert checked.labels == ("a", "b")
    assert checked.positions[0].tolist() == [1, 1, 101]


def test_reference_may_lie_in_the_outermost_half_voxel():
    edge = landmarks(a=[-5.5, -0.5, 99.0], b=[4.5, 19.5, 159.0])
    assert check_reference(edge, GRID, ("a", "b"), Path("x")).labels == ("a", "b")
    beyond = landmarks(a=[-5.5, -0.5, 99.0], b=[4.5, 19.5, 159.1])
    with pytest.raises(InputError, match=r"1 of 2 .*\"b\" at \(4.50, 19.50, 159.10\)"):
        check_reference(beyond, GRID, ("a", "b"), Path("x"))


def test_reference_of_another_frame_is_refused_with_positions_and_extent():
    rng = np.random.default_rng(0)
    labels = tuple(str(i) for i in range(45))
    inside = GRID.centre + rng.uniform(-4, 4, (45, 3))
    moved = Landmarks(labels, inside - np.array([40.0, 0.0, 0.0]))
    with pytest.raises(InputError) as refusal:
        check_reference(moved, GRID, labels, Path("study/LG.mrk.json"))
    message = str(refusal.value)
    first = ", ".join(f"{value:.2f}" for value in moved.positions[0])
    assert message.startswith("study/LG.mrk.json: 45 of 45 reference landmarks lie outside")
    assert f'"0" at ({first})' in message
    assert "and 42 more" in message
    assert message.endswith(GRID.extent_text())


@pytest.mark.parametrize(
    ("reference", "parts"),
    [
        (landmarks(a=[0, 1, 101]), ['labels absent: "b"', 'template\'s 2 labels: "a", "b"']),
        (landmarks(a=[0, 1, 101], b=[0, 1, 101], z=[0, 1, 101]), ['labels unknown: "z"']),
        (landmarks(a=[0, 1, 101], c=[0, 1, 101]), ['absent: "b"; labels unknown: "c"']),
        (landmarks(a=NAN, b=NAN), ["none of the 2 reference landmarks has a position"]),
    ],
)
def test_references_that_do_not_fit_the_template(reference, parts):
    with pytest.raises(InputError) as refusal:
        check_reference(reference, GRID, ("a", "b"), Path("ref/s.csv"))
    assert all(part in str(refusal.value) for part in ["ref/s.csv: ", *parts])


def test_a_reference_landmark_that_was_not_annotated_stays_missing():
    checked = check_reference(landmarks(a=[0, 1, 101], b=NAN), GRID, ("a", "b"), Path("x"))
    assert checked.missing.tolist() == [False, True]
