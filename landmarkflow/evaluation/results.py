"""Reads what was written about a run: the tables of its evaluation and what made it."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from landmarkflow.core.errors import InputError
from landmarkflow.core.files import read_json, read_text
from landmarkflow.evaluation.errors import NUMBERS
from landmarkflow.evaluation.settings import EvaluateSettings, Unit

# Of an overlap table: its figures, and the name of all labels taken as one.
OVERLAP_FIGURES = ("dice", "iou", "asd", "hd95")
ALL_LABELS = "all"
_ERROR_TEXTS = ("scan", "landmark", "stage", "reason")


@dataclass(frozen=True, eq=False)
class Run:
    """One run of a study, as it was evaluated.

    Attributes:
        made: What made it: run, entry, method, seed, template, steps, device, versions, settings.
        errors: The error table.
        summary: summary.json.
        overlap: The overlap table, None where no scan has a reference segmentation.
    """

    made: dict[str, Any]
    errors: pd.DataFrame
    summary: dict[str, Any]
    overlap: pd.DataFrame | None

    @property
    def name(self) -> str:
        """The run's name."""
        return str(self.made["run"])

    @property
    def entry(self) -> str:
        """What the run shares with those that differ from it in their seed alone."""
        return str(self.made["entry"])

    @property
    def unit(self) -> Unit:
        """The unit of all distances."""
        unit: Unit = self.summary["unit"]
        return unit

    @property
    def settings(self) -> EvaluateSettings:
        """The settings of the evaluation."""
        return EvaluateSettings.model_validate(self.summary["settings"])


def read_run(made: Path, evaluation: Path) -> Run:
    """Reads one run.

    Args:
        made: made.json.
        evaluation: The folder that `evaluate` wrote.

    Raises:
        InputError: A file is missing or unreadable.
    """
    data = read_json(made)
    absent = [key for key in ("run", "entry", "method", "seed", "steps") if key not in data]
    if absent:
        raise InputError(f"{made}: has no {absent[0]}, expected what made a run")
    summary = read_json(evaluation / "summary.json")
    overlap = None
    if summary["overlap"] is not None:
        overlap = read_table(
            evaluation / "overlap.csv", ("scan", "label", "reason"), OVERLAP_FIGURES
        )
    return Run(data, read_errors(evaluation / "errors.csv"), summary, overlap)


def check_same_points(runs: Sequence[Run]) -> None:
    """Refuses runs that do not measure the same landmarks of the same scans.

    Raises:
        InputError: A landmark is measured in one of two runs only.
    """
    first, *others = runs
    expected = _points(first)
    for other in others:
        if differing := expected ^ _points(other):
            scan, label = min(differing)
            raise InputError(
                f'{other.name}: landmark "{label}" of scan {scan} is measured in only one of this '
                f"run and {first.name}, expected the same scans in both"
            )


def read_errors(path: Path) -> pd.DataFrame:
    """Reads errors.csv.

    Raises:
        InputError: The file is unreadable or lacks a column.
    """
    return read_table(path, _ERROR_TEXTS, NUMBERS)


def read_table(path: Path, texts: Sequence[str], numbers: Sequence[str]) -> pd.DataFrame:
    """Reads a CSV file; names stay texts ("007", "NA"), empty figures become NaN.

    Args:
        path: The file.
        texts: Columns of texts.
        numbers: Columns of numbers.

    Raises:
        InputError: The file is unreadable, lacks a column, or has texts in a column of numbers.
    """
    try:
        # Without keep_default_na=False a scan named "NA" would be read as missing.
        table = pd.read_csv(
            path,
            dtype=dict.fromkeys(texts, str),
            keep_default_na=False,
            na_values={column: ["", "nan"] for column in numbers},
        )
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as a table ({error})") from None
    absent = [column for column in (*texts, *numbers) if column not in table]
    if absent:
        raise InputError(
            f"{path}: has no column {absent[0]}, found {', '.join(map(str, table.columns))}"
        )
    for column in numbers:
        # A column without any row has no type of its own.
        if len(table) and not pd.api.types.is_numeric_dtype(table[column]):
            raise InputError(f"{path}: the column {column} holds texts, expected numbers")
        table[column] = table[column].astype("float64")
    return table


def read_rows(path: Path) -> list[list[str]]:
    """Reads a CSV file as texts, its header first.

    Raises:
        InputError: The file is missing, empty or unreadable.
    """
    rows = list(csv.reader(io.StringIO(read_text(path, "a table with a header"))))
    if not rows:
        raise InputError(f"{path}: is empty, expected a table with a header")
    return rows


def _points(run: Run) -> set[tuple[str, str]]:
    return set(zip(run.errors["scan"], run.errors["landmark"], strict=True))
