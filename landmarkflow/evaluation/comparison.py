"""The runs of a study side by side, and what each step of their methods is worth."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from landmarkflow.core.files import write_text
from landmarkflow.engine.batch import Batch
from landmarkflow.evaluation.annotations import (
    annotations_of,
    annotations_table,
    print_annotations,
)
from landmarkflow.evaluation.errors import main_errors
from landmarkflow.evaluation.results import ALL_LABELS, Run, pooled_entries, read_run
from landmarkflow.evaluation.settings import IN_WORDS, EvaluateSettings
from landmarkflow.evaluation.summary import ALL_LANDMARKS, reliability, statistics, within
from landmarkflow.evaluation.tables import Printed, frame_csv, print_columns

# How a column with the mean of one landmark begins.
LANDMARK = "mean_"
NAMES = ("run", "step", "landmark", "seeds")
FIGURES = ("n", "missing", "mean", "sd", "sd_over_seeds", "median", "p95")
WITHOUT_REFERENCES = (
    "Scans by their worst status, counted for each seed. No scan has reference landmarks: no "
    "distance was measured."
)
_SPREAD = [("Mean ± sd", "mean", 3), ("sd over seeds", "sd_over_seeds", 3)]
_SPREAD += [("Median", "median", 3), ("p95", "p95", 3)]


def write_comparison(folder: Path, runs: Sequence[Run]) -> None:
    """Writes comparison.csv, .md and .tex into a study's folder, with references the steps, too.

    Where runs state how many annotated scans they learn from, annotations.csv and .md are beside.
    Equal input gives equal bytes. Raises what `compare_runs` raises.
    """
    table = compare_runs(runs)
    printed = print_comparison(table, runs[0])
    write_text(folder / "comparison.csv", frame_csv(table))
    write_text(folder / "comparison.md", printed.markdown())
    write_text(folder / "comparison.tex", printed.latex("tab:runs", names=2))
    if not runs[0].summary["referenced"]:
        return
    steps = compare_steps(runs)
    write_text(folder / "steps.csv", frame_csv(steps))
    write_text(folder / "steps.md", print_steps(steps, runs[0]).markdown())
    if annotations := annotations_of(runs):
        write_text(folder / "annotations.csv", frame_csv(annotations_table(annotations)))
        write_text(folder / "annotations.md", print_annotations(annotations).markdown())


def compare_runs(runs: Sequence[Run]) -> pd.DataFrame:
    """Sets the entries of runs below each other, each pooled over scans and seeds.

    Returns:
        One row for each entry: run, method, seeds, scans evaluated, n, missing, mean, sd (divided
        by n), sd_over_seeds (of the seeds' means, divided by n - 1), median, p95, max, the shares
        within each radius and within the landmarks' own, rank_correlation, failed and doubtful
        scans, counted for each seed, where a scan has a reference segmentation the mean Dice of
        all labels and how many are missing, and where they are few the mean of each landmark. Of a
        study without references: run, method, seeds, scans, and how many have each status.

    Raises:
        InputError: Two runs do not measure the same landmarks of the same scans.
    """
    return pd.DataFrame([_row(entry, *pooled) for entry, pooled in pooled_entries(runs).items()])


def compare_steps(runs: Sequence[Run]) -> pd.DataFrame:
    """Puts the steps of every entry of runs below each other, each over all of its seeds.

    A scan has failed at a step that gave it no landmark or a mean error above `large_error`; scans
    count once for each seed. Stages that a run names no step for follow the named ones under their
    own names.

    Returns:
        For each entry and step one row for each landmark and one for all, with the figures of
        `compare_runs` and the share within one radius: 1 where it is among the radii, otherwise
        the largest. No row where no scan has reference landmarks.

    Raises:
        InputError: Two runs do not measure the same landmarks of the same scans.
    """
    settings = runs[0].settings
    radius = _radius(settings)
    rows = []
    for entry, (members, errors) in pooled_entries(runs).items():
        by_stage = dict(list(errors.groupby("stage", sort=False)))
        names = {stage: name for run in members for stage, name in run.made["steps"].items()}
        for stage in [stage for stage in dict.fromkeys([*names, *by_stage]) if stage in by_stage]:
            of_stage = by_stage[stage]
            parts = [*of_stage.groupby("landmark", sort=False), (ALL_LANDMARKS, of_stage)]
            for label, part in parts:
                means = part.groupby(["seed", "scan"])["error"].mean()
                row = {"run": entry, "step": names.get(stage, stage), "landmark": label}
                row |= {"seeds": part["seed"].nunique(), **_figures(part, [radius])}
                rows.append(row | {"failed_scans": int((~(means <= settings.large_error)).sum())})
    return pd.DataFrame(rows, columns=[*NAMES, *FIGURES, within(radius), "failed_scans"])


def print_comparison(table: pd.DataFrame, run: Run) -> Printed:
    """Returns what `compare_runs` did as people read it, without columns that hold nothing.

    `run` is any of the runs; it knows the unit and the settings.
    """
    unit, settings = run.unit, run.settings
    if not run.summary["referenced"]:
        titles = [(name.capitalize(), name, 0) for name in table]
        return print_columns(table, WITHOUT_REFERENCES, titles)
    labels = [name.removeprefix(LANDMARK) for name in table if name.startswith(LANDMARK)]
    columns = [("Run", "run", 0), ("Method", "method", 0), ("Seeds", "seeds", 0), ("n", "n", 0)]
    columns += [("Missing", "missing", 0), *((label, LANDMARK + label, 3) for label in labels)]
    columns += [*_SPREAD, ("Max", "max", 3)]
    columns += [(f"Within {radius:g} {unit}, %", within(radius), 0) for radius in settings.radii]
    columns += [("Within own radius, %", "within_radius_percent", 0)]
    columns += [("Rank correlation", "rank_correlation", 2), ("Failed", "failed", 0)]
    columns += [("Doubtful", "doubtful", 0), ("Dice", "dice", 3), ("No Dice", "dice_missing", 0)]
    filled = table.columns[table.notna().any()]
    counted = (
        "Failed: scans that a stage failed or refused or whose mean is above "
        f"{settings.large_error:g} {unit}; they and doubtful ones are counted for each seed."
    )
    if "dice" in table:
        counted += " Dice: mean over scans and seeds, all labels as one."
    measured = (
        f"Distance in {IN_WORDS[unit]} between detected and reference landmarks of "
        f"{run.summary['scans']['evaluated']} scans, pooled over scans and seeds: by landmark the "
        "mean, over all mean ± sd (divided by n); sd over seeds is that of the seeds' means "
        "(divided by n - 1). Within own radius: landmarks no further off than the radius stated "
        "for each, which is to hold 90 %; rank correlation: Spearman's, of the two."
    )
    if run.errors.empty:
        measured = "No scan has reference landmarks: no distance was measured."
    shown = [column for column in columns if column[1] in filled]
    return print_columns(table, f"{measured} {counted}", shown)


def print_steps(table: pd.DataFrame, run: Run) -> Printed:
    """Returns what `compare_steps` did as people read it, a row for each step.

    `run` is any of the runs; it knows the unit and the settings.
    """
    if table.empty:
        return Printed("No scan has reference landmarks: no step was measured.", [], [])
    unit, settings = run.unit, run.settings
    radius = _radius(settings)
    counts = table.drop_duplicates("run").set_index("run")["seeds"]
    seeds = ", ".join(f"{count} ({entry})" for entry, count in counts.items())
    if counts.nunique() == 1:
        seeds = str(counts.iloc[0])
    labels = [label for label in table["landmark"].unique() if label != ALL_LANDMARKS]
    columns = [("Run", "run", 0)] if len(counts) > 1 else []
    columns.append(("Step", "step", 0))
    if len(labels) <= settings.table_landmarks_limit:
        columns += [(settings.printed_name(label), LANDMARK + label, 3) for label in labels]
    columns += [*_SPREAD, (f"Within {radius:g} {unit}, %", within(radius), 0)]
    columns.append(("Failed", "failed_scans", 0))
    means = table.pivot(index=["run", "step"], columns="landmark", values="mean")
    overall = table[table["landmark"] == ALL_LANDMARKS]
    caption = (
        f"Distance in {IN_WORDS[unit]} between detected and reference landmarks after each "
        "step, pooled over scans and seeds: by landmark the mean, over all mean ± sd (divided by "
        f"n). Seeds: {seeds}; sd over seeds is that of the seeds' means (divided by n - 1). "
        f"Failed: scans without a landmark or with a mean above {settings.large_error:g} "
        f"{unit}, counted for each seed."
    )
    wide = overall.join(means.add_prefix(LANDMARK), on=["run", "step"])
    return print_columns(wide, caption, columns)


def _figures(errors: pd.DataFrame, radii: Sequence[float]) -> dict[str, Any]:
    """Returns the statistics of pooled errors and the deviation (n - 1) of their seeds' means."""
    means = errors.groupby("seed")["error"].mean()
    found = statistics(errors["error"].to_numpy(np.float64), radii)
    return dict.fromkeys(FIGURES) | found | {"sd_over_seeds": float(means.std(ddof=1))}


def _row(entry: str, members: Sequence[Run], pooled: pd.DataFrame) -> dict[str, Any]:
    run, errors = members[0], main_errors(pooled)
    if not run.summary["referenced"]:
        counts = [member.summary["statuses"] for member in members]
        statuses = {name: sum(each[name] for each in counts) for name in counts[0]}
        names = {"run": entry, "method": run.made["method"], "seeds": len(members)}
        return names | {"scans": run.summary["scans"]["total"]} | statuses
    radii = reliability(errors, (), run.settings.large_error)
    failures = [member.summary["failures"] for member in members]
    row = {
        "run": entry,
        "method": run.made["method"],
        "seeds": len(members),
        "scans": run.summary["scans"]["evaluated"],
        **_figures(errors, run.settings.radii),
        "within_radius_percent": radii["within_radius_percent"],
        "rank_correlation": radii["rank_correlation"],
        "failed": sum(counts["scans"] for counts in failures),
        "doubtful": sum(counts["doubtful"] for counts in failures),
    }
    tables = [member.overlap for member in members if member.overlap is not None]
    if tables:
        overlap = pd.concat(tables)
        dice = overlap.loc[overlap["label"] == ALL_LABELS, "dice"]
        row |= {"dice": dice.mean(), "dice_missing": int(dice.isna().sum())}
    means = errors.groupby("landmark", sort=False)["error"].mean()
    if len(means) <= run.settings.table_landmarks_limit:
        row |= {LANDMARK + run.settings.printed_name(label): means[label] for label in means.index}
    return row


def _radius(settings: EvaluateSettings) -> float:
    return 1.0 if 1.0 in settings.radii else settings.radii[-1]


def run(batch: Batch) -> None:
    """Set all runs of a study side by side."""
    folders = [batch.of_run(name)["made"].parent for name in batch.runs]
    write_comparison(batch.places.results, [read_run(folder) for folder in folders])
