"""Points in tables (.csv, and 3D Slicer 4's .fcsv) and in plain JSON files."""

import csv
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from landmarkflow.core.errors import InputError
from landmarkflow.core.files import table_text, write_text
from landmarkflow.core.points import DECIMALS, Landmarks
from landmarkflow.formats.point_checks import (
    Frame,
    frame_of,
    is_missing,
    label_of,
    landmarks_of,
    number_of_text,
    position_of,
    shown,
    slicer_frame_of,
)

# Columns of a table of landmarks: `landmark` may stand for `label`.
LABEL, IMAGE, RATER = "label", "image", "rater"
FIRST_PIXEL = "the centre of the first pixel at (0, 0)"
# The numbers of lines of a file, and their fields.
Lines = Sequence[tuple[int, list[str]]]

# A comment that states the frame, and perhaps where the first pixel lies.
_FRAME = re.compile(r"frame\s*[:=]\s*([^\s,]+)\s*(?:,\s*(.*))?", re.IGNORECASE)
# What the column `defined` of 3D Slicer's tables says; other words are refused as no status.
_STATUS = {"": "defined", "0": "undefined", "1": "defined", "false": "undefined", "true": "defined"}
_FCSV_COLUMNS = "id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc,associatedNodeID"


def read_plain_json(data: Any, frame: Frame | None) -> Landmarks:
    """Returns the points of {"label": [x, y, z] or null, ..., "frame": "LPS"}; in pixels [x, y]."""
    if not isinstance(data, dict):
        raise InputError(f'holds {shown(data)}, expected {{"label": [x, y, z], ...}}')
    frame = frame_of(data.get("frame"), frame)
    points: list[tuple[str, list[float]]] = []
    for name, value in data.items():
        if name != "frame":
            label = label_of(f"landmark {len(points) + 1}", name)
            where = f'landmark "{label}"'
            places = value if isinstance(value, list) and value else [value]
            if all(place is None for place in places):
                points.append((label, [math.nan] * 3))
            else:
                points.append((label, position_of(where, value, in_picture=frame == "pixels")))
    return landmarks_of(points, frame)


@dataclass(frozen=True)
class Marked:
    """What a table of landmarks holds, before any position is read.

    Attributes:
        labels: each once, in the order in which they first stand.
        raters: by image, who marked something there; "" in a table without raters.
    """

    labels: tuple[str, ...]
    raters: Mapping[str, tuple[str, ...]]


def marked_in(text: str) -> Marked:
    """Returns which landmarks and images a table names; an image is "" where it names none.

    Refuses a table without a column for the landmarks' names.
    """
    _, columns, rows = _header_and_rows(text)
    if LABEL not in columns:
        raise InputError(f'has no column "{LABEL}" among {shown(columns)}, expected {LABEL}, x, y')
    labels: dict[str, None] = {}
    raters: dict[str, dict[str, None]] = {}
    for _, fields in rows:
        row = dict(zip(columns, map(str.strip, fields), strict=False))
        labels[row.get(LABEL, "")] = None
        raters.setdefault(row.get(IMAGE, ""), {})[row.get(RATER, "")] = None
    return Marked(tuple(labels), {image: tuple(names) for image, names in raters.items()})


def read_csv(
    text: str, frame: Frame | None, image: str | None, raters: Sequence[str] = ()
) -> Landmarks:
    """Returns the points of a table, or those of one image where it has a column `image`.

    Where it has a column `rater`, each landmark lies at the mean of those who marked it, or of
    those among `raters`.
    """
    comments, columns, rows = _header_and_rows(text)
    stated = set()
    for match in filter(None, map(_FRAME.fullmatch, comments)):
        name, more = match.groups()
        if more and (name.lower() != "pixels" or more != FIRST_PIXEL):
            expected = f'nothing or, of pixels, "{FIRST_PIXEL}"'
            raise InputError(f'says "{more}" of its frame, expected {expected}')
        stated.add(name)
    if "frame" in columns:
        place = columns.index("frame")
        stated |= {fields[place].strip() for _, fields in rows if len(fields) > place}
    # 3D Slicer's own tables name the frame by their columns.
    for name in ("LPS", "RAS"):
        axes = dict(zip(name.lower(), "xyz", strict=True))
        if axes.keys() <= set(columns):
            columns = [axes.get(column, column) for column in columns]
            stated.add(name)
    stated = set({name.upper(): name for name in sorted(stated)}.values())
    if len(stated) > 1:
        raise InputError(f"states the frames {shown(sorted(stated))}, expected one")
    frame = frame_of(next(iter(stated), None), frame)
    if IMAGE in columns:
        rows = _rows_of(rows, columns.index(IMAGE), image)
    if RATER in columns:
        return _mean_of_raters(rows, columns, frame, raters)
    return _read_rows(rows, columns, frame)


def _header_and_rows(text: str) -> tuple[list[str], list[str], Lines]:
    """Returns the comments of a table, the names of its columns, and its rows."""
    comments, lines = _read_lines(text)
    if not lines:
        raise InputError("is empty, expected the columns label, x, y, z")
    columns = [column.strip().lower() for column in lines[0][1]]
    for separator, named in ((";", "semicolons"), ("\t", "tabs")):
        if len(columns) == 1 and separator in lines[0][1][0]:
            raise InputError(f"is separated by {named}, expected commas")
    if LABEL not in columns:
        columns = [LABEL if column == "landmark" else column for column in columns]
    return comments, columns, lines[1:]


def _mean_of_raters(
    lines: Lines, columns: Sequence[str], frame: Frame, raters: Sequence[str]
) -> Landmarks:
    """Returns the mean of several raters' points, of each landmark of those who marked it."""
    place = columns.index(RATER)
    of_rater: dict[str, list[tuple[int, list[str]]]] = {}
    for line in lines:
        name = line[1][place].strip() if len(line[1]) > place else ""
        if not raters or name in raters:
            of_rater.setdefault(name, []).append(line)
    if not of_rater:
        raise InputError(f"has no rows of the raters {', '.join(raters)}, expected some")
    placed: dict[str, list[NDArray[np.float64]]] = {}
    for name, rows in of_rater.items():
        try:
            marked = _read_rows(rows, columns, frame)
        except InputError as error:
            raise InputError(f'has marks of the rater "{name}" that are wrong: {error}') from None
        for label, position in zip(marked.labels, marked.positions, strict=True):
            here = placed.setdefault(label, [])
            if not np.isnan(position).any():
                here.append(position)
    nowhere = np.full(3, np.nan)
    means = [np.mean(found, axis=0) if found else nowhere for found in placed.values()]
    return Landmarks(tuple(placed), np.array(means))


def read_fcsv(text: str, frame: Frame | None) -> Landmarks:
    """Returns the points of a .fcsv file, a table under comments that state the frame."""
    comments, lines = _read_lines(text)
    stated = {"columns": _FCSV_COLUMNS}
    for comment in comments:
        key, _, value = comment.partition("=")
        stated[key.strip().lower()] = value.strip()
    columns = [column.strip().lower() for column in stated["columns"].split(",")]
    if "associatednodeid" in columns:
        # Later versions put the point's status behind it, mostly without naming it.
        place = columns.index("associatednodeid") + 1
        columns[place : place + 1] = ["positionstatus"]
    frame = slicer_frame_of(stated.get("coordinatesystem"), frame)
    return _read_rows(lines, columns, frame)


def write_points_csv(path: Path, points: Landmarks | Mapping[str, Landmarks]) -> None:
    """Writes points of one picture, or of several by their names, as a table in pixels.

    A missing landmark has no row. Positions, x and y with the centre of the first pixel at (0, 0),
    are rounded to 4 decimals.
    """
    of_images = points if isinstance(points, Mapping) else {"": points}
    several = isinstance(points, Mapping)
    rows = [["image"] * several + ["label", "x", "y"]]
    for image, landmarks in of_images.items():
        for label, position in zip(landmarks.labels, landmarks.positions, strict=True):
            if np.isfinite(position).all():
                x_y = [f"{value:.{DECIMALS}f}" for value in np.round(position[:2], DECIMALS) + 0.0]
                rows.append([image] * several + [label, *x_y])
    write_text(path, f"# frame: pixels, {FIRST_PIXEL}\n{table_text(rows)}")


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
    least = max(map(columns.index, needed)) + 1
    points: list[tuple[str, list[float]]] = []
    for number, fields in lines:
        where = f"line {number}"
        if len(fields) < least:
            raise InputError(f"{where} has {len(fields)} fields, expected at least {least}")
        row = dict(zip(columns, map(str.strip, fields), strict=False))
        label = label_of(where, row["label"])
        where += f' ("{label}")'
        position = [row[column] for column in needed[1:]]
        defined = row.get("defined", "").lower()
        missing = is_missing(where, row.get("positionstatus") or _STATUS.get(defined, defined))
        if missing or all(text.lower() in ("", "nan") for text in position):
            points.append((label, [math.nan] * 3))
        else:
            points.append(
                (label, position_of(where, position, number_of_text, in_picture=in_picture))
            )
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
