"""Scans made to fail: each is right, or flagged, and none a confident wrong answer."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import yaml
from numpy.typing import NDArray
from phantoms import bone
from workflow_runs import TINY, results, rows, run_workflow, write_yaml

from landmarkflow.cohorts.settings import side_of
from landmarkflow.cohorts.simulate import simulate_subject
from landmarkflow.core.points import Landmarks, PointList
from landmarkflow.core.records import read_record
from landmarkflow.formats.slicer import write_markups
from landmarkflow.formats.written import write_volume
from landmarkflow.images.operations import array_of, grid_of, image_on
from landmarkflow.study.config import CohortSource

Array = NDArray[np.float64]
Fault = Callable[[Array, Array], Array]

STUDY = yaml.safe_load(TINY.read_text(encoding="utf-8"))
COHORT = CohortSource.model_validate(STUDY["data"]["cohort"])
EAR = 3
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
# The network looks through a scan in which nothing is dense, and marks next to nothing.
NO_TARGET = r"^the network marks (nothing in the whole scan|\d+\.\d\d mm³ of target around)"
# What the program says of scans without a whole target, whichever stage notices first.
REASONS = {
    "erased": NO_TARGET,
    "noise-alone": NO_TARGET,
    "air": NO_TARGET,
    "another-animal": r"^the network marks 0\.\d\d mm³ of target around the best of",
    "mirrored": r"of \d+ poses none is clearly the best: the target may be turned",
    "half": r"^the target reaches the border of the scan: \d\d % of it lies beyond; ",
    "cut-off": r"/cut-off\.nii\.gz: holds compressed voxels that end .* \(truncated file\)$",
}


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
def faulty(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of a study of one ear, as it is and with every fault."""
    folder = tmp_path_factory.mktemp("faulty")
    mine = folder / "mine"
    template, ear = (simulate_subject(COHORT.anatomy, COHORT.seed, n) for n in (0, EAR))
    write_volume(template.scan, mine / "template/scan.nii.gz")
    write_volume(template.segmentation, mine / "template/segmentation.nii.gz")
    marked = PointList("reference", template.landmarks, None)
    write_markups(mine / "template/landmarks.mrk.json", [marked])
    scan, truth = ear.scan, ear.landmarks
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
    cut = (mine / "scans/good.nii.gz").read_bytes()
    (mine / "scans/cut-off.nii.gz").write_bytes(cut[: len(cut) // 2])
    side = side_of(COHORT.anatomy, COHORT.seed, EAR)
    sheet = ["scan\tside", *(f"{name}\t{side}" for name in (*scans, "cut-off"))]
    (mine / "samples.tsv").write_text("\n".join(sheet) + "\n", encoding="utf-8")
    stated = {"data": {"template_side": "right"}, "oneshot": {"close": {"loops": 20}}}
    settings = write_yaml(folder / "faulty.yaml", stated)
    options = ("study=faulty", f"data_folder={mine}", "--until", "evaluate_landmarks")
    run = run_workflow(root, folder, "--configfile", TINY, settings, "--config", *options)
    assert run.status == 0, run.text
    return results(folder, "faulty") / "oneshot"


def worst_error(folder: Path, scan: str) -> float:
    found = [
        row["error"]
        for row in rows(folder / "evaluation/errors.csv")
        if row["scan"] == scan and row["stage"] == "final"
    ]
    return max(float(error) for error in found if error) if any(found) else np.inf


def reasons(folder: Path, scan: str) -> list[str]:
    """Why a scan is flagged by the program alone; a large error only a reference tells."""
    return [
        row["reason"]
        for row in rows(folder / "evaluation/failures.csv")
        if row["scan"] == scan and row["status"] in ("refused", "failed", "doubtful")
    ]


@pytest.mark.slow
@pytest.mark.parametrize("scan", [*FAULTS, *TURNS, "half", "cut-off"])
def test_a_wrong_answer_is_flagged(faulty: Path, scan: str) -> None:
    assert reasons(faulty, scan) or worst_error(faulty, scan) < RIGHT_MM


@pytest.mark.slow
@pytest.mark.parametrize("scan", REASONS)
def test_where_there_is_no_whole_target_the_reason_tells_the_fault(faulty: Path, scan: str) -> None:
    assert re.search(REASONS[scan], "; ".join(reasons(faulty, scan)))


@pytest.mark.slow
def test_the_scan_as_it_is_passes(faulty: Path) -> None:
    assert reasons(faulty, "good") == []
    assert worst_error(faulty, "good") < RIGHT_MM


@pytest.mark.slow
def test_every_stage_that_flags_a_scan_says_why(faulty: Path) -> None:
    said = [row["reason"] for row in rows(faulty / "evaluation/failures.csv")]
    assert min(map(len, said)) > 20
    names = [*FAULTS, *TURNS, "good", "half", "cut-off"]
    records = [read_record(faulty / f"landmarks/{name}.json") for name in names]
    steps = [step for record in records for step in record.chain]
    assert all(step.reason for step in steps if step.status != "ok")
    assert {step.status for step in steps} == {"ok", "doubtful", "failed", "refused"}
