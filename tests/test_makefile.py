"""What `make` asks of Snakemake; a stand-in for it prints its arguments, one a line."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
STUDY = "studies/mouse_skull.yaml"
BEST = "studies/mouse_skull_best.yaml"
MINE = "my studies/mine.yaml"
THREE = "seeds=1 2 3"
VARIABLES = (
    "STUDY",
    "WITH",
    "DATA",
    "CORES",
    "SEEDS",
    "SNAKEMAKE_OPTIONS",
    "MAKEFLAGS",
    "MAKELEVEL",
    "MFLAGS",
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the Makefile, a study, scans, and an environment that is there already."""
    for name in ("envs/create.sh", "bin/snakemake"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text("#!/bin/sh\nprintf '> %s\\n' \"$@\"\n", encoding="utf-8")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "envs/create.sh").write_text("#!/bin/sh\n", encoding="utf-8")
    activate = tmp_path / ".venv/bin/activate"
    activate.parent.mkdir(parents=True)
    activate.write_text('PATH="$PWD/bin:$PATH"\n', encoding="utf-8")
    (tmp_path / "my scans").mkdir()
    for name in ("config.yaml", STUDY, BEST, MINE):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        text = f"# A study.\nstudy: {Path(name).stem}  # its name\n"
        (tmp_path / name).write_text(text, encoding="utf-8")
    shutil.copy(ROOT / "Makefile", tmp_path)
    return tmp_path


def make(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """What `make` says, without the variables that the tests' own environment has."""
    environment = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    command = ["make", *options]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def asked(done: subprocess.CompletedProcess[str]) -> list[str]:
    """The arguments that Snakemake was given."""
    assert done.returncode == 0, done.stderr
    return [line[2:] for line in done.stdout.splitlines() if line.startswith("> ")]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["run"], []),
        (["run", "DATA=my scans"], ["--config", "data_folder={folder}/my scans"]),
        (["run", "SEEDS=4 5"], ["--config", "seeds=4 5"]),
        (["run", "STUDY=mouse_skull"], ["--configfile", STUDY]),
        (["run", "STUDY=mouse_skull", "WITH=best"], ["--configfile", BEST]),
        (["run", f"STUDY={STUDY}", "WITH=best"], ["--configfile", BEST]),
        (["run", f"STUDY={MINE}"], ["--configfile", MINE]),
        (["ablation"], ["--config", THREE]),
        (["ablation", "SEEDS=4 5"], ["--config", "seeds=4 5"]),
        (
            ["ablation", "STUDY=mouse_skull", "DATA=my scans"],
            ["--configfile", STUDY, "--config", "data_folder={folder}/my scans", THREE],
        ),
    ],
)
def test_make_passes_its_variables_on(
    folder: Path, options: list[str], expected: list[str]
) -> None:
    expected = [part.format(folder=folder) for part in expected]
    assert asked(make(folder, *options)) == ["--cores", "all", *expected]


@pytest.mark.parametrize(
    ("options", "study"), [([], "config"), (["STUDY=mouse_skull", "WITH=best"], "mouse_skull_best")]
)
def test_an_ablation_says_where_its_table_lies(
    folder: Path, options: list[str], study: str
) -> None:
    said = make(folder, "ablation", *options).stdout
    assert said.endswith(f"What each step is worth: results/{study}/steps.md\n")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["STUDY=mice"], "STUDY=mice: there is no file studies/mice.yaml."),
        (["WITH=best"], "STUDY=cochlea WITH=best: there is no file studies/cochlea_best.yaml."),
        (["DATA=other scans"], "DATA=other scans: there is no such folder."),
    ],
)
def test_what_is_not_there_is_said(folder: Path, options: list[str], said: str) -> None:
    done = make(folder, "run", *options)
    assert done.returncode == 2
    assert done.stderr.startswith(f"landmarkflow: {said}\n")


def test_help_names_every_target_for_people(folder: Path) -> None:
    text = (folder / "Makefile").read_text(encoding="utf-8")
    targets = text.partition(".PHONY: ")[2].partition("\n")[0].split()
    said = make(folder, "help").stdout
    assert [t for t in targets if f"make {t} " not in said] == ["help", "check", "pytest"]
