"""Make one list of landmarks of those that several runs found in a scan."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from landmarkflow.core.points import Landmarks, PointList
from landmarkflow.core.records import Record, read_record, write_record
from landmarkflow.core.votes import Votes, count_votes
from landmarkflow.engine.batch import Batch
from landmarkflow.formats.slicer import read_point_lists, write_markups, write_steps
from landmarkflow.methods.fuse.settings import FuseSettings

Array = NDArray[np.float64]

FINAL = "final"
ALONE = "alone"
NOT_FOUND = "no run that counts has this landmark"
# What a run's record says of the scan itself, and this one repeats.
OF_THE_SCAN = ("side", "mirrored", "image")
# So large a share of the runs must be beyond doubt; fewer make the scan doubtful.
LEAST_SHARE = 0.5


@dataclass(frozen=True)
class Way:
    """What one run found in a scan.

    Attributes:
        run: its name.
        lists: its points, the final ones first.
        record: its last record.
    """

    run: str
    lists: Sequence[PointList]
    record: Record

    @property
    def is_sure(self) -> bool:
        """Whether no stage doubts it."""
        return all(step.status == "ok" for step in self.record.chain)


def run(batch: Batch) -> None:
    """Fuse every scan's landmarks; the first run's own list comes after the fused one."""
    settings = FuseSettings.model_validate(batch.values)
    labels = read_point_lists(batch.path("template_reference"))[0].landmarks.labels
    for task in batch.tasks:
        ways = [
            Way(run, _lists_of(task.scan, files), read_record(files["record"]))
            for run, files in task.of.items()
        ]
        (final, *steps), record = fused(ways, labels, settings)
        write_markups(task.outputs["landmarks"], [final], scan=task.scan)
        write_steps(task.outputs["steps"], steps, scan=task.scan)
        write_record(task.outputs["record"], record)


def _lists_of(scan: str, files: Mapping[str, Path]) -> list[PointList]:
    """A run's final points in a scan, and then those after its earlier steps."""
    found = [files["landmarks"], files["steps"]]
    return [one for path in found if path.stat().st_size for one in read_point_lists(path, scan)]


def fused(
    ways: Sequence[Way], labels: Sequence[str], settings: FuseSettings
) -> tuple[list[PointList], Record]:
    """A scan's landmarks by all runs that are beyond doubt, or else by all that found any.

    The lists after the final one are those of the first run, which found them `alone`.
    """
    scan = ways[0].record.scan
    found = [way for way in ways if way.record.has_result]
    if not found:
        first = ways[0].record
        return list(ways[0].lists), Record(scan, "fuse", first.status, first.reason)
    sure = [way for way in found if way.is_sure]
    counted = sure or found
    points = [_by_label(way.lists[0], labels) for way in counted]
    votes = count_votes([positions for positions, _ in points], settings.farthest)
    radius = joint_radius(np.array([each for _, each in points]), votes, settings.shared_error)
    doubts = []
    if len(sure) < LEAST_SHARE * len(ways):
        doubts.append(f"{len(sure)} of {len(ways)} runs gave landmarks beyond doubt")
    apart = [
        label
        for label, count in zip(labels, votes.counted, strict=True)
        if count < LEAST_SHARE * len(counted)
    ]
    if apart:
        doubts.append(f"the runs differ by more than {settings.farthest:g} on {', '.join(apart)}")
    alone, *steps = ways[0].lists
    final = Landmarks(tuple(labels), votes.positions)
    notes = tuple(NOT_FOUND if missing else "" for missing in final.missing)
    lists = [
        PointList(FINAL, final, radius, notes),
        PointList(ALONE, alone.landmarks, alone.radius, alone.notes),
        *steps,
    ]
    details = {
        **{key: value for key, value in counted[0].record.details.items() if key in OF_THE_SCAN},
        "similarity": _mean_similarity(counted, labels),
        "runs": [way.run for way in counted],
        "spread": votes.spread.round(4).tolist(),
        "counted": votes.counted.tolist(),
    }
    return lists, Record.judged(scan, "fuse", doubts, details)


def _mean_similarity(ways: Sequence[Way], labels: Sequence[str]) -> dict[str, float | None]:
    """Of each landmark's surroundings, by label; None where no way has measured it."""
    found: dict[str, float | None] = {}
    for label in labels:
        values = [way.record.details.get("similarity", {}).get(label) for way in ways]
        known = [value for value in values if value is not None]
        found[label] = round(float(np.mean(known)), 4) if known else None
    return found


def _by_label(points: PointList, labels: Sequence[str]) -> tuple[Array, Array]:
    """Positions (n, 3) and radii (n,) in the order of the labels, NaN where there is none."""
    rows = {label: row for row, label in enumerate(points.landmarks.labels)}
    positions, radii = np.full((len(labels), 3), np.nan), np.full(len(labels), np.nan)
    for row, label in enumerate(labels):
        if label in rows:
            positions[row] = points.landmarks.positions[rows[label]]
            if points.radius is not None:
                radii[row] = points.radius[rows[label]]
    return positions, radii


def joint_radius(radii: Array, votes: Votes, shared_error: float) -> Array:
    """How far the mean of several ways errs: (n,), in the unit of their scan.

    Their errors shrink by averaging, but for what all have in common; where they disagree, more
    is wrong than each knows.

    Args:
        radii: (ways, n) of each way's points, in the unit of their scan.
        votes: of these ways; where none of them counts, the largest radius stands.
        shared_error: share of a squared error that all ways have in common.
    """
    count = np.maximum(votes.counted, 1)
    square = np.where(votes.near, radii**2, 0.0).sum(axis=0) / count
    square = np.where(votes.counted > 0, square, np.fmax.reduce(radii) ** 2)
    shrunk: Array = square * (shared_error + (1 - shared_error) / count)
    return np.sqrt(shrunk + votes.spread**2)
