"""Tables in the layout of the paper: one row per scan, one column per landmark, a mean row."""

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from landmarkflow.core.errors import InputError
from landmarkflow.evaluation.errors import labels_of, main_errors
from landmarkflow.evaluation.settings import IN_WORDS, EvaluateSettings, Unit
from landmarkflow.evaluation.summary import statistics

NOTHING = "–"
_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "±": r"$\pm$",
    NOTHING: "--",
    **{character: f"\\{character}" for character in "&%$#_"},
}


@dataclass(frozen=True, eq=False)
class Table:
    """Distances, one row per scan.

    Attributes:
        scans: Row names, or None where the source gives none.
        columns: Column titles.
        values: (scans, columns); NaN is missing.
        unit: The unit of the values.
    """

    scans: tuple[str, ...] | None
    columns: tuple[str, ...]
    values: NDArray[np.float64]
    unit: Unit


def error_matrix(errors: pd.DataFrame) -> tuple[list[str], list[str], NDArray[np.float64]]:
    """Returns scans, landmarks and the main stage's errors, (scans, landmarks).

    NaN is a landmark that was not detected or has no reference.
    """
    main = main_errors(errors)
    scans = [str(scan) for scan in main["scan"].drop_duplicates()]
    labels = labels_of(errors)
    values = main.pivot(index="scan", columns="landmark", values="error")
    return scans, labels, values.reindex(index=scans, columns=labels).to_numpy(np.float64)


def accuracy_table(errors: pd.DataFrame, settings: EvaluateSettings, unit: Unit) -> Table:
    """Returns Table 1: a column per landmark, or per scan statistic when there are many.

    Raises:
        InputError: `columns` names a landmark that was not evaluated, or two columns have the
            same title.
    """
    scans, labels, values = error_matrix(errors)
    if not labels:
        return Table((), (), np.empty((0, 0)), unit)
    unknown = [label for label in settings.columns if label not in labels]
    if unknown:
        raise InputError(
            f'the setting columns names the landmark "{unknown[0]}", expected one of '
            f"{', '.join(labels)}"
        )
    if len(labels) > settings.table_landmarks_limit:
        titles = ("mean", "median", "p95", "max")
        return Table(tuple(scans), titles, _scan_statistics(values), unit)
    names = tuple(settings.printed_name(label) for label in labels)
    if len(set(names)) < len(names):
        raise InputError(
            f"the setting columns gives two landmarks one title, found {', '.join(names)}, "
            "expected different ones"
        )
    return Table(tuple(scans), names, values, unit)


def table_csv(table: Table, decimals: int) -> str:
    """Returns a table as CSV: ID, scan, the columns; a missing value is empty."""
    stream = io.StringIO()
    rows = [_header(table), *_body(table, decimals, ""), _mean_row(table, "", "")]
    csv.writer(stream, lineterminator="\n").writerows(rows)
    return stream.getvalue()


def table_markdown(table: Table, decimals: int, caption: str) -> str:
    """Returns a table as Markdown under its caption."""
    rows = [*_body(table, decimals, NOTHING), _mean_row(table, f" {table.unit}", NOTHING)]
    return f"{caption}\n\n{markdown_rows(_header(table), rows)}"


def table_latex(table: Table, decimals: int, caption: str, label: str) -> str:
    """Returns a table as a LaTeX float; it needs the package booktabs."""
    body = _body(table, decimals, NOTHING)
    mean = _mean_row(table, f" {table.unit}", NOTHING)
    names = 1 if table.scans is None else 2
    return latex_rows(_header(table), body, [mean], caption=caption, label=label, names=names)


def caption(table: Table) -> str:
    """Returns what Table 1 shows, in words."""
    if table.scans is None:
        raise ValueError("only a table with scans has this caption")
    missing = int(np.isnan(table.values).sum())
    verb = "value is" if missing == 1 else "values are"
    note = f" {missing} {verb} missing and not part of it." if missing else ""
    return (
        f"Euclidean distance in {IN_WORDS[table.unit]} between detected and reference landmarks, "
        f"{len(table.scans)} scans. Last row: mean ± standard deviation (divided by n).{note}"
    )


def frame_csv(table: pd.DataFrame) -> str:
    """Returns a table of columns as the text of a CSV file with four decimals."""
    return str(table.to_csv(index=False, float_format="%.4f", lineterminator="\n"))


def markdown_rows(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Returns a Markdown table, its first column left-aligned and the others right-aligned."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    escaped = [[escape_markdown(cell) for cell in line] for line in lines]
    return "".join(f"| {' | '.join(line)} |\n" for line in escaped)


def latex_rows(
    header: Sequence[str],
    *groups: Sequence[Sequence[str]],
    caption: str,
    label: str,
    names: int,
) -> str:
    """Returns groups of rows, with rules between them, as a LaTeX float.

    Args:
        header: Column titles.
        groups: Rows of cells.
        caption: What the table shows.
        label: Its name for references.
        names: How many columns hold names, which are left-aligned.
    """
    lines = [r"\begin{table}", r"  \centering", f"  \\caption{{{escape_latex(caption)}}}"]
    lines.append(f"  \\label{{{label}}}")
    lines.append(f"  \\begin{{tabular}}{{{'l' * names}{'r' * (len(header) - names)}}}")
    for rule, rows in (
        ("toprule", [header]),
        *(("midrule", rows) for rows in groups),
        ("bottomrule", []),
    ):
        lines.append(f"    \\{rule}")
        lines += [f"    {' & '.join(map(escape_latex, row))} \\\\" for row in rows]
    return "\n".join([*lines, r"  \end{tabular}", r"\end{table}", ""])


def escape_markdown(text: str) -> str:
    """Returns text that Markdown prints as it stands."""
    if re.fullmatch(r"-+:?", text):
        return text
    return re.sub(r"([\\`*_\[\]<>|~#])", r"\\\1", " ".join(text.split()))


def escape_latex(text: str) -> str:
    """Returns text that LaTeX prints as it stands."""
    return "".join(_LATEX.get(character, character) for character in " ".join(text.split()))


def number(value: float | None, decimals: int = 3) -> str:
    """Returns a figure as text, a dash for None and NaN."""
    return NOTHING if value is None or np.isnan(value) else f"{value:.{decimals}f}"


def mean_and_deviation(values: NDArray[np.float64]) -> str | None:
    """Returns "mean±sd" in two decimals, sd divided by n, leaving NaN out; None without values."""
    known = values[~np.isnan(values)]
    if known.size == 0:
        return None
    return f"{known.mean():.2f}±{known.std(ddof=0):.2f}"


def _scan_statistics(values: NDArray[np.float64]) -> NDArray[np.float64]:
    rows = [statistics(row, ()) for row in values]
    return np.array([(row.mean, row.median, row.p95, row.max) for row in rows], np.float64)


def _header(table: Table) -> list[str]:
    return ["ID", *([] if table.scans is None else ["scan"]), *table.columns]


def _body(table: Table, decimals: int, missing: str) -> list[list[str]]:
    names = [[]] * len(table.values) if table.scans is None else [[name] for name in table.scans]
    return [
        [str(i), *name, *(missing if np.isnan(v) else f"{v:.{decimals}f}" for v in row)]
        for i, (name, row) in enumerate(zip(names, table.values, strict=True))
    ]


def _mean_row(table: Table, unit: str, missing: str) -> list[str]:
    means = [mean_and_deviation(column) for column in table.values.T]
    cells = [missing if mean is None else mean + unit for mean in means]
    return ["Mean", *([] if table.scans is None else [""]), *cells]
