"""Tables as people read them: Table 1 in the layout of the paper, Markdown and LaTeX."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

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
        rules = ["---", *["---:"] * (len(self.header) - 1)]
        lines = [[escape_markdown(cell) for cell in row] for row in (self.header, *self.rows)]
        lines.insert(1, rules)
        return f"{self.caption}\n\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines)

    def latex(self, label: str, names: int) -> str:
        """Returns the table as a LaTeX float; it needs the package booktabs.

        Args:
            label: Its name for references.
            names: How many columns hold names, which are left-aligned.
        """
        lines = [r"\begin{table}", r"  \centering", f"  \\caption{{{escape_latex(self.caption)}}}"]
        lines.append(f"  \\label{{{label}}}")
        alignment = "l" * names + "r" * (len(self.header) - names)
        lines.append(f"  \\begin{{tabular}}{{{alignment}}}")
        body = len(self.rows) - self.foot
        parts = {"toprule": [self.header], "midrule": self.rows[:body]}
        for rule, rows in [("toprule", [self.header]), ("midrule", self.rows)]:
            lines.append(f"    \\{rule}")
            lines += [f"    {' & '.join(map(escape_latex, row))} \\\\" for row in rows]
        return "\n".join([*lines, r"  \end{tabular}", r"\end{table}", ""])
