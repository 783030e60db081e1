"""The sheet around a picture's panels: heading, text beside them and the legend below."""

import textwrap
from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from landmarkflow.report.figures import new_figure
from landmarkflow.report.panels import BEYOND, mark

WARNING_COLOUR = "#b3261e"
TEXT_INCHES = 1.75
GAP_INCHES = 0.05
MARGIN_INCHES = 0.1
BOTTOM_INCHES = 0.74
LINE_INCHES = 0.17
# What fits into an inch of the heading, of notes and of the legend.
HEADING_LETTERS, NOTE_LETTERS, LEGEND_LETTERS = 10.9, 13.0, 16.7
# Size, weight, colour, and how far below the text the next line stands, in inches.
STYLES = {
    "name": (9.5, "bold", "black", 0.17),
    "error": (13, "normal", "black", 0.27),
    "warning": (9, "bold", WARNING_COLOUR, 0.2),
    "small": (7.5, "normal", "#333333", 0.14),
    "position": (7.5, "normal", "#777777", 0.2),
    "label": (8, "bold", "black", 0.15),
    "value": (9, "normal", "black", 0.21),
}

Lines = tuple[tuple[str, str], ...]


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
    y = height - MARGIN_INCHES
    for text in heading:
        _write(figure, y, text, weight="bold", size=10)
        y -= LINE_INCHES
    for text in notes:
        _write(figure, y - 0.05, text, size=8.5, color=WARNING_COLOUR)
        y -= LINE_INCHES
    return figure


def write_lines(figure: Figure, lines: Lines, top: float) -> None:
    """Writes text beside panels, as (text, style), from `top` inches above the lower end."""
    y = top - 0.06
    for text, style in lines:
        size, weight, colour, step = STYLES[style]
        if style in ("error", "position"):
            y -= 0.06
        _write(figure, y, text, size=size, weight=weight, color=colour)
        y -= step


def write_legend(figure: Figure, reference: str, bar: str, text: str) -> None:
    """Explains below the panels what they show.

    Args:
        figure: Its axes hold the marks that are explained.
        reference: What a reference's mark is called.
        bar: How long the scale bar is.
        text: What else there is to say.
    """
    width, height = figure.get_size_inches()
    shown = {str(line.get_gid()) for axes in figure.axes for line in axes.lines}
    names = {"detected": "detected", "reference": reference}
    found = {gid: names[gid] for gid in names if {gid, f"{gid} {BEYOND}"} & shown}
    figure.legend(
        [*(mark(gid, [], []) for gid in found), Line2D([], [], color="black", linewidth=2)],
        [*found.values(), bar],
        loc="lower left",
        bbox_to_anchor=(MARGIN_INCHES / width, 0.42 / height),
        ncols=3,
        frameon=False,
        fontsize=8,
        borderpad=0,
        borderaxespad=0.2,
    )
    if any(gid.endswith(BEYOND) for gid in shown):
        text += " A triangle points to a mark beyond the view."
    for number, line in enumerate(textwrap.wrap(text, int(LEGEND_LETTERS * width))):
        _write(figure, 0.38 - 0.135 * number, line, size=7.5, color="#555555")


def _write(figure: Figure, y: float, text: str, **style: Any) -> None:
    """Writes one line at the left whose upper edge lies y inches above the lower end.

    A name may hold dollar signs: they are no mathematics.
    """
    width, height = figure.get_size_inches()
    figure.text(MARGIN_INCHES / width, y / height, text, va="top", parse_math=False, **style)
