"""Figures for a paper: every curve of a study at the widths of one and of two columns."""

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from matplotlib.figure import Figure

from landmarkflow.core.errors import InputError
from landmarkflow.core.files import replacing
from landmarkflow.evaluation import annotations
from landmarkflow.evaluation.results import Run, read_run
from landmarkflow.report.annotations import draw_annotations
from landmarkflow.report.curves import draw_error_distribution, draw_radii
from landmarkflow.report.figures import (
    ONE_COLUMN,
    TWO_COLUMNS,
    Layout,
    pdf_bytes,
    png_bytes,
)
from landmarkflow.report.histories import draw_history, read_history

LAYOUTS: Mapping[str, Layout] = {"1col": ONE_COLUMN, "2col": TWO_COLUMNS}
DPI = 300

Draw = Callable[[Layout], Figure]


def write_figures(
    runs: Mapping[str, Path], histories: Mapping[str, Mapping[str, Path]], output: Path
) -> list[Path]:
    """Write every figure as PDF and PNG, `<run>_<figure>_<1col or 2col>`.

    Args:
        runs: folder of each run, by its name, with made.json and evaluation/.
        histories: of each run, its tables of trainings by what was trained.
        output: folder of the figures.

    Returns:
        The files, in their order.

    Raises:
        InputError: a table cannot be read, or there is nothing to draw.
    """
    read = {name: read_run(folder) for name, folder in runs.items()}
    written = []
    for name, draw in _figures(read, histories):
        for width, layout in LAYOUTS.items():
            figure = draw(layout)
            for suffix, made in ((".pdf", pdf_bytes), (".png", png_bytes)):
                path = output / f"{name}_{width}{suffix}"
                with replacing(path) as beside:
                    beside.write_bytes(made(figure))
                written.append(path)
    if not written:
        raise InputError("has neither errors, nor radii beside errors, nor trainings to draw")
    return written


def _figures(
    runs: Mapping[str, Run], histories: Mapping[str, Mapping[str, Path]]
) -> Iterator[tuple[str, Draw]]:
    """The name of each figure that a study has, and what draws it."""
    for name, run in runs.items():
        if len(run.errors):
            yield f"{name}_errors", _errors(run)
        if run.summary["reliability"]["n"]:
            yield f"{name}_radii", _radii(run)
        for what, path in histories.get(name, {}).items():
            word = re.sub(r"\W+", "-", what.removeprefix("the ")).strip("-")
            yield f"{name}_training_{word}", _history(path)
    if len(runs) > 1 and (found := annotations.annotations_of(list(runs.values()))):
        yield "annotations", lambda layout: draw_annotations(found, DPI, layout)


def _errors(run: Run) -> Draw:
    radii = run.settings.radii
    return lambda layout: draw_error_distribution(run.errors, radii, run.unit, DPI, layout)


def _radii(run: Run) -> Draw:
    return lambda layout: draw_radii(run.errors, run.unit, DPI, layout)


def _history(path: Path) -> Draw:
    return lambda layout: draw_history(read_history(path), DPI, layout)
