"""Reads the tables of an evaluation folder."""

import csv
from pathlib import Path

import pandas as pd

from landmarkflow.core.errors import InputError

_ERROR_NUMBERS = ("error_mm", "error_x_mm", "error_y_mm", "error_z_mm", "radius_mm")
_ERROR_TEXTS = ("scan", "landmark", "stage", "reason")


def read_errors(path: Path) -> pd.DataFrame:
    """Reads errors.csv; names stay texts ("007", "NA"), empty figures become NaN.

    Raises:
        InputError: The file is unreadable or lacks a column.
    """
    table = _read_csv(path, dict.fromkeys(_ERROR_TEXTS, str), _ERROR_NUMBERS)
    _require(path, table, (*_ERROR_TEXTS, "error_mm"))
    return table


def read_training(path: Path) -> pd.DataFrame:
    """Reads training.csv: epoch, train_loss, validation_loss, and further columns.

    Raises:
        InputError: The file is unreadable, lacks a column or has no rows.
    """
    columns = ("epoch", "train_loss", "validation_loss", "validation_dice")
    table = _read_csv(path, {}, columns)
    _require(path, table, columns[:3])
    if table.empty:
        raise InputError(f"{path}: has no rows, expected one per epoch")
    return table


def read_rows(path: Path) -> list[list[str]]:
    """Reads a CSV file as texts, its header first.

    Raises:
        InputError: The file is missing or empty.
    """
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            rows = list(csv.reader(stream))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read as a table ({error})") from None
    if not rows:
        raise InputError(f"{path}: is empty, expected a table with a header")
    return rows


def _read_csv(path: Path, texts: dict[str, type[str]], numbers: tuple[str, ...]) -> pd.DataFrame:
    try:
        # Without keep_default_na=False a scan named "NA" would be read as missing.
        table = pd.read_csv(
            path,
            dtype=texts,
            keep_default_na=False,
            na_values={column: ["", "nan"] for column in numbers},
        )
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as a table ({error})") from None
    for column in [name for name in numbers if name in table]:
        # A column without any row has no type of its own.
        if len(table) and not pd.api.types.is_numeric_dtype(table[column]):
            raise InputError(f"{path}: the column {column} holds texts, expected numbers")
        table[column] = table[column].astype("float64")
    return table


def _require(path: Path, table: pd.DataFrame, columns: tuple[str, ...]) -> None:
    absent = [column for column in columns if column not in table]
    if absent:
        raise InputError(
            f"{path}: has no column {absent[0]}, found {', '.join(map(str, table.columns))}"
        )
