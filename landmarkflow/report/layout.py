"""The sheet around a picture's panels: heading, text beside them and the legend below."""

import textwrap
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from landmarkflow.report.figures import Style, new_figure
from landmarkflow.report.panels import BEYOND, mark

WARNING_COLOUR = "#b3261e"
TEXT_INCHES = 1.75
GAP_INCHES = 0.05
MARGIN_INCHES = 0.1
BOTTOM_INCHES = 0.74
LINE_INCHES = 0.17
# From the upper edge of a panel to the text beside it.
TOP_INCHES = 0.06
# What fits into an inch of the heading, of notes and of the legend.
HEADING_LETTERS, NOTE_LETTERS, LEGEND_LETTERS = 10.9, 13.0, 16.7
# Size, weight, colour, then the gap above a line and what is left below it, in inches.
STYLES = {
    "heading": (10, "bold", "black", 0, LINE_INCHES),
    "note": (8.5, "normal", WARNING_COLOUR, 0.05, LINE_INCHES - 0.05),
    "name": (9.5, "bold", "black", 0, 0.17),
    "error": (13, "normal", "black", 0.06, 0.27),
    "warning": (9, "bold", WARNING_COLOUR, 0, 0.2),
    "small": (7.5, "normal", "#333333", 0, 0.14),
    "position": (7.5, "normal", "#777777", 0.06, 0.2),
    "label": (8, "bold", "black", 0, 0.15),
    "value": (9, "normal", "black", 0, 0.21),
    "legend": (7.5, "normal", "#555555", 0, 0.135),
}

# A text and its style.
Line = tuple[str, str]


def sheet(title: str, note: str | None, panels: float, body: float, dpi: int) -> Figure:
    """Returns a figure with its heading; below it, panels find an empty body to the right.

    Args:
        title: The first line.
        note: A warning, or None.
        panels: Width of the panels, inches; they begin at `TEXT_INCHES`.
        body: Height below the heading, inches.
        dpi: Pixels per inch.
    """
    width = TEXT_INCHES + panels + MARGIN_INCHES
    heading = textwrap.wrap(title, int(HEADING_LETTERS * width))
    notes = textwrap.wrap(" ".join((note or "").split()), int(NOTE_LETTERS * width))
    height = LINE_INCHES * (1 + len(heading) + len(notes)) + body
    figure = new_figure(width, height, dpi)
    lines = [*((text, "heading") for text in heading), *((text, "note") for text in notes)]
    write_lines(figure, lines, height - MARGIN_INCHES)
    return figure


def add_panel(figure: Figure, left: float, base: float, width: float, height: float) -> Axes:
    """Returns new axes of this size at this place from the lower left corner, in inches."""
    across, up = figure.get_size_inches()
    return figure.add_axes((left / across, base / up, width / across, height / up))


def write_lines(figure: Figure, lines: Sequence[Line], top: float) -> None:
    """Writes lines at the left, from `top` inches above the lower end downwards."""
    width, height = figure.get_size_inches()
    y = top
    for text, style in lines:
        size, weight, colour, gap, step = STYLES[style]
        y -= gap
        # A name may hold dollar signs: they are no mathematics.
        look: Style = {"size": size, "weight": weight, "color": colour, "parse_math": False}
        figure.text(MARGIN_INCHES / width, y / height, text, va="top", **look)
        y -= step


def write_legend(figure: Figure, reference: str, bar: str, text: str) -> None:
    """Explains below the panels the marks that they show.

    `reference` is what a reference's mark is called, `bar` how long the scale bar is, and `text`
    what else there is to say.
    """
    width, height = figure.get_size_inches()
    shown = {str(line.get_gid()) for axes in figure.axes for line in axes.lines}
    names = {"detected": "detected", "reference": reference, "earlier": "after earlier steps"}
    found = {gid: names[gid] for gid in names if {gid, f"{gid} {BEYOND}"} & shown}
    lines = [*(mark(gid, [], []) for gid in found), Line2D([], [], color="black", linewidth=2)]
    style: Style = {"ncols": len(lines), "frameon": False, "fontsize": 8, "borderpad": 0}
    style |= {"loc": "lower left", "bbox_to_anchor": (MARGIN_INCHES / width, 0.42 / height)}
    figure.legend(lines, [*found.values(), bar], borderaxespad=0.2, **style)
    if any(gid.endswith(BEYOND) for gid in shown):
        text += " A triangle points to a mark beyond the view."
    wrapped = textwrap.wrap(text, int(LEGEND_LETTERS * width))
    write_lines(figure, [(line, "legend") for line in wrapped], 0.38)
