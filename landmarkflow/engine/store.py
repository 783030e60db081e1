"""Many scans in one process, one set of files per scan, nothing computed twice.

Snakemake removes a job's outputs before it starts the job, so a job that serves many scans would
compute all of them again when one changed. Results are therefore kept in a store as well, each
under the hash of what made it: inputs, settings, code. A batch links what the store knows and
computes the rest. Files in the store and in the results are the same files (hard links) and take
their space once; where the file system knows no hard links, they are copies.

Whoever edits a result in place edits the store as well. Each entry therefore holds the digests of
its files, and one that no longer agrees with them is computed again.
"""

import hashlib
import json
import logging
import os
import secrets
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from landmarkflow.core.errors import InputError
from landmarkflow.core.files import read_json, replacing, sha256, write_json

logger = logging.getLogger(__name__)

# Of an entry of the store; no role has a dot in its name.
DIGESTS = "sha256.json"


@dataclass(frozen=True)
class Task:
    """One scan of a batch: what is read and what is written, each under its role's name.

    Attributes:
        scan: its id.
        inputs: files read.
        outputs: files written.
        row: what the sheet says of the scan, which decides its results and no other's.
        of: files read of each run that this run is made of, by run and role.
    """

    scan: str
    inputs: Mapping[str, Path]
    outputs: Mapping[str, Path]
    row: Mapping[str, str] = field(default_factory=dict)
    of: Mapping[str, Mapping[str, Path]] = field(default_factory=dict)

    @property
    def files(self) -> dict[str, Path]:
        """All files read, by role."""
        others = {f"{run} {role}": p for run, files in self.of.items() for role, p in files.items()}
        return {**self.inputs, **others}


def run_batch(
    tasks: Sequence[Task],
    made_by: Mapping[str, object],
    store: Path,
    compute: Callable[[Task], bool],
) -> None:
    """Produce every task's outputs, from the store where it holds them.

    Args:
        tasks: the scans.
        made_by: all else that decides the results: settings, seed, hash of the code, and the
            hashes of the files that all tasks share.
        store: folder of the store, best on the file system of the outputs.
        compute: writes a task's outputs; called only for what the store does not hold. False means
            that they are not to be kept for another time.

    Raises:
        InputError: an input was changed meanwhile.
        Exception: whatever `compute` raises; tasks finished before stay in the store.
    """
    for number, task in enumerate(tasks, start=1):
        stamps = _stamps(task)
        entry = store / _key(task, made_by)
        known = _is_whole(entry, task)
        keep = known or _fill(entry, task, compute, stamps)
        for role, output in task.outputs.items():
            _restore(entry / role, output)
        if not keep:
            shutil.rmtree(entry)
        logger.info("%d/%d %s: %s", number, len(tasks), task.scan, "known" if known else "computed")


def _key(task: Task, made_by: Mapping[str, object]) -> str:
    content = {
        "scan": task.scan,
        "inputs": {role: digest(path) for role, path in task.files.items()},
        "outputs": {role: path.name for role, path in task.outputs.items()},
        "row": dict(task.row),
        "made_by": dict(made_by),
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]


def digest(path: Path) -> str:
    """SHA-256 of a file or folder; empty for a missing one, of which its reader has more to say."""
    return sha256(path) if path.is_file() or path.is_dir() else ""


def _is_whole(entry: Path, task: Task) -> bool:
    """Whether the store holds a task's outputs as they were computed."""
    if not entry.is_dir():
        return False
    try:
        digests = read_json(entry / DIGESTS)
        changed = [role for role in task.outputs if sha256(entry / role) != digests[role]]
    except (InputError, KeyError, TypeError):
        changed = [DIGESTS]
    if changed:
        logger.warning(
            "%s: the stored %s was changed after it was computed; computing it again",
            task.scan,
            " and ".join(changed),
        )
    return not changed


def _stamps(task: Task) -> dict[Path, tuple[int, int]]:
    """When each input was last changed, and its size; none of what cannot be found."""
    found = {path: path.stat() for path in task.files.values() if path.exists()}
    return {path: (status.st_mtime_ns, status.st_size) for path, status in found.items()}


def _fill(
    entry: Path,
    task: Task,
    compute: Callable[[Task], bool],
    stamps: Mapping[Path, tuple[int, int]],
) -> bool:
    """Compute a task in a folder of its own, which becomes the entry as a whole."""
    shutil.rmtree(entry, ignore_errors=True)
    beside = entry.with_name(f".{secrets.token_hex(4)}.{entry.name}")
    beside.mkdir(parents=True)
    try:
        # Writers choose a format by suffix, so a file has its whole name until it is written.
        made = {role: beside / f"{role}.{path.name}" for role, path in task.outputs.items()}
        keep = compute(replace(task, outputs=made))
        for path, stamp in _stamps(task).items():
            # A scan that is still being copied: what it will be has another digest.
            if stamps.get(path) != stamp:
                raise InputError(
                    f"{path}: was changed while it was read, expected a finished file; start "
                    "again when it is"
                )
        for role, path in made.items():
            path.rename(beside / role)
        write_json(beside / DIGESTS, {role: sha256(beside / role) for role in made})
        _become(beside, entry)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return keep


def _become(beside: Path, entry: Path) -> None:
    try:
        beside.rename(entry)
    except OSError:
        # Another process has just stored the same, unless there is nothing.
        if not entry.is_dir():
            raise


def _restore(stored: Path, output: Path) -> None:
    if output.exists() and output.samefile(stored):
        return
    with replacing(output) as beside:
        _link(stored, beside)


def _link(source: Path, name: Path) -> None:
    """Give a file a second name, or a copy of it where the file system knows no hard links."""
    try:
        os.link(source, name)
    except OSError:
        shutil.copyfile(source, name)
