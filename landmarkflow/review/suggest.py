"""Which scans to annotate next: those that stand for many that are unsure and unlike the annotated.

No reference is needed. Scans are compared by the distances between their landmarks, as found. A
further annotated scan is worth what it brings nearer: for each scan, how
much less it is unlike the nearest annotated one, weighed by how unsure the scan is. The scan with
the largest worth is suggested, counts as annotated, and the next is looked for, so that suggested
scans are unlike each other.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.spatial.distance import cdist, pdist

from landmarkflow.core.errors import InputError
from landmarkflow.evaluation.failures import STOPPED
from landmarkflow.evaluation.results import read_scans, read_table

Array = NDArray[np.float64]

# Of two scans of equal worth, the one that is less sure comes first.
TIE = 1e-6
COLUMNS = (
    *("rank", "scan", "status", "radius", "doubt", "unlike", "worth_percent", "stands_for"),
    "reason",
)
PLACES = ("scan", "landmark", "x", "y", "z")
# Of fewer nobody can say which are alike.
FEWEST_SCANS = 3
# Scans that a reason names.
NAMED = 6


@dataclass(frozen=True)
class Suggestion:
    """A scan to annotate.

    Attributes:
        scan: its id.
        status: of the run.
        radius: median of its landmarks, in the study's unit; NaN where it has none.
        doubt: 0 to 1; NaN where it is not known.
        unlike: how far it is from the nearest annotated scan, in standard deviations of the
            cohort; infinite where nothing is annotated.
        worth: share of what is left to be gained, 0 to 1.
        stands_for: scans to which it is the most alike of all annotated and suggested ones.
    """

    scan: str
    status: str
    radius: float
    doubt: float
    unlike: float
    worth: float
    stands_for: tuple[str, ...]

    def reason(self, unit: str) -> str:
        """Why it is suggested, in words."""
        said = []
        if self.status != "ok":
            said.append(f"is {self.status}")
        if np.isfinite(self.radius):
            said.append(f"radius {self.radius:.2f} {unit}")
        if np.isfinite(self.doubt):
            said.append(f"doubt {self.doubt:.2f}")
        others = [scan for scan in self.stands_for if scan != self.scan]
        if others:
            more = f" and {len(others) - NAMED} more" if len(others) > NAMED else ""
            said.append(f"is most like {', '.join(others[:NAMED])}{more}")
        else:
            said.append("is like no other scan")
        return "; ".join(said)


def found_in(run: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read what a finished run found: scans.csv, and the places in landmarks.csv.

    Raises:
        InputError: a table is missing or unreadable.
    """
    return read_scans(run), read_table(run / "landmarks.csv", PLACES, PLACES[2:])


def suggest(
    scans: pd.DataFrame,
    points: pd.DataFrame,
    annotated: Mapping[str, Array],
    labels: Sequence[str],
    count: int,
) -> list[Suggestion]:
    """The scans to annotate next, the first one first.

    Args:
        scans: scans.csv of a run; refused ones are passed over.
        points: landmarks.csv of it, with the columns scan, landmark, x, y, z.
        annotated: positions (n, 3) of each scan that the run learned from, NaN where one is
            missing; one of the study's own is not suggested.
        labels: of these n.
        count: how many at most.

    Raises:
        InputError: the study has too few scans, or too few are left.
    """
    table = scans[scans["status"] != "refused"].set_index("scan")
    names = [str(name) for name in table.index]
    free = [place for place, name in enumerate(names) if name not in annotated]
    if len(names) < FEWEST_SCANS or not free:
        raise InputError(
            f"has {len(names)} scans, of which {len(free)} are not annotated; expected at least "
            f"{FEWEST_SCANS} scans, and one that is not"
        )
    placed = {
        str(scan): rows.set_index("landmark").reindex(labels)[["x", "y", "z"]].to_numpy(float)
        for scan, rows in points.groupby("scan", sort=False)
    }
    nothing = np.full((len(labels), 3), np.nan)
    found = np.array([placed.get(name, nothing) for name in names])
    given = np.array(list(annotated.values())).reshape(-1, *nothing.shape)
    features = features_of(np.concatenate([found, given]))
    weights = weights_of(table)
    between = cdist(features[: len(names)], features)
    nearest = between[:, len(names) :].min(axis=1, initial=np.inf)
    farthest = max(float(between.max()), 1e-9)
    left = np.minimum(nearest, farthest)
    chosen: list[int] = []
    steps: list[tuple[int, float, float]] = []
    for _ in range(min(count, len(free))):
        gains = np.array([weights @ (left - np.minimum(left, between[:, one])) for one in free])
        gains += TIE * weights[free]
        gains[[free.index(one) for one in chosen]] = -1.0
        best = free[int(np.argmax(gains))]
        total = float(weights @ left)
        steps.append((best, float(nearest[best]), max(gains.max(), 0.0) / total if total else 0.0))
        chosen.append(best)
        left = np.minimum(left, between[:, best])
        nearest = np.minimum(nearest, between[:, best])
    most_like = np.argmin(between[:, [*chosen, *range(len(names), between.shape[1])]], axis=1)
    return [
        Suggestion(
            names[place],
            str(table["status"].iloc[place]),
            float(table["radius"].iloc[place]),
            float(table["doubt"].iloc[place]),
            unlike,
            worth,
            tuple(names[other] for other in np.flatnonzero(most_like == number)),
        )
        for number, (place, unlike, worth) in enumerate(steps)
    ]


def features_of(positions: Array) -> Array:
    """What scans are compared by: the distances between their landmarks.

    Args:
        positions: (scans, n, 3); NaN where a landmark is missing.

    Returns:
        (scans, m), each distance less its mean, in units by which their variances add up to 1; a
        distance that is not known is the mean.
    """
    values = np.array([pdist(one) for one in positions]).reshape(len(positions), -1)
    known = np.isfinite(values)
    counts = np.maximum(known.sum(axis=0), 1)
    mean = np.where(known, values, 0.0).sum(axis=0) / counts
    centred = np.where(known, values - mean, 0.0)
    variance = float(((centred**2).sum(axis=0) / counts).sum())
    scaled: Array = centred / max(np.sqrt(variance), 1e-9)
    return scaled


def weights_of(table: pd.DataFrame) -> Array:
    """(scans,) how unsure each is: its radius over the median's, up to twice that for its doubt."""
    radius, doubt = table["radius"].to_numpy(float), table["doubt"].to_numpy(float)
    known = np.isfinite(radius)
    relative = np.ones(len(radius))
    if known.any():
        relative = radius / max(float(np.median(radius[known])), 1e-9)
        relative[~known] = np.nanmax(relative)
    doubt = np.where(np.isfinite(doubt), doubt, 0.5)
    doubt[table["status"].isin(STOPPED).to_numpy()] = 1.0
    weights: Array = relative * (1 + doubt)
    return weights
