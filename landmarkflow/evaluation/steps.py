"""What each step of a method is worth: errors of its stages, pooled over the seeds of a run."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from landmarkflow.evaluation.errors import labels_of
from landmarkflow.evaluation.results import Run, check_same_points
from landmarkflow.evaluation.settings import IN_WORDS, EvaluateSettings
from landmarkflow.evaluation.summary import statistics, within
from landmarkflow.evaluation.tables import markdown_rows, number

ALL_LANDMARKS = "all landmarks"
NAMES = ("run", "step", "landmark", "seeds")
FIGURES = ("n", "missing", "mean", "sd", "sd_over_seeds", "median", "p95")


def compare_steps(runs: Sequence[Run]) -> pd.DataFrame:
    """Puts the steps of every entry of runs below each other, each over all of its seeds.

    Errors are pooled over scans and seeds, and a missing landmark counts as not within the one
    radius that is shown, 1 where it is among the radii, otherwise the largest. `sd_over_seeds` is
    the standard deviation of the seeds' means, divided by n - 1, and NaN for a single seed; `sd` is
    divided by n. A scan has failed at a step that gave it no landmark or a mean error above
    `large_error`; scans count once for each seed.

    Args:
        runs: Runs of the same scans; those of one entry in the order of their seeds. Stages that a
            run names no step for follow the named ones under their own names.

    Returns:
        For each entry and step one row for each landmark and one for all; none where no scan has
        reference landmarks.

    Raises:
        InputError: Two runs do not measure the same landmarks of the same scans.
    """
    check_same_points(runs)
    settings = runs[0].settings
    rows = []
    for entry, members in by_entry(runs).items():
        pooled = pool(members)
        names = {stage: name for run in members for stage, name in run.made["steps"].items()}
        for stage in _ordered(pooled["stage"].drop_duplicates().tolist(), names):
            of_stage = pooled[pooled["stage"] == stage]
            parts = [
                (label, of_stage[of_stage["landmark"] == label]) for label in labels_of(pooled)
            ]
            for label, part in [*parts, (ALL_LANDMARKS, of_stage)]:
                step = names.get(stage, stage)
                rows.append((entry, step, label, *_figures(part, settings)))
    columns = [*NAMES, *FIGURES, within(_radius(settings)), "failed_scans"]
    return pd.DataFrame(rows, columns=columns)


def by_entry(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Returns the runs of each entry, both in their order."""
    entries = dict.fromkeys(run.entry for run in runs)
    return {entry: [run for run in runs if run.entry == entry] for entry in entries}


def pool(runs: Sequence[Run]) -> pd.DataFrame:
    """Returns the errors of several runs below each other with the column `seed`."""
    return pd.concat([run.errors.assign(seed=run.made["seed"]) for run in runs], ignore_index=True)


def seed_spread(errors: pd.DataFrame) -> tuple[int, float]:
    """Returns how many seeds pooled errors are of, and the deviation (n - 1) of their means."""
    means = errors.groupby("seed", sort=False)["error"].mean()
    return len(means), float(means.std(ddof=1))


def steps_rows(table: pd.DataFrame, run: Run) -> tuple[list[str], list[list[str]]]:
    """Returns header and rows of the printed table: a row for each step.

    Args:
        table: What `compare_steps` returned.
        run: Any of the runs; it knows the unit and the settings.
    """
    settings = run.settings
    labels = [str(label) for label in table["landmark"].drop_duplicates()][:-1]
    if len(labels) > settings.table_landmarks_limit:
        labels = []
    several = table["run"].nunique() > 1
    radius = _radius(settings)
    header = [*(["Run"] if several else []), "Step", *map(settings.printed_name, labels)]
    header += ["Mean ± sd", "sd over seeds", "Median", "p95", f"Within {radius:g} {run.unit}, %"]
    header.append("Failed")
    rows = []
    for (entry, step), part in table.groupby(["run", "step"], sort=False):
        by_label = part.set_index("landmark")
        overall = by_label.loc[ALL_LANDMARKS]
        cells = [number(by_label.loc[label, "mean"]) for label in labels]
        cells.append(" ± ".join(number(overall[name]) for name in ("mean", "sd")))
        cells += [number(overall[name]) for name in ("sd_over_seeds", "median", "p95")]
        cells += [number(overall[within(radius)], decimals=0), str(overall["failed_scans"])]
        rows.append([*([str(entry)] if several else []), str(step), *cells])
    return header, rows


def steps_caption(table: pd.DataFrame, run: Run) -> str:
    """Returns what the printed table shows, in words; arguments as in `steps_rows`."""
    if table.empty:
        return "No scan has reference landmarks: no step was measured."
    counts = table.drop_duplicates("run").set_index("run")["seeds"]
    if counts.nunique() == 1:
        seeds = str(counts.iloc[0])
    else:
        seeds = ", ".join(f"{count} ({entry})" for entry, count in counts.items())
    return (
        f"Distance in {IN_WORDS[run.unit]} between detected and reference landmarks after each "
        "step, pooled over scans and seeds: by landmark the mean, over all mean ± sd (divided by "
        f"n). Seeds: {seeds}; sd over seeds is that of the seeds' means (divided by n - 1). "
        f"Failed: scans without a landmark or with a mean above {run.settings.large_error:g} "
        f"{run.unit}, counted for each seed."
    )


def steps_markdown(table: pd.DataFrame, run: Run) -> str:
    """Returns the printed table as Markdown; arguments as in `steps_rows`."""
    text = steps_caption(table, run) + "\n"
    return text if table.empty else f"{text}\n{markdown_rows(*steps_rows(table, run))}"


def _radius(settings: EvaluateSettings) -> float:
    return 1.0 if 1.0 in settings.radii else settings.radii[-1]


def _ordered(stages: Sequence[str], names: Mapping[str, str]) -> list[str]:
    """Stages with a name in the names' order, then the others as they are found."""
    known = [stage for stage in names if stage in stages]
    return [*known, *(stage for stage in stages if stage not in names)]


def _figures(rows: pd.DataFrame, settings: EvaluateSettings) -> tuple[float | int | None, ...]:
    """Returns what follows the landmark in the columns."""
    found = statistics(rows["error"].to_numpy(np.float64), (_radius(settings),))
    of_scans = rows.groupby(["seed", "scan"], sort=False)["error"].mean()
    failed = int((of_scans.isna() | (of_scans > settings.large_error)).sum())
    seeds, spread = seed_spread(rows)
    counts = (seeds, found.n, found.missing)
    moments = (found.mean, found.sd, spread, found.median, found.p95)
    return (*counts, *moments, *found.within_percent.values(), failed)
