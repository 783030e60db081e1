"""Reads what was written about a run: the tables of its evaluation, what made it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from landmarkflow.core.errors import InputError
from landmarkflow.core.files import read_json
from landmarkflow.evaluation.errors import COLUMNS, NUMBERS
from landmarkflow.evaluation.found import SCANS
from landmarkflow.evaluation.settings import EvaluateSettings, Unit

# Of an overlap table: its figures, its columns, and the name of all labels taken as one.
OVERLAP_FIGURES = ("dice", "iou", "asd", "hd95", "all_voxels")
OVERLAP_COLUMNS = ("scan", "label", *OVERLAP_FIGURES, "reason")
ALL_LABELS = "all"


@dataclass(frozen=True, eq=False)
class Run:
    """One run of a study, as it was evaluated.

    Attributes:
        made: What made it: run, entry, method, seed, template, steps, device, versions, settings.
            Runs of one entry differ in their seed alone.
        errors: The error table; empty where no scan has references.
        summary: summary.json.
        overlap: The overlap table, None where no scan has a reference segmentation.
    """

    made: dict[str, Any]
    errors: pd.DataFrame
    summary: dict[str, Any]
    overlap: pd.DataFrame | None

    @property
    def unit(self) -> Unit:
        """The unit of all distances."""
        unit: Unit = self.summary["unit"]
        return unit

    @property
    def settings(self) -> EvaluateSettings:
        """The settings of the evaluation."""
        return EvaluateSettings.model_validate(self.summary["settings"])


def read_run(folder: Path) -> Run:
    """Reads a run from its folder, which holds made.json and evaluation/.

    Raises:
        InputError: A file is missing or unreadable.
    """
    made = read_json(folder / "made.json")
    absent = [key for key in ("run", "entry", "method", "seed", "steps") if key not in made]
    if absent:
        raise InputError(f"{folder / 'made.json'}: has no {absent[0]}, expected what made a run")
    tables = folder / "evaluation"
    summary = read_json(tables / "summary.json")
    overlap = None
    errors = pd.DataFrame(columns=list(COLUMNS)).astype(dict.fromkeys(NUMBERS, "float64"))
    if summary["referenced"]:
        errors = read_table(tables / "errors.csv", COLUMNS, NUMBERS)
    if summary["overlap"] is not None:
        overlap = read_table(tables / "overlap.csv", OVERLAP_COLUMNS, OVERLAP_FIGURES)
    return Run(made, errors, summary, overlap)


def pooled_entries(runs: Sequence[Run]) -> dict[str, tuple[list[Run], pd.DataFrame]]:
    """Returns by entry its runs, and their errors below each other with the column `seed`.

    Raises:
        InputError: Two runs do not measure the same landmarks of the same scans.
    """
    first, *others = [set(zip(r.errors["scan"], r.errors["landmark"], strict=True)) for r in runs]
    for run, measured in zip(runs[1:], others, strict=True):
        if differing := first ^ measured:
            scan, label = min(differing)
            raise InputError(
                f'{run.made["run"]}: landmark "{label}" of scan {scan} is measured in only one of '
                f"this run and {runs[0].made['run']}, expected the same scans in both"
            )
    entries: dict[str, list[Run]] = {}
    for run in runs:
        entries.setdefault(str(run.made["entry"]), []).append(run)
    return {
        entry: (members, pd.concat([run.errors.assign(seed=run.made["seed"]) for run in members]))
        for entry, members in entries.items()
    }


def read_scans(folder: Path) -> pd.DataFrame:
    """Reads scans.csv, the scans by doubt, from a run's folder.

    Raises:
        InputError: It is missing or unreadable.
    """
    numbers = [name for name in SCANS if name not in ("scan", "side", "status", "reason")]
    return read_table(folder / "scans.csv", SCANS, numbers)


def read_table(path: Path, columns: Sequence[str], numbers: Sequence[str]) -> pd.DataFrame:
    """Reads a CSV file; names stay texts ("007", "NA"), empty figures become NaN.

    Args:
        path: The file.
        columns: Columns that must be there.
        numbers: Those of them that hold numbers.

    Raises:
        InputError: The file is unreadable, lacks a column, or has texts in a column of numbers.
    """
    header, *rows = read_rows(path)
    absent = [column for column in columns if column not in header]
    if absent:
        raise InputError(f"{path}: has no column {absent[0]}, found {', '.join(header)}")
    table = pd.DataFrame(rows, columns=header, dtype=str)
    for column in numbers:
        try:
            table[column] = table[column].replace("", "nan").astype("float64")
        except ValueError:
            raise InputError(f"{path}: the column {column} holds texts, expected numbers") from None
    return table


def read_rows(path: Path) -> list[list[str]]:
    """Reads a CSV file as texts, its header first.

    Raises:
        InputError: The file is missing, empty or unreadable.
    """
    try:
        # Without keep_default_na=False a scan named "NA" would be read as missing.
        table = pd.read_csv(path, header=None, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as a table ({error})") from None
    rows: list[list[str]] = table.to_numpy().tolist()
    return rows
