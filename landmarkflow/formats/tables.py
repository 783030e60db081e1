"""Points in tables (.csv, and 3D Slicer 4's .fcsv) and in plain JSON files."""

import csv
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from landmarkflow.core.errors import InputError
from landmarkflow.core.files import write_text
from landmarkflow.core.points import DECIMALS, Landmarks
from landmarkflow.formats.point_checks import (
    Frame,
    frame_of,
    label_of,
    landmarks_of,
    number_of_text,
    position_of,
    shown,
    slicer_frame_of,
)

FIRST_PIXEL = "the centre of the first pixel at (0, 0)"
# The numbers of lines of a file, and their fields.
Lines = Sequence[tuple[int, list[str]]]

# A comment that states the frame, and perhaps where the first pixel lies.
_FRAME = re.compile(r"frame\s*[:=]\s*([^\s,]+)\s*(?:,\s*(.*))?", re.IGNORECASE)
_FCSV_COLUMNS = "id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc,associatedNodeID"


def read_plain_json(data: Any, frame: Frame | None) -> Landmarks:
    """Returns the points of {"label": [x, y, z], ..., "frame": "LPS"}; in pixels [x, y]."""
    if not isinstance(data, dict):
        raise InputError(f'holds {shown(data)}, expected {{"label": [x, y, z], ...}}')
    frame = frame_of(data.get("frame"), frame)
    points: list[tuple[str, list[float]]] = []
    for name, value in data.items():
        if name != "frame":
            label = label_of(f"landmark {len(points) + 1}", name)
            where = f'landmark "{label}"'
            points.append((label, position_of(where, value, in_picture=frame == "pixels")))
    return landmarks_of(points, frame)


def read_csv(text: str, frame: Frame | None, image: str | None) -> Landmarks:
    """Returns the points of a table, or those of one image where it has a column `image`."""
    comments, lines = _read_lines(text)
    stated = set()
    for match in filter(None, map(_FRAME.fullmatch, comments)):
        name, more = match.groups()
        if more and (name.lower() != "pixels" or more != FIRST_PIXEL):
            expected = f'nothing or, of pixels, "{FIRST_PIXEL}"'
            raise InputError(f'says "{more}" of its frame, expected {expected}')
        stated.add(name)
    if not lines:
        raise InputError("is empty, expected the columns label, x, y, z")
    columns, rows = [column.strip() for column in lines[0][1]], lines[1:]
    if "frame" in columns:
        place = columns.index("frame")
        stated |= {fields[place].strip() for _, fields in rows if len(fields) > place}
    if len(stated) > 1:
        raise InputError(f"states the frames {shown(sorted(stated))}, expected one")
    frame = frame_of(next(iter(stated), None), frame)
    if "image" in columns:
        rows = _rows_of(rows, columns.index("image"), image)
    return _read_rows(rows, columns, frame)


def read_fcsv(text: str, frame: Frame | None) -> Landmarks:
    """Returns the points of a .fcsv file, a table under comments that state the frame."""
    comments, lines = _read_lines(text)
    stated = {"columns": _FCSV_COLUMNS}
    for comment in comments:
        key, _, value = comment.partition("=")
        stated[key.strip().lower()] = value.strip()
    columns = [column.strip() for column in stated["columns"].split(",")]
    frame = slicer_frame_of(stated.get("coordinatesystem"), frame)
    return _read_rows(lines, columns, frame)


def write_points_csv(path: Path, points: Landmarks | Mapping[str, Landmarks]) -> None:
    """Writes points of one picture, or of several by their names, as a table in pixels.

    A missing landmark has no row. Positions, x and y with the centre of the first pixel at (0, 0),
    are rounded to 4 decimals.
    """
    of_images = points if isinstance(points, Mapping) else {"": points}
    several = isinstance(points, Mapping)
    text = io.StringIO()
    text.write(f"# frame: pixels, {FIRST_PIXEL}\n")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["image"] * several + ["label", "x", "y"])
    for image, landmarks in of_images.items():
        for label, position in zip(landmarks.labels, landmarks.positions, strict=True):
            if np.isfinite(position).all():
                x_y = [f"{value:.{DECIMALS}f}" for value in np.round(position[:2], DECIMALS) + 0.0]
                writer.writerow([image] * several + [label, *x_y])
    write_text(path, text.getvalue())


def _read_lines(text: str) -> tuple[list[str], Lines]:
    """Returns the text of a table's comment lines, and the other lines' numbers and fields."""
    comments: list[str] = []
    lines: list[tuple[int, list[str]]] = []
    for number, line in enumerate(text.splitlines(), start=1):
        # Below the first row, a # begins a label.
        if line.startswith("#") and not lines:
            comments.append(line.lstrip("# ").strip().rstrip(","))
        elif line.strip().strip(","):
            try:
                lines.append((number, next(csv.reader([line]))))
            except csv.Error as error:
                raise InputError(f"line {number} cannot be read ({error})") from None
    return comments, lines


def _read_rows(lines: Lines, columns: Sequence[str], frame: Frame) -> Landmarks:
    """Returns the points of a table's rows; columns beside label, x, y, z are passed over."""
    in_picture = frame == "pixels"
    needed = ["label", "x", "y"] if in_picture else ["label", "x", "y", "z"]
    among = f"among {shown(list(columns))}, expected"
    for column in needed:
        if column not in columns:
            raise InputError(f'has no column "{column}" {among} {", ".join(needed)}')
    if in_picture and "z" in columns:
        raise InputError("has a column z, expected points of a picture in x and y")
    if any(columns.count(column) > 1 for column in needed):
        raise InputError(f"has a column twice {among} each once")
    places = [columns.index(column) for column in needed]
    least = max(places) + 1
    points: list[tuple[str, list[float]]] = []
    for number, fields in lines:
        where = f"line {number}"
        if len(fields) < least:
            raise InputError(f"{where} has {len(fields)} fields, expected at least {least}")
        name, *position = (fields[place].strip() for place in places)
        label = label_of(where, name)
        where += f' ("{label}")'
        points.append((label, position_of(where, position, number_of_text, in_picture=in_picture)))
    return landmarks_of(points, frame)


def _rows_of(lines: Lines, place: int, image: str | None) -> Lines:
    """Returns the rows of one image, by the name of its file or that without its suffix."""
    named = [(fields[place].strip(), line) for line in lines if len(fields := line[1]) > place]
    found = list(dict.fromkeys(name for name, _ in named))
    names = [name for name in found if image is None or name in (image, Path(image).stem)]
    if len(names) != 1:
        wanted = "one" if image is None else f'"{image}"'
        raise InputError(f"has rows of the images {shown(found)}, expected those of {wanted}")
    return [line for name, line in named if name == names[0]]
