"""Which annotated scans are learned from, and in which fold each is held back."""

import csv
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from landmarkflow.core.errors import InputError
from landmarkflow.core.files import read_json, read_text, table_text, write_text
from landmarkflow.engine.batch import Batch

COLUMNS = ("scan", "split", "fold")


@dataclass(frozen=True)
class Part:
    """Where a scan that is learned from belongs: train or validation, and its fold, 0 for none."""

    split: str
    fold: int


def read_splits(path: Path) -> dict[str, Part]:
    """Read which scans are learned from, by id; a scan that is not among them is predicted by all.

    Raises:
        InputError: the table cannot be read.
    """
    rows = csv.DictReader(read_text(path, "a table of splits").splitlines(), delimiter="\t")
    return {row["scan"]: Part(row["split"], int(row["fold"])) for row in rows}


def run(batch: Batch) -> None:
    """Write split and fold of every scan that is learned from.

    Raises:
        InputError: an image to learn from is an evaluated one's, or there are more folds than
            scans.
    """
    seen: dict[str, str] = {}
    splits = {task.scan: task.row["split"] for task in batch.tasks}
    for task in batch.tasks:
        content = read_json(task.inputs["scans_record"])["sha256"]
        other = seen.setdefault(content or task.scan, task.scan)
        if bool(splits[other]) != bool(splits[task.scan]):
            learned, measured = sorted((other, task.scan), key=lambda scan: not splits[scan])
            raise InputError(
                f"scan {learned}: holds the same image as the evaluated scan {measured}, expected "
                "scans to learn from that are not evaluated"
            )
    learned_from = [scan for scan in batch.scans if splits[scan]]
    folds = int(batch.values["folds"])
    groups = {task.scan: task.scan for task in batch.tasks}
    counted = "scans"
    if batch.values["folds_by"] == "group":
        # A scan of no group is one of its own.
        groups = {task.scan: task.row["group"] or f"/{task.scan}" for task in batch.tasks}
        counted = "groups of scans"
    members = Counter(groups[scan] for scan in learned_from)
    if folds > len(members):
        raise InputError(
            f"config: `data.folds` is {folds}, expected at most the {len(members)} {counted} to "
            "learn from"
        )
    of_group = _folds(members, folds, int(batch.values["seed"]))
    of_fold = {scan: of_group[groups[scan]] for scan in learned_from}
    rows = ((scan, splits[scan], of_fold[scan]) for scan in learned_from)
    write_text(batch.path("splits"), table_text([COLUMNS, *rows], "\t"))


def _folds(members: Mapping[str, int], folds: int, seed: int) -> dict[str, int]:
    """A fold for each group, folds as large as each other as can be; 0 for none.

    Groups are drawn by the seed, and the largest dealt out first, each to the smallest fold.
    """
    if not folds:
        return dict.fromkeys(members, 0)
    names = list(members)
    order = np.random.default_rng([seed, folds]).permutation(len(names))
    sizes, found = [0] * folds, {}
    for place in sorted(order, key=lambda place: -members[names[place]]):
        smallest = sizes.index(min(sizes))
        sizes[smallest] += members[names[place]]
        found[names[place]] = smallest + 1
    return found
