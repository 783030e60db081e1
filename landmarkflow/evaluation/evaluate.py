"""Reads what a run found and what an expert placed; writes every table of the evaluation."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from landmarkflow.core.errors import InputError
from landmarkflow.core.files import write_json, write_text
from landmarkflow.core.records import Record, Step, read_record
from landmarkflow.engine.batch import Batch
from landmarkflow.engine.store import Task
from landmarkflow.evaluation import overlap, published, summary, tables
from landmarkflow.evaluation.copies import copies_among
from landmarkflow.evaluation.errors import MAIN_STAGE, ScanPoints, error_table
from landmarkflow.evaluation.failures import LARGE_ERROR, STAGE_HERE, failure_table, first_stop
from landmarkflow.evaluation.results import is_empty, read_lists
from landmarkflow.evaluation.settings import EvaluateSettings, Unit, factor_of


def evaluate(
    scans: Sequence[Task], folder: Path, settings: EvaluateSettings, seed: int, unit: Unit = "mm"
) -> None:
    """Measures a run and writes its tables; equal input gives equal bytes.

    Writes errors.csv, summary.json, table1.csv, table1.md, table1.tex, landmarks.csv and
    failures.csv; with a published table published.csv, published.md and published_table.csv; and
    overlap.csv where a scan has a reference segmentation.

    Args:
        scans: The scans in the order of the sheet: their files by role, as the stage reads them,
            and what the sheet says of `segmentation`, the reference, and of `scale`. One without a
            reference, or without any position in it, is not evaluated.
        folder: Where the tables go.
        settings: What is measured and printed.
        seed: Seed of the bootstrap.
        unit: The unit of all distances that are written. The coordinates are in it too, except for
            "%": distances are then in percent of a length that each scan has.

    Raises:
        InputError: A file is unreadable or of another scan, a point file has no "final" list, a
            scan with a reference has no length for "%", or the settings do not fit the landmarks
            or the unit.
    """
    if settings.published is not None and unit != published.UNIT:
        raise InputError(
            f"the setting published is {settings.published}, a table in {published.UNIT}, but the "
            f"study's unit is {unit}, expected null"
        )
    chains = _chains(scans)
    points, rows = [], []
    for scan in scans:
        points.append(_points(scan, chains[scan.scan], unit))
        reference = _reference_segmentation(scan)
        if reference and not _is_copy(chains[scan.scan]):
            path, factor = scan.inputs.get("segmentation"), points[-1].factor
            labels = settings.overlap_labels
            rows += overlap.scan_overlap(scan.scan, path, reference, labels, factor)
    errors = error_table(points)
    stages = summary.summarise(errors, settings, seed)
    found = {
        "errors.csv": errors,
        "failures.csv": failure_table(chains, errors, settings.large_error, unit),
        "landmarks.csv": stages[stages["landmark"] != summary.ALL],
    }
    overlaps = None
    if rows:
        found["overlap.csv"] = overlap.overlap_table(rows)
        overlaps = summary.plain(overlap.summarise_overlap(found["overlap.csv"]))
    texts = {name: tables.frame_csv(table) for name, table in found.items()}
    for name, text in (texts | _printed(errors, settings, unit)).items():
        write_text(folder / name, text)
    failures = found["failures.csv"]
    flagged = failures.loc[failures["status"] != LARGE_ERROR, "scan"]
    other = published.PUBLISHED[settings.published] if settings.published else None
    data = {
        "unit": unit,
        "scans": {"total": len(scans), "evaluated": int(errors["scan"].nunique())},
        "failures": _counts(failures),
        "reliability": summary.plain(summary.reliability(errors, flagged, settings.large_error)),
        "overlap": overlaps,
        "published": other and {"source": other.source, "note": other.note},
        "definitions": summary.DEFINITIONS,
        "stages": summary.plain(summary.stage_data(stages, settings.radii)),
        "seed": seed,
        "settings": settings.model_dump(mode="json"),
    }
    write_json(folder / "summary.json", data)


def _printed(errors: pd.DataFrame, settings: EvaluateSettings, unit: Unit) -> dict[str, str]:
    """Returns Table 1, and the comparison with a published table, by the names of their files."""
    table = tables.accuracy_table(errors, settings)
    said = tables.accuracy_caption(table, unit)
    texts = {
        "table1.csv": tables.scans_csv(table, 4),
        "table1.md": tables.print_scans(table, f"Table 1. {said}", 3, unit).markdown(),
        "table1.tex": tables.print_scans(table, said, 3, unit).latex("tab:landmark-errors", 2),
    }
    if settings.published is not None:
        other = published.PUBLISHED[settings.published]
        compared = published.beside_published(errors, other, settings)
        texts["published.csv"] = tables.frame_csv(compared)
        texts["published.md"] = published.published_markdown(compared, other)
        texts["published_table.csv"] = tables.scans_csv(other.errors, 6)
    return texts


def _counts(failures: pd.DataFrame) -> dict[str, int]:
    """Returns how many scans have no or a bad result, and how many are listed with each status."""
    bad = failures.loc[failures["status"] != "doubtful", "scan"].nunique()
    counts = failures.groupby("status")["scan"].nunique()
    statuses = ("refused", "failed", LARGE_ERROR, "doubtful")
    return {"scans": int(bad), **{status: int(counts.get(status, 0)) for status in statuses}}


def _chains(scans: Sequence[Task]) -> dict[str, tuple[Step, ...]]:
    """What the check of the reference, and then the run's stages, said of each scan.

    A scan that is another one, saved anew, is refused before all else.
    """
    chains: dict[str, tuple[Step, ...]] = {}
    records: dict[str, Record] = {}
    for scan in scans:
        chain: list[Step] = []
        for role in ("references_record", "record"):
            if path := scan.inputs.get(role):
                record = read_record(path)
                if record.scan != scan.scan:
                    said = f'"{record.scan}", expected "{scan.scan}"'
                    raise InputError(f"{path}: the record is of scan {said}")
                chain += record.chain
                records[scan.scan] = record
        chains[scan.scan] = tuple(chain)
    sides = {scan.scan: scan.row.get("side", "") for scan in scans}
    for name, reason in copies_among(records, sides).items():
        if first_stop(chains[name]) is None:
            chains[name] = (Step(STAGE_HERE, "refused", reason), *chains[name])
    return chains


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
    stated = scan.row.get("scale")
    factor = factor_of(unit, float(stated) if stated else None)
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
    folder, settings = batch.path("errors").parent, batch.settings(EvaluateSettings)
    evaluate(batch.tasks, folder, settings, batch.values["seed"], batch.values["unit"])
