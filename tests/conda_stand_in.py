"""Stands in for conda where there is none: makes environments of a file's pip pins, and no more.

`install` writes a program `conda` that answers what Snakemake asks it. An environment is a virtual
environment of the Python that runs the tests, with the file's pins and nothing that they need but
do not name; or, without `packages`, a folder whose Python is that of the tests.
"""

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

ACTIVATE = """export CONDA_PREFIX="$1"
export PATH="$1/bin:$PATH"
"""


def install(folder: Path, *, packages: bool) -> Path:
    """Writes the program and its script `activate`; returns the folder of both."""
    programs = folder / "bin"
    programs.mkdir(parents=True)
    command = [sys.executable, __file__, str(folder), "packages" if packages else "none"]
    (programs / "conda").write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n')
    (programs / "conda").chmod(0o755)
    (programs / "activate").write_text(ACTIVATE)
    return programs


def pins(environment: dict[str, Any]) -> list[str]:
    """Exact pip pins of an environment file that has nothing else but Python and pip."""
    assert environment["channels"] == ["conda-forge"]
    python, pip, packages = environment["dependencies"]
    assert (python, pip) == ("python=3.11", "pip")
    pinned: list[str] = packages["pip"]
    return pinned


def create(file: Path, prefix: Path, *, packages: bool) -> None:
    """Makes an environment."""
    wanted = pins(yaml.safe_load(file.read_text(encoding="utf-8")))
    if not packages:
        (prefix / "bin").mkdir(parents=True)
        (prefix / "bin/python").write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
        (prefix / "bin/python").chmod(0o755)
        return
    base = Path(sys.executable).resolve()
    run(base, "-m", "venv", "--without-pip", prefix)
    pip: list[object] = [sys.executable, "-m", "pip", "--python", prefix / "bin/python"]
    pip += ["--no-input", "--disable-pip-version-check", "--quiet"]
    run(*pip, "install", "--no-compile", "--no-deps", *wanted)
    run(*pip, "check")


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")


def run(*command: object) -> None:
    subprocess.run([str(part) for part in command], check=True)


def main(folder: str, packages: str, *arguments: str) -> None:
    """Answers one call of conda."""
    match arguments:
        case ("info", "--json"):
            say(json.dumps({"conda_prefix": folder, "platform": "linux-64"}))
        case ("--version",):
            say("conda 25.9.1")
        case ("config", "--get", "channel_priority", "--json"):
            say(json.dumps({"get": {"channel_priority": "strict"}}))
        case ("env", "create", "--quiet", "--no-default-packages", "--file", file, "--prefix", to):
            create(Path(file), Path(to), packages=packages == "packages")
        case ("clean", *_):
            pass  # Nothing is kept.
        case _:
            sys.exit(f"conda's stand-in does not know: {arguments}")


if __name__ == "__main__":
    main(*sys.argv[1:])
