"""How all figures look, and how they become files: equal input gives equal bytes."""

import io
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from landmarkflow.core import files

# One for each stage of a study with votes and several templates.
COLOURS = ("#0b6e99", "#d9822b", "#5b8c3e", "#8e5ea2", "#b8475f", "#777777", "#c4a800", "#2b2b2b")
GRID_COLOUR = "#e3e3e3"


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
    axes.grid(color=GRID_COLOUR, linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def png_bytes(figure: Figure) -> bytes:
    """Returns a figure as a PNG without the name and version of the software in it."""
    stream = io.BytesIO()
    figure.savefig(
        stream,
        format="png",
        dpi=figure.dpi,
        metadata={"Software": None},
        # A little larger than by the default, in a third of the time.
        pil_kwargs={"compress_level": 3},
    )
    return stream.getvalue()


def save_png(figure: Figure, path: Path) -> None:
    """Writes a figure as a PNG, replacing `path` as a whole."""
    data = png_bytes(figure)
    with files.replacing(path) as temporary:
        temporary.write_bytes(data)
