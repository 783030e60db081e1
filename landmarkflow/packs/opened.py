"""Opens a pack: every byte is checked before anything in it is used."""

import hashlib
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

from landmarkflow.core.errors import InputError, about
from landmarkflow.engine.stage import Stage
from landmarkflow.packs.contents import NAME, Contents, contents_of

# A pack of a study's own sizes holds some tens of MB; more is a mistake, or meant to fill a disk.
LARGEST_BYTES = 4 << 30
LARGEST_CONTENTS_BYTES = 16 << 20
_CHUNK_BYTES = 1 << 20
_ERRORS = (OSError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError)


def unpack(path: Path, folder: Path, stages: Mapping[str, Stage]) -> Contents:
    """Check a pack and write its files below a folder, as a study's results have them.

    Args:
        path: the pack.
        folder: an empty folder.
        stages: every stage by its command.

    Raises:
        InputError: the file is missing, no pack, damaged, too large, or holds other files than it
            states.
    """
    with about(path):
        if not path.is_file():
            raise InputError("no such file, expected a pack of `landmarkflow pack`")
        try:
            with zipfile.ZipFile(path) as archive:
                return _unpacked(archive, folder, stages)
        except InputError:
            raise
        except _ERRORS as error:
            raise InputError(
                f"cannot be read ({error}), expected a pack of `landmarkflow pack`"
            ) from None


def _unpacked(archive: zipfile.ZipFile, folder: Path, stages: Mapping[str, Stage]) -> Contents:
    names = archive.namelist()
    if NAME not in names:
        raise InputError(f"holds no {NAME}, expected a pack of `landmarkflow pack`")
    if archive.getinfo(NAME).file_size > LARGEST_CONTENTS_BYTES:
        raise InputError(f"{NAME} is larger than {LARGEST_CONTENTS_BYTES} bytes")
    with archive.open(NAME) as stored:
        text = stored.read(LARGEST_CONTENTS_BYTES + 1)
    contents = contents_of(text, stages)
    if sorted(names) != sorted([NAME, *contents.files]):
        other = sorted(set(names) ^ {NAME, *contents.files}) or ["a name twice"]
        raise InputError(f"holds other files than {NAME} states, such as {other[0]}")
    total = sum(file.size for file in contents.files.values())
    if total > LARGEST_BYTES:
        raise InputError(f"unpacks to {total} bytes, expected at most {LARGEST_BYTES}")
    for name, file in contents.files.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        _copy(archive, name, target, file.size, file.sha256)
    return contents


def _copy(archive: zipfile.ZipFile, name: str, target: Path, size: int, sha256: str) -> None:
    """Copies a file of the archive, never more bytes than it should hold."""
    digest, left = hashlib.sha256(), size
    with archive.open(name) as stored, target.open("xb") as written:
        while chunk := stored.read(min(_CHUNK_BYTES, left + 1)):
            left -= len(chunk)
            if left < 0:
                break
            digest.update(chunk)
            written.write(chunk)
    if left or digest.hexdigest() != sha256:
        raise InputError(f"{name} is not what {NAME} states of it: the pack is damaged")
