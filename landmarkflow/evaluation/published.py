"""Published results to compare with."""

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from landmarkflow.core.errors import InputError
from landmarkflow.evaluation.errors import main_errors
from landmarkflow.evaluation.settings import EvaluateSettings, Unit
from landmarkflow.evaluation.summary import statistics, within
from landmarkflow.evaluation.tables import Printed, mean_and_sd, number, print_scans

UNIT: Unit = "mm"
RADIUS = 1.0
FIGURES = ("n", "mean", "sd", "median", within(RADIUS))
BOTH_SIDES = (*FIGURES, *(f"published_{name}" for name in FIGURES))


@dataclass(frozen=True, eq=False)
class PublishedTable:
    """A published table of errors.

    Attributes:
        source: Where the table stands.
        note: How its printed summary relates to the recomputed one.
        errors: Distances in mm, a row for each scan; columns are the landmarks' printed names.
    """

    source: str
    note: str
    errors: pd.DataFrame


_WANG_2020 = """CENTER TOP WINDOW
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

PUBLISHED = {
    "wang2020": PublishedTable(
        source="Wang et al. 2020, Table 1",
        note="The paper prints 0.58±0.19, 0.73±0.39 and 0.79±0.36 mm: its means and deviations "
        "are cut off after two decimals, and its deviations are divided by n - 1.",
        errors=pd.read_csv(io.StringIO(_WANG_2020), sep=" "),
    )
}


def beside_published(
    errors: pd.DataFrame, published: PublishedTable, settings: EvaluateSettings
) -> pd.DataFrame:
    """Sets our errors beside a published table, landmark by landmark.

    Args:
        errors: The error table, mm.
        published: The other table.
        settings: Which landmark has which printed name.

    Returns:
        landmark, column (its printed name) and `BOTH_SIDES`, recomputed from single errors. A
        landmark without a published counterpart has a published n of 0 and no other figure.

    Raises:
        InputError: No printed name is one of the published table's.
    """
    rows: list[dict[str, Any]] = []
    for label, ours in main_errors(errors).groupby("landmark", sort=False)["error"]:
        name = settings.printed_name(label)
        theirs = published.errors.get(name, pd.Series(dtype="float64"))
        figures = _figures(ours, "") | _figures(theirs, "published_")
        rows.append({"landmark": label, "column": name, **figures})
    names = [row["column"] for row in rows]
    if names and not set(names) & set(published.errors):
        raise InputError(
            f"no landmark has a published counterpart: the columns are {', '.join(names)}, "
            f"expected at least one of {', '.join(published.errors)} (setting columns)"
        )
    return pd.DataFrame(rows, columns=["landmark", "column", *BOTH_SIDES])


def published_markdown(table: pd.DataFrame, published: PublishedTable) -> str:
    """Returns both sides and the whole published table as Markdown."""
    source = f"{published.source}, {UNIT}. {published.note}"
    theirs = print_scans(published.errors, source, 6, UNIT)
    return f"{print_sides(table).markdown()}\n{theirs.markdown()}"


def print_sides(table: pd.DataFrame) -> Printed:
    """Returns what `beside_published` returned as texts: names, our figures, published ones."""
    header, rows = ["Landmark", "Column"], []
    for side in ("ours", "published"):
        header += [f"n {side}", f"mean ± sd, {UNIT}, {side}", f"median, {UNIT}, {side}"]
        header.append(f"within {RADIUS:g} {UNIT}, %, {side}")
    for row in table.to_dict("records"):
        cells = [row["landmark"], row["column"]]
        for side in ("", "published_"):
            figures = {name: row[side + name] for name in FIGURES}
            n, _, _, median, rate = figures.values()
            mean = mean_and_sd(figures, 2)
            cells += [number(n, 0), mean, number(median, 2), number(rate if n else np.nan, 0)]
        rows.append(cells)
    said = "Ours beside the published figures, both recomputed (sd divided by n)."
    return Printed(said, header, rows)


def _figures(errors: "pd.Series[float]", prefix: str) -> dict[str, float]:
    found = statistics(errors.to_numpy(np.float64), (RADIUS,))
    return {prefix + name: found[name] for name in FIGURES}
