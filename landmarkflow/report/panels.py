"""Single views of a scan: slices along LPS axes, whole pictures, and the points on them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import SimpleITK as sitk
from matplotlib import colormaps, patheffects
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, Rectangle
from matplotlib.path import Path as Shape
from numpy.typing import NDArray

from landmarkflow.core.grids import Grid
from landmarkflow.images.operations import array_of, grid_of
from landmarkflow.images.sampling import resample
from landmarkflow.images.views import View
from landmarkflow.report.figures import Style
from landmarkflow.report.settings import ReportSettings

COLOURS = {"detected": "#19d3ff", "reference": "#ff9f1c", "earlier": "#ff6fb5"}
OUTSIDE_COLOUR = "#2b3a4a"
BEYOND = "beyond the view"

# A cross that leaves its middle free, so that it does not hide what it points at.
_CROSS = Shape(
    [(-1, 0), (-0.3, 0), (0.3, 0), (1, 0), (0, -1), (0, -0.3), (0, 0.3), (0, 1)],
    [Shape.MOVETO, Shape.LINETO] * 4,
)
_GREY = colormaps["gray"].with_extremes(bad=OUTSIDE_COLOUR)
_OUTLINE = (patheffects.withStroke(linewidth=1.8, foreground="black", alpha=0.75),)

Intensity = tuple[float, float]
Positions = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Place:
    """Where slices are cut, and the points shown on them, in LPS mm.

    Attributes:
        centre: (3,); NaN where there is no position.
        window: Side of the slices.
        detected: (n, 3).
        reference: (m, 3).
    """

    centre: Positions
    window: float
    detected: Positions
    reference: Positions


def slice_of(scan: sitk.Image, place: Place, view: View, fewest_pixels: int) -> NDArray[np.float32]:
    """Returns a square slice (vertical, horizontal), its coordinates growing, NaN outside."""
    if np.isnan(place.centre).any():
        return np.full((1, 1), np.nan, dtype=np.float32)
    # Pixels finer than 1.5 voxels keep the resampling from smoothing the whole volume first.
    finest = float(grid_of(scan).spacing.min())
    pixels = max(fewest_pixels, int(np.ceil(place.window / (1.4 * finest))))
    normal = 3 - sum(view.plane)
    size = [pixels, pixels, pixels]
    size[normal] = 1
    grid = Grid.centred(place.centre, size, place.window / pixels)
    sampled = resample(scan, grid, "linear", float("nan"))
    return np.asarray(np.squeeze(array_of(sampled), axis=2 - normal))


def intensity_window(images: Sequence[NDArray[Any]], settings: ReportSettings) -> Intensity:
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
    axes: Axes, image: NDArray[np.float32], place: Place, view: View, intensity: Intensity
) -> None:
    """Draws a slice whose axes have LPS mm as data coordinates, with the points around it."""
    plane, unknown = list(view.plane), bool(np.isnan(place.centre).any())
    across, up = np.zeros(2) if unknown else place.centre[plane]
    half = place.window / 2
    _show(axes, image, (across - half, across + half, up - half, up + half), intensity)
    if view.name == "axial":
        # P, the larger y, is down.
        axes.invert_yaxis()
    if not np.isfinite(image).any():
        why = "no position" if unknown else "outside the volume"
        side_text(axes, 0.5, 0.75, why, ha="center", va="center")
    draw_points(axes, place.detected[:, plane], place.reference[:, plane])
    _draw_scale_bar(axes, place.window)


@dataclass(frozen=True, eq=False)
class Beside:
    """What is drawn on a picture beside its points and their references, in its pixels.

    Attributes:
        colours: (rows, columns, 3) uint8, red, green and blue; None for grey.
        radius: (n,) around each detected point, NaN for none; None where none has one.
        earlier: (m, 3) points after earlier steps.
        frames: (left, top, right, bottom) of the parts that the method looked at.
    """

    colours: NDArray[Any] | None = None
    radius: Positions | None = None
    earlier: Positions = field(default_factory=lambda: np.empty((0, 3)))
    frames: Sequence[Sequence[float]] = ()


def draw_picture(
    axes: Axes,
    scan: sitk.Image,
    detected: Positions,
    reference: Positions,
    *,
    intensity: Intensity,
    beside: Beside,
) -> None:
    """Draws a scan (x, y, 1) as it is, its axes in pixels, x to the right and y down.

    On it are detected points (n, 2), in pixels, with lines to the references (n, 2) of the same
    landmarks, their radii, and what else there is. The axes have the scan's proportions.
    """
    width, height = scan.GetSize()[:2]
    image = array_of(scan)[0] if beside.colours is None else beside.colours
    _show(axes, image, (-0.5, width - 0.5, -0.5, height - 0.5), intensity)
    for left, top, right, bottom in beside.frames:
        style: Style = {"fill": False, "edgecolor": "white", "linewidth": 0.8, "gid": "frame"}
        corner, size = (left, top), (right - left, bottom - top)
        axes.add_patch(Rectangle(corner, *size, linestyle=(0, (4, 3)), alpha=0.8, **style))
    for across, down in beside.earlier[np.isfinite(beside.earlier).all(axis=1), :2]:
        axes.add_line(mark("earlier", [across], [down]))
    radii = np.full(len(detected), np.nan) if beside.radius is None else beside.radius
    for place, radius in zip(detected, radii, strict=True):
        if np.isfinite([*place, radius]).all():
            style = {"fill": False, "edgecolor": COLOURS["detected"], "linewidth": 0.9}
            axes.add_patch(Circle((place[0], place[1]), radius, gid="radius", **style))
    axes.invert_yaxis()
    for here, there in zip(detected, reference, strict=True):
        axes.plot(*zip(here, there, strict=True), color="white", linewidth=0.8, gid="error")
    draw_points(axes, detected, reference)
    _draw_scale_bar(axes, width)


def draw_points(axes: Axes, detected: Positions, reference: Positions) -> None:
    """Draws (n, 2) and (m, 2) points in data coordinates; those of NaN are left out.

    A point beyond the view is an arrow at the border towards it.
    """
    for points, gid in ((reference, "reference"), (detected, "detected")):
        for across, up in points[np.isfinite(points).all(axis=1)]:
            drawn = axes.transData.transform((across, up))
            towards = axes.transAxes.inverted().transform(drawn) - 0.5
            far = np.abs(towards).max()
            if far <= 0.5:
                axes.add_line(mark(gid, [across], [up]))
                continue
            angle = float(np.degrees(np.arctan2(towards[1], towards[0]))) - 90
            style: Style = {"color": COLOURS[gid], "markersize": 7, "linestyle": "none"}
            arrow: Style = {"marker": (3, 0, angle), "transform": axes.transAxes}
            axes.plot(*(0.5 + 0.45 * towards / far), gid=f"{gid} {BEYOND}", **arrow, **style)


def draw_sides(axes: Axes, view: View) -> None:
    """Writes a view's name and the patient's sides onto a slice."""
    side_text(axes, 0.03, 0.97, view.name, ha="left", va="top")
    left, right, top, bottom = view.sides
    side_text(axes, 0.02, 0.5, left, ha="left", va="center")
    side_text(axes, 0.98, 0.5, right, ha="right", va="center")
    side_text(axes, 0.5, 0.98, top, ha="center", va="top")
    side_text(axes, 0.5, 0.02, bottom, ha="center", va="bottom")


def mark(gid: str, across: Sequence[float], up: Sequence[float]) -> Line2D:
    """Returns the mark of a point: detected a cross, reference a ring, earlier a small diamond."""
    marker: Shape | str = _CROSS if gid == "detected" else {"earlier": "D"}.get(gid, "o")
    size = {"detected": 15, "earlier": 4}.get(gid, 8)
    style: Style = {"linestyle": "none", "markerfacecolor": "none", "markeredgewidth": 1.2}
    color = COLOURS[gid]
    return Line2D(across, up, marker=marker, markersize=size, color=color, gid=gid, **style)


def side_text(axes: Axes, x: float, y: float, text: str, **style: Any) -> None:
    """Writes white text with a dark outline; x and y are parts of the axes' size."""
    own: Style = {"size": 7.5, "color": "white", "transform": axes.transAxes} | style
    axes.text(x, y, text, None, path_effects=_OUTLINE, parse_math=False, **own)


def bar_length(window: float) -> float:
    """Returns the longest of 1, 2, 5, 10, ... that fits into a quarter of the window."""
    power = 10.0 ** np.floor(np.log10(window / 4))
    return float(max(step * power for step in (1, 2, 5) if step * power <= window / 4))


def _show(
    axes: Axes, image: NDArray[Any], extent: tuple[float, float, float, float], grey: Intensity
) -> None:
    """Shows an image whose first row lies at the lowest vertical coordinate."""
    axes.set_axis_off()
    style: Style = {"cmap": _GREY, "vmin": grey[0], "vmax": grey[1], "aspect": "auto"}
    axes.imshow(image, origin="lower", extent=extent, interpolation="auto", **style)
    # Limits that are set stay, whatever else is drawn.
    axes.set(xlim=extent[:2], ylim=extent[2:])


def _draw_scale_bar(axes: Axes, window: float) -> None:
    place = ([0.04, 0.04 + bar_length(window) / window], [0.045, 0.045])
    style: Style = {"color": "white", "linewidth": 2, "solid_capstyle": "butt"}
    style |= {"path_effects": _OUTLINE, "transform": axes.transAxes}
    axes.plot(*place, gid="scale bar", **style)
