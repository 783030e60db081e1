"""What people give a study: files that are not used are told, and no scan counts that may not."""

import json
import os
import random
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from image_files import meta_image_bytes, scan, scan_array, write_dicom
from stage_runs import path_of, run_stage
from workflow_runs import run_workflow, write_yaml

from landmarkflow.core.errors import InputError
from landmarkflow.core.grids import Grid
from landmarkflow.core.points import Landmarks, PointList
from landmarkflow.core.records import TEMPLATE, read_record
from landmarkflow.data.stages import REFERENCES
from landmarkflow.formats.slicer import write_markups
from landmarkflow.formats.written import write_volume
from landmarkflow.images.operations import grid_of, image_on
from landmarkflow.methods.oneshot.stages import VOTE
from landmarkflow.registry import METHODS, STAGES
from landmarkflow.study.folder import MOST_NAMED
from landmarkflow.study.sheet import read_sheet
from landmarkflow.study.study import Study
from landmarkflow.workflow.configured import study_of
from landmarkflow.workflow.rules import Workflow

AXES = "1 0 0 0 1 0 0 0 1"
VOXELS = scan_array().astype("<i2").tobytes()
IMAGES = "NIfTI (.nii, .nii.gz), NRRD (.nrrd, .nhdr), MetaImage (.mha, .mhd), a picture (.png, "
IMAGES += ".jpg, .tif) or a DICOM folder"
EACH = "one file for each of scan, landmarks, segmentation"
KNOWN = "one of template, scans, landmarks, segmentations, training, samples.tsv"
POINTS = "one of .mrk.json, .fcsv, .csv, .json, once for each scan"


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder whose scans are h03 and h08."""
    names = ("template/scan.nii", "template/landmarks.csv", "scans/h03.nii.gz", "scans/h08.nrrd")
    touch(tmp_path / "mine", *names)
    return tmp_path / "mine"


def study(folder: Path, told: list[str], **stated: Any) -> Study:
    """The study of a folder of scans; what is told at its start is put into `told`."""
    data = {"folder": str(folder), **stated.pop("data", {})}
    results = folder.parent / "results"
    raw = {"study": "mine", "data": data, **stated}
    return study_of(raw, METHODS, results, Path("studies"), told.append)


def told_of(folder: Path, **stated: Any) -> list[str]:
    """What is told, without the folder's name."""
    told: list[str] = []
    study(folder, told, **stated)
    return [line.replace(f"{folder}/", "") for line in told]


def refused(folder: Path, **stated: Any) -> str:
    with pytest.raises(InputError) as error:
        study(folder, [], **stated)
    assert "\n" not in str(error.value)
    return str(error.value).replace(f"{folder}/", "")


# Files that are not used


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("scans/h18.dcm", IMAGES),
        ("scans/h18.hdr", IMAGES),
        ("scans/h18.nii.bz2", IMAGES),
        ("scans/notes", IMAGES),
        ("landmarks/h03.txt", POINTS),
        ("landmarks/old/h03.csv", POINTS),
        ("segmentations/h03.seg", f"{IMAGES}, once for each scan"),
        ("template/segmentation.nii.bz2", EACH),
        ("template/landmarks.json", EACH),
        ("Landmarks/h03.csv", KNOWN),
        ("samples.csv", KNOWN),
        ("training/scans/t.dcm", IMAGES),
        ("training/landmarks/t.txt", POINTS),
    ],
)
def test_a_file_that_is_not_used_is_told(folder: Path, name: str, expected: str) -> None:
    touch(folder, name)
    unused = "landmarks/old" if "old" in name else name.removesuffix("/h03.csv")
    assert told_of(folder) == [f"{unused}: is not used, expected {expected}"]


def test_of_many_files_alike_some_are_named_and_the_others_counted(folder: Path) -> None:
    touch(folder, *(f"scans/{number:03d}.dcm" for number in range(MOST_NAMED + 7)))
    *named, last = told_of(folder)
    assert [line.partition(":")[0] for line in named] == [
        f"scans/{number:03d}.dcm" for number in range(MOST_NAMED)
    ]
    assert last.endswith('scans: 7 more files with the suffix ".dcm" are not used')


def test_notes_beside_the_folders_and_parts_of_scans_are_not_told(folder: Path) -> None:
    touch(folder, "README.md", "scans/series/1.dcm")
    for place in ("scans/a", "template/scan"):
        (folder / f"{place}.mhd").write_bytes(meta_image_bytes(AXES, "a.raw").removesuffix(VOXELS))
        (folder / place).with_name("a.raw").write_bytes(place.encode() + VOXELS[len(place) :])
    (folder / "template/scan.nii").unlink()
    told: list[str] = []
    assert list(study(folder, told).scans) == ["a", "h03", "h08", "series"]
    assert told == []


@pytest.mark.parametrize("place", ["scans", "landmarks", "training/scans", "template", "."])
def test_what_systems_leave_is_passed_over_and_folders_are_told(folder: Path, place: str) -> None:
    touch(folder, "training/scans/t.nii", "training/landmarks/t.csv", "landmarks/h03.csv")
    for name in (".DS_Store", "._h03.nii.gz", "Thumbs.db", "desktop.ini"):
        touch(folder, f"{place}/{name}")
    folders = ("@eaDir", "__MACOSX", ".thumbnails")
    touch(folder, *(f"{place}/{name}/h03.nii.gz" for name in folders))
    told: list[str] = []
    found = study(folder, told)
    assert (list(found.scans), list(found.training)) == (["h03", "h08"], ["t"])
    said = {f"{folder / place / name}: is passed over, a folder that" for name in folders}
    assert {line.partition(" a system")[0] for line in told} == said


# References


HINTED = ("h08_landmarks.csv", "H08-landmarks.csv", "h08 .csv", "h 08.csv", "landmarks_h08.csv")


@pytest.mark.parametrize("name", [*HINTED, "h18.csv"])
def test_a_reference_of_no_scan_is_refused_with_a_hint(folder: Path, name: str) -> None:
    touch(folder, f"landmarks/{name}", "landmarks/h03.csv")
    said = f"landmarks/{name}: belongs to no scan, expected the name of one"
    assert refused(folder) == said + ("; is h08.csv meant?" if name in HINTED else "")


def test_all_references_of_no_scan_are_named(folder: Path) -> None:
    touch(folder, "segmentations/a.nii.gz", "segmentations/h08_seg.nii.gz", "segmentations/z.nrrd")
    said = "segmentations/a.nii.gz: belongs to no scan, expected the name of one (and "
    assert refused(folder) == said + "h08_seg.nii.gz, z.nrrd)"


def test_other_capitals_are_taken_as_meant_and_told(folder: Path) -> None:
    touch(folder, "landmarks/H03.MRK.JSON", "segmentations/H08.nii", "landmarks/h08.csv")
    told: list[str] = []
    scans = study(folder, told).scans
    assert scans["h03"].landmarks == str(folder / "landmarks/H03.MRK.JSON")
    assert scans["h08"].segmentation == str(folder / "segmentations/H08.nii")
    assert [line.replace(f"{folder}/", "") for line in told] == [
        "landmarks/H03.MRK.JSON: is taken for the scan h03, which differs in capitals alone",
        "segmentations/H08.nii: is taken for the scan h08, which differs in capitals alone",
    ]


def test_capitals_that_leave_a_choice_are_refused(folder: Path) -> None:
    touch(folder, "landmarks/h03.csv", "landmarks/H03.csv")
    assert "landmarks/H03.csv: belongs to no scan" in refused(folder)
    touch(folder, "scans/H03.nii.gz", "scans/ear.nii", "scans/EAR.nii")
    assert told_of(folder) == []
    touch(folder, "landmarks/Ear.csv")
    assert "landmarks/Ear.csv: belongs to no scan" in refused(folder)


def test_of_two_references_the_first_format_is_taken_and_the_other_told(folder: Path) -> None:
    touch(folder, "landmarks/h03.csv", "landmarks/h03.mrk.json")
    told: list[str] = []
    assert study(folder, told).scans["h03"].landmarks.endswith("h03.mrk.json")
    assert [line.replace(f"{folder}/", "") for line in told] == [
        f"landmarks/h03.csv: is not used, expected {POINTS}"
    ]


# Tables


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_capitals_and_spaces_of_a_table_do_not_matter(folder: Path, mark: str, end: str) -> None:
    lines = [f"{mark}Scan \t SIDE\tscale", " H03 \tL\t2.5", "h08\t Right"]
    (folder / "samples.tsv").write_bytes(end.join([*lines, ""]).encode())
    told: list[str] = []
    scans = study(folder, told).scans
    sides = {name: (scan.side, scan.scale) for name, scan in scans.items()}
    assert sides == {"h03": ("left", 2.5), "h08": ("right", None)}
    said = "row 2: is taken for the scan h03, which differs in capitals alone"
    unused = (
        "the side of 2 scans (h03 is the first) is not used, since the template's is not stated"
    )
    assert told[0] == f"{folder / 'samples.tsv'}, {said}"
    assert [line.partition(" (`template_side`")[0] for line in told[1:]] == [unused]


def test_a_sheet_s_side_frame_and_split_have_any_capitals(tmp_path: Path) -> None:
    touch(tmp_path, "a.nii", "a.csv")
    text = "SCAN\tImage\tside\tlandmarks\tFrame\tsplit\na\ta.nii\tRIGHT\ta.csv\tras\tTrain\n"
    (tmp_path / "samples.tsv").write_text(text)
    (found,) = read_sheet(tmp_path / "samples.tsv")
    assert (found.side, found.frame, found.split) == ("right", "RAS", "train")


@pytest.mark.parametrize(
    ("mark", "name"), [(",", "commas"), (";", "semicolons"), ("|", "bars"), (" ", "spaces")]
)
@pytest.mark.parametrize("quote", ["", '"'])
def test_another_separator_than_tabs_is_named(
    folder: Path, mark: str, name: str, quote: str
) -> None:
    cells = (("Scan", "side"), ("h03", "left"))
    lines = [mark.join(f"{quote}{cell}{quote}" for cell in row) for row in cells]
    (folder / "samples.tsv").write_text("\n".join(lines))
    assert refused(folder) == f"samples.tsv: is separated by {name}, expected tabs"


# One image


def noise(path: Path, seed: int) -> Path:
    """Writes a volume whose file is as large as others, and whose voxels are its own."""
    values = np.random.default_rng(seed).integers(-1000, 2000, scan_array().shape, np.int16)
    write_volume(image_on(grid_of(scan()), values), path)
    return path


def copied(source: Path, name: Path) -> None:
    name.parent.mkdir(parents=True, exist_ok=True)
    name.write_bytes(source.read_bytes())


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder of scans that differ, each of as many bytes and with a reference."""
    folder = tmp_path / "mine"
    noise(folder / "template/scan.nrrd", 0)
    touch(folder, "template/landmarks.csv")
    for seed, name in enumerate(("a", "b", "c"), start=1):
        noise(folder / f"scans/{name}.nii", seed)
        touch(folder, f"landmarks/{name}.csv", f"segmentations/{name}.nii")
    return folder


SAME = "scan {}: holds the same image as {}, expected another image, or another side of it that is "
SAME += "stated for each"


def test_scans_of_their_own_are_not_refused(images: Path) -> None:
    told: list[str] = []
    assert study(images, told).refused == {}
    assert told == []


def test_the_template_s_image_among_the_scans_is_refused_at_once(images: Path) -> None:
    copied(images / "template/scan.nrrd", images / "scans/a.nrrd")
    (images / "scans/a.nii").unlink()
    told: list[str] = []
    found = study(images, told, oneshot={"vote": {"peers": 1}})
    assert found.refused == {"a": SAME.format("a", "the template")}
    assert told == list(found.refused.values())
    # Nothing of it is measured, and it teaches nothing of others.
    assert (found.scans["a"].landmarks, found.scans["a"].segmentation) == ("", "")
    assert found.scans["b"].landmarks
    assert found.teaching == ("b", "c")
    flow = Workflow(found, METHODS, STAGES)
    assert flow.first(VOTE) == ["b", "c"]
    row = json.loads(flow.decides(REFERENCES, ["a", "b"])["sheet"](object()))
    assert (row["a"]["refused"], row["b"]["refused"]) == (found.refused["a"], "")


def test_one_image_under_two_names_is_refused_under_both(images: Path) -> None:
    copied(images / "scans/a.nii", images / "scans/z.nii")
    found = study(images, []).refused
    assert found == {n: SAME.format(n, f"the scan {o}") for n, o in (("a", "z"), ("z", "a"))}


def test_the_image_of_a_run_s_template_is_refused(images: Path) -> None:
    copied(images / "scans/c.nii", images / "scans/z.nii")
    runs = {"by-c": {"method": "oneshot", "template": "c"}}
    assert study(images, [], runs=runs).refused == {"z": SAME.format("z", "the scan c")}


@pytest.mark.parametrize(
    ("sides", "expected"),
    [
        ({"a": "left", "z": "right"}, []),
        ({"a": "left", "z": "left"}, ["a", "z"]),
        ({"a": "left"}, ["a", "z"]),
        ({"b": "left"}, ["a", "z"]),
    ],
)
def test_two_sides_of_one_image_are_two_scans(
    images: Path, sides: Mapping[str, str], expected: list[str]
) -> None:
    copied(images / "scans/a.nii", images / "scans/z.nii")
    rows = "".join(f"{name}\t{side}\n" for name, side in sides.items())
    (images / "samples.tsv").write_text("scan\tside\n" + rows)
    assert sorted(study(images, []).refused) == expected


def test_the_other_side_of_the_template_s_image_is_a_scan(images: Path) -> None:
    copied(images / "template/scan.nrrd", images / "scans/z.nrrd")
    (images / "samples.tsv").write_text("scan\tside\nz\tleft\n")
    for side, expected in (("right", []), ("left", ["z"]), ("", ["z"])):
        assert list(study(images, [], data={"template_side": side}).refused) == expected


def test_images_of_several_files_are_compared_in_all_of_them(images: Path) -> None:
    for name, seed in (("d", 7), ("e", 7), ("f", 8)):
        if name == "d":
            write_dicom(images / "scans/d")
        else:
            shutil.copytree(images / "scans/d", images / "scans" / name)
        (images / "scans" / name / "last.dcm").write_bytes(random.Random(seed).randbytes(100_000))
    assert list(study(images, []).refused) == ["d", "e"]
    last = images / "scans/e/last.dcm"
    last.write_bytes(last.read_bytes()[:-1] + b"?")
    assert study(images, []).refused == {}


def test_empty_files_are_not_alike(folder: Path) -> None:
    assert study(folder, []).refused == {}


# The stage that checks references


def checked(folder: Path, points: Landmarks, template: Landmarks, **row: str) -> tuple[str, str]:
    """Status and reason of a reference."""
    write_volume(scan(), folder / "a.nii")
    for name, landmarks in (("a", points), ("t", template)):
        write_markups(folder / f"{name}.mrk.json", [PointList("reference", landmarks, None)])
    sheet = {
        name: {"image": folder / "a.nii", "landmarks": folder / f"{file}.mrk.json", "frame": ""}
        for name, file in (("a", "a"), (TEMPLATE, "t"))
    }
    sheet["a"] |= row
    assert run_stage(REFERENCES, folder, ["a"], sheet=sheet).status == 0
    record = read_record(path_of(folder, REFERENCES, "record", "a"))
    written = path_of(folder, REFERENCES, "reference", "a").stat().st_size
    assert bool(written) == (record.status == "ok")
    return record.status, record.reason or ""


def inside(count: int, seed: int = 0) -> Landmarks:
    """Landmarks in the scan, at positions as they are written."""
    grid: Grid = grid_of(scan())
    index = np.random.default_rng(seed).uniform(0, np.array(grid.size) - 1, (count, 3))
    return Landmarks(tuple("abcdefgh"[:count]), grid.to_physical(index).round(4))


def test_a_reference_of_a_refused_scan_is_refused_and_empty(tmp_path: Path) -> None:
    found = checked(tmp_path, inside(4, 1), inside(4), refused="scan a: holds the same image")
    assert found == ("refused", "scan a: holds the same image")


def test_the_template_s_own_landmarks_are_no_reference_of_another_scan(tmp_path: Path) -> None:
    said = "holds the template's own landmarks, expected such as were placed in this scan"
    found = checked(tmp_path, inside(4).select(["d", "a", "c", "b"]), inside(4))
    assert found == ("refused", f"{tmp_path}/a.mrk.json: {said}")
    moved = inside(4).positions + np.eye(4, 3) * [[0.001, 0, 0]] * 1.0
    assert checked(tmp_path, Landmarks(tuple("abcd"), moved), inside(4)) == ("ok", "")
    # Two may lie at the same pixels by chance.
    assert checked(tmp_path, inside(2), inside(2)) == ("ok", "")


# Both targets of a scan


BOTH: dict[str, Any] = {"targets": "all", "template_side": "right"}


def test_all_targets_of_a_scan_are_its_left_and_its_right(images: Path) -> None:
    (images / "samples.tsv").write_text("scan\tside\tscale\na\tLeft\nb\t\t4.5\n")
    told: list[str] = []
    found = study(images, told, data=BOTH)
    expected = {"a": "left", "b-left": "left", "b-right": "right", "c-left": "left"}
    expected["c-right"] = "right"
    assert {name: scan.side for name, scan in found.scans.items()} == expected
    assert {name for name, scan in found.scans.items() if scan.landmarks} == {"a"}
    assert found.scans["b-left"].image == found.scans["b-right"].image
    assert found.scans["b-right"].scale == 4.5
    assert found.refused == {}
    said = "its reference is not used, since its side is not stated"
    assert told == [f"scan {name}: {said}" for name in ("b", "c")]
    assert list(study(images, [], data={"template_side": "right"}).scans) == ["a", "b", "c"]


def test_all_targets_need_the_template_s_side_and_free_names(images: Path) -> None:
    assert refused(images, data={"targets": "all"}) == (
        "config: `data.targets` is all, expected the template's side, too (`template_side`, or "
        "`side` of a sheet's template)"
    )
    noise(images / "scans/a-left.nii", 9)
    (images / "samples.tsv").write_text("scan\tside\na-left\tleft\n")
    assert "the scan id `a-left` stands at" in refused(images, data=BOTH)


# Snakemake

PREPARED = {"digest_scans_001", "check_references_001", "prepare_targets"}
TARGETS = ("references/a.json", "references/template.json", "target/template.nii.gz")


@pytest.fixture
def prepared(root: Path, images: Path) -> Callable[..., Any]:
    """Runs a study on the images as far as no method is asked, or says what it would run."""
    where = {scan: inside(4, seed) for seed, scan in enumerate("abc", start=1)}
    write_markups(images / "template/landmarks.mrk.json", [PointList("t", inside(4), None)])
    (images / "template/landmarks.csv").unlink()
    for name, points in where.items():
        (images / f"segmentations/{name}.nii").unlink()
        (images / f"landmarks/{name}.csv").unlink()
        write_markups(images / f"landmarks/{name}.mrk.json", [PointList("r", points, None)])
    stated = {"study": "mine", "data": {"folder": str(images)}, "target": {"margin_mm": 9}}
    path = write_yaml(images.parent / "mine.yaml", stated)
    targets = [f"results/mine/work/{name}" for name in TARGETS]
    options = (*targets, "--configfile", path)
    return lambda *more: run_workflow(root, images.parent, *options, *more)


@pytest.mark.slow
def test_files_of_any_date_are_read_and_others_of_any_date_are_seen(
    images: Path, prepared: Callable[..., Any]
) -> None:
    tomorrow = time.time() + 100_000
    for name in ("scans/a.nii", "landmarks/a.mrk.json", "template/scan.nrrd"):
        os.utime(images / name, (tomorrow, tomorrow))
    run = prepared()
    assert run.status == 0, run.text
    assert set(run.jobs) >= PREPARED
    assert prepared("--dry-run").jobs == {}

    def swap(one: str, other: str) -> None:
        (images / one).rename(images / "kept")
        (images / other).rename(images / one)
        (images / "kept").rename(images / other)

    # As one does who had confused them: each keeps its date, which may be any.
    for date in (tomorrow, 1e9):
        for name in ("b", "c"):
            os.utime(images / f"scans/{name}.nii", (date, date))
            os.utime(images / f"landmarks/{name}.mrk.json", (date, date))
        assert prepared().status == 0
        assert prepared("--dry-run").jobs == {}
        swap("landmarks/b.mrk.json", "landmarks/c.mrk.json")
        assert set(prepared("--dry-run").jobs) == {"check_references_001"}
        swap("scans/b.nii", "scans/c.nii")
        assert {"digest_scans_001", "check_references_001"} <= set(prepared("--dry-run").jobs)


@pytest.mark.slow
def test_what_is_told_stands_on_stderr_before_a_refusal(
    images: Path, prepared: Callable[..., Any]
) -> None:
    touch(images, "scans/h18.hdr", "scans/@eaDir/a.nii", "landmarks/nobody.csv")
    run = prepared("--dry-run")
    assert run.status == 1
    said = [line.replace(f"{images}/", "") for line in run.complaints]
    assert said == [
        "landmarkflow: scans/@eaDir: is passed over, a folder that a system or a storage device "
        "made",
        f"landmarkflow: scans/h18.hdr: is not used, expected {IMAGES}",
        "landmarkflow: landmarks/nobody.csv: belongs to no scan, expected the name of one",
    ]
