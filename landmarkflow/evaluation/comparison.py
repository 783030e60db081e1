"""The runs of a study side by side."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from landmarkflow.core.files import write_text
from landmarkflow.engine.batch import Batch
from landmarkflow.evaluation.errors import labels_of, main_errors
from landmarkflow.evaluation.reliability import reliability
from landmarkflow.evaluation.results import ALL_LABELS, Run, check_same_points, read_run
from landmarkflow.evaluation.settings import IN_WORDS
from landmarkflow.evaluation.steps import by_entry, compare_steps, pool, seed_spread, steps_markdown
from landmarkflow.evaluation.summary import statistics, within
from landmarkflow.evaluation.tables import frame_csv, latex_rows, markdown_rows, number

LANDMARK = "mean_"


def write_comparison(folder: Path, runs: Sequence[Run]) -> None:
    """Writes comparison.csv, .md and .tex, and steps.csv and .md; equal input, equal bytes.

    Args:
        folder: The study's folder.
        runs: At least one run; those of one entry in the order of their seeds.

    Raises:
        InputError: Two runs do not measure the same landmarks of the same scans.
    """
    table, steps = compare_runs(runs), compare_steps(runs)
    header, rows = comparison_rows(table, runs[0])
    caption = comparison_caption(table, runs[0])
    write_text(folder / "comparison.csv", frame_csv(table))
    write_text(folder / "comparison.md", f"{caption}\n\n{markdown_rows(header, rows)}")
    latex = latex_rows(header, rows, caption=caption, label="tab:runs", names=2)
    write_text(folder / "comparison.tex", latex)
    write_text(folder / "steps.csv", frame_csv(steps))
    write_text(folder / "steps.md", steps_markdown(steps, runs[0]))


def compare_runs(runs: Sequence[Run]) -> pd.DataFrame:
    """Sets the entries of runs below each other, each pooled over scans and seeds.

    Args:
        runs: Runs of the same scans.

    Returns:
        One row for each entry: run, method, seeds, scans evaluated, n, missing, mean, sd (divided
        by n), sd_over_seeds (of the seeds' means, divided by n - 1), median, p95, max, the shares
        within each radius and within the landmarks' own, rank_correlation, failed and doubtful
        scans, counted for each seed, where a scan has a reference segmentation the mean Dice of
        all labels and how many are missing, and where they are few the mean of each landmark.

    Raises:
        InputError: Two runs do not measure the same landmarks of the same scans.
    """
    check_same_points(runs)
    return pd.DataFrame([_row(entry, members) for entry, members in by_entry(runs).items()])


def comparison_rows(table: pd.DataFrame, run: Run) -> tuple[list[str], list[list[str]]]:
    """Returns header and rows of the printed table, without columns that hold nothing.

    Args:
        table: What `compare_runs` returned.
        run: Any of the runs; it knows the unit and the settings.
    """
    radii = run.settings.radii
    # Column, title and decimals, in the order of the printed table.
    shown = [(name, name.removeprefix(LANDMARK), 3) for name in table if name.startswith(LANDMARK)]
    shown += [("mean", "Mean ± sd", 3), ("sd_over_seeds", "sd over seeds", 3)]
    shown += [("median", "Median", 3), ("p95", "p95", 3), ("max", "Max", 3)]
    shown += [(within(radius), f"Within {radius:g} {run.unit}, %", 0) for radius in radii]
    shown += [("within_radius_percent", "Within own radius, %", 0)]
    shown += [("rank_correlation", "Rank correlation", 2), ("failed", "Failed", 0)]
    shown += [("doubtful", "Doubtful", 0), ("dice", "Dice", 3), ("dice_missing", "No Dice", 0)]
    columns = [("Run", list(table["run"])), ("Method", list(table["method"]))]
    columns += [
        (title, [str(value) for value in table[name]])
        for name, title in (("seeds", "Seeds"), ("n", "n"), ("missing", "Missing"))
    ]
    for name, title, decimals in shown:
        if name in table and table[name].notna().any():
            cells = [number(value, decimals) for value in table[name]]
            if name == "mean":
                deviations = map(number, table["sd"])
                cells = [f"{mean} ± {sd}" for mean, sd in zip(cells, deviations, strict=True)]
            columns.append((title, cells))
    return [title for title, _ in columns], [
        list(row) for row in zip(*(cells for _, cells in columns), strict=True)
    ]


def comparison_caption(table: pd.DataFrame, run: Run) -> str:
    """Returns what the printed table shows, in words; arguments as in `comparison_rows`."""
    counted = (
        "Failed: scans that a stage failed or refused or whose mean is above "
        f"{run.settings.large_error:g} {run.unit}; they and doubtful "
        "ones are counted for each seed."
    )
    if "dice" in table:
        counted += " Dice: mean over scans and seeds, all labels as one."
    if run.errors.empty:
        return f"No scan has reference landmarks: no distance was measured. {counted}"
    return (
        f"Distance in {IN_WORDS[run.unit]} between detected and reference landmarks of "
        f"{run.summary['scans']['evaluated']} scans, pooled over scans and seeds: by landmark the "
        "mean, over all mean ± sd (divided by n); sd over seeds is that of the seeds' means "
        "(divided by n - 1). Within own radius: landmarks no further off than the radius stated "
        f"for each, which is to hold 90 %; rank correlation: Spearman's, of the two. {counted}"
    )


def _row(entry: str, members: Sequence[Run]) -> dict[str, Any]:
    run = members[0]
    errors = main_errors(pool(members))
    found = statistics(errors["error"].to_numpy(np.float64), run.settings.radii)
    radii = reliability(errors, (), run.settings.large_error)
    failures = [member.summary["failures"] for member in members]
    row = {
        "run": entry,
        "method": run.made["method"],
        "seeds": len(members),
        "scans": run.summary["scans"]["evaluated"],
        "n": found.n,
        "missing": found.missing,
        "mean": found.mean,
        "sd": found.sd,
        "sd_over_seeds": seed_spread(errors)[1],
        "median": found.median,
        "p95": found.p95,
        "max": found.max,
        **{within(radius): rate for radius, rate in found.within_percent.items()},
        "within_radius_percent": radii.within_radius_percent,
        "rank_correlation": radii.rank_correlation,
        "failed": sum(counts["scans"] for counts in failures),
        "doubtful": sum(counts["doubtful"] for counts in failures),
    }
    tables = [member.overlap for member in members if member.overlap is not None]
    if tables:
        overlap = pd.concat(tables)
        dice = overlap.loc[overlap["label"] == ALL_LABELS, "dice"]
        row |= {"dice": dice.mean(), "dice_missing": int(dice.isna().sum())}
    labels = labels_of(errors)
    if len(labels) <= run.settings.table_landmarks_limit:
        means = errors.groupby("landmark")["error"].mean()
        row |= {LANDMARK + run.settings.printed_name(label): means[label] for label in labels}
    return row


def run(batch: Batch) -> None:
    """Set all runs of a study side by side."""
    files = [batch.of_run(name) for name in batch.runs]
    runs = [read_run(of["made"], of["errors"].parent) for of in files]
    write_comparison(batch.places.results, runs)
