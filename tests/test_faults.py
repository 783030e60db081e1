"""Scans made to fail: each is right, or flagged, and none a confident wrong answer."""

import csv
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray
from phantoms import bone
from workflow_runs import TINY, run_workflow

from landmarkflow.core.points import Landmarks, PointList
from landmarkflow.formats.landmarks import read_landmarks
from landmarkflow.formats.slicer import write_markups
from landmarkflow.formats.volumes import read_volume
from landmarkflow.formats.written import write_volume
from landmarkflow.images.operations import array_of, grid_of, image_on

Array = NDArray[np.float64]
Fault = Callable[[Array, Array], Array]

EAR = "ear003"
RIGHT_MM = 1.0
SOFT_HU, METAL_HU = 40.0, 3071.0


def noise(values: Array, sd: float) -> Array:
    return np.random.default_rng(0).normal(0.0, sd, values.shape)


def near(offset: Array, radius_mm: float) -> NDArray[np.bool_]:
    return np.asarray(np.linalg.norm(offset, axis=-1) < radius_mm)


def metal(values: Array, offset: Array) -> Array:
    """A screw beside the target and its streaks in every slice."""
    x, y = offset[..., 0] - 7.0, offset[..., 1]
    streaks = 400 * np.cos(12 * np.arctan2(y, x)) / (1 + 0.2 * np.hypot(x, y))
    return np.where(near(offset - [7.0, 0.0, 0.0], 2.0), METAL_HU, values + streaks)


def another_animal(_: Array, offset: Array) -> Array:
    shape = offset.shape[:3]
    return 4024 * bone(offset.reshape(-1, 3) / 1.5).reshape(shape) - 1024


# What becomes of the voxels, from their values and from where they lie around the target, mm.
FAULTS: dict[str, Fault] = {
    "erased": lambda v, o: np.where(near(o, 13.0), SOFT_HU + noise(v, 50), v),
    "noise-alone": lambda v, _: 300 + noise(v, 400),
    "air": lambda v, _: -1000 + noise(v, 20),
    "another-animal": another_animal,
    "noisy": lambda v, _: v + noise(v, 500),
    "metal": metal,
}
# The whole scan turned or mirrored about its middle, its sheet none the wiser.
TURNS = {"upside-down": (1.0, -1.0, -1.0), "mirrored": (-1.0, 1.0, 1.0)}


def spoilt(scan: sitk.Image, centre: Array, fault: Fault) -> sitk.Image:
    grid = grid_of(scan)
    z, y, x = np.indices(grid.size[::-1])
    points = grid.to_physical(np.stack([x, y, z], axis=-1).reshape(-1, 3).astype(float))
    offset = (points - centre).reshape(*grid.size[::-1], 3)
    return image_on(grid, fault(array_of(scan).astype(float), offset).astype(np.float32))


def turned(scan: sitk.Image, signs: tuple[float, ...]) -> sitk.Image:
    flipped = np.flip(array_of(scan), axis=[2 - a for a in range(3) if signs[a] < 0])
    return image_on(grid_of(scan), np.ascontiguousarray(flipped))


def half(scan: sitk.Image, centre: Array) -> sitk.Image:
    """What of the scan lies to the left of the target's middle."""
    first = int(np.round(grid_of(scan).to_index(centre[None])[0, 0]))
    size = scan.GetSize()
    return sitk.RegionOfInterest(scan, [size[0] - first, *size[1:]], [first, 0, 0])


@pytest.fixture(scope="module")
def faulty(root: Path, tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of a study of one ear, as it is and with every fault."""
    data = tiny / "results/tiny/data"
    folder = tmp_path_factory.mktemp("faulty")
    mine = folder / "mine"
    shutil.copytree(data / "template", mine / "template")
    scan = read_volume(data / f"scans/{EAR}.nii.gz")
    truth = read_landmarks(data / f"landmarks/{EAR}.mrk.json")
    centre = truth.positions.mean(axis=0)
    scans = {name: spoilt(scan, centre, fault) for name, fault in FAULTS.items()}
    scans |= {"good": scan, "half": half(scan, centre)}
    truths = dict.fromkeys(scans, truth)
    for name, signs in TURNS.items():
        middle = grid_of(scan).centre
        scans[name] = turned(scan, signs)
        positions = middle + np.array(signs) * (truth.positions - middle)
        truths[name] = Landmarks(truth.labels, positions)
    for name, image in scans.items():
        write_volume(image, mine / f"scans/{name}.nii.gz")
        points = truths[name]
        if name == "half":
            # Of the landmarks cut away nothing is known.
            inside = grid_of(image).contains(points.positions)
            points = Landmarks(points.labels, np.where(inside[:, None], points.positions, np.nan))
        write_markups(mine / f"landmarks/{name}.mrk.json", [PointList("reference", points, None)])
    rows = ["scan\tside", *(f"{name}\tright" for name in scans)]
    (mine / "samples.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    options = ("study=faulty", "bad_scans=set_aside", f"data_folder={mine}")
    settings = folder / "faulty.yaml"
    settings.write_text(
        "data: {template_side: right}\noneshot: {confidence: {loops: 20}}\n", encoding="utf-8"
    )
    run = run_workflow(root, folder, "--configfile", TINY, settings, "--config", *options)
    assert run.status == 0, run.text
    return folder / "results/faulty"


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def worst_error(folder: Path, scan: str) -> float:
    rows = rows_of(folder / "evaluation/errors.csv")
    found = [r["error_mm"] for r in rows if r["scan"] == scan and r["stage"] == "final"]
    return max(float(mm) for mm in found if mm) if any(found) else np.inf


def flagged(folder: Path) -> set[str]:
    rows = rows_of(folder / "evaluation/failures.csv")
    return {row["scan"] for row in rows if row["status"] in ("refused", "failed", "doubtful")}


@pytest.mark.slow
@pytest.mark.parametrize("scan", [*FAULTS, *TURNS, "half"])
def test_a_wrong_answer_is_flagged(faulty: Path, scan: str) -> None:
    assert scan in flagged(faulty) or worst_error(faulty, scan) < RIGHT_MM


@pytest.mark.slow
@pytest.mark.parametrize("scan", ["erased", "noise-alone", "air", "another-animal", "half"])
def test_where_there_is_no_whole_target_no_answer_passes(faulty: Path, scan: str) -> None:
    assert scan in flagged(faulty)


@pytest.mark.slow
def test_the_scan_as_it_is_passes(faulty: Path) -> None:
    assert "good" not in flagged(faulty)
    assert worst_error(faulty, "good") < RIGHT_MM


@pytest.mark.slow
def test_every_flag_has_its_reason(faulty: Path) -> None:
    assert [row for row in rows_of(faulty / "evaluation/failures.csv") if not row["reason"]] == []
