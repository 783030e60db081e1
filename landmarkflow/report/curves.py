"""Distributions of errors, and errors beside their radii."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from landmarkflow.evaluation.errors import MAIN_STAGE, labels_of, main_errors
from landmarkflow.evaluation.settings import Unit
from landmarkflow.report.figures import COLOURS, label_axes, new_figure

STRIP_LIMIT = 12


def draw_error_distribution(
    errors: pd.DataFrame, radii: Sequence[float], unit: Unit, dpi: int
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
    """
    labels = labels_of(errors)
    stages = [str(stage) for stage in errors["stage"].drop_duplicates()]
    stages.sort(key=lambda stage: stage != MAIN_STAGE)
    many = len(labels) > STRIP_LIMIT
    figure = new_figure(8.1, 6.2 if many else 3.8, dpi)
    cumulative, boxes = figure.subplots(2, 1) if many else figure.subplots(1, 2)
    main = main_errors(errors)
    limit = _axis_limit(main["error"].dropna().to_numpy(np.float64), radii)
    span = (radii[0] / 10, 1.05 * max(*radii, errors["error"].max()))
    for radius in radii:
        cumulative.axvline(radius, color="#bbbbbb", linewidth=0.8, linestyle=(0, (3, 3)))
    for i, stage in enumerate(stages):
        values = errors.loc[errors["stage"] == stage, "error"].to_numpy(np.float64)
        _draw_cumulative(cumulative, values, stage, COLOURS[i % len(COLOURS)], span)
    cumulative.set_xscale("log")
    cumulative.set_xlim(span)
    cumulative.xaxis.set_major_formatter("{x:g}")
    cumulative.set_ylim(0, 101)
    label_axes(cumulative, f"error, {unit}", "landmarks within, %")
    # Above the axes, since the curves of six stages leave no room between them.
    place = {"loc": "lower left", "bbox_to_anchor": (0, 1), "borderaxespad": 0.2}
    cumulative.legend(frameon=False, fontsize=7.5, ncols=3 if many else 2, **place)
    samples = [
        main.loc[main["landmark"] == label, "error"].dropna().to_numpy(np.float64)
        for label in labels
    ]
    _draw_boxes(boxes, labels, samples, limit, f"error, {unit}", upright=many)
    figure.tight_layout()
    return figure


def draw_radii(errors: pd.DataFrame, unit: Unit, dpi: int) -> Figure:
    """Draws each landmark's error over its radius, and how many lie within at each radius.

    Args:
        errors: The error table; at least one landmark has a radius and an error.
        unit: The unit of errors and radii.
        dpi: Pixels per inch.
    """
    known = main_errors(errors).dropna(subset=["error", "radius"])
    radius = known["radius"].to_numpy(np.float64)
    error = known["error"].to_numpy(np.float64)
    figure = new_figure(8.1, 3.4, dpi)
    scatter, shares = figure.subplots(1, 2)
    limit = 1.05 * max(float(radius.max()), float(error.max()))
    scatter.plot([0, limit], [0, limit], color="#555555", linewidth=0.9)
    within = error <= radius
    for inside, colour, name in ((within, COLOURS[0], "within"), (~within, COLOURS[1], "beyond")):
        label = f"{name} the radius: {100 * inside.mean():.0f} %"
        scatter.plot(radius[inside], error[inside], ".", color=colour, markersize=4, label=label)
    scatter.set_xlim(0, 1.05 * float(radius.max()))
    scatter.set_ylim(0, 1.05 * float(error.max()))
    place = {"loc": "lower left", "bbox_to_anchor": (0, 1), "borderaxespad": 0.2}
    scatter.legend(frameon=False, fontsize=8, ncols=2, **place)
    label_axes(scatter, f"radius, {unit}", f"error, {unit}")
    # What other shares a radius of another size would hold: a calibrated one meets the cross.
    scales = np.linspace(0, 2, 101)
    shares.plot(scales, [100 * np.mean(error <= s * radius) for s in scales], color=COLOURS[0])
    shares.plot([1], [90], "+", color=COLOURS[1], markersize=12, markeredgewidth=2)
    shares.set_xlim(0, 2)
    shares.set_ylim(0, 101)
    label_axes(shares, "multiple of the radius", "landmarks within, %")
    figure.tight_layout()
    return figure


def _axis_limit(errors: NDArray[np.float64], radii: Sequence[float]) -> float:
    """Returns where the error axis ends: few far outliers must not squeeze all the others."""
    if errors.size == 0:
        return max(radii)
    usual = 3 * float(np.percentile(errors, 90))
    return 1.05 * max(min(float(errors.max()), usual), radii[len(radii) // 2])


def _draw_cumulative(
    axes: Axes, errors: NDArray[np.float64], stage: str, colour: str, span: tuple[float, float]
) -> None:
    """Draws one curve from one end of an axis to the other; errors below it start the curve."""
    known = np.sort(errors[~np.isnan(errors)])
    heights = 100.0 * np.arange(1, known.size + 1) / max(errors.size, 1)
    last = heights[-1] if known.size else 0.0
    # A legend reads dollar signs as mathematics unless they are escaped.
    name = stage.replace("$", r"\$") + f" (n = {known.size}"
    name += f", {errors.size - known.size} missing)" if known.size < errors.size else ")"
    axes.step(
        [span[0], *np.maximum(known, span[0]), span[1]],
        [0.0, *heights, last],
        where="post",
        color=colour,
        linewidth=1.6,
        label=name,
    )


def _draw_boxes(
    axes: Axes,
    labels: Sequence[str],
    samples: Sequence[NDArray[np.float64]],
    limit: float,
    title: str,
    *,
    upright: bool,
) -> None:
    """Draws a box per landmark: lying with its single errors, or upright where there are many."""
    places = np.arange(len(labels), dtype=np.float64)
    axes.boxplot(
        samples,
        positions=places,
        orientation="vertical" if upright else "horizontal",
        widths=0.6,
        whis=(5, 95),
        showfliers=upright,
        patch_artist=True,
        manage_ticks=False,
        boxprops={"facecolor": "#d7e8ef", "edgecolor": COLOURS[0], "linewidth": 0.9},
        medianprops={"color": COLOURS[0], "linewidth": 1.6},
        whiskerprops={"color": COLOURS[0], "linewidth": 0.9},
        capprops={"color": COLOURS[0], "linewidth": 0.9},
        flierprops={"marker": ".", "markersize": 3, "markeredgecolor": "#555555"},
    )
    axes.set_title(
        "box: quartiles; whiskers: 5th to 95th percentile",
        loc="right",
        fontsize=7,
        color="#777777",
    )
    names = [_shortened(label) for label in labels]
    for place, sample in zip(places, samples, strict=True):
        beyond = int((sample > limit).sum())
        if upright and beyond:
            axes.text(place, limit, f"{beyond}\n▴", ha="center", va="top", fontsize=6)
        elif beyond:
            axes.text(limit, place, f"{beyond} ▸", ha="right", va="center", fontsize=7)
        if not upright:
            # Points are spread by their order, not by chance: equal input, equal picture.
            spread = 0.22 * (((np.arange(sample.size) * 0.618034) % 1) * 2 - 1)
            axes.plot(sample, place + spread, ".", color="#333333", markersize=3.5, alpha=0.7)
    if upright:
        label_axes(axes, "", title)
        turned = 90 if max(map(len, names)) > 3 else 0
        axes.set_xticks(places, names, rotation=turned, fontsize=6.5, parse_math=False)
        axes.set_xlim(-0.8, len(labels) - 0.2)
        axes.set_ylim(0, limit)
        axes.grid(visible=False, axis="x")
        return
    label_axes(axes, title, "")
    axes.set_yticks(places, names, parse_math=False)
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.set_xlim(0, limit)
    axes.tick_params(axis="y", length=0)


def _shortened(label: str) -> str:
    return label if len(label) <= 24 else f"{label[:23]}…"
