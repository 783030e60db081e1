"""Runs of the workflow in folders of their own, what Snakemake says of them, and their results."""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

# What Snakemake itself says on stderr of a run that is refused.
NOTES = re.compile(r"Using workflow specific profile .*|Config file .* is extended by .*")
LOGS = re.compile(r"^Complete log\(s\): (.+)$", re.MULTILINE)
NOTHING = "Nothing to be done (all requested files are present and up to date)."
LONGEST_RUN_S = 600
TINY = Path(__file__).parent / "studies" / "tiny.yaml"
# An event, a pattern of the path and what happens, as tests/faults/sitecustomize.py takes them.
Fault = tuple[str, str, str]
# What a job did of each scan of its batch, as its log says.
SERVED = re.compile(r"INFO \d+/\d+ (\S+): (known|computed)")


@dataclass(frozen=True)
class Run:
    """A finished run: its exit status, what it said, and what Snakemake wrote to its log."""

    status: int
    stdout: str
    stderr: str
    log: str = ""

    @property
    def text(self) -> str:
        return self.stdout + self.stderr + self.log

    @property
    def jobs(self) -> dict[str, int]:
        """Snakemake's table of jobs, without its total."""
        table = self.text.partition("Job stats:")[2].partition("\n\n")[0]
        rows = re.findall(r"^([\w-]+) +(\d+)$", table, re.MULTILINE)
        return {name: int(count) for name, count in rows if name != "total"}

    @property
    def complaints(self) -> list[str]:
        """Lines on stderr other than Snakemake's notes on where settings come from."""
        return [line for line in self.stderr.splitlines() if line and not NOTES.fullmatch(line)]


def workflow_command(
    root: Path, folder: Path, *arguments: object, cores: int = 2
) -> tuple[list[str], dict[str, str]]:
    """The command that runs a repository's Snakefile in a folder, and its environment.

    Python's path names no other repository.
    """
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    programs = str(Path(sys.executable).parent)
    environment["PATH"] = programs + os.pathsep + environment["PATH"]
    command = ["snakemake", "--snakefile", root / "Snakefile", "--directory", folder]
    # As often as by default: a run of some seconds would linger as long again.
    command += ["--max-jobs-per-timespan", "100/1s", "--cores", cores, *arguments]
    # A dry run has no log: what Snakemake itself says of it is asked for.
    command += ["--printshellcmds"] if "--dry-run" in arguments else []
    return [str(part) for part in command], environment


def run_workflow(root: Path, folder: Path, *arguments: object, cores: int = 2) -> Run:
    """Runs the Snakefile of a repository in a folder."""
    command, environment = workflow_command(root, folder, *arguments, cores=cores)
    done = subprocess.run(
        command,
        env=environment,
        capture_output=True,
        encoding="utf-8",
        timeout=LONGEST_RUN_S,
        check=False,
    )
    found = LOGS.findall(done.stderr)
    log = Path(found[-1]).read_text(encoding="utf-8") if found else ""
    return Run(done.returncode, done.stdout, done.stderr, log)


def start_workflow(
    root: Path, folder: Path, faults: Sequence[Fault], *arguments: object
) -> subprocess.Popen[str]:
    """Starts a run, the leader of a group of its own, that meets some faults."""
    command, environment = workflow_command(root, folder, *arguments)
    happened = folder / "met"
    happened.mkdir(exist_ok=True)
    hook = {"PYTHONPATH": str(Path(__file__).parent / "faults"), "FAULTS": json.dumps(faults)}
    return subprocess.Popen(
        command,
        env=environment | hook | {"FAULTS_MET": str(happened)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        start_new_session=True,
    )


def met(folder: Path) -> set[int]:
    """Numbers of the faults that happened to the runs in a folder."""
    return {int(path.name) for path in folder.glob("met/*") if path.name.isdecimal()}


def copy_repository(root: Path, folder: Path) -> Path:
    """Copies what a run needs of a repository into a new folder; returns the folder."""
    for name in ("landmarkflow", "workflow", "studies", "envs", "profiles"):
        shutil.copytree(root / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("Snakefile", "config.yaml"):
        shutil.copy(root / name, folder / name)
    return folder


def add_method(repository: Path, name: str, source: Path) -> Path:
    """Adds a stand-in to the methods of a copy of the repository; returns the copy."""
    shutil.copytree(source / "method", repository / f"landmarkflow/methods/{name}")
    shutil.copy(source / f"{name}.smk", repository / "workflow/rules/methods")
    registry = repository / "landmarkflow/registry.py"
    text = registry.read_text(encoding="utf-8")
    imported = f"from landmarkflow.methods.{name}.stages import METHOD as {name.upper()}\n"
    text, named = re.subn(r"for method in \(", f"for method in ({name.upper()}, ", text)
    assert named == 1
    text = text.replace("from landmarkflow.report", f"{imported}from landmarkflow.report", 1)
    registry.write_text(text, encoding="utf-8")
    return repository


def copy_run(folder: Path, copy: Path) -> Path:
    """Copies the folder of a finished run, without what Snakemake said; returns the copy."""
    return Path(shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("log", "locks")))


def write_yaml(path: Path, data: Mapping[str, Any]) -> Path:
    """Writes a study file; returns its path."""
    path.write_text(yaml.safe_dump(dict(data), sort_keys=False), encoding="utf-8")
    return path


def by_batch(batches: Collection[str], *rules: str) -> set[str]:
    """Names of rules with those of batches."""
    return {f"{rule}_{batch}" for rule in rules for batch in batches}


def results(folder: Path, study: str = "tiny") -> Path:
    """The results of a study that ran in a folder."""
    return folder / "results" / study


def rows(path: Path) -> list[dict[str, str]]:
    """The rows of a table."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def points(path: Path, name: str = "") -> dict[str, NDArray[np.float64]]:
    """The positions in one list of a markups file, by default its only one; NaN where none is."""
    data = json.loads(path.read_text(encoding="utf-8"))
    of_scan = f"{path.name.partition('.')[0]} {name}"
    (node,) = [node for node in data["markups"] if name == "" or node["name"] in (name, of_scan)]
    assert node["coordinateSystem"] == "LPS"
    nowhere = [np.nan] * 3
    return {
        point["label"]: np.array(point.get("position", nowhere)) for point in node["controlPoints"]
    }


def errors(run: Path, stage: str = "final") -> dict[tuple[str, str], float]:
    """errors.csv of one step of a run: by scan and landmark, NaN where it is empty."""
    found = [row for row in rows(run / "evaluation/errors.csv") if row["stage"] == stage]
    return {(row["scan"], row["landmark"]): float(row["error"] or "nan") for row in found}


def mean(run: Path, stage: str = "final", scans: Collection[str] = ()) -> float:
    """The mean error of one step of a run, of all scans or of some."""
    found = [error for (scan, _), error in errors(run, stage).items() if not scans or scan in scans]
    return float(np.mean(found))


def differing(one: Path, other: Path, *names: str) -> list[str]:
    """Which files have not the same bytes in two folders."""
    return [name for name in names if (one / name).read_bytes() != (other / name).read_bytes()]


def served(log: Path) -> dict[str, str]:
    """What a job did of each scan of its batch: `known` or `computed`."""
    return dict(SERVED.findall(log.read_text(encoding="utf-8")))
