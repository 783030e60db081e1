"""What each step of a method is worth: errors of its stages, pooled over several trainings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from landmarkflow.core.errors import InputError
from landmarkflow.evaluation.errors import labels_of
from landmarkflow.evaluation.settings import EvaluateSettings
from landmarkflow.evaluation.summary import success_rate
from landmarkflow.evaluation.tables import markdown_rows

ALL_LANDMARKS = "all landmarks"
WITHIN_MM = 1.0
WITHIN = f"within_{WITHIN_MM:g}_mm_percent"
COLUMNS = (
    "preset",
    "step",
    "landmark",
    "seeds",
    "n",
    "missing",
    "mean_mm",
    "sd_mm",
    "sd_over_seeds_mm",
    "median_mm",
    "p95_mm",
    WITHIN,
    "failed_scans",
)


@dataclass(frozen=True, eq=False)
class Training:
    """One run of a study: the preset of its settings, its seed and its error table."""

    preset: str
    seed: int
    errors: pd.DataFrame


def compare_steps(
    trainings: Sequence[Training], names: Mapping[str, str], settings: EvaluateSettings
) -> pd.DataFrame:
    """Puts the steps of every preset below each other, each over all of its trainings.

    Errors are pooled over scans and seeds, and a missing landmark counts as not within.
    `sd_over_seeds_mm` is the standard deviation of the seeds' means, divided by n - 1, and NaN for
    a single seed; `sd_mm` is divided by n. A scan has failed at a step that gave it no landmark or
    a mean error above `large_error_mm`; scans count once for each seed.

    Args:
        trainings: Runs of the same scans; those of one preset in the order of their seeds.
        names: Printed names by stage, the first step first. Stages without one follow under
            their own names; names without a stage are left out.
        settings: What counts as a large error.

    Returns:
        The columns `COLUMNS`: for each preset and step one row for each landmark and one for all.

    Raises:
        InputError: Nothing was measured, or two runs do not measure the same landmarks of the
            same scans.
    """
    if trainings[0].errors.empty:
        raise InputError(
            f"{trainings[0].preset}: no scan has reference landmarks, expected some to compare "
            "steps by"
        )
    for training in trainings[1:]:
        _check_same_points(trainings[0], training)
    rows = []
    for preset in dict.fromkeys(training.preset for training in trainings):
        pooled = pd.concat(
            [t.errors.assign(seed=t.seed) for t in trainings if t.preset == preset],
            ignore_index=True,
        )
        for stage in _ordered(pooled["stage"].drop_duplicates().tolist(), names):
            of_stage = pooled[pooled["stage"] == stage]
            parts = [
                (label, of_stage[of_stage["landmark"] == label]) for label in labels_of(pooled)
            ]
            for label, part in [*parts, (ALL_LANDMARKS, of_stage)]:
                step = names.get(stage, stage)
                rows.append((preset, step, label, *_figures(part, settings.large_error_mm)))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def steps_csv(table: pd.DataFrame) -> str:
    """Returns the table as the text of a CSV file with four decimals."""
    return str(table.to_csv(index=False, float_format="%.4f", lineterminator="\n"))


def steps_markdown(table: pd.DataFrame, settings: EvaluateSettings) -> str:
    """Returns the table as Markdown, a row for each step, with its landmarks where they are few."""
    labels = [str(label) for label in table["landmark"].drop_duplicates()]
    labels.remove(ALL_LANDMARKS)
    if len(labels) > settings.table_landmarks_limit:
        labels = []
    several = table["preset"].nunique() > 1
    header = [*(["Preset"] if several else []), "Step", *map(settings.printed_name, labels)]
    header += ["Mean ± sd", "sd over seeds", "Median", "p95", f"Within {WITHIN_MM:g} mm, %"]
    header.append("Failed")
    rows = []
    for (preset, step), part in table.groupby(["preset", "step"], sort=False):
        by_label = part.set_index("landmark")
        overall = by_label.loc[ALL_LANDMARKS]
        cells = [_number(by_label.loc[label, "mean_mm"]) for label in labels]
        cells.append(" ± ".join(_number(overall[name]) for name in ("mean_mm", "sd_mm")))
        cells += [_number(overall[name]) for name in ("sd_over_seeds_mm", "median_mm", "p95_mm")]
        cells += [_number(overall[WITHIN], decimals=0), str(overall["failed_scans"])]
        rows.append([*([str(preset)] if several else []), str(step), *cells])
    return f"{_caption(table, settings)}\n\n{markdown_rows(header, rows)}"


def _caption(table: pd.DataFrame, settings: EvaluateSettings) -> str:
    counts = table.drop_duplicates("preset").set_index("preset")["seeds"]
    if counts.nunique() == 1:
        seeds = str(counts.iloc[0])
    else:
        seeds = ", ".join(f"{count} ({preset})" for preset, count in counts.items())
    return (
        "Distance in mm between detected and reference landmarks after each step, pooled over "
        "scans and seeds: by landmark the mean, over all mean ± sd (divided by n). Seeds: "
        f"{seeds}; sd over seeds is that of the seeds' means (divided by n - 1). Failed: scans "
        f"without a landmark or with a mean above {settings.large_error_mm:g} mm, counted for each "
        "seed."
    )


def _check_same_points(first: Training, other: Training) -> None:
    expected, found = (
        set(zip(t.errors["scan"], t.errors["landmark"], strict=True)) for t in (first, other)
    )
    if found != expected:
        scan, label = min(found ^ expected)
        raise InputError(
            f'{other.preset}, seed {other.seed}: landmark "{label}" of scan {scan} is measured in '
            f"only one of this run and {first.preset}, seed {first.seed}, expected the same scans "
            "in both"
        )


def _ordered(stages: Sequence[str], names: Mapping[str, str]) -> list[str]:
    """Stages with a name in the names' order, then the others as they are found."""
    known = [stage for stage in names if stage in stages]
    return [*known, *(stage for stage in stages if stage not in names)]


def _figures(rows: pd.DataFrame, large_error_mm: float) -> tuple[float | int | None, ...]:
    """Returns what follows the landmark in `COLUMNS`."""
    errors = rows["error_mm"].to_numpy(np.float64)
    known = errors[~np.isnan(errors)]
    of_scans = rows.groupby(["seed", "scan"], sort=False)["error_mm"].mean()
    failed = int((of_scans.isna() | (of_scans > large_error_mm)).sum())
    of_seeds = rows.groupby("seed", sort=False)["error_mm"].mean()
    return (
        len(of_seeds),
        known.size,
        errors.size - known.size,
        *((known.mean(), known.std(ddof=0)) if known.size else (np.nan, np.nan)),
        of_seeds.std(ddof=1),
        *(np.percentile(known, (50, 95)) if known.size else (np.nan, np.nan)),
        success_rate(errors, WITHIN_MM),
        failed,
    )


def _number(value: float, decimals: int = 3) -> str:
    return "–" if np.isnan(value) else f"{value:.{decimals}f}"
