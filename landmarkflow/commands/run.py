"""`landmarkflow run`: a study from scans to report, by Snakemake."""

import os
import shlex
import sys
from collections.abc import Sequence

from landmarkflow.commands.studies import DEFAULT, ROOT, file_of, options_of, say


def run(study: str, data: str, seeds: str, cores: str, more: Sequence[str]) -> int:
    """Become Snakemake, with the options that the study needs; results go to ./results.

    Args:
        study: name of a study, or path of its file.
        data: folder of scans, empty where the study says it.
        seeds: seeds with which each run is made, separated by spaces; empty for its own.
        cores: how many, or `all`.
        more: options for Snakemake.

    Raises:
        InputError: there is no such study or folder.
    """
    command = command_of(study, data, seeds, cores, more)
    say(shlex.join(command))
    os.execv(sys.executable, [sys.executable, "-m", *command])


def command_of(study: str, data: str, seeds: str, cores: str, more: Sequence[str]) -> list[str]:
    """Snakemake's command for a study."""
    command = ["snakemake", "--snakefile", str(ROOT / "Snakefile"), "--cores", cores, *more]
    if study != DEFAULT:
        command += ["--configfile", str(file_of(study))]
    if options := options_of(data, seeds):
        command += ["--config", *(f"{name}={value}" for name, value in options.items())]
    return command
