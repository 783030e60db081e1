"""Where a study's scans come from: a folder, a sheet, a simulated cohort, a public origin."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import ascii_letters

from landmarkflow.cohorts.kinds import KINDS, VOLUMES, PictureKind
from landmarkflow.core.errors import InputError, about
from landmarkflow.core.files import read_text
from landmarkflow.core.records import TEMPLATE
from landmarkflow.formats.landmarks import frame_of, read_landmarks
from landmarkflow.formats.tables import marked_in
from landmarkflow.study.config import (
    CohortSource,
    DataSource,
    OriginSource,
    Side,
    StudyConfig,
    Template,
)
from landmarkflow.study.folder import (
    IMAGE_SUFFIXES,
    LANDMARK_SUFFIXES,
    Tell,
    identifier,
    images_in,
    listed,
    meant,
    named_in,
    references_in,
    tell_unused,
)
from landmarkflow.study.pictures import is_of_pictures, pictures_in
from landmarkflow.study.sheet import Scan, check_files, check_ids, read_rows, read_sheet, scan_of

BESIDE_COLUMNS = ("scan", "side", "series", "scale", "spacing", "group")
# Names without suffix of the files in template/, and what lies in a folder of scans.
ROLES = {"scan": IMAGE_SUFFIXES, "landmarks": LANDMARK_SUFFIXES, "segmentation": IMAGE_SUFFIXES}
KNOWN = ("template", "scans", "landmarks", "segmentations", "training", "samples.tsv")


@dataclass(frozen=True)
class Source:
    """The template and the scans of a study, before runs are known.

    Attributes:
        template: the annotated scan; None where there is none.
        scans: all others.
        labels: of the landmarks, as far as they are known without a template.
    """

    template: Template | None
    scans: tuple[Scan, ...]
    labels: tuple[str, ...] = ()


def source_of(config: StudyConfig, results: Path, tell: Tell) -> Source:
    """Find the template and the scans of a study, without opening any scan.

    Args:
        config: the configuration.
        results: the study's results folder, where simulated and fetched scans are to lie.
        tell: is told of what lies in the folder and is not used, or is not as it is expected.

    Raises:
        InputError: no source or several are given, or the folder or sheet is unusable.
    """
    data, made = config.data, results / "work" / "data"
    given = [name for name in ("cohort", "sheet", "origin") if getattr(data, name) is not None]
    if data.folder and data.sheet is not None:
        raise InputError(
            f"config: the scans are said twice, as those of the sheet {data.sheet.sheet} "
            f"(`data.sheet`) and of the folder {data.folder} (DATA, or `data.folder`), expected "
            "one of them; leave the folder out, or state another study without a sheet"
        )
    if data.folder and is_of_pictures(Path(data.folder)):
        found = pictures_in(Path(data.folder), data, config.unit, tell)
        check_ids((scan.scan, scan.image) for scan in found.scans)
        return Source(None, found.scans, found.labels)
    if data.folder:
        return _of_folder(Path(data.folder), data, tell)
    if len(given) != 1:
        raise InputError(
            f"config: `data` gives {' and '.join(given) or 'no source'}, expected one of folder, "
            "cohort, sheet and origin"
        )
    if data.sheet is not None:
        if data.sheet.template is not None:
            check_files("config: `data.sheet.template`", data.sheet.template)
        scans = tuple(read_sheet(Path(data.sheet.sheet), tell))
        labels = () if data.sheet.template is not None else _labels_of(scans)
        return Source(data.sheet.template, scans, labels)
    if data.cohort is not None:
        kind = KINDS.get(data.cohort.kind)
        return _of_pictures(data.cohort, kind, made) if kind else _of_cohort(data.cohort, made)
    assert data.origin is not None
    return _of_origin(data.origin, made, data.template_side)


def cohort_number(scan: str) -> int:
    """A subject's number in a simulated cohort; the template is 0."""
    return 0 if scan == TEMPLATE else int(scan.lstrip(ascii_letters + "_"))


def origin_file(origin: OriginSource, name: str) -> dict[str, str]:
    """Address and digest of a fetched file, by its name below the folder of the data."""
    kind, _, file = name.partition("/")
    scan = file.split(".")[0]
    source = origin.template if scan == TEMPLATE else origin.scans[scan]
    found = source.image if kind == "scans" else source.landmarks
    return {"url": f"{origin.url}/{found.path}", "sha256": found.sha256}


def _of_folder(folder: Path, data: DataSource, tell: Tell) -> Source:
    """Make the sheet of a folder.

    `template/` holds scan, landmarks and perhaps segmentation; `scans/` the scans, `landmarks/` and
    `segmentations/` references of some, `training/` the same three folders of annotated scans to
    learn from. A scan's id is its file's name without the suffix, with - for what an id cannot
    hold. A sheet `samples.tsv` (`scan`, `side`, `series`, `scale`) says what files do not. All else
    is told.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder, expected one with template/ and scans/")
    found = named_in(folder / "template", ROLES, tell)
    if not found["scan"] or not found["landmarks"]:
        missing = "landmarks (landmarks.mrk.json)" if found["scan"] else "scan (scan.nii.gz, say)"
        raise InputError(f"{folder / 'template'}: found no {missing} of the template")
    template = Template(
        image=found["scan"],
        landmarks=found["landmarks"],
        segmentation=found["segmentation"],
        series=data.template_series,
        side=data.template_side,
    )
    check_files(f"{folder / 'template'}", template)
    if not (folder / "scans").is_dir():
        raise InputError(f"{folder / 'scans'}: no such folder, expected the scans to annotate")
    # Notes and lists may lie beside the folders; another folder, or another sheet, may be meant.
    others = [path for path in listed(folder, tell) if path.is_dir() or _is_sheet(path)]
    expected = f"one of {', '.join(KNOWN)}"
    tell_unused(others, (folder / name for name in KNOWN), expected, tell)
    scans = _scans_in(folder, "", tell)
    if (folder / "training").is_dir():
        scans += _scans_in(folder / "training", "train", tell)
    check_ids((scan.scan, scan.image) for scan in scans)
    rows = _rows_beside(folder / "samples.tsv", [scan.scan for scan in scans], tell)
    return Source(
        template,
        tuple(_with_cells(scan, rows.get(scan.scan, {})) for scan in scans),
    )


def _with_cells(scan: Scan, cells: Mapping[str, str]) -> Scan:
    found = scan_of({**scan.row, **cells}, scan.image)
    check_files(scan.image, found)
    return found


def _is_sheet(path: Path) -> bool:
    return path.name.casefold().startswith("samples")


def _scans_in(folder: Path, split: str, tell: Tell) -> list[Scan]:
    images = images_in(folder / "scans", tell)
    stems = [stem for stem, _ in images]
    landmarks = references_in(folder / "landmarks", LANDMARK_SUFFIXES, stems, tell)
    segmentations = references_in(folder / "segmentations", IMAGE_SUFFIXES, stems, tell)
    scans = []
    for stem, path in images:
        row = {
            "scan": identifier(stem),
            "image": str(path),
            "landmarks": landmarks.get(stem, ""),
            "segmentation": segmentations.get(stem, ""),
            "split": split,
        }
        scans.append(scan_of(row, str(path)))
        check_files(str(path), scans[-1])
        if split and not scans[-1].landmarks:
            raise InputError(f"{path}: has no landmarks in {folder / 'landmarks'}, expected some")
    return scans


def _rows_beside(path: Path, scans: Sequence[str], tell: Tell) -> dict[str, dict[str, str]]:
    """What is stated by scan id; in the sheet a scan may go by its file's name or its id."""
    if not path.is_file():
        return {}
    found: dict[str, dict[str, str]] = {}
    for number, row in read_rows(path, required=("scan",), known=BESIDE_COLUMNS):
        where, stated = f"{path}, row {number}", identifier(row["scan"])
        name = meant(stated, scans)
        if name is None:
            raise InputError(f"{where}: there is no scan {row['scan']!r} in scans/")
        if name in found:
            raise InputError(f"{where}: the scan {row['scan']!r} stands twice, expected once")
        if name != stated:
            tell(f"{where}: is taken for the scan {name}, which differs in capitals alone")
        cells = {column: row.get(column, "") for column in BESIDE_COLUMNS[1:]}
        scan_of({"scan": name, "image": name, **cells}, where)
        found[name] = cells
    return found


def _of_cohort(source: CohortSource, data: Path) -> Source:
    kind = VOLUMES[source.kind]
    settings = getattr(source, kind.settings)
    template = Template(
        image=f"{data}/scans/template.nii.gz",
        landmarks=f"{data}/landmarks/template.mrk.json",
        segmentation=f"{data}/segmentations/template.nii.gz",
        side=kind.side_of(settings, source.seed, 0),
    )
    scans = []
    for number in range(1, source.scans + source.training + 1):
        name = f"{kind.prefix}{number:03d}"
        trains = number > source.scans
        annotated = trains or number <= source.evaluated
        scans.append(
            Scan(
                scan=name,
                image=f"{data}/scans/{name}.nii.gz",
                side=kind.side_of(settings, source.seed, number),
                landmarks=f"{data}/landmarks/{name}.mrk.json" if annotated else "",
                segmentation=f"{data}/segmentations/{name}.nii.gz" if annotated else "",
                split="train" if trains else "",
            )
        )
    return Source(template, tuple(scans))


def _of_pictures(source: CohortSource, kind: PictureKind, data: Path) -> Source:
    """The pictures of a simulated cohort, which has no template; what is said of each is known."""
    settings = getattr(source, source.kind)
    scans = []
    for number in range(1, source.scans + source.training + 1):
        name = f"{kind.prefix}{number:03d}"
        trains = number > source.scans
        annotated = trains or number <= source.evaluated
        scans.append(
            Scan(
                scan=name,
                image=f"{data}/images/{name}.png",
                landmarks=f"{data}/landmarks/{name}.csv" if annotated else "",
                frame="pixels" if annotated else "",
                gaze=f"{data}/gaze/{name}.csv" if annotated and kind.gaze else "",
                group=kind.group_of(settings, source.seed, number),
                scale=kind.scale_of(settings, source.seed, number),
                split="train" if trains else "",
            )
        )
    return Source(None, tuple(scans), kind.labels)


def _labels_of(scans: Sequence[Scan]) -> tuple[str, ...]:
    """The landmarks in the file of the first annotated scan, in its order."""
    first = next((scan for scan in scans if scan.landmarks), None)
    if first is None:
        return ()
    path = Path(first.landmarks)
    if path.suffix.lower() == ".csv":
        # One table may hold those of all scans, of which the first may lack some.
        with about(path):
            return marked_in(read_text(path, "a table of landmarks")).labels
    return read_landmarks(path, frame_of(first.frame), Path(first.image).name).labels


def _of_origin(source: OriginSource, data: Path, side: Side) -> Source:
    template = Template(
        image=f"{data}/scans/template.nii.gz",
        landmarks=f"{data}/landmarks/template.mrk.json",
        side=side,
    )
    check_ids((name, "config: `data.origin.scans`") for name in source.scans)
    scans = [
        Scan(
            scan=name,
            image=f"{data}/scans/{name}.nii.gz",
            landmarks=f"{data}/landmarks/{name}.mrk.json",
        )
        for name in source.scans
    ]
    return Source(template, tuple(scans))
