"""The page that people look at: tables, curves and every scan's picture, worst first."""

import base64
import os
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined

from landmarkflow.core import files
from landmarkflow.core.errors import InputError
from landmarkflow.report.curves import draw_error_distribution, draw_radii, draw_training
from landmarkflow.report.figures import png_bytes
from landmarkflow.report.results import read_errors, read_rows, read_training

MAIN_STAGE = "final"
TEMPLATE = "report.html.j2"
CURVE_DPI = 150
# White for errors within the smallest radius, then warmer with every radius exceeded.
SHADES = ("#ffffff", "#fdf6e3", "#fbe6bf", "#f6c794", "#eb9a80", "#dd7373")


@dataclass(frozen=True)
class Cell:
    """A cell of Table 1 and its background."""

    text: str
    shade: str


@dataclass(frozen=True)
class Made:
    """What made the results: a few rows, then long tables of names and values."""

    rows: list[tuple[str, str]]
    packages: list[tuple[str, str]]
    commands: list[tuple[str, str]]
    inputs: list[Mapping[str, str]]


@dataclass(frozen=True)
class PictureEntry:
    """A scan's picture on the page."""

    scan: str
    link: str
    width: int
    height: int
    caption: str
    failure: str


def write_report(
    *,
    path: Path,
    title: str,
    study: Mapping[str, object],
    evaluation: Path,
    training: Path | None,
    pictures: Sequence[Path],
    provenance: Path | None = None,
) -> None:
    """Writes the report: one HTML file without scripts and without anything from elsewhere.

    Curves are embedded; the scans' pictures are linked relatively, so that the results folder can
    be moved as a whole.

    Args:
        path: The HTML file to write.
        title: The study's name.
        study: What was run: parameters, nested mappings become sections.
        evaluation: The folder that the evaluation wrote.
        training: training.csv, or None for a method without.
        pictures: `{scan}.png` files in the order of the sheet.
        provenance: provenance.json, or None to say nothing of what made the results.

    Raises:
        InputError: A table or picture is missing or unreadable.
    """
    errors = read_errors(evaluation / "errors.csv")
    summary = files.read_json(evaluation / "summary.json")
    failures = read_rows(evaluation / "failures.csv")
    table = read_rows(evaluation / "table1.csv")
    compared = summary["published"] is not None
    radii = [float(radius) for radius in summary["settings"]["radii_mm"]]
    curves = {
        "errors": _embedded(draw_error_distribution(errors, radii, MAIN_STAGE, CURVE_DPI))
        if len(errors)
        else None,
        "radii": _embedded(draw_radii(errors, MAIN_STAGE, CURVE_DPI))
        if summary["reliability"]["n"]
        else None,
        "training": None
        if training is None
        else _embedded(draw_training(read_training(training), CURVE_DPI)),
    }
    text = (
        _environment()
        .get_template(TEMPLATE)
        .render(
            title=title,
            study=_sections(study),
            summary=summary,
            overall=summary["stages"].get(MAIN_STAGE, {}).get("overall"),
            statistics=_statistic_rows(summary),
            radii=[f"{radius:g}" for radius in radii],
            shades=SHADES,
            table_header=table[0],
            table_rows=[[_cell(text, i, radii) for i, text in enumerate(row)] for row in table[1:]],
            comparison=_comparison_rows(evaluation / "comparison.csv") if compared else None,
            published=read_rows(evaluation / "published.csv") if compared else None,
            failures=failures[1:],
            curves=curves,
            made=None if provenance is None else _made(files.read_json(provenance)),
            pictures=_picture_entries(pictures, path.parent, errors, failures[1:]),
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
    stopped = {row[0] for row in failures if row[2] in ("failed", "refused")}
    means = _scan_means(errors)

    def rank(scan: str) -> tuple[int, float]:
        if scan in stopped:
            return 0, 0.0
        mean = means.get(scan, np.nan)
        return (2, 0.0) if np.isnan(mean) else (1, -mean)

    return sorted(scans, key=rank)


def _made(record: Mapping[str, Any]) -> Made:
    """Puts what `record_provenance` wrote into rows."""
    code, devices, machine = record["code"], record["devices"], record["machine"]
    changed = code["changed"]
    commit = code["commit"]
    if changed:
        files_ = "file" if len(changed) == 1 else "files"
        commit += f", with {len(changed)} {files_} changed since: {', '.join(changed)}"
    rows = [
        ("commit", commit),
        *((f"seed of the {name}", str(seed)) for name, seed in record["seeds"].items()),
        ("trained on", devices["training"]),
        ("centred on", ", ".join(devices["centring"])),
        ("torch", devices["torch"]),
        ("Python", f"{machine['python']} ({machine['implementation']})"),
        ("platform", machine["platform"]),
        ("processor", machine["processor"]),
    ]
    packages, commands = record["packages"], code["commands"]
    return Made(rows, list(packages.items()), list(commands.items()), record["inputs"])


def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("landmarkflow.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _embedded(figure: Any) -> str:
    return "data:image/png;base64," + base64.b64encode(png_bytes(figure)).decode("ascii")


def _sections(study: Mapping[str, object]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Returns (heading, rows of name and value); plain values come first, without heading."""
    plain = [
        (str(key), _value(value)) for key, value in study.items() if not isinstance(value, Mapping)
    ]
    sections = [("", plain)] if plain else []
    for key, value in study.items():
        if isinstance(value, Mapping):
            sections.append((str(key), _flattened(value, "")))
    return sections


def _flattened(values: Mapping[Any, object], prefix: str) -> list[tuple[str, str]]:
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


def _cell(text: str, column: int, radii: Sequence[float]) -> Cell:
    """Shades an error by how many radii it exceeds; ID, scan and the mean row stay white."""
    if column < 2 or "±" in text or not text:
        return Cell(text or "–" if column >= 2 else text, SHADES[0])
    exceeded = sum(float(text) > radius for radius in radii)
    return Cell(f"{float(text):.3f}", SHADES[min(exceeded, len(SHADES) - 1)])


def _comparison_rows(path: Path) -> list[dict[str, str]]:
    header, *rows = read_rows(path)
    return [dict(zip(header, row, strict=True)) for row in rows]


def _scan_means(errors: pd.DataFrame) -> dict[str, float]:
    main = errors[errors["stage"] == MAIN_STAGE]
    return {str(scan): float(rows["error_mm"].mean()) for scan, rows in main.groupby("scan")}


def _picture_entries(
    paths: Sequence[Path],
    base: Path,
    errors: pd.DataFrame,
    failures: Sequence[Sequence[str]],
) -> list[PictureEntry]:
    by_scan = {path.name.removesuffix(".png"): path for path in paths}
    main = errors[errors["stage"] == MAIN_STAGE]
    means = _scan_means(errors)
    entries = []
    for scan in worst_first(list(by_scan), errors, failures):
        path = by_scan[scan]
        width, height = _png_size(path)
        caption = "no reference landmarks"
        if scan in means:
            caption = _error_caption(main[main["scan"] == scan])
        reasons = [f"{row[2]} ({row[1]}): {row[3]}" for row in failures if row[0] == scan]
        entries.append(
            PictureEntry(
                scan=scan,
                link=quote(Path(os.path.relpath(path, base)).as_posix()),
                width=width,
                height=height,
                caption=caption,
                failure="; ".join(reasons),
            )
        )
    return entries


def _error_caption(rows: pd.DataFrame) -> str:
    known = rows.dropna(subset="error_mm")
    if known.empty:
        return f"all {len(rows)} landmarks missing"
    worst = known.loc[known["error_mm"].idxmax()]
    text = (
        f"mean error {known['error_mm'].mean():.2f} mm, largest {worst['error_mm']:.2f} mm "
        f"({worst['landmark']})"
    )
    missing = len(rows) - len(known)
    return f"{text}, {missing} of {len(rows)} landmarks missing" if missing else text


def _png_size(path: Path) -> tuple[int, int]:
    """Returns width and height, which let a browser lay the page out before it loads pictures."""
    try:
        with path.open("rb") as stream:
            head = stream.read(24)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    if len(head) < 24 or head[:8] != b"\x89PNG\r\n\x1a\n":
        raise InputError(f"{path}: is not a PNG file, expected a scan's picture")
    width, height = struct.unpack(">II", head[16:24])
    return int(width), int(height)
