"""Reads what a run found and what an expert placed; writes every table of the evaluation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from landmarkflow.core.errors import InputError
from landmarkflow.core.files import write_json, write_text
from landmarkflow.core.records import STATUSES, Record, Step, read_record
from landmarkflow.engine.batch import Batch
from landmarkflow.engine.store import Task
from landmarkflow.evaluation import overlap, parts, published, summary, tables
from landmarkflow.evaluation.copies import copies_among
from landmarkflow.evaluation.errors import MAIN_STAGE, ScanPoints, error_table
from landmarkflow.evaluation.failures import LARGE_ERROR, STAGE_HERE, failure_table, first_stop
from landmarkflow.evaluation.found import Found, coordinate_table, scan_table, wide_table
from landmarkflow.evaluation.lists import is_empty, read_lists
from landmarkflow.evaluation.settings import EvaluateSettings, Unit, factor_of


@dataclass(frozen=True)
class Kind:
    """What kind of study it is.

    Attributes:
        referenced: Whether any scan has reference landmarks; without, nothing is measured.
        in_pixels: Whether the scans are pictures.
    """

    referenced: bool = True
    in_pixels: bool = False


WITH_REFERENCES = Kind()


def evaluate(
    scans: Sequence[Task],
    folder: Path,
    settings: EvaluateSettings,
    *,
    seed: int,
    unit: Unit = "mm",
    kind: Kind = WITH_REFERENCES,
) -> None:
    """Measures a run and writes its tables; equal input gives equal bytes.

    Writes, of every study, landmarks.csv, landmarks_wide.csv and scans.csv into the run's folder,
    and evaluation/failures.csv and summary.json; where scans have references, errors.csv,
    statistics.csv, table1.csv, table1.md and table1.tex there; with a published table
    published.csv, published.md and published_table.csv; and overlap.csv where a scan has a
    reference segmentation; groups.csv where scans have groups, and lengths.csv with a length.

    Args:
        scans: The scans in the order of the sheet: their files by role, as the stage reads them,
            and what the sheet says of `segmentation`, the reference, of `scale` and `spacing`, and
            of `group`. One without a reference, or without any position in it, is not evaluated.
        folder: The run's folder.
        settings: What is measured and printed.
        seed: Seed of the bootstrap.
        unit: The unit of all distances that are written, radii among them. The coordinates are in
            it too, except for "%", where distances are in percent of a length that each scan has,
            and for pictures, whose pixels may measure something else (`spacing`).
        kind: Whether the study has references, and whether its scans are pictures.

    Raises:
        InputError: A file is unreadable or of another scan, a point file has no "final" list, a
            scan with a reference has no length for "%", or the settings do not fit the landmarks
            or the unit.
    """
    other = published.PUBLISHED[settings.published] if settings.published else None
    if other is not None and unit != other.unit:
        raise InputError(
            f"the setting published is {settings.published}, figures in {other.unit}, but the "
            f"study's unit is {unit}, expected null"
        )
    records = _records(scans)
    chains = _chains(scans, records)
    found, rows = [], []
    for scan in scans:
        found.append(_found(scan, chains[scan.scan], records[scan.scan], unit))
        reference = _reference_segmentation(scan)
        if reference and not _is_copy(chains[scan.scan]):
            path, factor = scan.inputs.get("segmentation"), found[-1].points.factor
            labels = settings.overlap_labels
            rows += overlap.scan_overlap(scan.scan, path, reference, labels, factor)
    measured = [each.points for each in found]
    errors = parts.with_lengths(error_table(measured), measured, settings.length)
    stages = summary.summarise(errors, settings, seed)
    failures = failure_table(chains, errors, settings.large_error, unit)
    written = _of_every_scan(found, errors, in_pixels=kind.in_pixels)
    written["evaluation/failures.csv"] = failures
    overlaps = None
    if rows:
        written["evaluation/overlap.csv"] = overlap.overlap_table(rows)
        overlaps = summary.plain(overlap.summarise_overlap(written["evaluation/overlap.csv"]))
    if kind.referenced:
        written["evaluation/errors.csv"] = errors
        written["evaluation/statistics.csv"] = stages[stages["landmark"] != summary.ALL]
    groups = {scan.scan: scan.row.get("group", "") for scan in scans}
    more: dict[str, Any] = {"groups": None, "length": None}
    if kind.referenced and any(groups.values()):
        table = parts.by_group(errors, groups, settings, seed)
        written["evaluation/groups.csv"] = _named(table)
        more["groups"] = summary.plain(parts.group_data(table, settings.radii))
    if kind.referenced and settings.length is not None:
        table = parts.in_lengths(errors, settings, seed)
        written["evaluation/lengths.csv"] = _named(table)
        data = summary.plain(summary.stage_data(table, settings.length.radii))
        more["length"] = {"name": settings.length.name, "stages": data}
    texts = {name: tables.frame_csv(table) for name, table in written.items()}
    if kind.referenced:
        texts |= _printed(errors, written.get("evaluation/overlap.csv"), settings, unit)
    for name, text in texts.items():
        write_text(folder / name, text)
    flagged = failures.loc[failures["status"] != LARGE_ERROR, "scan"]
    data = {
        "unit": unit,
        "referenced": kind.referenced,
        "in_pixels": kind.in_pixels,
        "scans": {"total": len(scans), "evaluated": int(errors["scan"].nunique())},
        "statuses": _statuses(found),
        "failures": _counts(failures),
        "reliability": summary.plain(summary.reliability(errors, flagged, settings.large_error)),
        "overlap": overlaps,
        "published": other and {"source": other.source, "note": other.note},
        "definitions": summary.DEFINITIONS,
        "stages": summary.plain(summary.stage_data(stages, settings.radii)),
        **more,
        "seed": seed,
        "settings": settings.model_dump(mode="json"),
    }
    write_json(folder / "evaluation/summary.json", data)


def _named(table: pd.DataFrame) -> pd.DataFrame:
    """Returns a table of statistics whose row of all landmarks has a name."""
    return table.replace({"landmark": {summary.ALL: summary.ALL_LANDMARKS}})


def _of_every_scan(
    found: Sequence[Found], errors: pd.DataFrame, *, in_pixels: bool
) -> dict[str, pd.DataFrame]:
    """Returns the tables that need no reference, by the names of their files."""
    coordinates = coordinate_table(found, in_pixels)
    return {
        "landmarks.csv": coordinates,
        "landmarks_wide.csv": wide_table(coordinates),
        "scans.csv": scan_table(found, errors),
    }


def _printed(
    errors: pd.DataFrame, overlaps: pd.DataFrame | None, settings: EvaluateSettings, unit: Unit
) -> dict[str, str]:
    """Returns Table 1, and the comparison with a published table, by the names of their files."""
    table = tables.accuracy_table(errors, settings)
    said = tables.accuracy_caption(table, unit)
    printed = tables.print_scans(table, said, 3, unit)
    numbered = replace(printed, caption=f"Table 1. {said}")
    texts = {
        "evaluation/table1.csv": tables.scans_csv(table, 4),
        "evaluation/table1.md": numbered.markdown(),
        "evaluation/table1.tex": printed.latex("tab:landmark-errors", 2),
    }
    if settings.published is not None:
        beside = published.published_texts(settings.published, errors, overlaps, settings)
        texts |= {f"evaluation/{name}": text for name, text in beside.items()}
    return texts


def _counts(failures: pd.DataFrame) -> dict[str, int]:
    """Returns how many scans have no or a bad result, and how many are listed with each status."""
    bad = failures.loc[failures["status"] != "doubtful", "scan"].nunique()
    counts = failures.groupby("status")["scan"].nunique()
    statuses = ("refused", "failed", LARGE_ERROR, "doubtful")
    return {"scans": int(bad), **{status: int(counts.get(status, 0)) for status in statuses}}


def _statuses(found: Sequence[Found]) -> dict[str, int]:
    """Returns how many scans have each status, whatever their errors."""
    statuses = [each.status for each in found]
    return {status: statuses.count(status) for status in STATUSES}


def _records(scans: Sequence[Task]) -> dict[str, tuple[Record, ...]]:
    """What the check of the reference, and then the run's last stage, said of each scan."""
    records = {}
    for scan in scans:
        of_scan = []
        for role in ("references_record", "record"):
            if path := scan.inputs.get(role):
                record = read_record(path)
                if record.scan != scan.scan:
                    said = f'"{record.scan}", expected "{scan.scan}"'
                    raise InputError(f"{path}: the record is of scan {said}")
                of_scan.append(record)
        records[scan.scan] = tuple(of_scan)
    return records


def _chains(
    scans: Sequence[Task], records: Mapping[str, Sequence[Record]]
) -> dict[str, tuple[Step, ...]]:
    """What the check of the reference, and then the run's stages, said of each scan.

    A scan that is another one, saved anew, is refused before all else.
    """
    chains = {
        scan: tuple(step for record in of_scan for step in record.chain)
        for scan, of_scan in records.items()
    }
    sides = {scan.scan: scan.row.get("side", "") for scan in scans}
    last = {scan: of_scan[-1] for scan, of_scan in records.items() if of_scan}
    for name, reason in copies_among(last, sides).items():
        if first_stop(chains[name]) is None:
            chains[name] = (Step(STAGE_HERE, "refused", reason), *chains[name])
    return chains


def _found(scan: Task, chain: tuple[Step, ...], records: Sequence[Record], unit: Unit) -> Found:
    """Returns points and references of a scan, and what was said of it."""
    details = records[-1].details if records else {}
    similarity, side = details.get("similarity", {}), details.get("side", "")
    return Found(_points(scan, chain, unit), chain, similarity, side)


def _points(scan: Task, chain: Sequence[Step], unit: Unit) -> ScanPoints:
    path = scan.inputs["found"]
    lists = [*read_lists(path, scan.scan), *read_lists(scan.inputs.get("steps"), scan.scan)]
    names = [points.name for points in lists]
    if lists and (MAIN_STAGE not in names or len(set(names)) < len(names)):
        raise InputError(
            f"{path}: the point lists are {', '.join(names)}, expected each name once "
            f"and {MAIN_STAGE} among them"
        )
    references = read_lists(scan.inputs.get("reference"))
    reference = references[0].landmarks if references else None
    if reference is not None and (reference.missing.all() or _is_copy(chain)):
        reference = None
    stated, spacing = scan.row.get("scale"), scan.row.get("spacing")
    factor = factor_of(unit, float(stated) if stated else None, float(spacing) if spacing else None)
    if np.isnan(factor) and (reference is not None or _reference_segmentation(scan)):
        raise InputError(
            f"scan {scan.scan}: the length that distances are measured in % of is "
            f"{stated or 'none'}, expected a positive number (column scale)"
        )
    stopped = first_stop(chain)
    reason = f"{stopped.stage}: {stopped.reason}" if stopped else "no landmarks were written"
    return ScanPoints(scan.scan, tuple(lists), reference, reason, factor)


def _is_copy(chain: Sequence[Step]) -> bool:
    return any((step.stage, step.status) == (STAGE_HERE, "refused") for step in chain)


def _reference_segmentation(scan: Task) -> Path | None:
    """Returns the path that the sheet gives, unless there lies an empty file."""
    path = scan.row.get("segmentation")
    return Path(path) if path and not is_empty(Path(path)) else None


def run(batch: Batch) -> None:
    """Evaluate a run and write every table."""
    folder, settings = batch.path("scans").parent, batch.settings(EvaluateSettings)
    kind = Kind(batch.values["referenced"], batch.values["in_pixels"])
    values = batch.values
    evaluate(batch.tasks, folder, settings, seed=values["seed"], unit=values["unit"], kind=kind)
