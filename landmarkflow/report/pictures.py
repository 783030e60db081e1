"""One picture per scan: its landmarks on slices or on the picture that it is, with references."""

import textwrap
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from matplotlib.figure import Figure
from numpy.typing import NDArray

from landmarkflow.core.errors import InputError
from landmarkflow.core.points import Landmarks, PointList
from landmarkflow.core.records import Record, read_record
from landmarkflow.engine.batch import Batch
from landmarkflow.engine.store import Task
from landmarkflow.evaluation.settings import Unit
from landmarkflow.formats.slicer import read_point_lists
from landmarkflow.formats.volumes import read_volume
from landmarkflow.images.operations import array_of, grid_of
from landmarkflow.report.figures import save_png
from landmarkflow.report.layout import (
    BOTTOM_INCHES,
    GAP_INCHES,
    TEXT_INCHES,
    Lines,
    sheet,
    write_legend,
    write_lines,
)
from landmarkflow.report.panels import (
    VIEWS,
    Place,
    bar_length,
    draw_picture,
    draw_sides,
    draw_slice,
    intensity_window,
    side_text,
    slice_of,
)
from landmarkflow.report.settings import ReportSettings

PANEL_INCHES = 2.05
PANELS_INCHES = 3 * PANEL_INCHES + 2 * GAP_INCHES
# A scan that is a picture fits into this width and height.
PICTURE_INCHES = (PANELS_INCHES, 6.8)
LABEL_LETTERS = 22
# How far a label stands right of and below its point.
LABEL_INCHES = 0.07


@dataclass(frozen=True)
class Measure:
    """How errors are printed.

    Attributes:
        unit: The study's unit.
        scale: The scan's own length in the unit of its coordinates, for "%".
    """

    unit: Unit = "mm"
    scale: float | None = None

    @property
    def factor(self) -> float:
        """What a distance of coordinates is multiplied by; NaN for "%" of an unknown length."""
        if self.unit != "%":
            return 1.0
        return np.nan if self.scale is None else 100.0 / self.scale


@dataclass(frozen=True, eq=False)
class _Row:
    """One row of a picture: three slices, and the text beside them as (text, style)."""

    place: Place
    lines: Lines


def draw_overview(
    *,
    scan: sitk.Image | None,
    detected: Landmarks,
    reference: Landmarks | None,
    title: str,
    note: str | None,
    settings: ReportSettings,
    measure: Measure | None = None,
) -> Figure:
    """Draws a scan's landmarks on axial, coronal and sagittal slices, one row per landmark.

    The slices lie along the LPS axes whatever the scan's own direction, in radiological
    convention, and their axes' data coordinates are LPS mm. Each goes through the detected point
    (through the reference where that is missing); the other point is projected onto it. Without
    any detected point there is one row through the middle of the volume. A scan of one slice, a
    picture, is drawn once and whole, with all points; its data coordinates are pixels.

    Args:
        scan: The scan, or None when it could not be read.
        detected: Detected landmarks, (n, 3) LPS mm, NaN where missing.
        reference: Reference landmarks with the labels of `detected`, or None.
        title: First line of the picture.
        note: A warning or the reason of a failure.
        settings: Window, rows, intensities and resolution.
        measure: How errors are printed, in mm when None.

    Returns:
        The figure; the axes of row i and view j are `figure.axes[3 * i + j]`.

    Raises:
        InputError: The reference lacks a detected landmark's label.
    """
    measure = measure or Measure()
    if reference is not None and detected.labels:
        reference = reference.select(detected.labels)
    if scan is None:
        return sheet(title, note, PANELS_INCHES, GAP_INCHES, settings.dpi)
    if scan.GetSize()[2] == 1:
        return _whole_picture(
            scan, detected, reference, title=title, note=note, settings=settings, measure=measure
        )
    if detected.missing.all():
        rows, selection = [_middle_row(scan, reference)], ""
    else:
        rows, selection = _landmark_rows(detected, reference, settings, measure)
    heading = f"{title}: {selection}" if selection else title
    body = len(rows) * (PANEL_INCHES + GAP_INCHES) + BOTTOM_INCHES
    figure = sheet(heading, note, PANELS_INCHES, body, settings.dpi)
    width, height = figure.get_size_inches()
    pixels = round(PANEL_INCHES * settings.dpi)
    slices = [[slice_of(scan, row.place, view, pixels) for view in VIEWS] for row in rows]
    intensity = intensity_window([image for images in slices for image in images], settings)
    for i, row in enumerate(rows):
        base = body - (i + 1) * (PANEL_INCHES + GAP_INCHES)
        write_lines(figure, row.lines, base + PANEL_INCHES)
        for j, view in enumerate(VIEWS):
            left = TEXT_INCHES + j * (PANEL_INCHES + GAP_INCHES)
            box = (left / width, base / height, PANEL_INCHES / width, PANEL_INCHES / height)
            axes = figure.add_axes(box)
            draw_slice(axes, slices[i][j], row.place, view, intensity)
            if i == 0:
                draw_sides(axes, view)
    found = any(np.isfinite(row.place.detected).any() for row in rows)
    through = "the detected point" if found else "the middle of the scan"
    if found and any(np.isnan(row.place.detected).any() for row in rows):
        through += " (the reference where it is missing)"
    text = (
        f"Slices through {through}. Radiological convention: the patient's right (R) is on the "
        "left of axial and coronal slices, anterior (A) on the left of sagittal ones. Positions "
        f"in LPS mm. Intensities {intensity[0]:.0f} to {intensity[1]:.0f}."
    )
    bar = f"{bar_length(rows[0].place.window):g} mm"
    write_legend(figure, "reference (projected onto the slice)", bar, text)
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
    unit: Unit = "mm",
    scale: float | None = None,
) -> None:
    """Reads a scan and its points and writes its picture.

    A scan that cannot be read, or whose landmarks are all missing, still gets a picture with the
    reason on it.

    Args:
        path: The PNG file to write.
        scan_name: The scan's name in the sheet.
        scan_path: The scan's volume or picture.
        landmarks_path: Point lists; the first one is drawn.
        reference_path: Reference points, or None.
        note: A warning to print; without one, the reason of missing landmarks is printed.
        settings: Window, rows, intensities and resolution.
        unit: The study's unit.
        scale: The scan's own length in the unit of its coordinates, for "%".

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
        scan = read_volume(scan_path)
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
        measure=Measure(unit, scale),
    )
    save_png(figure, path)


def choose_landmarks(
    errors: NDArray[np.float64], settings: ReportSettings
) -> tuple[list[int], str]:
    """Chooses the landmarks that a picture shows.

    Args:
        errors: Error of each landmark, (n,); infinite where a landmark with a reference is
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


def _first_list(path: Path) -> PointList:
    """Returns the first point list, one without points for a file that holds an empty place."""
    if path.is_file() and path.stat().st_size == 0:
        return PointList("none", Landmarks((), np.empty((0, 3))), None)
    return read_point_lists(path)[0]


def _truth(detected: Landmarks, reference: Landmarks | None) -> NDArray[np.float64]:
    """Returns the reference position of every detected landmark, NaN where there is none."""
    return np.full_like(detected.positions, np.nan) if reference is None else reference.positions


def _whole_picture(
    scan: sitk.Image,
    detected: Landmarks,
    reference: Landmarks | None,
    *,
    title: str,
    note: str | None,
    settings: ReportSettings,
    measure: Measure,
) -> Figure:
    """Draws a scan of one slice with all of its points, the errors of some written beside it."""
    if reference is not None and not detected.labels:
        detected = Landmarks(reference.labels, np.full_like(reference.positions, np.nan))
    truth = _truth(detected, reference)
    chosen, selection = choose_landmarks(_errors(detected, truth), settings)
    how = textwrap.wrap(selection.partition(", ")[2], LABEL_LETTERS)
    lines = [(line, "small") for line in how]
    for i in chosen:
        lines.append((detected.labels[i][:LABEL_LETTERS], "label"))
        error, style = _error_line(detected.positions[i], truth[i], measure)
        if error:
            lines.append((error, "value" if style == "error" else style))
    columns, count = scan.GetSize()[:2]
    scale = min(PICTURE_INCHES[0] / columns, PICTURE_INCHES[1] / count)
    size = np.array([columns, count]) * scale
    body = max(size[1], 0.38 * len(chosen)) + GAP_INCHES + BOTTOM_INCHES
    figure = sheet(title, note, max(size[0], PANEL_INCHES), body, settings.dpi)
    width, height = figure.get_size_inches()
    write_lines(figure, tuple(lines), body)
    base = body - size[1]
    axes = figure.add_axes((TEXT_INCHES / width, base / height, *(size / (width, height))))
    intensity = intensity_window([array_of(scan)], settings)
    index = [grid_of(scan).to_index(points)[:, :2] for points in (detected.positions, truth)]
    draw_picture(axes, scan, (index[0], index[1]), intensity)
    for label, here, there in zip(detected.labels, *index, strict=True):
        shown = bool(((here >= 0) & (here < (columns, count))).all())
        place = (here if shown else there) + LABEL_INCHES / scale
        if np.isfinite(place).all():
            side_text(
                axes, place[0], place[1], label, transform=axes.transData, size=6.5, clip_on=True
            )
    text = (
        "The whole picture; coordinates in pixels, x to the right and y down from the centre of "
        f"the first pixel. Intensities {intensity[0]:.0f} to {intensity[1]:.0f}."
    )
    write_legend(figure, "reference", f"{bar_length(columns):g} pixels", text)
    return figure


def _middle_row(scan: sitk.Image, reference: Landmarks | None) -> _Row:
    grid = grid_of(scan)
    place = Place(
        centre=grid.centre,
        window=float(np.ptp(grid.corners, axis=0).max()),
        detected=np.full((1, 3), np.nan),
        reference=np.empty((0, 3)) if reference is None else reference.positions,
    )
    return _Row(place, (("middle of the scan", "name"), ("no landmark detected", "warning")))


def _landmark_rows(
    detected: Landmarks, reference: Landmarks | None, settings: ReportSettings, measure: Measure
) -> tuple[list[_Row], str]:
    truth = _truth(detected, reference)
    chosen, selection = choose_landmarks(_errors(detected, truth), settings)
    rows = []
    for i in chosen:
        point, true_point = detected.positions[i], truth[i]
        centre = true_point if detected.missing[i] else point
        place = Place(centre, settings.window, point[np.newaxis], true_point[np.newaxis])
        rows.append(_Row(place, _row_lines(detected.labels[i], point, true_point, measure)))
    return rows, selection


def _errors(detected: Landmarks, truth: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns (n,) errors, infinite where a landmark with a reference is missing."""
    errors: NDArray[np.float64] = np.linalg.norm(detected.positions - truth, axis=1)
    errors[detected.missing & np.isfinite(truth).all(axis=1)] = np.inf
    return errors


def _row_lines(
    label: str, point: NDArray[np.float64], truth: NDArray[np.float64], measure: Measure
) -> Lines:
    """Returns the text beside a row as (text, style)."""
    lines = [(line, "name") for line in textwrap.wrap(label, 19)]
    error = _error_line(point, truth, measure)
    if error[0]:
        lines.append(error)
    if error[1] == "error":
        lines.append(("detected lies", "small"))
        names = zip(measure.factor * (point - truth), ("RL", "AP", "IS"), strict=True)
        lines.append(("  ".join(f"{abs(v):.2f} {pair[int(v > 0)]}" for v, pair in names), "small"))
        lines.append(("of the reference", "small"))
    if np.isfinite(point).all():
        lines.append((f"({', '.join(f'{value:.1f}' for value in point)})", "position"))
    return tuple(lines)


def _error_line(
    point: NDArray[np.float64], truth: NDArray[np.float64], measure: Measure
) -> tuple[str, str]:
    """Returns a landmark's error and its style, an empty text where there is none to measure."""
    if np.isnan(point).any():
        return "missing", "warning"
    error = measure.factor * float(np.linalg.norm(point - truth))
    return ("", "small") if np.isnan(error) else (f"{error:.2f} {measure.unit}", "error")


def run(batch: Batch) -> None:
    """Draw every scan; one without landmarks is drawn with the reason."""
    settings = batch.settings(ReportSettings, "report")

    def compute(task: Task) -> Record:
        stage = read_record(task.inputs["landmarks_record"])
        write_overview(
            path=task.outputs["picture"],
            scan_name=task.scan,
            scan_path=Path(task.row["image"]),
            landmarks_path=task.inputs["landmarks"],
            reference_path=task.inputs["reference"],
            note=None if stage.has_result else stage.reason,
            settings=settings,
            unit=batch.values["unit"],
            scale=float(task.row["scale"]) if task.row["scale"] else None,
        )
        return Record(task.scan, "pictures")

    batch.run(compute)
