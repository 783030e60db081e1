import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest

from landmarkflow.core.machine import ROOT, machine, packages, repository

AUTHOR = ("-c", "user.name=Somebody", "-c", "user.email=somebody@example.org")


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", *AUTHOR, *arguments], cwd=folder, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


@pytest.fixture
def committed(tmp_path: Path) -> Path:
    """A repository with a commit of its code, its settings and a study."""
    for name in ("Snakefile", "landmarkflow/files.py", "workflow/rules/data.smk", "config.yaml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("first\n")
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "--message", "All")
    return tmp_path


def test_a_clean_repository_is_its_commit(committed: Path) -> None:
    assert repository(committed) == {"commit": git(committed, "rev-parse", "HEAD"), "changed": []}


def test_the_repository_is_where_the_snakefile_lies() -> None:
    assert (ROOT / "Snakefile").is_file()


def test_code_that_differs_from_the_commit_is_named(committed: Path) -> None:
    (committed / "landmarkflow/files.py").write_text("second\n")
    (committed / "landmarkflow/new.py").write_text("first\n")
    (committed / "workflow/rules/data.smk").unlink()
    found = repository(committed)["changed"]
    assert set(found) == {
        "landmarkflow/files.py",
        "landmarkflow/new.py",
        "workflow/rules/data.smk",
    }


def test_what_is_no_code_changes_nothing(committed: Path) -> None:
    (committed / "config.yaml").write_text("second\n")
    (committed / "studies").mkdir()
    (committed / "studies/mine.yaml").write_text("study: mine\n")
    assert repository(committed)["changed"] == []


def test_the_commit_is_unknown_outside_a_repository(tmp_path: Path) -> None:
    (tmp_path / "Snakefile").touch()
    assert repository(tmp_path) == {"commit": "unknown", "changed": None}


def test_the_commit_of_another_repository_around_it_is_not_taken(committed: Path) -> None:
    (committed / "copied").mkdir()
    (committed / "copied/Snakefile").touch()
    assert repository(committed / "copied") == {"commit": "unknown", "changed": None}


def test_the_commit_is_unknown_without_git(
    committed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    assert repository(committed) == {"commit": "unknown", "changed": None}


def test_the_repository_of_a_hook_s_environment_is_not_taken(
    committed: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path_factory.mktemp("other")
    (other / "Snakefile").touch()
    monkeypatch.setenv("GIT_DIR", str(committed / ".git"))
    assert repository(other)["commit"] == "unknown"


def test_packages_and_machine_are_those_of_this_process() -> None:
    assert packages()["numpy"] == version("numpy")
    assert list(packages()) == sorted(packages())
    assert all(machine().values())
