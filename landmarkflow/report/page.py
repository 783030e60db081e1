"""The page that people look at: all runs side by side, then each run with its pictures."""

import base64
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure
from PIL import Image

from landmarkflow.core import files
from landmarkflow.core.errors import InputError
from landmarkflow.engine.batch import Batch
from landmarkflow.evaluation.comparison import (
    compare_runs,
    comparison_caption,
    comparison_rows,
)
from landmarkflow.evaluation.errors import MAIN_STAGE, main_errors
from landmarkflow.evaluation.failures import STOPPED
from landmarkflow.evaluation.published import FIGURES, side_cells
from landmarkflow.evaluation.results import Run, read_rows, read_run, read_table
from landmarkflow.evaluation.settings import IN_WORDS
from landmarkflow.evaluation.steps import compare_steps, steps_caption, steps_rows
from landmarkflow.report.curves import draw_error_distribution, draw_radii
from landmarkflow.report.figures import png_bytes
from landmarkflow.report.histories import draw_history, read_history

TEMPLATE = "report.html.j2"
CURVE_DPI = 150
# White for errors within the smallest radius, then warmer with every radius exceeded.
SHADES = ("#ffffff", "#fdf6e3", "#fbe6bf", "#f6c794", "#eb9a80", "#dd7373")

Rows = list[tuple[str, str]]


@dataclass(frozen=True)
class RunFiles:
    """The files of one run.

    Attributes:
        name: The run's name.
        made: made.json.
        evaluation: The folder that the evaluation wrote.
        histories: Tables of trainings (CSV) by the name of what was trained.
        pictures: `{scan}.png` files in the order of the sheet.
    """

    name: str
    made: Path
    evaluation: Path
    histories: Mapping[str, Path]
    pictures: Sequence[Path]


def write_report(
    *,
    path: Path,
    title: str,
    study: Mapping[str, object],
    runs: Sequence[RunFiles],
    provenance: Path | None = None,
) -> None:
    """Writes the report: one HTML file without scripts and without anything from elsewhere.

    Curves are embedded; the scans' pictures are linked relatively, so that the results folder can
    be moved as a whole. Several runs stand side by side first, in the tables that
    `write_comparison` writes, and then each in a section of its own.

    Args:
        path: The HTML file to write.
        title: The study's name.
        study: What was run: parameters, nested mappings become sections.
        runs: At least one run.
        provenance: provenance.json, or None to say nothing of what made the results.

    Raises:
        InputError: A table or picture is missing or unreadable, or two runs do not measure the
            same scans.
    """
    read = [read_run(run.made, run.evaluation) for run in runs]
    several = len(runs) > 1
    sections = [
        _section(run_files, run, path.parent, f"run{number}-" if several else "")
        for number, (run_files, run) in enumerate(zip(runs, read, strict=True), start=1)
    ]
    made = None
    if provenance is not None:
        made = _made(files.read_json(provenance), [] if several else sections[0]["made"])
    text = (
        _environment()
        .get_template(TEMPLATE)
        .render(
            title=title,
            study=_sections(study),
            tables=_side_by_side(read) if several else [],
            runs=sections,
            summary=read[0].summary,
            shades=SHADES,
            made=made,
        )
    )
    files.write_text(path, text)


def worst_first(
    scans: Sequence[str], errors: pd.DataFrame, failures: Sequence[Sequence[str]]
) -> list[str]:
    """Returns the scans: without result first, then by falling mean error, then unevaluated.

    Args:
        scans: Scans in the order of the sheet.
        errors: The error table.
        failures: Rows of scan, stage, status, reason.
    """
    stopped = {row[0] for row in failures if row[2] in STOPPED}
    means = main_errors(errors).groupby("scan")["error"].mean()

    def rank(scan: str) -> tuple[int, float]:
        if scan in stopped:
            return 0, 0.0
        mean = means.get(scan, np.nan)
        return (2, 0.0) if np.isnan(mean) else (1, -mean)

    return sorted(scans, key=rank)


def _side_by_side(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Returns the tables of several runs: what they found, and what their steps are worth."""
    compared, steps = compare_runs(runs), compare_steps(runs)
    run = runs[0]
    compared_rows = comparison_rows(compared, run)
    step_rows = ([], []) if steps.empty else steps_rows(steps, run)
    shown = [
        ("comparison", "Runs", comparison_caption(compared, run), *compared_rows),
        ("steps", "Steps", steps_caption(steps, run), *step_rows),
    ]
    names = ("anchor", "name", "caption", "header", "rows")
    return [dict(zip(names, values, strict=True)) for values in shown]


def _section(run_files: RunFiles, run: Run, base: Path, prefix: str) -> dict[str, Any]:
    """Returns what the page shows of one run; `prefix` tells its anchors from other runs'."""
    folder, summary, errors = run_files.evaluation, run.summary, run.errors
    failures = read_rows(folder / "failures.csv")[1:]
    table = read_rows(folder / "table1.csv")
    radii = run.settings.radii
    published = None
    if summary["published"] is not None:
        figures = [f"{side}{name}" for side in ("", "published_") for name in FIGURES]
        compared = read_table(folder / "published.csv", ("landmark", "column"), figures)
        published = [
            ([row["landmark"], row["column"]], side_cells(row), side_cells(row, "published_"))
            for _, row in compared.iterrows()
        ]
    histories = {
        name: _embedded(draw_history(read_history(path), CURVE_DPI))
        for name, path in run_files.histories.items()
    }
    curves: dict[str, str | None] = {"errors": None, "radii": None}
    if len(errors):
        curves["errors"] = _embedded(draw_error_distribution(errors, radii, run.unit, CURVE_DPI))
    if summary["reliability"]["n"]:
        curves["radii"] = _embedded(draw_radii(errors, run.unit, CURVE_DPI))
    return {
        "name": run_files.name,
        "prefix": prefix,
        "level": 3 if prefix else 2,
        "unit": run.unit,
        "words": IN_WORDS[run.unit],
        "summary": summary,
        "overall": summary["stages"].get(MAIN_STAGE, {}).get("overall"),
        "statistics": _statistic_rows(summary),
        "radii": [f"{radius:g}" for radius in radii],
        "table_header": table[0],
        "table_rows": [[_cell(text, i, radii) for i, text in enumerate(row)] for row in table[1:]],
        "published": published,
        "published_table": published and read_rows(folder / "published_table.csv"),
        "failures": failures,
        "curves": curves,
        "histories": histories,
        "made": _flattened({k: v for k, v in run.made.items() if k not in _ELSEWHERE}, ""),
        "settings": _sections(run.made.get("settings") or {}),
        "pictures": _picture_entries(run_files.pictures, base, run, failures),
    }


# Of made.json: what the section shows in another place.
_ELSEWHERE = ("run", "entry", "steps", "settings")


def _made(record: Mapping[str, Any], of_run: Rows) -> dict[str, Any]:
    """Returns what made the results, that of the only run among it, and long tables of names."""
    code = record["code"]
    commit = str(code["commit"])
    if changed := code["changed"]:
        files_ = "file" if len(changed) == 1 else "files"
        commit += f", with {len(changed)} {files_} changed since: {', '.join(changed)}"
    rows = [("commit", commit), *of_run]
    for name in ("seeds", "devices", "machine"):
        rows += _flattened(record.get(name, {}), "" if name == "machine" else f"{name}: ")
    tables = {"packages": record["packages"], "commands": code.get("commands", {})}
    flat = {name: _flattened(values, "") for name, values in tables.items()}
    return {"rows": rows, "inputs": record["inputs"], **flat}


def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("landmarkflow.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _embedded(figure: Figure) -> str:
    return "data:image/png;base64," + base64.b64encode(png_bytes(figure)).decode("ascii")


def _sections(study: Mapping[str, object]) -> list[tuple[str, Rows]]:
    """Returns (heading, rows of name and value); plain values come first, without heading."""
    plain = {key: value for key, value in study.items() if not isinstance(value, Mapping)}
    sections = [("", _flattened(plain, ""))] if plain else []
    for key, value in study.items():
        if isinstance(value, Mapping):
            sections.append((str(key), _flattened(value, "")))
    return sections


def _flattened(values: Mapping[Any, object], prefix: str) -> Rows:
    rows = []
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            rows.extend(_flattened(value, f"{prefix}{key}."))
        else:
            rows.append((f"{prefix}{key}", _value(value)))
    return rows


def _value(value: object) -> str:
    if value is None or value in ({}, [], ()):
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(_value(item) for item in value)
    return str(value)


def _statistic_rows(summary: Mapping[str, Any]) -> list[tuple[str, str | None, Any]]:
    """Returns (stage, landmark or None for all, statistics): stages, then the main's landmarks."""
    stages = summary["stages"]
    rows: list[tuple[str, str | None, Any]] = [
        (stage, None, entry["overall"]) for stage, entry in stages.items()
    ]
    if MAIN_STAGE in stages:
        rows += [(MAIN_STAGE, name, e) for name, e in stages[MAIN_STAGE]["landmarks"].items()]
    return rows


def _cell(text: str, column: int, radii: Sequence[float]) -> tuple[str, str]:
    """Returns text and shade, by how many radii an error exceeds; names and means stay white."""
    if column < 2 or "±" in text or not text:
        return text or "–" if column >= 2 else text, SHADES[0]
    exceeded = sum(float(text) > radius for radius in radii)
    return f"{float(text):.3f}", SHADES[min(exceeded, len(SHADES) - 1)]


def _picture_entries(
    paths: Sequence[Path], base: Path, run: Run, failures: Sequence[Sequence[str]]
) -> list[dict[str, Any]]:
    by_scan = {path.name.removesuffix(".png"): path for path in paths}
    main = main_errors(run.errors)
    entries = []
    for scan in worst_first(list(by_scan), run.errors, failures):
        path = by_scan[scan]
        reasons = [f"{row[2]} ({row[1]}): {row[3]}" for row in failures if row[0] == scan]
        entry = {"scan": scan, "caption": _error_caption(main[main["scan"] == scan], run.unit)}
        entry |= {"failure": "; ".join(reasons)}
        entry |= {"link": quote(Path(os.path.relpath(path, base)).as_posix())}
        entries.append(entry | dict(zip(("width", "height"), _png_size(path), strict=True)))
    return entries


def _error_caption(rows: pd.DataFrame, unit: str) -> str:
    if rows.empty:
        return "no reference landmarks"
    known = rows.dropna(subset="error")
    if known.empty:
        return f"all {len(rows)} landmarks missing"
    worst = known.loc[known["error"].idxmax()]
    text = (
        f"mean error {known['error'].mean():.2f} {unit}, largest {worst['error']:.2f} {unit} "
        f"({worst['landmark']})"
    )
    missing = len(rows) - len(known)
    return f"{text}, {missing} of {len(rows)} landmarks missing" if missing else text


def _png_size(path: Path) -> tuple[int, int]:
    """Returns width and height, which let a browser lay the page out before it loads pictures."""
    try:
        with Image.open(path, formats=("PNG",)) as picture:
            return picture.size
    except OSError:
        raise InputError(f"{path}: is not a PNG file, expected a scan's picture") from None


def run(batch: Batch) -> None:
    """Write the page of all runs."""
    histories = batch.values["histories"]
    runs = [
        RunFiles(
            name,
            made=batch.of_run(name)["made"],
            evaluation=batch.of_run(name)["summary"].parent,
            histories={what: Path(path) for what, path in histories[name].items()},
            pictures=[batch.of_run(name, scan)["picture"] for scan in batch.scans],
        )
        for name in batch.runs
    ]
    study = batch.values["study"]
    write_report(
        path=batch.path("report"),
        title=study["study"],
        study=study,
        runs=runs,
        provenance=batch.path("provenance"),
    )
