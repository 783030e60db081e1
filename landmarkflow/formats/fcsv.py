"""Landmarks as 3D Slicer 4 wrote them: .fcsv, a table under comments that state the frame."""

from pathlib import Path

from landmarkflow.core.points import Landmarks
from landmarkflow.formats.point_checks import Frame
from landmarkflow.formats.slicer import slicer_frame_of
from landmarkflow.formats.tables import read_lines, read_rows

# fmt: off
_FCSV_COLUMNS = [
    "id", "x", "y", "z", "ow", "ox", "oy", "oz", "vis", "sel", "lock", "label", "desc",
    "associatedNodeID",
]
# fmt: on


def read_fcsv(path: Path, frame: Frame | None) -> Landmarks:
    """Returns the landmarks of a .fcsv file.

    Raises:
        InputError: As in `read_landmarks`.
    """
    comments, lines = read_lines(path)
    columns = _FCSV_COLUMNS
    stated = None
    for comment in comments:
        key, _, value = (part.strip() for part in comment.partition("="))
        if key.lower() == "coordinatesystem":
            stated = value
        elif key.lower() == "columns":
            columns = [column.strip() for column in value.split(",")]
    return read_rows(path, lines, columns, slicer_frame_of(path, stated, frame))
