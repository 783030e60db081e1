"""How a network was trained: any table with the column `epoch` as curves."""

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from landmarkflow.core.errors import InputError
from landmarkflow.evaluation.results import read_table
from landmarkflow.report.figures import (
    COLOURS,
    PAGE,
    Layout,
    Style,
    draw_legend,
    label_axes,
    new_figure,
)

# Time runs alike in every training: no curve shows anything.
NOT_DRAWN = ("epoch", "seconds")
# Endings of the columns that share a panel, and its title, in the order of the panels.
SHARED = {"loss": "loss", "dice": "Dice coefficient"}
LOG_SPAN = 30


def read_history(path: Path) -> pd.DataFrame:
    """Reads a training's table: the column epoch and others, of which those of numbers are drawn.

    Raises:
        InputError: The file is unreadable, has no column epoch, no rows or no numbers.
    """
    table = read_table(path, ("epoch",), ("epoch",))
    if table.empty:
        raise InputError(f"{path}: has no rows, expected one per epoch")
    numbers = table.apply(pd.to_numeric, errors="coerce").dropna(axis="columns", how="all")
    if not _panels(numbers):
        raise InputError(f"{path}: has no numbers beside the epochs, expected a loss or the like")
    return numbers


def draw_history(history: pd.DataFrame, dpi: int, layout: Layout = PAGE) -> Figure:
    """Draws what `read_history` returned, at `dpi` pixels per inch.

    Losses are in one panel, Dice coefficients in another, and each other column in its own;
    `layout` says how wide the figure is, and whether panels are stacked.
    """
    panels = _panels(history)
    across = 2 if len(panels) == 4 else min(len(panels), 3)
    across = 1 if layout.stacked else across
    rows = -(-len(panels) // across)
    width = min(5.2, layout.width) if across == 1 else layout.width
    figure = new_figure(width, (2.6 if across == 3 else 3.0) * rows, dpi)
    places = figure.subplots(rows, across, squeeze=False).ravel()
    for axes in places[len(panels) :]:
        axes.set_axis_off()
    for axes, (title, columns) in zip(places, panels.items(), strict=False):
        # Validation has the same colour in every panel.
        others = itertools.cycle([COLOURS[0], *COLOURS[2:]])
        for column, name in columns.items():
            known = history[["epoch", column]].dropna()
            colour = COLOURS[1] if name == "validation" else next(others)
            style: Style = {"color": colour, "label": name, "markersize": 3}
            marker = "o" if len(known) < 40 else ""
            axes.plot(known["epoch"], known[column], marker=marker, **style)
        label_axes(axes, "epoch", title)
        if title == SHARED["dice"]:
            axes.set_ylim(0, 1.02)
        if title == SHARED["loss"]:
            _show_losses(axes, history[["epoch", *columns]])
        if len(axes.lines) > 1 or title in SHARED.values():
            draw_legend(axes, 7, 2, handlelength=1, handletextpad=0.4, columnspacing=0.8)
    figure.tight_layout()
    return figure


def _panels(history: pd.DataFrame) -> dict[str, dict[str, str]]:
    """Returns the panels' titles with their columns and the names of these."""
    panels: dict[str, dict[str, str]] = {title: {} for title in SHARED.values()}
    for column in [str(column) for column in history if column not in NOT_DRAWN]:
        first, _, ending = column.rpartition("_")
        title = SHARED.get(ending, column.replace("_", " "))
        name = {"train": "training", "": ending}.get(first, first.replace("_", " "))
        panels.setdefault(title, {})[column] = name
    return {title: columns for title, columns in panels.items() if columns}


def _show_losses(axes: Axes, losses: pd.DataFrame) -> None:
    """Makes the axis of far-reaching losses logarithmic and marks the best epoch."""
    values = losses.drop(columns="epoch").to_numpy(np.float64)
    known = values[np.isfinite(values)]
    if known.size and known.min() > 0 and known.max() > LOG_SPAN * known.min():
        axes.set_yscale("log")
    if "validation_loss" in losses:
        best = losses.loc[losses["validation_loss"].idxmin()]
        epoch, loss = best["epoch"], best["validation_loss"]
        label = f"best: epoch {epoch:.0f}, {loss:.3g}"
        ring: Style = {"marker": "o", "markersize": 7, "markerfacecolor": "none"}
        axes.plot(epoch, loss, linestyle="none", color=COLOURS[1], label=label, **ring)
