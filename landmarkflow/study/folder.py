"""What lies in a folder of scans: files by their names, and a word on each that is not used."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from landmarkflow.core.errors import InputError
from landmarkflow.formats.scan_files import META_IMAGE, NIFTI, NRRD, PICTURES, READABLE
from landmarkflow.study.same import parts_of

# Takes one line that the user is to read at the start of a run.
Tell = Callable[[str], None]

IMAGE_SUFFIXES = (*NIFTI, *NRRD, *META_IMAGE, *PICTURES)
LANDMARK_SUFFIXES = (".mrk.json", ".fcsv", ".csv", ".json")
EXPECTED = {IMAGE_SUFFIXES: READABLE, LANDMARK_SUFFIXES: f"one of {', '.join(LANDMARK_SUFFIXES)}"}
# What storage, archives and desktops leave in folders, in small letters.
OF_THE_SYSTEM = {
    *("@eadir", "__macosx", "#recycle", "$recycle.bin", "system volume information", "lost+found"),
    *("thumbs.db", "ehthumbs.db", "desktop.ini"),
}
# Files of one suffix in one folder: more are counted, as where slices lie among the scans.
MOST_NAMED = 10
# What people put around a scan's name to name its landmarks or its segmentation.
AROUND_NAMES = re.compile(
    r"landmarks?|markups?|fiducials?|points?|segmentations?|seg|labels?|mask|reference|[\W_]"
)


def listed(folder: Path, tell: Tell) -> list[Path]:
    """What people put into a folder, sorted; nothing where there is no folder."""
    found = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if not path.name.startswith(".") and path.name.casefold() not in OF_THE_SYSTEM:
            found.append(path)
        elif path.is_dir():
            tell(f"{path}: is passed over, a folder that a system or a storage device made")
    return found


def stem_of(path: Path, suffixes: Sequence[str], *, series: bool = False) -> str | None:
    """A file's name without its suffix, None where it has none of these.

    Args:
        path: the file or folder.
        suffixes: in small letters, longer ones before those that they end with.
        series: whether a folder counts, too, since it may hold a DICOM series.
    """
    if path.is_dir():
        return path.name if series else None
    ends = [suffix for suffix in suffixes if path.name[-len(suffix) :].lower() == suffix]
    return path.name[: -len(ends[0])] if ends else None


def images_in(folder: Path, tell: Tell) -> list[tuple[str, Path]]:
    """The scans of a folder, each with its name without the suffix; all else is told."""
    stems = {path: stem_of(path, IMAGE_SUFFIXES, series=True) for path in listed(folder, tell)}
    images = [(stem, path) for path, stem in stems.items() if stem is not None]
    tell_unused(stems, [path for _, path in images], EXPECTED[IMAGE_SUFFIXES], tell)
    return images


def named_in(folder: Path, roles: Mapping[str, tuple[str, ...]], tell: Tell) -> dict[str, str]:
    """The file of each role of a folder, by the file's name; an empty string where none is.

    Args:
        folder: the template's, say.
        roles: names without suffix, and the suffixes, of which an earlier one goes first.
        tell: is told of all else.
    """
    paths = listed(folder, tell)
    found = {}
    for role, suffixes in roles.items():
        stems = {p: stem_of(p, suffixes, series=suffixes is IMAGE_SUFFIXES) or "" for p in paths}
        # 3D Slicer saves a segmentation as Segmentation.seg.nrrd.
        here = [p for p, stem in stems.items() if stem.casefold().removesuffix(".seg") == role]
        found[role] = str(min(here, key=lambda path: _rank(path, suffixes))) if here else ""
    expected = f"one file for each of {', '.join(roles)}"
    tell_unused(paths, map(Path, filter(None, found.values())), expected, tell)
    return found


def references_in(
    folder: Path, suffixes: tuple[str, ...], scans: Sequence[str], tell: Tell
) -> dict[str, str]:
    """The landmarks, or the segmentation, of each scan that has some.

    Args:
        folder: where they lie, each under its scan's name; it need not be there.
        suffixes: theirs, of which an earlier one goes first.
        scans: names of the scans.
        tell: is told of each file that is not used, and of each whose capitals are others.

    Raises:
        InputError: a file belongs to no scan.
    """
    paths = listed(folder, tell)
    stems = {path: stem for path in paths if (stem := stem_of(path, suffixes)) is not None}
    found: dict[str, Path] = {}
    used, orphans = [], []
    for path in sorted(stems, key=lambda path: (stems[path] not in scans, _rank(path, suffixes))):
        scan = meant(stems[path], scans)
        if scan is None or (scan in found and stems[path] != scan):
            orphans.append(path)
        elif scan not in found:
            found[scan] = path
            used.append(path)
            if stems[path] != scan:
                tell(f"{path}: is taken for the scan {scan}, which differs in capitals alone")
    tell_unused(paths, [*used, *orphans], f"{EXPECTED[suffixes]}, once for each scan", tell)
    if orphans:
        raise InputError(_of_no_scan(sorted(orphans), stems, scans))
    return {scan: str(path) for scan, path in found.items()}


def identifier(stem: str) -> str:
    """A file's name without the suffix as an id, with - for what an id cannot hold."""
    return re.sub(r"[^A-Za-z0-9_-]", "-", stem)


def meant(name: str, names: Iterable[str]) -> str | None:
    """That of the names which is said, or the one that differs from it in capitals alone."""
    names = list(names)
    alike = [name] if name in names else [n for n in names if _folded(n) == _folded(name)]
    return alike[0] if len(alike) == 1 else None


def tell_unused(paths: Iterable[Path], used: Iterable[Path], expected: str, tell: Tell) -> None:
    """Tell of each file that is neither used nor holds the voxels of a header that is."""
    taken = {part for path in used for part in (path, *parts_of(path))}
    alike = defaultdict(list)
    for path in paths:
        if path not in taken:
            alike[path.suffix.lower()].append(path)
    for suffix, unused in alike.items():
        for path in unused[:MOST_NAMED]:
            tell(f"{path}: is not used, expected {expected}")
        if len(unused) > MOST_NAMED:
            more = len(unused) - MOST_NAMED
            tell(f'{unused[0].parent}: {more} more files with the suffix "{suffix}" are not used')


def _of_no_scan(orphans: Sequence[Path], stems: Mapping[Path, str], scans: Sequence[str]) -> str:
    first, *others = orphans
    said = f"{first}: belongs to no scan, expected the name of one"
    core = AROUND_NAMES.sub("", _folded(stems[first]))
    like = [scan for scan in scans if AROUND_NAMES.sub("", _folded(scan)) == core]
    if len(like) == 1:
        said += f"; is {like[0]}{first.name[len(stems[first]) :]} meant?"
    return said + (f" (and {', '.join(path.name for path in others)})" if others else "")


def _rank(path: Path, suffixes: Sequence[str]) -> tuple[int, str]:
    ends = (n for n, s in enumerate(suffixes) if path.name.lower().endswith(s))
    return next(ends, len(suffixes)), path.name


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()
