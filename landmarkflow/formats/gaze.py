"""Tables of fixations (CSV): where observers looked at pictures, and for how long.

Columns: `observer`, `x`, `y` and, in a table of several pictures, `image` (its file's name, with or
without the suffix). `duration_ms`, `order` and `time_ms` may be there. Places are pixels of the
picture as it is given, x to the right and y down, the centre of the first pixel at (0, 0).
"""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from landmarkflow.core.errors import InputError
from landmarkflow.core.files import read_text

NEEDED = ("observer", "x", "y")
# Columns that count up within one observer's look at one picture.
CLOCKS = ("order", "time_ms")


@dataclass(frozen=True, eq=False)
class Fixations:
    """Where one picture was looked at.

    Attributes:
        points: (n, 2) pixels.
        duration_ms: (n,); 1 for each where the table has none.
        observers: n names.
        dropped: fixations beside the picture that were left out.
    """

    points: NDArray[np.float64]
    duration_ms: NDArray[np.float64]
    observers: tuple[str, ...]
    dropped: int = 0


class GazeTable:
    """The rows of a file by picture; those of one are checked when they are asked for."""

    def __init__(self, path: Path) -> None:
        """Read a file.

        Raises:
            InputError: it is unreadable, empty, or lacks a column.
        """
        self.path = path
        text = "\n".join(
            "" if line.lstrip().startswith("#") else line
            for line in read_text(path, "a table of fixations").splitlines()
        )
        lines = [(n, row) for n, row in enumerate(csv.reader(io.StringIO(text)), start=1) if row]
        if not lines:
            raise InputError(f"{path}: is empty, expected the columns {', '.join(NEEDED)}")
        self.columns = [name.strip().lower() for name in lines[0][1]]
        absent = [name for name in NEEDED if name not in self.columns]
        if absent:
            raise InputError(
                f"{path}: has no column {absent[0]}, expected {', '.join(NEEDED)}; found "
                f"{', '.join(self.columns)}"
            )
        self.rows: dict[str, list[tuple[int, Mapping[str, str]]]] = {}
        for number, fields in lines[1:]:
            if len(fields) != len(self.columns):
                raise InputError(
                    f"{path}, line {number}: has {len(fields)} fields, expected {len(self.columns)}"
                )
            row = dict(zip(self.columns, (field.strip() for field in fields), strict=True))
            self.rows.setdefault(row.get("image", ""), []).append((number, row))

    def fixations(
        self, image: str, width: int, height: int, outside: Literal["refuse", "drop"] = "refuse"
    ) -> Fixations:
        """The fixations of one picture.

        Args:
            image: the name of the picture's file.
            width: of the picture, pixels.
            height: the same.
            outside: what becomes of fixations beside the picture.

        Raises:
            InputError: there are none, a field is no number, one lies beside the picture, or a
                clock runs backwards.
        """
        rows = self._rows_of(image)
        if not rows:
            raise InputError(
                f"{self.path}: holds no fixation on {image}, expected at least one, or no row of "
                "the sheet that names it"
            )
        points = np.array([[self._number(n, row, axis) for axis in "xy"] for n, row in rows])
        durations = np.array(
            [
                self._number(n, row, "duration_ms") if "duration_ms" in row else 1.0
                for n, row in rows
            ]
        )
        for (number, row), duration in zip(rows, durations, strict=True):
            if duration <= 0:
                raise InputError(
                    f"{self.path}, line {number}: the duration_ms is {row['duration_ms']}, "
                    "expected more than 0"
                )
        self._check_clocks(rows, image)
        within = (points >= -0.5) & (points < np.array([width, height]) - 0.5)
        inside = np.asarray(within.all(axis=1))
        if not inside.all() and outside == "refuse":
            first = int(np.flatnonzero(~inside)[0])
            x, y = points[first]
            raise InputError(
                f"{self.path}, line {rows[first][0]}: the fixation at ({x:g}, {y:g}) and "
                f"{len(points) - int(inside.sum()) - 1} more of {len(points)} lie beside {image}, "
                f"expected x from -0.5 to {width - 0.5:g} and y from -0.5 to {height - 0.5:g} "
                "pixels (`outside: drop` leaves such out)"
            )
        if not inside.any():
            raise InputError(
                f"{self.path}: all {len(points)} fixations on {image} lie beside it, expected at "
                "least one inside"
            )
        names = tuple(
            row["observer"] for (_, row), kept in zip(rows, inside.tolist(), strict=True) if kept
        )
        return Fixations(points[inside], durations[inside], names, int((~inside).sum()))

    def _rows_of(self, image: str) -> Sequence[tuple[int, Mapping[str, str]]]:
        if "image" not in self.columns:
            return self.rows.get("", [])
        return self.rows.get(image) or self.rows.get(Path(image).stem) or []

    def _number(self, line: int, row: Mapping[str, str], column: str) -> float:
        try:
            value = float(row[column])
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise InputError(
                f"{self.path}, line {line}: the {column} is {row[column]!r}, expected a number"
            )
        return value

    def _check_clocks(self, rows: Sequence[tuple[int, Mapping[str, str]]], image: str) -> None:
        for clock in (name for name in CLOCKS if name in self.columns):
            last: dict[str, float] = {}
            for line, row in rows:
                now, before = self._number(line, row, clock), last.get(row["observer"], -math.inf)
                if now < before or (now == before and clock == "order"):
                    raise InputError(
                        f"{self.path}, line {line}: the {clock} of observer {row['observer']} at "
                        f"{image} goes from {before:g} to {now:g}, expected it to grow"
                    )
                last[row["observer"]] = now
