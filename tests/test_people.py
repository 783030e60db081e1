"""The commands for people: run, check and clean."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from image_files import scan
from workflow_runs import (
    NOTHING,
    TINY,
    Run,
    copy_run,
    differing,
    points,
    results,
    rows,
    run_workflow,
    write_yaml,
)

from landmarkflow.commands.main import main
from landmarkflow.commands.run import command_of
from landmarkflow.commands.studies import ROOT
from landmarkflow.core.points import Landmarks, PointList
from landmarkflow.formats.slicer import write_markups
from landmarkflow.formats.written import write_volume
from landmarkflow.images.operations import grid_of

# The command line


def test_commands_for_people_come_first(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    said = capsys.readouterr().out
    names = ["init", "check", "run", "pack", "detect", "review", "suggest", "figures", "slicer"]
    names += ["clean", "vary", "stage"]
    assert re.findall(r"^    (\w+)  ", said, re.MULTILINE) == names
    assert "locate_regions" not in said


@pytest.mark.parametrize("command", ["run", "check", "clean"])
def test_each_command_says_what_it_takes(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    assert "STUDY" in capsys.readouterr().out


def test_run_gives_snakemake_what_make_run_does(tmp_path: Path) -> None:
    start = ["snakemake", "--snakefile", f"{ROOT}/Snakefile", "--cores", "4"]
    assert command_of("cochlea", "", "", "4", ["-n"]) == [*start, "-n"]
    assert command_of("mouse_skull", str(tmp_path), "1 2", "4", []) == [
        *start,
        *("--configfile", f"{ROOT}/studies/mouse_skull.yaml"),
        *("--config", f"data_folder={tmp_path}", "seeds=1 2"),
    ]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "mice"], f"the study mice: there is no file {ROOT}/studies/mice.yaml"),
        (["check", "a.yaml"], "the study a.yaml: there is no file a.yaml"),
        (["run", "cochlea", "--data", "no"], "--data no: there is no such folder"),
        (["clean", "mice"], "results/mice: no such folder, expected the results of a study"),
    ],
)
def test_what_is_not_there_is_said(
    arguments: list[str],
    said: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 1
    assert capsys.readouterr().err == f"landmarkflow: {said}\n"


# check


def marked(folder: Path, name: str, image: sitk.Image, shift: float = 0.0) -> None:
    """A scan of a folder with four landmarks around its middle."""
    write_volume(image, folder / f"{name}.nii.gz")
    centre = grid_of(image).centre + shift
    positions = centre + np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 2]])
    where = folder.parent / "landmarks" if folder.name == "scans" else folder
    path = where / f"{'landmarks' if name == 'scan' else name}.mrk.json"
    write_markups(path, [PointList("r", Landmarks(("a", "b", "c", "d"), positions), None)])


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a template, a good scan, one that is cut off, one with a wrong reference."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "mine"
    marked(folder / "template", "scan", scan())
    write_volume(sitk.Cast(scan() > 0, sitk.sitkUInt8), folder / "template/segmentation.nii.gz")
    for number, name in enumerate(("good", "cut", "wrong", "plain"), start=1):
        marked(folder / "scans", name, scan() + number, 900 if name == "wrong" else 0.1 * number)
    (folder / "landmarks/plain.mrk.json").unlink()
    cut = folder / "scans/cut.nii.gz"
    cut.write_bytes(cut.read_bytes()[:500])
    return folder


def test_check_reads_everything_and_detects_nothing(
    mine: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    study = write_yaml(tmp_path / "study.yaml", {"study": "m", "data": {"folder": str(mine)}})
    assert main(["check", str(study), "--cores", "2"]) == 1
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "Study m: 4 scans, 1 run (oneshot)"
    assert "12 × 10 × 8 voxels of 0.4 × 0.5 × 1.5 mm, with its segmentation." in said[1]
    assert said[2] == "2 of 4 scans can be used; 3 have references."
    assert said[3].startswith(f"  refused  cut: {mine}/scans/cut.nii.gz: ")
    assert said[4].startswith(f"  refused  wrong: {mine}/landmarks/wrong.mrk.json: 4 of 4 ")
    assert re.match(r"Takes about .+ on 2 cores and \d+ MB of disk, an estimate", said[5])
    assert not (tmp_path / "results").exists()
    for name in ("cut", "wrong"):
        (mine / f"scans/{name}.nii.gz").unlink()
        (mine / f"landmarks/{name}.mrk.json").unlink()
    assert main(["check", str(study)]) == 0


def test_check_refuses_a_template_that_cannot_be_used(
    mine: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (mine / "template/scan.nii.gz").write_bytes(b"nothing")
    study = write_yaml(tmp_path / "study.yaml", {"study": "m", "data": {"folder": str(mine)}})
    assert main(["check", str(study)]) == 1
    assert f"landmarkflow: {mine}/template/scan.nii.gz: " in capsys.readouterr().err


def test_check_of_simulated_scans_says_what_the_run_takes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["check", "cochlea", "--cores", "2"]) == 0
    assert "there is nothing to read before" in capsys.readouterr().out


# Whole runs


@pytest.fixture(scope="module")
def given(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of scans of which the only one is cut off."""
    folder, data = tmp_path_factory.mktemp("given"), results(tiny) / "work/data"
    mine = folder / "mine"
    (mine / "scans").mkdir(parents=True)
    (mine / "template").mkdir()
    for kind, name in (("scans", "scan.nii.gz"), ("segmentations", "segmentation.nii.gz")):
        shutil.copy(data / kind / "template.nii.gz", mine / "template" / name)
    shutil.copy(data / "landmarks/template.mrk.json", mine / "template/landmarks.mrk.json")
    whole = (data / "scans/ear001.nii.gz").read_bytes()
    (mine / "scans/a.nii.gz").write_bytes(whole[: len(whole) // 2])
    (mine / "samples.tsv").write_text("scan\tside\na\tleft\n")
    return folder


def run_given(root: Path, folder: Path) -> Run:
    mine = write_yaml(folder / "mine.yaml", {"data": {"template_side": "right"}})
    options = ("study=given", f"data_folder={folder / 'mine'}", "bad_scans=set_aside")
    return run_workflow(root, folder, "--configfile", TINY, mine, "--config", *options)


@pytest.mark.slow
def test_training_waits_for_a_scan_that_can_be_used_and_for_no_other(
    root: Path, tiny: Path, given: Path
) -> None:
    made = results(given, "given") / "oneshot"
    scans, sheet = given / "mine/scans", given / "mine/samples.tsv"
    # The only scan cannot be used: nothing is trained, and the reason is told.
    run = run_given(root, given)
    assert run.status == 1
    said = "nothing is trained, since none of the study's 1 scans can be used: a: "
    assert [line for line in run.stderr.splitlines() if line.startswith(said)], run.stderr
    assert len(run.stderr.splitlines()) < 20
    assert not (made / "work/train").exists() or not list((made / "work/train").iterdir())
    # One that can be used is enough.
    shutil.copy(results(tiny) / "work/data/scans/ear003.nii.gz", scans / "b.nii.gz")
    sheet.write_text("scan\tside\na\tleft\nb\tright\n")
    run = run_given(root, given)
    assert run.status == 0, run.text
    assert run.jobs["train_network"] == 1
    assert "1 ok, 0 doubtful, 0 failed, 1 refused" in run.stderr
    found = points(made / "landmarks/b.mrk.json", "final")
    assert len(found) == 3
    weights = (made / "work/train/weights.npz").stat()
    # Another one trains nothing again.
    shutil.copy(results(tiny) / "work/data/scans/ear004.nii.gz", scans / "c.nii.gz")
    sheet.write_text("scan\tside\na\tleft\nb\tright\nc\tright\n")
    run = run_given(root, given)
    assert run.status == 0, run.text
    assert "train_network" not in run.jobs
    assert (made / "work/train/weights.npz").stat() == weights
    assert {row["scan"] for row in rows(made / "evaluation/failures.csv")} == {"a"}


@pytest.mark.slow
def test_a_cleaned_study_is_whole_and_goes_on(
    root: Path,
    tiny: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    again = copy_run(tiny, tmp_path / "again")
    monkeypatch.chdir(again)
    before = sorted(results(again).rglob("*"))
    assert main(["clean", "tiny"]) == 0
    assert "add --yes" in capsys.readouterr().out
    assert sorted(results(again).rglob("*")) == before
    # In a process of its own, which gives back the study's lock.
    command = [sys.executable, "-m", "landmarkflow", "clean", "tiny", "--yes"]
    subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": str(root)})
    left = {path.name for path in results(again).rglob("*") if path.is_file()}
    assert not {"weights.npz", "loops.json", "locate.log"} & left
    assert not (results(again) / ".store").exists()
    assert {"report.html", "README.txt", "ear001.mrk.json", "ear001.png", "table1.md"} <= left
    assert NOTHING in run_workflow(root, again, "--configfile", TINY).text
    # What somebody wants again is made again, byte by byte.
    (results(again) / "oneshot/landmarks/ear001.mrk.json").unlink()
    run = run_workflow(root, again, "--configfile", TINY)
    assert run.status == 0, run.text
    names = [f"oneshot/landmarks/ear00{n}.mrk.json" for n in range(1, 5)]
    names += ["oneshot/evaluation/errors.csv", "comparison.csv"]
    assert differing(results(again), results(tiny), *names) == []
