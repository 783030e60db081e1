"""What people decided about a scan's landmarks: one file for each scan, replaced at every change.

The file holds 3D Slicer markups with every label of the template. A landmark about which nobody has
decided is undefined, so that only what a person has seen counts as a reference; one that is not
visible in the scan is missing. Who decided, when and what stands in the same file, in the key
`review` of each point and of the whole: were it in a file beside it, a crash between the two could
leave points of which nobody knows who placed them.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from landmarkflow.core.errors import InputError, about
from landmarkflow.core.files import read_json, write_json
from landmarkflow.core.points import DECIMALS, Landmarks, PointList
from landmarkflow.formats.slicer import markups_of, read_point_lists

Position = tuple[float, float, float]

ACCEPTED, MOVED, PLACED, NOT_VISIBLE = "accepted", "moved", "placed", "not visible"
DONE = (ACCEPTED, MOVED, PLACED, NOT_VISIBLE)
LIST = "reviewed"
# Who is named where another program, 3D Slicer say, has saved the file without our keys.
UNKNOWN = "another program"
_KEY = "review"


@dataclass(frozen=True)
class Decision:
    """What was decided about one landmark.

    Attributes:
        did: one of `DONE`.
        by: who.
        at: when, in UTC, as ISO 8601.
        position: LPS mm; None where the landmark is not visible.
    """

    did: str
    by: str
    at: str
    position: Position | None


@dataclass(frozen=True)
class Change:
    """One step that can be undone: what it did, and the decisions as they were before, by label."""

    did: str
    by: str
    at: str
    before: Mapping[str, Decision | None]


@dataclass(frozen=True)
class Review:
    """The decisions about a scan, by label, and the changes that led to them, the last one last.

    Attributes:
        revision: tells one content of the file from another; empty where there is no file.
    """

    decisions: Mapping[str, Decision] = field(default_factory=dict)
    history: tuple[Change, ...] = ()
    revision: str = ""


def decide(review: Review, decisions: Mapping[str, Decision]) -> Review:
    """Take decisions about some landmarks, as one step; nothing changes where there are none."""
    if not decisions:
        return review
    first = next(iter(decisions.values()))
    before = {label: review.decisions.get(label) for label in decisions}
    change = Change(first.did, first.by, first.at, before)
    return replace(
        review,
        decisions={**review.decisions, **decisions},
        history=(*review.history, change),
    )


def undo(review: Review) -> Review:
    """Take back the last step.

    Raises:
        InputError: there is none.
    """
    if not review.history:
        raise InputError("nothing is left to undo")
    last = review.history[-1]
    found = {**review.decisions, **last.before}
    return replace(
        review,
        decisions={label: decision for label, decision in found.items() if decision},
        history=review.history[:-1],
    )


def read_review(path: Path, detected: Landmarks) -> Review:
    """Read what was decided about a scan; nothing where there is no file.

    A file that another program has saved keeps its points: those that it has moved are `moved`, by
    `another program`.

    Args:
        path: the file.
        detected: where the landmarks were found, by which moved ones are told from accepted ones.

    Raises:
        InputError: the file is none of this kind.
    """
    if not path.exists():
        return Review()
    points = read_point_lists(path)[0].landmarks
    data = read_json(path)
    with about(path):
        nodes = data["markups"][0]["controlPoints"]
        decisions = {}
        for label, position, node in zip(points.labels, points.positions, nodes, strict=True):
            place = None if np.isnan(position).any() else _position(position)
            decision = _decision(node.get(_KEY), place, _place_of(detected, label))
            if decision is None and node.get("positionStatus") == "missing":
                decision = Decision(NOT_VISIBLE, UNKNOWN, "", None)
            if decision is not None:
                decisions[label] = decision
        stated = data.get(_KEY, {})
        if not isinstance(stated, dict) or not isinstance(stated.get("history", []), list):
            raise InputError(f"has the `{_KEY}` {str(stated)[:60]!r}, expected an object")
        history = tuple(_change(step) for step in stated.get("history", []))
    return Review(decisions, history, hashlib.sha256(path.read_bytes()).hexdigest()[:16])


def write_review(
    path: Path, review: Review, labels: Iterable[str], detected: Landmarks, scan: str
) -> None:
    """Write what was decided about a scan, replacing the file as a whole.

    Args:
        path: the file.
        review: the decisions.
        labels: every label of the template, in its order.
        detected: where the landmarks were found.
        scan: its id, which stands in front of the list's name.
    """
    names = tuple(labels)
    found = [review.decisions.get(label) for label in names]
    notes = [_note(one, _place_of(detected, name)) for one, name in zip(found, names, strict=True)]
    nowhere = (np.nan,) * 3
    positions = np.array([one.position or nowhere if one else nowhere for one in found])
    points = PointList(LIST, Landmarks(names, positions), None, tuple(notes))
    data = markups_of(path, [points], scan=scan)
    for node, decision in zip(data["markups"][0]["controlPoints"], found, strict=True):
        if decision is not None:
            node[_KEY] = {"did": decision.did, "by": decision.by, "at": decision.at}
            if decision.position is None:
                node["positionStatus"] = "missing"
    data[_KEY] = {"scan": scan, "history": [_as_data(change) for change in review.history]}
    write_json(path, data)


def distance(one: Position | None, other: Position | None) -> float | None:
    """The distance between two places in mm, None where one of them is none."""
    if one is None or other is None:
        return None
    return float(np.linalg.norm(np.subtract(one, other)))


def _note(decision: Decision | None, detected: Position | None) -> str:
    """A point's description, which 3D Slicer shows."""
    if decision is None:
        return "nobody has decided yet"
    when = decision.at.replace("T", " ").replace("+00:00", " UTC")
    note = f"{decision.did} by {decision.by} {when}".strip()
    moved = distance(decision.position, detected)
    return f"{note}, {moved:.2f} mm from the detected place" if decision.did == MOVED else note


def _place_of(landmarks: Landmarks, label: str) -> Position | None:
    if label not in landmarks.labels:
        return None
    position = landmarks.positions[landmarks.labels.index(label)]
    return None if np.isnan(position).any() else _position(position)


def _position(values: Iterable[float]) -> Position:
    x, y, z = (round(float(value), DECIMALS) + 0.0 for value in values)
    return x, y, z


def _decision(data: Any, place: Position | None, detected: Position | None) -> Decision | None:
    """What a point says of itself; what its position says where it says nothing."""
    stated = data.get("did") if isinstance(data, dict) else None
    if stated in DONE and (place is None) == (stated == NOT_VISIBLE):
        return Decision(stated, str(data.get("by")), str(data.get("at")), place)
    if place is None:
        return None
    far = distance(place, detected)
    did = PLACED if far is None else MOVED if far > 10.0**-DECIMALS else ACCEPTED
    return Decision(did, UNKNOWN, "", place)


def _change(data: Any) -> Change:
    try:
        before = {
            str(label): Decision(
                old["did"],
                old["by"],
                old["at"],
                _position(old["position"]) if "position" in old else None,
            )
            if old
            else None
            for label, old in data["before"].items()
        }
        return Change(str(data["did"]), str(data["by"]), str(data["at"]), before)
    except (KeyError, TypeError, ValueError, AttributeError):
        raise InputError("has a step in its history that cannot be read") from None


def _as_data(change: Change) -> dict[str, Any]:
    def plain(old: Decision | None) -> dict[str, Any] | None:
        if old is None:
            return None
        head = {"did": old.did, "by": old.by, "at": old.at}
        return head if old.position is None else head | {"position": list(old.position)}

    head = {"did": change.did, "by": change.by, "at": change.at}
    return head | {"before": {label: plain(old) for label, old in change.before.items()}}
