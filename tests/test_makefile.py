"""What `make` asks of Snakemake; a stand-in for it prints its arguments, one a line."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
STUDY = "studies/mouse_skull.yaml"
THREE = ["seeds=1 2 3", "presets="]


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
    (tmp_path / "studies").mkdir()
    (tmp_path / STUDY).touch()
    shutil.copy(ROOT / "Makefile", tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["run"], []),
        (["run", "DATA=my scans"], ["--config", "data_folder={folder}/my scans"]),
        (["ablation"], ["--config", *THREE]),
        (["ablation", "SEEDS=4 5", "PRESETS=a b"], ["--config", "seeds=4 5", "presets=a b"]),
        (
            ["ablation", "STUDY=mouse_skull", "DATA=my scans"],
            ["--configfile", STUDY, "--config", "data_folder={folder}/my scans", *THREE],
        ),
    ],
)
def test_make_passes_its_variables_on(
    folder: Path, options: list[str], expected: list[str]
) -> None:
    names = ("STUDY", "WITH", "DATA", "CORES", "SEEDS", "PRESETS")
    names += ("SNAKEMAKE_OPTIONS", "MAKEFLAGS")
    environment = {name: value for name, value in os.environ.items() if name not in names}
    done = subprocess.run(
        ["make", *options], cwd=folder, env=environment, capture_output=True, text=True, check=True
    )
    found = [line[2:] for line in done.stdout.splitlines() if line.startswith("> ")]
    target = ["ablation"] if options[0] == "ablation" else []
    expected = [part.format(folder=folder) for part in expected]
    assert found == [*target, "--cores", "all", *expected]
