"""NiiVue, the viewer of the page: one file of its npm package, fetched once and checked.

NiiVue is BSD-2-Clause. It is not copied into this repository: its package lies in the user's cache
and is used only while its content is the one that is stated here.
"""

import hashlib
import io
import os
import tarfile
import urllib.error
import urllib.request
from pathlib import Path

from landmarkflow.core.errors import InputError
from landmarkflow.core.files import replacing

VERSION = "0.69.0"
NAME = f"niivue-{VERSION}.tgz"
URL = f"https://registry.npmjs.org/@niivue/niivue/-/{NAME}"
SHA256 = "6e9a6a471b428eb3b258a0086beca9187d95e43a781a39e8a519c6da246af485"
BUNDLE = "package/dist/index.js"
# Of what is sent in the package's place; the package holds 7 MB.
LARGEST_BYTES = 32 << 20
TIMEOUT_S = 30


def bundle(given: Path | None = None, url: str = URL) -> bytes:
    """NiiVue as one JavaScript module.

    Args:
        given: its package as a file; None to take the one in the cache, or fetch it.
        url: where it is fetched.

    Raises:
        InputError: the file is another one, or the package cannot be fetched.
    """
    if given is not None:
        return _bundle_in(_checked(_read(given), str(given)))
    cached = cache() / NAME
    if cached.is_file() and hashlib.sha256(content := _read(cached)).hexdigest() == SHA256:
        return _bundle_in(content)
    content = _checked(_fetched(url), url)
    with replacing(cached) as beside:
        beside.write_bytes(content)
    return _bundle_in(content)


def cache() -> Path:
    """The user's folder for what can be fetched again."""
    stated = os.environ.get("XDG_CACHE_HOME", "")
    # The standard says that a relative path there is to be ignored.
    base = Path(stated) if Path(stated).is_absolute() else Path.home() / ".cache"
    return base / "landmarkflow"


def _fetched(url: str) -> bytes:
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as source:
            content: bytes = source.read(LARGEST_BYTES)
    except (urllib.error.URLError, OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise InputError(
            f"{url}: cannot be fetched ({reason}): fetch it where there is a network and name the "
            "file with --niivue"
        ) from None
    return content


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(LARGEST_BYTES)
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror}), expected the package of {URL}"
        ) from None


def _checked(content: bytes, where: str) -> bytes:
    found = hashlib.sha256(content).hexdigest()
    if found != SHA256:
        raise InputError(f"{where}: has the SHA-256 {found}, expected {SHA256} of {URL}")
    return content


def _bundle_in(content: bytes) -> bytes:
    """The one file that is used, read in memory: nothing is unpacked onto the disk."""
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as archive:
        member = archive.extractfile(BUNDLE)
        assert member is not None  # the content is known by its digest
        return member.read()
