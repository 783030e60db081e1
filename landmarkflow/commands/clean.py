"""`landmarkflow clean`: what of a study's results can be deleted, and how much that frees."""

import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from landmarkflow.commands.studies import RESULTS, say
from landmarkflow.console.estimate import size_in_words
from landmarkflow.core.errors import InputError
from landmarkflow.core.locks import hold
from landmarkflow.engine.batch import STORE

WORK = "work"
# Below work/: what a later run needs to say that nothing is to be done.
KEPT = ("check",)
# What the workflow simulated or fetched, and would have to make or fetch again.
SCANS = "data"


@dataclass(frozen=True)
class Item:
    """What can be deleted together.

    Attributes:
        what: in plain words.
        paths: its files and folders.
        then: what has to be done again where it is gone.
    """

    what: str
    paths: tuple[Path, ...]
    then: str


def clean(study: str, *, yes: bool) -> int:
    """Say what can be deleted, and delete it where that is asked for.

    Args:
        study: name of the study, its folder under results/.
        yes: whether it is deleted.

    Raises:
        InputError: the study has no results, or a run of it is at work.
    """
    results = RESULTS / study
    if not results.is_dir():
        raise InputError(f"{results}: no such folder, expected the results of a study")
    found = [item for item in items(results) if item.paths]
    if not found:
        say(f"{results}: nothing is left to delete.")
        return 0
    seen: set[tuple[int, int]] = set()
    total = 0
    for item in found:
        size = _bytes(item.paths, seen)
        total += size
        say(f"{size_in_words(size / 1e6):>9}  {item.what}")
        say(f"{'':>11}{item.then}")
    stays = "The report, tables, landmarks, segmentations and pictures stay"
    if not yes:
        say(f"{size_in_words(total / 1e6)} in all. {stays}. To delete it: add --yes")
        return 0
    hold(results)
    for path in (path for item in found for path in item.paths):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    say(f"Deleted {size_in_words(total / 1e6)}. {stays}.")
    return 0


def items(results: Path) -> list[Item]:
    """What can be deleted of a study's results."""
    works = [path for path in (results / WORK, *sorted(results.glob(f"*/{WORK}"))) if path.is_dir()]
    folders = [path for work in works for path in sorted(work.iterdir())]
    logs = [path for path in folders if path.name in ("logs", "benchmarks")]
    scans = [path for path in folders if path == results / WORK / SCANS]
    stages = [p for p in folders if p not in (*logs, *scans) and p.name not in KEPT]
    store = results / STORE
    again = "a run with a new or changed scan or setting then trains and computes all again"
    return [
        Item(f"stages' files, below {WORK}/", tuple(stages), again),
        Item(
            f"{STORE}, by which an unchanged scan is not computed again",
            (store,) if store.exists() else (),
            "the same",
        ),
        Item(
            "scans that were simulated or fetched", tuple(scans), "they are made or fetched again"
        ),
        Item("logs and costs of jobs", tuple(logs), "nothing"),
    ]


def _bytes(paths: Iterable[Path], seen: set[tuple[int, int]]) -> int:
    """Bytes of files; one with several names, as in the store, counts once."""
    found = 0
    for path in paths:
        for file in _files(path):
            status = file.lstat()
            key = (status.st_dev, status.st_ino)
            if key not in seen:
                seen.add(key)
                found += status.st_size
    return found


def _files(path: Path) -> Iterator[Path]:
    if path.is_dir() and not path.is_symlink():
        yield from (file for file in path.rglob("*") if not file.is_dir() or file.is_symlink())
    else:
        yield path
