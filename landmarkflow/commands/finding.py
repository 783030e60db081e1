"""Scans, landmarks and segmentations anywhere below a folder, and which belong together."""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from landmarkflow.core.errors import InputError
from landmarkflow.formats.dicom_series import series_below
from landmarkflow.study.folder import (
    AROUND_NAMES,
    IMAGE_SUFFIXES,
    LANDMARK_SUFFIXES,
    Tell,
    listed,
    stem_of,
)

LABELS = re.compile(
    r"(^|[\W_])(segmentations?|seg|labels?|labelmap|masks?)([\W_]|$)", re.IGNORECASE
)
TEMPLATE_WORDS = re.compile(r"template|(^|[\W_])atlas([\W_]|$)", re.IGNORECASE)
DICOM_SUFFIXES = ("", ".dcm", ".ima")


@dataclass(frozen=True)
class Found:
    """A scan, and what belongs to it.

    Attributes:
        path: file, or folder of a DICOM series.
        name: what it is called below the folder, without a suffix.
        series: UID of its series, where its folder holds several.
        landmarks: file of its landmarks, or None.
        segmentation: file of its segmentation, or None.
        why: how these were matched, for people; empty where the names are the same.
    """

    path: Path
    name: str
    series: str = ""
    landmarks: Path | None = None
    segmentation: Path | None = None
    why: str = ""

    @property
    def is_template(self) -> bool:
        """Whether its path says that it is the annotated scan."""
        return bool(TEMPLATE_WORDS.search(self.name))


def find(folder: Path, tell: Tell) -> list[Found]:
    """Find all scans below a folder, each with its landmarks and its segmentation.

    Args:
        folder: of any layout.
        tell: is told of each file that belongs to no scan.

    Raises:
        InputError: there is no such folder, or a DICOM file in it is damaged.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder, expected one with scans")
    images: list[Found] = []
    landmarks: list[Path] = []
    labels: list[Path] = []
    for place in (folder, *_folders(folder, tell)):
        files = [path for path in listed(place, lambda line: None) if path.is_file()]
        images += _series_of(place, files, folder)
        for path in files:
            stem = stem_of(path, IMAGE_SUFFIXES)
            if stem is not None and LABELS.search(str(path.relative_to(folder).with_name(stem))):
                labels.append(path)
            elif stem is not None:
                images.append(Found(path, str(path.relative_to(folder).with_name(stem))))
            elif stem_of(path, LANDMARK_SUFFIXES) is not None:
                landmarks.append(path)
    images.sort(key=lambda one: (one.name, one.series))
    images = _with(images, landmarks, "landmarks", folder, tell)
    return _with(images, labels, "segmentation", folder, tell)


def ids_of(images: Sequence[Found]) -> list[str]:
    """A short id for each scan: its file's name, with as many folders as make it unlike others."""
    parts = [Path(one.name + _series_part(one, images)).parts for one in images]
    count = 1
    while len(ids := ["-".join(p[-count:]) for p in parts]) > len(set(ids)):
        count += 1
        if count > max(map(len, parts)):
            raise InputError(f"{ids[0]}: two scans have this name, expected different ones")
    ids = _without_shared([p[-count:] for p in parts]) or ids
    return [re.sub(r"[^A-Za-z0-9_-]", "-", name).lstrip("-_")[:64] for name in ids]


def _without_shared(parts: Sequence[tuple[str, ...]]) -> list[str]:
    """Ids without the folders that all scans of one depth share; none where two would be alike.

    Of PAT1/STUDY/SERIES and PAT2/STUDY/SERIES, PAT1 and PAT2 are left.
    """
    ids = []
    for own in parts:
        others = [other for other in parts if len(other) == len(own) and other is not own]
        kept = [
            name
            for place, name in enumerate(own)
            if not others or any(other[place] != name for other in others)
        ]
        ids.append("-".join(kept))
    return ids if all(ids) and len(set(ids)) == len(ids) else []


def _series_part(one: Found, images: Sequence[Found]) -> str:
    alike = [other.series for other in images if other.path == one.path]
    return f"-series{alike.index(one.series) + 1}" if len(alike) > 1 else ""


def _folders(folder: Path, tell: Tell) -> list[Path]:
    found = []
    for path in listed(folder, tell):
        if path.is_dir():
            found += [path, *_folders(path, tell)]
    return found


def _series_of(place: Path, files: Sequence[Path], folder: Path) -> list[Found]:
    """The DICOM series that are volumes whose files lie in a folder itself."""
    slices = [path for path in files if path.suffix.lower() in DICOM_SUFFIXES]
    series = [one for one in series_below(slices) if one.is_volume]
    name = str(place.relative_to(folder)) if place != folder else place.name
    uids = [one.uid if len(series) > 1 else "" for one in series]
    return [Found(place, name, uid) for uid in uids]


def _with(
    images: Sequence[Found], files: Iterable[Path], role: str, folder: Path, tell: Tell
) -> list[Found]:
    """The scans with the files that belong to them."""
    suffixes = LANDMARK_SUFFIXES if role == "landmarks" else IMAGE_SUFFIXES
    found = list(images)
    for path in files:
        stem = stem_of(path, suffixes) or path.name
        places = _owners(found, path, stem, folder)
        if len(places) != 1:
            belongs = "to no scan" if not places else f"to any of {len(places)} scans"
            tell(f"{path}: is not used: belongs {belongs} by its name, expected to one")
            continue
        one = found[places[0]]
        if getattr(one, role) is not None:
            tell(f"{path}: is not used: {one.path} has {getattr(one, role)} already")
            continue
        same = _core(stem) == _core(Path(one.name).name)
        why = one.why if same else "by their folder, in which no other scan lies"
        found[places[0]] = (
            replace(one, landmarks=path, why=why)
            if role == "landmarks"
            else replace(one, segmentation=path, why=why)
        )
    return found


def _owners(images: Sequence[Found], path: Path, stem: str, folder: Path) -> list[int]:
    """Places of the scans that a file may belong to: by its name, or by its folder."""
    by_name = defaultdict(list)
    for place, one in enumerate(images):
        for core in {_core(part) for part in Path(one.name).parts} | {_core(one.name)}:
            by_name[core].append(place)
    own = [p for p, one in enumerate(images) if _core(Path(one.name).name) == _core(stem)]
    if own:
        return own
    if _core(stem) and by_name[_core(stem)]:
        return by_name[_core(stem)]
    parents = [one.path if one.path.is_dir() else one.path.parent for one in images]
    beside = [place for place, parent in enumerate(parents) if parent == path.parent]
    below = [
        p
        for p, parent in enumerate(parents)
        if path.parent != folder and path.parent in parent.parents
    ]
    return beside or below


def _core(name: str) -> str:
    return AROUND_NAMES.sub("", name.casefold())
