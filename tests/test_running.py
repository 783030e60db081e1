import fcntl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from landmarkflow.core import locks
from landmarkflow.core.errors import InputError

RESULTS = Path("results/mine")
# Holds a lock of the study until its input ends.
HOLDER = """
import fcntl, sys
file = open(sys.argv[1], "a+")
fcntl.flock(file, fcntl.LOCK_EX if sys.argv[2] == "run" else fcntl.LOCK_SH)
print("held", flush=True)
sys.stdin.read()
"""
RUN = """
import sys
from pathlib import Path
from landmarkflow.core.locks import hold
hold(Path(sys.argv[1]))
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working folder with a study's results; what the test holds is let go after it."""
    monkeypatch.chdir(tmp_path)
    RESULTS.mkdir(parents=True)
    yield tmp_path
    while locks._held:
        locks._held.pop().close()


def holder(what: str) -> subprocess.Popen[str]:
    """Another process that holds the study as a run or as a job."""
    command = [sys.executable, "-c", HOLDER, str(RESULTS / f".{what}"), what]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def write_lock(name: str, *files: str) -> Path:
    path = locks.LOCKS / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(files) + "\n", encoding="utf-8")
    return path


def snakemakes_locks() -> dict[str, list[Path]]:
    """Locks of this study, whole and half written, and of others."""
    return {
        "own": [
            write_lock("0.input.lock", "scans/a.nii.gz"),
            write_lock("0.output.lock", "results/mine/report.html"),
            write_lock("2.input.lock", "results/mine/samples.tsv"),
        ],
        "others": [
            write_lock("1.input.lock", "results/mine/data/scans/a.nii.gz"),
            write_lock("1.output.lock", "results/mine2/report.html"),
            write_lock("3.input.lock", "results/mine2/samples.tsv"),
        ],
    }


def there(paths: list[Path]) -> list[bool]:
    return [path.exists() for path in paths]


def test_the_locks_of_a_killed_run_are_cleared_and_no_other_study_s() -> None:
    stale = snakemakes_locks()
    killed = holder("run")
    killed.kill()
    killed.communicate()
    locks.clear_stale_locks(RESULTS)
    assert there(stale["own"]) == [False, False, False]
    assert there(stale["others"]) == [True, True, True]


def test_the_locks_of_a_run_that_is_alive_stay() -> None:
    stale = snakemakes_locks()
    alive = holder("run")
    locks.clear_stale_locks(RESULTS)
    alive.communicate()
    assert there(stale["own"]) == [True, True, True]


def test_a_study_that_no_run_has_held_keeps_its_locks() -> None:
    stale = snakemakes_locks()
    locks.clear_stale_locks(RESULTS)
    assert there(stale["own"]) == [True, True, True]
    assert not (RESULTS / locks.RUN).exists()


def test_one_run_holds_a_study_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "PATIENCE_S", 0.2)
    first = holder("run")
    with pytest.raises(InputError, match=r"^results/mine: another run of this study is at work"):
        locks.hold(RESULTS)
    locks.hold(Path("results/another"))
    first.kill()
    first.communicate()
    locks.hold(RESULTS)


def test_a_run_waits_for_the_jobs_that_a_killed_one_has_left() -> None:
    orphan = holder("jobs")
    waiting = subprocess.Popen(
        [sys.executable, "-c", RUN, str(RESULTS)],
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        env={"PYTHONPATH": str(Path(locks.__file__).parents[2])},
    )
    assert waiting.stdout is not None
    assert "waiting for jobs that an earlier run" in waiting.stdout.readline()
    time.sleep(0.2)
    assert waiting.poll() is None
    orphan.communicate()
    assert waiting.wait(timeout=10) == 0


def test_a_job_holds_the_study_in_whose_folder_it_works() -> None:
    (RESULTS / locks.RUN).touch()
    locks.join(RESULTS)
    with (RESULTS / locks.JOBS).open("a+") as other, pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_command_outside_a_run_holds_nothing(folder: Path) -> None:
    locks.join(RESULTS)
    assert [path.name for path in folder.rglob(".*")] == []


def test_a_run_clears_what_was_being_written_and_nothing_else() -> None:
    unfinished = [
        "landmarks/.0a1b2c3d.ear001.mrk.json",
        ".store/align/.0a1b2c3d.77aa/rigid.ear001.tfm",
        ".store/align/.0a1b2c3d.77aa/.99999999.record.ear001.json",
    ]
    others = ["landmarks/ear001.mrk.json", ".store/align/77aa/rigid", "landmarks/.hidden.json"]
    for name in (*unfinished, *others):
        (RESULTS / name).parent.mkdir(parents=True, exist_ok=True)
        (RESULTS / name).touch()
    locks.hold(RESULTS)
    left = {str(path.relative_to(RESULTS)) for path in RESULTS.rglob("*") if path.is_file()}
    assert left == {*others, locks.RUN, locks.JOBS}
    assert not (RESULTS / ".store/align/.0a1b2c3d.77aa").exists()
