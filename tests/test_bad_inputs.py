"""Every bad input that a study has met or may meet, and the one sentence that its user reads.

What a rule reads is given to the rule's command, what is known before any rule runs to Snakemake
or to the functions that it asks. docs/inputs.md says how to go on from the sentences.
"""

import ast
import csv
import gzip
import io
import json
import os
import pickle
import re
import struct
import subprocess
import zipfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import yaml
from hypothesis import given
from hypothesis import strategies as st
from image_files import (
    SIZE,
    meta_image_bytes,
    nifti_bytes,
    nrrd_bytes,
    scan,
    scan_array,
    scan_grid,
    write_dicom,
)
from stage_runs import Outcome, assert_refused, path_of, run_stage
from workflow_runs import TINY, run_workflow

from landmarkflow.core.errors import InputError
from landmarkflow.core.files import LARGEST_TEXT_BYTES
from landmarkflow.core.grids import Grid
from landmarkflow.core.records import TEMPLATE, read_record
from landmarkflow.data.stages import REFERENCES, TARGET
from landmarkflow.data.stages import SCANS as DIGESTS
from landmarkflow.engine.stage import Stage
from landmarkflow.formats.landmarks import read_landmarks
from landmarkflow.formats.volumes import read_volume
from landmarkflow.formats.written import write_volume
from landmarkflow.images.operations import image_on
from landmarkflow.methods.oneshot.stages import CENTRE, LOCATE
from landmarkflow.registry import METHODS
from landmarkflow.study.sheet import read_sheet
from landmarkflow.workflow.configured import study_of

Make = Callable[[Path], object]

AXES = "1 0 0 0 1 0 0 0 1"
GRID = scan_grid(np.eye(3))
TEXT = "The scan is on the other disk.\n" * 20
READABLE = (
    "NIfTI (.nii, .nii.gz), NRRD (.nrrd, .nhdr), MetaImage (.mha, .mhd), a picture (.png, .jpg, "
    ".tif) or a DICOM folder"
)
HUGE = (
    "states 10000 x 10000 x 10000 voxels of 2000000000000 bytes in all, expected at most "
    "8589934592 bytes"
)
# More voxels than a file may have, and as many as it may, which would take 8 GB.
TOO_MANY = (3, 10_000, 10_000, 10_000, 1, 1, 1, 1)
MANY = (3, 1600, 1600, 1600, 1, 1, 1, 1)


# How bad files are made


def holds(content: bytes | str) -> Make:
    return lambda path: path.write_bytes(content.encode() if isinstance(content, str) else content)


def voxels(array: Any, grid: Grid = GRID) -> Make:
    return lambda path: write_volume(image_on(grid, array), path)


def with_value(value: float) -> Any:
    array = scan_array().astype(np.float32)
    array[3, 4, 5:7] = value
    return array


def labels(value: float = 1.0) -> Any:
    array = np.zeros(SIZE[::-1], np.float32)
    array[2:5, 3:6, 4:7] = value
    return array


def colours(path: Path) -> None:
    sitk.WriteImage(sitk.Compose(scan(), scan(), scan()), str(path))


def sized(count: int) -> Make:
    return lambda path: (path.touch(), os.truncate(path, count))


def packed(content: bytes) -> bytes:
    """A gzip file of as many bytes with every version of zlib."""
    return gzip.compress(content, compresslevel=0, mtime=0)


def corrupt(path: Path) -> None:
    content = bytearray(packed(nifti_bytes()))
    content[len(content) * 3 // 4] ^= 0xFF
    path.write_bytes(content)


def two_frames(path: Path) -> None:
    write_volume(scan(), path)
    content = bytearray(path.read_bytes())
    (x,) = struct.unpack_from("<f", content, 292)
    struct.pack_into("<f", content, 292, x + 5)
    path.write_bytes(content)


def two_spacings(path: Path) -> None:
    content = bytearray(nifti_bytes())
    struct.pack_into("<3f", content, 80, 1, 1, 1)
    path.write_bytes(content)


def dicom(*without: int, **options: Any) -> Make:
    """A DICOM series without some of its slices."""

    def make(path: Path) -> None:
        write_dicom(path, **options)
        for number in without:
            (path / f"{number}.dcm").unlink()

    return make


def two_series(path: Path) -> None:
    write_dicom(path, series="1.2.3")
    write_dicom(path, series="1.2.4", prefix="b")


def a_slice_cut_off(path: Path) -> None:
    write_dicom(path)
    (path / "3.dcm").write_bytes((path / "3.dcm").read_bytes()[:600])


def other_files(path: Path) -> None:
    path.mkdir()
    (path / "notes.txt").write_text(TEXT)


def not_there(_: Path) -> None:
    pass


# Scans. Each line: the file's name, how it is made, what is said of it after its name.

SCANS: dict[str, tuple[str, Make, str]] = {
    "not there": (
        "a.nii.gz", not_there, f"no such file or folder, expected a scan as {READABLE}"),
    "a pipe": (
        "a.nii.gz", os.mkfifo, f"cannot be read (no regular file), expected a scan as {READABLE}"),
    "another format": (
        "a.bmp", holds(b""), f'has the suffix ".bmp", expected {READABLE}'),
    "no picture": (
        "a.png", holds(TEXT),
        "cannot be read (cannot identify image file 'a.png'), expected a whole PNG file"),
    "text called NIfTI": (
        "a.nii", holds(TEXT), "does not start with a NIfTI-1 header, expected a NIfTI-1 file"),
    "a line called NIfTI": (
        "a.nii", holds("see mail"), "holds 8 bytes, expected a NIfTI-1 file"),
    "text called gzip": (
        "a.nii.gz", holds(TEXT),
        "holds corrupt compressed voxels (Not a gzipped file (b'Th'))"),
    "text called NRRD": (
        "a.nrrd", holds(TEXT), "states no dimensions, expected the header of a .nrrd file in 3D"),
    "text called MetaImage": (
        "a.mha", holds(TEXT), "states no dimensions, expected the header of a .mha file in 3D"),
    "truncated": (
        "a.nii", holds(nifti_bytes()[:-100]),
        "holds 2172 bytes, expected 2272 (truncated file)"),
    "truncated gzip": (
        "a.nii.gz", holds(packed(nifti_bytes())[:-500]),
        "holds compressed voxels that end too early (truncated file)"),
    "corrupt gzip": (
        "a.nii.gz", corrupt,
        "holds corrupt compressed voxels (CRC check failed 2314198563 != 1017240265)"),
    "gzip of too little": (
        "a.nii.gz", holds(packed(nifti_bytes()[:-100])),
        "holds compressed voxels that end after 2172 bytes, expected 2272 (truncated file)"),
    "gzip of too much": (
        "a.nii.gz", holds(packed(nifti_bytes() + bytes(2 << 20))),
        "holds compressed voxels of more than 1050848 bytes, expected 2272"),
    "gzip that cannot be so large": (
        "a.nii.gz", holds(packed(nifti_bytes(dimensions=MANY))),
        "holds 2295 compressed bytes, which cannot be the 8192000352 bytes that its header "
        "states (truncated file)"),
    "10^12 voxels": ("a.nii", holds(nifti_bytes(dimensions=TOO_MANY)), HUGE),
    "10^12 voxels in a gzip": (
        "a.nii.gz", holds(packed(nifti_bytes(dimensions=TOO_MANY))), HUGE),
    "10^12 voxels in NRRD": (
        "a.nrrd",
        holds(nrrd_bytes("space: LPS").replace(b"12 10 8", b"10000 10000 10000")), HUGE),
    "10^12 voxels in MetaImage": (
        "a.mha", holds(meta_image_bytes(AXES).replace(b"12 10 8", b"10000 10000 10000")), HUGE),
    "an endless header": (
        "a.mha", holds("NDims = 3\n" + "Comment = -\n" * 100_000),
        "has a header of more than 1048576 bytes, expected that of a .mha file in 3D"),
    "numbers as text": (
        "a.nrrd", holds(nrrd_bytes("space: LPS").replace(b"raw", b"ascii")),
        'has the encoding "ascii", expected raw or gzip'),
    "MetaImage of text": (
        "a.mha", holds(meta_image_bytes(AXES).replace(b"True", b"False")),
        "does not state BinaryData = True, expected voxels in bytes"),
    "several data files": (
        "a.mhd", holds(meta_image_bytes(AXES, "slice%03d.raw 1 8 1")),
        'names the data files "slice%03d.raw 1 8 1", expected one data file'),
    "no data file": (
        "a.mhd", holds(meta_image_bytes(AXES, "a.raw")),
        'names the data file "a.raw", which does not exist beside it'),
    "2D": (
        "a.nii", holds(nifti_bytes(dimensions=(2, 12, 80, 1, 1, 1, 1, 1))),
        "has 12 x 80 voxels, expected a 3D volume with at least two along each axis"),
    "4D": (
        "a.nii", holds(nifti_bytes(dimensions=(4, 12, 10, 4, 2, 1, 1, 1))),
        "has 12 x 10 x 4 x 2 voxels, expected a 3D volume with at least two along each axis"),
    "one slice": (
        "a.nii", holds(nifti_bytes(dimensions=(3, 12, 80, 1, 1, 1, 1, 1))),
        "has 12 x 80 x 1 voxels, expected a 3D volume with at least two along each axis"),
    "colours": ("a.nrrd", colours, "has 3 values per voxel, expected one"),
    "NaN": (
        "a.nii.gz", voxels(with_value(np.nan)),
        "2 voxels hold NaN or infinity, expected finite values"),
    "infinity": (
        "a.nrrd", voxels(with_value(-np.inf)),
        "2 voxels hold NaN or infinity, expected finite values"),
    "constant": (
        "a.nii.gz", voxels(np.full(SIZE[::-1], -1000, np.int16)),
        "every voxel holds -1000, expected a scan with contrast"),
    "no frame": (
        "a.nii", holds(nifti_bytes(sform_code=0)),
        "has qform_code 0 and sform_code 0, so it does not state its frame; expected at least "
        "one above 0"),
    "two frames": (
        "a.nii", two_frames,
        "states two frames, its qform and sform place a corner 5 mm apart; expected them to "
        "agree or one of their codes to be 0"),
    "two spacings": (
        "a.nii", two_spacings,
        "states two sizes of a voxel, 2 x 3 x 4 in its sform and 1 x 1 x 1 in its pixdim; "
        "expected them to agree"),
    "no frame in NRRD": (
        "a.nrrd", holds(nrrd_bytes("space dimension: 3")),
        'has the space "", so it does not state its frame; expected "left-posterior-superior", '
        '"right-anterior-superior" or "left-anterior-superior"'),
    "sheared": (
        "a.mha", holds(meta_image_bytes("1 0 0 0.03 1 0 0 0 1")),
        "a grid has the axes [[1.0, 0.03, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]], expected an "
        "orthonormal 3 x 3 matrix (no shear)"),
    "folder without DICOM": ("a", other_files,
        "holds no DICOM images (files found: 1, in folders: 1), expected a series of slices"),
    "two series": ("a", two_series,
        "holds 2 series that may be the scan, expected one, chosen by `series`, a number or UID, "
        "in the sheet or beside the template: series without a number (CT, 8 images of 12 x 10, "
        "UID 1.2.3), series without a number (CT, 8 images of 12 x 10, UID 1.2.4)"),
    "missing slice": (
        "a", dicom(4),
        "the DICOM slices 1.dcm and 7.dcm are 3 mm apart, expected 1.5 mm as between the others "
        "(missing, repeated or uneven slices)"),
    "slice cut off": (
        "a", a_slice_cut_off,
        "/3.dcm: ends before its voxels, expected a whole DICOM image (truncated)"),
    "single slice": (
        "a", dicom(*range(1, 8)), "the DICOM series has one slice, expected at least two"),
    "gantry tilt": (
        "a", dicom(step=(0, 0.2, 1.5)),
        "each DICOM slice lies 0.2 mm beside the one before it, 1.513 mm away; expected slices "
        "stacked along their normal (no gantry tilt)"),
}  # fmt: skip

# Landmarks of the scan, where the template has these points.

TEMPLATE_POINTS = {"apex": [-35.0, 14.0, 84.0], "window": [-36.0, 13.0, 86.0]}


def markups(points: Any, frame: Any = "LPS") -> str:
    return json.dumps({"markups": [{"coordinateSystem": frame, "controlPoints": points}]})


def point(label: Any, position: Any = (-35, 14, 84), **more: Any) -> dict[str, Any]:
    return {"label": label, "position": position, **more}


def table(*rows: str, frame: str = "LPS") -> str:
    return "\n".join([f"# frame: {frame}", "label,x,y,z", *rows, ""])


LANDMARKS: dict[str, tuple[str, Make, str]] = {
    "not there": ("a.mrk.json", not_there, "no such file, expected a JSON file"),
    "not there in a table": ("a.csv", not_there, "no such file, expected a table of landmarks"),
    "another format": (
        "a.txt", holds(TEXT),
        'has the suffix ".txt", expected landmarks as .mrk.json, .fcsv, .csv or .json'),
    "no text": (
        "a.fcsv", holds(b"\x89PNG"),
        "byte 0 is not UTF-8 text, expected a table of landmarks"),
    "no JSON": (
        "a.mrk.json", holds(TEXT), "line 1, column 1 is not valid JSON (Expecting value)"),
    "a pipe": (
        "a.csv", os.mkfifo, "cannot be read (no regular file), expected a table of landmarks"),
    "huge JSON": (
        "a.json", sized(LARGEST_TEXT_BYTES + 1),
        "holds 16777217 bytes, expected a JSON file of at most 16777216 bytes"),
    "huge table": (
        "a.csv", sized(LARGEST_TEXT_BYTES + 1),
        "holds 16777217 bytes, expected a table of landmarks of at most 16777216 bytes"),
    "deep JSON": (
        "a.json", holds("[" * 100_000), "is nested too deeply, expected a few levels of JSON"),
    "a deep position": (
        "a.json", holds('{"frame": "LPS", "apex": ' + "[" * 400 + "]" * 400 + "}"),
        f'landmark "apex" has the position {"[" * 77}..., expected three finite numbers'),
    "a number without end": (
        "a.json", holds('{"frame": "LPS", "apex": [1, 2, ' + "9" * 5000 + "]}"),
        "holds a whole number of 5000 digits, expected at most 300"),
    "a key twice": (
        "a.json", holds('{"frame": "LPS", "apex": [1, 2, 3], "apex": [1, 2, 3]}'),
        'the key "apex" stands twice in one object, expected once'),
    "no frame": (
        "a.json", holds(json.dumps(TEMPLATE_POINTS)),
        "does not state its frame, expected LPS, RAS or pixels"),
    "another frame": (
        "a.mrk.json", holds(markups([point("apex")], "IJK")),
        "states the frame 'IJK', expected LPS, RAS or pixels"),
    "NaN": (
        "a.csv", holds(table("apex,-35,nan,84")),
        "line 3 (\"apex\") has the position ['-35', 'nan', '84'], expected three finite numbers"),
    "NaN in JSON": (
        "a.json", holds('{"frame": "LPS", "apex": [NaN, 0, 0]}'),
        "holds the number NaN, expected finite numbers"),
    "a number that is text": (
        "a.mrk.json", holds(markups([point("apex", ["1", 2, 3])])),
        'control point 1 ("apex") has the position [\'1\', 2, 3], expected three finite numbers'),
    "a comma for a point": (
        "a.csv", holds(table('apex,"-35,5",14,84')),
        "line 3 (\"apex\") has the position ['-35,5', '14', '84'], expected three finite numbers"),
    "two dimensions": (
        "a.csv", holds(table("apex,-35,14")), "line 3 has 3 fields, expected at least 4"),
    "micrometres": (
        "a.mrk.json",
        holds('{"markups": [{"coordinateSystem": "LPS", "coordinateUnits": "um"}]}'),
        "has the coordinateUnits 'um', expected mm"),
    "labels twice": (
        "a.csv", holds(table("apex,-35,14,84", "apex,-36,13,86")),
        'the landmark label "apex" stands more than once'),
    "a label that is none": (
        "a.mrk.json", holds(markups([point(None)])),
        "control point 1 has the label None, expected text without control characters"),
    "a label of two lines": (
        "a.mrk.json", holds(markups([point("apex\n\x1b[2J")])),
        "control point 1 has the label 'apex\\n\\x1b[2J', expected text without control "
        "characters"),
    "no label": ("a.csv", holds(table(",1,2,3")), "landmark 1 has the label '', expected a name"),
    "no points": ("a.csv", holds(table()), "holds no points, expected at least one landmark"),
    "other labels": (
        "a.csv", holds(table("apex,-35,14,84", "Window,-36,13,86")),
        'labels absent: "window"; labels unknown: "Window"; expected the template\'s 2 labels: '
        '"apex", "window"'),
    "outside the scan": (
        "a.csv", holds(table("apex,-35,14,84", "window,36,13,86")),
        '1 of 2 reference landmarks lie outside the volume: "window" at (36.00, 13.00, 86.00), '
        "expected all inside x -37.7 to -32.9, y 12.0 to 17.0, z 79.2 to 91.2 mm (LPS)"),
    "RAS said to be LPS": (
        "a.csv", holds(table("apex,35,-14,84", "window,36,-13,86")),
        '2 of 2 reference landmarks lie outside the volume: "apex" at (35.00, -14.00, 84.00), '
        '"window" at (36.00, -13.00, 86.00), '
        "expected all inside x -37.7 to -32.9, y 12.0 to 17.0, z 79.2 to 91.2 mm (LPS)"),
    "none placed": (
        "a.mrk.json",
        holds(markups([point(label, positionStatus="undefined") for label in TEMPLATE_POINTS])),
        "none of the 2 reference landmarks has a position, expected at least one"),
}  # fmt: skip

SEGMENTATIONS: dict[str, tuple[str, Make, str]] = {
    "empty": (
        "s.nii.gz", voxels(labels(0)),
        "no voxel has one of the labels 1, 2; the values found are 0"),
    "other labels": (
        "s.nii.gz", voxels(labels(7)),
        "no voxel has one of the labels 1, 2; the values found are 0, 7"),
    "fractions": (
        "s.nrrd", voxels(labels(0.5)), "holds fractions, expected a segmentation of whole labels"),
    "another size": (
        "s.nrrd", voxels(labels()[1:], Grid((12, 10, 7), GRID.spacing, GRID.origin, np.eye(3))),
        "has (12, 10, 7) voxels, expected the (12, 10, 8) of its scan"),
    "another place": (
        "s.nrrd", voxels(labels(), Grid(SIZE, GRID.spacing, GRID.origin + 2, np.eye(3))),
        "has the origin [-35.5, 14.25, 82.0], expected its scan's [-37.5, 12.25, 80.0] within "
        "0.001"),
    "another spacing": (
        "s.nrrd", voxels(labels(), Grid(SIZE, GRID.spacing * 2, GRID.origin, np.eye(3))),
        "has the spacing [0.8, 1.0, 3.0], expected its scan's [0.4, 0.5, 1.5] within 0.001"),
    "NaN": (
        "s.nrrd", voxels(labels(np.nan)),
        "27 voxels hold NaN or infinity, expected finite values"),
}  # fmt: skip


class Trap:
    """Leaves a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def sprung(path: Path) -> Path:
    return path.with_name("sprung")


def pickled(path: Path) -> None:
    path.write_bytes(pickle.dumps(Trap(sprung(path))))


def pickled_array(path: Path) -> None:
    np.savez(path, description=np.array([Trap(sprung(path))], dtype=object), allow_pickle=True)


def archive_bomb(path: Path) -> None:
    np.savez_compressed(path, weights=np.zeros(10))
    content = bytearray(path.read_bytes())
    # The archive's directory says how many bytes its first member unpacks to.
    struct.pack_into("<I", content, content.index(b"PK\1\2") + 24, 3_000_000_000)
    path.write_bytes(content)


def huge_array(path: Path) -> None:
    header = io.BytesIO()
    shape = {"descr": "<f4", "fortran_order": False, "shape": (10**12,)}
    np.lib.format.write_array_header_1_0(header, shape)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("description.npy", header.getvalue())


NO_WEIGHTS = (
    "cannot be read as the weights of a network ({}), expected a file that a training wrote"
)
WEIGHTS: dict[str, tuple[Make, str]] = {
    "not there": (
        not_there, NO_WEIGHTS.format("[Errno 2] No such file or directory: 'w.npz'")),
    "text": (holds(TEXT), NO_WEIGHTS.format("File is not a zip file")),
    "a pickle": (pickled, NO_WEIGHTS.format("File is not a zip file")),
    "a pickle in the archive": (
        pickled_array,
        NO_WEIGHTS.format("Object arrays cannot be loaded when allow_pickle=False")),
    "an archive that is too large": (
        archive_bomb,
        "unpacks to 3000000000 bytes, expected the weights of a network of at most 1073741824 "
        "bytes"),
    "an array that is too large": (
        huge_array,
        NO_WEIGHTS.format("Unable to allocate 3.64 TiB for an array with shape (1000000000000,) "
                          "and data type float32")),
}  # fmt: skip


# What the commands say


@pytest.fixture
def run(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Runs a stage; no library may say anything past the program."""

    def quiet(stage: Stage, scan: str, **given: Any) -> Outcome:
        done = run_stage(stage, tmp_path / "out", [scan], **given)
        assert capfd.readouterr() == ("", "")
        return done

    return quiet


def refusal(done: Outcome, folder: Path) -> str:
    """What a command that must refuse its input says, without the folder; it leaves nothing."""
    assert_refused(done)
    left = [path for path in (folder / "out").rglob("*") if path.is_file()]
    assert [path.suffix for path in left if path.suffix not in (".npz", ".npy")] == [".log"]
    return done.stderr.strip().replace(f"{folder}/", "")


@pytest.mark.parametrize("case", SCANS)
def test_a_bad_scan(case: str, tmp_path: Path, run: Callable[..., Outcome]) -> None:
    name, make, said = SCANS[case]
    make(tmp_path / name)
    done = run(LOCATE, TEMPLATE, sheet={TEMPLATE: {"image": tmp_path / name}})
    found = refusal(done, tmp_path)
    assert found == (name + said if said.startswith("/") else f"{name}: {said}")


@pytest.mark.parametrize("case", SCANS)
def test_a_bad_scan_is_digested_all_the_same(
    case: str, tmp_path: Path, run: Callable[..., Outcome]
) -> None:
    """What is wrong with one scan is told by the stage that reads it, and stops no other scan."""
    name, make, _ = SCANS[case]
    make(tmp_path / name)
    assert run(DIGESTS, "a", sheet={"a": {"image": tmp_path / name}}).status == 0
    assert path_of(tmp_path / "out", DIGESTS, "record", "a").exists()


def references(
    folder: Path, landmarks: Path, frame: str = "", template: Path | None = None
) -> dict[str, Any]:
    """What the sheet says of a scan and of the template, which is the scan itself by default."""
    write_volume(scan(), folder / "scan.nii.gz")
    row = {"image": folder / "scan.nii.gz", "landmarks": landmarks, "frame": frame}
    if template is None:
        return {TEMPLATE: row}
    return {"a": row, TEMPLATE: {**row, "landmarks": template, "frame": ""}}


@pytest.mark.parametrize("case", LANDMARKS)
def test_bad_landmarks(case: str, tmp_path: Path, run: Callable[..., Outcome]) -> None:
    name, make, said = LANDMARKS[case]
    template = tmp_path / "template.json"
    template.write_text(json.dumps(TEMPLATE_POINTS | {"frame": "LPS"}))
    make(tmp_path / name)
    done = run(REFERENCES, "a", sheet=references(tmp_path, tmp_path / name, "", template))
    assert done.status == 0
    record = read_record(path_of(tmp_path / "out", REFERENCES, "record", "a"))
    assert (record.status, record.reason) == ("refused", f"{tmp_path / name}: {said}")
    assert done.stderr == f"a: refused: {record.reason}\n"


DISAGREE = "states the frame RAS, but LPS was said to be its frame; expected them to agree"


def test_landmarks_in_another_frame_than_the_sheet_says(
    tmp_path: Path, run: Callable[..., Outcome]
) -> None:
    path = tmp_path / "a.csv"
    path.write_text(table("apex,-35,14,84", frame="RAS"))
    done = run(REFERENCES, TEMPLATE, sheet=references(tmp_path, path, "LPS"))
    assert refusal(done, tmp_path) == f"a.csv: {DISAGREE}"


@pytest.mark.parametrize(
    ("points", "said"),
    [
        (
            [point("apex"), point("window", positionStatus="missing")],
            'the landmark "window" has no position, expected one',
        ),
        (
            [point("apex"), point("window", [36, 13, 86])],
            '1 of 2 reference landmarks lie outside the volume: "window" at '
            "(36.00, 13.00, 86.00), expected all inside x -37.7 to -32.9, y 12.0 to 17.0, "
            "z 79.2 to 91.2 mm (LPS)",
        ),
    ],
    ids=["one missing", "outside the template's scan"],
)
def test_bad_landmarks_of_the_template(
    points: list[Any], said: str, tmp_path: Path, run: Callable[..., Outcome]
) -> None:
    template = tmp_path / "t.mrk.json"
    template.write_text(markups(points))
    done = run(REFERENCES, TEMPLATE, sheet=references(tmp_path, template))
    assert refusal(done, tmp_path) == f"t.mrk.json: {said}"


@pytest.mark.parametrize("case", SEGMENTATIONS)
def test_a_bad_segmentation(case: str, tmp_path: Path, run: Callable[..., Outcome]) -> None:
    name, make, said = SEGMENTATIONS[case]
    make(tmp_path / name)
    write_volume(scan(), tmp_path / "scan.nii.gz")
    row = {"image": tmp_path / "scan.nii.gz", "segmentation": tmp_path / name}
    settings = {"labels": [1, 2], "target": {"above": 0.0, "margin_mm": 1.5}}
    done = run(TARGET, TEMPLATE, settings=settings, sheet={TEMPLATE: row})
    assert refusal(done, tmp_path) == f"{name}: {said}"


@pytest.mark.parametrize("case", WEIGHTS)
def test_bad_weights(case: str, tmp_path: Path, run: Callable[..., Outcome]) -> None:
    make, said = WEIGHTS[case]
    weights = path_of(tmp_path / "out", CENTRE, "weights")
    weights.parent.mkdir(parents=True)
    make(weights)
    name = str(weights.relative_to(tmp_path))
    assert refusal(run(CENTRE, "a"), tmp_path) == f"{name}: {said.replace('w.npz', name)}"
    assert not sprung(weights).exists()


# Studies: what is known before anything runs

BY_HAND = {"image": "t.mha", "landmarks": "t.fcsv"}


def of_sheet(rows: str, **template: str) -> dict[str, Any]:
    Path("samples.tsv").write_text(rows, encoding="utf-8")
    return {"sheet": {"sheet": "samples.tsv", "template": BY_HAND | template}}


def of_template(scan: str) -> dict[str, Any]:
    return {"a": {"method": "oneshot", "template": scan}}


def rows(*lines: str) -> str:
    return "\n".join(["scan\timage\tside\tlandmarks\tframe", *lines, ""])


def of_folder(*names: str) -> dict[str, Any]:
    for name in names:
        Path("mine", name).parent.mkdir(parents=True, exist_ok=True)
        Path("mine", name).touch()
    return {"folder": "mine"}


ID = "expected up to 64 letters, digits, dots, - and _, the first a letter or digit"
WHOLE = ("template/scan.nii", "template/landmarks.csv")
LONG = "a" * 300

STUDIES: dict[str, tuple[Callable[[], Any], str]] = {
    "an unknown key": (
        lambda: {"sed": 2, "data": {"cohort": {}}}, "config: `sed` is not a known key"),
    "an unknown key deep down": (
        lambda: {"data": {"cohort": {"anatomy": {"shift": 3}}}},
        "config: `data.cohort.anatomy.shift` is not a known key"),
    "a wrong type": (
        lambda: {"seed": "one", "data": {}},
        "config: `seed` is 'one': input should be a valid integer, unable to parse string as an "
        "integer"),
    "a number for a name": (
        lambda: {"study": 2020, "data": {}},
        "config: `study` is 2020: input should be a valid string"),
    "a study elsewhere": (
        lambda: {"study": "../other", "data": {}},
        "config: `study` is '../other': string should match pattern "
        "'^[A-Za-z0-9][A-Za-z0-9_-]*$'"),
    "NaN": (
        lambda: {"data": {}, "target": {"above": float("nan")}},
        "config: `target.above` is nan: input should be a finite number"),
    "no source": (
        lambda: {"data": {}},
        "config: `data` gives no source, expected one of folder, cohort, sheet and origin"),
    "a template that is no scan": (
        lambda: {"data": {"cohort": {"scans": 2, "evaluated": 1}}, "runs": of_template("ear999")},
        "config: `runs.a`: the template is 'ear999', expected an annotated scan, such as ear001"),
    "a template without landmarks": (
        lambda: {"data": {"cohort": {"scans": 2, "evaluated": 1}}, "runs": of_template("ear002")},
        "config: `runs.a`: the template is 'ear002', expected an annotated scan, such as ear001"),
    "no sheet": (
        lambda: {"data": {"sheet": {"sheet": "none.tsv", "template": BY_HAND}}},
        "none.tsv: no such file, expected a sheet of scans"),
    "an empty sheet": (
        lambda: {"data": of_sheet("")},
        "samples.tsv: is empty, expected a header and one row for each scan"),
    "no scans": (
        lambda: {"data": of_sheet(rows())},
        "samples.tsv: has a header and no rows, expected one for each scan"),
    "commas for tabs": (
        lambda: {"data": of_sheet("scan,image\na,a.mha\n")},
        "samples.tsv: is separated by commas, expected tabs"),
    "a sheet of another program": (
        lambda: {"data": of_sheet("scan\timage\na\t\0\n")},
        "samples.tsv, row 2: `image` is '\\x00' with a control character or a byte that is no "
        "UTF-8, expected a name without"),
    "an endless cell": (
        lambda: {"data": of_sheet(rows("a\t" + "a" * 200_000))},
        "samples.tsv, row 2: cannot be read (field larger than field limit (131072))"),
    "a folder beside a sheet": (
        lambda: {"data": of_sheet(rows("a\ta.mha")) | {"folder": "mine"}},
        "config: the scans are said twice, as those of the sheet samples.tsv (`data.sheet`) and of "
        "the folder mine (DATA, or `data.folder`), expected one of them; leave the folder out, or "
        "state another study without a sheet"),
    "DATA for a study that has a sheet": (
        lambda: {"data": of_sheet(rows("a\ta.mha")), "data_folder": "mine"},
        "config: the scans are said twice, as those of the sheet samples.tsv (`data.sheet`) and of "
        "the folder mine (DATA, or `data.folder`), expected one of them; leave the folder out, or "
        "state another study without a sheet"),
    "ids twice": (
        lambda: {"data": of_sheet(rows("a\ta.mha", "b\ta.mha", "a\ta.mha"))},
        "samples.tsv, row 4: the scan id `a` stands at samples.tsv, row 2 already, expected each "
        "once"),
    "ids that are one with dashes for dots": (
        lambda: {"data": of_sheet(rows("1-2-3\ta.mha", "1.2.3\ta.mha"))},
        "samples.tsv, row 3 (1.2.3): the scan id `1-2-3` stands at samples.tsv, row 2 already, "
        "expected each once"),
    "a series by its name": (
        lambda: {"data": of_sheet("scan\timage\tseries\na\ta.mha\tT1\n")},
        "samples.tsv, row 2: `series` is 'T1': expected the number of a DICOM series, such as 3, "
        "or its UID"),
    "a series of a file": (
        lambda: {"data": of_sheet("scan\timage\tseries\na\ta.mha\t3\n")},
        "samples.tsv, row 2: `series` is 3, but a.mha is no folder, expected one with DICOM files"),
    "a folder as id": (
        lambda: {"data": of_sheet(rows("x/y\ta.mha"))},
        f"samples.tsv, row 2: the scan id is 'x/y', {ID}"),
    "a space in an id": (
        lambda: {"data": of_sheet(rows("x y\ta.mha"))},
        f"samples.tsv, row 2: the scan id is 'x y', {ID}"),
    "a folder above as id": (
        lambda: {"data": of_sheet(rows("..\ta.mha"))},
        f"samples.tsv, row 2: the scan id is '..', {ID}"),
    "a dash before an id": (
        lambda: {"data": of_sheet(rows("-a\ta.mha"))},
        f"samples.tsv, row 2: the scan id is '-a', {ID}"),
    "a command as id": (
        lambda: {"data": of_sheet(rows("$(id)\ta.mha"))},
        f"samples.tsv, row 2: the scan id is '$(id)', {ID}"),
    "a scan that is not there": (
        lambda: {"data": of_sheet(rows("a\ta.mha", "b\tb.mha"))},
        "samples.tsv, row 3: the file b.mha of column `image` does not exist"),
    "a name too long": (
        lambda: {"data": of_sheet(rows(f"a\t{LONG}"))},
        f"samples.tsv, row 2: the file {LONG} of column `image` does not exist"),
    "landmarks that are not there": (
        lambda: {"data": of_sheet(rows("a\ta.mha", "b\ta.mha\t\tb.csv"))},
        "samples.tsv, row 3: the file b.csv of column `landmarks` does not exist"),
    "a template that is not there": (
        lambda: {"data": of_sheet(rows("a\ta.mha"), image="b.mha")},
        "config: `data.sheet.template`: the file b.mha of column `image` does not exist"),
    "another side": (
        lambda: {"data": of_sheet(rows("a\ta.mha\tboth"))},
        "samples.tsv, row 2: `side` is 'both': input should be 'left', 'right' or ''"),
    "another frame": (
        lambda: {"data": of_sheet(rows("a\ta.mha\t\tt.fcsv\tscanner"))},
        "samples.tsv, row 2: `frame` is 'scanner': input should be 'LPS', 'RAS', 'pixels' or ''"),
    "an option as path": (
        lambda: {"data": of_sheet(rows("a\ta.mha"), image="-t.mha")},
        "config: `data.sheet.template`: `image` is '-t.mha' with a dash in front, as options "
        "have, expected its whole path"),
    "a wildcard as path": (
        lambda: {"data": of_sheet(rows("a\t{scan}.mha"))},
        "samples.tsv, row 2: `image` is '{scan}.mha' with a brace, which stands for a wildcard, "
        "expected a name without"),
    "no folder": (
        lambda: {"data": {"folder": "nowhere"}},
        "nowhere: no such folder, expected one with template/ and scans/"),
    "a folder without its template": (
        lambda: {"data": of_folder("scans/a.nii", "template/scan.nii")},
        "mine/template: found no landmarks (landmarks.mrk.json) of the template"),
    "a folder without scans": (
        lambda: {"data": of_folder(*WHOLE)},
        "mine/scans: no such folder, expected the scans to annotate"),
    "an empty folder": (
        lambda: {"data": of_folder(*WHOLE, "scans/notes.txt")},
        "study mine: there is no scan, expected at least one"),
    "ids twice in a folder": (
        lambda: {"data": of_folder(*WHOLE, "scans/a b.nii", "scans/a-b.nii")},
        "mine/scans/a-b.nii: the scan id `a-b` stands at mine/scans/a b.nii already, expected "
        "each once"),
    "a dash before a name": (
        lambda: {"data": of_folder(*WHOLE, "scans/-a.nii")},
        f"mine/scans/-a.nii: the scan id is '-a', {ID}"),
    "two lines in a name": (
        lambda: {"data": of_folder(*WHOLE, "scans/a\nb.nii")},
        "mine/scans/a\\nb.nii: `image` is 'mine/scans/a\\nb.nii' with a control character or a "
        "byte that is no UTF-8, expected a name without"),
}  # fmt: skip
# What Snakemake is asked, too: each takes it two seconds.
ASKED = ("an unknown key", "ids twice", "a folder without its template")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with the files of BY_HAND."""
    monkeypatch.chdir(tmp_path)
    for name in ("t.mha", "t.fcsv", "a.mha"):
        Path(name).touch()
    return tmp_path


@pytest.mark.parametrize("case", STUDIES)
def test_a_bad_study(case: str, here: Path) -> None:
    make, said = STUDIES[case]
    with pytest.raises(InputError) as error:
        study_of({"study": "mine", **make()}, METHODS, Path("results"), Path("studies"))
    assert str(error.value) == said


def refused(root: Path, folder: Path, *options: object) -> str:
    """What Snakemake says of a study that it must not begin."""
    run = run_workflow(root, folder, *options)
    assert run.status == 1
    assert "Traceback" not in run.text
    assert not (folder / "results").exists()
    (said,) = run.complaints
    return said


@pytest.mark.parametrize("case", ASKED)
def test_snakemake_says_of_a_bad_study_just_that(case: str, root: Path, here: Path) -> None:
    make, said = STUDIES[case]
    study = here / "study.yaml"
    study.write_text(yaml.safe_dump({"study": "mine", **make()}), encoding="utf-8")
    assert refused(root, here, "--configfile", study) == f"landmarkflow: {said}"


OPTIONS = {
    "datafolder=scans": "config: `datafolder` is not a known key",
    "data_folder=nowhere": "nowhere: no such folder, expected one with template/ and scans/",
    "seeds=1 1": "config: `runs.oneshot`: `seeds` are [1, 1], expected different ones",
}


@pytest.mark.parametrize("option", OPTIONS)
def test_snakemake_says_what_is_wrong_with_an_option(
    option: str, root: Path, tmp_path: Path
) -> None:
    assert refused(root, tmp_path, "--config", option) == f"landmarkflow: {OPTIONS[option]}"


def test_a_configuration_builds_no_python_objects(root: Path, here: Path) -> None:
    study = here / "study.yaml"
    study.write_text('study: !!python/object/apply:os.mkdir ["sprung"]\n', encoding="utf-8")
    run = run_workflow(root, here, "--configfile", study)
    assert run.status == 1
    assert "Traceback" not in run.text
    assert not (here / "sprung").exists()


# Nothing in a name is a command

FOLDER = "my $(mkdir sprung) scans"
NAMES = ('it\'s a "b"', "b $(mkdir sprung) `mkdir sprung`", "c;mkdir sprung #&|>*", "d é \\ ~ !")
# One batch, and the steps that a study may leave out, whose rules have commands too.
ALL_STEPS = {
    "batch_scans": len(NAMES),
    "data": {"landmarks": []},
    "oneshot": {"vote": {"peers": 1}, "symmetrise": {"enabled": True}},
}
# What stands for Python: it shows its arguments.
SHOW = "python() { printf '%s\\0' \"$@\"; }; "


@pytest.fixture
def named(here: Path) -> tuple[object, ...]:
    """Options of a study of scans with such names, in a folder with such a name."""
    folder = here / FOLDER
    for number, name in enumerate(NAMES, start=1):
        image = scan()
        image[0, 0, 0] = number  # One image under several names would be refused.
        write_volume(image, folder / f"scans/{name}.nii.gz")
        (folder / "landmarks").mkdir(exist_ok=True)
        rows = (f"{label},{x},{y},{z}" for label, (x, y, z) in TEMPLATE_POINTS.items())
        (folder / f"landmarks/{name}.csv").write_text(table(*rows))
    write_volume(scan(), folder / "template/scan.nii.gz")
    (folder / "template/landmarks.csv").write_text(table("apex,-35,14,84", "window,-36,13,86"))
    steps = here / "steps.yaml"
    steps.write_text(yaml.safe_dump(ALL_STEPS), encoding="utf-8")
    return "--configfile", TINY, steps, "--config", f"data_folder={FOLDER}", "study=mine"


def texts(word: str) -> Iterator[str]:
    """A word of a command, or the texts in it where it is JSON."""
    if not word.startswith("{"):
        yield word
        return
    inner: list[Any] = [json.loads(word)]
    while inner:
        value = inner.pop()
        if isinstance(value, dict | list):
            inner += value.values() if isinstance(value, dict) else value
        else:
            yield str(value)


def test_names_are_quoted_in_every_command(
    root: Path, here: Path, named: tuple[object, ...]
) -> None:
    """A shell hands every path on as it is, and does nothing else with it."""
    run = run_workflow(root, here, *named, "--dry-run", "--printshellcmds", "--notemp")
    assert run.status == 0, run.text
    commands = [re.split(r"\n\n|\n\[", text)[0] for text in run.text.split("Shell command: ")[1:]]
    assert len(commands) == sum(run.jobs.values())
    paths = {str(path.relative_to(here)) for path in (here / FOLDER).rglob("*.*")}
    handed_on = set()
    for command in commands:
        if command.startswith("python "):
            shell = ["bash", "-euo", "pipefail", "-c", SHOW + command]
            done = subprocess.run(shell, cwd=here, capture_output=True, check=True)
            words = done.stdout.decode().split("\0")
            # Settings and sheet are JSON, in which paths stand too.
            found = {text for word in words for text in texts(word)}
            assert {text for text in found if "(mkdir" in text} <= {*paths, FOLDER}
            handed_on |= found
    assert paths <= handed_on
    assert list(here.rglob("sprung")) == []


def test_names_are_names(root: Path, here: Path, named: tuple[object, ...]) -> None:
    rules = ("check_references_001", "locate_regions_001", "write_sheet")
    run = run_workflow(root, here, *named, "--notemp", "--until", *rules)
    assert run.status == 0, run.text
    results = here / "results/mine"
    assert len(list((results / "work/references").glob("*.mrk.json"))) == len(NAMES)
    assert len(list((results / "work/locate").glob("*.nii.gz"))) == len(NAMES)
    lines = (results / "samples.tsv").read_text(encoding="utf-8").splitlines()
    again = list(csv.DictReader(lines, delimiter="\t"))
    assert {Path(row["image"]).name for row in again} == {f"{name}.nii.gz" for name in NAMES}
    assert list(here.rglob("sprung")) == []


# Whatever a file holds, it is read or refused in one sentence

WHOLE_FILES: dict[str, bytes] = {
    "a.nii": nifti_bytes(),
    "a.nrrd": nrrd_bytes("space: LPS"),
    "a.mha": meta_image_bytes(AXES),
    "a.mrk.json": markups([point(label) for label in TEMPLATE_POINTS]).encode(),
    "a.json": json.dumps(TEMPLATE_POINTS | {"frame": "LPS"}).encode(),
    "a.csv": table("apex,-35,14,84", "window,-36,13,86").encode(),
    "a.fcsv": b"# CoordinateSystem = LPS\n1,1,2,3,0,0,0,1,1,1,0,apex,,\n",
    "samples.tsv": rows("a\ta.mha\tleft\tt.fcsv\tRAS").encode(),
}
damages = st.lists(
    st.tuples(st.integers(0, 351), st.integers(0, 2), st.binary(max_size=6)), min_size=1, max_size=4
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


def read_or_refused(path: Path) -> None:
    try:
        if path.suffix in (".nii", ".nrrd", ".mha"):
            read_volume(path)
        elif path.suffix == ".tsv":
            read_sheet(path)
        else:
            read_landmarks(path)
    except InputError as error:
        assert str(path.parent) in str(error)
        assert len(str(error).splitlines()) == 1


@pytest.mark.parametrize("name", WHOLE_FILES)
@given(damage=damages)
def test_a_damaged_file_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, name: str, damage: list[tuple[int, int, bytes]]
) -> None:
    content = bytearray(WHOLE_FILES[name])
    for place, removed, put in damage:
        start = place % min(len(content), 352)
        content[start : start + removed] = put
    path = tmp_path_factory.getbasetemp() / name
    path.write_bytes(content)
    read_or_refused(path)


@given(value=json_values, key=st.sampled_from(["position", "label", "positionStatus", "radius_mm"]))
def test_any_json_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, value: Any, key: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.json"
    node = {"coordinateSystem": "LPS", "controlPoints": [point("apex") | {key: value}]}
    named = ("coordinateSystem", "coordinateUnits", "controlPoints")
    for data in (
        value,
        {"markups": value},
        {"markups": [value]},
        {"markups": [node]},
        *({"markups": [node | {name: value}]} for name in named),
        {"frame": value},
        {"frame": "LPS", "apex": value},
    ):
        path.write_text(json.dumps(data), encoding="utf-8")
        read_or_refused(path)


@given(
    value=json_values,
    key=st.sampled_from(
        ["study", "base", "seed", "seeds", "data", "data_folder", "runs", "oneshot"]
    ),
)
def test_any_configuration_is_read_or_refused(value: Any, key: str) -> None:
    mine = {"study": "mine", "data": {"cohort": {}}}
    for raw in (
        mine | {key: value},
        mine | {"seeds": "1 2", key: value},
        mine | {"data_folder": "nowhere", key: value},
        mine | {"runs": {"a": value}},
        mine | {"runs": {"a": {"method": "oneshot", "preset": value}}},
        mine | {"data": {"folder": value}},
    ):
        try:
            study_of(raw, METHODS, Path("results"), Path("studies"))
        except InputError as error:
            assert len(str(error).splitlines()) == 1


# What the documentation quotes


def quotations() -> list[str]:
    """Pieces of sentences between the ellipses of the second column of docs/inputs.md's tables."""
    text = (Path(__file__).parents[1] / "docs/inputs.md").read_text(encoding="utf-8")
    # The tables of formats name fields, and quote nothing.
    text = text.partition("## Formats")[0]
    cells = [line.split(" | ")[1] for line in text.splitlines() if line.startswith("| ")]
    quoted = [piece for cell in cells for piece in re.findall(r"``(.+?)``|`(.+?)`", cell)]
    pieces = [part.strip(" ()") for pair in quoted for part in "".join(pair).split("…")]
    return sorted({piece for piece in pieces if piece})


@cache
def said_of_pictures() -> tuple[str, ...]:
    """What the tests of folders of pictures and of gaze expect, word by word."""
    texts = []
    for name in ("test_picture_study", "test_gaze", "test_splits"):
        source = (Path(__file__).parent / f"{name}.py").read_text(encoding="utf-8")
        nodes = ast.walk(ast.parse(source))
        texts += [
            n.value for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str)
        ]
    return tuple(texts)


@pytest.mark.parametrize("quotation", quotations())
def test_the_documentation_quotes_what_is_said(quotation: str) -> None:
    tables = (SCANS, LANDMARKS, SEGMENTATIONS, STUDIES)
    given = [case[-1] for cases in tables for case in cases.values()]
    assert any(quotation in said for said in [*given, DISAGREE, *said_of_pictures()])
