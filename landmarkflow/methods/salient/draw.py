"""Pictures of the results: maps with landmarks, aligned pairs, and how clusters were chosen."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy import ndimage

from landmarkflow.core.files import read_text, replacing
from landmarkflow.core.records import read_record
from landmarkflow.core.selection import evenly
from landmarkflow.engine.batch import Batch
from landmarkflow.engine.store import Task
from landmarkflow.formats.slicer import read_point_lists
from landmarkflow.methods.salient.frames import Frame
from landmarkflow.methods.salient.gaze import colours_of
from landmarkflow.methods.salient.maps import at_pixels
from landmarkflow.methods.salient.pairs import Shown, by_landmarks
from landmarkflow.methods.salient.settings import AlignSettings
from landmarkflow.methods.salient.shown import shown_by_group
from landmarkflow.methods.salient.similarity import Similarity

Image = NDArray[np.uint8]

# Pictures of a figure, and inches of each.
PICTURES, SIDE = 6, 2.2
DPI = 110
COLOURS = ("#ff5a4d", "#3fb6ff", "#ffd23f", "#6ee36e", "#d58cff", "#ff9f40", "#8dfff2", "#ffffff")
# Annotations of a source and of a target.
SOURCE, TARGET = "#ffd23f", "#3fb6ff"


def new_figure(width: float, height: float) -> Figure:
    """An empty white figure of this many inches."""
    figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG without the software's name and version in it."""
    with replacing(path) as beside:
        figure.savefig(beside, format="png", dpi=DPI, metadata={"Software": None})


def show(axes: Axes, image: Image, title: str = "") -> None:
    """Draw a picture without axes."""
    axes.imshow(image, interpolation="bilinear")
    axes.set_axis_off()
    axes.set_xlim(-0.5, image.shape[1] - 0.5)
    axes.set_ylim(image.shape[0] - 0.5, -0.5)
    if title:
        axes.set_title(title, fontsize=8)


def mark(axes: Axes, points: Mapping[str, Any], colours: Mapping[str, str], shape: str) -> None:
    """Draw landmarks with their names."""
    for name, (x, y) in points.items():
        axes.plot(x, y, shape, color=colours[name], markersize=6, markeredgewidth=1.5, mfc="none")
        axes.annotate(
            name, (x, y), (4, 4), textcoords="offset points", fontsize=6, color=colours[name]
        )


def blank(axes: Axes, text: str) -> None:
    """Say what is not shown."""
    axes.set_axis_off()
    axes.text(0.5, 0.5, text, ha="center", va="center", fontsize=9, wrap=True)


def chosen_tasks(tasks: Sequence[Task]) -> list[Task]:
    """Some pictures spread over the study, as many of each group as can be, in its order."""
    groups = list(dict.fromkeys(task.row.get("group", "") for task in tasks))
    each = max(1, PICTURES // max(1, len(groups)))
    found = []
    for group in groups:
        found += evenly([task for task in tasks if task.row.get("group", "") == group], each)
    return found[:PICTURES]


def draw_discovered(tasks: Sequence[Task], largest: int) -> Figure:
    """Pictures, their maps, and the landmarks with their names (Droste et al. 2020, Fig. 2)."""
    columns = max(1, len(tasks))
    figure = new_figure(SIDE * columns, 3 * SIDE)
    grid = figure.subplots(3, columns, squeeze=False)
    for column, task in enumerate(tasks):
        image = colours_of(Path(task.row["image"]), largest)
        group = task.row.get("group", "")
        show(grid[0, column], image, f"{task.scan} {group}".strip())
        frame = Frame(**read_record(task.inputs["predict_record"]).details["frame"])
        saliency = at_pixels(np.load(task.inputs["saliency"], allow_pickle=False), frame)
        show(grid[1, column], image)
        grid[1, column].imshow(saliency / saliency.max(), cmap="inferno", alpha=0.6)
        show(grid[2, column], image)
        points = read_point_lists(task.inputs["landmarks"])[0].landmarks
        colours = {n: COLOURS[k % len(COLOURS)] for k, n in enumerate(points.labels)}
        there = {
            name: place[:2]
            for name, place in zip(points.labels, points.positions, strict=True)
            if not np.isnan(place).any()
        }
        mark(grid[2, column], there, colours, "o")
    figure.tight_layout(pad=0.3)
    return figure


def warped(image: Image, change: Similarity, shape: tuple[int, ...]) -> Image:
    """A source as it lies on the target, (rows, columns, 3)."""
    inverse = np.linalg.inv(change.whole)
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float64)
    there = inverse @ np.stack([x.ravel(), y.ravel(), np.ones(x.size)])
    channels = [
        ndimage.map_coordinates(image[..., k].astype(np.float64), there[1::-1], order=1)
        for k in range(3)
    ]
    return np.stack(channels, axis=-1).reshape(shape[0], shape[1], 3).astype(np.uint8)


def draw_aligned(
    groups: Mapping[str, Sequence[Shown]],
    paths: Mapping[str, Path],
    settings: AlignSettings,
    largest: int,
) -> Figure:
    """Targets, sources, and sources laid on targets (Droste et al. 2020, Fig. 3).

    Of pictures that have the landmarks; where there are none, of any.
    """
    pairs = []
    for group, pictures in groups.items():
        names = settings.landmarks[group]
        align = by_landmarks(names, settings.tolerance)
        ready = [
            one
            for one in pictures
            if sum(name in one.found for name in names) >= min(2, len(names))
        ]
        shown = ready if len(ready) > 1 else pictures
        # Neighbours in the list, so that no pair is chosen for its result.
        for source, target in zip(shown[::2], shown[1::2], strict=False):
            pairs.append((group, source, target, align(source, target)))
    by_group = [[pair for pair in pairs if pair[0] == group] for group in groups]
    each = max(1, PICTURES // max(1, len(groups)))
    drawn = [pair for own in by_group for pair in evenly(own, each)]
    figure = new_figure(SIDE * max(2, len(drawn)), 3 * SIDE)
    if not drawn:
        blank(figure.subplots(), "the study states no landmarks to align by (align.landmarks)")
        return figure
    grid = figure.subplots(3, len(drawn), squeeze=False)
    for column, (group, source, target, change) in enumerate(drawn):
        images = [colours_of(paths[one.scan], largest) for one in (target, source)]
        rows = ((target, TARGET, "s", images[0]), (source, SOURCE, "o", images[1]))
        for row, (one, colour, shape, image) in enumerate(rows):
            show(grid[row, column], image, f"{('target', 'source')[row]} {one.scan} {group}")
            mark(grid[row, column], one.true, dict.fromkeys(one.true, colour), shape)
        axes = grid[2, column]
        if change is None:
            blank(axes, "not aligned")
            continue
        show(axes, warped(images[1], change, images[0].shape), "source on target")
        moved = {name: change.apply(place[None])[0] for name, place in source.true.items()}
        mark(axes, target.true, dict.fromkeys(target.true, TARGET), "s")
        mark(axes, moved, dict.fromkeys(moved, SOURCE), "o")
    figure.tight_layout(pad=0.3)
    return figure


def draw_choice(rows: Sequence[Mapping[str, str]]) -> Figure:
    """Silhouette and stability against the number of clusters."""
    figure = new_figure(4.5, 3.2)
    axes = figure.subplots()
    numbers = [int(row["clusters"]) for row in rows]
    for column, label, colour in (
        ("silhouette", "silhouette", "#0b6e99"),
        ("stability", "adjusted Rand index of seeds", "#d9822b"),
    ):
        axes.plot(numbers, [float(row[column]) for row in rows], "o-", color=colour, label=label)
    for row in rows:
        if row["chosen"]:
            axes.axvline(int(row["clusters"]), color="#777777", linestyle=":", linewidth=1)
    axes.set_xticks(numbers)
    axes.set_xlabel("clusters (dotted: chosen)", fontsize=8)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    figure.tight_layout(pad=0.5)
    return figure


def run(batch: Batch) -> None:
    """Draw the three figures."""
    settings = batch.settings(AlignSettings, "align")
    largest = int(batch.values["largest_gib"] * 2**30)
    shown = [task for task in batch.tasks if task.inputs["saliency"].stat().st_size]
    save(draw_discovered(chosen_tasks(shown), largest), batch.path("discovered"))
    groups = shown_by_group(batch, settings.measured)
    paths = {task.scan: Path(task.row["image"]) for task in batch.tasks}
    save(draw_aligned(groups, paths, settings, largest), batch.path("aligned"))
    rows = list(csv.DictReader(io.StringIO(read_text(batch.path("choices"), "choices"))))
    save(draw_choice(rows), batch.path("clusters_chosen"))
