"""Many scans in one process, one set of files per scan, nothing computed twice.

Snakemake removes a job's outputs before it starts the job, so a job that serves many scans would
compute all of them again when one changed. Results are therefore kept in a store as well, each
under the hash of what made it: inputs, settings, code. A batch links what the store knows and
computes the rest. Files in the store and in the results are the same files (hard links) and take
their space once; where the file system knows no hard links, they are copies.
"""

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from landmarkflow.files import replacing, sha256

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Task:
    """One scan of a batch: what is read and what is written, each under its role's name.

    `options` are what else decides this scan's results and no other's.
    """

    scan: str
    inputs: Mapping[str, Path]
    outputs: Mapping[str, Path]
    options: Mapping[str, str] = field(default_factory=dict)


def run_batch(
    tasks: Sequence[Task],
    made_by: Mapping[str, object],
    store: Path,
    compute: Callable[[Task], None],
) -> None:
    """Produce every task's outputs, from the store where it holds them.

    Args:
        tasks: the scans.
        made_by: all else that decides the results: settings, seed, hash of the code, and the
            hashes of the files that all tasks share.
        store: folder of the store, best on the file system of the outputs.
        compute: writes a task's outputs; called only for what the store does not hold.

    Raises:
        Exception: whatever `compute` raises; tasks finished before stay in the store.
    """
    for number, task in enumerate(tasks, start=1):
        entry = store / _key(task, made_by)
        known = entry.is_dir()
        if not known:
            _fill(entry, task, compute)
        for role, output in task.outputs.items():
            _restore(entry / role, output)
        logger.info("%d/%d %s: %s", number, len(tasks), task.scan, "known" if known else "computed")


def _key(task: Task, made_by: Mapping[str, object]) -> str:
    content = {
        "scan": task.scan,
        "inputs": {role: sha256(path) for role, path in task.inputs.items()},
        "outputs": {role: path.name for role, path in task.outputs.items()},
        "options": dict(task.options),
        "made_by": dict(made_by),
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]


def _fill(entry: Path, task: Task, compute: Callable[[Task], None]) -> None:
    """Compute a task, then move its outputs into the store as one."""
    for output in task.outputs.values():
        output.unlink(missing_ok=True)
    compute(task)
    beside = entry.with_name(f".{entry.name}.{os.getpid()}")
    beside.mkdir(parents=True)
    try:
        for role, output in task.outputs.items():
            _link(output, beside / role)
        # A run killed between the two left nothing under the entry's name.
        beside.rename(entry)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


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
