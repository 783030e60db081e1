"""What is recorded of a run and of a study beside its results."""

import hashlib
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml
from stage_runs import path_of, run_stage

from landmarkflow.core.files import read_json, sha256, write_json
from landmarkflow.core.records import TEMPLATE, Record, write_record
from landmarkflow.data.stages import SCANS
from landmarkflow.report.stages import MADE, PROVENANCE

STUDY = {
    "study": "mine",
    "seed": 3,
    "data": {"folder": "", "cohort": {"seed": 7}},
    "oneshot": {"train": {"loss": "cross_entropy"}},
}
RUNS = {"plain": {"seed": 3, "device": ["cpu"]}, "other": {"seed": 9, "device": ["Some GPU"]}}
FACTS = {"run": "mine", "entry": "mine", "method": "oneshot", "seed": 3, "steps": {"final": "all"}}


def test_a_run_says_what_made_it(tmp_path: Path) -> None:
    for scan, devices in (("a", ["Some GPU", "cpu"]), ("b", ["cpu", "cpu"])):
        record = Record(scan, "place", details={"devices": devices})
        write_record(path_of(tmp_path, MADE, "record", scan), record)
    refused = Record("c", "locate", "refused", "is empty")
    write_record(path_of(tmp_path, MADE, "record", "c"), refused)
    settings = {"run": FACTS, "segmented": True, "in_pixels": False, "draws_panels": True}
    assert run_stage(MADE, tmp_path, "abc", settings=settings).status == 0
    made = read_json(path_of(tmp_path, MADE, "made"))
    assert made.pop("versions")["numpy"] == version("numpy")
    assert made == {**FACTS, "device": ["Some GPU", "cpu"]}
    said = path_of(tmp_path, MADE, "readme").read_text(encoding="utf-8")
    assert said.startswith("Run mine of method oneshot\n==========================\n")
    assert "  segmentations/<scan>.nii.gz  the target in a scan" in said


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What was given of two scans, the second as a folder, and what runs say of themselves."""
    (tmp_path / "given/series").mkdir(parents=True)
    (tmp_path / "given/a scan.nrrd").write_bytes(b"scan")
    (tmp_path / "given/a.csv").write_bytes(b"points")
    (tmp_path / "given/series/1.dcm").write_bytes(b"slice")
    rows = {scan: {"image": row["image"]} for scan, row in sheet(tmp_path).items()}
    assert run_stage(SCANS, tmp_path, "ab", sheet=rows).status == 0
    for run, made in RUNS.items():
        write_json(tmp_path / run / "made.json", made)
    return tmp_path


def sheet(folder: Path) -> dict[str, dict[str, object]]:
    given = folder / "given"
    a = {"image": given / "a scan.nrrd", "landmarks": given / "a.csv", "segmentation": ""}
    b = {"image": given / "series", "landmarks": "", "segmentation": given / "a.csv"}
    return {"a": a, "b": b, TEMPLATE: a}


def recorded(folder: Path, study: dict[str, Any] = STUDY) -> dict[str, Any]:
    settings = {"study": study, "modules": [("align_scans", "landmarkflow.core.errors")]}
    done = run_stage(
        PROVENANCE, folder, "ab", settings=settings, sheet=sheet(folder), of=list(RUNS)
    )
    assert done.status == 0, done.stderr
    found: dict[str, Any] = read_json(path_of(folder, PROVENANCE, "provenance"))
    return found


def test_the_record_says_what_made_the_results(folder: Path) -> None:
    found = recorded(folder)
    assert found["seeds"] == {"run plain": 3, "run other": 9, "scans": 7}
    assert found["devices"] == {"plain": ["cpu"], "other": ["Some GPU"]}
    assert found["packages"]["numpy"] == version("numpy")
    assert len(found["code"]["commands"]["align_scans"]) == 16
    assert found["config"] == STUDY
    text = path_of(folder, PROVENANCE, "config").read_text("utf-8")
    assert yaml.safe_load(text) == STUDY


def test_every_file_that_was_given_is_recorded_with_its_digest(folder: Path) -> None:
    given, points = folder / "given", hashlib.sha256(b"points").hexdigest()
    series = read_json(path_of(folder, SCANS, "record", "b"))["sha256"]
    rows = [tuple(row.values()) for row in recorded(folder)["inputs"]]
    assert rows == [
        ("a", "image", str(given / "a scan.nrrd"), sha256(given / "a scan.nrrd")),
        ("a", "landmarks", str(given / "a.csv"), points),
        ("b", "image", str(given / "series"), series),
        ("b", "segmentation", str(given / "a.csv"), points),
    ]
    assert len(series) == 64


def test_scans_that_were_given_have_no_seed(folder: Path) -> None:
    given = STUDY | {"data": {"folder": "/scans", "cohort": {"seed": 7}}}
    assert recorded(folder, given)["seeds"] == {"run plain": 3, "run other": 9}


def test_the_same_state_is_recorded_in_the_same_bytes(folder: Path) -> None:
    recorded(folder)
    before = path_of(folder, PROVENANCE, "provenance").read_bytes()
    recorded(folder)
    assert path_of(folder, PROVENANCE, "provenance").read_bytes() == before
