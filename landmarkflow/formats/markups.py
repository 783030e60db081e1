"""Landmark files: the one place where frames are read and turned into LPS millimetres.

RAS and LPS differ in the signs of x and y: (x, y, z) in one is (-x, -y, z) in the other.
"""

import csv
import math
import re
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from landmarkflow.core.errors import InputError
from landmarkflow.core.files import read_json, read_text, write_json
from landmarkflow.core.points import Landmarks, PointList

Frame = Literal["LPS", "RAS"]

SCHEMA = (
    "https://raw.githubusercontent.com/slicer/slicer/master/Modules/Loadable/Markups/Resources/"
    "Schema/markups-schema-v1.0.3.json#"
)
DECIMALS = 4

_FRAMES: dict[str, Frame] = {"LPS": "LPS", "RAS": "RAS", "0": "RAS", "1": "LPS"}
_MISSING_STATUSES = ("undefined", "missing")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
# Control characters, which would break lines and tables, and halves of characters.
_UNPRINTABLE = ("Cc", "Cs")
# fmt: off
_FCSV_COLUMNS = [
    "id", "x", "y", "z", "ow", "ox", "oy", "oz", "vis", "sel", "lock", "label", "desc",
    "associatedNodeID",
]
# fmt: on


def read_landmarks(path: Path, frame: Frame | None = None) -> Landmarks:
    """Reads the landmarks of one scan.

    Args:
        path: 3D Slicer markups (.mrk.json, the first list; .fcsv), a table (.csv) with the columns
            label, x, y, z and its frame in a column `frame` or a line "# frame: LPS", or a plain
            .json of {"label": [x, y, z], ..., "frame": "LPS"}. Millimetres.
        frame: The frame of a file that does not state its own.

    Returns:
        The landmarks in the file's order, LPS mm; NaN rows for points that a markups file calls
        undefined or missing.

    Raises:
        InputError: The file cannot be read, holds no points, repeats or omits a label, gives a
            position that is not three finite numbers, does not state its frame while `frame` is
            None, or states another one than `frame`.
    """
    path = Path(path)
    name = path.name.lower()
    if name.endswith(".fcsv"):
        return _read_fcsv(path, frame)
    if name.endswith(".csv"):
        return _read_csv(path, frame)
    if name.endswith(".json"):
        data = read_json(path)
        if isinstance(data, dict) and "markups" in data:
            return _read_node(path, _nodes(path, data)[0], frame).landmarks
        return _read_plain(path, data, frame)
    raise InputError(
        f'{path}: has the suffix "{path.suffix}", expected landmarks as .mrk.json, .fcsv, .csv '
        "or .json"
    )


def read_complete_landmarks(path: Path, frame: Frame | None = None) -> Landmarks:
    """Reads landmarks as `read_landmarks` does, each of which must have a position.

    Raises:
        InputError: As in `read_landmarks`, or a landmark is undefined or missing.
    """
    landmarks = read_landmarks(path, frame)
    if landmarks.missing.any():
        label = landmarks.labels[int(landmarks.missing.argmax())]
        raise InputError(f'{path}: the landmark "{label}" has no position, expected one')
    return landmarks


def read_point_lists(path: Path) -> list[PointList]:
    """Reads every list of a markups file (.mrk.json).

    A list without a name is called after its place: "1", "2", and so on. Notes are the points'
    descriptions; radius_mm is None when no point has one.

    Raises:
        InputError: As in `read_landmarks`, or the file is not a markups file.
    """
    path = Path(path)
    nodes = _nodes(path, read_json(path))
    return [
        _read_node(path, node, None, default_name=str(number))
        for number, node in enumerate(nodes, start=1)
    ]


def write_markups(path: Path, lists: Sequence[PointList]) -> None:
    """Writes lists of landmarks as 3D Slicer markups 1.0.3, LPS mm, one Fiducial node per list.

    Positions and radii are rounded to 4 decimals. A missing landmark has no position, the
    status "undefined" and its note as description. A radius stands in the description, which
    Slicer shows, and in a key of its own, which programs read. Slicer shows the first list; the
    others can be switched on.

    Args:
        path: The .mrk.json file to write or replace.
        lists: At least one list.

    Raises:
        InputError: There is no list, or two have the same name.
    """
    names = [one.name for one in lists]
    if not names or len(set(names)) != len(names):
        raise InputError(
            f"{path}: would hold the lists {names}, expected one or more, all named differently"
        )
    nodes = [_node_of(one, visible=one is lists[0]) for one in lists]
    write_json(Path(path), {"@schema": SCHEMA, "markups": nodes})


def _node_of(points: PointList, *, visible: bool) -> dict[str, Any]:
    count = len(points.landmarks.labels)
    return {
        "type": "Fiducial",
        "name": points.name,
        "coordinateSystem": "LPS",
        "coordinateUnits": "mm",
        "locked": False,
        "fixedNumberOfControlPoints": False,
        "labelFormat": "%N-%d",
        "lastUsedControlPointNumber": count,
        "controlPoints": [_control_point_of(points, row) for row in range(count)],
        "display": {"visibility": visible},
    }


def _control_point_of(points: PointList, row: int) -> dict[str, Any]:
    note = points.notes[row] if points.notes else ""
    radius = math.nan if points.radius is None else float(points.radius[row])
    described = [note] if note else []
    if math.isfinite(radius):
        described.append(_radius_text(radius))
    point: dict[str, Any] = {
        "id": str(row + 1),
        "label": points.landmarks.labels[row],
        "description": "; ".join(described),
        "associatedNodeID": "",
    }
    if not points.landmarks.missing[row]:
        # Adding zero turns -0.0, which rounding can leave, into 0.0.
        position = np.round(points.landmarks.positions[row], DECIMALS) + 0.0
        point["position"] = position.tolist()
    point |= {"selected": True, "locked": False, "visibility": True}
    point["positionStatus"] = "undefined" if points.landmarks.missing[row] else "defined"
    if math.isfinite(radius):
        point["radius_mm"] = round(radius, DECIMALS)
    return point


def _radius_text(radius: float) -> str:
    return f"true place within {radius:.{DECIMALS}f} mm (90 %)"


def _note(point: dict[str, Any]) -> str:
    """Returns a point's description without the radius that `write_markups` adds to it."""
    note = str(point.get("description", ""))
    if point.get("radius_mm") is not None:
        note = note.removesuffix(_radius_text(float(point["radius_mm"]))).removesuffix("; ")
    return note


def _nodes(path: Path, data: Any) -> list[dict[str, Any]]:
    nodes = data.get("markups") if isinstance(data, dict) else None
    if not isinstance(nodes, list) or not nodes:
        raise InputError(f'{path}: has no list "markups" with points, expected 3D Slicer markups')
    for number, node in enumerate(nodes, start=1):
        if not isinstance(node, dict):
            raise InputError(f"{path}: markups {number} is {_shown(node)}, expected an object")
    return nodes


def _read_node(
    path: Path, node: dict[str, Any], frame: Frame | None, default_name: str = "1"
) -> PointList:
    stated = node.get("coordinateSystem")
    sign = _signs(path, None if stated is None else str(stated), frame)
    units = node.get("coordinateUnits", "mm")
    if units != "mm":
        raise InputError(f"{path}: has the coordinateUnits {_shown(units)}, expected mm")
    points = node.get("controlPoints")
    if not isinstance(points, list) or not all(isinstance(point, dict) for point in points):
        raise InputError(
            f'{path}: has {_shown(points)} as "controlPoints", expected a list of objects'
        )
    rows = [_control_point(path, number, point) for number, point in enumerate(points, start=1)]
    landmarks = _landmarks(path, [label for label, _ in rows], [row for _, row in rows], sign)
    radius = np.array([_radius(path, point) for point in points])
    return PointList(
        str(node.get("name") or default_name),
        landmarks,
        None if np.isnan(radius).all() else radius,
        tuple(_note(point) for point in points),
    )


def _control_point(path: Path, number: int, point: dict[str, Any]) -> tuple[str, list[float]]:
    label = _label(f"{path}: control point {number}", point.get("label", ""))
    where = f'{path}: control point {number} ("{label}")'
    status = point.get("positionStatus", "defined")
    if status in _MISSING_STATUSES:
        return label, [math.nan] * 3
    if status != "defined":
        raise InputError(
            f"{where} has the positionStatus {_shown(status)}, expected defined, undefined or "
            "missing"
        )
    return label, _position(where, point.get("position"))


def _radius(path: Path, point: dict[str, Any]) -> float:
    value = point.get("radius_mm")
    if value is None:
        return math.nan
    radius = _number(value)
    if not math.isfinite(radius):
        raise InputError(f"{path}: has the radius_mm {_shown(value)}, expected a number")
    return radius


def _read_plain(path: Path, data: Any, frame: Frame | None) -> Landmarks:
    if not isinstance(data, dict):
        raise InputError(f'{path}: holds {_shown(data)}, expected {{"label": [x, y, z], ...}}')
    stated = data.get("frame")
    sign = _signs(path, None if stated is None else str(stated), frame)
    stated_points = [(label, value) for label, value in data.items() if label != "frame"]
    points = [
        (_label(f"{path}: landmark {number}", label), value)
        for number, (label, value) in enumerate(stated_points, start=1)
    ]
    rows = [_position(f'{path}: landmark "{label}"', value) for label, value in points]
    return _landmarks(path, [label for label, _ in points], rows, sign)


def _read_fcsv(path: Path, frame: Frame | None) -> Landmarks:
    comments, lines = _table(path)
    columns = _FCSV_COLUMNS
    stated = None
    for comment in comments:
        key, _, value = (part.strip() for part in comment.partition("="))
        if key.lower() == "coordinatesystem":
            stated = value
        elif key.lower() == "columns":
            columns = [column.strip() for column in value.split(",")]
    sign = _signs(path, stated, frame)
    return _read_rows(path, lines, columns, sign)


def _read_csv(path: Path, frame: Frame | None) -> Landmarks:
    comments, lines = _table(path)
    stated = {
        match.group(1)
        for comment in comments
        if (match := re.fullmatch(r"frame\s*[:=]\s*(\S+)", comment, re.IGNORECASE))
    }
    if not lines:
        raise InputError(f"{path}: is empty, expected the columns label, x, y, z")
    columns = [column.strip() for column in lines[0][1]]
    if "frame" in columns:
        place = columns.index("frame")
        stated |= {fields[place].strip() for _, fields in lines[1:] if len(fields) > place}
    if len(stated) > 1:
        raise InputError(f"{path}: states the frames {_shown(sorted(stated))}, expected one")
    sign = _signs(path, next(iter(stated), None), frame)
    return _read_rows(path, lines[1:], columns, sign)


def _table(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Returns the text of the comment lines, and the other lines' numbers and fields."""
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


def _read_rows(
    path: Path,
    lines: Sequence[tuple[int, list[str]]],
    columns: Sequence[str],
    sign: NDArray[np.float64],
) -> Landmarks:
    absent = [column for column in ("label", "x", "y", "z") if column not in columns]
    if absent:
        raise InputError(
            f'{path}: has no column "{absent[0]}" among {_shown(list(columns))}, expected label, '
            "x, y, z"
        )
    places = [columns.index(column) for column in ("label", "x", "y", "z")]
    if any(columns.count(columns[place]) > 1 for place in places):
        raise InputError(
            f"{path}: has a column twice among {_shown(list(columns))}, expected each once"
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
        label = _label(f"{path}: line {number}", label)
        labels.append(label)
        rows.append(_position(f'{path}: line {number} ("{label}")', position, _number_of_text))
    return _landmarks(path, labels, rows, sign)


def _signs(path: Path, stated: str | None, given: Frame | None) -> NDArray[np.float64]:
    """Returns what x, y, z are multiplied by to get LPS, once file and caller agree."""
    frame = given
    if stated is not None:
        frame = _FRAMES.get(stated.strip().upper())
        if frame is None:
            raise InputError(f"{path}: states the frame {_shown(stated)}, expected LPS or RAS")
        if given is not None and given != frame:
            raise InputError(
                f"{path}: states the frame {frame}, but {given} was said to be its "
                "frame; expected them to agree"
            )
    if frame is None:
        raise InputError(f"{path}: does not state its frame, expected LPS or RAS")
    return np.array([1.0, 1.0, 1.0] if frame == "LPS" else [-1.0, -1.0, 1.0])


def _label(where: str, value: Any) -> str:
    if not isinstance(value, str) or any(
        unicodedata.category(letter) in _UNPRINTABLE for letter in value
    ):
        raise InputError(
            f"{where} has the label {_shown(value)}, expected text without control characters"
        )
    return value.strip()


def _number(value: Any) -> float:
    """Returns a number of a JSON file, NaN for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return math.nan
    return float(value)


def _number_of_text(text: str) -> float:
    """Returns a number of a table, NaN for anything else; Python's own 1_000 is none."""
    return float(text) if _NUMBER.fullmatch(text) else math.nan


def _position(where: str, value: Any, number_of: Callable[[Any], float] = _number) -> list[float]:
    if isinstance(value, list) and len(value) == 3:
        numbers = [number_of(part) for part in value]
        if all(math.isfinite(number) for number in numbers):
            return numbers
    raise InputError(f"{where} has the position {_shown(value)}, expected three finite numbers")


def _landmarks(
    path: Path, labels: Sequence[str], rows: Sequence[Sequence[float]], sign: NDArray[np.float64]
) -> Landmarks:
    if not labels:
        raise InputError(f"{path}: holds no points, expected at least one landmark")
    try:
        # Adding zero turns the -0.0 that a change of sign can leave into 0.0.
        return Landmarks(tuple(labels), np.array(rows, dtype=np.float64) * sign + 0.0)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
