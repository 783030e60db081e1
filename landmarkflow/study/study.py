"""A study: its configuration, its sheet of scans and its template, checked before anything runs."""

import csv
import io
import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from landmarkflow.cohorts.settings import CohortSettings
from landmarkflow.cohorts.sides import side_of
from landmarkflow.core.errors import InputError
from landmarkflow.core.files import read_text
from landmarkflow.evaluation.settings import EvaluateSettings
from landmarkflow.methods.oneshot.settings import OneShotSettings
from landmarkflow.report.settings import ReportSettings

Side = Literal["left", "right", ""]
Frame = Literal["LPS", "RAS", ""]
Identifier = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length=64)
]
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]

SHEET_COLUMNS = ("scan", "image", "side", "landmarks", "frame")
SIDE_COLUMNS = ("scan", "side")
# The template's own id in the results.
TEMPLATE = "template"
# Simulated scans are called so, with their number.
COHORT_PREFIX = "ear"
IMAGE_SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd")
LANDMARK_SUFFIXES = (".mrk.json", ".fcsv", ".csv", ".json")


class Model(BaseModel):
    """Base of the configuration: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Scan(Model):
    """One row of the sheet."""

    scan: Identifier
    image: str = Field(min_length=1)
    side: Side = ""
    landmarks: str = ""
    frame: Frame = ""


class Template(Model):
    """The one annotated scan. Without a segmentation one is derived from scan and landmarks."""

    image: str = Field(min_length=1)
    landmarks: str = Field(min_length=1)
    segmentation: str = ""
    side: Side = ""
    frame: Frame = ""


class CohortSource(Model):
    """Scans that the workflow simulates; the study's own seed does not change them."""

    seed: int = Field(1, ge=0, lt=2**31)
    scans: int = Field(24, ge=1, le=9999)
    evaluated: int = Field(24, ge=0)
    anatomy: CohortSettings = CohortSettings()


class FolderSource(Model):
    """A folder with `template/`, `scans/` and, for the scans that have some, `landmarks/`."""

    folder: str = Field(min_length=1)


class SheetSource(Model):
    """A sheet of scans, tab-separated, with the template beside it."""

    sheet: str = Field(min_length=1)
    template: Template


class OriginFile(Model):
    """A file at its public origin."""

    path: str = Field(min_length=1)
    sha256: Digest


class OriginScan(Model):
    """A scan and its landmarks at their public origin."""

    image: OriginFile
    landmarks: OriginFile


class OriginSource(Model):
    """Scans that the workflow fetches, each file checked against its SHA-256."""

    url: str = Field(pattern=r"^https://")
    template: OriginScan
    scans: dict[Identifier, OriginScan] = Field(min_length=1)


class DataSource(Model):
    """Where the scans come from: `folder` when it is set, else the one other that is given."""

    folder: str = ""
    cohort: CohortSource | None = None
    sheet: SheetSource | None = None
    origin: OriginSource | None = None
    template_side: Side = ""
    labels: tuple[int, ...] = ()


class DeriveSettings(Model):
    """How a template's segmentation is derived from its scan and landmarks."""

    above: float = 0.0
    margin_mm: float = Field(1.5, ge=0)


class StudyConfig(Model):
    """A whole configuration, as in `config.yaml`."""

    study: Identifier
    seed: int = Field(1, ge=0, lt=2**31)
    bad_scans: Literal["refuse", "set_aside"] = "refuse"
    batch_scans: int = Field(8, ge=1)
    data: DataSource
    templates: tuple[Identifier, ...] = ()
    derive_segmentation: DeriveSettings = DeriveSettings()
    oneshot: OneShotSettings = OneShotSettings()
    evaluate: EvaluateSettings = EvaluateSettings()
    report: ReportSettings = ReportSettings()


@dataclass(frozen=True)
class Study:
    """A checked study.

    Attributes:
        config: the configuration.
        template: the one annotated scan.
        scans: of the sheet, without those that are templates.
        templates: the scans of the sheet that are templates, too.
    """

    config: StudyConfig
    template: Template
    scans: Mapping[str, Scan]
    templates: Mapping[str, Template] = field(default_factory=dict)

    @property
    def evaluated(self) -> tuple[str, ...]:
        """Scans with reference landmarks."""
        return tuple(name for name, scan in self.scans.items() if scan.landmarks)

    @property
    def batches(self) -> Mapping[str, tuple[str, ...]]:
        """Scans that are served by one process, in the sheet's order."""
        names = tuple(self.scans)
        step = self.config.batch_scans
        return {
            f"{start // step + 1:03d}": names[start : start + step]
            for start in range(0, len(names), step)
        }


def load_config(raw: Mapping[str, Any]) -> StudyConfig:
    """Check a configuration.

    Raises:
        InputError: An unknown key, a missing key, or a value of the wrong type or range; the
            message names the first such key, what was found and what was expected.
    """
    try:
        return StudyConfig.model_validate(raw)
    except ValidationError as error:
        raise InputError(f"config: {explain(error)}") from None


def explain(error: ValidationError) -> str:
    """Put pydantic's first finding into one sentence, with the number of others."""
    first, *others = error.errors()
    key = ".".join(str(part) for part in first["loc"]) or "the whole"
    if first["type"] == "extra_forbidden":
        text = f"`{key}` is not a known key"
    elif first["type"] == "missing":
        text = f"`{key}` is missing"
    else:
        message = first["msg"].removeprefix("Value error, ")
        text = f"`{key}` is {first['input']!r}: {message[0].lower()}{message[1:]}"
    return text + (f" (and {len(others)} more)" if others else "")


def load_study(config: StudyConfig, results: Path, instead: str = "") -> Study:
    """Put together the template and the sheet of a study, without opening any scan.

    Args:
        config: the configuration.
        results: the study's results folder, where simulated and fetched scans are to lie.
        instead: one of `config.templates`, to take the template's place.

    Raises:
        InputError: no source or several are given, the folder or sheet is unusable, or one of
            `config.templates` is no annotated scan.
    """
    source = config.data
    given = [name for name in ("cohort", "sheet", "origin") if getattr(source, name) is not None]
    if source.folder:
        template, scans = scans_of_folder(Path(source.folder), source.template_side)
    elif len(given) != 1:
        raise InputError(
            f"config: `data` gives {' and '.join(given) or 'no source'}, expected one of folder, "
            "cohort, sheet and origin"
        )
    elif source.sheet is not None:
        template, scans = source.sheet.template, read_sheet(Path(source.sheet.sheet))
        _check_files("config: `data.sheet.template`", template)
    elif source.cohort is not None:
        template, scans = _scans_of_cohort(source.cohort, results / "data")
    else:
        assert source.origin is not None
        template, scans = _scans_of_origin(source.origin, results / "data", source.template_side)
    templates = _further_templates(config, {scan.scan: scan for scan in scans}, results / "data")
    others = {scan.scan: scan for scan in scans if scan.scan not in templates}
    if not others:
        raise InputError(f"study {config.study}: there is no scan, expected at least one")
    return Study(config, templates[instead] if instead else template, others, templates)


def cohort_number(scan: str) -> int:
    """A subject's number in a simulated cohort; the template is 0."""
    return 0 if scan == TEMPLATE else int(scan.removeprefix(COHORT_PREFIX))


def scans_of_folder(folder: Path, template_side: Side = "") -> tuple[Template, list[Scan]]:
    """Make the sheet of a folder with `template/`, `scans/` and `landmarks/`.

    A scan's id is its file's name without the suffix, with - for what an id cannot hold. A sheet
    `samples.tsv` in the folder, with the columns `scan` and `side`, states sides.

    Raises:
        InputError: the folder, its template or its scans are missing, or two scans share an id.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder, expected one with template/ and scans/")
    segmentation = _named(folder / "template", "segmentation", IMAGE_SUFFIXES)
    image = _named(folder / "template", "scan", IMAGE_SUFFIXES)
    landmarks = _named(folder / "template", "landmarks", LANDMARK_SUFFIXES)
    if not image or not landmarks:
        missing = "scan (scan.nii.gz, say)" if not image else "landmarks (landmarks.mrk.json)"
        raise InputError(f"{folder / 'template'}: found no {missing} of the template")
    template = Template(
        image=image, landmarks=landmarks, segmentation=segmentation, side=template_side
    )
    if not (folder / "scans").is_dir():
        raise InputError(f"{folder / 'scans'}: no such folder, expected the scans to annotate")
    scans = []
    for path in sorted((folder / "scans").iterdir()):
        stem = _stem(path)
        if path.name.startswith(".") or stem is None:
            continue
        row = {
            "scan": _identifier(stem),
            "image": str(path),
            "landmarks": _named(folder / "landmarks", stem, LANDMARK_SUFFIXES),
        }
        scans.append(_scan(row, str(path)))
        _check_files(str(path), scans[-1])
    _check_files(f"{folder / 'template'}", template)
    _check_ids((scan.scan, scan.image) for scan in scans)
    sides = _sides(folder / "samples.tsv", {scan.scan for scan in scans})
    return template, [scan.model_copy(update={"side": sides.get(scan.scan, "")}) for scan in scans]


def read_sheet(path: Path) -> list[Scan]:
    """Read `samples.tsv`; relative paths are relative to the sheet's own folder.

    Columns: `scan` (id), `image`, and optionally `side`, `landmarks`, `frame`.

    Raises:
        InputError: the sheet is missing or has unknown or no columns, a row is wrong, an id
            stands twice, or a file that a row names is missing; the message names sheet and row.
    """
    rows = _read_rows(path, required=("scan", "image"), known=SHEET_COLUMNS)
    _check_ids((row["scan"], f"{path}, row {number}") for number, row in rows)
    scans = []
    for number, row in rows:
        where = f"{path}, row {number}"
        for column in ("image", "landmarks"):
            if row.get(column):
                row[column] = str(path.parent / row[column])
        scan = _scan(row, where)
        _check_files(where, scan)
        scans.append(scan)
    return scans


def write_sheet(scans: Iterable[Scan]) -> str:
    """Text of a sheet, tab-separated with a header, which `read_sheet` reads as the same scans."""
    text = io.StringIO()
    writer = csv.writer(text, delimiter="\t", lineterminator="\n")
    writer.writerow(SHEET_COLUMNS)
    writer.writerows([getattr(scan, column) for column in SHEET_COLUMNS] for scan in scans)
    return text.getvalue()


def _read_rows(
    path: Path, required: Sequence[str], known: Sequence[str]
) -> list[tuple[int, dict[str, str]]]:
    """Rows with their line numbers, cells stripped; lines that start with # are comments."""
    lines = read_text(path, "a sheet of scans").split("\n")
    numbered = [(n, line) for n, line in enumerate(lines, 1) if line.strip() and line[0] != "#"]
    if not numbered:
        raise InputError(f"{path}: is empty, expected a header and one row for each scan")
    header = _cells(path, *numbered[0])
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


def _scan(row: Mapping[str, str], where: str) -> Scan:
    try:
        return Scan.model_validate(row)
    except ValidationError as error:
        if error.errors()[0]["loc"] == ("scan",):
            raise InputError(
                f"{where}: the scan id is {row['scan']!r}, expected up to 64 letters, digits, "
                "- and _, the first a letter or digit"
            ) from None
        raise InputError(f"{where}: {explain(error)}") from None


def _check_files(where: str, entry: Scan | Template) -> None:
    for column in ("image", "landmarks", "segmentation"):
        name = getattr(entry, column, "")
        if name:
            _check_path(f"{where}: `{column}`", name)
        if name and not _exists(Path(name)):
            raise InputError(f"{where}: the file {name} of column `{column}` does not exist")


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


def _check_ids(places: Iterable[tuple[str, str]]) -> None:
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


def _sides(path: Path, scans: Collection[str]) -> dict[str, str]:
    """Sides by scan id, from a sheet in which a scan may go by its file's name or its id."""
    if not path.is_file():
        return {}
    sides: dict[str, str] = {}
    for number, row in _read_rows(path, required=SIDE_COLUMNS, known=SIDE_COLUMNS):
        where, name, side = f"{path}, row {number}", _identifier(row["scan"]), row["side"]
        if name not in scans:
            raise InputError(f"{where}: there is no scan {row['scan']!r} in scans/")
        if name in sides:
            raise InputError(f"{where}: the scan {row['scan']!r} stands twice, expected once")
        if side not in get_args(Side):
            raise InputError(f"{where}: the side is {side!r}, expected left, right or nothing")
        sides[name] = side
    return sides


def _identifier(stem: str) -> str:
    """A file's name without the suffix as an id, with - for what an id cannot hold."""
    return re.sub(r"[^A-Za-z0-9_-]", "-", stem)


def _named(folder: Path, stem: str, suffixes: Sequence[str]) -> str:
    """The file of this name with one of the suffixes, or an empty string."""
    for suffix in suffixes:
        if (folder / (stem + suffix)).exists():
            return str(folder / (stem + suffix))
    return ""


def _stem(path: Path) -> str | None:
    """A scan's name without its suffix; a folder is a DICOM series; None for other files."""
    if path.is_dir():
        return path.name
    for suffix in IMAGE_SUFFIXES:
        if path.name.lower().endswith(suffix):
            return path.name[: -len(suffix)]
    return None


def _further_templates(
    config: StudyConfig, scans: Mapping[str, Scan], data: Path
) -> dict[str, Template]:
    """The annotated scans that are templates, each with its segmentation where there is one."""
    templates = {}
    for name in config.templates:
        where = f"config: `templates`: {name}"
        if name not in scans:
            raise InputError(f"{where} is no scan of the study")
        if name in templates:
            raise InputError(f"{where} stands twice, expected once")
        scan, segmentation = scans[name], ""
        if not scan.landmarks:
            raise InputError(f"{where} has no landmarks, expected an annotated scan")
        if config.data.folder:
            stem = _stem(Path(scan.image)) or name
            folder = Path(config.data.folder) / "segmentations"
            segmentation = _named(folder, stem, IMAGE_SUFFIXES)
        elif config.data.cohort is not None:
            segmentation = f"{data}/segmentations/{name}.nii.gz"
        templates[name] = Template(
            image=scan.image,
            landmarks=scan.landmarks,
            segmentation=segmentation,
            side=scan.side,
            frame=scan.frame,
        )
    return templates


def _scans_of_cohort(source: CohortSource, data: Path) -> tuple[Template, list[Scan]]:
    template = Template(
        image=f"{data}/template/scan.nii.gz",
        landmarks=f"{data}/template/landmarks.mrk.json",
        segmentation=f"{data}/template/segmentation.nii.gz",
        side=side_of(source.anatomy, source.seed, 0),
    )
    scans = []
    for number in range(1, source.scans + 1):
        name = f"{COHORT_PREFIX}{number:03d}"
        reference = f"{data}/landmarks/{name}.mrk.json" if number <= source.evaluated else ""
        scans.append(
            Scan(
                scan=name,
                image=f"{data}/scans/{name}.nii.gz",
                side=side_of(source.anatomy, source.seed, number),
                landmarks=reference,
            )
        )
    return template, scans


def _scans_of_origin(source: OriginSource, data: Path, side: Side) -> tuple[Template, list[Scan]]:
    template = Template(
        image=f"{data}/template/scan.nii.gz",
        landmarks=f"{data}/template/landmarks.mrk.json",
        side=side,
    )
    _check_ids((name, "config: `data.origin.scans`") for name in source.scans)
    scans = [
        Scan(
            scan=name,
            image=f"{data}/scans/{name}.nii.gz",
            landmarks=f"{data}/landmarks/{name}.mrk.json",
        )
        for name in source.scans
    ]
    return template, scans
