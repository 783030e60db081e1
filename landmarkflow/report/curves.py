"""Training curve and error distributions."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from landmarkflow.report.figures import new_figure

# One for each stage of a study with votes and several templates.
COLOURS = ("#0b6e99", "#d9822b", "#5b8c3e", "#8e5ea2", "#b8475f", "#777777", "#c4a800", "#2b2b2b")
GRID_COLOUR = "#e3e3e3"
STRIP_LIMIT = 12


def draw_training(training: pd.DataFrame, dpi: int) -> Figure:
    """Draws the losses, and the validation Dice where it was recorded, over the epochs.

    Args:
        training: Columns epoch, train_loss, validation_loss and, optionally, validation_dice.
        dpi: Pixels per inch.
    """
    has_dice = "validation_dice" in training and training["validation_dice"].notna().any()
    figure = new_figure(8.1 if has_dice else 5.2, 3.0, dpi)
    panels = figure.subplots(1, 2 if has_dice else 1, squeeze=False)[0]
    losses = {"training": "train_loss", "validation": "validation_loss"}
    for colour, (name, column) in zip(COLOURS, losses.items(), strict=False):
        _draw_course(panels[0], training, column, name, colour)
    values = training[list(losses.values())].to_numpy(np.float64)
    positive = values[np.isfinite(values) & (values > 0)]
    if positive.size == np.isfinite(values).sum() > 0 and positive.max() > 30 * positive.min():
        panels[0].set_yscale("log")
    _label(panels[0], "epoch", "loss")
    _mark_best(panels[0], training)
    panels[0].legend(frameon=False, fontsize=8)
    if has_dice:
        _draw_course(panels[1], training, "validation_dice", "validation", COLOURS[1])
        panels[1].set_ylim(0, 1.02)
        _label(panels[1], "epoch", "Dice coefficient (validation)")
    figure.tight_layout()
    return figure


def draw_error_distribution(
    errors: pd.DataFrame, radii_mm: Sequence[float], main_stage: str, dpi: int
) -> Figure:
    """Draws cumulative errors by stage and, for the main stage, boxes by landmark.

    A curve's height at x is the share of landmarks, missing ones included, at most x mm from
    their reference. Its axis is logarithmic, since a first stage can be a hundred times as far off
    as the last.

    Args:
        errors: The error table.
        radii_mm: Radii to mark.
        main_stage: The stage of the boxes, drawn first.
        dpi: Pixels per inch.
    """
    labels = [str(label) for label in errors["landmark"].drop_duplicates()]
    stages = [str(stage) for stage in errors["stage"].drop_duplicates()]
    stages.sort(key=lambda stage: stage != main_stage)
    many = len(labels) > STRIP_LIMIT
    figure = new_figure(8.1, 6.2 if many else 3.8, dpi)
    cumulative, boxes = figure.subplots(2, 1) if many else figure.subplots(1, 2)
    main = errors[errors["stage"] == main_stage]
    limit = _axis_limit(main["error_mm"].dropna().to_numpy(np.float64), radii_mm)
    span = (radii_mm[0] / 10, 1.05 * max(*radii_mm, errors["error_mm"].max()))
    for radius in radii_mm:
        cumulative.axvline(radius, color="#bbbbbb", linewidth=0.8, linestyle=(0, (3, 3)))
    for i, stage in enumerate(stages):
        values = errors.loc[errors["stage"] == stage, "error_mm"].to_numpy(np.float64)
        _draw_cumulative(cumulative, values, stage, COLOURS[i % len(COLOURS)], span)
    cumulative.set_xscale("log")
    cumulative.set_xlim(span)
    cumulative.xaxis.set_major_formatter("{x:g}")
    cumulative.set_ylim(0, 101)
    _label(cumulative, "error, mm", "landmarks within, %")
    # Above the axes, since the curves of six stages leave no room between them.
    place = {"loc": "lower left", "bbox_to_anchor": (0, 1), "borderaxespad": 0.2}
    cumulative.legend(frameon=False, fontsize=7.5, ncols=3 if many else 2, **place)
    samples = [
        main.loc[main["landmark"] == label, "error_mm"].dropna().to_numpy(np.float64)
        for label in labels
    ]
    _draw_boxes(boxes, labels, samples, limit, upright=many)
    figure.tight_layout()
    return figure


def draw_radii(errors: pd.DataFrame, main_stage: str, dpi: int) -> Figure:
    """Draws each landmark's error over its radius, and how many lie within at each radius.

    Args:
        errors: The error table; at least one landmark has a radius and an error.
        main_stage: The stage whose radii are drawn.
        dpi: Pixels per inch.
    """
    known = errors[errors["stage"] == main_stage].dropna(subset=["error_mm", "radius_mm"])
    radius = known["radius_mm"].to_numpy(np.float64)
    error = known["error_mm"].to_numpy(np.float64)
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
    scatter.legend(frameon=False, fontsize=8, loc="upper left")
    _label(scatter, "radius, mm", "error, mm")
    # What other shares a radius of another size would hold: a calibrated one meets the cross.
    scales = np.linspace(0, 2, 101)
    shares.plot(scales, [100 * np.mean(error <= s * radius) for s in scales], color=COLOURS[0])
    shares.plot([1], [90], "+", color=COLOURS[1], markersize=12, markeredgewidth=2)
    shares.set_xlim(0, 2)
    shares.set_ylim(0, 101)
    _label(shares, "multiple of the radius", "landmarks within, %")
    figure.tight_layout()
    return figure


def _draw_course(axes: Axes, training: pd.DataFrame, column: str, name: str, colour: str) -> None:
    known = training[["epoch", column]].dropna()
    marker = "o" if len(known) < 40 else ""
    axes.plot(known["epoch"], known[column], color=colour, marker=marker, markersize=3, label=name)


def _mark_best(axes: Axes, training: pd.DataFrame) -> None:
    known = training[["epoch", "validation_loss"]].dropna()
    if known.empty:
        return
    best = known.loc[known["validation_loss"].idxmin()]
    axes.plot(
        best["epoch"],
        best["validation_loss"],
        linestyle="none",
        marker="o",
        markersize=7,
        markerfacecolor="none",
        color=COLOURS[1],
        label=f"best: epoch {best['epoch']:.0f}, {best['validation_loss']:.3g}",
    )


def _axis_limit(errors: NDArray[np.float64], radii_mm: Sequence[float]) -> float:
    """Returns where the error axis ends: few far outliers must not squeeze all the others."""
    if errors.size == 0:
        return max(radii_mm)
    usual = 3 * float(np.percentile(errors, 90))
    return 1.05 * max(min(float(errors.max()), usual), radii_mm[len(radii_mm) // 2])


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
        _label(axes, "", "error, mm")
        turned = 90 if max(map(len, names)) > 3 else 0
        axes.set_xticks(places, names, rotation=turned, fontsize=6.5, parse_math=False)
        axes.set_xlim(-0.8, len(labels) - 0.2)
        axes.set_ylim(0, limit)
        axes.grid(visible=False, axis="x")
        return
    _label(axes, "error, mm", "")
    axes.set_yticks(places, names, parse_math=False)
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.set_xlim(0, limit)
    axes.tick_params(axis="y", length=0)


def _shortened(label: str) -> str:
    return label if len(label) <= 24 else f"{label[:23]}…"


def _label(axes: Axes, across: str, up: str) -> None:
    axes.set_xlabel(across, fontsize=8)
    axes.set_ylabel(up, fontsize=8)
    axes.tick_params(labelsize=8)
    axes.grid(color=GRID_COLOUR, linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
