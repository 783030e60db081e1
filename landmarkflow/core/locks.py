"""One run of a study at a time, and a start that clears what a killed one has left.

Snakemake locks a folder with files, which stay where it is killed and look like those of a run that
is alive. Here the kernel holds the locks: they end with their process, however it ends. A run holds
one of its study, and each of its jobs holds another, as jobs outlive a killed run.
"""

import errno
import fcntl
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from landmarkflow.core.errors import InputError

LOCKS = Path(".snakemake/locks")
RUN, JOBS = ".run", ".jobs"
# The name of a file or folder that is being written, as `files.replacing` and the store make it.
UNFINISHED = re.compile(r"\.[0-9a-f]{8}\..+")
PATIENCE_S = 2.0

NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP)

_held: list[TextIO] = []


class _NoLocks(Exception):  # noqa: N818 - a property of the file system
    """The file system has no such locks; Snakemake's own remain."""


def clear_stale_locks(results: Path) -> None:
    """Remove Snakemake's locks of a study that no run holds, named by its results folder."""
    with suppress(FileNotFoundError, _NoLocks), (results / RUN).open() as run:
        if _lock(run, fcntl.LOCK_SH | fcntl.LOCK_NB):
            for path in list(_locks_of(results)):
                path.unlink(missing_ok=True)


def hold(results: Path) -> None:
    """Keep a study for this process until it ends, and clear what a killed run has left.

    Waits for the jobs of that run that have outlived it; refuses a study that another run holds.
    """
    results.mkdir(parents=True, exist_ok=True)
    run = (results / RUN).open("a+")
    _held.append(run)
    with suppress(_NoLocks), (results / JOBS).open("a+") as jobs:
        _take(run, results)
        if not _lock(jobs, fcntl.LOCK_EX | fcntl.LOCK_NB):
            left = "waiting for jobs that an earlier run, which was killed, has left"
            # Snakemake's own way to tell.
            print(f"landmarkflow: {results}: {left}", flush=True)  # noqa: T201
            _lock(jobs, fcntl.LOCK_EX)
        for path in list(results.rglob(".*")):
            if UNFINISHED.fullmatch(path.name):
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def join(results: Path) -> None:
    """Count this process among the jobs of a study's run until it ends, where a run holds it."""
    if (results / RUN).exists():
        jobs = (results / JOBS).open("a+")
        _held.append(jobs)
        with suppress(_NoLocks):
            _lock(jobs, fcntl.LOCK_SH)


def _take(run: TextIO, results: Path) -> None:
    # A start that only looks whether a run is alive takes the lock for a moment as well.
    end = time.monotonic() + PATIENCE_S
    while not _lock(run, fcntl.LOCK_EX | fcntl.LOCK_NB):
        if time.monotonic() > end:
            raise InputError(
                f"{results}: another run of this study is at work, expected one at a time; start "
                "again when it has ended"
            )
        time.sleep(0.1)


def _locks_of(results: Path) -> Iterator[Path]:
    """Snakemake's locks, in pairs; a run killed between the two has left that of what it reads."""
    for written in LOCKS.glob("*.output.lock"):
        if _names(written, results):
            yield written
            yield written.with_name(written.name.replace("output", "input"))
    for read in LOCKS.glob("*.input.lock"):
        written = read.with_name(read.name.replace("input", "output"))
        if not written.exists() and _names(read, results):
            yield read


def _names(lock: Path, results: Path) -> bool:
    lines = lock.read_text(encoding="utf-8").splitlines()
    return any(line.startswith(f"{results}/") for line in lines)


def _lock(file: TextIO, operation: int) -> bool:
    """Whether the lock was obtained, and not somebody else's."""
    try:
        fcntl.flock(file, operation)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in NO_LOCKS:
            raise _NoLocks from None
        raise
    return True
