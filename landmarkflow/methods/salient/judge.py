"""How well the maps say where held-out observers look, beside a centre bias and other observers."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from landmarkflow.core.records import read_record
from landmarkflow.engine.batch import Batch
from landmarkflow.engine.store import Task
from landmarkflow.methods.salient.examples import Example, load_examples
from landmarkflow.methods.salient.frames import Frame
from landmarkflow.methods.salient.gaze import Tables
from landmarkflow.methods.salient.maps import at_pixels
from landmarkflow.methods.salient.metrics import METRICS, all_metrics, density
from landmarkflow.methods.salient.settings import GazeSettings, PredictSettings
from landmarkflow.methods.salient.tables import write_saliency

logger = logging.getLogger(__name__)

Array = NDArray[np.float64]

NETWORK, CENTRE, OBSERVERS = "network", "centre bias", "other observers"
# Share of the centre bias in the map of half of the observers: a map with zeros pays dearly.
SHARE_OF_CENTRE = 0.05


@dataclass(frozen=True, eq=False)
class Looked:
    """A picture that is evaluated, with where it was looked at.

    Attributes:
        task: its files.
        frame: how it lies in the network's input.
        points: (n, 2) pixels.
        observers: n names.
        networks: that predicted it.
    """

    task: Task
    frame: Frame
    points: Array
    observers: tuple[str, ...]
    networks: tuple[str, ...]

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the picture."""
        return self.frame.height, self.frame.width

    @property
    def shares(self) -> Array:
        """The points as shares of the picture's width and height."""
        return np.asarray((self.points + 0.5) / (self.frame.width, self.frame.height))


def in_pixels(shares: Array, one: Looked) -> Array:
    """Shares of a picture's width and height as its pixels."""
    return np.asarray(shares * (one.frame.width, one.frame.height) - 0.5)


def halves_of(observers: Sequence[str], count: int) -> Iterator[tuple[set[str], set[str]]]:
    """Divisions of the observers in two, drawn by a fixed seed, each way round."""
    names = sorted(set(observers))
    for number in range(count):
        order = np.random.default_rng([17, number]).permutation(len(names))
        first = {names[place] for place in order[: len(names) // 2]}
        second = set(names) - first
        yield first, second
        yield second, first


def centre_bias(examples: Sequence[Example], one: Looked, blur: float) -> Array:
    """Density of where the other pictures learned from were looked at, on this one's pixels."""
    shares = [
        (other.points + 0.5) / (other.frame.width, other.frame.height)
        for other in examples
        if other.scan != one.task.scan
    ]
    return density(in_pixels(np.concatenate(shares), one), one.shape, blur)


def judged(
    one: Looked,
    saliency: NDArray[np.floating],
    centre: Array,
    others: Array,
    settings: PredictSettings,
) -> dict[str, dict[str, float]]:
    """Metrics of the network's map, of the centre bias, and of half of the observers.

    Args:
        one: the picture.
        saliency: the network's map, its own cells.
        centre: the centre bias on the picture's pixels.
        others: (m, 2) places looked at in the other pictures, in this one's pixels.
        settings: blur and divisions of the observers.
    """
    blur = settings.blur_px
    found = {
        NETWORK: all_metrics(at_pixels(saliency, one.frame), one.points, others, blur),
        CENTRE: all_metrics(centre, one.points, others, blur),
    }
    several: list[dict[str, float]] = []
    for first, second in halves_of(one.observers, settings.halves):
        by = np.array([name in first for name in one.observers])
        if not by.any() or by.all() or not second:
            continue
        shown = density(one.points[by], one.shape, blur)
        mixed = (1 - SHARE_OF_CENTRE) * shown + SHARE_OF_CENTRE * centre
        several.append(all_metrics(mixed, one.points[~by], others, blur))
    if several:
        found[OBSERVERS] = {
            name: float(np.mean([each[name] for each in several])) for name in METRICS
        }
    return found


def run(batch: Batch) -> None:
    """Judge the map of every evaluated picture that has fixations."""
    settings, gaze = (
        batch.settings(PredictSettings, "predict"),
        batch.settings(GazeSettings, "gaze"),
    )
    tables, looked = Tables(gaze), []
    for task in batch.tasks:
        record = read_record(task.inputs["predict_record"])
        if task.row["gaze"] and record.has_result:
            frame = Frame(**record.details["frame"])
            seen = tables.of(dict(task.row), frame.width, frame.height)
            names = tuple(record.details["networks"])
            looked.append(Looked(task, frame, seen.points, seen.observers, names))
    examples = load_examples(batch.path("examples"))
    rows: list[list[object]] = []
    for one in looked:
        found = judged(
            one,
            np.load(one.task.inputs["saliency"], allow_pickle=False),
            _centre_of(one, examples, settings.blur_px),
            _others(one, looked),
            settings,
        )
        rows += [[one.task.scan, name, *found[name].values()] for name in found]
    write_saliency(batch, rows, ("scan", "map", *METRICS))
    logger.info("the maps of %d pictures are judged", len(looked))


def _others(one: Looked, looked: Sequence[Looked]) -> Array:
    shares = [other.shares for other in looked if other.task.scan != one.task.scan]
    return in_pixels(np.concatenate(shares), one) if shares else np.zeros((0, 2))


def _centre_of(one: Looked, examples: Sequence[Example], blur: float) -> Array:
    """The centre bias of the pictures that this one's network learned from."""
    fold = next((other.fold for other in examples if other.scan == one.task.scan), 0)
    return centre_bias([other for other in examples if not fold or other.fold != fold], one, blur)
