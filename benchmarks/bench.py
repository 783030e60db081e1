"""Measure what a mouse's scan costs and how far off its landmarks are.

Studies of this workflow, stage by stage, beside plain scripts of elastix and ANTs, on the same
scans and one core of one machine.

Usage: bench.py --data FOLDER --output FOLDER [--studies mouse_skull] [--others elastix ants]
"""

import argparse
import csv
import json
import math
import os
import re
import shutil
import subprocess
import sys
import threading
import time
import zlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from pose import points_of
from scipy import ndimage

HERE = Path(__file__).parent
ROOT = HERE.parent
STUDY = "mouse_skull"
BONE_ABOVE = "25"
FAILED_MM = 2.0
SCRIPTS = {"elastix": "elastix_search.py", "ants": "ants_syn.py"}
COLUMNS: tuple[str, ...] = ("method", "scans", "mean_mm", "p95_mm", "failed")
COLUMNS += ("cpu_s_per_scan", "pace_s", "ratio", "peak_mb")
Row = dict[str, Any]
PACE_EVERY_S = 10.0
OWN_COLOUR = "#0b7285"
COST = re.compile(r"DEBUG ([\d.]+) CPU-seconds and at most (\d+) MB")


def main() -> None:
    """Run everything and write bench.csv, stages.csv, bench.md and bench.png."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--output", required=True, type=Path)
    parser.add_argument("--studies", nargs="*", default=[STUDY, f"{STUDY}_fast"])
    parser.add_argument("--others", nargs="*", default=list(SCRIPTS), choices=SCRIPTS)
    parser.add_argument("--scans", type=int, default=4, help="how many the others get")
    arguments = parser.parse_args()
    output, data = arguments.output.resolve(), arguments.data.resolve()
    rows, stages = [], []
    for study in arguments.studies:
        row, costs = pipeline(study, data, output)
        rows.append(row)
        stages += costs
    rows += [other(name, data, output, arguments.scans) for name in arguments.others]
    at_pace = [row["cpu_s_per_scan"] / row["pace_s"] for row in rows]
    for row, cost in zip(rows, at_pace, strict=True):
        row["ratio"] = round(cost / at_pace[0], 2)
    write_csv(output / "bench.csv", COLUMNS, rows)
    write_csv(output / "stages.csv", ("method", "stage", "cpu_s_per_scan", "peak_mb"), stages)
    (output / "bench.md").write_text(markdown(rows, stages))
    draw(rows, output / "bench.png")
    sys.stdout.write((output / "bench.md").read_text())


def pipeline(study: str, data: Path, output: Path) -> tuple[Row, list[Row]]:
    """Train, then measure all the rest of a study's one run from nothing."""
    label = "landmarkflow" + study.removeprefix(STUDY).replace("_", ", ")
    folder = output / study
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    command = ["snakemake", "--snakefile", ROOT / "Snakefile", "--directory", folder, "--cores", 1]
    command += ["--configfile", ROOT / f"studies/{study}.yaml", "--config", f"data_folder={data}"]
    measured([*command, "--until", "train_network"])
    with paced() as paces:
        cpu, _ = measured(command)
    results = folder / "results" / study
    with (results / "oneshot/evaluation/errors.csv").open() as file:
        errors = defaultdict(list)
        for row in csv.DictReader(file):
            if row["stage"] == "final" and row["error"]:
                errors[row["scan"]].append(float(row["error"]))
    costs = stage_costs(results, len(errors))
    own = cpu / len(errors) - sum(row["cpu_s_per_scan"] for row in costs)
    costs.append({"stage": "Snakemake itself", "cpu_s_per_scan": own, "peak_mb": 0})
    for row in costs:
        row |= {"method": label, "cpu_s_per_scan": round(row["cpu_s_per_scan"], 2)}
    peak = max(row["peak_mb"] for row in costs)
    row = summary(label, list(errors.values()), cpu / len(errors), peak)
    return row | {"pace_s": pace_of(paces)}, costs


def stage_costs(results: Path, scans: int) -> list[Row]:
    """CPU-seconds of each stage by scan, and its largest job's memory, without training."""
    found = defaultdict(list)
    for path in results.rglob("logs/*/*.log"):
        stage = path.parent.name
        if stage != "train" and (cost := COST.search(path.read_text())):
            found[stage].append((float(cost[1]), int(cost[2])))
    costs = [
        {
            "stage": stage,
            "cpu_s_per_scan": sum(cpu for cpu, _ in jobs) / scans,
            "peak_mb": max(mb for _, mb in jobs),
        }
        for stage, jobs in found.items()
    ]
    return sorted(costs, key=lambda row: -row["cpu_s_per_scan"])


def other(name: str, data: Path, output: Path, scans: int) -> Row:
    """One process a scan, as such scripts are used."""
    python = Path(os.environ.get("BENCH_ANTS_PYTHON", sys.executable))
    errors, paces, cpu, peak = [], [], 0.0, 0.0
    for image in sorted((data / "scans").iterdir())[:scans]:
        scan = image.name.removesuffix(".nii.gz")
        found = output / name / f"{scan}.json"
        found.parent.mkdir(parents=True, exist_ok=True)
        command = [python if name == "ants" else sys.executable, HERE / SCRIPTS[name]]
        command += [data / "template/scan.nii.gz", data / "template/landmarks.mrk.json"]
        with paced() as some:
            spent, memory = measured([*command, image, BONE_ABOVE, found])
        paces += some
        cpu, peak = cpu + spent, max(peak, memory)
        truth = points_of(data / f"landmarks/{scan}.mrk.json")
        there = json.loads(found.read_text())
        errors.append([math.dist(there[label], truth[label]) for label in truth])
    label = {"elastix": "elastix, plain script", "ants": "ANTs SyN, plain script"}[name]
    return summary(label, errors, cpu / len(errors), round(peak)) | {"pace_s": pace_of(paces)}


def summary(label: str, errors: Sequence[Sequence[float]], cpu: float, peak: float) -> Row:
    """One row of the table; scans with a mean above FAILED_MM have failed and are left out."""
    good = [scan for scan in errors if np.mean(scan) <= FAILED_MM]
    pooled = np.concatenate(good)
    return {
        "method": label,
        "scans": len(errors),
        "mean_mm": round(float(pooled.mean()), 3),
        "p95_mm": round(float(np.percentile(pooled, 95)), 2),
        "failed": len(errors) - len(good),
        "cpu_s_per_scan": round(cpu, 1),
        "peak_mb": peak,
    }


def measured(command: Sequence[object]) -> tuple[float, float]:
    """CPU-seconds of a command with all its children, and MB of the largest of these."""
    one = dict.fromkeys(("OMP_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"), "1")
    words = list(map(str, command))
    process = subprocess.Popen(words, env=os.environ | one, stdout=sys.stderr)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, words)
    return used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


@contextmanager
def paced() -> Iterator[list[float]]:
    """Note every few seconds, beside what is measured, how long a fixed calculation takes.

    Machines that others use, too, are now fast and now slow.
    """
    paces, ended = [calculation()], threading.Event()

    def note() -> None:
        while not ended.wait(PACE_EVERY_S):
            paces.append(calculation())

    thread = threading.Thread(target=note)
    thread.start()
    try:
        yield paces
    finally:
        ended.set()
        thread.join()


def calculation() -> float:
    """CPU-seconds of some filtering, sorting and plain Python, as registrations do."""
    volume = np.random.default_rng(0).random((120, 120, 120), dtype=np.float32)
    begun = time.thread_time()
    ndimage.gaussian_filter(volume, 2)
    np.argsort(volume.ravel()[:400_000])
    zlib.compress(volume.tobytes()[:1_500_000], 1)
    sum(number * number % 7 for number in range(600_000))
    return time.thread_time() - begun


def pace_of(paces: Sequence[float]) -> float:
    """CPU-seconds that the calculation took in the mean."""
    return round(float(np.mean(paces)), 3)


def write_csv(path: Path, columns: Sequence[str], rows: Sequence[Row]) -> None:
    """A table with a header."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)


def markdown(rows: Sequence[Row], stages: Sequence[Row]) -> str:
    """Both tables."""
    text = ""
    for table in (rows, stages):
        columns = COLUMNS if table is rows else ("method", "stage", "cpu_s_per_scan", "peak_mb")
        text += "| " + " | ".join(columns) + " |\n" + "|---" * len(columns) + "|\n"
        text += "".join("| " + " | ".join(str(r[c]) for c in columns) + " |\n" for r in table)
        text += "\n"
    return text


def draw(rows: Sequence[Row], path: Path) -> None:
    """Error against cost, each method a point."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for row in rows:
        own = row["method"].startswith("landmarkflow")
        place = row["cpu_s_per_scan"], row["mean_mm"]
        axes.plot(*place, "o", color=OWN_COLOUR if own else "#868e96")
        axes.annotate(row["method"], place, textcoords="offset points", xytext=(7, 4))
    curve = [row for row in rows if row["method"].startswith("landmarkflow")]
    axes.plot(
        [row["cpu_s_per_scan"] for row in curve],
        [row["mean_mm"] for row in curve],
        color=OWN_COLOUR,
        alpha=0.5,
    )
    highest = max(row["mean_mm"] for row in rows)
    axes.set(xscale="log", xlabel="CPU-seconds a scan", ylabel="mean error, mm")
    axes.set(xlim=(2, 300), ylim=(0, 1.15 * highest))
    ticks = [2, 5, 10, 20, 50, 100, 200]
    axes.set_xticks(ticks, list(map(str, ticks)))
    axes.minorticks_off()
    axes.grid(visible=True, which="both", alpha=0.2)
    figure.savefig(path, dpi=130)


if __name__ == "__main__":
    main()
