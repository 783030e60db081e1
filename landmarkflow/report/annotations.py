"""Error against the number of annotated scans, as a figure."""

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from landmarkflow.evaluation.annotations import Annotations, Curve, Point, Worth
from landmarkflow.report.figures import (
    COLOURS,
    PAGE,
    Layout,
    Style,
    draw_legend,
    label_axes,
    new_figure,
)

# Errors that differ by more are drawn on a logarithmic axis.
LOG_SPAN = 5


def draw_annotations(found: Annotations, dpi: int, layout: Layout = PAGE) -> Figure:
    """Draws curves over the number of annotated scans, levels across, and where they cross.

    The number's axis is logarithmic. A bar spans the means of a point's seeds, a band those of a
    level's. A ring and a line down to the axis mark what a level is worth on a curve.

    Args:
        found: Curves and levels.
        dpi: Pixels per inch.
        layout: Its width.
    """
    figure = new_figure(layout.width, 4.2, dpi)
    axes = figure.subplots()
    for number, curve in enumerate(found.curves):
        _draw_curve(axes, curve, COLOURS[number % len(COLOURS)])
    colours = {}
    for number, level in enumerate(found.levels, start=len(found.curves)):
        colours[level.run] = COLOURS[number % len(COLOURS)]
        _draw_level(axes, level, colours[level.run])
    _scale_errors(axes, found)
    for worth in found.worths:
        _mark_crossing(axes, worth, colours[worth.level.run])
    numbers = sorted({p.annotated for curve in found.curves for p in curve.points})
    axes.set(xscale="log", xlim=(0.85 * numbers[0], 1.18 * numbers[-1]))
    axes.set_xticks(numbers, [str(number) for number in numbers])
    axes.xaxis.set_minor_locator(NullLocator())
    label_axes(axes, "annotated scans learned from", f"mean error, {found.unit}")
    draw_legend(axes, 8, 1 if layout.stacked else 3)
    figure.tight_layout()
    return figure


def _scale_errors(axes: Axes, found: Annotations) -> None:
    """An axis from 0 on, or a logarithmic one where levels would else lie in one line."""
    points = [*found.levels, *(point for curve in found.curves for point in curve.points)]
    means = [point.mean for point in points if point.mean > 0]
    if means and max(means) > LOG_SPAN * min(means):
        axes.set_yscale("log")
        axes.set_ylim(0.7 * min(means), 1.2 * np.nanmax([point.highest for point in points]))
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter("{x:g}")
    else:
        axes.set_ylim(bottom=0)


def _draw_curve(axes: Axes, curve: Curve, colour: str) -> None:
    known = [point for point in curve.points if math.isfinite(point.mean)]
    numbers = [point.annotated for point in known]
    means = np.array([point.mean for point in known])
    ends = np.array([[p.mean - p.lowest, p.highest - p.mean] for p in known]).reshape(-1, 2)
    missing = sum(point.missing for point in curve.points)
    name = _plain(curve.name) + (f" ({missing} landmarks missing)" if missing else "")
    # Of seeds with different numbers of misses the pooled mean may lie beyond their own.
    bars = np.maximum(ends.T, 0)
    axes.errorbar(numbers, means, bars, fmt="o-", color=colour, capsize=3, label=name)


def _draw_level(axes: Axes, level: Point, colour: str) -> None:
    missing = f", {level.missing} missing" if level.missing else ""
    label = f"{_plain(level.run)}: {level.mean:.3f}{missing}"
    axes.axhline(level.mean, color=colour, linewidth=1.2, linestyle=(0, (5, 2)), label=label)
    if level.seeds > 1:
        axes.axhspan(level.lowest, level.highest, color=colour, alpha=0.15, linewidth=0)


def _mark_crossing(axes: Axes, worth: Worth, colour: str) -> None:
    """A ring where a curve comes down to a level, if it does so between two of its points."""
    if not 0 < worth.scans < math.inf:
        return
    place, level = worth.scans, worth.level.mean
    bottom = axes.get_ylim()[0]
    axes.plot([place, place], [bottom, level], color=colour, linewidth=0.9, linestyle=":")
    axes.plot(place, level, "o", markersize=9, markerfacecolor="none", color=colour)
    note: Style = {"ha": "left", "va": "bottom", "fontsize": 8, "color": colour}
    axes.annotate(f"{place:.0f}", (place, bottom), (3, 2), textcoords="offset points", **note)


def _plain(name: str) -> str:
    """A name for a legend, which reads dollar signs as mathematics unless they are escaped."""
    return name.replace("$", r"\$")
