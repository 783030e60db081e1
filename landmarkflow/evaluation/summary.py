"""Means, quantiles, success rates and intervals of the errors."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from landmarkflow.evaluation.errors import labels_of
from landmarkflow.evaluation.settings import EvaluateSettings

DEFINITIONS = {
    "error": "Euclidean distance between detected and reference landmark, in the unit",
    "sd": "standard deviation divided by n",
    "interval": "95 % percentile bootstrap interval of the mean, scans resampled",
    "within_percent": "share of landmarks at most this far from the reference; a missing landmark "
    "counts as not within",
    "reliability": "error against the radius that is to hold 90 % of the true places, Spearman's "
    "rank correlation of the two, and landmarks whose large error no stage flagged",
    "overlap": "Dice 2|A and B| / (|A| + |B|) and IoU |A and B| / |A or B|, of voxels; a surface "
    "is the centres of the voxels with a neighbour across a face outside the label; asd is the "
    "mean distance from each surface's voxels to the other surface, hd95 the larger of the two "
    "95th percentiles of these distances",
}


@dataclass(frozen=True)
class Statistics:
    """Statistics of a set of errors; None where there is nothing to compute them from.

    Attributes:
        n: Landmarks detected.
        missing: Landmarks not detected; they enter `within_percent` only.
        mean: Mean error.
        sd: Standard deviation, divided by n.
        median: Median error.
        p95: 95th percentile.
        max: Largest error.
        interval: 95 % bootstrap interval of the mean; None with fewer than two scans.
        within_percent: Success detection rate in percent by radius.
    """

    n: int
    missing: int
    mean: float | None
    sd: float | None
    median: float | None
    p95: float | None
    max: float | None
    interval: tuple[float, float] | None
    within_percent: dict[float, float | None]


def statistics(
    errors: NDArray[np.float64],
    radii: Sequence[float],
    interval: tuple[float, float] | None = None,
) -> Statistics:
    """Returns the statistics of a set of errors.

    Args:
        errors: Errors, (n,); NaN is a missing landmark.
        radii: Radii of the success detection rate, in the unit of the errors.
        interval: The interval of the mean, where it was computed.
    """
    known = errors[~np.isnan(errors)]
    rates = {
        radius: float(100.0 * np.mean(errors <= radius)) if errors.size else None
        for radius in radii
    }
    missing = errors.size - known.size
    if known.size == 0:
        return Statistics(0, missing, None, None, None, None, None, None, rates)
    return Statistics(
        n=known.size,
        missing=missing,
        mean=float(known.mean()),
        sd=float(known.std(ddof=0)),
        median=float(np.median(known)),
        p95=float(np.percentile(known, 95)),
        max=float(known.max()),
        interval=interval,
        within_percent=rates,
    )


def draw_scans(count: int, resamples: int, seed: int) -> NDArray[np.int64]:
    """Returns scan numbers drawn with replacement, (resamples, count)."""
    return np.random.default_rng(seed).integers(0, max(count, 1), size=(resamples, count))


def bootstrap_interval(
    errors: NDArray[np.float64], scans: NDArray[np.int64], draws: NDArray[np.int64]
) -> tuple[float, float] | None:
    """Returns the 95 % percentile interval of the mean error over resampled scans.

    Whole scans are drawn because the errors of one scan depend on each other. The mean of a
    resample is the sum of its scans' errors divided by their count.

    Args:
        errors: Errors, (n,); NaN is left out.
        scans: The scan number of each error, (n,).
        draws: Scan numbers of each resample, (resamples, scans).

    Returns:
        The 2.5th and 97.5th percentiles, or None with fewer than two scans that have errors.
    """
    known = ~np.isnan(errors)
    count = draws.shape[1]
    sums = np.bincount(scans[known], weights=errors[known], minlength=count)
    counts = np.bincount(scans[known], minlength=count)
    if np.count_nonzero(counts) < 2:
        return None
    drawn = counts[draws].sum(axis=1)
    means = sums[draws].sum(axis=1)[drawn > 0] / drawn[drawn > 0]
    low, high = np.percentile(means, (2.5, 97.5))
    return float(low), float(high)


@dataclass(frozen=True)
class StageSummary:
    """The statistics of one stage: over all landmarks, and by landmark."""

    overall: Statistics
    landmarks: dict[str, Statistics]


def summarise(
    errors: pd.DataFrame, settings: EvaluateSettings, seed: int
) -> dict[str, StageSummary]:
    """Returns the statistics of every stage, the main one first.

    Args:
        errors: The error table.
        settings: Radii and resamples.
        seed: Seed of the bootstrap; every interval uses the same draws.
    """
    names = list(errors["scan"].drop_duplicates())
    numbers = errors["scan"].map({name: i for i, name in enumerate(names)}).to_numpy(np.int64)
    values = errors["error"].to_numpy(np.float64)
    draws = draw_scans(len(names), settings.bootstrap, seed)

    def of(rows: NDArray[np.bool_]) -> Statistics:
        interval = bootstrap_interval(values[rows], numbers[rows], draws)
        return statistics(values[rows], settings.radii, interval)

    result = {}
    for stage in errors["stage"].drop_duplicates():
        in_stage = (errors["stage"] == stage).to_numpy(np.bool_)
        result[str(stage)] = StageSummary(
            overall=of(in_stage),
            landmarks={
                label: of(in_stage & (errors["landmark"] == label).to_numpy(np.bool_))
                for label in labels_of(errors)
            },
        )
    return result


def landmark_table(summary: dict[str, StageSummary], settings: EvaluateSettings) -> pd.DataFrame:
    """Returns one row per stage and landmark with the statistics as columns."""
    figures = ["n", "missing", "mean", "sd", "median", "p95", "max"]
    rows = [
        (
            label,
            stage,
            *(getattr(entry, name) for name in figures),
            *(entry.interval or (None, None)),
            *entry.within_percent.values(),
        )
        for stage, of_stage in summary.items()
        for label, entry in of_stage.landmarks.items()
    ]
    rates = [within(radius) for radius in settings.radii]
    columns = ["landmark", "stage", *figures, "interval_low", "interval_high", *rates]
    return pd.DataFrame(rows, columns=columns)


def within(radius: float) -> str:
    """Returns the name of the column with the share of landmarks within a radius."""
    return f"within_{radius:g}_percent"


def as_numbers(entry: Any) -> dict[str, Any]:
    """Returns a dataclass of numbers as data for a JSON file, rounded to four decimals."""
    return {name: _rounded(value) for name, value in asdict(entry).items()}


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {f"{key:g}": _rounded(part) for key, part in value.items()}
    if isinstance(value, tuple):
        return [_rounded(part) for part in value]
    return round(value, 4) if isinstance(value, float) else value
