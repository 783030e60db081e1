"""Rules in the conda environments of their own, as `--use-conda` makes them."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import conda_stand_in
import pytest
import yaml
from workflow_runs import TINY, copy_repository, run_workflow

ENVIRONMENTS = ("elastix", "imaging", "report", "torch")
# Two ears, and elastix, which the other settings never load.
FEWER = {
    "batch_scans": 2,
    "data": {"cohort": {"scans": 2, "evaluated": 2}},
    "oneshot": {"deform": {"method": "elastix", "elastix": {"resolutions": 1, "iterations": 50}}},
}


def asked_for(folder: Path) -> list[str]:
    """What the files said that conda made environments of."""
    files = (folder / ".snakemake/conda").glob("*.yaml")
    return sorted(path.read_text(encoding="utf-8") for path in files)


def of_the_repository(root: Path) -> list[str]:
    return sorted((root / f"envs/{name}.yaml").read_text("utf-8") for name in ENVIRONMENTS)


@pytest.fixture
def conda(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Puts the stand-in of conda on the path."""

    def install(packages: bool) -> None:
        programs = conda_stand_in.install(tmp_path / "conda", packages=packages)
        monkeypatch.setenv("PATH", str(programs), prepend=os.pathsep)

    # Packages are compiled when they are first imported, and only then.
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    return install


def test_rules_name_their_environments_from_wherever_snakemake_is_called(
    root: Path, tmp_path: Path, conda: Callable[[bool], None]
) -> None:
    conda(False)
    repository = copy_repository(root, tmp_path / "a copy")
    options = ("--use-conda", "--conda-create-envs-only")
    programs = Path(sys.executable).parent
    command = [str(programs / "snakemake"), "--cores", "8", *options]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert asked_for(repository) == of_the_repository(root)

    elsewhere = tmp_path / "else where"
    elsewhere.mkdir()
    run = run_workflow(root, elsewhere, *options)
    assert run.status == 0, run.text
    assert asked_for(elsewhere) == of_the_repository(root)


def test_jobs_in_an_environment_find_the_package(
    root: Path, tmp_path: Path, conda: Callable[[bool], None]
) -> None:
    """Snakemake takes PYTHONPATH from them; the working directory is another than the package's."""
    conda(False)
    options = ("--configfile", TINY, "--use-conda", "--until", "simulate_scan")
    run = run_workflow(root, tmp_path, *options)
    assert run.status == 0, run.text
    assert "Activating conda environment" in run.text
    assert (tmp_path / "results/tiny/work/data/landmarks/template.mrk.json").exists()


@pytest.mark.slow
@pytest.mark.skipif(
    not os.environ.get("INSTALL_ENVIRONMENTS"),
    reason="installs all packages of all environments: make environments-test",
)
def test_a_study_runs_in_environments_of_their_pins_alone(
    root: Path, tmp_path: Path, conda: Callable[[bool], None]
) -> None:
    conda(True)
    fewer = tmp_path / "fewer.yaml"
    fewer.write_text(yaml.safe_dump(FEWER), encoding="utf-8")
    options = ("--configfile", TINY, fewer, "--use-conda")
    made = run_workflow(root, tmp_path, *options, "--conda-create-envs-only")
    assert made.status == 0, made.text
    assert asked_for(tmp_path) == of_the_repository(root)
    run = run_workflow(root, tmp_path, *options)
    assert run.status == 0, run.text
    assert (tmp_path / "results/tiny/report.html").stat().st_size > 10_000
