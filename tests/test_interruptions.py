"""Runs that are killed, crowded out or given less than they need, and what the next run makes."""

import html
import os
import shutil
import signal
import subprocess
import time
from base64 import urlsafe_b64encode
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from workflow_runs import (
    TINY,
    Fault,
    copy_run,
    differing,
    met,
    results,
    run_workflow,
    start_workflow,
    workflow_command,
)

EARS = ("ear001", "ear002", "ear003", "ear004")
# The one scan of the second batch.
LAST = "ear004"
TABLES = [f"oneshot/evaluation/{name}" for name in ("errors.csv", "table1.md", "summary.json")]
TABLES += [f"oneshot/landmarks/{scan}.mrk.json" for scan in EARS]
TABLES += ["comparison.csv", "steps.csv"]
TABLES += [f"oneshot/{name}" for name in ("landmarks.csv", "landmarks_wide.csv", "scans.csv")]
# What is made of the landmarks, and of the store what they are linked from.
AFTERWARDS = ("oneshot/landmarks", "oneshot/evaluation", "report.html")
LONGEST_WAIT_S = 60
STUDY = ("--configfile", TINY)


@pytest.fixture
def again(tiny: Path, tmp_path: Path) -> Path:
    """A copy of a finished run."""
    return copy_run(tiny, tmp_path / "again")


def remove(folder: Path, *patterns: str) -> None:
    for pattern in patterns:
        for path in list(results(folder).glob(pattern)):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def forget(folder: Path, *roles: str) -> None:
    """Removes the entries of the store that hold a file of a role."""
    for role in roles:
        for path in list(results(folder).glob(f".store/*/{role}")):
            shutil.rmtree(path.parent)


def assert_as_undisturbed(folder: Path, tiny: Path) -> None:
    """The tables have the bytes of a run that nothing disturbed, and nothing half is left."""
    assert differing(results(folder), results(tiny), *TABLES) == []
    found = {str(path.relative_to(folder)) for path in results(folder).rglob(".*")}
    assert found == {f"results/tiny/{name}" for name in (".run", ".jobs", ".store")}


def assert_completes(root: Path, folder: Path, tiny: Path) -> None:
    """A plain run, without any help, ends with those tables."""
    run = run_workflow(root, folder, *STUDY)
    assert run.status == 0, run.text
    assert_as_undisturbed(folder, tiny)


# Killed


def record_of(output: str) -> str:
    """Snakemake's own file on an output of this study."""
    name = urlsafe_b64encode(f"results/tiny/{output}".encode()).decode()
    return f"*.snakemake/metadata/{name}"


def last_landmarks(*suffixes: str) -> list[str]:
    return [f"oneshot/landmarks/{LAST}{suffix}" for suffix in suffixes]


MARKUPS, RECORD = last_landmarks(".mrk.json", ".json")
# One for each thing that can be half done: a file has been written and not got its name yet; the
# store has an entry and its files have no other name; some of a job's files are there and others
# not; all are and Snakemake has not noted it; some tables are there and others not.
KILLS: list[Fault] = [
    ("os.rename", f"*/.store/*/landmarks.{LAST}.mrk.json", "job"),
    ("os.rename", f"*/{MARKUPS}", "run"),
    ("os.rename", f"*/{RECORD}", "run"),
    ("open", record_of(RECORD), "run"),
    ("os.rename", "*/evaluation/summary.json", "run"),
]
# One in each stage.
ALL_KILLS: list[Fault] = [
    ("os.rename", f"*/data/scans/{LAST}.nii.gz", "run"),
    ("os.rename", f"*/references/{LAST}.json", "run"),
    ("os.rename", f"*/.store/*/region.{LAST}.nii.gz", "run"),
    ("open", record_of(f"work/locate/{LAST}.json"), "run"),
    ("os.rename", "*/train/training.json", "run"),
    ("os.rename", "*/.store/*/probability", "run"),
    ("os.rename", "*/.store/????????????????????????????????", "run"),
    ("os.rename", f"*/deform/{LAST}.json", "run"),
    ("os.rename", f"*/.store/*/refined.{LAST}.mrk.json", "job"),
    ("open", record_of("oneshot/calibration.json"), "run"),
    ("os.rename", f"*/segmentations/{LAST}.nii.gz", "run"),
    ("os.rename", f"*/{RECORD}", "run"),
    ("os.rename", "*/evaluation/summary.json", "run"),
    ("os.rename", "*/.store/*/picture.ear002.png", "job"),
    ("os.rename", "*/comparison.md", "run"),
    ("os.rename", "*/provenance.json", "run"),
    ("os.rename", "*/report.html", "run"),
]


def kill_one_by_one(root: Path, folder: Path, kills: Sequence[Fault]) -> None:
    while (before := met(folder)) != set(range(len(kills))):
        run = start_workflow(root, folder, kills, *STUDY)
        text, _ = run.communicate(timeout=LONGEST_WAIT_S * 3)
        assert met(folder) > before, text
        assert run.returncode in (-signal.SIGKILL, 1), text


@pytest.mark.slow
def test_a_run_killed_with_something_half_done_ends_with_the_tables_of_one_that_was_not(
    root: Path, tiny: Path, again: Path
) -> None:
    remove(again, f"oneshot/landmarks/{LAST}.*", "oneshot/evaluation", "report.html")
    forget(again, "landmarks")
    kill_one_by_one(root, again, KILLS)
    assert_completes(root, again, tiny)


@pytest.mark.slow
@pytest.mark.slow_kills
def test_a_run_killed_in_every_stage_ends_with_the_tables_of_one_that_was_not(
    root: Path, tiny: Path, again: Path
) -> None:
    remove(again, ".store", "oneshot", f"work/*/{LAST}.*", f"work/data/*/{LAST}.*", "comparison.*")
    kill_one_by_one(root, again, ALL_KILLS)
    assert_completes(root, again, tiny)


# Two at once


def wait_for(path: Path) -> None:
    end = time.monotonic() + LONGEST_WAIT_S
    while not path.exists():
        assert time.monotonic() < end, f"{path} did not appear"
        time.sleep(0.1)


@pytest.fixture
def suspended(root: Path, again: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A run one of whose jobs is suspended with half of its outputs written, and the job's id."""
    remove(again, f"oneshot/landmarks/{LAST}.*", "oneshot/evaluation", "report.html")
    forget(again, "landmarks")
    stop = ("os.rename", f"*/.store/*/record.{LAST}.json", "stop")
    run = start_workflow(root, again, [stop], *STUDY)
    wait_for(again / "met/0")
    yield run, int((again / "met/0").read_text())
    if run.poll() is None:
        os.killpg(run.pid, signal.SIGKILL)
    run.communicate()


@pytest.mark.slow
def test_a_second_run_is_told_and_harms_nothing(
    root: Path, tiny: Path, again: Path, suspended: tuple[subprocess.Popen[str], int]
) -> None:
    first, job = suspended
    second = run_workflow(root, again, *STUDY)
    assert second.status == 1
    assert "make sure that no other Snakemake process" in second.text
    # Whoever takes Snakemake's lock away meets the kernel's.
    third = run_workflow(root, again, *STUDY, "--nolock")
    assert third.status == 1
    said = [line for line in third.text.splitlines() if line.startswith("landmarkflow: ")]
    assert said == [
        "landmarkflow: results/tiny: another run of this study is at work, expected one at a "
        "time; start again when it has ended"
    ]
    os.kill(job, signal.SIGCONT)
    text, _ = first.communicate(timeout=LONGEST_WAIT_S)
    assert first.returncode == 0, text
    assert_as_undisturbed(again, tiny)


@pytest.mark.slow
def test_a_run_waits_for_jobs_that_outlive_a_killed_one(
    root: Path, tiny: Path, again: Path, suspended: tuple[subprocess.Popen[str], int]
) -> None:
    first, job = suspended
    first.kill()
    second = start_workflow(root, again, [], *STUDY)
    assert second.stdout is not None
    said = next(line for line in second.stdout if line.startswith("landmarkflow: "))
    assert "waiting for jobs that an earlier run, which was killed, has left" in said
    os.kill(job, signal.SIGCONT)
    text, _ = second.communicate(timeout=LONGEST_WAIT_S)
    assert second.returncode == 0, text
    assert_as_undisturbed(again, tiny)


# Not enough of the machine


@pytest.fixture
def small_disk(tiny: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy of a finished run on a disk that has no room for more than what is there."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256m", "tmpfs", folder],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip("mounting a small disk needs root")
    try:
        copy_run(tiny, folder / "again")
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def resize(disk: Path, size: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size}", disk], check=True)


@pytest.mark.slow
def test_a_run_on_a_full_disk_says_so_and_goes_on_when_there_is_room(
    root: Path, tiny: Path, small_disk: Path
) -> None:
    again = small_disk / "again"
    remove(again, ".store", f"oneshot/work/centre/{LAST}.*", *AFTERWARDS)
    # Room for what Snakemake notes and for some of what is computed.
    resize(small_disk, shutil.disk_usage(small_disk).used + 300_000)
    run = run_workflow(root, again, *STUDY)
    assert run.status == 1
    assert "the disk may be full" in run.text or "No space left on device" in run.text
    assert "Traceback" not in run.text
    resize(small_disk, 256 << 20)
    assert_completes(root, again, tiny)


# What root is allowed to ignore; it can be forbidden to.
ORDINARY = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
ORDINARY += ["--inh-caps=-dac_override,-dac_read_search"]


@pytest.mark.slow
def test_a_scan_that_must_not_be_read_is_named_and_stops_no_other(
    root: Path, tiny: Path, again: Path
) -> None:
    before = [] if os.geteuid() else ORDINARY
    if before and not shutil.which(before[0]):
        pytest.skip("root reads everything, and setpriv is not there to forbid it")
    remove(again, f"work/*/{LAST}.*", "oneshot/work/refine", *AFTERWARDS)
    forget(again, "refined", "landmarks")
    scan = results(again) / f"work/data/scans/{LAST}.nii.gz"
    scan.chmod(0)
    # Snakemake itself reads inputs below a size, and stops; scans are larger than these.
    options = (*STUDY, "--max-checksum-file-size", 1000)
    command, environment = workflow_command(root, again, *options)
    run = subprocess.run(
        [*before, *command], env=environment, capture_output=True, text=True, check=False
    )
    scan.chmod(0o644)
    assert run.returncode == 1
    assert f"results/tiny/work/data/scans/{LAST}.nii.gz: " in run.stderr
    assert "ermission denied" in run.stderr
    assert "Traceback" not in run.stderr
    # All but the radii, of which the scans that tell them may be any.
    made = {path.name for path in results(again).glob("oneshot/work/refine/*.mrk.json")}
    assert made == {f"{name}.mrk.json" for name in EARS if name != LAST}
    assert_completes(root, again, tiny)


@pytest.mark.slow
def test_a_broken_scan_ends_the_run_in_an_error_and_takes_nothing_from_the_others(
    root: Path, tiny: Path, again: Path
) -> None:
    remove(again, *AFTERWARDS)
    forget(again, "landmarks")
    scan = results(again) / f"work/data/scans/{LAST}.nii.gz"
    whole = scan.read_bytes()
    middle = len(whole) // 2
    scan.write_bytes(whole[:middle] + bytes(100) + whole[middle + 100 :])
    run = run_workflow(root, again, *STUDY)
    assert run.status == 1
    said = f"results/tiny/work/data/scans/{LAST}.nii.gz: holds corrupt compressed voxels"
    assert [line for line in run.stderr.splitlines() if line.startswith(said)]
    for name in ("oneshot/evaluation/failures.csv", "report.html"):
        assert said in html.unescape((results(again) / name).read_text(encoding="utf-8"))
    others = [f"oneshot/landmarks/{name}.mrk.json" for name in EARS if name != LAST]
    assert differing(results(again), results(tiny), *others) == []
    scan.write_bytes(whole)
    assert_completes(root, again, tiny)


# The store


@pytest.mark.slow
def test_a_result_edited_in_place_does_not_come_back_from_the_store(
    root: Path, tiny: Path, again: Path
) -> None:
    edited = results(again) / f"oneshot/work/deform/{LAST}.tfm"
    content = edited.read_bytes()
    (stored,) = [p for p in results(again).glob(".store/*/bspline") if p.read_bytes() == content]
    # The copy of a finished run has lost its hard links.
    edited.unlink()
    edited.hardlink_to(stored)
    with edited.open("r+b") as file:
        file.seek(-40, os.SEEK_END)
        file.write(b"7")
    assert stored.read_bytes() != content
    remove(again, f"oneshot/work/deform/{LAST}.json", *AFTERWARDS)
    run = run_workflow(root, again, *STUDY)
    assert run.status == 0, run.text
    said = f"{LAST}: the stored bspline was changed after it was computed; computing it again"
    assert said in run.text
    assert_as_undisturbed(again, tiny)
