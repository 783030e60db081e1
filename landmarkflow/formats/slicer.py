"""Markups of 3D Slicer: lists of points with notes and radii (.mrk.json)."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from landmarkflow.core.errors import InputError
from landmarkflow.core.files import read_json, write_json
from landmarkflow.core.points import DECIMALS, Landmarks, PointList
from landmarkflow.formats.point_checks import (
    Frame,
    frame_of,
    label_of,
    landmarks_of,
    number_of,
    position_of,
    shown,
)

Unit = Literal["mm", "px", "%"]

SCHEMA = (
    "https://raw.githubusercontent.com/slicer/slicer/master/Modules/Loadable/Markups/Resources/"
    "Schema/markups-schema-v1.0.3.json#"
)

# The key of a point's radius in each unit.
_RADIUS_KEYS: dict[str, Unit] = {"radius_mm": "mm", "radius_px": "px", "radius_percent": "%"}
_MISSING_STATUSES = ("undefined", "missing")


def read_point_lists(path: Path) -> list[PointList]:
    """Reads every list of a markups file (.mrk.json).

    A list without a name is called after its place: "1", "2", and so on. Notes are the points'
    descriptions; the radius, in whichever unit, is None when no point has one.

    Raises:
        InputError: As in `read_landmarks`, or the file is not a markups file.
    """
    path = Path(path)
    nodes = _nodes(path, read_json(path))
    return [
        _read_node(path, node, None, default_name=str(number))
        for number, node in enumerate(nodes, start=1)
    ]


def read_first_list(path: Path, data: Any, frame: Frame | None) -> Landmarks:
    """Returns the landmarks of the first list of a markups file's data.

    Raises:
        InputError: As in `read_landmarks`.
    """
    return _read_node(path, _nodes(path, data)[0], frame).landmarks


def read_complete_markups(path: Path) -> Landmarks:
    """Reads the first list of a markups file that this package wrote; each point has a position.

    Raises:
        InputError: As in `read_point_lists`, or there is no list, or a point has no position.
    """
    lists = read_point_lists(path)
    landmarks = lists[0].landmarks if lists else Landmarks((), np.empty((0, 3)))
    if not lists or landmarks.missing.any():
        raise InputError(f"{path}: holds no list or a point without a position, expected a result")
    return landmarks


def write_markups(path: Path, lists: Sequence[PointList], unit: Unit = "mm") -> None:
    """Writes lists of landmarks as 3D Slicer markups 1.0.3, LPS mm, one Fiducial node per list.

    Points of a picture are written as those of the volume that it is: a pixel is a millimetre.
    Positions and radii are rounded to 4 decimals. A missing landmark has no position, the
    status "undefined" and its note as description. A radius stands in the description, which
    Slicer shows, and in a key of its own, which programs read. Slicer shows the first list; the
    others can be switched on.

    Args:
        path: The .mrk.json file to write or replace.
        lists: At least one list.
        unit: Of the radii.

    Raises:
        InputError: There is no list, or two have the same name.
    """
    names = [one.name for one in lists]
    if not names or len(set(names)) != len(names):
        raise InputError(
            f"{path}: would hold the lists {names}, expected one or more, all named differently"
        )
    nodes = [_node_of(one, unit, visible=one is lists[0]) for one in lists]
    write_json(Path(path), {"@schema": SCHEMA, "markups": nodes})


def _node_of(points: PointList, unit: Unit, *, visible: bool) -> dict[str, Any]:
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
        "controlPoints": [_control_point_of(points, row, unit) for row in range(count)],
        "display": {"visibility": visible},
    }


def _control_point_of(points: PointList, row: int, unit: Unit) -> dict[str, Any]:
    note = points.notes[row] if points.notes else ""
    radius = math.nan if points.radius is None else float(points.radius[row])
    described = [note] if note else []
    if math.isfinite(radius):
        described.append(_radius_text(radius, unit))
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
        key = next(key for key, its_unit in _RADIUS_KEYS.items() if its_unit == unit)
        point[key] = round(radius, DECIMALS)
    return point


def _radius_text(radius: float, unit: Unit) -> str:
    return f"true place within {radius:.{DECIMALS}f} {unit} (90 %)"


def _stated_radius(point: dict[str, Any]) -> tuple[str, Any]:
    """Returns the key and the value of a point's radius in the unit in which it has one."""
    stated = [(key, point[key]) for key in _RADIUS_KEYS if point.get(key) is not None]
    return stated[0] if stated else ("", None)


def _note(point: dict[str, Any]) -> str:
    """Returns a point's description without the radius that `write_markups` adds to it."""
    note = str(point.get("description", ""))
    key, radius = _stated_radius(point)
    if key:
        text = _radius_text(float(radius), _RADIUS_KEYS[key])
        note = note.removesuffix(text).removesuffix("; ")
    return note


def slicer_frame_of(path: Path, stated: str | None, given: Frame | None) -> Frame:
    """Returns the frame of markups: LPS or RAS also in a picture, which Slicer takes for a volume.

    The first pixel's centre lies at 0 there, and a pixel is a millimetre.
    """
    return frame_of(path, stated, None if given == "pixels" and stated is not None else given)


def _nodes(path: Path, data: Any) -> list[dict[str, Any]]:
    nodes = data.get("markups") if isinstance(data, dict) else None
    if not isinstance(nodes, list) or not nodes:
        raise InputError(f'{path}: has no list "markups" with points, expected 3D Slicer markups')
    for number, node in enumerate(nodes, start=1):
        if not isinstance(node, dict):
            raise InputError(f"{path}: markups {number} is {shown(node)}, expected an object")
    return nodes


def _read_node(
    path: Path, node: dict[str, Any], frame: Frame | None, default_name: str = "1"
) -> PointList:
    stated = node.get("coordinateSystem")
    frame = slicer_frame_of(path, None if stated is None else str(stated), frame)
    units = node.get("coordinateUnits", "mm")
    if units != "mm":
        raise InputError(f"{path}: has the coordinateUnits {shown(units)}, expected mm")
    points = node.get("controlPoints")
    if not isinstance(points, list) or not all(isinstance(point, dict) for point in points):
        raise InputError(
            f'{path}: has {shown(points)} as "controlPoints", expected a list of objects'
        )
    rows = [_control_point(path, number, point) for number, point in enumerate(points, start=1)]
    landmarks = landmarks_of(path, [label for label, _ in rows], [row for _, row in rows], frame)
    radius = np.array([_radius(path, point) for point in points])
    return PointList(
        str(node.get("name") or default_name),
        landmarks,
        None if np.isnan(radius).all() else radius,
        tuple(_note(point) for point in points),
    )


def _control_point(path: Path, number: int, point: dict[str, Any]) -> tuple[str, list[float]]:
    label = label_of(f"{path}: control point {number}", point.get("label", ""))
    where = f'{path}: control point {number} ("{label}")'
    status = point.get("positionStatus", "defined")
    if status in _MISSING_STATUSES:
        return label, [math.nan] * 3
    if status != "defined":
        raise InputError(
            f"{where} has the positionStatus {shown(status)}, expected defined, undefined or "
            "missing"
        )
    return label, position_of(where, point.get("position"))


def _radius(path: Path, point: dict[str, Any]) -> float:
    key, value = _stated_radius(point)
    if not key:
        return math.nan
    radius = number_of(value)
    if not math.isfinite(radius):
        raise InputError(f"{path}: has the {key} {shown(value)}, expected a number")
    return radius
