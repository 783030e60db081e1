"""The search through all orientations, where principal axes do not tell a target's pose."""

import numpy as np
import pytest
from phantoms import MIXTURE, bone, depth_mask, sampled
from scipy.spatial.transform import Rotation

from landmarkflow.core.grids import Grid
from landmarkflow.methods.oneshot.align import prepare_template
from landmarkflow.methods.oneshot.moments import Pose, Subject
from landmarkflow.methods.oneshot.orientations import (
    ORIENTATIONS,
    apart_degrees,
    is_doubtful,
    is_unclear,
    orientations,
    searched,
)
from landmarkflow.methods.oneshot.rigid import Similarity, Start
from landmarkflow.methods.oneshot.settings import AlignSettings

SETTINGS = AlignSettings(samples=1500, spacings_mm=(1.0,))
GRID = Grid.centred((0.0, 0.0, 0.0), (36, 36, 36), 0.5)


def shown(rotation: np.ndarray) -> Subject:
    return Subject(sampled(GRID, lambda p: bone(p @ rotation)), MIXTURE)


def test_orientations_are_rotations_and_none_is_far_from_all_of_them() -> None:
    found = orientations(ORIENTATIONS)
    np.testing.assert_allclose(np.linalg.det(found), 1.0)
    others = Rotation.random(500, random_state=1).as_matrix()
    cosine = (np.einsum("aij,bij->ab", others, found).max(axis=1) - 1) / 2
    assert np.degrees(np.arccos(np.clip(cosine, -1, 1))).max() < 24.5


def test_an_answer_is_clear_where_it_is_high_and_no_other_pose_comes_near() -> None:
    def start(degrees: float, correlation: float, name: str = "upright") -> Start:
        turn = Rotation.from_rotvec([0, 0, np.radians(degrees)]).as_matrix()
        return Start(name, Pose(turn, np.zeros(3), np.zeros(3)), correlation)

    assert not is_unclear([start(0, 0.8), start(5, 0.8), start(90, 0.7)])
    assert is_unclear([start(0, 0.8), start(90, 0.79)])
    assert is_unclear([start(0, 0.55), start(90, 0.1)])
    assert is_doubtful([start(0, 0.55, "orientation 3"), start(90, 0.5)])
    assert not is_doubtful([start(0, 0.55, "orientation 3"), start(90, 0.4)])
    assert not is_doubtful([start(0, 0.55), start(90, 0.5, "orientation 3")])
    assert apart_degrees(start(10, 1).pose, start(55, 1).pose) == pytest.approx(45)


def test_a_pose_is_found_among_all_orientations_without_principal_axes() -> None:
    template = prepare_template(shown(np.eye(3)), depth_mask(GRID, 7.0), SETTINGS)
    rotation = Rotation.from_euler("xyz", [65, -38, 120], degrees=True).as_matrix()
    wide, near = (Similarity.of(s, shown(rotation)) for s in (template.coarse, template.samples[0]))
    # The mass centre is missed by half a millimetre.
    centres = Pose(np.eye(3), np.zeros(3), np.array([0.4, -0.3, 0.2]))
    found = searched(wide, near, centres, SETTINGS)
    best = max(found, key=lambda start: start.correlation)
    assert 1 < len(found) <= 8
    assert best.correlation > 0.95
    assert apart_degrees(best.pose, Pose(rotation, np.zeros(3), np.zeros(3))) < 3
