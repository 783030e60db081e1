"""Points in tables (.csv) and in plain JSON files, which state their frame in words."""

import csv
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from landmarkflow.core.errors import InputError
from landmarkflow.core.files import read_text, write_text
from landmarkflow.core.points import DECIMALS, Landmarks
from landmarkflow.formats.point_checks import (
    Frame,
    frame_of,
    label_of,
    landmarks_of,
    number_of_text,
    position_of,
    shown,
)

FIRST_PIXEL = "the centre of the first pixel at (0, 0)"
# The numbers of lines of a file, and their fields.
Lines = Sequence[tuple[int, list[str]]]

_FRAME = re.compile(r"frame\s*[:=]\s*([^\s,]+)\s*(?:,\s*(.*))?", re.IGNORECASE)


def read_plain_json(path: Path, data: Any, frame: Frame | None) -> Landmarks:
    """Returns the points of {"label": [x, y, z], ..., "frame": "LPS"}; in pixels [x, y].

    Raises:
        InputError: As in `read_landmarks`.
    """
    if not isinstance(data, dict):
        raise InputError(f'{path}: holds {shown(data)}, expected {{"label": [x, y, z], ...}}')
    stated = data.get("frame")
    frame = frame_of(path, None if stated is None else str(stated), frame)
    labels: list[str] = []
    rows: list[list[float]] = []
    for name, value in data.items():
        if name != "frame":
            labels.append(label_of(f"{path}: landmark {len(labels) + 1}", name))
            where = f'{path}: landmark "{labels[-1]}"'
            rows.append(position_of(where, value, in_picture=frame == "pixels"))
    return landmarks_of(path, labels, rows, frame)


def read_csv(path: Path, frame: Frame | None, image: str | None) -> Landmarks:
    """Returns the points of a table, or those of one image where it has a column `image`.

    Raises:
        InputError: As in `read_landmarks`.
    """
    comments, lines = read_lines(path)
    stated = {_stated_frame(path, match) for line in comments if (match := _FRAME.fullmatch(line))}
    if not lines:
        raise InputError(f"{path}: is empty, expected the columns label, x, y, z")
    columns = [column.strip() for column in lines[0][1]]
    if "frame" in columns:
        place = columns.index("frame")
        stated |= {fields[place].strip() for _, fields in lines[1:] if len(fields) > place}
    if len(stated) > 1:
        raise InputError(f"{path}: states the frames {shown(sorted(stated))}, expected one")
    frame = frame_of(path, next(iter(stated), None), frame)
    rows = lines[1:]
    if "image" in columns:
        rows = _rows_of(path, rows, columns.index("image"), image)
    return read_rows(path, rows, columns, frame)


def write_points_csv(path: Path, points: Landmarks | Mapping[str, Landmarks]) -> None:
    """Writes points of one picture, or of several by their names, as a table in pixels.

    A missing landmark has no row. Positions are rounded to 4 decimals.

    Args:
        path: The .csv file to write or replace.
        points: x and y in pixels, the centre of the first pixel at (0, 0).
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
                x, y = np.round(position[:2], DECIMALS) + 0.0
                writer.writerow(
                    [image] * several + [label, f"{x:.{DECIMALS}f}", f"{y:.{DECIMALS}f}"]
                )
    write_text(path, text.getvalue())


def read_lines(path: Path) -> tuple[list[str], Lines]:
    """Returns the text of the comment lines, and the other lines' numbers and fields.

    Raises:
        InputError: The file is no text or a line is no row of a table.
    """
    text = read_text(path, "a table of landmarks")
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
                raise InputError(f"{path}: line {number} cannot be read ({error})") from None
    return comments, lines


def read_rows(path: Path, lines: Lines, columns: Sequence[str], frame: Frame) -> Landmarks:
    """Returns the points of a table's rows.

    Args:
        path: The file, for messages.
        lines: The rows.
        columns: What their fields are; others than label, x, y, z are passed over.
        frame: Of the points; in pixels there is no z.

    Raises:
        InputError: As in `read_landmarks`.
    """
    in_picture = frame == "pixels"
    needed = ["label", "x", "y"] if in_picture else ["label", "x", "y", "z"]
    absent = [column for column in needed if column not in columns]
    if absent:
        raise InputError(
            f'{path}: has no column "{absent[0]}" among {shown(list(columns))}, expected '
            f"{', '.join(needed)}"
        )
    if in_picture and "z" in columns:
        raise InputError(f"{path}: has a column z, expected points of a picture in x and y")
    places = [columns.index(column) for column in needed]
    if any(columns.count(columns[place]) > 1 for place in places):
        raise InputError(
            f"{path}: has a column twice among {shown(list(columns))}, expected each once"
        )
    labels: list[str] = []
    rows: list[list[float]] = []
    for number, fields in lines:
        if len(fields) <= max(places):
            raise InputError(
                f"{path}: line {number} has {len(fields)} fields, expected at least "
                f"{max(places) + 1}"
            )
        label, *position = (fields[place].strip() for place in places)
        labels.append(label_of(f"{path}: line {number}", label))
        where = f'{path}: line {number} ("{labels[-1]}")'
        rows.append(position_of(where, position, number_of_text, in_picture=in_picture))
    return landmarks_of(path, labels, rows, frame)


def _stated_frame(path: Path, comment: re.Match[str]) -> str:
    """Returns the frame of a comment, which may say where the first pixel lies."""
    frame, more = comment.groups()
    if more and (frame.lower() != "pixels" or more != FIRST_PIXEL):
        raise InputError(
            f'{path}: says "{more}" of its frame, expected nothing or, of pixels, "{FIRST_PIXEL}"'
        )
    return str(frame)


def _rows_of(path: Path, lines: Lines, place: int, image: str | None) -> Lines:
    """Returns the rows of one image, by the name of its file or that without its suffix."""
    found = dict.fromkeys(fields[place].strip() for _, fields in lines if len(fields) > place)
    names = [name for name in found if image is None or name in (image, Path(image).stem)]
    if len(names) != 1:
        wanted = "one" if image is None else f'"{image}"'
        raise InputError(
            f"{path}: has rows of the images {shown(list(found))}, expected those of {wanted}"
        )
    return [
        (number, fields)
        for number, fields in lines
        if len(fields) > place and fields[place].strip() == names[0]
    ]
