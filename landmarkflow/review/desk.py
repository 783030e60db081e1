"""The scans of a run that people look at: what was found in each, and what they decide."""

import fcntl
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from landmarkflow.core.errors import InputError
from landmarkflow.core.locks import NO_LOCKS
from landmarkflow.core.points import Landmarks, PointList
from landmarkflow.core.records import Record, read_record
from landmarkflow.evaluation.errors import MAIN_STAGE
from landmarkflow.evaluation.lists import read_lists
from landmarkflow.evaluation.results import read_scans
from landmarkflow.review.state import (
    ACCEPTED,
    MOVED,
    NOT_VISIBLE,
    PLACED,
    Decision,
    Position,
    Review,
    decide,
    distance,
    read_review,
    undo,
    write_review,
)
from landmarkflow.review.volumes import Move, Source, Volumes, move_between

FOLDER = "reviewed"
# Hidden, as people look into the folder.
_LOCK = ".lock"


class Stale(Exception):  # noqa: N818 - an outcome of two people at work, not an error
    """The file has changed since the page read it: by another page, person or program."""


@dataclass(frozen=True)
class Subject:
    """What is looked at.

    Attributes:
        study, run: their names.
        folder: of the run, results/<study>/<run>.
        labels: every label of the template, as a reference has to hold them.
        looked_for: those that the run looks for.
        scans: where each scan lies, by id.
        template: where the template lies, None where the run has none.
        landmarks: the template's, LPS mm, None where it has none.
        unit: of radii.
    """

    study: str
    run: str
    folder: Path
    labels: tuple[str, ...]
    looked_for: tuple[str, ...]
    scans: Mapping[str, Source]
    template: Source | None = None
    landmarks: Landmarks | None = None
    unit: str = "mm"


@dataclass(frozen=True, eq=False)
class Found:
    """What a run found in a scan: its points with radii, and how it fared."""

    points: PointList
    record: Record

    @property
    def radius(self) -> Mapping[str, float]:
        """Radii by label, where a landmark has one."""
        if self.points.radius is None:
            return {}
        pairs = zip(self.points.landmarks.labels, self.points.radius, strict=True)
        return {label: float(radius) for label, radius in pairs if np.isfinite(radius)}


class Desk:
    """Answers what the page asks, in plain data; positions are LPS mm."""

    def __init__(self, subject: Subject, reviewer: str, volumes: Volumes) -> None:
        self._subject = subject
        self._reviewer = reviewer
        self._volumes = volumes
        self._study = subject.folder.parent.resolve()
        self._lock = threading.RLock()
        self._moves: dict[str, Move] = {}
        table = read_scans(subject.folder)
        rows = [row for _, row in table.iterrows() if row["scan"] in subject.scans]
        self._rows = {str(row["scan"]): row for row in rows}

    @property
    def names(self) -> tuple[str, ...]:
        """Ids of the scans, the most doubtful first."""
        return tuple(self._rows)

    def study(self) -> dict[str, Any]:
        """The scans in their order, with status, doubt and how many landmarks are decided."""
        return {
            "study": self._subject.study,
            "run": self._subject.run,
            "reviewer": self._reviewer,
            "unit": self._subject.unit,
            "template": self._subject.template is not None,
            "scans": [self._row_or_why(name) for name in self._rows],
        }

    def scan(self, name: str) -> dict[str, Any]:
        """One scan: what was found, what is decided, and the template's landmarks beside it."""
        found = self._found(name)
        review = self._review(name, found)
        return self._row(name, review) | {
            "revision": review.revision,
            "undo": review.history[-1].did if review.history else None,
            "picture": self._is_picture(name),
            "turned": self._move(name, found, review) is not None,
            "landmarks": self._landmarks(name, found, review),
        }

    def change(self, name: str, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Do what the page asks of a scan, write it, and return the scan as it then is.

        Args:
            name: the scan.
            asked: `do`: accept, accept all, move, hide or undo; `landmark`; `position` of a move;
                `revision` of the file as the page knows it.

        Raises:
            InputError: what is asked cannot be done.
            Stale: the file is another one than the page knows.
        """
        found = self._found(name)
        with self._held():
            review = self._review(name, found)
            if asked.get("revision") != review.revision:
                raise Stale
            after = self._after(name, asked, found.points.landmarks, review)
            if not after.decisions and not after.history:
                # As before the first decision: an empty file would be a reference without points.
                self._path(name).unlink(missing_ok=True)
            elif after is not review:
                labels, detected = self._subject.labels, found.points.landmarks
                write_review(self._path(name), after, labels, detected, name)
        return self.scan(name)

    def volume(self, name: str) -> BinaryIO:
        """A scan as NIfTI."""
        return self._volumes.scan(name, self._subject.scans[name])

    def template(self, name: str) -> BinaryIO:
        """The template as NIfTI, turned as a scan lies.

        Raises:
            InputError: there is none, or it cannot be used.
        """
        if self._subject.template is None:
            raise InputError("this run has no template")
        found = self._found(name)
        move = self._move(name, found, self._review(name, found))
        source = self._subject.scans[name]
        return self._volumes.template(name, self._subject.template, move, source)

    def _row_or_why(self, name: str) -> dict[str, Any]:
        """A scan in the list; where its files cannot be read, that is what is to be looked at."""
        try:
            return self._row(name)
        except InputError as error:
            return self._row(name, Review()) | {"reason": str(error)}

    def _row(self, name: str, review: Review | None = None) -> dict[str, Any]:
        row = self._rows[name]
        if review is None:
            is_begun = self._path(name).exists()
            review = self._review(name, self._found(name)) if is_begun else Review()
        shown = self._subject.looked_for
        doubt = None if np.isnan(row["doubt"]) else round(float(row["doubt"]), 3)
        return {
            "scan": name,
            "status": row["status"],
            "reason": row["reason"],
            "side": row["side"],
            "doubt": doubt,
            "of": len(shown),
            "decided": sum(label in review.decisions for label in shown),
        }

    def _landmarks(self, name: str, found: Found, review: Review) -> list[dict[str, Any]]:
        similar = found.record.details.get("similarity")
        similar = similar if isinstance(similar, dict) else {}
        template = self._template_points(name, found, review)
        rows = []
        for label in self._subject.looked_for:
            decision = review.decisions.get(label)
            detected = _place(found.points.landmarks, label)
            place = detected if decision is None else decision.position
            rows.append(
                {
                    "label": label,
                    "detected": detected,
                    "position": place,
                    "radius": found.radius.get(label),
                    "similarity": similar.get(label),
                    "template": _place(template, label) if template else None,
                    "did": decision.did if decision else None,
                    "by": decision.by if decision else None,
                    "at": decision.at if decision else None,
                    "moved": distance(place, detected),
                }
            )
        return rows

    def _after(
        self, name: str, asked: Mapping[str, Any], detected: Landmarks, review: Review
    ) -> Review:
        do, label = asked.get("do"), asked.get("landmark")
        if do == "undo":
            return undo(review)
        at = datetime.now(UTC).isoformat(timespec="seconds")

        def decided(did: str, position: Position | None) -> Decision:
            return Decision(did, self._reviewer, at, position)

        if do == "accept all":
            places = {one: _place(detected, one) for one in self._subject.looked_for}
            open_ones = {n: p for n, p in places.items() if p and n not in review.decisions}
            return decide(review, {n: decided(ACCEPTED, p) for n, p in open_ones.items()})
        if label not in self._subject.looked_for:
            raise InputError(f"there is no landmark {label!r}")
        place = _place(detected, label)
        if do == "accept":
            old = review.decisions.get(label)
            if old is not None and old.position is not None:
                return review
            if place is None:
                raise InputError(f"{label} was not found: place it, or say that it is not visible")
            return decide(review, {label: decided(ACCEPTED, place)})
        if do == "hide":
            return decide(review, {label: decided(NOT_VISIBLE, None)})
        if do == "move":
            position = self._inside(name, asked.get("position"))
            return decide(review, {label: decided(MOVED if place else PLACED, position)})
        raise InputError(f"{do!r} is none of accept, accept all, move, hide and undo")

    def _inside(self, name: str, position: Any) -> Position:
        """A position that the page gives, once it is one inside the scan."""
        numbers = position if isinstance(position, list) else []
        if len(numbers) != 3 or not all(
            isinstance(one, int | float) and np.isfinite(one) for one in numbers
        ):
            raise InputError(f"the position is {str(position)[:60]}, expected three finite numbers")
        grid = self._volumes.grid(self._subject.scans[name])
        if not grid.contains([numbers])[0]:
            raise InputError(f"the position lies outside the scan, {grid.extent_text()}")
        x, y, z = (round(float(one), 4) + 0.0 for one in numbers)
        return x, y, z

    def _found(self, name: str) -> Found:
        folder = self._subject.folder / "landmarks"
        path = self._within(folder / f"{name}.mrk.json")
        lists = [one for one in read_lists(path, name) if one.name == MAIN_STAGE]
        labels = self._subject.looked_for
        none = PointList(MAIN_STAGE, Landmarks(labels, np.full((len(labels), 3), np.nan)), None)
        record = read_record(self._within(folder / f"{name}.json"))
        return Found(lists[0] if lists else none, record)

    def _review(self, name: str, found: Found) -> Review:
        path = self._path(name)
        review = read_review(path, found.points.landmarks)
        if unknown := [label for label in review.decisions if label not in self._subject.labels]:
            # They would be lost when the file is written.
            raise InputError(f"{path}: holds {unknown[0]!r}, which is no landmark of the template")
        return review

    def _template_points(self, name: str, found: Found, review: Review) -> Landmarks | None:
        landmarks, move = self._subject.landmarks, self._move(name, found, review)
        if landmarks is None or move is None:
            return landmarks
        return Landmarks(landmarks.labels, move.points(landmarks.positions))

    def _move(self, name: str, found: Found, review: Review) -> Move | None:
        """How the template is turned; a picture is shown as it is.

        Where too little was found, the landmarks that people have placed say it. It then stays, so
        that the template does not turn at each further one.
        """
        if self._subject.landmarks is None or self._is_picture(name):
            return None
        with self._lock:
            if name not in self._moves:
                mirrored = found.record.details.get("mirrored") is True
                placed = _placed(self._subject.looked_for, review)
                known = (found.points.landmarks, placed)
                moves = (move_between(self._subject.landmarks, p, mirrored=mirrored) for p in known)
                if (move := next(filter(None, moves), None)) is None:
                    return None
                self._moves[name] = move
            return self._moves[name]

    def _is_picture(self, name: str) -> bool:
        try:
            return self._volumes.grid(self._subject.scans[name]).size[2] == 1
        except InputError:
            # It is said where the scan would be seen; all else can be looked at.
            return False

    def _path(self, name: str) -> Path:
        return self._within(self._subject.folder / FOLDER / f"{name}.mrk.json")

    def _within(self, path: Path) -> Path:
        """A path of the study, once no link on the way leads out of it."""
        if not path.resolve().is_relative_to(self._study):
            raise InputError(f"{path}: leads out of {self._study}, expected a file of the study")
        return path

    @contextmanager
    def _held(self) -> Iterator[None]:
        """Keep others from changing a scan between reading and writing, in this program or not."""
        path = self._within(self._subject.folder / FOLDER / _LOCK)
        path.parent.mkdir(exist_ok=True)
        with self._lock, path.open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX)
            except OSError as error:
                if error.errno not in NO_LOCKS:
                    raise
            yield


def _placed(labels: Sequence[str], review: Review) -> Landmarks:
    nowhere = (np.nan,) * 3
    decisions = [review.decisions.get(label) for label in labels]
    places = [one.position or nowhere if one else nowhere for one in decisions]
    return Landmarks(tuple(labels), np.array(places))


def _place(landmarks: Landmarks, label: str) -> Position | None:
    if label not in landmarks.labels:
        return None
    position = landmarks.positions[landmarks.labels.index(label)]
    if np.isnan(position).any():
        return None
    x, y, z = (round(float(value), 4) + 0.0 for value in position)
    return x, y, z
