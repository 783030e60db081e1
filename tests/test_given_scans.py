"""Scans as people have them, in many formats and two of them bad: refused by name, or set aside."""

import html
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import yaml
from workflow_runs import TINY, Run, errors, points, results, rows, run_workflow, write_yaml

from landmarkflow.formats.volumes import read_volume
from landmarkflow.formats.written import write_volume

EARS = ("ear001", "ear002", "ear003", "ear004")


def write_dicom(image: sitk.Image, folder: Path) -> None:
    """Writes an image along the LPS axes as a DICOM series of CT slices."""
    folder.mkdir()
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for number in range(image.GetSize()[2]):
        piece = image[:, :, number : number + 1]
        header = {
            "0008|0016": "1.2.840.10008.5.1.4.1.1.2",
            "0008|0018": f"1.2.826.0.1.3680043.2.1.{number + 1}",
            "0008|0060": "CT",
            "0020|000d": "1.2.826.0.1.3680043.2",
            "0020|000e": "1.2.826.0.1.3680043.2.1",
            "0020|0013": str(number + 1),
            "0020|0032": "\\".join(f"{value:.8f}" for value in piece.GetOrigin()),
            "0020|0037": "1\\0\\0\\0\\1\\0",
            "0028|1052": "-1024",
            "0028|1053": "1",
        }
        for key, value in header.items():
            piece.SetMetaData(key, value)
        writer.SetFileName(str(folder / f"{number:03d}.dcm"))
        writer.Execute(piece)


def given_study(folder: Path, source: Path) -> Path:
    """Puts the ears of the tiny study into a sheet, each in another format; returns its config.

    p002 has a reference outside its volume, and the file of p004 ends too early.
    """
    mine = folder / "my scans"
    (mine / "points").mkdir(parents=True)
    data = source / "work/data"
    images = {name: read_volume(data / f"scans/{name}.nii.gz") for name in EARS}
    truth = [points(data / f"landmarks/{name}.mrk.json") for name in EARS]
    write_volume(images["ear001"], mine / "p001.nrrd")
    write_volume(images["ear002"], mine / "p002.mha")
    write_dicom(images["ear003"], mine / "p003 dicom")
    whole = (data / "scans/ear004.nii.gz").read_bytes()
    (mine / "p004.nii.gz").write_bytes(whole[: len(whole) // 2])
    # RAS in a Slicer table, LPS in a plain one, and the paper's own, whose frame the sheet states.
    lines = [f"{label},{-x},{-y},{z}" for label, (x, y, z) in truth[0].items()]
    (mine / "points/p001.csv").write_text("\n".join(["# frame: RAS", "label,x,y,z", *lines]))
    lines = [f"{label},{x + 40},{y},{z},LPS" for label, (x, y, z) in truth[1].items()]
    (mine / "points/p002.csv").write_text("\n".join(["label,x,y,z,frame", *lines]))
    plain = {label: position.tolist() for label, position in truth[2].items()}
    (mine / "points/p003.json").write_text(json.dumps(plain))
    shutil.copy(data / "landmarks/ear004.mrk.json", mine / "points/p004.mrk.json")
    lines = ["scan\timage\tside\tlandmarks\tframe", "p001\tp001.nrrd\tleft\tpoints/p001.csv"]
    lines += ["p002\tp002.mha\tleft\tpoints/p002.csv"]
    lines += ["p003\tp003 dicom\tright\tpoints/p003.json\tLPS"]
    lines += ["p004\tp004.nii.gz\tright\tpoints/p004.mrk.json"]
    (mine / "samples.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    write_volume(read_volume(data / "scans/template.nii.gz"), mine / "t.mha")
    labels = read_volume(data / "segmentations/template.nii.gz")
    write_volume(labels, mine / "t segmentation.nrrd")
    shutil.copy(data / "landmarks/template.mrk.json", mine / "t.mrk.json")
    entries = {"image": "t.mha", "segmentation": "t segmentation.nrrd", "landmarks": "t.mrk.json"}
    entries = {key: f"my scans/{name}" for key, name in entries.items()} | {"side": "right"}
    study = yaml.safe_load(TINY.read_text(encoding="utf-8"))
    study |= {"study": "given", "batch_scans": 4}
    sheet = {"sheet": "my scans/samples.tsv", "template": entries}
    study["data"] = {"sheet": sheet, "landmarks": ["CENTER", "TOP", "WINDOW"]}
    return write_yaml(folder / "given.yaml", study)


@pytest.fixture(scope="module")
def given(
    root: Path, tiny: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Run, Run]:
    """The folder of a study with two bad scans, and its runs that refuse and set aside."""
    folder = tmp_path_factory.mktemp("given")
    study = given_study(folder, results(tiny))
    refused = run_workflow(root, folder, "--configfile", study)
    options = ("--configfile", study, "--config", "bad_scans=set_aside")
    return folder, refused, run_workflow(root, folder, *options)


OUTSIDE = "my scans/points/p002.csv: 4 of 4 reference landmarks lie outside the volume"
TRUNCATED = "my scans/p004.nii.gz: "


@pytest.mark.slow
def test_bad_scans_are_refused_by_name(given: tuple[Path, Run, Run]) -> None:
    _, refused, _ = given
    assert refused.status == 1
    said = refused.stderr.splitlines()
    for sentence in (OUTSIDE, TRUNCATED):
        assert [line for line in said if line.startswith(sentence)], refused.stderr
    assert "Traceback" not in refused.text


@pytest.mark.slow
def test_bad_scans_are_set_aside_with_their_reasons(given: tuple[Path, Run, Run]) -> None:
    folder, _, run = given
    assert run.status == 0, run.text
    found = rows(results(folder, "given") / "oneshot/evaluation/failures.csv")
    assert [(row["scan"], row["stage"], row["status"]) for row in found] == [
        ("p002", "references", "refused"),
        ("p004", "locate", "refused"),
    ]
    page = html.unescape((results(folder, "given") / "report.html").read_text(encoding="utf-8"))
    for row, reason in zip(found, (OUTSIDE, TRUNCATED), strict=True):
        assert row["reason"].startswith(reason)
        assert row["reason"] in page


@pytest.mark.slow
def test_a_scan_set_aside_has_no_landmarks_but_the_reason(given: tuple[Path, Run, Run]) -> None:
    folder = results(given[0], "given") / "oneshot"
    path = folder / "landmarks/p004.mrk.json"
    for name, file in (("final", path), ("rigid", folder / "landmarks/p004.steps.mrk.json")):
        found = points(file, name)
        assert list(found) == ["CENTER", "TOP", "WINDOW"]
        assert np.isnan(list(found.values())).all()
    data = json.loads(path.read_text(encoding="utf-8"))
    for point in data["markups"][0]["controlPoints"]:
        assert point["positionStatus"] == "undefined"
        assert TRUNCATED in point["description"]
    missing = [row for row in rows(folder / "evaluation/errors.csv") if row["scan"] == "p004"]
    assert missing
    assert all(row["error"] == "" and TRUNCATED in row["reason"] for row in missing)


@pytest.mark.slow
def test_other_scans_are_found_as_in_the_first_format(
    tiny: Path, given: tuple[Path, Run, Run]
) -> None:
    folder = results(given[0], "given") / "oneshot"
    evaluated = {scan for (scan, _), mm in errors(folder).items() if not np.isnan(mm)}
    assert evaluated == {"p001", "p003"}
    for scan, ear in (("p001", "ear001"), ("p002", "ear002"), ("p003", "ear003")):
        here = points(folder / f"landmarks/{scan}.mrk.json", "final")
        there = points(results(tiny) / f"oneshot/landmarks/{ear}.mrk.json", "final")
        for label, position in there.items():
            assert np.linalg.norm(here[label] - position) < 0.1
