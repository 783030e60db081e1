"""Published results to compare with."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from landmarkflow.core.errors import InputError
from landmarkflow.evaluation.errors import labels_of, main_errors
from landmarkflow.evaluation.settings import EvaluateSettings, Unit
from landmarkflow.evaluation.summary import statistics, within
from landmarkflow.evaluation.tables import (
    NOTHING,
    Table,
    markdown_rows,
    number,
    table_markdown,
)

UNIT: Unit = "mm"
RADIUS = 1.0
FIGURES = ("n", "mean", "sd", "median", within(RADIUS))


@dataclass(frozen=True, eq=False)
class PublishedTable:
    """A published table of errors.

    Attributes:
        source: Where the table stands.
        note: How its printed summary relates to the recomputed one.
        names: Printed names of the landmarks, one per column.
        errors: Euclidean distances in mm, (scans, landmarks).
    """

    source: str
    note: str
    names: tuple[str, ...]
    errors: NDArray[np.float64]


_WANG_2020 = """
0.877104 0.702200 0.862706
0.281045 1.332490 0.648094
0.490064 0.564314 0.839740
0.695775 0.730758 0.554273
0.720785 0.720785 0.652519
0.565006 0.370034 1.117346
0.190016 0.309536 1.348332
0.488173 0.776744 0.309536
0.488857 0.348377 0.604708
0.385027 0.198213 0.494694
0.653242 1.632196 0.263451
0.837414 1.147350 1.064709
0.868734 1.002242 1.535283
0.673684 0.264812 0.718197
0.718201 1.037524 0.878216
0.722738 0.674657 0.812038
0.733301 0.797897 0.541678
0.536202 1.233090 0.335046
0.333654 0.549499 1.433840
0.389453 0.391017 0.880967
"""

PUBLISHED: Mapping[str, PublishedTable] = MappingProxyType(
    {
        "wang2020": PublishedTable(
            source="Wang et al. 2020, Table 1",
            note="The paper prints 0.58±0.19, 0.73±0.39 and 0.79±0.36 mm: its means and deviations "
            "are cut off after two decimals, and its deviations are divided by n - 1.",
            names=("CENTER", "TOP", "WINDOW"),
            errors=np.array(_WANG_2020.split(), dtype=np.float64).reshape(20, 3),
        )
    }
)


def published_table(published: PublishedTable) -> Table:
    """Returns a published table in our layout."""
    return Table(None, published.names, published.errors, UNIT)


def beside_published(
    errors: pd.DataFrame, published: PublishedTable, settings: EvaluateSettings
) -> pd.DataFrame:
    """Sets our errors beside a published table, landmark by landmark.

    Both sides are recomputed from single errors. Landmarks without a published counterpart have
    empty published figures.

    Args:
        errors: The error table, mm.
        published: The other table.
        settings: Which landmark has which printed name.

    Raises:
        InputError: No printed name is one of the published table's.
    """
    labels = labels_of(errors)
    names = [settings.printed_name(label) for label in labels]
    if labels and not set(names) & set(published.names):
        raise InputError(
            f"no landmark has a published counterpart: the columns are {', '.join(names)}, "
            f"expected at least one of {', '.join(published.names)} (setting columns)"
        )
    main = main_errors(errors)
    rows = []
    for label, name in zip(labels, names, strict=True):
        ours = main.loc[main["landmark"] == label, "error"].to_numpy(np.float64)
        theirs = np.empty(0)
        if name in published.names:
            theirs = published.errors[:, published.names.index(name)]
        rows.append((label, name, *_figures(ours), *_figures(theirs)))
    return pd.DataFrame(
        rows, columns=["landmark", "column", *FIGURES, *(f"published_{name}" for name in FIGURES)]
    )


def published_markdown(table: pd.DataFrame, published: PublishedTable) -> str:
    """Returns both sides and the whole published table as Markdown."""
    header = ["Landmark", "Column"]
    for side in ("ours", "published"):
        header += [f"n {side}", f"mean ± sd, {UNIT}, {side}", f"median, {UNIT}, {side}"]
        header.append(f"within {RADIUS:g} {UNIT}, %, {side}")
    rows = [
        [str(row["landmark"]), str(row["column"]), *side_cells(row), *side_cells(row, "published_")]
        for _, row in table.iterrows()
    ]
    ours = "Ours beside the published figures, both recomputed (sd divided by n)."
    source = f"{published.source}, {UNIT}. {published.note}"
    theirs = table_markdown(published_table(published), 6, source)
    return f"{ours}\n\n{markdown_rows(header, rows)}\n{theirs}"


def side_cells(row: "pd.Series[float]", prefix: str = "") -> list[str]:
    """Returns n, mean±sd, median and the share within 1 mm of one side as texts."""
    count, mean, sd, median, rate = (row[f"{prefix}{name}"] for name in FIGURES)
    if count == 0:
        return ["0", *[NOTHING] * 3]
    return [
        f"{count:.0f}",
        f"{number(mean, 2)}±{number(sd, 2)}",
        number(median, 2),
        number(rate, 0),
    ]


def _figures(errors: NDArray[np.float64]) -> tuple[float | None, ...]:
    found = statistics(errors, (RADIUS,))
    return found.n, found.mean, found.sd, found.median, found.within_percent[RADIUS]
