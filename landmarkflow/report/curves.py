"""Distributions of errors, and errors beside their radii."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from landmarkflow.evaluation.errors import main_errors
from landmarkflow.evaluation.settings import Unit
from landmarkflow.evaluation.summary import ENOUGH
from landmarkflow.report.figures import (
    COLOURS,
    PAGE,
    Layout,
    Style,
    draw_legend,
    label_axes,
    new_figure,
)

# With more landmarks, boxes stand upright below the curves instead of lying beside them.
STRIP_LIMIT = 12


def draw_error_distribution(
    errors: pd.DataFrame, radii: Sequence[float], unit: Unit, dpi: int, layout: Layout = PAGE
) -> Figure:
    """Draws cumulative errors by stage and, for the main stage, boxes by landmark.

    A curve's height at x is the share of landmarks, missing ones included, at most x from their
    reference. Its axis is logarithmic, since a first stage can be a hundred times as far off
    as the last.

    Args:
        errors: The error table.
        radii: Radii to mark.
        unit: The unit of errors and radii.
        dpi: Pixels per inch.
        layout: Width, and whether panels are stacked.
    """
    main = main_errors(errors)
    by_landmark = main.groupby("landmark", sort=False)["error"]
    samples = {label: rows.dropna().to_numpy(np.float64) for label, rows in by_landmark}
    many = len(samples) > STRIP_LIMIT
    stacked = many or layout.stacked
    figure = new_figure(layout.width, 6.2 if stacked else 3.8, dpi)
    cumulative, boxes = figure.subplots(2, 1) if stacked else figure.subplots(1, 2)
    span = (radii[0] / 10, 1.05 * max(*radii, errors["error"].max()))
    for radius in radii:
        cumulative.axvline(radius, color="#bbbbbb", linewidth=0.8, linestyle=(0, (3, 3)))
    for i, (stage, rows) in enumerate(errors.groupby("stage", sort=False)):
        values = rows["error"].to_numpy(np.float64)
        _draw_cumulative(cumulative, values, stage, COLOURS[i % len(COLOURS)], span)
    cumulative.set(xscale="log", xlim=span, ylim=(0, 101))
    cumulative.xaxis.set_major_formatter("{x:g}")
    label_axes(cumulative, f"error, {unit}", "landmarks within, %")
    draw_legend(cumulative, 7.5, 1 if layout.stacked else 3 if many else 2)
    limit = max(radii)
    if (known := main["error"].dropna()).size:
        # A few far outliers must not squeeze all the others.
        usual = min(known.max(), 3 * np.percentile(known, 90))
        limit = 1.05 * max(usual, radii[len(radii) // 2])
    _draw_boxes(boxes, samples, limit, f"error, {unit}", upright=many)
    figure.tight_layout()
    return figure


def draw_radii(errors: pd.DataFrame, unit: Unit, dpi: int, layout: Layout = PAGE) -> Figure:
    """Draws each landmark's error over its radius, and how many lie within at each radius.

    Args:
        errors: The error table; at least one landmark has a radius and an error.
        unit: The unit of errors and radii.
        dpi: Pixels per inch.
        layout: Width, and whether panels are stacked.
    """
    known = main_errors(errors).dropna(subset=["error", "radius"])
    radius, error = (known[name].to_numpy(np.float64) for name in ("radius", "error"))
    figure = new_figure(layout.width, 5.4 if layout.stacked else 3.4, dpi)
    scatter, shares = figure.subplots(2, 1) if layout.stacked else figure.subplots(1, 2)
    ends = 1.05 * float(radius.max()), 1.05 * float(error.max())
    scatter.plot([0, max(ends)], [0, max(ends)], color="#555555", linewidth=0.9)
    within = error <= radius
    for inside, colour, name in ((within, COLOURS[0], "within"), (~within, COLOURS[1], "beyond")):
        label = f"{name} the radius: {100 * inside.mean():.0f} %"
        scatter.plot(radius[inside], error[inside], ".", color=colour, markersize=4, label=label)
    scatter.set(xlim=(0, ends[0]), ylim=(0, ends[1]))
    draw_legend(scatter, 8, 2 if layout == PAGE else 1)
    label_axes(scatter, f"radius, {unit}", f"error, {unit}")
    # What other shares a radius of another size would hold: a calibrated one meets the cross.
    scales = np.linspace(0, 2, 101)
    shares.plot(scales, [100 * np.mean(error <= s * radius) for s in scales], color=COLOURS[0])
    shares.plot([1], [90], "+", color=COLOURS[1], markersize=12, markeredgewidth=2)
    shares.set(xlim=(0, 2), ylim=(0, 101))
    label_axes(shares, "multiple of the radius", "landmarks within, %")
    figure.tight_layout()
    return figure


def _draw_cumulative(
    axes: Axes, errors: NDArray[np.float64], stage: str, colour: str, span: tuple[float, float]
) -> None:
    """Draws one curve from one end of an axis to the other; errors below it start the curve."""
    known = np.sort(errors[~np.isnan(errors)])
    heights = 100.0 * np.arange(known.size + 1) / max(errors.size, 1)
    across = [span[0], *np.maximum(known, span[0]), span[1]]
    missing = f", {errors.size - known.size} missing" if known.size < errors.size else ""
    # A legend reads dollar signs as mathematics unless they are escaped.
    name = stage.replace("$", r"\$") + f" (n = {known.size}{missing})"
    style: Style = {"color": colour, "linewidth": 1.6, "label": name}
    axes.step(across, [*heights, heights[-1]], where="post", **style)


def _draw_boxes(
    axes: Axes, samples: dict[str, NDArray[np.float64]], limit: float, title: str, *, upright: bool
) -> None:
    """Draws a box per landmark: lying with its single errors, or upright where there are many.

    Of fewer than `ENOUGH` errors there are only the errors themselves.
    """
    places = np.arange(len(samples), dtype=np.float64)
    line: Style = {"color": COLOURS[0], "linewidth": 0.9}
    style: Style = {"medianprops": line | {"linewidth": 1.6}, "whiskerprops": line}
    style |= {"capprops": line, "patch_artist": True, "manage_ticks": False, "widths": 0.6}
    style["boxprops"] = {"facecolor": "#d7e8ef", "edgecolor": COLOURS[0], "linewidth": 0.9}
    style["flierprops"] = {"marker": ".", "markersize": 3, "markeredgecolor": "#555555"}
    style |= {"orientation": "vertical" if upright else "horizontal", "showfliers": upright}
    enough = max(sample.size for sample in samples.values()) >= ENOUGH
    note = f"n < {ENOUGH}, too small for quartiles: the single errors"
    if enough:
        axes.boxplot(list(samples.values()), positions=places, whis=(5, 95), **style)
        note = "box: quartiles; whiskers: 5th to 95th percentile"
    axes.set_title(note, loc="right", fontsize=7, color="#777777")
    for place, sample in zip(places, samples.values(), strict=True):
        beyond = int((sample > limit).sum())
        if upright and beyond:
            axes.text(place, limit, f"{beyond}\n▴", ha="center", va="top", fontsize=6)
        elif beyond:
            axes.text(limit, place, f"{beyond} ▸", ha="right", va="center", fontsize=7)
        # Points are spread by their order, not by chance: equal input, equal picture.
        spread = place + 0.22 * (((np.arange(sample.size) * 0.618034) % 1) * 2 - 1)
        dots: Style = {"color": "#333333", "markersize": 3.5, "alpha": 0.7, "linestyle": ""}
        if not upright:
            axes.plot(sample, spread, marker=".", **dots)
        elif not enough:
            axes.plot(spread, sample, marker=".", **dots)
    names = [label if len(label) <= 24 else f"{label[:23]}…" for label in samples]
    if upright:
        label_axes(axes, "", title)
        turned = 90 if max(map(len, names)) > 3 else 0
        axes.set_xticks(places, names, rotation=turned, fontsize=6.5, parse_math=False)
        axes.set(xlim=(-0.8, len(names) - 0.2), ylim=(0, limit))
        axes.grid(visible=False, axis="x")
        return
    label_axes(axes, title, "")
    axes.set_yticks(places, names, parse_math=False)
    axes.set(xlim=(0, limit), ylim=(len(names) - 0.4, -0.6))
    axes.tick_params(axis="y", length=0)
