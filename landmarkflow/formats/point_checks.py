"""What every reader of points checks, and says after the file's name: frames, labels, positions."""

import math
import re
import unicodedata
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

from landmarkflow.core.errors import InputError
from landmarkflow.core.points import Landmarks

# Of points in 3D in millimetres, or in a picture: x along its rows and y down its columns, the
# centre of the first pixel at (0, 0).
Frame = Literal["LPS", "RAS", "pixels"]

# 0 and 1 are what older versions of 3D Slicer wrote.
_STATED: dict[str, Frame] = {"LPS": "LPS", "RAS": "RAS", "0": "RAS", "1": "LPS", "PIXELS": "pixels"}
# By the status of a point, for which tables have a number; 1 is one that was not placed yet.
_MISSING = {"undefined": True, "0": True, "defined": False, "2": False, "missing": True, "3": True}
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
# Control characters, which would break lines and tables, and halves of characters.
_UNPRINTABLE = ("Cc", "Cs")


def frame_of(stated: Any, given: Frame | None) -> Frame:
    """Returns the frame of a file's points; refuses none, an unknown one, and two that differ."""
    frame = given
    if stated is not None:
        frame = _STATED.get(str(stated).strip().upper())
        if frame is None:
            raise InputError(f"states the frame {shown(str(stated))}, expected LPS, RAS or pixels")
        if given is not None and given != frame:
            found = f"states the frame {frame}, but {given} was said to be its frame"
            raise InputError(f"{found}; expected them to agree")
    if frame is None:
        raise InputError("does not state its frame, expected LPS, RAS or pixels")
    return frame


def slicer_frame_of(stated: Any, given: Frame | None) -> Frame:
    """Returns the frame of markups: LPS or RAS also in a picture, which Slicer takes for a volume.

    The first pixel's centre lies at 0 there, and a pixel is a millimetre.
    """
    return frame_of(stated, None if given == "pixels" and stated is not None else given)


def label_of(where: str, value: Any) -> str:
    """Returns a label, text without control characters, without spaces around it."""
    if not isinstance(value, str) or any(unicodedata.category(c) in _UNPRINTABLE for c in value):
        raise InputError(
            f"{where} has the label {shown(value)}, expected text without control characters"
        )
    return value.strip()


def number_of(value: Any) -> float:
    """Returns a number of a JSON file, NaN for anything else."""
    real = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if real else math.nan


def number_of_text(text: str) -> float:
    """Returns a number of a table, NaN for anything else; Python's own 1_000 is none."""
    return float(text) if _NUMBER.fullmatch(text) else math.nan


def position_of(
    where: str, value: Any, number: Callable[[Any], float] = number_of, *, in_picture: bool = False
) -> list[float]:
    """Returns x, y, z of a list of three finite numbers; in a picture of two, and z is 0."""
    count = 2 if in_picture else 3
    if isinstance(value, list) and len(value) == count:
        numbers = [number(part) for part in value]
        if all(map(math.isfinite, numbers)):
            return [*numbers, 0.0][:3]
    words = "two" if in_picture else "three"
    raise InputError(f"{where} has the position {shown(value)}, expected {words} finite numbers")


def is_missing(where: str, status: Any) -> bool:
    """Whether a point has no position by its status in 3D Slicer; refuses one not yet placed."""
    missing = _MISSING.get(str(status))
    if missing is None:
        found = f"{where} has the positionStatus {shown(status)}"
        raise InputError(f"{found}, expected defined, undefined or missing")
    return missing


def landmarks_of(points: Sequence[tuple[str, list[float]]], frame: Frame) -> Landmarks:
    """Returns labels and positions as landmarks in the frame of the volume: LPS, or pixels."""
    if not points:
        raise InputError("holds no points, expected at least one landmark")
    labels, rows = zip(*points, strict=True)
    signs = (-1.0, -1.0, 1.0) if frame == "RAS" else (1.0, 1.0, 1.0)
    # Adding zero turns the -0.0 that a change of sign can leave into 0.0.
    return Landmarks(labels, np.array(rows, dtype=np.float64) * signs + 0.0)


def shown(value: Any) -> str:
    """Returns a value as text for a message, cut where it is long."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
