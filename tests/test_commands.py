"""The command line, and the commands that check what a study was given and what came of it."""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from image_files import scan, scan_grid
from numpy.typing import NDArray
from stage_runs import Outcome, assert_refused, path_of, run_command, run_stage

from landmarkflow.core.points import Landmarks, PointList
from landmarkflow.core.records import DEFECT, TEMPLATE, Record, Step, read_record, write_record
from landmarkflow.data.stages import REFERENCES
from landmarkflow.engine.cli import THREAD_VARIABLES, add_stage_arguments, main
from landmarkflow.engine.stage import Stage
from landmarkflow.evaluation.stages import CHECK
from landmarkflow.formats.landmarks import read_landmarks
from landmarkflow.formats.slicer import write_markups
from landmarkflow.formats.written import write_volume
from landmarkflow.images.identity import Identity
from landmarkflow.methods.oneshot import locate
from landmarkflow.methods.oneshot.stages import LOCATE
from landmarkflow.registry import STAGES

# The command line


def helped(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as stop:
        main(STAGES, [*arguments, "--help"])
    assert stop.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.command)
def test_a_stage_s_command_takes_at_most_eight_options(stage: Stage) -> None:
    parser = argparse.ArgumentParser(add_help=False)
    add_stage_arguments(parser, stage)
    assert 1 < len(parser._actions) <= 8
    assert all(action.help for action in parser._actions)


def test_the_program_says_of_every_command_in_a_line_what_it_does(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    text = " ".join(helped(capsys).split())
    for entry in STAGES:
        assert f" {entry.command} {entry.what}" in text
        assert "\n" not in entry.what
        assert len(entry.what) <= 100


@pytest.mark.parametrize("entry", STAGES, ids=lambda entry: entry.command)
def test_each_command_describes_itself(entry: Any, capsys: pytest.CaptureFixture[str]) -> None:
    text = " ".join(helped(capsys, entry.command).split())
    assert text.startswith(f"usage: landmarkflow stage {entry.command} [-h]")
    assert entry.what in text


def test_a_command_that_is_not_known_or_not_whole_is_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for arguments in (["locate_region"], ["--log", "a.log"], ["locate_regions", "--scans", "a"]):
        with pytest.raises(SystemExit) as stop:
            main(STAGES, arguments)
        assert stop.value.code == 2
    assert "--results" in capsys.readouterr().err


def broken(error: Exception) -> Callable[..., None]:
    def run(*_: object) -> None:
        raise error

    return run


def test_a_defect_has_a_status_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locate, "run", broken(KeyError("mixture")))
    done = run_stage(LOCATE, tmp_path)
    assert done.status == 2
    assert "Traceback" in done.log


def test_what_the_machine_lacks_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = OSError(28, "No space left on device", "a.nii.gz")
    monkeypatch.setattr(locate, "run", broken(full))
    assert_refused(run_stage(LOCATE, tmp_path), "a.nii.gz: No space left on device")


def test_a_defect_on_one_scan_is_recorded_and_the_command_ends_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locate, "read_volume", broken(KeyError("mixture")))
    done = run_stage(LOCATE, tmp_path, ["a"], sheet={"a": {"image": "a.nii"}})
    assert done.status == 0
    assert "Traceback" in done.log
    record = read_record(path_of(tmp_path, LOCATE, "record", "a"))
    assert str(record.reason).startswith(f"{DEFECT} (KeyError: 'mixture')")


def test_settings_that_do_not_fit_are_refused_by_name(tmp_path: Path) -> None:
    def located(**normalise: float) -> Outcome:
        return run_stage(LOCATE, tmp_path, settings={"normalise": normalise})

    assert_refused(
        located(low=5, high=1), "--settings: normalise", "low (5) must be below high (1)"
    )
    assert_refused(located(lo=5), "--settings: normalise: `lo` is not a known key")
    command = ["locate_regions", "--results", str(tmp_path), "--settings", "{"]
    assert_refused(run_command(tmp_path / "a.log", command), "--settings: is no JSON")


# Runs a command, then says how many threads ITK and other libraries were told to use.
ASK = """
import json, os, sys
from landmarkflow.engine.cli import THREAD_VARIABLES, main
from landmarkflow.registry import STAGES
assert "SimpleITK" not in sys.modules
assert main(STAGES, sys.argv[1:]) == 0
import SimpleITK as sitk
told = [int(os.environ[name]) for name in THREAD_VARIABLES]
print(json.dumps([sitk.ProcessObject.GetGlobalDefaultNumberOfThreads(), *told]))
"""


@pytest.mark.parametrize("threads", [1, 3])
def test_a_stage_s_threads_bind_itk_and_the_other_libraries(tmp_path: Path, threads: int) -> None:
    command = [LOCATE.command, "--results", str(tmp_path), "--threads", str(threads)]
    settings = json.dumps({"normalise": {}, "locate": {}, "largest_gib": 8})
    clean = {name: text for name, text in os.environ.items() if name not in THREAD_VARIABLES}
    done = subprocess.run(
        [sys.executable, "-c", ASK, *command, "--settings", settings],
        env=clean | {"PYTHONPATH": str(Path(__file__).parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [threads] * (1 + len(THREAD_VARIABLES))


# check_references

GRID = scan_grid(np.eye(3))
POINTS = Landmarks(("apex", "window"), GRID.centre + np.array([[1.0, 0, 0], [0, 1, 2]]))


@pytest.fixture
def given(tmp_path: Path) -> Path:
    """A folder with a scan and the template's landmarks in it."""
    write_volume(scan(), tmp_path / "a.nii.gz")
    write_markups(tmp_path / "t.mrk.json", [PointList("reference", POINTS, None)])
    return tmp_path


def written(path: Path, positions: NDArray[np.float64], labels: tuple[str, ...]) -> Path:
    """A table of points that states no frame."""
    rows = zip(labels, positions.tolist(), strict=True)
    lines = [",".join(map(str, (label, *place))) for label, place in rows]
    path.write_text("\n".join(["label,x,y,z", *lines]))
    return path


def check(
    folder: Path, landmarks: Path | str = "", frame: str = "", name: str = "a", chosen: object = ()
) -> Outcome:
    row = {"image": folder / "a.nii.gz", "landmarks": landmarks, "frame": frame}
    template = {"image": folder / "a.nii.gz", "landmarks": folder / "t.mrk.json", "frame": ""}
    sheet = {TEMPLATE: template, name: row}
    return run_stage(REFERENCES, folder, [name], settings={"landmarks": chosen}, sheet=sheet)


def checked_reference(folder: Path) -> tuple[Path, Record]:
    record = read_record(path_of(folder, REFERENCES, "record", "a"))
    return path_of(folder, REFERENCES, "reference", "a"), record


def test_a_reference_comes_in_lps_and_in_the_templates_order(given: Path) -> None:
    ras = POINTS.positions[::-1] * [-1, -1, 1]
    landmarks = written(given / "a.csv", ras, POINTS.labels[::-1])
    assert check(given, landmarks, "RAS").status == 0
    path, record = checked_reference(given)
    assert record == Record("a", "references")
    found = read_landmarks(path)
    assert found.labels == POINTS.labels
    np.testing.assert_allclose(found.positions, POINTS.positions, atol=1e-4)


def test_a_frame_that_nobody_states_is_refused(given: Path) -> None:
    landmarks = written(given / "a.csv", POINTS.positions, POINTS.labels)
    assert_refused(check(given, landmarks, name=TEMPLATE), landmarks, "frame")


def test_of_the_landmarks_those_chosen_are_kept_in_their_order(given: Path) -> None:
    landmarks = written(given / "a.csv", POINTS.positions, POINTS.labels)
    assert check(given, landmarks, "LPS", chosen=["window"]).status == 0
    assert read_landmarks(checked_reference(given)[0]).labels == ("window",)
    said = 'config: `data.landmarks`: no landmark has the label "round", expected one of apex'
    assert_refused(check(given, landmarks, "LPS", chosen=["round"]), said)


def test_a_reference_outside_its_scan_is_set_aside_and_the_template_s_refused(given: Path) -> None:
    landmarks = written(given / "a.csv", POINTS.positions + 40, POINTS.labels)
    assert_refused(check(given, landmarks, "LPS", TEMPLATE), landmarks, "2 of 2", "outside")
    done = check(given, landmarks, "LPS")
    assert done.status == 0
    assert f"a: refused: {landmarks}: " in done.stderr
    path, record = checked_reference(given)
    assert (record.stage, record.status) == ("references", "refused")
    assert str(landmarks) in str(record.reason)
    assert path.stat().st_size == 0


def test_a_scan_without_a_reference_has_none(given: Path) -> None:
    assert check(given).status == 0
    path, record = checked_reference(given)
    assert record == Record("a", "references")
    assert path.stat().st_size == 0


def test_a_template_with_an_undefined_landmark_is_refused(given: Path) -> None:
    positions = np.where([[False], [True]], np.nan, POINTS.positions)
    path = given / "t.mrk.json"
    write_markups(path, [PointList("a", Landmarks(POINTS.labels, positions), None)])
    assert_refused(check(given), path, '"window" has no position')


# check_scans


def checked(results: Path, *records: Record, bad_scans: str = "refuse") -> Outcome:
    """Check the last records of two runs of three scans, and those of their references."""
    names = ("good", "lost", "bad")
    found = {(record.scan, record.stage): record for record in records}
    for name in names:
        reference = found.get((name, "references"), Record(name, "references"))
        write_record(path_of(results, REFERENCES, "record", name), reference)
        lost = Record("lost", "locate", "failed", "no dense bone")
        one = lost if name == "lost" else Record(name, "place")
        write_record(results / f"one/landmarks/{name}.json", one)
        two = found.get((name, "fuse"), Record(name, "fuse"))
        write_record(results / f"two/landmarks/{name}.json", two)
    settings, sheet = {"bad_scans": bad_scans}, {name: {"side": ""} for name in names}
    return run_stage(CHECK, results, names, settings=settings, sheet=sheet, of=("one", "two"))


REFUSED = Record("bad", "references", "refused", "bad.csv: is empty")


def test_a_refused_scan_ends_the_run_in_an_error(tmp_path: Path) -> None:
    done = checked(tmp_path, REFUSED)
    assert done.status == 1
    reason, sentence = done.stderr.splitlines()
    assert reason == "bad.csv: is empty"
    assert sentence.startswith("1 of 3 scans refused (bad) and all else done")
    assert not path_of(tmp_path, CHECK, "checked").exists()


def test_a_refused_scan_that_may_be_set_aside_is_only_told(tmp_path: Path) -> None:
    done = checked(tmp_path, REFUSED, bad_scans="set_aside")
    assert (done.status, done.stderr) == (0, "bad.csv: is empty\n")
    assert path_of(tmp_path, CHECK, "checked").read_text() == "1 of 3 scans refused\n"


def test_scans_that_are_one_image_saved_anew_end_the_run_in_an_error(tmp_path: Path) -> None:
    of_image = {"image": Identity.of(scan()).as_record()}
    records = [Record(name, "fuse", details=of_image) for name in ("good", "bad")]
    done = checked(tmp_path, *records)
    assert done.status == 1
    first, second, sentence = done.stderr.splitlines()
    said = "saved anew, expected another image, or another side of it that is stated for each"
    assert first == f"scan good: holds the same image as the scan bad, {said}"
    assert second == f"scan bad: holds the same image as the scan good, {said}"
    assert sentence.startswith("2 of 3 scans refused (good, bad) and all else done")


def test_failed_and_doubtful_scans_are_no_error(tmp_path: Path) -> None:
    done = checked(tmp_path, Record("good", "fuse", "doubtful", "the runs differ"))
    assert (done.status, done.stderr) == (0, "")


@pytest.mark.parametrize("bad_scans", ["refuse", "set_aside"])
def test_a_defect_ends_the_run_in_an_error_that_names_the_scan(
    tmp_path: Path, bad_scans: str
) -> None:
    reason = f"{DEFECT} (KeyError: 'a'); its traceback is in the log"
    # Whatever a later stage made of it.
    record = Record("good", "fuse", earlier=(Step("align", "failed", reason),))
    done = checked(tmp_path, record, bad_scans=bad_scans)
    assert done.status == 1
    told, sentence = done.stderr.splitlines()
    assert told == f"good: align: {reason}"
    assert sentence.startswith(f"{DEFECT} stopped 1 of 3 scans (good) and all else is done")
