"""Runs that are killed, crowded out or given less than they need, and what the next run makes."""

import json
import os
import shutil
import signal
import subprocess
import time
from base64 import urlsafe_b64encode
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from workflow_runs import TINY, run_workflow, workflow_command

EARS = ("ear001", "ear002", "ear003", "ear004")
# The one scan of the second batch.
LAST = "ear004"
TABLES = [f"evaluation/{name}" for name in ("errors.csv", "table1.md", "summary.json")]
TABLES += [f"landmarks/{scan}.mrk.json" for scan in EARS]
LONGEST_WAIT_S = 60
STUDY = ("--configfile", TINY)

Fault = tuple[str, str, str]


@pytest.fixture
def again(tiny: Path, tmp_path: Path) -> Path:
    """A copy of a finished run."""
    return Path(shutil.copytree(tiny, tmp_path / "again"))


def results(folder: Path) -> Path:
    return folder / "results/tiny"


def remove(folder: Path, *patterns: str) -> None:
    for pattern in patterns:
        for path in list(results(folder).glob(pattern)):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def assert_as_undisturbed(folder: Path, tiny: Path) -> None:
    """The tables have the bytes of a run that nothing disturbed, and nothing half is left."""
    different = [
        name
        for name in TABLES
        if (results(folder) / name).read_bytes() != (results(tiny) / name).read_bytes()
    ]
    assert different == []
    found = {str(path.relative_to(folder)) for path in results(folder).rglob(".*")}
    assert found == {f"results/tiny/{name}" for name in (".run", ".jobs", ".store")}


def assert_completes(root: Path, folder: Path, tiny: Path) -> None:
    """A plain run, without any help, ends with those tables."""
    run = run_workflow(root, folder, *STUDY)
    assert run.status == 0, run.text
    assert_as_undisturbed(folder, tiny)


def start(
    root: Path, folder: Path, faults: Sequence[Fault], *arguments: object
) -> subprocess.Popen[str]:
    """Starts a run, the leader of a group of its own, that meets some faults."""
    command, environment = workflow_command(root, folder, *STUDY, *arguments)
    met = folder / "met"
    met.mkdir(exist_ok=True)
    hook = {"PYTHONPATH": str(Path(__file__).parent / "faults"), "FAULTS": json.dumps(faults)}
    return subprocess.Popen(
        command,
        env=environment | hook | {"FAULTS_MET": str(met)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        start_new_session=True,
    )


def met(folder: Path) -> set[int]:
    """Numbers of the faults that happened."""
    return {int(path.name) for path in folder.glob("met/*") if path.name.isdecimal()}


# Killed


def record_of(output: str) -> str:
    """Snakemake's own file on an output of this study."""
    name = urlsafe_b64encode(f"results/tiny/{output}".encode()).decode()
    return f"*.snakemake/metadata/{name}"


# One in each stage, each at another moment of its work: a file has been written and not got its
# name yet, or some of a job's files have and others not, or all and Snakemake has not noted it.
KILLS: list[Fault] = [
    ("os.rename", f"*/data/scans/{LAST}.nii.gz", "run"),
    ("os.rename", f"*/references/{LAST}.json", "run"),
    ("open", record_of(f"foi/{LAST}.json"), "run"),
    ("os.rename", "*/model/training.json", "run"),
    ("os.rename", "*/.store/centre/*/sha256.json", "run"),
    ("os.rename", "*/.store/align/????????????????????????????????", "run"),
    ("os.rename", f"*/bspline/{LAST}.json", "run"),
    ("os.rename", f"*/.store/refine/*/record.{LAST}.json", "job"),
    ("open", record_of("loops/ear001.json"), "run"),
    ("os.rename", f"*/landmarks/{LAST}.json", "run"),
    ("os.rename", "*/evaluation/summary.json", "run"),
    ("os.rename", "*/.store/picture/*/picture.ear002.png", "job"),
    ("os.rename", "*/provenance.json", "run"),
    ("os.rename", "*/report.html", "run"),
]


@pytest.mark.slow
def test_a_run_killed_in_every_stage_ends_with_the_tables_of_one_that_was_not(
    root: Path, tiny: Path, again: Path
) -> None:
    remove(again, f"*/{LAST}.*", f"data/*/{LAST}.*", ".store", "model", "centred", "report.html")
    while (before := met(again)) != set(range(len(KILLS))):
        run = start(root, again, KILLS)
        text, _ = run.communicate()
        assert met(again) > before, text
        assert run.returncode in (-signal.SIGKILL, 1), text
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
    remove(again, f"landmarks/{LAST}.*", ".store/landmarks", "evaluation", "report.html")
    stop = ("os.rename", f"*/.store/landmarks/*/record.{LAST}.json", "stop")
    run = start(root, again, [stop])
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
    second = start(root, again, [])
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
        ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", folder],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip("mounting a small disk needs root")
    try:
        shutil.copytree(tiny, folder / "again")
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
    remove(again, ".store", f"centred/{LAST}.*", "landmarks", "evaluation", "report.html")
    # Room for what Snakemake notes and for some of what is computed.
    resize(small_disk, shutil.disk_usage(small_disk).used + 300_000)
    run = run_workflow(root, again, *STUDY)
    assert run.status == 1
    assert "the disk may be full" in run.text or "No space left on device" in run.text
    assert "Traceback" not in run.text
    resize(small_disk, 64 << 20)
    assert_completes(root, again, tiny)


# What root is allowed to ignore; it can be forbidden to.
ORDINARY = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
ORDINARY += ["--inh-caps=-dac_override,-dac_read_search"]


@pytest.mark.slow
def test_a_scan_that_must_not_be_read_is_named_and_stops_no_other_batch(
    root: Path, tiny: Path, again: Path
) -> None:
    before = [] if os.geteuid() else ORDINARY
    if before and not shutil.which(before[0]):
        pytest.skip("root reads everything, and setpriv is not there to forbid it")
    remove(again, f"*/{LAST}.*", "landmarks", ".store/landmarks", "evaluation", "report.html")
    scan = results(again) / f"data/scans/{LAST}.nii.gz"
    scan.chmod(0)
    # Snakemake itself reads inputs below a size, and stops; scans are larger than these.
    options = (*STUDY, "--max-checksum-file-size", 1000)
    command, environment = workflow_command(root, again, *options)
    run = subprocess.run(
        [*before, *command], env=environment, capture_output=True, text=True, check=False
    )
    scan.chmod(0o644)
    assert run.returncode == 1
    assert f"results/tiny/data/scans/{LAST}.nii.gz: " in run.stderr
    assert "ermission denied" in run.stderr
    assert "Traceback" not in run.stderr
    made = {path.name for path in results(again).glob("landmarks/*.mrk.json")}
    assert made == {f"{scan}.mrk.json" for scan in EARS if scan != LAST}
    assert_completes(root, again, tiny)


@pytest.mark.slow
def test_a_scan_that_cannot_be_read_takes_nothing_from_the_others(
    root: Path, tiny: Path, again: Path
) -> None:
    remove(again, "landmarks", ".store/landmarks", "evaluation", "report.html")
    scan = results(again) / f"data/scans/{LAST}.nii.gz"
    whole = scan.read_bytes()
    middle = len(whole) // 2
    scan.write_bytes(whole[:middle] + bytes(100) + whole[middle + 100 :])
    run = run_workflow(root, again, *STUDY)
    assert run.status == 1
    said = f"results/tiny/data/scans/{LAST}.nii.gz: holds corrupt compressed voxels"
    assert [line for line in run.stderr.splitlines() if line.startswith(said)]
    assert "1 of 4 scans refused (ear004) and all else done" in run.stderr
    made = {path.name for path in results(again).glob("landmarks/*.mrk.json")}
    assert made == {f"{scan}.mrk.json" for scan in EARS}
    assert said in (results(again) / "evaluation/failures.csv").read_text(encoding="utf-8")
    assert said in (results(again) / "report.html").read_text(encoding="utf-8")
    for scan_name in set(EARS) - {LAST}:
        name = f"landmarks/{scan_name}.mrk.json"
        assert (results(again) / name).read_bytes() == (results(tiny) / name).read_bytes()
    scan.write_bytes(whole)
    assert_completes(root, again, tiny)


# The store


@pytest.mark.slow
def test_a_result_edited_in_place_does_not_come_back_from_the_store(
    root: Path, tiny: Path, again: Path
) -> None:
    edited = results(again) / f"bspline/{LAST}.tfm"
    content = edited.read_bytes()
    (stored,) = [p for p in results(again).glob(".store/*/*/bspline") if p.read_bytes() == content]
    # The copy of a finished run has lost its hard links.
    edited.unlink()
    edited.hardlink_to(stored)
    with edited.open("r+b") as file:
        file.seek(-40, os.SEEK_END)
        file.write(b"7")
    assert stored.read_bytes() != content
    remove(again, f"bspline/{LAST}.json", "landmarks", "evaluation", "report.html")
    run = run_workflow(root, again, *STUDY)
    assert run.status == 0, run.text
    said = f"{LAST}: the stored bspline was changed after it was computed; computing it again"
    assert said in run.text
    assert_as_undisturbed(again, tiny)
