"""The sheet of scans: one row a scan, read with every check, written for people and programs."""

import csv
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from pydantic import Field, ValidationError

from landmarkflow.core.errors import InputError
from landmarkflow.core.files import read_text, table_text
from landmarkflow.core.records import TEMPLATE
from landmarkflow.core.settings import Settings, explain
from landmarkflow.formats.scan_files import PICTURES
from landmarkflow.study.config import Frame, ScanId, SeriesId, Side, Split, Template, scan_id

SHEET_COLUMNS = (
    "scan",
    "image",
    "side",
    "landmarks",
    "frame",
    "segmentation",
    "split",
    "gaze",
    "scale",
    "series",
    "spacing",
    "group",
)
# What other tables have for tabs; spaces last, which may stand beside the others.
SEPARATORS = {",": "commas", ";": "semicolons", "|": "bars", " ": "spaces"}
FILE_COLUMNS = ("image", "landmarks", "segmentation", "gaze")


class Scan(Settings):
    """One row of the sheet."""

    scan: ScanId = Field(description="id of the scan, in every table and file name")
    image: str = Field(min_length=1, description="file of the scan, or folder of a DICOM series")
    series: SeriesId = Field("", description="number or UID of its DICOM series, among several")
    side: Side = Field("", description="left or right, where the anatomy has sides")
    landmarks: str = Field("", description="file of reference landmarks")
    frame: Frame = Field("", description="frame of the landmarks, where their file states none")
    segmentation: str = Field("", description="file of the reference segmentation")
    split: Split = Field("", description="train or validation: an annotated scan to learn from")
    gaze: str = Field("", description="file of gaze points")
    scale: float | None = Field(None, gt=0, description="length of which errors in % are parts")
    spacing: float | None = Field(
        None,
        gt=0,
        description="of a picture: what a pixel measures in the study's unit, 1 if empty",
    )
    group: str = Field("", description="such as the camera; each group has a row in the tables")

    @property
    def row(self) -> dict[str, str]:
        """The row as texts."""
        found = {name: getattr(self, name) for name in SHEET_COLUMNS}
        return {name: "" if value is None else str(value) for name, value in found.items()}


def read_sheet(path: Path, tell: Callable[[str], None] = lambda line: None) -> list[Scan]:
    """Read `samples.tsv`; relative paths are relative to the sheet's own folder.

    Columns: `scan` (id), `image`, and optionally the others of `SHEET_COLUMNS`. Dots in an id
    become dashes, which is told.

    Raises:
        InputError: the sheet is missing or has unknown or no columns, a row is wrong, an id
            stands twice, or a file that a row names is missing; the message names sheet and row.
    """
    rows = read_rows(path, required=("scan", "image"), known=SHEET_COLUMNS)
    check_ids((scan_id(row["scan"]), _place(path, number, row["scan"])) for number, row in rows)
    if dotted := [row["scan"] for _, row in rows if "." in row["scan"]]:
        tell(
            f"{path}: dots in the ids of scans ({len(dotted)}) are dashes in the results, "
            f"{scan_id(dotted[0])} for {dotted[0]}"
        )
    scans = []
    for number, row in rows:
        where = f"{path}, row {number}"
        for column in FILE_COLUMNS:
            if row.get(column):
                row[column] = str(path.parent / row[column])
        scan = scan_of(row, where)
        check_files(where, scan)
        scans.append(scan)
    return scans


def _place(path: Path, number: int, name: str) -> str:
    """Where an id stands, with the id as it was given where its dots became dashes."""
    return f"{path}, row {number}" + (f" ({name})" if "." in name else "")


def write_sheet(scans: Iterable[Scan]) -> str:
    """Text of a sheet, tab-separated with a header, which `read_sheet` reads as the same scans."""
    return table_text([SHEET_COLUMNS, *(scan.row.values() for scan in scans)], "\t")


def read_rows(
    path: Path, required: Sequence[str], known: Sequence[str]
) -> list[tuple[int, dict[str, str]]]:
    """Rows with their line numbers, cells stripped; lines that start with # are comments.

    Capitals of a column's name do not matter.
    """
    lines = read_text(path, "a sheet of scans").split("\n")
    numbered = [(n, line) for n, line in enumerate(lines, 1) if line.strip() and line[0] != "#"]
    if not numbered:
        raise InputError(f"{path}: is empty, expected a header and one row for each scan")
    header = [cell.casefold() for cell in _cells(path, *numbered[0])]
    for mark, marks in SEPARATORS.items():
        first, *others = header[0].split(mark)
        if others and len(header) == 1 and first.strip(' "') in known:
            raise InputError(f"{path}: is separated by {marks}, expected tabs")
    for column in header:
        if column not in known:
            raise InputError(
                f"{path}: `{column}` is not a known column, expected {', '.join(known)}, "
                "separated by tabs"
            )
        if header.count(column) > 1:
            raise InputError(f"{path}: has the column `{column}` twice, expected once")
    for column in required:
        if column not in header:
            raise InputError(f"{path}: has no column `{column}`, found {', '.join(header)}")
    rows = []
    for number, line in numbered[1:]:
        cells = _cells(path, number, line)
        if len(cells) > len(header):
            raise InputError(
                f"{path}, row {number}: has {len(cells)} cells, expected {len(header)}"
            )
        cells += [""] * (len(header) - len(cells))
        rows.append((number, dict(zip(header, cells, strict=True))))
    if not rows:
        raise InputError(f"{path}: has a header and no rows, expected one for each scan")
    return rows


def _cells(path: Path, number: int, line: str) -> list[str]:
    try:
        return [cell.strip() for cell in next(csv.reader([line], delimiter="\t"))]
    except csv.Error as error:
        raise InputError(f"{path}, row {number}: cannot be read ({error})") from None


def scan_of(row: Mapping[str, str], where: str) -> Scan:
    """Check a row; empty cells are as if they were not there.

    Raises:
        InputError: a cell is wrong; the message names place and column.
    """
    try:
        return Scan.model_validate({k: v for k, v in row.items() if v or k == "image"})
    except ValidationError as error:
        if error.errors()[0]["loc"] == ("scan",):
            raise InputError(
                f"{where}: the scan id is {row['scan']!r}, expected up to 64 letters, digits, "
                "dots, - and _, the first a letter or digit"
            ) from None
        raise InputError(f"{where}: {explain(error)}") from None


def check_files(where: str, entry: Scan | Template) -> None:
    """Refuse a file that is missing, or whose path is something else to the programs it meets.

    Raises:
        InputError: such a file; the message names place, column and file.
    """
    for column in FILE_COLUMNS:
        name = getattr(entry, column, "")
        if name:
            _check_path(f"{where}: `{column}`", name)
        if name and not _exists(Path(name)):
            raise InputError(f"{where}: the file {name} of column `{column}` does not exist")
    if getattr(entry, "spacing", None) and not entry.image.lower().endswith(PICTURES):
        raise InputError(
            f"{where}: `spacing` is {getattr(entry, 'spacing', 0):g}, but {entry.image} is no "
            "picture, expected none: a volume states the size of its voxels itself"
        )
    if entry.series and not Path(entry.image).is_dir():
        raise InputError(
            f"{where}: `series` is {entry.series}, but {entry.image} is no folder, expected one "
            "with DICOM files"
        )


def _check_path(where: str, name: str) -> None:
    """Refuses a path that is something else to Snakemake, to a command or to a table."""
    if any(unicodedata.category(letter) in ("Cc", "Cs") for letter in name):
        found, expected = "a control character or a byte that is no UTF-8", "a name without"
    elif "{" in name or "}" in name:
        found, expected = "a brace, which stands for a wildcard", "a name without"
    elif name.startswith("-"):
        found, expected = "a dash in front, as options have", "its whole path"
    else:
        return
    raise InputError(f"{where} is {name!r} with {found}, expected {expected}")


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name too long, say, or in a folder that cannot be read
        return False


def check_ids(places: Iterable[tuple[str, str]]) -> None:
    """Refuse an id that stands twice or is the template's; each comes with where it stands."""
    seen: dict[str, str] = {}
    for name, where in places:
        if name == TEMPLATE:
            raise InputError(
                f"{where}: the scan id `{TEMPLATE}` is the annotated scan's in the results, "
                "expected another"
            )
        if name in seen:
            raise InputError(
                f"{where}: the scan id `{name}` stands at {seen[name]} already, expected each once"
            )
        seen[name] = where
