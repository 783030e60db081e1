"""What was found in every scan, with or without references: coordinates, and scans by doubt."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.spatial.distance import pdist

from landmarkflow.core.points import Landmarks, PointList
from landmarkflow.core.records import STATUSES, Step, worst_of
from landmarkflow.evaluation.errors import MAIN_STAGE, ScanPoints, main_errors

Array = NDArray[np.float64]

COORDINATES = (
    *("scan", "landmark", "x", "y", "z", "frame", "radius", "similarity"),
    *("status", "reason"),
)
SCANS = (
    *("rank", "scan", "side", "status", "doubt", "found", "missing", "radius", "largest_radius"),
    *("similarity", "lowest_similarity", "moved", "unusual", "error", "reason"),
)
MISSING = "missing"
# Columns that tell of doubt without any reference; all weigh the same.
SIGNS = ("radius", "largest_radius", "similarity", "lowest_similarity", "moved", "unusual")
# Of figures in tables.
DECIMALS = 4
# Signs of which less is worse.
_FALLING = ("similarity", "lowest_similarity")
# Of fewer scans nobody can say which distances between landmarks are usual.
LEAST_SCANS = 5


@dataclass(frozen=True, eq=False)
class Found:
    """What a run found in one scan.

    Attributes:
        points: Detected points, one list for each step, and references, where there are any.
        chain: What each stage said, in their order.
        similarity: Of each landmark's surroundings with the template's, in [-1, 1], by label;
            empty for a method that does not measure it.
        side: That the scan shows, where the study has sides; empty otherwise.
    """

    points: ScanPoints
    chain: Sequence[Step]
    similarity: Mapping[str, float | None] = field(default_factory=dict)
    side: str = ""

    @property
    def scan(self) -> str:
        """The scan's id."""
        return self.points.scan

    @property
    def status(self) -> str:
        """The worst status of all stages."""
        return worst_of(self.chain)

    @property
    def reason(self) -> str:
        """Why the status is not ok, the strongest reason first; empty where it is."""
        said = [step for step in dict.fromkeys(self.chain) if step.reason]
        said.sort(key=lambda step: -STATUSES.index(step.status))
        return "; ".join(f"{step.stage}: {step.reason}" for step in said)

    @property
    def landmarks(self) -> Landmarks:
        """The final points; none where no stage left any."""
        final = self.final
        return final.landmarks if final else Landmarks((), np.empty((0, 3)))

    @property
    def final(self) -> PointList | None:
        """The list of the final points."""
        return next((one for one in self.points.lists if one.name == MAIN_STAGE), None)

    @property
    def before(self) -> PointList | None:
        """The list of the points before the last step, of the same landmarks."""
        after = self.points.lists[self.points.lists.index(self.final) + 1 :] if self.final else ()
        return after[0] if after and after[0].landmarks.labels == self.landmarks.labels else None

    def alike(self, label: str) -> float:
        """A landmark's similarity, NaN where it was not measured."""
        value = self.similarity.get(label)
        return np.nan if value is None else float(value)


def coordinate_table(scans: Sequence[Found], in_pixels: bool) -> pd.DataFrame:
    """Returns every landmark of every scan, found or not: the columns `COORDINATES`.

    Positions are in the scan's own unit, LPS mm, or pixels of a picture; radii, as errors, are in
    the study's. Where a landmark was not found they are empty, the status is "missing" (or that
    of a scan without any result) and the reason says why; otherwise status and reason are the
    scan's.

    Args:
        scans: In the order of the sheet.
        in_pixels: Whether the scans are pictures.
    """
    rows = []
    labels = _labels(scans)
    for found in scans:
        final, status, reason = found.final, found.status, found.reason
        for label in labels:
            known = final is not None and label in final.landmarks.labels
            row = dict.fromkeys(COORDINATES, np.nan) | {"scan": found.scan, "landmark": label}
            row |= {"frame": "pixels" if in_pixels else "LPS", "status": status, "reason": reason}
            if final is not None and known:
                i = final.landmarks.labels.index(label)
                row |= dict(zip("xyz", final.landmarks.positions[i], strict=True))
                radius = np.nan if final.radius is None else final.radius[i]
                row["radius"] = found.points.factor * radius
                row["similarity"] = found.alike(label)
            if np.isnan(row["x"]):
                row |= {"radius": np.nan, "similarity": np.nan}
                note = final.notes[i] if final is not None and known and final.notes else ""
                why = note or found.points.reason
                row |= {"reason": reason if status in ("failed", "refused") else why}
                row["status"] = status if status in ("failed", "refused") else MISSING
            rows.append(row)
    return pd.DataFrame(rows, columns=list(COORDINATES))


def wide_table(coordinates: pd.DataFrame) -> pd.DataFrame:
    """Returns one row for each scan of a table of coordinates: scan, frame, status, x, y, z each.

    The status is the scan's worst; columns are called `<landmark>_x`, `_y` and `_z`.
    """
    rows = []
    for scan, part in coordinates.groupby("scan", sort=False):
        order = ["ok", MISSING, *STATUSES[1:]]
        status = max(part["status"], key=order.index)
        row = {"scan": scan, "frame": part["frame"].iloc[0], "status": status}
        for _, point in part.iterrows():
            row |= {f"{point['landmark']}_{axis}": point[axis] for axis in "xyz"}
        rows.append(row)
    return pd.DataFrame(rows)


def scan_table(scans: Sequence[Found], errors: pd.DataFrame) -> pd.DataFrame:
    """Ranks scans by what tells of a wrong result without any reference: whom to look at first.

    Scans that a stage failed or refused come first, then doubtful ones, then those that are ok;
    among equals the more doubtful. `doubt` is the mean, over the signs that were measured, of the
    share of the study's scans in which the sign is weaker, from 0 to 1.

    Args:
        scans: In the order of the sheet.
        errors: The error table, for a scan's mean error; it does not decide the order.

    Returns:
        The columns `SCANS`: `found` and `missing` landmarks; median and largest `radius`; median
        and lowest `similarity`; `moved`, how far the last step moved the landmarks in the mean;
        `unusual`, how far the distances between landmarks are from the study's median, in the
        mean of the logarithms of their ratios, once their size is taken out; lengths in the
        study's unit.
    """
    means = main_errors(errors).groupby("scan")["error"].mean()
    unusual = _unusual([found.landmarks for found in scans])
    rows = [
        _scan_row(found, far) | {"error": means.get(found.scan, np.nan)}
        for found, far in zip(scans, unusual, strict=True)
    ]
    table = pd.DataFrame(rows, columns=list(SCANS))
    # As they are written, so that equal figures are equal doubt.
    signs = table[list(SIGNS)].astype("float64").round(DECIMALS)
    signs[list(_FALLING)] *= -1
    weaker = (signs.rank() - 1) / (signs.notna().sum() - 1).clip(lower=1)
    table["doubt"] = weaker.mean(axis=1)
    severity = table["status"].map(list(STATUSES).index)
    order = pd.DataFrame({"severity": severity, "doubt": table["doubt"].fillna(1.0)})
    order = order.sort_values(["severity", "doubt"], ascending=False, kind="stable")
    table = table.loc[order.index]
    table["rank"] = np.arange(1, len(table) + 1)
    return table.reset_index(drop=True)


def _labels(scans: Sequence[Found]) -> list[str]:
    """The landmarks of all scans, in the order in which they first appear."""
    names: dict[str, None] = {}
    for found in scans:
        names |= dict.fromkeys(found.landmarks.labels)
        if found.points.reference is not None:
            names |= dict.fromkeys(found.points.reference.labels)
    return list(names)


def _scan_row(found: Found, unusual: float) -> dict[str, object]:
    final, before, landmarks = found.final, found.before, found.landmarks
    there = ~landmarks.missing
    radius = moved = np.full(len(there), np.nan)
    if final is not None and final.radius is not None:
        radius = found.points.factor * final.radius
    if before is not None:
        moved = np.linalg.norm(landmarks.positions - before.landmarks.positions, axis=1)
        moved = found.points.factor * moved
    alike = np.array([found.alike(label) for label in landmarks.labels])
    radius, similarity, moved = (values[there] for values in (radius, alike, moved))
    return {
        "scan": found.scan,
        "side": found.side,
        "status": found.status,
        "found": int(there.sum()),
        "missing": int((~there).sum()),
        "radius": _known(np.median, radius),
        "largest_radius": _known(np.max, radius),
        "similarity": _known(np.median, similarity),
        "lowest_similarity": _known(np.min, similarity),
        "moved": _known(np.mean, moved),
        "unusual": unusual,
        "reason": found.reason,
    }


def _known(of: Callable[[Array], Any], values: Array) -> float:
    """A figure of the values that are known, NaN where none is."""
    known = values[~np.isnan(values)]
    return float(of(known)) if len(known) else np.nan


def _unusual(scans: Sequence[Landmarks]) -> Array:
    """(n,) how unusual the distances between each scan's landmarks are; NaN where unknown."""
    labels = max((each.labels for each in scans), key=len, default=())
    whole = [i for i, each in enumerate(scans) if each.labels == labels and not each.missing.any()]
    found = np.full(len(scans), np.nan)
    if len(labels) < 3 or len(whole) < LEAST_SCANS:
        return found
    logs = np.log(np.array([pdist(scans[i].positions) for i in whole]) + 1e-9)
    logs -= logs.mean(axis=1, keepdims=True)
    found[whole] = np.abs(logs - np.median(logs, axis=0)).mean(axis=1)
    return found
