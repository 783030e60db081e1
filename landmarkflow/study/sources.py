"""Where a study's scans come from: a folder, a sheet, a simulated cohort, a public origin."""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from landmarkflow.cohorts.sides import side_of
from landmarkflow.core.errors import InputError
from landmarkflow.core.records import TEMPLATE
from landmarkflow.study.config import (
    CohortSource,
    OriginSource,
    Side,
    StudyConfig,
    Template,
)
from landmarkflow.study.sheet import Scan, check_files, check_ids, read_rows, read_sheet, scan_of

SIDE_COLUMNS = ("scan", "side")
SCALE_COLUMNS = (*SIDE_COLUMNS, "scale")
# Simulated scans are called so, with their number.
COHORT_PREFIX = "ear"
VOLUME_SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd")
IMAGE_SUFFIXES = (*VOLUME_SUFFIXES, ".png", ".jpg", ".jpeg", ".tif", ".tiff")
LANDMARK_SUFFIXES = (".mrk.json", ".fcsv", ".csv", ".json")


@dataclass(frozen=True)
class Source:
    """The template and the scans of a study, before runs are known."""

    template: Template
    scans: tuple[Scan, ...]


def source_of(config: StudyConfig, results: Path) -> Source:
    """Find the template and the scans of a study, without opening any scan.

    Args:
        config: the configuration.
        results: the study's results folder, where simulated and fetched scans are to lie.

    Raises:
        InputError: no source or several are given, or the folder or sheet is unusable.
    """
    data, made = config.data, results / "work" / "data"
    given = [name for name in ("cohort", "sheet", "origin") if getattr(data, name) is not None]
    if data.folder:
        return _of_folder(Path(data.folder), data.template_side)
    if len(given) != 1:
        raise InputError(
            f"config: `data` gives {' and '.join(given) or 'no source'}, expected one of folder, "
            "cohort, sheet and origin"
        )
    if data.sheet is not None:
        check_files("config: `data.sheet.template`", data.sheet.template)
        return Source(data.sheet.template, tuple(read_sheet(Path(data.sheet.sheet))))
    if data.cohort is not None:
        return _of_cohort(data.cohort, made)
    assert data.origin is not None
    return _of_origin(data.origin, made, data.template_side)


def cohort_number(scan: str) -> int:
    """A subject's number in a simulated cohort; the template is 0."""
    return 0 if scan == TEMPLATE else int(scan.removeprefix(COHORT_PREFIX))


def origin_file(origin: OriginSource, name: str) -> dict[str, str]:
    """Address and digest of a fetched file, by its name below the folder of the data."""
    kind, _, file = name.partition("/")
    scan = file.split(".")[0]
    source = origin.template if scan == TEMPLATE else origin.scans[scan]
    found = source.image if kind == "scans" else source.landmarks
    return {"url": f"{origin.url}/{found.path}", "sha256": found.sha256}


def _of_folder(folder: Path, template_side: Side) -> Source:
    """Make the sheet of a folder.

    `template/` holds scan, landmarks and perhaps segmentation; `scans/` the scans, `landmarks/` and
    `segmentations/` references of some, `training/` the same three folders of annotated scans to
    learn from. A scan's id is its file's name without the suffix, with - for what an id cannot
    hold. A sheet `samples.tsv` (`scan`, `side`, `scale`) says what files do not.
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
    check_files(f"{folder / 'template'}", template)
    if not (folder / "scans").is_dir():
        raise InputError(f"{folder / 'scans'}: no such folder, expected the scans to annotate")
    scans = _scans_in(folder, split="")
    if (folder / "training/scans").is_dir():
        scans += _scans_in(folder / "training", split="train")
    check_ids((scan.scan, scan.image) for scan in scans)
    rows = _rows_beside(folder / "samples.tsv", {scan.scan for scan in scans})
    return Source(
        template,
        tuple(scan_of({**scan.row, **rows.get(scan.scan, {})}, scan.image) for scan in scans),
    )


def _scans_in(folder: Path, split: str) -> list[Scan]:
    scans = []
    for path in sorted((folder / "scans").iterdir()):
        stem = _stem(path)
        if path.name.startswith(".") or stem is None:
            continue
        row = {
            "scan": _identifier(stem),
            "image": str(path),
            "landmarks": _named(folder / "landmarks", stem, LANDMARK_SUFFIXES),
            "segmentation": _named(folder / "segmentations", stem, IMAGE_SUFFIXES),
            "split": split,
        }
        scans.append(scan_of(row, str(path)))
        check_files(str(path), scans[-1])
        if split and not scans[-1].landmarks:
            raise InputError(f"{path}: has no landmarks in {folder / 'landmarks'}, expected some")
    return scans


def _rows_beside(path: Path, scans: Collection[str]) -> dict[str, dict[str, str]]:
    """Sides and scales by scan id; in the sheet a scan may go by its file's name or its id."""
    if not path.is_file():
        return {}
    found: dict[str, dict[str, str]] = {}
    for number, row in read_rows(path, required=SIDE_COLUMNS, known=SCALE_COLUMNS):
        where, name, side = f"{path}, row {number}", _identifier(row["scan"]), row["side"]
        if name not in scans:
            raise InputError(f"{where}: there is no scan {row['scan']!r} in scans/")
        if name in found:
            raise InputError(f"{where}: the scan {row['scan']!r} stands twice, expected once")
        if side not in get_args(Side):
            raise InputError(f"{where}: the side is {side!r}, expected left, right or nothing")
        found[name] = {"side": side, "scale": row.get("scale", "")}
    return found


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


def _of_cohort(source: CohortSource, data: Path) -> Source:
    template = Template(
        image=f"{data}/scans/template.nii.gz",
        landmarks=f"{data}/landmarks/template.mrk.json",
        segmentation=f"{data}/segmentations/template.nii.gz",
        side=side_of(source.anatomy, source.seed, 0),
    )
    scans = []
    for number in range(1, source.scans + source.training + 1):
        name = f"{COHORT_PREFIX}{number:03d}"
        trains = number > source.scans
        annotated = trains or number <= source.evaluated
        scans.append(
            Scan(
                scan=name,
                image=f"{data}/scans/{name}.nii.gz",
                side=side_of(source.anatomy, source.seed, number),
                landmarks=f"{data}/landmarks/{name}.mrk.json" if annotated else "",
                segmentation=f"{data}/segmentations/{name}.nii.gz" if annotated else "",
                split="train" if trains else "",
            )
        )
    return Source(template, tuple(scans))


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
