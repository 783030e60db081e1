"""Landmarks of one scan from a file in any format: frames end here, in that of the scan's volume.

RAS and LPS differ in the signs of x and y: (x, y, z) in one is (-x, -y, z) in the other.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import cast

from landmarkflow.core.errors import InputError, about
from landmarkflow.core.files import read_json, read_text
from landmarkflow.core.points import Landmarks
from landmarkflow.formats.point_checks import Frame
from landmarkflow.formats.slicer import read_first_list
from landmarkflow.formats.tables import read_csv, read_fcsv, read_plain_json


def read_landmarks(
    path: Path,
    frame: Frame | None = None,
    image: str | None = None,
    raters: Sequence[str] = (),
) -> Landmarks:
    """Reads the landmarks of one scan.

    Args:
        path: 3D Slicer markups (.mrk.json, the first list; .fcsv), a table (.csv) with the columns
            label (or landmark), x, y, z and its frame in a column `frame` or a line
            "# frame: LPS", or a plain .json of {"label": [x, y, z], ..., "frame": "LPS"}.
            Millimetres; or, where the frame is "pixels", x and y alone in a picture's pixels, the
            centre of the first at (0, 0).
        frame: The frame of a file that does not state its own.
        image: Whose rows to take of a table with a column `image`: the name of the scan's file,
            with or without its suffix; None where the table holds those of one image alone.
        raters: Of a table with a column `rater`: whose marks count, all where none is named. A
            landmark lies at the mean of those who marked it.

    Returns:
        The landmarks in the file's order, LPS mm or pixels (z = 0); NaN rows for points that a
        markups file calls undefined or missing.

    Raises:
        InputError: The file cannot be read, holds no points (of the image), repeats or omits a
            label, gives a position that is not three (in pixels two) finite numbers, does not
            state its frame while `frame` is None, or states another one than `frame`.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    with about(path):
        if suffix == ".fcsv":
            return read_fcsv(read_text(path, "a table of landmarks"), frame)
        if suffix == ".csv":
            return read_csv(read_text(path, "a table of landmarks"), frame, image, raters)
        if suffix == ".json":
            data = read_json(path)
            if isinstance(data, dict) and "markups" in data:
                return read_first_list(data, frame)
            return read_plain_json(data, frame)
        expected = "landmarks as .mrk.json, .fcsv, .csv or .json"
        raise InputError(f'has the suffix "{path.suffix}", expected {expected}')


def read_complete_landmarks(
    path: Path,
    frame: Frame | None = None,
    image: str | None = None,
    raters: Sequence[str] = (),
) -> Landmarks:
    """Reads landmarks as `read_landmarks` does; refuses those that are undefined or missing."""
    landmarks = read_landmarks(path, frame, image, raters)
    if landmarks.missing.any():
        label = landmarks.labels[int(landmarks.missing.argmax())]
        raise InputError(f'{path}: the landmark "{label}" has no position, expected one')
    return landmarks


def frame_of(text: str) -> Frame | None:
    """The frame that a sheet states, None where it states none."""
    return cast(Frame, text) if text else None
