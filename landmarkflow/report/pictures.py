"""One picture per scan: slices through its landmarks, with detected and reference points."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from matplotlib import colormaps, patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.path import Path as Shape
from numpy.typing import NDArray

from landmarkflow.core.errors import InputError
from landmarkflow.core.grids import Grid
from landmarkflow.core.points import Landmarks, PointList
from landmarkflow.formats import volumes
from landmarkflow.formats.markups import read_point_lists
from landmarkflow.report.figures import new_figure, save_png
from landmarkflow.report.settings import ReportSettings

DETECTED_COLOUR = "#19d3ff"
REFERENCE_COLOUR = "#ff9f1c"
WARNING_COLOUR = "#b3261e"
OUTSIDE_COLOUR = "#2b3a4a"
PANEL_INCHES = 2.05
TEXT_INCHES = 1.75
GAP_INCHES = 0.05
MARGIN_INCHES = 0.1
BEYOND = "beyond the view"

# A cross that leaves its middle free, so that it does not hide what it points at.
_CROSS = Shape(
    [(-1, 0), (-0.3, 0), (0.3, 0), (1, 0), (0, -1), (0, -0.3), (0, 0.3), (0, 1)],
    [Shape.MOVETO, Shape.LINETO] * 4,
)
_GREY = colormaps["gray"].with_extremes(bad=OUTSIDE_COLOUR)
_OUTLINE = (patheffects.withStroke(linewidth=1.8, foreground="black", alpha=0.75),)

_SIDE_PLACES = (
    (0.02, 0.5, "left", "center"),
    (0.98, 0.5, "right", "center"),
    (0.5, 0.98, "center", "top"),
    (0.5, 0.02, "center", "bottom"),
)


@dataclass(frozen=True)
class View:
    """A slice plane of the LPS axes and how it is shown.

    Attributes:
        name: What radiologists call it.
        horizontal: Axis (0 x, 1 y, 2 z) that grows to the right.
        vertical: Axis shown upright.
        normal: Axis across the slice.
        upwards: Whether the vertical axis grows upwards.
        sides: Patient's sides at the left, right, top and bottom of the picture.
    """

    name: str
    horizontal: int
    vertical: int
    normal: int
    upwards: bool
    sides: tuple[str, str, str, str]


VIEWS = (
    View("axial", 0, 1, 2, upwards=False, sides=("R", "L", "A", "P")),
    View("coronal", 0, 2, 1, upwards=True, sides=("R", "L", "S", "I")),
    View("sagittal", 1, 2, 0, upwards=True, sides=("A", "P", "S", "I")),
)


@dataclass(frozen=True, eq=False)
class _Row:
    """One row of a picture: three slices through `centre` and the points shown on them."""

    centre: NDArray[np.float64]
    window_mm: float
    detected: NDArray[np.float64]
    reference: NDArray[np.float64]
    lines: tuple[tuple[str, str], ...]


def draw_overview(
    *,
    scan: sitk.Image | None,
    detected: Landmarks,
    reference: Landmarks | None,
    title: str,
    note: str | None,
    settings: ReportSettings,
) -> Figure:
    """Draws a scan's landmarks on axial, coronal and sagittal slices, one row per landmark.

    The slices lie along the LPS axes whatever the scan's own direction, in radiological
    convention, and their axes' data coordinates are LPS mm. Each goes through the detected point
    (through the reference where that is missing); the other point is projected onto it. Without
    any detected point there is one row through the middle of the volume.

    Args:
        scan: The scan, or None when it could not be read.
        detected: Detected landmarks, (n, 3) LPS mm, NaN where missing.
        reference: Reference landmarks with the labels of `detected`, or None.
        title: First line of the picture.
        note: A warning or the reason of a failure.
        settings: Window, rows, intensities and resolution.

    Returns:
        The figure; the axes of row i and view j are `figure.axes[3 * i + j]`.

    Raises:
        InputError: The reference lacks a detected landmark's label.
    """
    truth = _truth(detected, reference)
    if scan is None:
        rows, selection = [], ""
    elif detected.missing.all():
        rows, selection = [_middle_row(scan, reference)], ""
    else:
        rows, selection = _landmark_rows(detected, truth, settings)
    heading = textwrap.wrap(f"{title}: {selection}" if selection else title, 88)
    notes = textwrap.wrap(" ".join((note or "").split()), 105)
    top = 0.17 + 0.17 * len(heading) + 0.17 * len(notes)
    bottom = 0.74 if rows else 0.05
    height = top + bottom + len(rows) * (PANEL_INCHES + GAP_INCHES)
    width = TEXT_INCHES + 3 * (PANEL_INCHES + GAP_INCHES) + MARGIN_INCHES - GAP_INCHES
    figure = new_figure(width, height, settings.dpi)
    y = height - MARGIN_INCHES
    for text in heading:
        _write(figure, MARGIN_INCHES, y, text, weight="bold", size=10)
        y -= 0.17
    for text in notes:
        _write(figure, MARGIN_INCHES, y - 0.05, text, size=8.5, color=WARNING_COLOUR)
        y -= 0.17
    if scan is None or not rows:
        return figure
    pixels = round(PANEL_INCHES * settings.dpi)
    slices = [
        [_slice(scan, row.centre, row.window_mm, view, pixels) for view in VIEWS] for row in rows
    ]
    black, white = _intensity_window(slices, settings)
    for i, row in enumerate(rows):
        base = height - top - (i + 1) * (PANEL_INCHES + GAP_INCHES)
        _write_row_text(figure, row, base)
        for j, view in enumerate(VIEWS):
            left = TEXT_INCHES + j * (PANEL_INCHES + GAP_INCHES)
            box = (left / width, base / height, PANEL_INCHES / width, PANEL_INCHES / height)
            axes = figure.add_axes(box)
            _draw_slice(axes, slices[i][j], row, view, (black, white))
            if i == 0:
                _side_text(axes, 0.03, 0.97, view.name, ha="left", va="top")
                for (x, y, ha, va), side in zip(_SIDE_PLACES, view.sides, strict=True):
                    _side_text(axes, x, y, side, ha=ha, va=va)
    _write_legend(figure, rows, (black, white))
    return figure


def write_overview(
    *,
    path: Path,
    scan_name: str,
    scan_path: Path,
    landmarks_path: Path,
    reference_path: Path | None,
    note: str | None,
    settings: ReportSettings,
) -> None:
    """Reads a scan and its points and writes its picture.

    A scan that cannot be read, or whose landmarks are all missing, still gets a picture with the
    reason on it.

    Args:
        path: The PNG file to write.
        scan_name: The scan's name in the sheet.
        scan_path: The scan's volume.
        landmarks_path: Point lists; the first one is drawn.
        reference_path: Reference points, or None.
        note: A warning to print; without one, the reason of missing landmarks is printed.
        settings: Window, rows, intensities and resolution.

    Raises:
        InputError: A points file is unreadable or empty.
    """
    points = _first_list(landmarks_path)
    reference = None if reference_path is None else _first_list(reference_path).landmarks
    if reference is not None and not reference.labels:
        reference = None
    reasons = [] if note is None else [note]
    if note is None:
        missing = points.landmarks.missing
        stated = dict.fromkeys(
            points.notes[i] for i in np.flatnonzero(missing) if points.notes and points.notes[i]
        )
        if missing.any():
            reasons.append(f"{missing.sum()} of {missing.size} landmarks missing")
        reasons.extend(stated)
    try:
        scan = volumes.read_volume(scan_path)
    except InputError as error:
        scan = None
        reasons.append(str(error))
    figure = draw_overview(
        scan=scan,
        detected=points.landmarks,
        reference=reference,
        title=scan_name,
        note="; ".join(reasons) or None,
        settings=settings,
    )
    save_png(figure, path)


def _first_list(path: Path) -> PointList:
    """Returns the first point list, one without points for a file that holds an empty place."""
    if path.is_file() and path.stat().st_size == 0:
        return PointList("none", Landmarks((), np.empty((0, 3))), None)
    return read_point_lists(path)[0]


def choose_landmarks(
    errors: NDArray[np.float64], settings: ReportSettings
) -> tuple[list[int], str]:
    """Chooses the landmarks that a picture shows.

    Args:
        errors: Error of each landmark in mm, (n,); infinite where a landmark with a reference is
            missing, NaN where there is no reference.
        settings: How many rows there may be.

    Returns:
        Their numbers, and how they were chosen (empty when all are shown): the worst first, then
        some spread evenly over the others.
    """
    count = errors.size
    if count <= settings.rows_limit:
        return list(range(count)), ""
    ranked = [int(i) for i in np.argsort(-errors, kind="stable") if not np.isnan(errors[i])]
    worst = ranked[: settings.worst_rows]
    others = [i for i in range(count) if i not in worst]
    wanted = min(settings.selected_rows - len(worst), len(others))
    spread = [others[int((k + 0.5) * len(others) / wanted)] for k in range(wanted)]
    how = f"{wanted} spread evenly"
    if worst:
        first = "the worst" if len(worst) == 1 else f"the {len(worst)} worst"
        how = f"{first}, then {wanted} of the others"
    return worst + spread, f"{len(worst) + wanted} of {count} landmarks, {how}"


def _truth(detected: Landmarks, reference: Landmarks | None) -> NDArray[np.float64]:
    """Returns the reference position of every detected landmark, NaN where there is none."""
    if reference is None:
        return np.full_like(detected.positions, np.nan)
    return reference.select(detected.labels).positions


def _middle_row(scan: sitk.Image, reference: Landmarks | None) -> _Row:
    grid = volumes.grid_of(scan)
    return _Row(
        centre=grid.centre,
        window_mm=float(np.ptp(grid.corners, axis=0).max()),
        detected=np.full((1, 3), np.nan),
        reference=np.empty((0, 3)) if reference is None else reference.positions,
        lines=(("middle of the scan", "name"), ("no landmark detected", "warning")),
    )


def _landmark_rows(
    detected: Landmarks, truth: NDArray[np.float64], settings: ReportSettings
) -> tuple[list[_Row], str]:
    errors = np.linalg.norm(detected.positions - truth, axis=1)
    errors[detected.missing & np.isfinite(truth).all(axis=1)] = np.inf
    chosen, selection = choose_landmarks(errors, settings)
    rows = []
    for i in chosen:
        point, true_point = detected.positions[i], truth[i]
        centre = true_point if detected.missing[i] else point
        lines = _row_lines(detected.labels[i], point, true_point)
        rows.append(
            _Row(centre, settings.window_mm, point[np.newaxis], true_point[np.newaxis], lines)
        )
    return rows, selection


def _row_lines(
    label: str, point: NDArray[np.float64], truth: NDArray[np.float64]
) -> tuple[tuple[str, str], ...]:
    """Returns the text beside a row as (text, style)."""
    lines = [(line, "name") for line in textwrap.wrap(label, 19)]
    if np.isnan(point).any():
        lines.append(("missing", "warning"))
    elif np.isfinite(truth).all():
        offset = point - truth
        lines.append((f"{np.linalg.norm(offset):.2f} mm", "error"))
        lines.append(("detected lies", "small"))
        names = zip(offset, ("RL", "AP", "IS"), strict=True)
        lines.append(("  ".join(f"{abs(v):.2f} {pair[int(v > 0)]}" for v, pair in names), "small"))
        lines.append(("of the reference", "small"))
    if np.isfinite(point).all():
        lines.append((f"({', '.join(f'{value:.1f}' for value in point)})", "position"))
    return tuple(lines)


def _slice(
    scan: sitk.Image,
    centre: NDArray[np.float64],
    window_mm: float,
    view: View,
    fewest_pixels: int,
) -> NDArray[np.float32]:
    """Returns a square slice (vertical, horizontal), its coordinates growing, NaN outside."""
    if np.isnan(centre).any():
        return np.full((1, 1), np.nan, dtype=np.float32)
    # Pixels finer than 1.5 voxels keep the resampling from smoothing the whole volume first.
    finest = float(volumes.grid_of(scan).spacing.min())
    pixels = max(fewest_pixels, int(np.ceil(window_mm / (1.4 * finest))))
    size = [pixels, pixels, pixels]
    size[view.normal] = 1
    grid = Grid.centred(centre, size, window_mm / pixels)
    sampled = volumes.resample(scan, grid, "linear", float("nan"))
    return np.asarray(np.squeeze(volumes.array_of(sampled), axis=2 - view.normal))


def _intensity_window(
    slices: Sequence[Sequence[NDArray[np.float32]]], settings: ReportSettings
) -> tuple[float, float]:
    if settings.intensity is not None:
        return settings.intensity
    values = np.concatenate([image.ravel() for row in slices for image in row])
    values = values[np.isfinite(values)]
    if values.size == 0:
        return 0.0, 1.0
    black, white = (float(value) for value in np.percentile(values, settings.percentiles))
    return black, white if white > black else black + 1.0


def _draw_slice(
    axes: Axes,
    image: NDArray[np.float32],
    row: _Row,
    view: View,
    intensity: tuple[float, float],
) -> None:
    axes.set_axis_off()
    half = row.window_mm / 2
    centre = np.zeros(3) if np.isnan(row.centre).any() else row.centre
    across, up = centre[view.horizontal], centre[view.vertical]
    extent = (across - half, across + half, up - half, up + half)
    axes.imshow(
        image,
        cmap=_GREY,
        vmin=intensity[0],
        vmax=intensity[1],
        origin="lower",
        extent=extent,
        interpolation="auto",
    )
    axes.set_xlim(extent[0], extent[1])
    axes.set_ylim(*(extent[2:] if view.upwards else extent[:1:-1]))
    if not np.isfinite(image).any():
        why = "no position" if np.isnan(row.centre).any() else "outside the volume"
        _side_text(axes, 0.5, 0.75, why, ha="center", va="center")
    for points, gid in ((row.reference, "reference"), (row.detected, "detected")):
        for point in points[np.isfinite(points).all(axis=1)]:
            _draw_point(axes, point[view.horizontal], point[view.vertical], gid)
    _draw_scale_bar(axes, row.window_mm)


def _draw_point(axes: Axes, across: float, up: float, gid: str) -> None:
    """Draws a point's mark, or an arrow at the border towards a point beyond the view."""
    colour = DETECTED_COLOUR if gid == "detected" else REFERENCE_COLOUR
    inside = axes.transData.transform((across, up))
    x, y = axes.transAxes.inverted().transform(inside)
    if 0 <= x <= 1 and 0 <= y <= 1:
        axes.add_line(_mark(gid, [across], [up]))
        return
    direction = np.array([x - 0.5, y - 0.5])
    place = 0.5 + 0.45 * direction / np.abs(direction).max()
    angle = float(np.degrees(np.arctan2(direction[1], direction[0]))) - 90
    axes.plot(
        *place,
        marker=(3, 0, angle),
        color=colour,
        markersize=7,
        transform=axes.transAxes,
        gid=f"{gid} {BEYOND}",
        linestyle="none",
    )


def _mark(gid: str, across: Sequence[float], up: Sequence[float]) -> Line2D:
    detected = gid == "detected"
    line = Line2D(
        across,
        up,
        linestyle="none",
        marker=_CROSS if detected else "o",
        markersize=15 if detected else 8,
        color=DETECTED_COLOUR if detected else REFERENCE_COLOUR,
        markerfacecolor="none",
        markeredgewidth=1.2,
    )
    line.set_gid(gid)
    return line


def _side_text(axes: Axes, x: float, y: float, text: str, *, ha: str, va: str) -> None:
    axes.text(
        x,
        y,
        text,
        ha=ha,
        va=va,
        size=7.5,
        color="white",
        transform=axes.transAxes,
        path_effects=_OUTLINE,
    )


def _bar_mm(window_mm: float) -> float:
    """Returns the longest of 1, 2, 5, 10, ... mm that fits into a quarter of the window."""
    power = 10.0 ** np.floor(np.log10(window_mm / 4))
    return float(max(step * power for step in (1, 2, 5) if step * power <= window_mm / 4))


def _draw_scale_bar(axes: Axes, window_mm: float) -> None:
    length = _bar_mm(window_mm) / window_mm
    axes.plot(
        [0.04, 0.04 + length],
        [0.045, 0.045],
        color="white",
        linewidth=2,
        solid_capstyle="butt",
        transform=axes.transAxes,
        gid="scale bar",
        path_effects=_OUTLINE,
    )


def _write(figure: Figure, x: float, y: float, text: str, **style: Any) -> None:
    """Writes one line whose upper left corner lies x, y inches from the lower left corner.

    A name may hold dollar signs: they are no mathematics.
    """
    width, height = figure.get_size_inches()
    figure.text(x / width, y / height, text, va="top", parse_math=False, **style)


def _write_row_text(figure: Figure, row: _Row, base: float) -> None:
    styles = {
        "name": (9.5, "bold", "black", 0.17),
        "error": (13, "normal", "black", 0.27),
        "warning": (9, "bold", WARNING_COLOUR, 0.2),
        "small": (7.5, "normal", "#333333", 0.14),
        "position": (7.5, "normal", "#777777", 0.2),
    }
    y = base + PANEL_INCHES - 0.06
    for text, style in row.lines:
        size, weight, colour, step = styles[style]
        if style in ("error", "position"):
            y -= 0.06
        _write(figure, MARGIN_INCHES, y, text, size=size, weight=weight, color=colour)
        y -= step


def _write_legend(figure: Figure, rows: Sequence[_Row], intensity: tuple[float, float]) -> None:
    width, height = figure.get_size_inches()
    found = any(np.isfinite(row.detected).any() for row in rows)
    marks = [_mark("detected", [], [])] if found else []
    names = ["detected"] if found else []
    if any(np.isfinite(row.reference).any() for row in rows):
        marks.append(_mark("reference", [], []))
        names.append("reference (projected onto the slice)")
    marks.append(Line2D([], [], color="black", linewidth=2))
    names.append(f"{_bar_mm(rows[0].window_mm):g} mm")
    figure.legend(
        marks,
        names,
        loc="lower left",
        bbox_to_anchor=(MARGIN_INCHES / width, 0.42 / height),
        ncols=3,
        frameon=False,
        fontsize=8,
        borderpad=0,
        borderaxespad=0.2,
    )
    through = "the detected point" if found else "the middle of the scan"
    if found and any(np.isnan(row.detected).any() for row in rows):
        through += " (the reference where it is missing)"
    arrows = ""
    if any(str(line.get_gid()).endswith(BEYOND) for axes in figure.axes for line in axes.lines):
        arrows = " A triangle points to a mark beyond the view."
    text = (
        f"Slices through {through}. Radiological convention: the patient's right (R) is on the "
        "left of axial and coronal slices, anterior (A) on the left of sagittal ones. Positions "
        f"in LPS mm. Intensities {intensity[0]:.0f} to {intensity[1]:.0f}.{arrows}"
    )
    for number, line in enumerate(textwrap.wrap(text, 135)):
        _write(figure, MARGIN_INCHES, 0.38 - 0.135 * number, line, size=7.5, color="#555555")
