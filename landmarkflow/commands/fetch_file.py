"""Fetch one file from its public origin and check its SHA-256."""

import argparse
import logging
import shutil
import time
import urllib.error
import urllib.request
from pathlib import Path

from landmarkflow.core.errors import InputError
from landmarkflow.core.files import replacing, sha256
from landmarkflow.engine.arguments import add_paths

ATTEMPTS = 5
TIMEOUT_S = 60

logger = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--url", required=True)
    parser.add_argument("--sha256", required=True)
    add_paths(parser, "output")


def run(arguments: argparse.Namespace) -> None:
    """Fetch, with retries; only a file with the right content gets its name."""
    with replacing(arguments.output) as beside:
        _download(arguments.url, beside)
        found = sha256(beside)
        if found != arguments.sha256:
            raise InputError(
                f"{arguments.url}: has the SHA-256 {found}, expected {arguments.sha256}"
            )


def _download(url: str, path: Path) -> None:
    reason: object = None
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(2**attempt)
        try:
            with urllib.request.urlopen(url, timeout=TIMEOUT_S) as source, path.open("wb") as file:
                shutil.copyfileobj(source, file)
        except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
            reason = error
            logger.warning("%s: attempt %d of %d: %s", url, attempt + 1, ATTEMPTS, error)
        else:
            return
    raise InputError(f"{url}: cannot be fetched after {ATTEMPTS} attempts ({reason})")
