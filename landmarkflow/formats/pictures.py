"""Pictures (PNG, JPEG, TIFF) as volumes of one slice, whose millimetres are pixels.

The centre of the first pixel lies at (0, 0, 0), x goes along the rows and y down the columns.
"""

import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from landmarkflow.core.errors import InputError, about
from landmarkflow.core.grids import Grid
from landmarkflow.formats.scan_checks import LARGEST_BYTES, Opened, check_bytes
from landmarkflow.formats.scan_files import suffix_of
from landmarkflow.images.operations import image_on

_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".tif": "TIFF", ".tiff": "TIFF"}
# By Pillow's names of modes: grey as it is read, and what grey with transparency is without it.
_GREY = ("1", "L", "I", "F", "I;16", "I;16L", "I;16B")
_BYTES = {"1": 1, "L": 1, "I;16": 2, "I;16L": 2, "I;16B": 2}
_ORIENTATION = 274
# What Pillow raises about broken files.
_ERRORS: tuple[type[Exception], ...] = (OSError, SyntaxError, ValueError, EOFError, TypeError)
_ERRORS += (LookupError, ArithmeticError, struct.error, zlib.error, Image.DecompressionBombError)


def read_picture(path: Path, largest_bytes: int = LARGEST_BYTES) -> NDArray[Any]:
    """Reads a PNG, JPEG or TIFF file of one picture with its colours.

    Returns:
        (rows, columns, channels): one channel of grey in the file's own type or three of red,
        green and blue, uint8. Transparency is left out.

    Raises:
        InputError: The file is missing, broken or none of its suffix; holds several pictures; or
            is to be shown turned or mirrored.
    """
    with about(path), _opened(Path(path), largest_bytes) as picture:
        wanted = _mode_without_transparency(picture)
        values = _array(picture if picture.mode == wanted else picture.convert(wanted))
    return values.reshape(*values.shape[:2], -1)


def open_picture(path: Path, largest_bytes: int, *, labels: bool = False) -> Opened:
    """Reads the header of a picture, refusing what `read_picture` refuses, and colours as `labels`.

    The grid has the size (columns, rows, 1) and the spacing 1. Voxels are grey in the file's own
    type, or the luminance of colours, uint8.
    """
    with _opened(path, largest_bytes) as picture:
        grid = Grid((*picture.size, 1), np.ones(3), np.zeros(3), np.eye(3))
        if labels and _mode_without_transparency(picture) == "RGB":
            raise InputError("holds colours, expected a segmentation of grey labels")

    def read() -> NDArray[Any]:
        with _opened(path, largest_bytes) as picture:
            return _array(picture if picture.mode in _GREY else picture.convert("L"))

    return Opened(grid, lambda: image_on(grid, read()[None]))


def _mode_without_transparency(picture: Image.Image) -> str:
    if picture.mode in _GREY:
        return picture.mode
    return "L" if picture.mode in ("LA", "La") else "RGB"


def _array(picture: Image.Image) -> NDArray[Any]:
    values = np.asarray(picture)
    return values.astype(values.dtype.newbyteorder("="), copy=False)


@contextmanager
def _opened(path: Path, largest_bytes: int) -> Iterator[Image.Image]:
    """Opens a picture that may be read, and says in a sentence why another may not."""
    expected = _FORMATS[suffix_of(path)]
    try:
        with warnings.catch_warnings():
            # Pillow warns of large pictures and of what it repairs in a file's notes.
            warnings.simplefilter("ignore")
            if expected == "PNG":
                # Only this reads the checksums.
                with Image.open(path, formats=[expected]) as picture:
                    picture.verify()
            with Image.open(path, formats=[expected]) as picture:
                check_bytes(picture.size, _BYTES.get(picture.mode, 4), largest_bytes)
                _check_alone_and_upright(picture)
                yield picture
    except _ERRORS as error:
        raise InputError(f"cannot be read ({error}), expected a whole {expected} file") from None


def _check_alone_and_upright(picture: Image.Image) -> None:
    pictures = getattr(picture, "n_frames", 1)
    if pictures != 1:
        raise InputError(f"holds {pictures} pictures, expected one")
    orientation = picture.getexif().get(_ORIENTATION, 1)
    if orientation != 1:
        # Programs differ in whether they turn it, so points could be meant in either.
        raise InputError(
            f"states the EXIF orientation {orientation}, by which it is shown turned or "
            "mirrored; expected 1, pixels stored as they are shown"
        )
