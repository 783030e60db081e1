"""The last lines of a run: where its results are, how its scans fared, which to look at first."""

import csv
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from landmarkflow.console.plan import Plan, counted
from landmarkflow.core.errors import InputError
from landmarkflow.core.records import STATUSES, read_record, worst_of

MOST_RUNS = 6
LONGEST_REASON = 150
FINAL = "final"


def closing_lines(plan: Plan) -> list[str]:
    """The closing block of a study whose report is written; nothing of one that has none."""
    report = plan.results / "report.html"
    if not report.exists():
        return []
    named = [run for run in plan.runs if (plan.results / run / "evaluation").is_dir()]
    first = plan.results / (plan.runs[0] if len(plan.runs) == 1 else "<run>")
    lines = [
        f"Report      {report}",
        f"Tables      {first / 'evaluation'}/, {plan.results / 'comparison.md'}",
        f"Landmarks   {first / 'landmarks'}/ (what lies there: {first / 'README.txt'})",
    ]
    for run in named[:MOST_RUNS]:
        lines.append(f"{run:<11} {', '.join(_fared(plan, run))}")
        if said := look_first(plan.results / run):
            lines.append(f"  look first at {said}")
    if len(named) > MOST_RUNS:
        lines.append(f"… and {counted(len(named) - MOST_RUNS, 'run')} more, in the report")
    return lines


def statuses(folder: Path, scans: Sequence[str]) -> Counter[str]:
    """How many scans of a run are ok, doubtful, failed and refused, by their last records."""
    found: Counter[str] = Counter()
    for scan in scans:
        try:
            chain = read_record(folder / "landmarks" / f"{scan}.json").chain
        except InputError:
            continue
        found[worst_of(chain)] += 1
    return found


def look_first(run: Path) -> str:
    """The scan of a run that is most in doubt, with the reason; empty where nothing tells.

    `scans.csv` ranks the scans by doubt. Where it is missing, a scan that failed or is doubtful
    goes first, then the one with the largest mean error.
    """
    for name in ("scans.csv", "evaluation/scans.csv", "evaluation/failures.csv"):
        rows = _rows(run / name)
        if rows and rows[0].get("scan"):
            reason = rows[0].get("reason") or rows[0].get("status") or ""
            return _of(rows[0]["scan"], reason)
    errors: dict[str, list[float]] = {}
    for row in _rows(run / "evaluation/errors.csv"):
        if row.get("stage") == FINAL and row.get("error"):
            errors.setdefault(row["scan"], []).append(float(row["error"]))
    means = {scan: sum(values) / len(values) for scan, values in errors.items()}
    if not means:
        return ""
    worst = max(means, key=lambda scan: means[scan])
    return _of(worst, f"its mean error is the largest, {means[worst]:.2f}{_unit(run)}")


def _of(scan: str, reason: str) -> str:
    if len(reason) > LONGEST_REASON:
        reason = reason[: LONGEST_REASON - 1] + "…"
    return f"{scan}: {reason}" if reason else scan


def _fared(plan: Plan, run: str) -> list[str]:
    counts = statuses(plan.results / run, plan.scans)
    said = [f"{counts[status]} {status}" for status in STATUSES if status != "refused"]
    said += [f"{counts['refused']} refused"] if counts["refused"] else []
    summary = _summary(plan.results / run)
    try:
        overall = summary["stages"][FINAL]["overall"]
        if overall["n"] and overall["mean"] is not None:
            mean = f"mean error {overall['mean']:.2f}{_unit(plan.results / run)}"
            said.append(f"{mean} in {counted(summary['scans']['evaluated'], 'scan')}")
    except (KeyError, TypeError):
        # Nothing was measured.
        pass
    return said


def _unit(run: Path) -> str:
    unit = _summary(run).get("unit")
    return f" {unit}" if unit else ""


def _summary(run: Path) -> dict[str, Any]:
    try:
        found = json.loads((run / "evaluation/summary.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))
    except (OSError, ValueError, csv.Error):
        return []
