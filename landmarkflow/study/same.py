"""Scans that hold one and the same image, found before anything runs.

Sizes are compared first, then some bytes, so that whole files are read only where they agree.
"""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from pathlib import Path

from landmarkflow.core.errors import InputError
from landmarkflow.core.files import sha256
from landmarkflow.core.records import TEMPLATE
from landmarkflow.formats.scan_files import files_of
from landmarkflow.study.config import Template
from landmarkflow.study.sheet import Scan

# Read at a file's start and in its middle. Fewer tell less well one scan from another, whose
# headers and air may be alike; more take longer.
SAMPLE_BYTES = 1 << 14


def refused_images(scans: Mapping[str, Scan], templates: Mapping[str, Template]) -> dict[str, str]:
    """Why scans cannot be measured: their image is a template's, or that of another scan.

    Two sides of one image are two scans where both sides are stated, and so are two series.

    Args:
        scans: those in which landmarks are looked for.
        templates: the annotated scans, by id.

    Returns:
        The reason, by the scan's id.
    """
    entries: dict[str, Scan | Template] = {**templates, **scans}
    refused = {}
    for group in _alike({name: Path(entry.image) for name, entry in entries.items()}):
        for name in filter(scans.__contains__, group):
            others = [n for n in group if n != name and not _are_two(entries[n], entries[name])]
            if others:
                named = ["the template" if n == TEMPLATE else f"the scan {n}" for n in others]
                refused[name] = (
                    f"scan {name}: holds the same image as {' and '.join(named)}, expected another "
                    "image, or another side of it that is stated for each"
                )
    return refused


def parts_of(path: Path) -> list[Path]:
    """Every file that a scan consists of: a header's voxels may lie in a file beside it."""
    try:
        return files_of(path)
    except InputError:
        # Whoever reads it has more to say.
        return [path]


def _are_two(one: Scan | Template, other: Scan | Template) -> bool:
    """Whether two scans of one image, or tree, are stated to be two sides of it, or two series.

    One whose series is not stated is found to be the same, or cannot be chosen, when it is read.
    """
    sides = one.side and other.side and one.side != other.side
    return bool(sides) or one.series != other.series


def _alike(images: Mapping[str, Path]) -> list[list[str]]:
    """Names of images that hold the same bytes; an empty file is like no other."""
    groups = [[name for name, path in images.items() if path.exists() and any(_sizes(path))]]
    for look in (_sizes, _samples, _digests):
        groups = [alike for group in groups for alike in _split(group, images, look)]
    return groups


def _split(
    group: Sequence[str], images: Mapping[str, Path], look: Callable[[Path], Hashable]
) -> Iterator[list[str]]:
    """Those of a group that look alike, two at least; what is one file is not looked at."""
    paths = {images[name] for name in group}
    looks = {path: _seen(path, look) if len(paths) > 1 else None for path in paths}
    alike = defaultdict(list)
    for name in group:
        alike[looks[images[name]]].append(name)
    yield from (names for names in alike.values() if len(names) > 1)


def _seen(path: Path, look: Callable[[Path], Hashable]) -> Hashable:
    try:
        return look(path)
    except (InputError, OSError):
        # What cannot be read is like no other.
        return path


def _sizes(path: Path) -> tuple[int, ...]:
    return tuple(part.stat().st_size for part in parts_of(path))


def _samples(path: Path) -> tuple[bytes, ...]:
    found = []
    for part in parts_of(path):
        with part.open("rb") as file:
            for place in (0, part.stat().st_size // 2):
                file.seek(place)
                found.append(file.read(SAMPLE_BYTES))
    return tuple(found)


def _digests(path: Path) -> tuple[str, ...]:
    return tuple(sha256(part) for part in parts_of(path))
