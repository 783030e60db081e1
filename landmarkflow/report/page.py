"""The page that people look at: all runs side by side, then each run with its pictures."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure

from landmarkflow.core import files
from landmarkflow.engine.batch import Batch
from landmarkflow.evaluation import annotations, comparison, published
from landmarkflow.evaluation.errors import MAIN_STAGE
from landmarkflow.evaluation.found import COORDINATES
from landmarkflow.evaluation.published import PublishedFigures, PublishedMeans
from landmarkflow.evaluation.results import Run, read_rows, read_run, read_scans, read_table
from landmarkflow.evaluation.settings import IN_WORDS
from landmarkflow.evaluation.summary import ENOUGH
from landmarkflow.evaluation.tables import number
from landmarkflow.report.annotations import draw_annotations
from landmarkflow.report.curves import draw_error_distribution, draw_radii
from landmarkflow.report.embedded import Budget, link_to
from landmarkflow.report.entries import (
    RunFiles,
    add_listed,
    anchors,
    embed,
    examples,
    picture_entries,
)
from landmarkflow.report.figures import png_bytes, save_png
from landmarkflow.report.further import further_of
from landmarkflow.report.heat import SHADES as HEAT
from landmarkflow.report.heat import heat_of
from landmarkflow.report.histories import draw_history, read_history
from landmarkflow.report.ways import ScanFiles

TEMPLATE = "report.html.j2"
# Beside the page, where runs state how many annotated scans they learn from.
ANNOTATIONS = "annotations.png"
CURVE_DPI = 150
# Scans with a reason to look at them that the page's first lines link.
MOST_NAMED = 12
# Scans that stand before all others: the worst, the median, the best.
EXAMPLES = 3
# Of the pictures of listed scans' ways.
WAY_BYTES = 700_000
SCRIPT = "surface.js"
# White for errors within the smallest radius, then warmer with every radius exceeded.
SHADES = ("#ffffff", "#fdf6e3", "#fbe6bf", "#f6c794", "#eb9a80", "#dd7373")
# Of made.json: what the section of a run shows in another place.
_ELSEWHERE = ("run", "entry", "steps", "settings")

Rows = list[tuple[str, str]]


@dataclass(frozen=True)
class Budgets:
    """Bytes that are left for the pictures of all scans, and for the ways of those listed."""

    pictures: Budget
    ways: Budget


def write_report(
    path: Path, study: Mapping[str, Any], runs: Sequence[RunFiles], provenance: Path | None = None
) -> None:
    """Writes the report: one HTML file, without anything from elsewhere.

    Curves and pictures are part of the file, so that it can be mailed; where there are more
    pictures than `embedded.PAGE_BYTES` hold, the least doubtful ones are linked relatively. Its
    one script draws the targets of listed scans in 3D: without it nothing else is missing.
    Several runs stand side by side first, in the tables that `write_comparison` writes, and then
    each in a section of its own. Error against the number of annotated scans is drawn in a PNG
    file, too.

    Args:
        path: The HTML file to write.
        study: What was run: its name, `study`, and parameters; nested mappings become sections.
        runs: At least one run.
        provenance: provenance.json, or None to say nothing of what made the results.

    Raises:
        InputError: A table or picture is missing or unreadable, or two runs do not measure the
            same scans.
    """
    read = [read_run(run.folder) for run in runs]
    several = len(runs) > 1
    budgets = Budgets(
        Budget(sum(len(run.pictures) + len(run.shows) for run in runs)),
        Budget(sum(min(len(run.pictures), MOST_NAMED + EXAMPLES) for run in runs), WAY_BYTES),
    )
    sections = [
        _section(run_files, run, path.parent, f"run{number}-" if several else "", budgets)
        for number, (run_files, run) in enumerate(zip(runs, read, strict=True), start=1)
    ]
    tables = {}
    if several:
        entries, steps = comparison.compare_runs(read), comparison.compare_steps(read)
        tables["comparison", "Runs"] = comparison.print_comparison(entries, read[0])
        if read[0].summary["referenced"]:
            tables["steps", "Steps"] = comparison.print_steps(steps, read[0])
    figures = {}
    if found := annotations.annotations_of(read):
        tables["annotations", "Error by annotated scans"] = annotations.print_annotations(found)
        figure = draw_annotations(found, CURVE_DPI)
        save_png(figure, path.parent / ANNOTATIONS)
        figures["annotations"] = _embedded(figure)
    made = None
    if provenance is not None:
        made = _made(files.read_json(provenance), [] if several else sections[0]["made"])
    loader = PackageLoader("landmarkflow.report")
    pages = Environment(loader=loader, autoescape=True, undefined=StrictUndefined)
    pages.trim_blocks = pages.lstrip_blocks = True
    shown = {"title": study["study"], "study": _sections(study), "shades": SHADES, "enough": ENOUGH}
    listed = [entry for section in sections for entry in section["examples"] + section["pictures"]]
    in_3d = any(entry["surface"] for entry in listed)
    shown |= {"heat_shades": HEAT, "script": _script() if in_3d else ""}
    shown |= {"tables": tables, "figures": figures, "runs": sections, "made": made}
    files.write_text(path, pages.get_template(TEMPLATE).render(shown))


def _section(
    run_files: RunFiles, run: Run, base: Path, prefix: str, budgets: Budgets
) -> dict[str, Any]:
    """Returns what the page shows of one run; `prefix` tells its anchors from other runs'."""
    tables, summary, errors = run_files.folder / "evaluation", run.summary, run.errors
    failures = read_rows(tables / "failures.csv")[1:]
    referenced = summary["referenced"]
    header, *rows = read_rows(tables / "table1.csv") if referenced else [[]]
    radii = run.settings.radii
    scans = read_scans(run_files.folder)
    sides, published_table, published_figures = None, None, None
    theirs = published.PUBLISHED.get(run.settings.published or "")
    if isinstance(theirs, PublishedFigures | PublishedMeans):
        compared = read_table(tables / "published.csv", ("figure",), ())
        numbers = [name for name in compared if name != "figure"]
        compared[numbers] = compared[numbers].replace("", "nan").astype("float64")
        published_figures = published.print_figures(compared)
    elif theirs is not None:
        columns = ("landmark", "column", *published.BOTH_SIDES)
        compared = read_table(tables / "published.csv", columns, published.BOTH_SIDES)
        sides = published.print_sides(compared, theirs.unit).rows
        published_table = read_rows(tables / "published_table.csv")
    curves, histories = {}, {}
    if len(errors):
        curves["errors"] = _embedded(draw_error_distribution(errors, radii, run.unit, CURVE_DPI))
    if summary["reliability"]["n"]:
        curves["radii"] = _embedded(draw_radii(errors, run.unit, CURVE_DPI))
    for name, path in run_files.histories.items():
        histories[name] = _embedded(draw_history(read_history(path), CURVE_DPI))
    main = summary["stages"].get(MAIN_STAGE, {"overall": None, "landmarks": {}})
    statistics = [(stage, None, entry["overall"]) for stage, entry in summary["stages"].items()]
    statistics += [(MAIN_STAGE, name, entry) for name, entry in main["landmarks"].items()]
    doubt = list(scans["scan"])
    # First, so that figures are part of the page where there is no room for all pictures.
    further = further_of(run_files.shows, base, budgets.pictures)
    entries = picture_entries(run_files, base, run, failures, doubt)
    for entry in entries:
        embed(entry, budgets.pictures)
    points = read_table(run_files.folder / "landmarks.csv", COORDINATES, ("radius",))
    order = [entry["scan"] for entry in entries] or doubt
    shown = examples(entries, errors)
    first = [entry for entry in entries if entry["failure"]][:MOST_NAMED]
    for entry in {one["scan"]: one for one in (*first, *shown)}.values():
        add_listed(entry, run_files.scans.get(entry["scan"]), run, points, budgets.ways)
    return {
        "name": run.made["run"],
        "prefix": prefix,
        "folder": link_to(run_files.folder, base),
        "level": 3 if prefix else 2,
        "unit": run.unit,
        "words": IN_WORDS[run.unit],
        "summary": summary,
        "scans": _scan_rows(scans, run.unit, anchors(run_files.pictures)),
        "overall": main["overall"],
        "statistics": statistics,
        "groups": _group_rows(summary["groups"]),
        "length": summary["length"],
        "in_lengths": _stage_rows(summary["length"]),
        "radii": [f"{radius:g}" for radius in radii],
        "table_header": header,
        "table_rows": [[_cell(text, i, radii) for i, text in enumerate(row)] for row in rows],
        "published": sides,
        "published_table": published_table,
        "published_figures": published_figures,
        "failures": failures,
        "curves": curves,
        "histories": histories,
        "further": further,
        "made": _flattened({k: v for k, v in run.made.items() if k not in _ELSEWHERE}),
        "settings": _sections(run.made.get("settings") or {}),
        "examples": shown,
        "pictures": [e for e in entries if e["scan"] not in {one["scan"] for one in shown}],
        "heat": heat_of(run, points, order, anchors(run_files.pictures)),
        "first": first,
    }


def _group_rows(groups: Mapping[str, Any] | None) -> list[tuple[str, str, Any]]:
    """Returns group, step and figures of all landmarks, and the number of scans in the group."""
    return [
        (f"{group} ({entry['scans']})", stage, figures["overall"])
        for group, entry in (groups or {}).items()
        for stage, figures in entry["stages"].items()
    ]


def _stage_rows(length: Mapping[str, Any] | None) -> list[tuple[str, str, Any]]:
    """Returns step, landmark and figures in a length: of each step, and of the last by landmark."""
    if length is None:
        return []
    rows = [(s, "all landmarks", entry["overall"]) for s, entry in length["stages"].items()]
    main = length["stages"].get(MAIN_STAGE, {"landmarks": {}})
    return rows + [(MAIN_STAGE, name, entry) for name, entry in main["landmarks"].items()]


def _scan_rows(scans: pd.DataFrame, unit: str, anchors: Mapping[str, str]) -> dict[str, Any]:
    """Returns the scans by doubt as texts, without columns that hold nothing."""
    titles = {
        "doubt": "doubt",
        "radius": "radius",
        "largest_radius": "largest radius",
        "similarity": "similarity",
        "lowest_similarity": "lowest similarity",
        "moved": "last step moved",
        "missing": "missing landmarks",
        "error": f"mean error, {unit}",
    }
    filled = [name for name in titles if scans[name].notna().any()]
    if not scans["missing"].any():
        filled.remove("missing")
    decimals = {"doubt": 2, "missing": 0}
    rows = [
        {
            "scan": f"{row['scan']} ({row['side']})" if row["side"] else row["scan"],
            "anchor": anchors.get(row["scan"], ""),
            "status": row["status"],
            "cells": [number(row[name], decimals.get(name, 3)) for name in filled],
            "reason": row["reason"],
        }
        for row in scans.to_dict("records")
    ]
    reasons = bool((scans["reason"] != "").any())
    return {"header": [titles[name] for name in filled], "rows": rows, "reasons": reasons}


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
    packages, commands = _flattened(record["packages"]), _flattened(code.get("commands", {}))
    return {"rows": rows, "inputs": record["inputs"], "packages": packages, "commands": commands}


def _embedded(figure: Figure) -> str:
    return "data:image/png;base64," + base64.b64encode(png_bytes(figure)).decode("ascii")


def _sections(study: Mapping[str, object]) -> list[tuple[str, Rows]]:
    """Returns (heading, rows of name and value); plain values come first, without heading."""
    plain = {key: value for key, value in study.items() if not isinstance(value, Mapping)}
    nested = [(key, value) for key, value in study.items() if isinstance(value, Mapping)]
    return [(key, _flattened(values)) for key, values in [("", plain), *nested] if key or values]


def _flattened(values: Mapping[Any, object], prefix: str = "") -> Rows:
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


def _cell(text: str, column: int, radii: Sequence[float]) -> tuple[str, str]:
    """Returns text and shade, by how many radii an error exceeds; names and means stay white."""
    if column < 2 or "±" in text or not text:
        return text or "–" if column >= 2 else text, SHADES[0]
    exceeded = sum(float(text) > radius for radius in radii)
    return f"{float(text):.3f}", SHADES[min(exceeded, len(SHADES) - 1)]


def _script() -> str:
    return files.read_text(Path(__file__).parent / "templates" / SCRIPT, "the page's script")


def _scan_files(batch: Batch, run: str, scan: str) -> ScanFiles:
    """What there is of a scan in a run, as its method and its settings have it."""
    folder, panels = batch.of_run(run)["made"].parent, batch.values["panels"].get(run, {})
    panel = {role: Path(path.replace("{scan}", scan)) for role, path in panels.items()}
    segments = run in batch.values["segmenting"]
    return ScanFiles(
        folder / "landmarks" / f"{scan}.mrk.json",
        batch.path("reference", scan),
        panel.get("panel"),
        panel.get("record"),
        folder / "segmentations" / f"{scan}.nii.gz" if segments else None,
    )


def run(batch: Batch) -> None:
    """Write the page of all runs."""
    runs = [
        RunFiles(
            batch.of_run(name)["made"].parent,
            {what: Path(path) for what, path in batch.values["histories"][name].items()},
            [batch.of_run(name, scan)["picture"] for scan in batch.scans],
            {caption: Path(path) for caption, path in batch.values["shows"][name].items()},
            {scan: _scan_files(batch, name, scan) for scan in batch.scans},
        )
        for name in batch.runs
    ]
    study, provenance = batch.values["study"], batch.path("provenance")
    write_report(batch.path("report"), study, runs, provenance)
