"""Markups of 3D Slicer: lists of points with notes and radii (.mrk.json)."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from landmarkflow.core.errors import InputError, about
from landmarkflow.core.files import read_json, write_json
from landmarkflow.core.points import DECIMALS, Landmarks, PointList
from landmarkflow.core.records import write_nothing
from landmarkflow.formats.point_checks import (
    Frame,
    is_missing,
    label_of,
    landmarks_of,
    number_of,
    position_of,
    shown,
    slicer_frame_of,
)

Unit = Literal["mm", "px", "%"]

SCHEMA = (
    "https://raw.githubusercontent.com/slicer/slicer/master/Modules/Loadable/Markups/Resources/"
    "Schema/markups-schema-v1.0.3.json#"
)

# The key of a point's radius in each unit.
_RADIUS_KEYS: dict[Unit, str] = {"mm": "radius_mm", "px": "radius_px", "%": "radius_percent"}


def read_point_lists(path: Path, scan: str = "") -> list[PointList]:
    """Reads every list of a markups file (.mrk.json).

    A list without a name is called after its place: "1", "2", and so on; the name of the `scan`
    that `write_markups` puts in front of its names is taken away. Notes are the points'
    descriptions; the radius, in whichever unit, is None when no point has one. Refuses what
    `read_landmarks` refuses, and any file but markups.
    """
    with about(path):
        nodes = enumerate(_nodes(read_json(path)), start=1)
        found = [_read_node(node, None, str(number)) for number, node in nodes]
    return [replace(one, name=one.name.removeprefix(f"{scan} ")) for one in found]


def read_first_list(data: Any, frame: Frame | None) -> Landmarks:
    """Returns the landmarks of the first list of a markups file's data."""
    return _read_node(_nodes(data)[0], frame, "1").landmarks


def read_complete_markups(path: Path) -> Landmarks:
    """Reads the first list of a file that this package wrote; each point must have a position."""
    landmarks = read_point_lists(path)[0].landmarks
    if landmarks.missing.any():
        raise InputError(f"{path}: holds no list or a point without a position, expected a result")
    return landmarks


def write_markups(
    path: Path, lists: Sequence[PointList], unit: Unit = "mm", scan: str = ""
) -> None:
    """Writes lists of landmarks as 3D Slicer markups 1.0.3, LPS mm, one Fiducial node per list.

    The name of the `scan`, where it is given, stands in front of each list's: Slicer shows the
    lists of all files that are open in one tree.
    Points of a picture are written as those of the volume that it is: a pixel is a millimetre.
    Positions and radii are rounded to 4 decimals. A missing landmark has no position, the
    status "undefined" and its note as description. A radius, in `unit`, stands in the description,
    which Slicer shows, and in a key of its own, which programs read. Slicer shows the first list;
    the others can be switched on. Refuses no list, and two of the same name.
    """
    write_json(Path(path), markups_of(path, lists, unit, scan))


def markups_of(
    path: Path, lists: Sequence[PointList], unit: Unit = "mm", scan: str = ""
) -> dict[str, Any]:
    """Returns the content that `write_markups` writes to a path, as plain data."""
    names = [one.name for one in lists]
    if not names or len(set(names)) != len(names):
        raise InputError(
            f"{path}: would hold the lists {names}, expected one or more, all named differently"
        )
    nodes = []
    for one in lists:
        points = [_control_point_of(one, row, unit) for row in range(len(one.landmarks.labels))]
        node = {
            "type": "Fiducial",
            "name": f"{scan} {one.name}".strip(),
            "coordinateSystem": "LPS",
            "coordinateUnits": "mm",
            "locked": False,
            "fixedNumberOfControlPoints": False,
            "labelFormat": "%N-%d",
            "lastUsedControlPointNumber": len(points),
            "controlPoints": points,
            "display": {"visibility": one is lists[0]},
        }
        nodes.append(node)
    return {"@schema": SCHEMA, "markups": nodes}


def write_steps(path: Path, lists: Sequence[PointList], unit: Unit = "mm", scan: str = "") -> None:
    """Writes the points after a method's earlier steps, or an empty file where it has none."""
    if lists:
        write_markups(path, lists, unit, scan)
    else:
        write_nothing(path)


def described(points: PointList, row: int, unit: Unit = "mm") -> str:
    """What is said of a point: its note, and within which radius the true place lies."""
    said = [note for note in points.notes[row : row + 1] if note]
    if points.radius is not None and math.isfinite(radius := float(points.radius[row])):
        said.append(_radius_text(radius, unit))
    return "; ".join(said)


def _control_point_of(points: PointList, row: int, unit: Unit) -> dict[str, Any]:
    missing = points.landmarks.missing[row]
    radius = math.nan if points.radius is None else float(points.radius[row])
    point: dict[str, Any] = {
        "id": str(row + 1),
        "label": points.landmarks.labels[row],
        "description": described(points, row, unit),
        "associatedNodeID": "",
    }
    if not missing:
        # Adding zero turns -0.0, which rounding can leave, into 0.0.
        position = np.round(points.landmarks.positions[row], DECIMALS) + 0.0
        point["position"] = position.tolist()
    point |= {"selected": True, "locked": False, "visibility": True}
    point["positionStatus"] = "undefined" if missing else "defined"
    if math.isfinite(radius):
        point[_RADIUS_KEYS[unit]] = round(radius, DECIMALS)
    return point


def _radius_text(radius: float, unit: Unit) -> str:
    return f"true place within {radius:.{DECIMALS}f} {unit} (90 %)"


def _nodes(data: Any) -> list[dict[str, Any]]:
    nodes = data.get("markups") if isinstance(data, dict) else None
    if not isinstance(nodes, list) or not nodes:
        raise InputError('has no list "markups" with points, expected 3D Slicer markups')
    for number, node in enumerate(nodes, start=1):
        if not isinstance(node, dict):
            raise InputError(f"markups {number} is {shown(node)}, expected an object")
    return nodes


def _read_node(node: dict[str, Any], frame: Frame | None, name: str) -> PointList:
    """Returns the points of a list, called `name` where it has none of its own."""
    frame = slicer_frame_of(node.get("coordinateSystem"), frame)
    units = node.get("coordinateUnits", "mm")
    if units != "mm":
        raise InputError(f"has the coordinateUnits {shown(units)}, expected mm")
    points = node.get("controlPoints")
    if not isinstance(points, list) or not all(isinstance(point, dict) for point in points):
        raise InputError(f'has {shown(points)} as "controlPoints", expected a list of objects')
    rows = [_control_point(number, point) for number, point in enumerate(points, start=1)]
    landmarks = landmarks_of(rows, frame)
    radii, notes = zip(*(_radius_and_note(point) for point in points), strict=True)
    radius = None if np.isnan(radii).all() else np.array(radii)
    return PointList(str(node.get("name") or name), landmarks, radius, notes)


def _control_point(number: int, point: dict[str, Any]) -> tuple[str, list[float]]:
    label = label_of(f"control point {number}", point.get("label", ""))
    where = f'control point {number} ("{label}")'
    if is_missing(where, point.get("positionStatus", "defined")):
        return label, [math.nan] * 3
    return label, position_of(where, point.get("position"))


def _radius_and_note(point: dict[str, Any]) -> tuple[float, str]:
    """Returns a point's radius, NaN where it has none, and its description without the radius."""
    note = str(point.get("description", ""))
    for unit, key in _RADIUS_KEYS.items():
        if (value := point.get(key)) is not None:
            radius = number_of(value)
            if not math.isfinite(radius):
                raise InputError(f"has the {key} {shown(value)}, expected a number")
            return radius, note.removesuffix(_radius_text(radius, unit)).removesuffix("; ")
    return math.nan, note
