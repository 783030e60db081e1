"""Landmarks of each picture: the maxima of its map, with the names of their clusters."""

import numpy as np
from numpy.typing import NDArray

from landmarkflow.core.points import Landmarks, PointList
from landmarkflow.core.records import Record, read_record
from landmarkflow.engine.batch import Batch
from landmarkflow.engine.store import Task
from landmarkflow.formats.slicer import write_markups, write_steps
from landmarkflow.methods.salient.familiar import (
    described,
    load_familiar,
    moves_of,
    steps_between,
)
from landmarkflow.methods.salient.frames import Frame
from landmarkflow.methods.salient.landmarks import Maxima, maxima_of, maxima_of_views
from landmarkflow.methods.salient.maps import load_seen
from landmarkflow.methods.salient.names import load_clusters
from landmarkflow.methods.salient.settings import AlignSettings, DiscoverSettings

FINAL, CELL = "final", "cell"
NO_MAXIMUM = "no maximum of the map has features of this name"


def chosen(labels: tuple[str, ...], names: list[str]) -> NDArray[np.intp]:
    """(labels,) the first, most salient maximum of each name; -1 where there is none."""
    return np.array([names.index(label) if label in names else -1 for label in labels], np.intp)


def labels_of(labels: tuple[str, ...], found: set[str], expected: tuple[str, ...]) -> list[str]:
    """The labels that a picture's files name: what is found, and what its group should show.

    Args:
        labels: of the study, in order.
        found: those with a maximum.
        expected: landmarks that the picture's group is aligned by; where none are stated, all.
    """
    return [label for label in labels if label in found or label in (expected or labels)]


def lists_of(
    labels: tuple[str, ...], found: Maxima, rows: NDArray[np.intp], note: str
) -> list[PointList]:
    """The points of the fits, and those of the cells; a label of no maximum has a note instead."""
    lists = []
    for name, places in ((FINAL, found.fitted), (CELL, found.cells)):
        points = np.full((len(labels), 3), np.nan)
        there = rows >= 0
        points[there, :2], points[there, 2] = places[rows[there]], 0.0
        notes = tuple("" if row >= 0 else note for row in rows)
        lists.append(PointList(name, Landmarks(labels, points), None, notes))
    return lists


def run(batch: Batch) -> None:
    """Find and name the landmarks of every picture."""
    settings, align = batch.settings(DiscoverSettings), batch.settings(AlignSettings, "align")
    clusters, known = load_clusters(batch.path("clusters"))
    familiar = load_familiar(batch.path("familiar"))
    limits = {name: one.limits(settings.familiar) for name, one in familiar.items()}
    labels = tuple(known["labels"])

    def compute(task: Task) -> Record:
        details = read_record(task.inputs["predict_record"]).details
        frame, network = Frame(**details["frame"]), details["networks"][0]
        seen = load_seen(task.inputs["saliency"], task.inputs["features"])
        found = maxima_of(seen, frame, settings, known["features"])
        names = clusters[network].names_of(clusters[network].of_picture(found.features))
        expected = align.landmarks.get(task.row["group"], ())
        steps = steps_between(names, found.fitted, frame)
        moves = moves_of(names, found.fitted, maxima_of_views(seen, frame, settings))
        aligning = [pair for pair in steps if set(pair) <= set(expected)]
        strange = familiar[network].strangeness(
            described(seen, frame),
            float(details["flatness"]),
            {pair: steps[pair] for pair in aligning},
            {pair: moves[pair] for pair in aligning if pair in moves},
        )
        limit = limits[network]
        unlike = strange.doubts(limit, settings.compared) if settings.familiar < 1 else []
        listed = tuple(labels_of(labels, set(names), expected))
        rows = chosen(listed, [] if unlike else names)
        note = f"no landmark: {unlike[0]}" if unlike else NO_MAXIMUM
        lists = lists_of(listed, found, rows, note)
        write_markups(task.outputs["landmarks"], lists[:1], "px", scan=task.scan)
        write_steps(task.outputs["steps"], lists[1:], "px", scan=task.scan)
        maxima = [
            {
                "name": name,
                "x": round(float(x), 3),
                "y": round(float(y), 3),
                "saliency": round(float(height), 4),
                "used": bool(number in rows),
            }
            for number, (name, (x, y), height) in enumerate(
                zip(names, found.fitted, found.saliency, strict=True)
            )
        ]
        doubts = [f"has no landmarks: {said}" for said in unlike]
        doubts = doubts or _doubts(set(names) - {""}, expected)
        more = {"maxima": maxima, "strangeness": strange.over(limit)}
        return Record.judged(task.scan, "discover", doubts, more)

    def write_missing(task: Task, record: Record) -> None:
        note = f"{record.stage} {record.status}: {record.reason}"
        listed = tuple(labels_of(labels, set(), align.landmarks.get(task.row["group"], ())))
        places = Landmarks(listed, np.full((len(listed), 3), np.nan))
        lists = [PointList(name, places, None, (note,) * len(listed)) for name in (FINAL, CELL)]
        write_markups(task.outputs["landmarks"], lists[:1], "px", scan=task.scan)
        write_steps(task.outputs["steps"], lists[1:], "px", scan=task.scan)

    batch.run(compute, nothing=write_missing)


def _doubts(found: set[str], expected: tuple[str, ...]) -> list[str]:
    """What a picture lacks of the landmarks that its group is aligned by."""
    lacking = [name for name in expected if name not in found]
    # Of more than two landmarks, two are enough.
    if len(expected) - len(lacking) < min(2, len(expected)):
        return [f"is not aligned: found no {' and no '.join(lacking)}"]
    if not found:
        return ["no maximum of its map has the features of a landmark"]
    return []
