"""Error against the number of annotated scans, and how many of them another run is worth.

Runs that state `train: n` and differ in nothing else make a curve. Every other run is a level: it
is worth as many annotated scans as the curve needs to come down to it.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from landmarkflow.evaluation.errors import main_errors
from landmarkflow.evaluation.results import Run, pooled_entries
from landmarkflow.evaluation.settings import IN_WORDS, Unit
from landmarkflow.evaluation.summary import statistics
from landmarkflow.evaluation.tables import Printed, number

FIGURES = ("n", "missing", "mean", "lowest", "highest", "median")
COLUMNS = ("curve", "run", "annotated", "seeds", *FIGURES, "failed", *("worth", "fewest", "most"))


@dataclass(frozen=True)
class Point:
    """The mean errors of runs that differ in their seed alone.

    Attributes:
        run: their name in the study.
        annotated: scans that they learned from; 0 for a level.
        seeds: how many runs.
        n: landmarks measured, counted for each seed.
        missing: landmarks that were not found.
        mean: error over scans and seeds; NaN where nothing was found.
        lowest: of the seeds' means.
        highest: of the seeds' means.
        median: over scans and seeds.
        failed: scans failed, refused or with a large error, counted for each seed.
    """

    run: str
    annotated: int
    seeds: int
    n: int
    missing: int
    mean: float
    lowest: float
    highest: float
    median: float
    failed: int


@dataclass(frozen=True)
class Curve:
    """Runs of one method by the number of annotated scans, fewest first."""

    name: str
    points: tuple[Point, ...]

    def reaches(self, level: float, figure: str = "mean") -> float:
        """How many annotated scans bring a figure of the curve down to a level, for good.

        Between two numbers the figure is taken to be a power of the number.

        Returns:
            The number; 0 where every point is down there already, infinity where the last is not.
        """
        numbers = np.log([point.annotated for point in self.points])
        found = np.array([getattr(point, figure) for point in self.points])
        above = np.flatnonzero(~(found <= level))
        if not len(above):
            return 0.0
        last = int(above[-1])
        if last + 1 == len(found):
            return math.inf
        # Where a point found nothing, the next one is the first that counts.
        share = 1.0
        if math.isfinite(found[last]) and found[last + 1] > 0:
            share = math.log(found[last] / level) / math.log(found[last] / found[last + 1])
        return float(np.exp(numbers[last] + share * (numbers[last + 1] - numbers[last])))


@dataclass(frozen=True)
class Worth:
    """How many annotated scans a level is worth on a curve, as `Curve.reaches` counts.

    Attributes:
        level: the run.
        curve: what it is laid beside.
        scans: where the curve's mean comes down to the level's.
        fewest: the same for the level's highest seed and the curve's lowest.
        most: the same for the level's lowest seed and the curve's highest.
    """

    level: Point
    curve: Curve
    scans: float
    fewest: float
    most: float

    def said(self, value: float) -> str:
        """A number of scans in words."""
        if value == 0:
            return f"at most {self.curve.points[0].annotated}"
        if math.isinf(value):
            return f"more than {self.curve.points[-1].annotated}"
        return f"about {value:.0f}"

    def sentence(self, unit: Unit) -> str:
        """The answer: what the level has, what it is worth, and what lies around it."""
        if math.isnan(self.level.mean):
            return f"{self.level.run} found nothing."
        scans = self.said(self.scans)
        plural = "" if scans.endswith(" 1") else "s"
        text = f"{self.level.run} is worth {scans} annotated scan{plural}"
        spread = [self.said(value).removeprefix("about ") for value in (self.fewest, self.most)]
        if spread[0] != spread[1]:
            text += f" ({spread[0]} to {spread[1]} over the seeds)"
        near = [point for point in self.curve.points if point.annotated >= self.scans][:1]
        near = [point for point in self.curve.points if point.annotated < self.scans][-1:] + near
        beside = " and ".join(
            f"{number(point.mean)} {unit} with {point.annotated}" for point in near
        )
        own = f"{number(self.level.mean)} {unit}"
        return f"{text}: it has a mean of {own}, {self.curve.name} {beside}."


@dataclass(frozen=True)
class Annotations:
    """Curves and levels of a study, and what each level is worth on each curve."""

    curves: tuple[Curve, ...]
    levels: tuple[Point, ...]
    unit: Unit

    @property
    def worths(self) -> tuple[Worth, ...]:
        """Of every level on every curve."""
        return tuple(
            Worth(
                level,
                curve,
                curve.reaches(level.mean),
                curve.reaches(level.highest, "lowest"),
                curve.reaches(level.lowest, "highest"),
            )
            for curve in self.curves
            for level in self.levels
        )


def annotations_of(runs: Sequence[Run]) -> Annotations | None:
    """Sorts the runs of a study into curves and levels; None where none of several states `train`.

    Raises:
        InputError: Two runs do not measure the same landmarks of the same scans.
    """
    counted = len(runs) > 1 and any(run.made.get("train") for run in runs)
    if not counted or not runs[0].summary["referenced"]:
        return None
    groups: dict[str, list[Point]] = {}
    methods: dict[str, str] = {}
    levels = []
    for entry, (members, errors) in pooled_entries(runs).items():
        made = members[0].made
        point = _point(entry, members, errors)
        if not point.annotated:
            levels.append(point)
            continue
        same = json.dumps([made.get(name) for name in ("method", "template", "preset", "settings")])
        groups.setdefault(same, []).append(point)
        methods[same] = str(made["method"])
    several = len(set(methods.values())) < len(methods)
    curves = [
        Curve(
            (several and _shared_name(points)) or methods[same],
            tuple(sorted(points, key=lambda point: point.annotated)),
        )
        for same, points in groups.items()
    ]
    return Annotations(tuple(curves), tuple(levels), runs[0].unit)


def annotations_table(found: Annotations) -> pd.DataFrame:
    """Returns a row for each point of a curve, then one for each level on each curve.

    Returns:
        The columns `COLUMNS`. Of a point `annotated` scans were learned from; of a level `worth`,
        `fewest` and `most` are the numbers of `Worth`, empty where they lie beyond the curve.
    """
    rows = [
        _row(curve.name, point) | {"annotated": point.annotated}
        for curve in found.curves
        for point in curve.points
    ]
    for worth in found.worths:
        numbers = {"worth": worth.scans, "fewest": worth.fewest, "most": worth.most}
        within = {k: v if 0 < v < math.inf else np.nan for k, v in numbers.items()}
        rows.append(_row(worth.curve.name, worth.level) | within)
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    return table.astype({"annotated": "Int64"})


def print_annotations(found: Annotations) -> Printed:
    """Returns the table as people read it, the answers in its caption."""
    unit = found.unit
    header = ["Run", "Annotated scans", "Seeds", "n", "Missing", f"Mean, {unit}"]
    header += ["Lowest to highest seed", f"Median, {unit}", "Failed", "Worth, annotated scans"]
    rows = [_cells(p, str(p.annotated), "") for curve in found.curves for p in curve.points]
    several = len(found.curves) > 1
    for worth in found.worths:
        of = f" of {worth.curve.name}" if several else ""
        said = worth.said(worth.scans).removeprefix("about ")
        rows.append(_cells(worth.level, "", f"{said}{of}"))
    said = " ".join(worth.sentence(unit) for worth in found.worths)
    caption = (
        f"{said} Mean distance in {IN_WORDS[unit]} between detected and reference landmarks, over "
        "scans and seeds, against the number of annotated scans that a run learned from; missing "
        "landmarks have no distance. A run is worth as many annotated scans as bring the mean "
        "down to its own; between two numbers it is taken to be a power of the number."
    )
    return Printed(caption.strip(), header, rows)


def _cells(point: Point, annotated: str, worth: str) -> list[str]:
    spread = f"{number(point.lowest)} to {number(point.highest)}" if point.seeds > 1 else "–"
    counts = [str(value) for value in (point.seeds, point.n, point.missing)]
    figures = [number(point.mean), spread, number(point.median), str(point.failed)]
    return [point.run, annotated or "–", *counts, *figures, worth or "–"]


def _row(curve: str, point: Point) -> dict[str, Any]:
    names = ("run", "seeds", *FIGURES, "failed")
    return {"curve": curve} | {name: getattr(point, name) for name in names}


def _point(entry: str, members: Sequence[Run], errors: pd.DataFrame) -> Point:
    final = main_errors(errors)
    figures = statistics(final["error"].to_numpy(np.float64), ())
    means = final.groupby("seed")["error"].mean()
    return Point(
        run=entry,
        annotated=int(members[0].made.get("train") or 0),
        seeds=len(members),
        n=figures["n"],
        missing=figures["missing"],
        mean=figures["mean"],
        lowest=float(means.min()),
        highest=float(means.max()),
        median=figures["median"],
        failed=sum(member.summary["failures"]["scans"] for member in members),
    )


def _shared_name(points: Sequence[Point]) -> str:
    """What the names of a curve's runs begin with, their numbers apart; empty if they differ."""
    names = {point.run.rstrip("0123456789").rstrip("-_") for point in points}
    return names.pop() if len(names) == 1 else ""
