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
from landmarkflow.evaluation.published import PublishedTable
from landmarkflow.evaluation.settings import EvaluateSettings
from landmarkflow.evaluation.summary import success_rate

_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    **{character: f"\\{character}" for character in "&%$#_"},
}
_DASH = {"markdown": "–", "latex": "--"}


@dataclass(frozen=True, eq=False)
class Table:
    """Figures in mm, one row per scan.

    Attributes:
        scans: Row names, or None where the source gives none.
        columns: Column titles.
        values: (scans, columns) mm; NaN is missing.
    """

    scans: tuple[str, ...] | None
    columns: tuple[str, ...]
    values: NDArray[np.float64]


def error_matrix(errors: pd.DataFrame) -> tuple[list[str], list[str], NDArray[np.float64]]:
    """Returns scans, landmarks and the main stage's errors in mm, (scans, landmarks).

    NaN is a landmark that was not detected or has no reference.
    """
    main = main_errors(errors)
    scans = [str(scan) for scan in main["scan"].drop_duplicates()]
    labels = labels_of(errors)
    values = np.full((len(scans), len(labels)), np.nan)
    rows = main["scan"].map({scan: i for i, scan in enumerate(scans)}).to_numpy(np.int64)
    columns = main["landmark"].map({name: i for i, name in enumerate(labels)}).to_numpy(np.int64)
    values[rows, columns] = main["error_mm"].to_numpy(np.float64)
    return scans, labels, values


def accuracy_table(errors: pd.DataFrame, settings: EvaluateSettings) -> Table:
    """Returns Table 1: a column per landmark, or per scan statistic when there are many.

    Raises:
        InputError: `columns` names a landmark that was not evaluated, or two columns have the
            same title.
    """
    scans, labels, values = error_matrix(errors)
    if not labels:
        return Table((), (), np.empty((0, 0)))
    unknown = [label for label in settings.columns if label not in labels]
    if unknown:
        raise InputError(
            f'the setting columns names the landmark "{unknown[0]}", expected one of '
            f"{', '.join(labels)}"
        )
    if len(labels) > settings.table_landmarks_limit:
        return Table(tuple(scans), ("mean", "median", "p95", "max"), _scan_statistics(values))
    names = tuple(settings.printed_name(label) for label in labels)
    if len(set(names)) < len(names):
        raise InputError(
            f"the setting columns gives two landmarks one title, found {', '.join(names)}, "
            "expected different ones"
        )
    return Table(tuple(scans), names, values)


def published_table(published: PublishedTable) -> Table:
    """Returns a published table in our layout."""
    return Table(None, published.names, published.errors)


def table_csv(table: Table, decimals: int) -> str:
    """Returns a table as CSV: ID, scan, the columns in mm; a missing value is empty."""
    return csv_text([_header(table), *_body(table, decimals, ""), _mean_row(table, "", "")])


def table_markdown(table: Table, decimals: int, caption: str) -> str:
    """Returns a table as Markdown under its caption."""
    rows = [*_body(table, decimals, _DASH["markdown"]), _mean_row(table, " mm", "–")]
    return f"{caption}\n\n{markdown_rows(_header(table), rows)}"


def table_latex(table: Table, decimals: int, caption: str, label: str) -> str:
    """Returns a table as a LaTeX float; it needs the package booktabs."""
    rows = [*_body(table, decimals, _DASH["latex"]), _mean_row(table, " mm", _DASH["latex"])]
    lines = [" & ".join(_latex_cell(cell) for cell in row) + r" \\" for row in rows]
    left = "l" if table.scans is None else "ll"
    return "\n".join(
        [
            r"\begin{table}",
            r"  \centering",
            f"  \\caption{{{_latex_cell(caption)}}}",
            f"  \\label{{{label}}}",
            f"  \\begin{{tabular}}{{{left}{'r' * len(table.columns)}}}",
            r"    \toprule",
            "    " + " & ".join(escape_latex(cell) for cell in _header(table)) + r" \\",
            r"    \midrule",
            *[f"    {line}" for line in lines[:-1]],
            r"    \midrule",
            f"    {lines[-1]}",
            r"    \bottomrule",
            r"  \end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def caption(table: Table) -> str:
    """Returns what Table 1 shows, in words."""
    if table.scans is None:
        raise ValueError("only a table with scans has this caption")
    missing = int(np.isnan(table.values).sum())
    verb = "value is" if missing == 1 else "values are"
    note = f" {missing} {verb} missing and not part of it." if missing else ""
    return (
        f"Euclidean distance in mm between detected and reference landmarks, "
        f"{len(table.scans)} scans. Last row: mean ± standard deviation (divided by n).{note}"
    )


def comparison(
    errors: pd.DataFrame, published: PublishedTable, settings: EvaluateSettings
) -> pd.DataFrame:
    """Sets our errors beside a published table, landmark by landmark.

    Both sides are recomputed from single errors. Landmarks without a published counterpart have
    empty published figures.

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
        ours = main.loc[main["landmark"] == label, "error_mm"].to_numpy(np.float64)
        theirs = (
            published.errors[:, published.names.index(name)]
            if name in published.names
            else np.empty(0)
        )
        rows.append((label, name, *_figures(ours), *_figures(theirs)))
    figures = ("n", "mean_mm", "sd_mm", "median_mm", "within_1_mm_percent")
    columns = ["landmark", "column", *figures, *(f"published_{name}" for name in figures)]
    return pd.DataFrame(rows, columns=columns)


def comparison_markdown(table: pd.DataFrame, published: PublishedTable) -> str:
    """Returns the comparison and the whole published table as Markdown."""
    header = ["Landmark", "Column"]
    for side in ("ours", "published"):
        header += [f"n {side}", f"mean ± sd, mm, {side}", f"median, mm, {side}"]
        header.append(f"within 1 mm, %, {side}")
    rows = [
        [str(row["landmark"]), str(row["column"])]
        + [cell for prefix in ("", "published_") for cell in _comparison_cells(row, prefix)]
        for _, row in table.iterrows()
    ]
    ours = "Ours beside the published figures, both recomputed (sd divided by n)."
    theirs = table_markdown(
        published_table(published), 6, f"{published.source}, mm. {published.note}"
    )
    return f"{ours}\n\n{markdown_rows(header, rows)}\n{theirs}"


def csv_text(rows: Sequence[Sequence[str]]) -> str:
    """Returns rows as the text of a CSV file."""
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(rows)
    return stream.getvalue()


def markdown_rows(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Returns a Markdown table, its first column left-aligned and the others right-aligned."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    escaped = [[escape_markdown(cell) for cell in line] for line in lines]
    return "".join(f"| {' | '.join(line)} |\n" for line in escaped)


def escape_markdown(text: str) -> str:
    """Returns text that Markdown prints as it stands."""
    if re.fullmatch(r"-+:?", text):
        return text
    return re.sub(r"([\\`*_\[\]<>|~#])", r"\\\1", " ".join(text.split()))


def escape_latex(text: str) -> str:
    """Returns text that LaTeX prints as it stands."""
    return "".join(_LATEX.get(character, character) for character in " ".join(text.split()))


def mean_and_deviation(values: NDArray[np.float64]) -> str | None:
    """Returns "mean±sd" in two decimals, sd divided by n, leaving NaN out; None without values."""
    known = values[~np.isnan(values)]
    if known.size == 0:
        return None
    return f"{known.mean():.2f}±{known.std(ddof=0):.2f}"


def _scan_statistics(values: NDArray[np.float64]) -> NDArray[np.float64]:
    result = np.full((len(values), 4), np.nan)
    for row, scan_values in enumerate(values):
        known = scan_values[~np.isnan(scan_values)]
        if known.size:
            result[row] = (known.mean(), *np.percentile(known, (50, 95)), known.max())
    return result


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


def _figures(errors: NDArray[np.float64]) -> tuple[int, float, float, float, float]:
    known = errors[~np.isnan(errors)]
    rate = success_rate(errors, 1.0)
    within = np.nan if rate is None else rate
    if known.size == 0:
        return 0, np.nan, np.nan, np.nan, within
    return (
        known.size,
        float(known.mean()),
        float(known.std(ddof=0)),
        float(np.median(known)),
        within,
    )


def _comparison_cells(row: "pd.Series[object]", prefix: str) -> list[str]:
    count = int(row[f"{prefix}n"])
    if count == 0:
        return ["0", "–", "–", "–"]
    return [
        str(count),
        f"{row[f'{prefix}mean_mm']:.2f}±{row[f'{prefix}sd_mm']:.2f}",
        f"{row[f'{prefix}median_mm']:.2f}",
        f"{row[f'{prefix}within_1_mm_percent']:.0f}",
    ]


def _latex_cell(text: str) -> str:
    return escape_latex(text).replace("±", r"$\pm$")
