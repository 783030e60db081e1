"""How all figures look, and how they become files: equal input gives equal bytes."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from landmarkflow.core import files

# One for each stage of a study with votes and several templates.
COLOURS = ("#0b6e99", "#d9822b", "#5b8c3e", "#8e5ea2", "#b8475f", "#777777", "#c4a800", "#2b2b2b")
# Properties of what matplotlib draws, by name.
Style = dict[str, Any]


@dataclass(frozen=True)
class Layout:
    """How a figure of several panels is laid out.

    Attributes:
        width: of the figure, inches.
        stacked: whether panels stand one below the other.
    """

    width: float
    stacked: bool = False


# The report's page, and one and two columns of a journal (86 and 178 mm).
PAGE, ONE_COLUMN, TWO_COLUMNS = Layout(8.1), Layout(3.39, stacked=True), Layout(7.01)


def new_figure(width: float, height: float, dpi: int) -> Figure:
    """Returns an empty white figure of this many inches with an Agg canvas."""
    figure = Figure(figsize=(width, height), dpi=dpi, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def label_axes(axes: Axes, across: str, up: str) -> None:
    """Names the axes of a diagram and draws its grid."""
    axes.set_xlabel(across, fontsize=8)
    axes.set_ylabel(up, fontsize=8)
    axes.tick_params(labelsize=8)
    axes.grid(color="#e3e3e3", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def draw_legend(axes: Axes, fontsize: float, ncols: int, **spaces: Any) -> None:
    """Draws the legend above the axes, since many curves leave no room between them."""
    place: Style = {"loc": "lower left", "bbox_to_anchor": (0, 1), "borderaxespad": 0.2}
    axes.legend(frameon=False, fontsize=fontsize, ncols=ncols, **place, **spaces)


def png_bytes(figure: Figure) -> bytes:
    """Returns a figure as a PNG without the name and version of the software in it."""
    stream = io.BytesIO()
    # Compression 3 is a little larger than the default, in a third of the time.
    smaller = {"compress_level": 3}
    nothing = {"Software": None}
    figure.savefig(stream, format="png", dpi=figure.dpi, metadata=nothing, pil_kwargs=smaller)
    return stream.getvalue()


def pdf_bytes(figure: Figure) -> bytes:
    """Returns a figure as a vector PDF whose fonts are part of it as TrueType, without a date."""
    stream = io.BytesIO()
    nothing = dict.fromkeys(("CreationDate", "Creator", "Producer"))
    with rc_context({"pdf.fonttype": 42}):
        figure.savefig(stream, format="pdf", metadata=nothing)
    return stream.getvalue()


def save_png(figure: Figure, path: Path) -> None:
    """Writes a figure as a PNG, replacing `path` as a whole."""
    with files.replacing(path) as temporary:
        temporary.write_bytes(png_bytes(figure))
