"""The history of a training as a table, one row an epoch."""

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from landmarkflow.core.files import read_text, table_text, write_text


def write_history(path: Path, epochs: Sequence[Any]) -> None:
    """Write epochs, all of one dataclass with a field `epoch`, as CSV with six digits."""
    rows = [asdict(epoch) for epoch in epochs]
    _write(
        path,
        [{k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()} for row in rows],
    )


def join_histories(path: Path, histories: Sequence[Path]) -> None:
    """Write trainings that followed each other as one, its epochs counted through."""
    rows = [row for history in histories for row in _rows(history)]
    _write(path, [row | {"epoch": number} for number, row in enumerate(rows, start=1)])


def average_histories(path: Path, histories: Sequence[Path]) -> None:
    """Write one history of several networks, the mean of each number in each epoch."""
    merged = []
    for rows in zip(*(_rows(history) for history in histories), strict=True):
        one: dict[str, Any] = {}
        for name, value in rows[0].items():
            try:
                numbers = np.array([float(row[name]) for row in rows])
            except ValueError:
                one[name] = value
                continue
            known = numbers[np.isfinite(numbers)]
            one[name] = f"{known.mean():.6g}" if len(known) else ""
        merged.append(one)
    _write(path, merged)


def _rows(path: Path) -> list[dict[str, Any]]:
    return list(csv.DictReader(io.StringIO(read_text(path, "a history"))))


def _write(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    write_text(path, table_text([rows[0], *(row.values() for row in rows)]))
