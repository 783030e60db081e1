"""What a scan's files hold decides what is computed of it, whatever they are called and dated."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from image_files import meta_image_bytes, nrrd_bytes, scan, scan_array
from stage_runs import assert_refused, path_of, run_stage

from landmarkflow.core.files import read_json, stamp
from landmarkflow.data.stages import SCANS
from landmarkflow.formats.written import write_volume
from landmarkflow.methods.oneshot.stages import LOCATE
from landmarkflow.registry import METHODS, STAGES
from landmarkflow.workflow.configured import study_of
from landmarkflow.workflow.rules import Workflow

AXES = "1 0 0 0 1 0 0 0 1"
VOXELS = scan_array().astype("<i2").tobytes()
OTHER = (scan_array() + 1).astype("<i2").tobytes()
NRRD = nrrd_bytes("space: LPS").partition(b"\n\n")[0]


def digested(folder: Path, image: Path) -> dict[str, object]:
    assert run_stage(SCANS, folder, ["a"], sheet={"a": {"image": image}}).status == 0
    found: dict[str, object] = read_json(path_of(folder, SCANS, "record", "a"))
    return found


def meta_image(folder: Path, data_file: str) -> Path:
    (folder / "a.mhd").write_bytes(meta_image_bytes(AXES, data_file).removesuffix(VOXELS))
    return folder / "a.mhd"


def nrrd(folder: Path, data_file: str) -> Path:
    (folder / "a.nhdr").write_bytes(NRRD + f"\ndata file: {data_file}\n".encode())
    return folder / "a.nhdr"


HEADERS = {
    "a.mhd + a.raw": (meta_image, "a.raw"),
    "a.mhd + voxels.bin": (meta_image, "voxels.bin"),
    "a.nhdr + a.raw": (nrrd, "a.raw"),
    "a.nhdr + voxels.bin": (nrrd, "voxels.bin"),
}
Header = Callable[[Path, str], Path]


@pytest.fixture(params=HEADERS)
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Path]:
    """A header and the file of its voxels."""
    header, name = HEADERS[request.param]
    (tmp_path / "given").mkdir()
    path = header(tmp_path / "given", name)
    (path.parent / name).write_bytes(VOXELS)
    return path, path.parent / name


def test_a_scan_of_one_file_has_its_size_and_digest(tmp_path: Path) -> None:
    write_volume(scan(), tmp_path / "a.nii.gz")
    content = (tmp_path / "a.nii.gz").read_bytes()
    assert digested(tmp_path, tmp_path / "a.nii.gz") == {
        "scan": "a",
        "image": str(tmp_path / "a.nii.gz"),
        "files": 1,
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }


def test_a_folder_counts_with_all_its_files(tmp_path: Path) -> None:
    (tmp_path / "series").mkdir()
    for name in ("1.dcm", "2.dcm"):
        (tmp_path / "series" / name).write_text(name)
    first = digested(tmp_path, tmp_path / "series")
    assert (first["files"], first["bytes"]) == (2, 10)
    (tmp_path / "series/2.dcm").write_text("other")
    assert digested(tmp_path, tmp_path / "series")["sha256"] != first["sha256"]


def test_a_header_that_names_no_usable_file_is_taken_alone(tmp_path: Path) -> None:
    path = meta_image(tmp_path, "nowhere.raw")
    found = digested(tmp_path, path)
    assert (found["files"], found["bytes"]) == (1, path.stat().st_size)


@pytest.mark.skipif(os.geteuid() == 0, reason="the administrator may read everything")
def test_a_scan_that_may_not_be_read_ends_the_study(tmp_path: Path) -> None:
    (tmp_path / "a.nii").touch(mode=0)
    sheet = {"a": {"image": tmp_path / "a.nii"}}
    assert_refused(run_stage(SCANS, tmp_path, ["a"], sheet=sheet), "Permission denied")


def test_other_voxels_under_the_same_header_are_another_scan(
    pair: tuple[Path, Path], tmp_path: Path
) -> None:
    header, data = pair
    before, first = header.read_bytes(), digested(tmp_path, header)
    data.write_bytes(OTHER)
    after = digested(tmp_path, header)
    assert header.read_bytes() == before
    assert after["sha256"] != first["sha256"]
    assert after["bytes"] == first["bytes"] == len(before) + len(VOXELS)


def test_a_later_stage_computes_a_scan_of_other_voxels_again(
    pair: tuple[Path, Path], tmp_path: Path
) -> None:
    header, data = pair

    def located() -> str:
        digested(tmp_path, header)
        return run_stage(LOCATE, tmp_path, ["a"], sheet={"a": {"image": header}}).stderr

    assert "a: computed" in located()
    assert "a: known" in located()
    data.write_bytes(OTHER)
    assert "a: computed" in located()
    data.write_bytes(VOXELS)
    assert "a: known" in located()


def stamped(folder: Path, header: Path) -> str:
    """What tells Snakemake that the scans are to be digested again."""
    sheet = f"scan\timage\na\t{header}\n"
    (folder / "samples.tsv").write_text(sheet)
    (folder / "t.csv").touch()
    template = {"image": str(header), "landmarks": str(folder / "t.csv")}
    source = {"sheet": {"sheet": str(folder / "samples.tsv"), "template": template}}
    study = study_of({"study": "mine", "data": source}, METHODS, Path("results"), folder)
    found: str = Workflow(study, METHODS, STAGES).decides(SCANS, ["a"])["stamp"]
    return found


def test_a_rule_sees_that_the_voxels_beside_a_header_were_replaced(
    pair: tuple[Path, Path], tmp_path: Path
) -> None:
    header, data = pair
    before = stamped(tmp_path, header)
    assert stamped(tmp_path, header) == before
    (header.parent / "notes.txt").write_text("other")
    assert stamped(tmp_path, header) == before
    data.write_bytes(OTHER)
    assert stamped(tmp_path, header) != before


def test_a_stamp_tells_a_file_that_was_replaced_by_one_as_large_and_as_old(tmp_path: Path) -> None:
    path = tmp_path / "a.nii"
    path.write_bytes(VOXELS)
    status, before = path.stat(), stamp([path], tmp_path / "results")
    path.write_bytes(OTHER)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert path.stat().st_size == status.st_size
    assert stamp([path], tmp_path / "results") != before


def test_a_rule_sees_that_a_folder_has_another_file(tmp_path: Path) -> None:
    (tmp_path / "series").mkdir()
    (tmp_path / "series/1.dcm").touch()
    before = stamped(tmp_path, tmp_path / "series")
    (tmp_path / "series/2.dcm").touch()
    assert stamped(tmp_path, tmp_path / "series") != before


def test_what_the_workflow_makes_itself_and_what_is_not_there_has_no_stamp(tmp_path: Path) -> None:
    (tmp_path / "a.nii").touch()
    assert stamp([tmp_path / "a.nii"], tmp_path) == ""
    assert stamp([tmp_path / "none.nii"], tmp_path / "results") == ""


def test_the_digest_of_voxels_is_of_all_of_them(tmp_path: Path) -> None:
    write_volume(scan(), tmp_path / "a.nrrd")
    first = digested(tmp_path, tmp_path / "a.nrrd")["sha256"]
    array = np.frombuffer((tmp_path / "a.nrrd").read_bytes(), np.uint8).copy()
    array[-1] ^= 1
    (tmp_path / "a.nrrd").write_bytes(array.tobytes())
    assert digested(tmp_path, tmp_path / "a.nrrd")["sha256"] != first
