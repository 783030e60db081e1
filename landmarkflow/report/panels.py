"""Single views of a scan: slices along LPS axes, whole pictures, and the points on them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import SimpleITK as sitk
from matplotlib import colormaps, patheffects
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.path import Path as Shape
from numpy.typing import NDArray

from landmarkflow.core.grids import Grid
from landmarkflow.images.operations import array_of, grid_of
from landmarkflow.images.sampling import resample
from landmarkflow.report.settings import ReportSettings

COLOURS = {"detected": "#19d3ff", "reference": "#ff9f1c"}
OUTSIDE_COLOUR = "#2b3a4a"
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
class Place:
    """Where slices are cut, and the points shown on them.

    Attributes:
        centre: (3,) LPS mm; NaN where there is no position.
        window: Side of the slices, mm.
        detected: (n, 3) LPS mm.
        reference: (m, 3) LPS mm.
    """

    centre: NDArray[np.float64]
    window: float
    detected: NDArray[np.float64]
    reference: NDArray[np.float64]


def slice_of(scan: sitk.Image, place: Place, view: View, fewest_pixels: int) -> NDArray[np.float32]:
    """Returns a square slice (vertical, horizontal), its coordinates growing, NaN outside."""
    if np.isnan(place.centre).any():
        return np.full((1, 1), np.nan, dtype=np.float32)
    # Pixels finer than 1.5 voxels keep the resampling from smoothing the whole volume first.
    finest = float(grid_of(scan).spacing.min())
    pixels = max(fewest_pixels, int(np.ceil(place.window / (1.4 * finest))))
    size = [pixels, pixels, pixels]
    size[view.normal] = 1
    grid = Grid.centred(place.centre, size, place.window / pixels)
    sampled = resample(scan, grid, "linear", float("nan"))
    return np.asarray(np.squeeze(array_of(sampled), axis=2 - view.normal))


def intensity_window(
    images: Sequence[NDArray[Any]], settings: ReportSettings
) -> tuple[float, float]:
    """Returns the values shown black and white, from the settings or the images' percentiles."""
    if settings.intensity is not None:
        return settings.intensity
    values = np.concatenate([image.ravel() for image in images])
    values = values[np.isfinite(values)]
    if values.size == 0:
        return 0.0, 1.0
    black, white = (float(value) for value in np.percentile(values, settings.percentiles))
    return black, white if white > black else black + 1.0


def draw_slice(
    axes: Axes,
    image: NDArray[np.float32],
    place: Place,
    view: View,
    intensity: tuple[float, float],
) -> None:
    """Draws a slice whose axes have LPS mm as data coordinates, with the points around it."""
    half = place.window / 2
    centre = np.zeros(3) if np.isnan(place.centre).any() else place.centre
    across, up = centre[view.horizontal], centre[view.vertical]
    extent = (across - half, across + half, up - half, up + half)
    _show(axes, image, extent, intensity)
    axes.set_ylim(*(extent[2:] if view.upwards else extent[:1:-1]))
    if not np.isfinite(image).any():
        why = "no position" if np.isnan(place.centre).any() else "outside the volume"
        side_text(axes, 0.5, 0.75, why, ha="center", va="center")
    plane = [view.horizontal, view.vertical]
    draw_points(axes, place.detected[:, plane], place.reference[:, plane])
    _draw_scale_bar(axes, place.window)


def draw_picture(
    axes: Axes,
    scan: sitk.Image,
    points: tuple[NDArray[np.float64], NDArray[np.float64]],
    intensity: tuple[float, float],
) -> None:
    """Draws a scan of one slice as it is, its axes in pixels, x to the right and y down.

    Args:
        axes: Where to draw, in the picture's proportions.
        scan: (x, y, 1) pixels.
        points: (n, 2) detected points and the (n, 2) references of the same landmarks, pixels.
        intensity: The values shown black and white.
    """
    width, height = scan.GetSize()[:2]
    extent = (-0.5, width - 0.5, -0.5, height - 0.5)
    _show(axes, array_of(scan)[0], extent, intensity)
    axes.set_ylim(height - 0.5, -0.5)
    for ends in np.stack(points, axis=1):
        axes.plot(*ends.T, color="white", linewidth=0.8, gid="error")
    axes.set_xlim(*extent[:2])
    axes.set_ylim(height - 0.5, -0.5)
    draw_points(axes, *points)
    _draw_scale_bar(axes, width)


def draw_points(axes: Axes, detected: NDArray[np.float64], reference: NDArray[np.float64]) -> None:
    """Draws (n, 2) and (m, 2) points in data coordinates; those of NaN are left out.

    A point beyond the view is an arrow at the border towards it.
    """
    for points, gid in ((reference, "reference"), (detected, "detected")):
        for across, up in points[np.isfinite(points).all(axis=1)]:
            inside = axes.transData.transform((across, up))
            x, y = axes.transAxes.inverted().transform(inside)
            if 0 <= x <= 1 and 0 <= y <= 1:
                axes.add_line(mark(gid, [across], [up]))
                continue
            direction = np.array([x - 0.5, y - 0.5])
            place = 0.5 + 0.45 * direction / np.abs(direction).max()
            angle = float(np.degrees(np.arctan2(direction[1], direction[0]))) - 90
            axes.plot(
                *place,
                marker=(3, 0, angle),
                color=COLOURS[gid],
                markersize=7,
                transform=axes.transAxes,
                gid=f"{gid} {BEYOND}",
                linestyle="none",
            )


def draw_sides(axes: Axes, view: View) -> None:
    """Writes a view's name and the patient's sides onto a slice."""
    side_text(axes, 0.03, 0.97, view.name, ha="left", va="top")
    for (x, y, ha, va), side in zip(_SIDE_PLACES, view.sides, strict=True):
        side_text(axes, x, y, side, ha=ha, va=va)


def mark(gid: str, across: Sequence[float], up: Sequence[float]) -> Line2D:
    """Returns the mark of a detected point, a cross, or of a reference, a ring."""
    detected = gid == "detected"
    line = Line2D(
        across,
        up,
        linestyle="none",
        marker=_CROSS if detected else "o",
        markersize=15 if detected else 8,
        color=COLOURS[gid],
        markerfacecolor="none",
        markeredgewidth=1.2,
    )
    line.set_gid(gid)
    return line


def side_text(axes: Axes, x: float, y: float, text: str, **style: Any) -> None:
    """Writes white text with a dark outline; x and y are parts of the axes' size."""
    own: dict[str, Any] = {"size": 7.5, "color": "white", "transform": axes.transAxes} | style
    axes.text(x, y, text, None, path_effects=_OUTLINE, parse_math=False, **own)


def bar_length(window: float) -> float:
    """Returns the longest of 1, 2, 5, 10, ... that fits into a quarter of the window."""
    power = 10.0 ** np.floor(np.log10(window / 4))
    return float(max(step * power for step in (1, 2, 5) if step * power <= window / 4))


def _show(
    axes: Axes,
    image: NDArray[Any],
    extent: tuple[float, float, float, float],
    intensity: tuple[float, float],
) -> None:
    """Shows an image whose first row lies at the lowest vertical coordinate."""
    axes.set_axis_off()
    axes.imshow(
        image,
        cmap=_GREY,
        vmin=intensity[0],
        vmax=intensity[1],
        origin="lower",
        extent=extent,
        interpolation="auto",
        aspect="auto",
    )
    axes.set_xlim(extent[0], extent[1])


def _draw_scale_bar(axes: Axes, window: float) -> None:
    length = bar_length(window) / window
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
