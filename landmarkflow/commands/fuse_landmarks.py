"""Make one list of landmarks of those that several templates found in a scan."""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from landmarkflow.core.errors import InputError
from landmarkflow.core.points import Landmarks, PointList
from landmarkflow.core.records import Record, read_record, write_record
from landmarkflow.engine.arguments import add_paths, add_settings, read_settings
from landmarkflow.formats.markups import read_complete_landmarks, read_point_lists, write_markups
from landmarkflow.methods.oneshot.consensus import count_votes, joint_radius
from landmarkflow.methods.oneshot.settings import FuseSettings

Array = NDArray[np.float64]

FINAL = "final"
ALONE = "alone"
NOT_FOUND = "no template that counts has this landmark"
# So many of the ways to a scan must be beyond doubt.
LEAST_SHARE = 0.5


@dataclass(frozen=True)
class Way:
    """What one template found in a scan.

    Attributes:
        template: its id.
        lists: its points, the final ones first.
        records: of the stages, in their order.
    """

    template: str
    lists: Sequence[PointList]
    records: Sequence[Record]

    @property
    def stopped(self) -> Record | None:
        """The record of the stage that left nothing, if one did."""
        return next((record for record in self.records if not record.has_result), None)

    @property
    def is_sure(self) -> bool:
        """Whether no stage doubts it."""
        return all(record.status == "ok" for record in self.records)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_settings(parser)
    add_paths(parser, "template-landmarks")
    for name in ("templates", "scans"):
        parser.add_argument(f"--{name}", required=True, nargs="+", metavar="ID")
    for name in ("placed", "records", "landmarks", "record"):
        parser.add_argument(f"--{name}", required=True, nargs="+", type=Path, metavar="FILE")


def run(arguments: argparse.Namespace) -> None:
    """Fuse every scan's landmarks; the study's own template comes first."""
    settings = read_settings(FuseSettings, arguments.settings)
    labels = read_complete_landmarks(arguments.template_landmarks).labels
    outputs = zip(arguments.landmarks, arguments.record, strict=True)
    for ways, (landmarks, record) in zip(_ways(arguments), outputs, strict=True):
        lists, outcome = fused(ways, labels, settings)
        write_markups(landmarks, lists)
        write_record(record, outcome)


def fused(
    ways: Sequence[Way], labels: Sequence[str], settings: FuseSettings
) -> tuple[list[PointList], Record]:
    """A scan's landmarks by all templates that are beyond doubt, or else by all that found any.

    The lists after the final one are those of the first template, which found them `alone`.
    """
    scan = ways[0].records[0].scan
    found = [way for way in ways if way.stopped is None]
    if not found:
        stopped = ways[0].stopped
        assert stopped is not None
        return list(ways[0].lists), Record(scan, "fuse", stopped.status, stopped.reason)
    sure = [way for way in found if way.is_sure]
    counted = sure or found
    points = [_by_label(way.lists[0], labels) for way in counted]
    votes = count_votes([positions for positions, _ in points], settings.farthest_mm)
    radius = joint_radius(np.array([each for _, each in points]), votes, settings.shared_error)
    doubts = []
    if len(sure) < LEAST_SHARE * len(ways):
        doubts.append(f"{len(sure)} of {len(ways)} templates gave landmarks beyond doubt")
    apart = [
        label
        for label, count in zip(labels, votes.counted, strict=True)
        if count < LEAST_SHARE * len(counted)
    ]
    if apart:
        doubts.append(
            f"the templates differ by more than {settings.farthest_mm:g} mm on {', '.join(apart)}"
        )
    alone, *steps = ways[0].lists
    final = Landmarks(tuple(labels), votes.positions)
    notes = tuple(NOT_FOUND if missing else "" for missing in final.missing)
    lists = [
        PointList(FINAL, final, radius, notes),
        PointList(ALONE, alone.landmarks, alone.radius, alone.notes),
        *steps,
    ]
    details = {
        "templates": [way.template for way in counted],
        "spread_mm": votes.spread.round(4).tolist(),
        "counted": votes.counted.tolist(),
    }
    if doubts:
        return lists, Record(scan, "fuse", "doubtful", "; ".join(doubts), details)
    return lists, Record(scan, "fuse", details=details)


def _ways(arguments: argparse.Namespace) -> Iterator[list[Way]]:
    """Each scan's ways; files come template by template, in each scan by scan."""
    templates, scans = arguments.templates, arguments.scans
    count = len(templates) * len(scans)
    for role in ("placed", "records"):
        if len(getattr(arguments, role)) % count or not getattr(arguments, role):
            raise InputError(
                f"--{role}: {len(getattr(arguments, role))} files, expected some for each of "
                f"{len(templates)} templates and {len(scans)} scans"
            )
    each = len(arguments.records) // count
    records = [arguments.records[n * each : (n + 1) * each] for n in range(count)]
    for row in range(len(scans)):
        yield [
            Way(
                template,
                read_point_lists(arguments.placed[number]),
                [read_record(path) for path in records[number]],
            )
            for template, number in zip(templates, range(row, count, len(scans)), strict=True)
        ]


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
