"""Tables as people read them: Table 1 in the layout of the paper, Markdown and LaTeX."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from landmarkflow.core.errors import InputError
from landmarkflow.evaluation.errors import main_errors
from landmarkflow.evaluation.settings import IN_WORDS, EvaluateSettings, Unit
from landmarkflow.evaluation.summary import ENOUGH, statistics

NOTHING = "–"
_LATEX = {character: f"\\{character}" for character in "{}&%$#_"}
_LATEX |= {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
_LATEX |= {"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}"}
_LATEX |= {"±": r"$\pm$", NOTHING: "--"}


@dataclass(frozen=True)
class Printed:
    """A table as texts.

    Attributes:
        caption: What it shows, in words.
        header: Column titles; empty where there is nothing to show but the caption.
        rows: Cells.
        foot: How many rows at the end sum up the others.
    """

    caption: str
    header: list[str]
    rows: list[list[str]]
    foot: int = 0

    def markdown(self) -> str:
        """Returns caption and table, its first column left-aligned and the others right-aligned."""
        if not self.header:
            return f"{self.caption}\n"
        lines = [[escape_markdown(cell) for cell in row] for row in (self.header, *self.rows)]
        lines.insert(1, ["---", *["---:"] * (len(self.header) - 1)])
        return f"{self.caption}\n\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines)

    def latex(self, label: str, names: int) -> str:
        """Returns a float that needs the package booktabs.

        Args:
            label: Its name for references.
            names: How many columns hold names, which are left-aligned.
        """
        lines = [r"\begin{table}", r"  \centering", f"  \\caption{{{escape_latex(self.caption)}}}"]
        alignment = "l" * names + "r" * (len(self.header) - names)
        lines += [f"  \\label{{{label}}}", f"  \\begin{{tabular}}{{{alignment}}}"]
        body = len(self.rows) - self.foot
        groups = [("toprule", [self.header]), ("midrule", self.rows[:body])]
        groups += [("midrule", self.rows[body:])] if self.foot else []
        for rule, rows in [*groups, ("bottomrule", [])]:
            lines.append(f"    \\{rule}")
            lines += [f"    {' & '.join(map(escape_latex, row))} \\\\" for row in rows]
        return "\n".join([*lines, r"  \end{tabular}", r"\end{table}", ""])


def print_columns(
    table: pd.DataFrame, caption: str, columns: Sequence[tuple[str, str, int]]
) -> Printed:
    """Returns columns of a table as texts; `mean`, where there is one, is printed with `sd`.

    Args:
        table: Texts and numbers.
        caption: What it shows.
        columns: Title, column and how many decimals its numbers have, in the order printed.
    """
    records: list[dict[Any, Any]] = table.to_dict("records")
    if "mean" in table:
        records = [row | {"mean": mean_and_sd(row, 3, " ± ")} for row in records]
    rows = [[number(row[name], decimals) for _, name, decimals in columns] for row in records]
    return Printed(caption, [title for title, _, _ in columns], rows)


def accuracy_table(errors: pd.DataFrame, settings: EvaluateSettings) -> pd.DataFrame:
    """Returns the numbers of Table 1, of an error table.

    Returns:
        A row for each scan, by name; a column for each landmark, under its printed name, with the
        main stage's error, or with many landmarks mean, median, p95 and max of them. NaN is a
        landmark that was not detected or has no reference.

    Raises:
        InputError: `columns` names a landmark that was not evaluated, or two columns have the
            same title.
    """
    main, labels = main_errors(errors), list(errors["landmark"].unique())
    table = main.pivot(index="scan", columns="landmark", values="error")
    table = table.reindex(index=main["scan"].unique(), columns=labels)
    unknown = [label for label in settings.columns if label not in labels]
    if labels and unknown:
        raise InputError(
            f'the setting columns names the landmark "{unknown[0]}", expected one of '
            f"{', '.join(labels)}"
        )
    if len(labels) > settings.table_landmarks_limit:
        of_scans = [statistics(values, ()) for values in table.to_numpy()]
        return pd.DataFrame(of_scans, table.index, columns=["mean", "median", "p95", "max"])
    names = [settings.printed_name(label) for label in labels]
    if len(set(names)) < len(names):
        raise InputError(
            f"the setting columns gives two landmarks one title, found {', '.join(names)}, "
            "expected different ones"
        )
    return table.set_axis(names, axis="columns")


def accuracy_caption(table: pd.DataFrame, unit: Unit) -> str:
    """Returns what Table 1 shows, in words."""
    missing = int(table.isna().to_numpy().sum())
    verb = "value is" if missing == 1 else "values are"
    note = f" {missing} {verb} missing and not part of it." if missing else ""
    if len(table) < ENOUGH:
        return (
            f"Euclidean distance in {IN_WORDS[unit]} between detected and reference landmarks, "
            f"{len(table)} scans. Last row: mean; n too small for a deviation.{note}"
        )
    return (
        f"Euclidean distance in {IN_WORDS[unit]} between detected and reference landmarks, "
        f"{len(table)} scans. Last row: mean ± standard deviation (divided by n).{note}"
    )


def print_scans(
    table: pd.DataFrame, caption: str, decimals: int, unit: str, missing: str = NOTHING
) -> Printed:
    """Returns distances as texts, a row for each scan, with their means ± sd below.

    Args:
        table: Columns of distances; an index without a name stands for scans without names.
        caption: What it shows.
        decimals: Of the distances; means have two.
        unit: Stands behind each mean, which has a deviation where `ENOUGH` distances have it.
        missing: Stands where there is no distance.
    """
    names = ["scan"] if table.index.name else []
    rows = []
    for i, (scan, values) in enumerate(zip(table.index, table.to_numpy(), strict=True)):
        cells = [number(value, decimals, missing) for value in values]
        rows.append([str(i), *([str(scan)] if names else []), *cells])
    means = [statistics(values, ()) for values in table.to_numpy().T]
    cells = [f"{mean_and_sd(m, 2)} {unit}".strip() if m["n"] else missing for m in means]
    rows.append(["Mean", *[""] * len(names), *cells])
    return Printed(caption, ["ID", *names, *table], rows, foot=1)


def scans_csv(table: pd.DataFrame, decimals: int) -> str:
    """Returns what `print_scans` does as CSV, without a unit; a missing distance is empty."""
    printed = print_scans(table, "", decimals, "", missing="")
    return frame_csv(pd.DataFrame(printed.rows, columns=printed.header))


def frame_csv(table: pd.DataFrame) -> str:
    """Returns a table as the text of a CSV file with four decimals."""
    return str(table.to_csv(index=False, float_format="%.4f", lineterminator="\n"))


def escape_markdown(text: str) -> str:
    """Returns text that Markdown prints as it stands."""
    return re.sub(r"([\\`*_\[\]<>|~#])", r"\\\1", " ".join(text.split()))


def escape_latex(text: str) -> str:
    """Returns text that LaTeX prints as it stands."""
    return "".join(_LATEX.get(character, character) for character in " ".join(text.split()))


def mean_and_sd(figures: Mapping[Any, Any], decimals: int, between: str = "±") -> str:
    """Returns a mean with its deviation, or alone where fewer than `ENOUGH` values have it."""
    mean, sd = (number(figures[name], decimals) for name in ("mean", "sd"))
    return f"{mean}{between}{sd}" if figures["n"] >= ENOUGH else mean


def number(value: float | str, decimals: int = 3, missing: str = NOTHING) -> str:
    """Returns a figure as text, a dash for NaN; a text stays as it is."""
    if isinstance(value, str):
        return value
    return missing if np.isnan(value) else f"{value:.{decimals}f}"
