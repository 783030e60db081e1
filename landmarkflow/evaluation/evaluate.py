"""Reads what a run found and what an expert placed; writes every table of the evaluation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from landmarkflow.core import files
from landmarkflow.core.errors import InputError
from landmarkflow.core.points import Landmarks, PointList
from landmarkflow.core.records import Record, Step, read_record
from landmarkflow.engine.batch import Batch
from landmarkflow.evaluation import failures, overlap, published, summary, tables
from landmarkflow.evaluation.errors import MAIN_STAGE, ScanPoints, error_table
from landmarkflow.evaluation.reliability import reliability
from landmarkflow.evaluation.settings import EvaluateSettings, Unit
from landmarkflow.formats.slicer import read_point_lists


@dataclass(frozen=True)
class ScanFiles:
    """The files of one scan; an empty file holds the place of a result that is missing.

    Attributes:
        scan: The scan's name.
        landmarks: The run's point lists (.mrk.json), "final" among them.
        record: The run's record of the scan.
        reference: Reference landmarks (.mrk.json), or None.
        reference_record: The record of their check, or None.
        segmentation: The run's segmentation, or None.
        reference_segmentation: The reference segmentation, or None.
    """

    scan: str
    landmarks: Path
    record: Path
    reference: Path | None = None
    reference_record: Path | None = None
    segmentation: Path | None = None
    reference_segmentation: Path | None = None


@dataclass(frozen=True, eq=False)
class _Measured:
    """The tables that the others are made from."""

    errors: pd.DataFrame
    failed: pd.DataFrame
    overlap: pd.DataFrame | None
    stages: dict[str, summary.StageSummary]


def evaluate(
    *,
    scans: Sequence[ScanFiles],
    folder: Path,
    settings: EvaluateSettings,
    seed: int,
    unit: Unit = "mm",
    scales: Mapping[str, float] | None = None,
) -> None:
    """Measures a run and writes its tables; equal input gives equal bytes.

    Writes errors.csv, summary.json, table1.csv, table1.md, table1.tex, landmarks.csv and
    failures.csv; with a published table published.csv, published.md and published_table.csv; and
    overlap.csv where a scan has a reference segmentation.

    Args:
        scans: The scans in the order of the sheet. One without a reference, or without any
            position in it, is not evaluated.
        folder: Where the tables go.
        settings: What is measured and printed.
        seed: Seed of the bootstrap.
        unit: The unit of all distances that are written. The coordinates are in it too, except for
            "%": distances are then in percent of a length that each scan has.
        scales: That length by scan, in the unit of the coordinates; only for "%".

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
    measured = _measured(scans, settings, seed, unit, scales or {})
    texts = {
        "errors.csv": tables.frame_csv(measured.errors),
        "failures.csv": tables.frame_csv(measured.failed),
        "landmarks.csv": tables.frame_csv(summary.landmark_table(measured.stages, settings)),
        **_table_texts(measured.errors, settings, unit),
    }
    if measured.overlap is not None:
        texts["overlap.csv"] = tables.frame_csv(measured.overlap)
    for name, text in texts.items():
        files.write_text(folder / name, text)
    data = {
        "unit": unit,
        "scans": {"total": len(scans), "evaluated": int(measured.errors["scan"].nunique())},
        **_summary_data(measured, settings),
        "seed": seed,
        "settings": settings.model_dump(mode="json"),
    }
    files.write_json(folder / "summary.json", data)


def _measured(
    scans: Sequence[ScanFiles],
    settings: EvaluateSettings,
    seed: int,
    unit: Unit,
    scales: Mapping[str, float],
) -> _Measured:
    points: list[ScanPoints] = []
    chains: dict[str, tuple[Step, ...]] = {}
    rows: list[tuple[Any, ...]] = []
    for scan in scans:
        record = _record(scan.record, scan.scan)
        earlier: tuple[Step, ...] = ()
        if scan.reference_record is not None:
            earlier = _record(scan.reference_record, scan.scan).chain
        chains[scan.scan] = (*earlier, *record.chain)
        reference = _reference(scan.reference)
        segmented = scan.reference_segmentation
        measured = reference is not None or not _is_absent(segmented)
        factor = _factor(scan.scan, scales) if unit == "%" and measured else 1.0
        lists, reason = _detected(scan.landmarks), _why_nothing(record)
        points.append(ScanPoints(scan.scan, lists, reference, reason, factor))
        if segmented is not None and not _is_absent(segmented):
            labels = settings.overlap_labels
            rows += overlap.scan_overlap(scan.scan, scan.segmentation, segmented, labels, factor)
    errors = error_table(points)
    return _Measured(
        errors=errors,
        failed=failures.failure_table(chains, errors, settings, unit),
        overlap=overlap.overlap_table(rows) if rows else None,
        stages=summary.summarise(errors, settings, seed),
    )


def _table_texts(errors: pd.DataFrame, settings: EvaluateSettings, unit: Unit) -> dict[str, str]:
    table = tables.accuracy_table(errors, settings, unit)
    caption = tables.caption(table)
    texts = {
        "table1.csv": tables.table_csv(table, 4),
        "table1.md": tables.table_markdown(table, 3, f"Table 1. {caption}"),
        "table1.tex": tables.table_latex(table, 3, caption, "tab:landmark-errors"),
    }
    if settings.published is not None:
        other = published.PUBLISHED[settings.published]
        compared = published.beside_published(errors, other, settings)
        texts["published.csv"] = tables.frame_csv(compared)
        texts["published.md"] = published.published_markdown(compared, other)
        texts["published_table.csv"] = tables.table_csv(published.published_table(other), 6)
    return texts


def _summary_data(measured: _Measured, settings: EvaluateSettings) -> dict[str, Any]:
    failed = measured.failed
    flagged = set(failed.loc[failed["status"] != failures.LARGE_ERROR, "scan"])
    other = None if settings.published is None else published.PUBLISHED[settings.published]
    return {
        "failures": {
            "scans": int(failed.loc[failed["status"] != "doubtful", "scan"].nunique()),
            **{
                status: int(failed.loc[failed["status"] == status, "scan"].nunique())
                for status in ("refused", "failed", failures.LARGE_ERROR, "doubtful")
            },
        },
        "reliability": summary.as_numbers(
            reliability(measured.errors, flagged, settings.large_error)
        ),
        "overlap": None
        if measured.overlap is None
        else overlap.summarise_overlap(measured.overlap),
        "published": None if other is None else {"source": other.source, "note": other.note},
        "definitions": summary.DEFINITIONS,
        "stages": {
            stage: {
                "overall": summary.as_numbers(entry.overall),
                "landmarks": {
                    label: summary.as_numbers(numbers) for label, numbers in entry.landmarks.items()
                },
            }
            for stage, entry in measured.stages.items()
        },
    }


def _record(path: Path, scan: str) -> Record:
    record = read_record(path)
    if record.scan != scan:
        raise InputError(f'{path}: the record is of scan "{record.scan}", expected "{scan}"')
    return record


def _detected(path: Path) -> tuple[PointList, ...]:
    if _is_absent(path):
        return ()
    lists = tuple(read_point_lists(path))
    names = [points.name for points in lists]
    if MAIN_STAGE not in names or len(set(names)) < len(names):
        raise InputError(
            f"{path}: the point lists are {', '.join(names) or 'none'}, expected each name once "
            f"and {MAIN_STAGE} among them"
        )
    return lists


def _reference(path: Path | None) -> Landmarks | None:
    """Returns the first point list, or None where no landmark of it has a position."""
    if path is None or _is_absent(path):
        return None
    lists = read_point_lists(path)
    if not lists:
        raise InputError(f"{path}: has no point list, expected the reference landmarks")
    landmarks = lists[0].landmarks
    return None if landmarks.missing.all() else landmarks


def _is_absent(path: Path | None) -> bool:
    """Tells whether there is no path, or an empty file in the place of a missing result."""
    return path is None or (path.is_file() and path.stat().st_size == 0)


def _factor(scan: str, scales: Mapping[str, float]) -> float:
    scale = scales.get(scan)
    if scale is None or not scale > 0:
        found = "none" if scale is None else f"{scale:g}"
        raise InputError(
            f"scan {scan}: the length that distances are measured in % of is {found}, expected a "
            "positive number (column scale)"
        )
    return 100.0 / scale


def _why_nothing(record: Record) -> str:
    stopped = failures.first_stop(record.chain)
    return "no landmarks were written" if stopped is None else f"{stopped.stage}: {stopped.reason}"


def run(batch: Batch) -> None:
    """Evaluate a run and write every table."""
    segmented = batch.values["segmented"]
    scans = [
        ScanFiles(
            task.scan,
            task.inputs["found"],
            task.inputs["record"],
            task.inputs["reference"],
            task.inputs["references_record"],
            task.inputs["segmentation"] if segmented else None,
            Path(task.row["segmentation"]) if task.row["segmentation"] else None,
        )
        for task in batch.tasks
    ]
    evaluate(
        scans=scans,
        folder=batch.path("errors").parent,
        settings=batch.settings(EvaluateSettings),
        seed=batch.values["seed"],
        unit=batch.values["unit"],
        scales={t.scan: float(t.row["scale"]) for t in batch.tasks if t.row["scale"]},
    )
