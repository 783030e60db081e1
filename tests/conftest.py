import logging
from collections.abc import Iterator

import hypothesis
import pytest
import SimpleITK as sitk

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
