"""One file from its public origin, whole and with the SHA-256 that is expected."""

import http.client
import logging
import shutil
import ssl
import time
import urllib.error
import urllib.request
from pathlib import Path

from landmarkflow.core.errors import InputError
from landmarkflow.core.files import replacing
from landmarkflow.core.files import sha256 as sha256_of
from landmarkflow.engine.batch import Batch

ATTEMPTS = 5
# Before the second attempt, in seconds; each further pause is twice as long.
PAUSE_S = 2.0
# Seconds without a byte after which an attempt has failed.
TIMEOUT_S = 60
# What a broken connection raises; a full disk raises none of these.
BROKEN = (
    urllib.error.URLError,
    http.client.HTTPException,
    ssl.SSLError,
    TimeoutError,
    ConnectionError,
)

logger = logging.getLogger(__name__)


def fetch(url: str, sha256: str, output: Path) -> None:
    """Fetch a file; only the right content gets the name `output`.

    An attempt that ends early, and one whose content is wrong where the server stated no length
    to tell whether it ended early, is made again.

    Args:
        url: where the file lies.
        sha256: of the file, in hexadecimal digits.
        output: the file to write or replace.

    Raises:
        InputError: no attempt brought the whole file, or a whole file is another one.
    """
    with replacing(output) as beside:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                _attempt(url, sha256, beside)
            except BROKEN as error:
                logger.warning("%s: attempt %d of %d: %s", url, attempt, ATTEMPTS, error)
                if attempt == ATTEMPTS:
                    raise InputError(
                        f"{url}: cannot be fetched after {ATTEMPTS} attempts ({error})"
                    ) from None
                time.sleep(PAUSE_S * 2 ** (attempt - 1))
            else:
                return


def _attempt(url: str, sha256: str, path: Path) -> None:
    """Fetch once.

    Raises:
        ConnectionError: the file ended early, or may have.
        InputError: it is whole and another one than expected.
    """
    with urllib.request.urlopen(url, timeout=TIMEOUT_S) as source, path.open("wb") as file:
        shutil.copyfileobj(source, file)
        received, stated = file.tell(), source.headers.get("Content-Length")
    if stated is not None and received != int(stated):
        raise ConnectionError(f"ended after {received} of {stated} bytes")
    found = sha256_of(path)
    if found != sha256:
        wrong = f"has the SHA-256 {found}, expected {sha256}"
        raise ConnectionError(wrong) if stated is None else InputError(f"{url}: {wrong}")


def run(batch: Batch) -> None:
    """Fetch the one file that is asked for."""
    asked = batch.values["fetch"]
    (name,) = batch.scans
    fetch(asked["url"], asked["sha256"], batch.path("file", name))
