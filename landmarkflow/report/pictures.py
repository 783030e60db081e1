"""One picture per scan: its landmarks on slices or on the picture that it is, with references."""

import textwrap
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from matplotlib.figure import Figure
from numpy.typing import NDArray

from landmarkflow.core.errors import InputError
from landmarkflow.core.points import Landmarks, PointList
from landmarkflow.core.records import Record, read_record
from landmarkflow.core.selection import evenly
from landmarkflow.engine.batch import Batch
from landmarkflow.engine.store import Task
from landmarkflow.evaluation.lists import read_lists
from landmarkflow.evaluation.settings import Unit, factor_of
from landmarkflow.formats.pictures import read_picture
from landmarkflow.formats.volumes import read_volume
from landmarkflow.images.operations import array_of, grid_of
from landmarkflow.images.views import VIEWS
from landmarkflow.report import layout, panels
from landmarkflow.report.figures import Style, save_png
from landmarkflow.report.layout import BOTTOM_INCHES, GAP_INCHES, TEXT_INCHES, TOP_INCHES, Line
from landmarkflow.report.panels import Beside, Place
from landmarkflow.report.settings import ReportSettings

PANEL_INCHES = 2.05
PANELS_INCHES = 3 * PANEL_INCHES + 2 * GAP_INCHES
# A scan that is a picture fits into this width and height.
PICTURE_INCHES = (PANELS_INCHES, 6.8)
LABEL_LETTERS = 22
# Where a method's record says which parts of a picture it looked at: left, top, right, bottom.
FRAMES = "frames"
NOTHING = Beside()
# Columns of the sheet by which a distance becomes one in the study's unit.
SIZES = ("scale", "spacing")
# How far a label stands right of and below its point.
LABEL_INCHES = 0.07


@dataclass(frozen=True, eq=False)
class _Points:
    """Detected landmarks beside their references (n, 3), NaN where there is none."""

    detected: Landmarks
    truth: NDArray[np.float64]
    unit: Unit
    factor: float

    @property
    def errors(self) -> NDArray[np.float64]:
        """(n,) unit of the coordinates; infinite where a landmark with a reference is missing."""
        errors: NDArray[np.float64] = np.linalg.norm(self.detected.positions - self.truth, axis=1)
        errors[self.detected.missing & np.isfinite(self.truth).all(axis=1)] = np.inf
        return errors

    def error_line(self, i: int) -> list[Line]:
        """Returns the error of a landmark as text; nothing where there is none to measure."""
        if self.detected.missing[i]:
            return [("missing", "warning")]
        error = self.factor * self.errors[i]
        return [] if np.isnan(error) else [(f"{error:.2f} {self.unit}", "error")]

    def lines(self, i: int) -> list[Line]:
        """Returns the text beside the slices through a landmark."""
        point = self.detected.positions[i]
        offset = self.factor * (point - self.truth[i])
        lines = [(line, "name") for line in textwrap.wrap(self.detected.labels[i], 19)]
        lines += self.error_line(i)
        if np.isfinite(offset).all():
            parts = zip(offset, ("RL", "AP", "IS"), strict=True)
            towards = "  ".join(f"{abs(part):.2f} {pair[int(part > 0)]}" for part, pair in parts)
            lines += [("detected lies", "small"), (towards, "small"), ("of the reference", "small")]
        if not self.detected.missing[i]:
            lines.append((f"({', '.join(f'{value:.1f}' for value in point)})", "position"))
        return lines


def draw_overview(
    *,
    scan: sitk.Image | None,
    detected: Landmarks,
    reference: Landmarks | None,
    title: str,
    note: str | None,
    settings: ReportSettings,
    unit: Unit = "mm",
    factor: float = 1.0,
    beside: Beside = NOTHING,
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
        unit: The unit of printed errors.
        factor: What a distance of coordinates is multiplied by to be in it.
        beside: What else is drawn on a picture.

    Returns:
        The figure; the axes of row i and view j are `figure.axes[3 * i + j]`.

    Raises:
        InputError: The reference lacks a detected landmark's label.
    """
    if scan is None:
        return layout.sheet(title, note, PANELS_INCHES, GAP_INCHES, settings.dpi)
    truth = np.full_like(detected.positions, np.nan)
    if reference is not None and detected.labels:
        truth = reference.select(detected.labels).positions
    elif reference is not None:
        truth = reference.positions
        detected = Landmarks(reference.labels, np.full_like(truth, np.nan))
    points = _Points(detected, truth, unit, factor)
    if scan.GetSize()[2] == 1:
        return _draw_whole(scan, points, title, note, settings=settings, beside=beside)
    return _draw_slices(scan, points, title, note, settings)


def write_overview(task: Task, settings: ReportSettings, unit: Unit) -> Record:
    """Reads a scan and its points and writes its picture.

    A scan that cannot be read, that has no result or whose landmarks are all missing still gets a
    picture with the reason on it. Of each file of points the first list is drawn.

    Args:
        task: The scan's files by role, and of the sheet its image and its scale.
        settings: Window, rows, intensities and resolution.
        unit: The unit of printed errors.

    Raises:
        InputError: A points file is unreadable.
    """
    stage = read_record(task.inputs["landmarks_record"])
    points = _first_list(task.inputs["landmarks"])
    reference = _first_list(task.inputs["reference"]).landmarks
    missing = points.landmarks.missing
    reasons = [] if stage.has_result else [str(stage.reason)]
    if stage.has_result and missing.any():
        reasons.append(f"{missing.sum()} of {missing.size} landmarks missing")
        stated = [note for note, lost in zip(points.notes, missing, strict=False) if lost and note]
        reasons += dict.fromkeys(stated)
    try:
        scan = read_volume(Path(task.row["image"]), series=task.row.get("series", ""))
        beside = _beside(task, stage, points, scan)
    except InputError as error:
        scan, beside = None, NOTHING
        reasons.append(str(error))
    cells = [task.row.get(column) for column in SIZES]
    figure = draw_overview(
        scan=scan,
        detected=points.landmarks,
        reference=reference if reference.labels else None,
        title=task.scan,
        note="; ".join(reasons) or None,
        settings=settings,
        unit=unit,
        factor=factor_of(unit, *(float(text) if text else None for text in cells)),
        beside=beside,
    )
    save_png(figure, task.outputs["picture"])
    return Record(task.scan, "pictures")


def _beside(task: Task, stage: Record, points: PointList, scan: sitk.Image) -> Beside:
    """What is drawn on a picture beside its points: nothing of a volume."""
    if scan.GetSize()[2] > 1:
        return NOTHING
    colours = read_picture(Path(task.row["image"]))
    earlier = [one.landmarks.positions for one in read_lists(task.inputs.get("steps"))]
    frames = stage.details.get(FRAMES, ()) if stage.has_result else ()
    return Beside(
        colours if colours.shape[2] == 3 else None,
        points.radius,
        np.concatenate([np.empty((0, 3)), *earlier]),
        frames,
    )


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
    how = f"{wanted} spread evenly"
    if worst:
        first = "the worst" if len(worst) == 1 else f"the {len(worst)} worst"
        how = f"{first}, then {wanted} of the others"
    return worst + evenly(others, wanted), f"{len(worst) + wanted} of {count} landmarks, {how}"


def _first_list(path: Path) -> PointList:
    """Returns the first point list, one without points in the place of a missing result."""
    return next(iter(read_lists(path)), PointList("none", Landmarks((), np.empty((0, 3))), None))


def _draw_slices(
    scan: sitk.Image, points: _Points, title: str, note: str | None, settings: ReportSettings
) -> Figure:
    """Draws a row of three slices for each chosen landmark, or one through the scan's middle."""
    detected, through = points.detected, "the detected point"
    if detected.missing.all():
        grid, through = grid_of(scan), "the middle of the scan"
        window = float(np.ptp(grid.corners, axis=0).max())
        lines = [("middle of the scan", "name"), ("no landmark detected", "warning")]
        rows = [(Place(grid.centre, window, np.empty((0, 3)), points.truth), lines)]
    else:
        chosen, selection = choose_landmarks(points.errors, settings)
        title = f"{title}: {selection}" if selection else title
        rows = []
        for i in chosen:
            here, there = detected.positions[[i]], points.truth[[i]]
            centre = (there if detected.missing[i] else here)[0]
            rows.append((Place(centre, settings.window, here, there), points.lines(i)))
        if detected.missing[chosen].any():
            through += " (the reference where it is missing)"
    body = len(rows) * (PANEL_INCHES + GAP_INCHES) + BOTTOM_INCHES
    figure = layout.sheet(title, note, PANELS_INCHES, body, settings.dpi)
    pixels = round(PANEL_INCHES * settings.dpi)
    slices = [[panels.slice_of(scan, place, view, pixels) for view in VIEWS] for place, _ in rows]
    intensity = panels.intensity_window([image for images in slices for image in images], settings)
    for i, (place, lines) in enumerate(rows):
        base = body - (i + 1) * (PANEL_INCHES + GAP_INCHES)
        layout.write_lines(figure, lines, base + PANEL_INCHES - TOP_INCHES)
        for j, view in enumerate(VIEWS):
            left = TEXT_INCHES + j * (PANEL_INCHES + GAP_INCHES)
            axes = layout.add_panel(figure, left, base, PANEL_INCHES, PANEL_INCHES)
            panels.draw_slice(axes, slices[i][j], place, view, intensity)
            if i == 0:
                panels.draw_sides(axes, view)
    text = (
        f"Slices through {through}. Radiological convention: the patient's right (R) is on the "
        "left of axial and coronal slices, anterior (A) on the left of sagittal ones. Positions "
        f"in LPS mm. Intensities {intensity[0]:.0f} to {intensity[1]:.0f}."
    )
    bar = f"{panels.bar_length(rows[0][0].window):g} mm"
    layout.write_legend(figure, "reference (projected onto the slice)", bar, text)
    return figure


def _draw_whole(
    scan: sitk.Image,
    points: _Points,
    title: str,
    note: str | None,
    *,
    settings: ReportSettings,
    beside: Beside,
) -> Figure:
    """Draws a scan of one slice with all of its points, the errors of some written beside it."""
    labels = points.detected.labels
    chosen, selection = choose_landmarks(points.errors, settings)
    lines = [(line, "small") for line in textwrap.wrap(selection.partition(", ")[2], LABEL_LETTERS)]
    for i in chosen:
        lines.append((labels[i][:LABEL_LETTERS], "label"))
        lines += [(t, "value" if style == "error" else style) for t, style in points.error_line(i)]
    columns, count = scan.GetSize()[:2]
    scale = min(PICTURE_INCHES[0] / columns, PICTURE_INCHES[1] / count)
    width, height = columns * scale, count * scale
    body = max(height, 0.38 * len(chosen)) + GAP_INCHES + BOTTOM_INCHES
    figure = layout.sheet(title, note, max(width, PANEL_INCHES), body, settings.dpi)
    layout.write_lines(figure, lines, body - TOP_INCHES)
    axes = layout.add_panel(figure, TEXT_INCHES, body - height, width, height)
    intensity = panels.intensity_window([array_of(scan)], settings)
    grid = grid_of(scan)
    found, truth = (grid.to_index(p)[:, :2] for p in (points.detected.positions, points.truth))
    if labels and len(beside.frames) % len(labels) == 0:
        # As many for each landmark, in their order: those of all would hide a picture of many.
        each = len(beside.frames) // len(labels)
        listed = [f for i in chosen for f in beside.frames[each * i : each * (i + 1)]]
        beside = replace(beside, frames=listed)
    panels.draw_picture(axes, scan, found, truth, intensity=intensity, beside=beside)
    style: Style = {"transform": axes.transData, "size": 6.5, "clip_on": True}
    for label, here, there in zip(labels, found, truth, strict=True):
        shown = bool(((here >= 0) & (here < (columns, count))).all())
        place = (here if shown else there) + LABEL_INCHES / scale
        if np.isfinite(place).all():
            panels.side_text(axes, place[0], place[1], label, **style)
    text = (
        "The whole picture; coordinates in pixels, x to the right and y down from the centre of "
        "the first pixel."
    )
    if beside.colours is None:
        text += f" Intensities {intensity[0]:.0f} to {intensity[1]:.0f}."
    drawn = {patch.get_gid() for patch in axes.patches}
    text += " A circle is to hold the true place in 9 of 10 cases." if "radius" in drawn else ""
    text += (
        " Dashed: where the method looked closer for those on the left." if "frame" in drawn else ""
    )
    layout.write_legend(figure, "reference", f"{panels.bar_length(columns):g} pixels", text)
    return figure


def run(batch: Batch) -> None:
    """Draw every scan; one without landmarks is drawn with the reason."""
    settings = batch.settings(ReportSettings, "report")
    batch.run(lambda task: write_overview(task, settings, batch.values["unit"]))
