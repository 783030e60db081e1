import fcntl
import logging
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest
import SimpleITK as sitk
from workflow_runs import TINY, copy_repository, run_workflow

sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None, database=None)
hypothesis.settings.load_profile("repeatable")

# What the run of the tiny study said on the console, in its folder.
SAID = "said.txt"
# These take minutes: started first, no process waits for the last of them.
LONG = [
    "test_slurm",
    "test_bare_environments",
    "test_interruptions",
    "test_workflow",
    "test_runs",
    "test_methods",
    "test_given_scans",
    "test_cut_scans",
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first."""
    places = {name: place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: places.get(item.path.stem, len(LONG)))


@pytest.fixture
def quiet() -> Iterator[None]:
    """Take away the log handlers that a command leaves behind."""
    yield
    logger = logging.getLogger("landmarkflow")
    for handler in list(logger.handlers):
        handler.close()
        logger.removeHandler(handler)


@pytest.fixture(scope="session")
def once(
    tmp_path_factory: pytest.TempPathFactory, worker_id: str
) -> Callable[[str, Callable[[Path], None]], Path]:
    """Makes a folder once for all of pytest's processes; the others wait for it."""
    base = tmp_path_factory.getbasetemp()
    shared = base if worker_id == "master" else base.parent

    def make(name: str, fill: Callable[[Path], None]) -> Path:
        folder, made = shared / name, shared / f"{name}.made"
        with (shared / f"{name}.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not made.exists():
                shutil.rmtree(folder, ignore_errors=True)
                fill(folder)
                made.touch()
        return folder

    return make


@pytest.fixture(scope="session")
def root(once: Callable[[str, Callable[[Path], None]], Path]) -> Path:
    """A copy of the repository that nobody edits meanwhile, in a folder with a space."""

    def copy(folder: Path) -> None:
        copy_repository(Path(__file__).parents[1], folder)

    return once("my repository", copy)


@pytest.fixture(scope="session")
def tiny(root: Path, once: Callable[[str, Callable[[Path], None]], Path]) -> Path:
    """The folder of a finished run of tests/studies/tiny.yaml; tests only read it."""

    def run_it(folder: Path) -> None:
        run = run_workflow(root, folder, "--configfile", TINY)
        assert run.status == 0, run.text
        (folder / SAID).write_text(run.stdout + run.stderr, encoding="utf-8")

    return once("tiny", run_it)
