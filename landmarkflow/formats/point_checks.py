"""What every reader of points checks: frames, labels and positions."""

import math
import re
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from landmarkflow.core.errors import InputError
from landmarkflow.core.points import Landmarks

# Of points in 3D in millimetres, or in a picture: x along its rows and y down its columns, the
# centre of the first pixel at (0, 0).
Frame = Literal["LPS", "RAS", "pixels"]

# What x, y, z are multiplied by to get the frame of the scan's volume: LPS, or pixels.
_SIGNS: dict[Frame, tuple[float, float, float]] = {
    "LPS": (1.0, 1.0, 1.0),
    "RAS": (-1.0, -1.0, 1.0),
    "pixels": (1.0, 1.0, 1.0),
}
# 0 and 1 are what older versions of 3D Slicer wrote.
_STATED: dict[str, Frame] = {
    "LPS": "LPS",
    "RAS": "RAS",
    "0": "RAS",
    "1": "LPS",
    "PIXELS": "pixels",
}
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
# Control characters, which would break lines and tables, and halves of characters.
_UNPRINTABLE = ("Cc", "Cs")


def frame_of(path: Path, stated: str | None, given: Frame | None) -> Frame:
    """Returns the frame of a file's points, once file and caller agree.

    Args:
        path: The file, for messages.
        stated: What the file says.
        given: What the caller says.

    Raises:
        InputError: Nobody states the frame, both do and differ, or the file's is unknown.
    """
    frame = given
    if stated is not None:
        frame = _STATED.get(stated.strip().upper())
        if frame is None:
            raise InputError(
                f"{path}: states the frame {shown(stated)}, expected LPS, RAS or pixels"
            )
        if given is not None and given != frame:
            raise InputError(
                f"{path}: states the frame {frame}, but {given} was said to be its "
                "frame; expected them to agree"
            )
    if frame is None:
        raise InputError(f"{path}: does not state its frame, expected LPS, RAS or pixels")
    return frame


def label_of(where: str, value: Any) -> str:
    """Returns a label without spaces around it.

    Raises:
        InputError: It is no text or holds control characters.
    """
    if not isinstance(value, str) or any(
        unicodedata.category(letter) in _UNPRINTABLE for letter in value
    ):
        raise InputError(
            f"{where} has the label {shown(value)}, expected text without control characters"
        )
    return value.strip()


def number_of(value: Any) -> float:
    """Returns a number of a JSON file, NaN for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return math.nan
    return float(value)


def number_of_text(text: str) -> float:
    """Returns a number of a table, NaN for anything else; Python's own 1_000 is none."""
    return float(text) if _NUMBER.fullmatch(text) else math.nan


def position_of(
    where: str,
    value: Any,
    number_of: Callable[[Any], float] = number_of,
    *,
    in_picture: bool = False,
) -> list[float]:
    """Returns x, y, z of a list of numbers; in a picture of x and y, and z is 0.

    Raises:
        InputError: It is no list of so many finite numbers.
    """
    count = 2 if in_picture else 3
    if isinstance(value, list) and len(value) == count:
        numbers = [number_of(part) for part in value]
        if all(math.isfinite(number) for number in numbers):
            return [*numbers, 0.0][:3]
    raise InputError(
        f"{where} has the position {shown(value)}, expected {('two', 'three')[count - 2]} finite "
        "numbers"
    )


def landmarks_of(
    path: Path, labels: Sequence[str], rows: Sequence[Sequence[float]], frame: Frame
) -> Landmarks:
    """Returns points of a file as landmarks in the frame of the scan's volume.

    Raises:
        InputError: There are none, or a label is empty or repeated.
    """
    if not labels:
        raise InputError(f"{path}: holds no points, expected at least one landmark")
    try:
        # Adding zero turns the -0.0 that a change of sign can leave into 0.0.
        positions: NDArray[np.float64] = np.array(rows, dtype=np.float64) * _SIGNS[frame] + 0.0
        return Landmarks(tuple(labels), positions)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def shown(value: Any) -> str:
    """Returns a value as text for a message, cut where it is long."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
