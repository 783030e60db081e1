"""Reads points, references and records; writes every table of the evaluation."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from landmarkflow.core import files
from landmarkflow.core.errors import InputError
from landmarkflow.core.points import Landmarks, PointList
from landmarkflow.core.records import Record, read_record
from landmarkflow.evaluation import failures, summary, tables
from landmarkflow.evaluation.errors import MAIN_STAGE, ScanPoints, error_csv, error_table
from landmarkflow.evaluation.published import PUBLISHED
from landmarkflow.evaluation.reliability import reliability
from landmarkflow.evaluation.settings import EvaluateSettings
from landmarkflow.formats.markups import read_point_lists

POINTS_SUFFIX = ".mrk.json"


def evaluate(
    *,
    scans: Sequence[str],
    landmark_files: Sequence[Path],
    reference_files: Sequence[Path],
    record_files: Sequence[Path],
    folder: Path,
    settings: EvaluateSettings,
    seed: int,
) -> None:
    """Measures a study and writes its tables; equal input gives equal bytes.

    Writes errors.csv, summary.json, table1.csv, table1.md, table1.tex, landmarks.csv and
    failures.csv, and with a published table comparison.csv, comparison.md and published.csv.

    Args:
        scans: The scans of the sheet, in its order.
        landmark_files: `{scan}.mrk.json` with the point lists, "final" among them; an empty file
            holds the place of a scan without points, all of whose landmarks are missing.
        reference_files: `{scan}.mrk.json` with checked references; a scan without one, or with
            an empty file, or without any position, is not evaluated.
        record_files: The stages' JSON records; those of one scan in the order of the stages.
        folder: Where the tables go.
        settings: What is measured and printed.
        seed: Seed of the bootstrap.

    Raises:
        InputError: A file is unreadable or belongs to no scan of the sheet, a point file has no
            "final" list, or the settings do not fit the landmarks.
    """
    detected = {scan: _detected(path) for scan, path in _by_scan(landmark_files, scans).items()}
    references = {scan: _reference(path) for scan, path in _by_scan(reference_files, scans).items()}
    records = _records(record_files, scans)
    points = [
        ScanPoints(scan, detected.get(scan, ()), references.get(scan), _why_nothing(records, scan))
        for scan in scans
    ]
    errors = error_table(points)
    failed = failures.failure_table(scans, records, errors, settings)
    stages = summary.summarise(errors, settings, seed)
    texts = {
        "errors.csv": error_csv(errors),
        "failures.csv": _csv(failed),
        "landmarks.csv": _csv(summary.landmark_table(stages, settings)),
        **_table_texts(errors, settings),
    }
    for name, text in texts.items():
        files.write_text(folder / name, text)
    data = _summary_data(
        scans=scans, errors=errors, failed=failed, stages=stages, settings=settings, seed=seed
    )
    files.write_json(folder / "summary.json", data)


def _table_texts(errors: pd.DataFrame, settings: EvaluateSettings) -> dict[str, str]:
    table = tables.accuracy_table(errors, settings)
    caption = tables.caption(table)
    texts = {
        "table1.csv": tables.table_csv(table, 4),
        "table1.md": tables.table_markdown(table, 3, f"Table 1. {caption}"),
        "table1.tex": tables.table_latex(table, 3, caption, "tab:landmark-errors"),
    }
    if settings.published is not None:
        published = PUBLISHED[settings.published]
        compared = tables.comparison(errors, published, settings)
        texts["comparison.csv"] = _csv(compared)
        texts["comparison.md"] = tables.comparison_markdown(compared, published)
        texts["published.csv"] = tables.table_csv(tables.published_table(published), 6)
    return texts


def _summary_data(
    *,
    scans: Sequence[str],
    errors: pd.DataFrame,
    failed: pd.DataFrame,
    stages: dict[str, summary.StageSummary],
    settings: EvaluateSettings,
    seed: int,
) -> dict[str, object]:
    statuses = ("refused", "failed", failures.LARGE_ERROR, "doubtful")
    flagged = set(failed.loc[failed["status"] != failures.LARGE_ERROR, "scan"])
    return {
        "scans": {"total": len(scans), "evaluated": int(errors["scan"].nunique())},
        "failures": {
            "scans": int(failed.loc[failed["status"] != "doubtful", "scan"].nunique()),
            **{status: int((failed["status"] == status).sum()) for status in statuses},
        },
        "reliability": _rounded(asdict(reliability(errors, flagged, settings.large_error_mm))),
        "settings": {
            "radii_mm": list(settings.radii_mm),
            "large_error_mm": settings.large_error_mm,
            "bootstrap": settings.bootstrap,
            "seed": seed,
        },
        "published": None
        if settings.published is None
        else {
            "source": PUBLISHED[settings.published].source,
            "note": PUBLISHED[settings.published].note,
        },
        "definitions": summary.DEFINITIONS,
        "stages": {
            stage: {
                "overall": summary.as_numbers(entry.overall),
                "landmarks": {
                    label: summary.as_numbers(numbers) for label, numbers in entry.landmarks.items()
                },
            }
            for stage, entry in stages.items()
        },
    }


def _rounded(numbers: dict[str, float | None]) -> dict[str, float | None]:
    return {name: None if n is None else round(n, 4) for name, n in numbers.items()}


def _by_scan(paths: Sequence[Path], scans: Sequence[str]) -> dict[str, Path]:
    result: dict[str, Path] = {}
    for path in paths:
        scan = path.name.removesuffix(POINTS_SUFFIX)
        if scan == path.name or scan not in scans:
            raise InputError(
                f"{path}: belongs to no scan of the sheet, expected a name like "
                f"{next(iter(scans), 'scan')}{POINTS_SUFFIX}"
            )
        if scan in result:
            raise InputError(f"{path}: scan {scan} has another such file, {result[scan]}")
        result[scan] = path
    return result


def _detected(path: Path) -> tuple[PointList, ...]:
    if _is_empty(path):
        return ()
    lists = tuple(read_point_lists(path))
    names = [points.name for points in lists]
    if MAIN_STAGE not in names or len(set(names)) < len(names):
        raise InputError(
            f"{path}: the point lists are {', '.join(names) or 'none'}, expected each name once "
            f"and {MAIN_STAGE} among them"
        )
    return lists


def _reference(path: Path) -> Landmarks | None:
    """Returns the first point list, or None where no landmark of it has a position."""
    if _is_empty(path):
        return None
    lists = read_point_lists(path)
    if not lists:
        raise InputError(f"{path}: has no point list, expected the reference landmarks")
    landmarks = lists[0].landmarks
    return None if landmarks.missing.all() else landmarks


def _is_empty(path: Path) -> bool:
    """Tells whether a file only holds the place of a result that there is not."""
    return path.is_file() and path.stat().st_size == 0


def _why_nothing(records: Sequence[Record], scan: str) -> str:
    stopped = failures.first_failure(records, scan)
    if stopped is None:
        return "no landmarks were written"
    return f"{stopped.stage}: {stopped.reason or failures.NO_REASON}"


def _records(paths: Sequence[Path], scans: Sequence[str]) -> list[Record]:
    records = []
    for path in paths:
        record = read_record(path)
        if record.scan not in scans:
            raise InputError(
                f'{path}: the record is of scan "{record.scan}", expected a scan of the sheet'
            )
        records.append(record)
    return records


def _csv(table: pd.DataFrame) -> str:
    return str(table.to_csv(index=False, float_format="%.4f", lineterminator="\n"))
