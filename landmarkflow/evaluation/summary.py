"""Means, quantiles, success rates and intervals of the errors."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from landmarkflow.evaluation.errors import labels_of
from landmarkflow.evaluation.settings import EvaluateSettings

DEFINITIONS = {
    "error": "Euclidean distance between detected and reference landmark, mm",
    "sd_mm": "standard deviation divided by n",
    "interval_mm": "95 % percentile bootstrap interval of the mean, scans resampled",
    "within_percent": "share of landmarks at most this many mm from the reference; a missing "
    "landmark counts as not within",
    "reliability": "error against the radius that is to hold 90 % of the true places, Spearman's "
    "rank correlation of the two, and landmarks whose large error no stage flagged",
}


@dataclass(frozen=True)
class Statistics:
    """Statistics of a set of errors in mm; None where there is nothing to compute them from.

    Attributes:
        n: Landmarks detected.
        missing: Landmarks not detected; they enter `within_percent` only.
        mean_mm: Mean error.
        sd_mm: Standard deviation, divided by n.
        median_mm: Median error.
        p95_mm: 95th percentile.
        max_mm: Largest error.
        interval_mm: 95 % bootstrap interval of the mean; None with fewer than two scans.
        within_percent: Success detection rate in percent by radius in mm.
    """

    n: int
    missing: int
    mean_mm: float | None
    sd_mm: float | None
    median_mm: float | None
    p95_mm: float | None
    max_mm: float | None
    interval_mm: tuple[float, float] | None
    within_percent: dict[float, float | None]


def success_rate(errors: NDArray[np.float64], radius_mm: float) -> float | None:
    """Returns the percentage of errors at most `radius_mm`; NaN counts as a miss."""
    if errors.size == 0:
        return None
    return float(100.0 * np.mean(errors <= radius_mm))


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
        errors: Errors in mm, (n,); NaN is left out.
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


def statistics(
    errors: NDArray[np.float64],
    scans: NDArray[np.int64],
    draws: NDArray[np.int64],
    radii_mm: Sequence[float],
) -> Statistics:
    """Returns the statistics of a set of errors.

    Args:
        errors: Errors in mm, (n,); NaN is a missing landmark.
        scans: The scan number of each error, (n,).
        draws: Scan numbers of each resample, (resamples, scans).
        radii_mm: Radii of the success detection rate.
    """
    known = errors[~np.isnan(errors)]
    rates = {radius: success_rate(errors, radius) for radius in radii_mm}
    missing = errors.size - known.size
    if known.size == 0:
        return Statistics(0, missing, None, None, None, None, None, None, rates)
    return Statistics(
        n=known.size,
        missing=missing,
        mean_mm=float(known.mean()),
        sd_mm=float(known.std(ddof=0)),
        median_mm=float(np.median(known)),
        p95_mm=float(np.percentile(known, 95)),
        max_mm=float(known.max()),
        interval_mm=bootstrap_interval(errors, scans, draws),
        within_percent=rates,
    )


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
    values = errors["error_mm"].to_numpy(np.float64)
    draws = draw_scans(len(names), settings.bootstrap, seed)

    def of(rows: NDArray[np.bool_]) -> Statistics:
        return statistics(values[rows], numbers[rows], draws, settings.radii_mm)

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


def as_numbers(entry: Statistics) -> dict[str, object]:
    """Returns statistics as plain data for a JSON file, rounded to four decimals."""
    interval = entry.interval_mm
    return {
        "n": entry.n,
        "missing": entry.missing,
        "mean_mm": _rounded(entry.mean_mm),
        "sd_mm": _rounded(entry.sd_mm),
        "median_mm": _rounded(entry.median_mm),
        "p95_mm": _rounded(entry.p95_mm),
        "max_mm": _rounded(entry.max_mm),
        "interval_mm": None if interval is None else [_rounded(value) for value in interval],
        "within_percent": {f"{r:g}": _rounded(v) for r, v in entry.within_percent.items()},
    }


def landmark_table(summary: dict[str, StageSummary], settings: EvaluateSettings) -> pd.DataFrame:
    """Returns one row per stage and landmark with the statistics as columns."""
    columns = ["landmark", "stage", "n", "missing", "mean_mm", "sd_mm", "median_mm", "p95_mm"]
    columns += ["max_mm", "interval_low_mm", "interval_high_mm"]
    columns += [f"within_{radius:g}_mm_percent" for radius in settings.radii_mm]
    rows = []
    for stage, stage_summary in summary.items():
        for label, entry in stage_summary.landmarks.items():
            low, high = entry.interval_mm or (None, None)
            moments = (entry.n, entry.missing, entry.mean_mm, entry.sd_mm)
            quantiles = (entry.median_mm, entry.p95_mm, entry.max_mm)
            rates = entry.within_percent.values()
            rows.append((label, stage, *moments, *quantiles, low, high, *rates))
    return pd.DataFrame(rows, columns=columns)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
