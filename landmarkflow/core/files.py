"""Files written whole or not at all, and JSON read strictly."""

import csv
import errno
import hashlib
import io
import json
import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from landmarkflow.core.errors import InputError

# Of a table or a JSON file: what it unpacks to in memory can be twenty times as much.
LARGEST_TEXT_BYTES = 16 * 1024 * 1024
# Of a scan's folder: a study of a day has a tenth of this.
MOST_FILES, DEEPEST_FOLDERS = 100_000, 16
# A float holds no more.
MOST_DIGITS = 300


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a path beside `path`, to be written to, that becomes `path` when the block succeeds.

    Readers see the old file or the new one, never a part of one. The name ends with the whole name
    of `path`, for writers that choose a format by suffix. The folder is created when needed; a
    block that writes nothing is a FileNotFoundError.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{secrets.token_hex(4)}.{path.name}")
    try:
        yield temporary
        # Without the flush to disk a crash of the machine can leave the new name on an empty file.
        with temporary.open("rb+") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def cut_short(path: Path) -> OSError:
    """Returns what to raise where a writer left a part of a file without a word."""
    return OSError(errno.ENOSPC, "was not written whole, the disk may be full", str(path))


def write_text(path: Path, text: str) -> None:
    """Writes `text` as UTF-8 with the line ends it has, replacing `path` as a whole."""
    with replacing(path) as temporary:
        temporary.write_bytes(text.encode("utf-8"))


def table_text(rows: Iterable[Iterable[object]], delimiter: str = ",") -> str:
    """Returns rows, a header first if there is one, as the text of a CSV or TSV file."""
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, lineterminator="\n").writerows(rows)
    return text.getvalue()


def write_json(path: Path, data: Any) -> None:
    """Writes plain data as indented JSON with its keys in their own order, replacing `path`.

    A number that is NaN or infinite is a ValueError: JSON has no way to write it.
    """
    write_text(path, json.dumps(data, indent=1, allow_nan=False, ensure_ascii=False) + "\n")


def read_text(path: Path, expected: str) -> str:
    """Reads a UTF-8 file, with or without a byte order mark, each line end as a line feed.

    Raises:
        InputError: The file is missing, no regular file, unreadable, larger than 16 MB or no
            UTF-8; its sentence says what was `expected`, such as "a JSON file".
    """
    path = Path(path)
    try:
        if path.exists() and not path.is_file():
            # A pipe would wait forever and a device never end.
            found = "cannot be read (no regular file)"
        elif (size := path.stat().st_size) > LARGEST_TEXT_BYTES:
            found = f"holds {size} bytes"
            expected += f" of at most {LARGEST_TEXT_BYTES} bytes"
        else:
            return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        found = "no such file"
    except OSError as error:
        found = f"cannot be read ({error.strerror})"
    except UnicodeDecodeError as error:
        found = f"byte {error.start} is not UTF-8 text"
    raise InputError(f"{path}: {found}, expected {expected}")


def read_json(path: Path) -> Any:
    """Reads a JSON file strictly.

    Raises:
        InputError: The file is one that `read_text` refuses or not valid JSON, repeats a key
            within one object, or holds the literals NaN or Infinity.
    """
    text = read_text(path, "a JSON file")
    try:
        return json.loads(
            text, object_pairs_hook=_unique_keys, parse_constant=_refused, parse_int=_whole_number
        )
    except json.JSONDecodeError as error:
        found = f"line {error.lineno}, column {error.colno} is not valid JSON ({error.msg})"
    except RecursionError:
        found = "is nested too deeply, expected a few levels of JSON"
    except ValueError as error:
        found = str(error)
    raise InputError(f"{path}: {found}")


def files_below(folder: Path) -> list[Path]:
    """Returns the regular files of a folder and of all folders below it, sorted by their paths.

    What begins with a dot is left out. Links to folders are followed, each folder once, so that
    none that leads back up is walked round and round.

    Raises:
        InputError: A folder cannot be read, or there are more folders in each other, or more files,
            than a scan has.
    """
    found: list[Path] = []
    seen: set[tuple[int, int]] = set()
    waiting = [(Path(folder), 0)]
    try:
        while waiting:
            place, depth = waiting.pop()
            status = place.stat()
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            if depth > DEEPEST_FOLDERS:
                raise InputError(
                    f"{place}: lies {depth} folders below {folder}, expected at most "
                    f"{DEEPEST_FOLDERS}"
                )
            for path in place.iterdir():
                if path.name.startswith("."):
                    continue
                if path.is_dir():
                    waiting.append((path, depth + 1))
                elif path.is_file():
                    found.append(path)
            if len(found) > MOST_FILES:
                raise InputError(
                    f"{folder}: holds more than {MOST_FILES} files, expected the folder of one scan"
                )
    except OSError as error:
        raise InputError(
            f"{error.filename}: cannot be read ({error.strerror}), expected leave to read it"
        ) from None
    return sorted(found)


def check_readable(path: Path) -> None:
    """Refuses a file, or a folder one of whose files, the machine does not let be read.

    What is wrong with a file's content is recorded as such and stands until the file changes; what
    the machine forbids or fails to do can be mended without that.
    """
    path = Path(path)
    try:
        for file in files_below(path) if path.is_dir() else [path]:
            if file.is_file():
                file.open("rb").close()
    except OSError as error:
        raise InputError(
            f"{error.filename}: cannot be read ({error.strerror}), expected leave to read it"
        ) from None


def stamp(paths: Iterable[Path], apart_from: Path) -> str:
    """Returns what tells that files were replaced, without reading them: sizes and times.

    Files that do not exist do not count, nor do those in the folder `apart_from`, since whatever
    makes them is known.
    """
    seen = []
    for path in paths:
        if path.exists() and not path.is_relative_to(apart_from):
            status = path.stat()
            times = (status.st_mtime_ns, status.st_ctime_ns)
            seen.append(f"{path.name} {status.st_size} {times}")
    return hashlib.sha256("\n".join(seen).encode()).hexdigest()[:16] if seen else ""


def sha256(path: Path) -> str:
    """Returns the SHA-256 digest of a file's bytes as 64 lower-case hexadecimal digits.

    A folder's is that of its files' names and digests. What cannot be read is refused.
    """
    path = Path(path)
    if path.is_dir():
        return sha256_of_all(files_below(path))
    try:
        if path.exists() and not path.is_file():
            raise InputError(f"{path}: cannot be read (no regular file), expected a file")
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None


def sha256_of_all(files: Iterable[Path]) -> str:
    """Returns the digest, as in `sha256`, of the names and digests of files, in their order."""
    listing = "".join(f"{file.name} {sha256(file)}\n" for file in files)
    return hashlib.sha256(listing.encode()).hexdigest()


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in pairs:
        if key in result:
            raise ValueError(f'the key "{key}" stands twice in one object, expected once')
        result[key] = value
    return result


def _whole_number(digits: str) -> int:
    if (count := len(digits)) > MOST_DIGITS:
        raise ValueError(f"holds a whole number of {count} digits, expected at most {MOST_DIGITS}")
    return int(digits)


def _refused(name: str) -> Any:
    raise ValueError(f"holds the number {name}, expected finite numbers")
