"""A study as the command line names it."""

import sys
from pathlib import Path
from typing import Any

from landmarkflow.core.errors import InputError
from landmarkflow.core.settings import merged
from landmarkflow.registry import METHODS, STAGES
from landmarkflow.study.runs import read_yaml
from landmarkflow.workflow.configured import study_of
from landmarkflow.workflow.rules import Workflow

# The repository: the Snakefile, its rules and the studies lie beside the package.
ROOT = Path(__file__).parents[2]
RESULTS = Path("results")
# What a user types: `make` installs no command into .venv, where this one works as well.
PROGRAM = "python -m landmarkflow"
DEFAULT = "cochlea"
YAML = (".yaml", ".yml")


def file_of(study: str) -> Path:
    """The file of a study: itself a path to a .yaml file, or a name in studies/.

    Raises:
        InputError: there is no such file, or the package lies without its repository.
    """
    if not (ROOT / "Snakefile").is_file():
        raise InputError(
            f"{ROOT}: holds no Snakefile, expected the repository of landmarkflow: run it from a "
            "checkout"
        )
    if study == DEFAULT:
        return ROOT / "config.yaml"
    given = Path(study)
    path = given if given.suffix in YAML else ROOT / "studies" / f"{study}.yaml"
    if not path.is_file():
        raise InputError(f"the study {study}: there is no file {path}")
    return path


def options_of(data: str, seeds: str) -> dict[str, str]:
    """What the command line says beside the study's file, as settings.

    Raises:
        InputError: there is no such folder.
    """
    found = {}
    if data:
        if not Path(data).is_dir():
            raise InputError(f"--data {data}: there is no such folder")
        found["data_folder"] = str(Path(data).resolve())
    if seeds:
        found["seeds"] = seeds
    return found


def workflow_of(study: str, data: str = "", seeds: str = "") -> Workflow:
    """The workflow of a study, put together as the Snakefile does it; its scans are not opened.

    Raises:
        InputError: anything in it is wrong, in one sentence.
    """
    settings: dict[str, Any] = merged(read_yaml(file_of(study)), options_of(data, seeds))
    found = study_of(settings, METHODS, RESULTS, ROOT / "studies", tell)
    return Workflow(found, METHODS, STAGES, RESULTS)


def tell(line: str) -> None:
    """Say on stderr what is not wrong and should be known."""
    sys.stderr.write(f"landmarkflow: {InputError(line)}\n")


def say(line: str) -> None:
    """Write a line of a command's answer."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
