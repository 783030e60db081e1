"""What results were made in: the repository's state, Python and its packages, the machine."""

import os
import platform
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path

ROOT = Path(__file__).parents[2]
# What decides results; settings are recorded as such.
CODE = ("Snakefile", "landmarkflow", "workflow", "envs")
UNKNOWN = "unknown"


def repository(root: Path = ROOT) -> dict[str, object]:
    """The `commit` that a folder with the Snakefile is at, and the files `changed` since.

    Those are the paths of the code's files that were edited, removed or added. Where Git does not
    know the Snakefile, the commit is `unknown` and the changes are None.
    """
    # Untracked in somebody else's repository, the code is no part of that one's commit.
    tracked = _git(root, "ls-files", "--error-unmatch", "Snakefile")
    commit = None if tracked is None else _git(root, "rev-parse", "HEAD")
    if commit is None:
        return {"commit": UNKNOWN, "changed": None}
    status = _git(root, "status", "--porcelain", "--untracked-files=all", "--", *CODE) or ""
    return {"commit": commit.strip(), "changed": [line[3:] for line in status.splitlines()]}


def packages() -> dict[str, str]:
    """Version of each installed package by its name, sorted."""
    found = {d.metadata["Name"].lower().replace("_", "-"): d.version for d in distributions()}
    return dict(sorted(found.items()))


def machine() -> dict[str, str]:
    """Python, operating system and processor."""
    return {
        "python": platform.python_version(),
        "implementation": sys.implementation.name,
        "platform": platform.platform(),
        "processor": _processor(),
    }


def _git(root: Path, *arguments: str) -> str | None:
    """What Git says, or None where it refuses or there is none."""
    try:
        done = subprocess.run(
            ["git", "--no-optional-locks", *arguments],
            cwd=root,
            # Those of a Git hook name another repository.
            env={name: value for name, value in os.environ.items() if name[:4] != "GIT_"},
            capture_output=True,
            text=True,
            encoding="utf-8",
            check=False,
        )
    except OSError:
        return None
    return done.stdout if done.returncode == 0 else None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()
