"""Measure what suggested scans are worth as further templates, beside scans drawn by chance.

A study of the one-shot method on scans whose truth is known is run; `landmarkflow suggest` names
scans; then the study is run with each of them, and with as many drawn by chance, as a further
template, and 1, 2, ... of these are fused with the first. No scan that is a template of any run
is evaluated, so all means are of the same scans.

Usage: suggested.py STUDY.yaml --output FOLDER [--counts 1 2 4] [--draws 2] [--scans 24]
"""

import argparse
import csv
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from landmarkflow.study.runs import read_yaml

ROOT = Path(__file__).parents[1]
FIRST = "oneshot"
SEED = 1

Study = dict[str, Any]


def with_templates(study: Study, orders: dict[str, Sequence[str]], counts: Sequence[int]) -> Study:
    """The study with a run for each further template, and one for each fusion.

    Args:
        study: of one run, `oneshot`.
        orders: scans in the order in which they become templates, by how they were chosen.
        counts: how many of them are fused with the first template.
    """
    runs: Study = {FIRST: {"method": "oneshot"}}
    runs |= {
        scan: {"method": "oneshot", "template": scan} for order in orders.values() for scan in order
    }
    for name, order in orders.items():
        for count in counts:
            runs[f"{name}-{count}"] = {"method": "fuse", "of": [FIRST, *order[:count]]}
    return study | {"runs": runs}


def drawn(scans: Sequence[str], count: int, draws: int) -> dict[str, Sequence[str]]:
    """Scans drawn by chance; where there are too few for draws of their own, in other orders."""
    random = np.random.default_rng(SEED)
    return {
        f"drawn{n + 1}": [str(s) for s in random.permutation(scans)[:count]] for n in range(draws)
    }


def table_of(results: Path, orders: dict[str, Sequence[str]], counts: Sequence[int]) -> str:
    """Mean error by number of further templates, from comparison.csv, as Markdown."""
    with (results / "comparison.csv").open(encoding="utf-8", newline="") as file:
        means = {row["run"]: float(row["mean"]) for row in csv.DictReader(file)}
    names = ["suggested", *(name for name in orders if name != "suggested")]
    head = ["further templates", "suggested", "drawn, mean", *names[1:]]
    lines = [head, ["---", *["---:"] * (len(head) - 1)]]
    alone = means[FIRST]
    lines.append(["0", *[f"{alone:.3f}"] * (len(head) - 1)])
    for count in counts:
        found = [means[f"{name}-{count}"] for name in names]
        cells = [found[0], float(np.mean(found[1:])), *found[1:]]
        lines.append([str(count), *(f"{mean:.3f}" for mean in cells)])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def run(file: Path, folder: Path, cores: int) -> None:
    """Runs a study in a folder."""
    command = ["snakemake", "--snakefile", ROOT / "Snakefile", "--directory", folder]
    command += ["--configfile", file, "--cores", cores]
    subprocess.run([sys.executable, "-m", *map(str, command)], check=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs both studies and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", type=Path, help="of a simulated cohort, or another with truth")
    parser.add_argument("--output", type=Path, required=True, help="an empty folder")
    parser.add_argument("--counts", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--draws", type=int, default=2)
    parser.add_argument(
        "--scans", type=int, default=0, help="of the cohort, if not the study's own"
    )
    parser.add_argument("--cores", type=int, default=1)
    chosen = parser.parse_args(arguments)
    study = read_yaml(chosen.study) | {"study": "suggested", "runs": {FIRST: {"method": "oneshot"}}}
    if chosen.scans:
        study["data"]["cohort"] |= dict.fromkeys(("scans", "evaluated"), chosen.scans)
    output = chosen.output.resolve()
    output.mkdir(parents=True, exist_ok=True)
    file = output / "suggested.yaml"
    file.write_text(yaml.safe_dump(study, sort_keys=False), encoding="utf-8")
    run(file, output, chosen.cores)
    results, most = output / "results/suggested", max(chosen.counts)
    command = [sys.executable, "-m", "landmarkflow", "suggest", results / FIRST, "-n", most]
    subprocess.run([str(part) for part in command], check=True, cwd=ROOT)
    with (results / FIRST / "suggested.csv").open(encoding="utf-8", newline="") as rows:
        order = [row["scan"] for row in csv.DictReader(rows)]
    with (results / FIRST / "scans.csv").open(encoding="utf-8", newline="") as rows:
        others = sorted({row["scan"] for row in csv.DictReader(rows)} - set(order))
    orders = {"suggested": order, **drawn(others, most, chosen.draws)}
    with_all = with_templates(study, orders, chosen.counts)
    file.write_text(yaml.safe_dump(with_all, sort_keys=False), encoding="utf-8")
    run(file, output, chosen.cores)
    sys.stdout.write(table_of(results, orders, chosen.counts))


if __name__ == "__main__":
    main()
