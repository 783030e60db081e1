import logging
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
import SimpleITK as sitk
from workflow_runs import TINY, copy_repository, run_workflow

sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None, database=None)
hypothesis.settings.load_profile("repeatable")


@pytest.fixture
def quiet() -> Iterator[None]:
    """Take away the log handlers that a command leaves behind."""
    yield
    logger = logging.getLogger("landmarkflow")
    for handler in list(logger.handlers):
        handler.close()
        logger.removeHandler(handler)


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository that nobody edits meanwhile, in a folder with a space."""
    return copy_repository(
        Path(__file__).parents[1], tmp_path_factory.mktemp("copy") / "my repository"
    )


@pytest.fixture(scope="session")
def tiny(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run of tests/studies/tiny.yaml; tests only read it."""
    folder = tmp_path_factory.mktemp("tiny")
    run = run_workflow(root, folder, "--configfile", TINY)
    assert run.status == 0, run.text
    return folder
