"""A folder of pictures, with tables of their landmarks, sizes and looks beside them.

`images/` holds the pictures; `landmarks.csv`, `images.csv` and `fixations.csv` say of each by its
name what is known, as far as they are there. `training/` holds the same of pictures to learn from.
"""

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from landmarkflow.core.errors import InputError, about
from landmarkflow.core.files import read_text
from landmarkflow.formats.scan_files import PICTURES
from landmarkflow.formats.tables import Marked, marked_in
from landmarkflow.study.config import DataSource, Unit
from landmarkflow.study.folder import Tell, identifier, listed, stem_of, tell_unused
from landmarkflow.study.sheet import Scan, check_files, scan_of

IMAGES, TRAINING = "images", "training"
LANDMARKS, SIZES, LOOKS = "landmarks.csv", "images.csv", "fixations.csv"
KNOWN = (IMAGES, TRAINING, LANDMARKS, SIZES, LOOKS)
SIZE_COLUMNS = ("image", "width", "height")
# A picture's group may go by either name.
GROUP_COLUMNS = ("group", "camera")
ORIGINAL_COLUMNS = ("original_width", "original_height")
MM_COLUMN, SCALE_COLUMN = "mm_per_px", "scale"
LOOK_COLUMNS = ("image", "observer", "x", "y", "duration_ms", "order")
# Of how much a picture was reduced along x and along y. More would let a circle be an ellipse.
SAME = 0.01
# Rows of a table, with their line numbers.
Rows = list[tuple[int, dict[str, str]]]


@dataclass(frozen=True)
class Pictures:
    """What a folder of pictures holds.

    Attributes:
        scans: a row of the sheet for each picture, those to learn from last.
        labels: of the landmarks, in the order in which the tables first name them.
    """

    scans: tuple[Scan, ...]
    labels: tuple[str, ...]


def is_of_pictures(folder: Path) -> bool:
    """Whether a folder is laid out as one of pictures."""
    return (folder / IMAGES).is_dir() and not (folder / "scans").is_dir()


def pictures_in(folder: Path, data: DataSource, unit: Unit, tell: Tell) -> Pictures:
    """Find the pictures of a folder and what its tables say of them.

    Points are in pixels of the picture, the centre of the first at (0, 0).

    Args:
        folder: with `images/`.
        data: the raters that count, and the landmarks that are asked for.
        unit: of the study: a pixel measures `mm_per_px` of images.csv where it is mm, and
            original_width / width where it is px, "original pixels".
        tell: is told of files that are not used, and of rows for images that are not there.

    Raises:
        InputError: a table cannot be used or is at odds with the pictures or the settings.
    """
    parts = [_Part.read(folder, "", data, tell)]
    if (folder / TRAINING).is_dir():
        parts.append(_Part.read(folder / TRAINING, "train", data, tell))
    labels = tuple(dict.fromkeys(label for part in parts for label in part.marked.labels))
    _check_asked("raters", data.raters, [r for part in parts for r in part.raters])
    _check_asked("landmarks", data.landmarks, labels)
    scans = [scan for part in parts for scan in part.scans(data.raters, unit)]
    return Pictures(tuple(scans), labels)


@dataclass(frozen=True)
class _Part:
    """The pictures of one folder `images/`, by their stems, and the tables beside it."""

    folder: Path
    split: str
    images: Mapping[str, Path]
    marked: Marked
    sizes: Mapping[str, tuple[str, dict[str, str]]]
    looked_at: frozenset[str]

    @staticmethod
    def read(folder: Path, split: str, data: DataSource, tell: Tell) -> "_Part":
        paths = listed(folder / IMAGES, tell)
        stems = {path: stem_of(path, PICTURES) for path in paths}
        images = {path: stem for path, stem in stems.items() if stem is not None}
        tell_unused(paths, images, f"a picture, {', '.join(PICTURES)}", tell)
        if not images:
            raise InputError(f"{folder / IMAGES}: holds no picture, expected some")
        # Notes may lie beside the folders; another folder, or another table, may be meant.
        others = [p for p in listed(folder, tell) if p.is_dir() or p.suffix in (".csv", ".tsv")]
        known = [folder / name for name in KNOWN if not (split and name == TRAINING)]
        tell_unused(others, known, f"one of {', '.join(KNOWN)}", tell)
        names = {name for path, stem in images.items() for name in (path.name, stem)}
        marked = Marked((), {})
        if (path := folder / LANDMARKS).is_file():
            with about(path):
                marked = marked_in(read_text(path, "a table of landmarks"))
            _tell_absent(path, marked.raters, names, tell)
        sizes: dict[str, tuple[str, dict[str, str]]] = {}
        if (path := folder / SIZES).is_file():
            for number, row in _table(path, SIZE_COLUMNS):
                where = f"{path}, row {number}"
                stem = Path(row["image"]).stem if row["image"] in names else row["image"]
                if stem in sizes:
                    raise InputError(f"{where}: the image `{stem}` stands twice, expected once")
                sizes[stem] = where, row
            _tell_absent(path, sizes, names, tell)
        looked_at: frozenset[str] = frozenset()
        if (path := folder / LOOKS).is_file():
            looked_at = frozenset(row["image"] for _, row in _table(path, LOOK_COLUMNS))
            _tell_absent(path, looked_at, names, tell)
        by_stem = {stem: path for path, stem in images.items()}
        if len(by_stem) < len(images):
            twice = next(path for path, stem in images.items() if by_stem[stem] != path)
            raise InputError(
                f"{twice}: the name `{images[twice]}` is that of {by_stem[images[twice]].name}, "
                "too, expected each once"
            )
        return _Part(folder, split, by_stem, marked, sizes, looked_at)

    @property
    def raters(self) -> list[str]:
        """Everyone who marked something."""
        return [name for names in self.marked.raters.values() for name in names]

    def scans(self, raters: Sequence[str], unit: Unit) -> list[Scan]:
        """A row of the sheet for each picture."""
        found = []
        for stem, path in self.images.items():
            names = {stem, path.name}
            marks = [r for name in names for r in self.marked.raters.get(name, ())]
            row = {
                "scan": identifier(stem),
                "image": str(path),
                "split": self.split,
                **self._stated(stem, path, unit),
            }
            if any(not raters or rater in raters for rater in marks):
                row |= {"landmarks": str(self.folder / LANDMARKS), "frame": "pixels"}
            if names & self.looked_at:
                row["gaze"] = str(self.folder / LOOKS)
            found.append(scan_of(row, str(path)))
            check_files(str(path), found[-1])
        return found

    def _stated(self, stem: str, path: Path, unit: Unit) -> dict[str, str]:
        """What images.csv says of a picture, as cells of the sheet."""
        where, row = self.sizes.get(stem, (str(self.folder / SIZES), {}))
        width, height = (_number(where, row, column) for column in SIZE_COLUMNS[1:])
        size = _size_of(path)
        if width and size and size != (width, height):
            raise InputError(
                f"{where}: states {width:g} x {height:g} pixels, but {path} has {size[0]} x "
                f"{size[1]}, expected the same"
            )
        original = [_number(where, row, column) for column in ORIGINAL_COLUMNS]
        spacing = 1.0
        if width and height and all(original):
            across, down = original[0] / width, original[1] / height
            if abs(across - down) > SAME * max(across, down):
                raise InputError(
                    f"{where}: a pixel measures {across:.4g} original ones across and {down:.4g} "
                    f"down, expected the same within {SAME:.0%}"
                )
            spacing = (across + down) / 2
        if unit == "mm":
            spacing = _number(where, row, MM_COLUMN)
            if not spacing:
                raise InputError(
                    f"{where}: states no {MM_COLUMN} of {path.name}, expected some, since the "
                    "study's unit is mm; or state `unit: px`"
                )
        found = {"spacing": f"{spacing:.10g}" if unit != "%" and spacing != 1 else ""}
        found["group"] = next((row[name] for name in GROUP_COLUMNS if row.get(name)), "")
        return found | {"scale": row.get(SCALE_COLUMN, "")}


def _table(path: Path, needed: Sequence[str]) -> Rows:
    """The rows of a table, cells by the names of their columns, with their line numbers."""
    lines = enumerate(read_text(path, "a table").splitlines(), start=1)
    kept = [(number, line) for number, line in lines if line.strip(" ,") and line[0] != "#"]
    try:
        read = [[cell.strip() for cell in cells] for cells in csv.reader(line for _, line in kept)]
    except csv.Error as error:
        raise InputError(f"{path}: cannot be read as a table ({error})") from None
    header = [cell.casefold() for cell in read[0]] if read else []
    absent = [column for column in needed if column not in header]
    if absent or len(set(header)) < len(header):
        raise InputError(
            f"{path}: has the columns {', '.join(header) or 'of an empty file'}, expected each "
            f"once and {', '.join(needed)} among them, separated by commas"
        )
    numbers = [number for number, _ in kept[1:]]
    cells = (row + [""] * (len(header) - len(row)) for row in read[1:])
    return [
        (n, dict(zip(header, row, strict=False))) for n, row in zip(numbers, cells, strict=True)
    ]


def _tell_absent(path: Path, stated: Iterable[str], names: set[str], tell: Tell) -> None:
    """Tell once of rows for images that are not there."""
    absent = [name for name in dict.fromkeys(stated) if name and name not in names]
    if absent:
        named = f"`{absent[0]}`" if len(absent) == 1 else f"{len(absent)}, `{absent[0]}` first"
        tell(f"{path}: names images that are not in {IMAGES}/ ({named}); their rows are not used")


def _check_asked(setting: str, asked: Sequence[str], there: Sequence[str]) -> None:
    """Refuse a rater or a landmark of the settings that no table names."""
    known = [name for name in dict.fromkeys(there) if name]
    unknown = [name for name in asked if name not in known]
    if unknown and there:
        raise InputError(
            f"config: `data.{setting}` names {unknown[0]!r}, expected "
            f"{'one of ' + ', '.join(known) if known else 'none: the tables name none'}"
        )


def _number(where: str, row: Mapping[str, str], column: str) -> float:
    """A positive number of a table, 0 for an empty cell."""
    text = row.get(column, "")
    try:
        value = float(text or "nan")
    except ValueError:
        value = -1.0
    if text and not 0 < value < float("inf"):
        raise InputError(f"{where}: `{column}` is {text!r}, expected a positive number")
    return value if text else 0.0


def _size_of(path: Path) -> tuple[int, int] | None:
    """Columns and rows by a picture's header; None of a broken one, which its reader refuses."""
    try:
        with Image.open(path) as picture:
            return picture.size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
