"""DICOM trees as archives export them: which series is the scan, and what is said of the others."""

import json
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread, uid
from pydicom.dataset import Dataset
from stage_runs import path_of, run_stage
from test_dicom import HOUNSFIELD, READERS, SLICES, dataset, image, save, series, slice_of, stored
from workflow_runs import write_yaml

from landmarkflow.commands.main import main
from landmarkflow.core import files
from landmarkflow.core.errors import InputError
from landmarkflow.core.files import files_below
from landmarkflow.core.points import Landmarks, PointList
from landmarkflow.data.stages import SCANS
from landmarkflow.formats.dicom_series import choose_series
from landmarkflow.formats.slicer import write_markups
from landmarkflow.formats.volumes import read_grid, read_volume
from landmarkflow.formats.written import write_volume
from landmarkflow.images.operations import array_of, image_on
from landmarkflow.registry import METHODS
from landmarkflow.workflow.configured import study_of

BONE, SOFT, SCOUT, DOSE = (f"1.2.840.113619.2.{number}" for number in (55, 56, 1, 99))
CHOOSE = (
    "holds 2 series that may be the scan, expected one, chosen by `series`, a number or UID, in "
    "the sheet or beside the template: "
)
NAMED = {
    BONE: f'series 3 "Bone 0.6" (CT, 5 images of 24 x 20, UID {BONE})',
    SOFT: f'series 4 "Soft" (CT, 5 images of 24 x 20, UID {SOFT})',
    SCOUT: f'series 1 "Scout" (CT, 2 images of 24 x 20, UID {SCOUT})',
    DOSE: f'series 999 "Dose Report" (SR, 1 files without images, UID {DOSE})',
}


def of_series(name: str, number: int, description: str) -> Callable[[int, Dataset], None]:
    def change(_: int, data: Dataset) -> None:
        data.SeriesInstanceUID, data.SeriesNumber = name, number
        data.SeriesDescription = description

    return change


def scout(number: int, data: Dataset) -> None:
    of_series(SCOUT, 1, "Scout")(number, data)
    data.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]


@pytest.fixture
def patient(tmp_path: Path) -> Path:
    """An archive's export: a volume, two scouts, a dose report and a table of contents."""
    folder = tmp_path / "pacs/PAT001"
    study = folder / "ST000"
    study.mkdir(parents=True)
    series(study / "SE001", of_series(BONE, 3, "Bone 0.6"))
    series(study / "SE000", scout)
    for number in range(2, SLICES):
        (study / f"SE000/{number}.dcm").unlink()
    report = dataset(uid.XRayRadiationDoseSRStorage)
    report.SeriesInstanceUID, report.Modality = DOSE, "SR"
    report.SeriesNumber, report.SeriesDescription = 999, "Dose Report"
    save(report, study / "SE999/IM1")
    save(dataset(uid.MediaStorageDirectoryStorage), folder / "DICOMDIR")
    return folder


def with_another(patient: Path) -> Path:
    series(patient / "ST000/SE002", of_series(SOFT, 4, "Soft"))
    for path in (patient / "ST000/SE002").iterdir():
        data = dcmread(path)
        data.RescaleIntercept = 0
        data.save_as(path)
    return patient


def refused(folder: Path, wanted: str = "") -> str:
    said = set()
    for read in READERS:
        with pytest.raises(InputError) as error:
            read(folder, series=wanted)
        said.add(str(error.value).removeprefix(f"{folder}: "))
    (sentence,) = said
    return sentence


def test_a_volume_is_found_below_and_what_lies_beside_it_is_told(
    patient: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, "landmarkflow"):
        scan = read_volume(patient)
    np.testing.assert_array_equal(array_of(scan), HOUNSFIELD)
    assert read_grid(patient).size == scan.GetSize()
    assert (
        f"{patient}: takes {NAMED[BONE]}, not {NAMED[SCOUT]}, {NAMED[DOSE]}; passed over what is "
        "no slice of its series: DICOMDIR, ST000/SE000/0.dcm, ST000/SE000/1.dcm, ST000/SE999/IM1"
    ) in caplog.text


def test_two_volumes_are_refused_with_what_they_are_and_how_to_choose(patient: Path) -> None:
    with_another(patient)
    assert refused(patient) == f"{CHOOSE}{NAMED[BONE]}, {NAMED[SOFT]}"


@pytest.mark.parametrize(
    ("wanted", "offset"), [("3", 0), ("003", 0), (BONE, 0), ("4", 1024), (SOFT, 1024)]
)
def test_a_number_or_uid_chooses(patient: Path, wanted: str, offset: int) -> None:
    with_another(patient)
    scan = read_volume(patient, series=wanted)
    np.testing.assert_array_equal(array_of(scan), HOUNSFIELD + offset)


def test_a_choice_that_is_none_is_refused(patient: Path) -> None:
    with_another(patient)
    held = f"{NAMED[SCOUT]}, {NAMED[BONE]}, {NAMED[SOFT]}"
    said = f"holds no series 7 (found: {held}), expected one of those that it holds"
    assert refused(patient, "7") == said
    dose = f"holds no images in {NAMED[DOSE]}, expected a series of slices"
    assert refused(patient, "999") == dose
    series(patient / "ST000/SE002", of_series(SOFT, 3, "Soft"))
    soft = NAMED[SOFT].replace("series 4", "series 3")
    said = f"holds several series 3, expected the UID of one: {NAMED[BONE]}, {soft}"
    assert refused(patient, "3") == said


def test_many_series_are_counted(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for number in range(12):
        series(tmp_path / f"a/{number:02d}", of_series(f"1.2.{number}", number, "x"))
    said = refused(tmp_path / "a")
    assert said.startswith("holds 12 series that may be the scan")
    assert said.endswith('series 9 "x" (CT, 5 images of 24 x 20, UID 1.2.9) and 2 more')


def test_a_tree_without_images_says_what_it_holds(patient: Path, tmp_path: Path) -> None:
    for name in ("SE000", "SE001"):
        shutil.rmtree(patient / "ST000" / name)
    said = f"holds no DICOM images (found: {NAMED[DOSE]}), expected a series of slices"
    assert refused(patient) == said
    (tmp_path / "b/c").mkdir(parents=True)
    for name in ("b/notes.txt", "b/c/x.nii.gz", "b/c/y.nii.gz"):
        (tmp_path / name).write_text("no DICOM")
    said = "holds no DICOM images (files found: 3, in folders: 2), expected a series of slices"
    assert refused(tmp_path / "b") == said


def test_a_survey_in_three_planes_is_no_volume(patient: Path) -> None:
    views = ([1, 0, 0, 0, 1, 0], [1, 0, 0, 0, 0, -1], [0, 1, 0, 0, 0, -1])

    def survey(number: int, data: Dataset) -> None:
        of_series(SOFT, 4, "Survey")(number, data)
        data.ImageOrientationPatient = views[number % 3]

    series(patient / "ST000/SE002", survey)
    np.testing.assert_array_equal(array_of(read_volume(patient)), HOUNSFIELD)


def test_a_presentation_state_and_a_screen_lie_beside_without_harm(patient: Path) -> None:
    state = dataset(uid.GrayscaleSoftcopyPresentationStateStorage)
    state.SeriesInstanceUID, state.Modality = "1.2.7", "PR"
    save(state, patient / "ST000/SE777/1.dcm")
    screen = image(stored()[0], uid.SecondaryCaptureImageStorage)
    screen.SeriesInstanceUID = "1.2.8"
    save(screen, patient / "ST000/SE778/1.dcm")
    np.testing.assert_array_equal(array_of(read_volume(patient)), HOUNSFIELD)


def test_a_broken_slice_counts_in_the_series_that_is_read_alone(patient: Path) -> None:
    for name in ("SE000/0.dcm", "SE001/3.dcm"):
        path = patient / "ST000" / name
        path.write_bytes(path.read_bytes()[:-100])
        if name == "SE000/0.dcm":
            read_volume(patient)
    with pytest.raises(InputError, match=r"SE001/3.dcm: holds 860 bytes of voxels, expected 960"):
        read_volume(patient)


def test_links_that_lead_back_up_end(patient: Path) -> None:
    (patient / "ST000/again").symlink_to(patient)
    (patient / "ST000/SE001/up").symlink_to("..")
    before = files_below(patient)
    np.testing.assert_array_equal(array_of(read_volume(patient)), HOUNSFIELD)
    assert len({path.resolve() for path in before}) == len(before)
    # What is linked from elsewhere is read.
    (patient / "ST000/SE001").rename(patient.parent / "elsewhere")
    (patient / "ST000/SE001").symlink_to(patient.parent / "elsewhere")
    np.testing.assert_array_equal(array_of(read_volume(patient)), HOUNSFIELD)


def test_trees_have_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = tmp_path / "a" / "/".join("b" * 20)
    deep.mkdir(parents=True)
    with pytest.raises(InputError, match=r"lies 17 folders below .*, expected at most 16"):
        files_below(tmp_path / "a")
    monkeypatch.setattr(files, "MOST_FILES", 3)
    for number in range(4):
        (tmp_path / f"{number}.dcm").touch()
    shutil.rmtree(tmp_path / "a")
    expected = "holds more than 3 files, expected the folder of one scan"
    with pytest.raises(InputError, match=expected):
        files_below(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read_is_named(patient: Path) -> None:
    (patient / "ST000/SE001").chmod(0)
    try:
        with pytest.raises(InputError, match="SE001: cannot be read"):
            files_below(patient)
    finally:
        (patient / "ST000/SE001").chmod(0o755)


def test_two_series_of_one_tree_are_two_scans_where_both_are_said(patient: Path) -> None:
    with_another(patient)
    folder = patient.parent
    for name in ("t.mha", "t.csv"):
        (folder / name).touch()
    template = {"image": str(folder / "t.mha"), "landmarks": str(folder / "t.csv")}
    sheet = folder / "samples.tsv"
    raw = {"study": "mine", "data": {"sheet": {"sheet": str(sheet), "template": template}}}

    def refused_of(*wanted: str) -> list[str]:
        rows = [f"{name}\tPAT001\t{one}" for name, one in zip("ab", wanted, strict=True)]
        sheet.write_text("\n".join(["scan\timage\tseries", *rows, ""]), encoding="utf-8")
        return list(study_of(raw, METHODS, folder / "results", Path("studies")).refused)

    assert refused_of("3", "4") == []
    assert refused_of("3", "3") == ["a", "b"]
    # Of one that does not choose is told when it is read.
    assert refused_of("3", "") == []


# The digest


def digested(results: Path, folder: Path, wanted: str = "") -> dict[str, object]:
    row = {"image": folder, "series": wanted}
    done = run_stage(SCANS, results, ["a"], sheet={"a": row})
    assert done.status == 0, done.stderr
    text = path_of(results, SCANS, "record", "a").read_text(encoding="utf-8")
    return dict(json.loads(text))


def test_the_digest_is_of_the_files_that_are_read_and_of_no_others(
    patient: Path, tmp_path: Path
) -> None:
    results = tmp_path / "out"
    before = digested(results, patient)
    assert (before["files"], before["series"]) == (SLICES, NAMED[BONE])
    assert before["beside"] == [NAMED[SCOUT], NAMED[DOSE]]
    read = [path.name for path in choose_series(patient).files]
    assert read == [f"{number}.dcm" for number in range(SLICES)]
    (patient / "notes.txt").write_text("exported on a Tuesday")
    (patient / "ST000/SE999/IM1").unlink()
    (patient / "DICOMDIR").unlink()
    after = digested(results, patient)
    assert after | {"beside": 0} == before | {"beside": 0}
    with_another(patient)
    chosen = digested(results, patient, "3")
    assert chosen["sha256"] == before["sha256"]
    other = digested(results, patient, "4")
    ambiguous = digested(results, patient)
    assert ambiguous["files"] == 2 * SLICES + 3
    data = slice_of(2)
    of_series(BONE, 3, "Bone 0.6")(2, data)
    data.PixelData = stored()[0].tobytes()
    save(data, patient / "ST000/SE001/2.dcm")
    changed = digested(results, patient, "3")
    assert digested(results, patient, "4") == other
    digests = [one["sha256"] for one in (chosen, other, ambiguous, changed)]
    assert len(set(digests)) == len(digests)


def test_a_tree_that_cannot_be_read_is_digested_all_the_same(patient: Path, tmp_path: Path) -> None:
    with_another(patient)
    done = run_stage(SCANS, tmp_path / "out", ["a"], sheet={"a": {"image": patient}})
    assert done.status == 0
    assert f"{patient}: {CHOOSE}{NAMED[BONE]}, {NAMED[SOFT]}" in done.stderr


def test_check_reads_the_series_that_are_chosen(
    patient: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree = with_another(patient)
    grid = read_grid(tree, series="3")
    positions = grid.centre + np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    points = PointList("r", Landmarks(("a", "b", "c", "d"), positions), None)
    write_markups(tmp_path / "points.mrk.json", [points])
    inside = np.ones(grid.size[::-1], np.uint8)
    write_volume(image_on(grid, inside), tmp_path / "target.nii.gz")
    template = {"image": str(tree), "series": "3", "landmarks": str(tmp_path / "points.mrk.json")}
    template["segmentation"] = str(tmp_path / "target.nii.gz")
    (tmp_path / "samples.tsv").write_text(f"scan\timage\tseries\na\t{tree}\t4\nb\t{tree}\t\n")
    sheet = {"sheet": str(tmp_path / "samples.tsv"), "template": template}
    study = write_yaml(tmp_path / "study.yaml", {"study": "m", "data": {"sheet": sheet}})
    assert main(["check", str(study), "--cores", "1"]) == 1
    said = capsys.readouterr().out.splitlines()
    assert f"Template {tree}: " in said[1]
    assert said[2] == "1 of 2 scans can be used; 0 have references."
    assert said[3].startswith(f"  refused  b: {tree}: {CHOOSE}")
