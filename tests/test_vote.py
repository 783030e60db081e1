from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from landmarkflow.methods.oneshot.consensus import count_votes, way_between
from numpy.typing import NDArray
from phantoms import LANDMARKS, bone, depth_mask, sampled
from scipy.spatial.transform import Rotation

from landmarkflow.__main__ import main
from landmarkflow.core.grids import Grid
from landmarkflow.core.points import PointList
from landmarkflow.core.records import Record, read_record, write_record
from landmarkflow.formats.landmarks import read_landmarks
from landmarkflow.formats.slicer import write_markups
from landmarkflow.formats.written import write_volume
from landmarkflow.methods.oneshot.settings import DeformSettings, LbfgsSettings, VoteSettings

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


# The command


def scan_of(way: sitk.Transform) -> sitk.Image:
    """The bone where a transform puts it."""
    inverse = way.GetInverse()
    grid = Grid.centred(way.TransformPoint(GRID.centre.tolist()), (48, 48, 48), 0.5)

    def there(points: Points) -> Points:
        return bone(np.array([inverse.TransformPoint(p) for p in points.tolist()]))

    return sampled(grid, there)


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Four scans of the bone; a's direct registration is off by 0.9 mm, d's failed."""
    write_volume(sampled(GRID, bone), tmp_path / "template.nii.gz")
    write_volume(depth_mask(GRID), tmp_path / "segmentation.nii.gz")
    write_markups(tmp_path / "annotated.mrk.json", [PointList("reference", LANDMARKS, None)])
    ways = {
        "a": rigid([5, -8, 12], [30.0, 4.0, -9.0]),
        "b": rigid([0, 20, -6], [-20.0, 1.0, 8.0], mirrored=True),
        "c": rigid([-9, 3, 7], [2.0, -30.0, 5.0]),
        "d": rigid([0, 0, 0], [0.0, 0.0, 0.0]),
    }
    for name, way in ways.items():
        write_volume(scan_of(way), tmp_path / f"{name}.nii.gz")
        sitk.WriteTransform(way, str(tmp_path / f"{name}.rigid.tfm"))
        off = sitk.TranslationTransform(3, (0.9, 0.0, 0.0) if name == "a" else (0.0, 0.0, 0.0))
        sitk.WriteTransform(sitk.CompositeTransform([way, off]), str(tmp_path / f"{name}.tfm"))
        status = "failed" if name == "d" else "ok"
        write_record(tmp_path / f"{name}.json", Record(name, "deform", status, status))
    return tmp_path


def vote(folder: Path, peers: str, scans: str) -> None:
    def named(pattern: str, names: str) -> list[Path]:
        return [folder / pattern.format(name) for name in names]

    options: dict[str, object] = {
        "settings": VoteSettings(peers=2, farthest_mm=0.3).model_dump_json(),
        "deform-settings": QUICK.model_dump_json(),
        "seed": 1,
        "template-image": folder / "template.nii.gz",
        "template-segmentation": folder / "segmentation.nii.gz",
        "template-centred": folder / "template.nii.gz",
        "template-landmarks": folder / "annotated.mrk.json",
        "peers": list(peers),
        "peers-centred": named("{}.nii.gz", peers),
        "peers-rigid": named("{}.rigid.tfm", peers),
        "peers-bspline": named("{}.tfm", peers),
        "peers-record": named("{}.json", peers),
        "scans": list(scans),
        "store": folder / "store",
        "centred": named("{}.nii.gz", scans),
        "rigid": named("{}.rigid.tfm", scans),
        "bspline": named("{}.tfm", scans),
        "bspline_record": named("{}.json", scans),
        "voted": named("{}.voted.mrk.json", scans),
        "record": named("{}.voted.json", scans),
    }
    arguments = ["vote_landmarks"]
    for name, value in options.items():
        values = value if isinstance(value, list) else [value]
        arguments += [f"--{name}", *map(str, values)]
    assert main(arguments) == 0


@pytest.mark.usefixtures("quiet")
def test_peers_outvote_a_registration_that_went_astray(study: Path) -> None:
    vote(study, peers="dbc", scans="abd")
    assert read_record(study / "a.voted.json").details["ways"] == ["direct", "b", "c"]
    assert read_record(study / "b.voted.json").details["ways"] == ["direct", "c"]
    way = sitk.ReadTransform(str(study / "a.rigid.tfm"))
    truth = np.array([way.TransformPoint(p) for p in LANDMARKS.positions.tolist()])
    found = read_landmarks(study / "a.voted.mrk.json").positions
    assert np.linalg.norm(found - truth, axis=1).max() < 0.15
    failed = read_record(study / "d.voted.json")
    assert (failed.status, failed.reason) == ("failed", "failed")
    assert (study / "d.voted.mrk.json").read_bytes() == b""
