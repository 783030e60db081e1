from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray
from phantoms import LANDMARKS, bone, depth_mask, moved, sampled
from scipy.spatial.transform import Rotation
from stage_runs import path_of, run_stage

from landmarkflow.core.grids import Grid
from landmarkflow.core.points import Landmarks, PointList
from landmarkflow.core.records import Record, Step, read_record, write_record
from landmarkflow.core.votes import count_votes
from landmarkflow.formats.slicer import read_complete_markups, write_markups
from landmarkflow.formats.transforms import write_transform
from landmarkflow.formats.written import write_volume
from landmarkflow.images.sampling import map_points
from landmarkflow.methods.oneshot.settings import DeformSettings, LbfgsSettings, VoteSettings
from landmarkflow.methods.oneshot.stages import VOTE
from landmarkflow.methods.oneshot.vote import way_between

Points = NDArray[np.float64]

GRID = Grid.centred((0.2, 0.1, -0.3), (40, 40, 40), 0.5)
QUICK = DeformSettings(lbfgs=LbfgsSettings(levels=DeformSettings().lbfgs.levels[:1]))


def rigid(angles: list[float], shift: list[float], *, mirrored: bool = False) -> sitk.Transform:
    transform = sitk.AffineTransform(3)
    mirror = np.diag([-1.0 if mirrored else 1.0, 1.0, 1.0])
    matrix = mirror @ Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    transform.SetMatrix(matrix.ravel().tolist())
    transform.SetTranslation(shift)
    return transform


def test_votes_are_averaged_and_one_that_went_astray_does_not_count() -> None:
    ways = [np.array([[x, 0.0, 0.0], [0.0, y, 0.0]]) for x, y in ((1, 0), (1.2, 0), (1.4, 9))]
    votes = count_votes(ways, farthest_mm=0.5)
    np.testing.assert_allclose(votes.positions, [[1.2, 0, 0], [0, 0, 0]])
    assert votes.counted.tolist() == [3, 2]
    np.testing.assert_allclose(votes.spread, [np.sqrt(0.08 / 3), 0.0])


def test_where_all_votes_differ_the_median_stands() -> None:
    ways = [np.array([[x, y, 0.0]]) for x, y in ((0.0, 5.0), (1.0, 30.0), (40.0, 0.0))]
    votes = count_votes(ways, farthest_mm=0.5)
    np.testing.assert_allclose(votes.positions, [[1.0, 5.0, 0.0]])
    assert votes.counted.tolist() == [0]


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_way_between_scans_goes_by_the_template(mirrored: bool) -> None:
    to_peer = rigid([20, -30, 140], [5.0, -7.0, 30.0], mirrored=mirrored)
    to_scan = rigid([-50, 10, 5], [-40.0, 2.0, 1.0])
    way = way_between(to_peer, to_scan)
    for point in LANDMARKS.positions.tolist():
        there = way.TransformPoint(to_peer.TransformPoint(point))
        np.testing.assert_allclose(there, to_scan.TransformPoint(point), atol=1e-9)


# The stage


WAYS = {
    "a": rigid([5, -8, 12], [30.0, 4.0, -9.0]),
    "b": rigid([0, 20, -6], [-20.0, 1.0, 8.0], mirrored=True),
    "c": rigid([-9, 3, 7], [2.0, -30.0, 5.0]),
    "d": rigid([0, 0, 0], [0.0, 0.0, 0.0]),
}


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Four scans of the bone; a's direct registration is off by 0.9 mm, d's failed."""
    write_volume(sampled(GRID, bone), path_of(tmp_path, VOTE, "template_centred"))
    write_volume(depth_mask(GRID), path_of(tmp_path, VOTE, "template_target"))
    annotated = PointList("reference", LANDMARKS, None)
    write_markups(path_of(tmp_path, VOTE, "template_reference"), [annotated])
    for name, way in WAYS.items():
        write_volume(moved(bone, way, 48), path_of(tmp_path, VOTE, "crop", name))
        off = sitk.TranslationTransform(3, (0.9, 0.0, 0.0) if name == "a" else (0.0, 0.0, 0.0))
        write_transform(way, path_of(tmp_path, VOTE, "rigid", name))
        whole = sitk.CompositeTransform([way, off])
        write_transform(whole, path_of(tmp_path, VOTE, "bspline", name))
        said = ("failed", "lost") if name == "d" else ()
        record = Record(name, "deform", *said, earlier=(Step("align"),))
        write_record(path_of(tmp_path, VOTE, "deform_record", name), record)
    return tmp_path


def vote(folder: Path, peers: str, scans: str, **settings: object) -> None:
    given = {"vote": VoteSettings(peers=2, farthest_mm=0.3), "deform": QUICK} | settings
    assert run_stage(VOTE, folder, scans, settings=given, peers=[*peers]).status == 0


def voted(folder: Path, scan: str) -> Points:
    return read_complete_markups(path_of(folder, VOTE, "voted", scan)).positions


def record_of(folder: Path, scan: str) -> Record:
    return read_record(path_of(folder, VOTE, "record", scan))


def places(way: sitk.Transform, landmarks: Landmarks = LANDMARKS) -> Points:
    return map_points(way, landmarks.positions)


def test_peers_outvote_a_registration_that_went_astray(study: Path) -> None:
    vote(study, peers="dbc", scans="abd")
    assert record_of(study, "a").details["ways"] == ["direct", "b", "c"]
    assert record_of(study, "b").details["ways"] == ["direct", "c"]
    assert record_of(study, "a").earlier == (Step("align"), Step("deform"))
    error = np.linalg.norm(voted(study, "a") - places(WAYS["a"]), axis=1)
    assert error.max() < 0.15
    failed = record_of(study, "d")
    assert (failed.stage, failed.status, failed.reason) == ("deform", "failed", "lost")
    assert path_of(study, VOTE, "voted", "d").read_bytes() == b""


def test_without_peers_the_direct_way_stands_and_landmarks_may_be_evened_out(study: Path) -> None:
    vote(study, peers="", scans="b")
    np.testing.assert_allclose(voted(study, "b"), places(WAYS["b"]), atol=1e-4)
    even = Landmarks(LANDMARKS.labels, LANDMARKS.positions + 0.4)
    symmetrised = path_of(study, VOTE, "symmetrised")
    write_markups(symmetrised, [PointList("symmetrised", even, None)])
    vote(study, peers="", scans="b", symmetrise={"enabled": True})
    np.testing.assert_allclose(voted(study, "b"), places(WAYS["b"], even), atol=1e-4)
