"""Runs of the workflow in folders of their own, and what Snakemake says of them."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

# What Snakemake itself says on stderr of a run that is refused.
NOTES = re.compile(r"Using workflow specific profile .*|Config file .* is extended by .*")
LONGEST_RUN_S = 600
TINY = Path(__file__).parent / "studies" / "tiny.yaml"


@dataclass(frozen=True)
class Run:
    """A finished run: its exit status and what it said."""

    status: int
    stdout: str
    stderr: str

    @property
    def text(self) -> str:
        return self.stdout + self.stderr

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
    return Run(done.returncode, done.stdout, done.stderr)


def copy_repository(root: Path, folder: Path) -> Path:
    """Copies what a run needs of a repository into a new folder; returns the folder."""
    for name in ("landmarkflow", "workflow", "studies", "envs", "profiles"):
        shutil.copytree(root / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("Snakefile", "config.yaml"):
        shutil.copy(root / name, folder / name)
    return folder
