"""Means, quantiles, success rates and intervals of the errors, and what radii and flags are worth.

Figures that there is nothing to compute from are NaN.
"""

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from landmarkflow.evaluation.errors import main_errors
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
    "95th percentiles of these distances; all_voxels is the mean distance of all voxels, interior "
    "included, to the other segmentation, in voxels, which some papers call average Hausdorff",
}
FIGURES = ("n", "missing", "mean", "sd", "median", "p95", "max")
# Of fewer values, spread, interval and correlation say nothing: "n too small".
ENOUGH = 10
# In the place of a landmark's name; no landmark is called this.
ALL = ""
# What it is called in tables.
ALL_LANDMARKS = "all landmarks"


def statistics(errors: NDArray[np.float64], radii: Sequence[float]) -> dict[str, Any]:
    """Returns the statistics of errors (n,), of which NaN is a landmark that was not detected.

    Returns:
        The figures `FIGURES`: how many were detected and how many not, and of the detected ones
        mean, standard deviation (divided by n), median, 95th percentile and largest. Then for each
        radius, in the unit of the errors, the percentage within it, called as `within` says; a
        missing landmark is not within.
    """
    known = errors[~np.isnan(errors)]
    values = known if known.size else np.array([np.nan])
    figures = {
        "n": known.size,
        "missing": errors.size - known.size,
        "mean": float(values.mean()),
        "sd": float(values.std(ddof=0)),
        "median": float(np.median(values)),
        "p95": float(np.percentile(values, 95)),
        "max": float(values.max()),
    }
    for radius in radii:
        share = float(np.mean(errors <= radius)) if errors.size else np.nan
        figures[within(radius)] = 100.0 * share
    return figures


def within(radius: float) -> str:
    """Returns the name of the column with the share of landmarks within a radius."""
    return f"within_{radius:g}_percent"


def bootstrap_interval(
    errors: NDArray[np.float64], scans: NDArray[np.int64], draws: NDArray[np.int64]
) -> tuple[float, float]:
    """Returns the 95 % percentile interval of the mean error over resampled scans.

    Whole scans are drawn because the errors of one scan depend on each other. The mean of a
    resample is the sum of its scans' errors divided by their count.

    Args:
        errors: Errors, (n,); NaN is left out.
        scans: The scan number of each error, (n,).
        draws: Scan numbers of each resample, (resamples, scans).

    Returns:
        The 2.5th and 97.5th percentiles; NaN with fewer than `ENOUGH` scans that have errors.
    """
    known = ~np.isnan(errors)
    count = draws.shape[1]
    sums = np.bincount(scans[known], weights=errors[known], minlength=count)
    counts = np.bincount(scans[known], minlength=count)
    if np.count_nonzero(counts) < ENOUGH:
        return np.nan, np.nan
    drawn = counts[draws].sum(axis=1)
    means = sums[draws].sum(axis=1)[drawn > 0] / drawn[drawn > 0]
    low, high = np.percentile(means, (2.5, 97.5))
    return float(low), float(high)


def summarise(errors: pd.DataFrame, settings: EvaluateSettings, seed: int) -> pd.DataFrame:
    """Returns the statistics of every stage, the main one first.

    Args:
        errors: The error table.
        settings: Radii and resamples.
        seed: Seed of the bootstrap; every interval uses the same draws.

    Returns:
        The columns landmark, stage, `FIGURES`, interval_low, interval_high and the shares within
        the radii: for each stage a row of all landmarks, called `ALL`, and one of each.
    """
    numbers = {name: i for i, name in enumerate(errors["scan"].unique())}
    size = (settings.bootstrap, len(numbers))
    draws = np.random.default_rng(seed).integers(0, max(len(numbers), 1), size)
    rows = []
    for stage, of_stage in errors.groupby("stage", sort=False):
        for label, part in [(ALL, of_stage), *of_stage.groupby("landmark", sort=False)]:
            values, scans = part["error"].to_numpy(np.float64), part["scan"].map(numbers)
            low, high = bootstrap_interval(values, scans.to_numpy(), draws)
            row = {"landmark": label, "stage": stage, "interval_low": low, "interval_high": high}
            rows.append(row | statistics(values, settings.radii))
    rates = [within(radius) for radius in settings.radii]
    columns = ["landmark", "stage", *FIGURES, "interval_low", "interval_high", *rates]
    return pd.DataFrame(rows, columns=columns)


def stage_data(table: pd.DataFrame, radii: Sequence[float]) -> dict[str, Any]:
    """Returns what `summarise` returned as data for JSON: by stage overall and by landmark."""
    data: dict[str, Any] = {}
    for row in table.to_dict("records"):
        interval = [row["interval_low"], row["interval_high"]]
        entry = {name: row[name] for name in FIGURES}
        entry["interval"] = None if np.isnan(interval[0]) else interval
        entry["within_percent"] = {f"{radius:g}": row[within(radius)] for radius in radii}
        of_stage = data.setdefault(row["stage"], {"overall": entry, "landmarks": {}})
        if row["landmark"] != ALL:
            of_stage["landmarks"][row["landmark"]] = entry
    return data


def reliability(
    errors: pd.DataFrame, flagged: Collection[str], large_error: float
) -> dict[str, Any]:
    """Compares the main stage's errors with what was said of them without a reference.

    Args:
        errors: The error table.
        flagged: Scans that a stage failed, refused or found doubtful.
        large_error: Above it an error is large.

    Returns:
        n (landmarks that have a radius and a reference), within_radius_percent (the share of them
        whose error is at most their radius; 90 is promised), mean_radius, rank_correlation
        (Spearman's, of radius and error: 1 where the radius ranks the errors; NaN for fewer than
        `ENOUGH` landmarks), flagged_scans (that
        were evaluated) and unflagged_large (landmarks with a large error in the other scans).
    """
    main = main_errors(errors)
    known = main[["error", "radius"]].dropna()
    in_flagged = main["scan"].isin(list(flagged))
    varied = len(known) >= ENOUGH and bool((known.nunique() > 1).all())
    return {
        "n": len(known),
        "within_radius_percent": float(100 * (known["error"] <= known["radius"]).mean()),
        "mean_radius": float(known["radius"].mean()),
        "rank_correlation": float(np.corrcoef(known.rank().T)[0, 1]) if varied else np.nan,
        "flagged_scans": int(main.loc[in_flagged, "scan"].nunique()),
        "unflagged_large": int(((main["error"] > large_error) & ~in_flagged).sum()),
    }


def plain(data: Any) -> Any:
    """Returns data for a JSON file: numbers rounded to four decimals, and None for NaN."""
    if isinstance(data, dict):
        return {key: plain(part) for key, part in data.items()}
    if isinstance(data, list):
        return [plain(part) for part in data]
    if isinstance(data, float):
        return None if np.isnan(data) else round(float(data), 4)
    return data
