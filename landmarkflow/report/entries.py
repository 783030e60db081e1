"""The scans as the page lists them: the worst first, each with its picture and what it says."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from landmarkflow.evaluation.errors import main_errors
from landmarkflow.evaluation.failures import STOPPED
from landmarkflow.evaluation.results import Run
from landmarkflow.report.embedded import Budget, link_to
from landmarkflow.report.ways import ScanFiles, target_of, way_of


@dataclass(frozen=True)
class RunFiles:
    """The files of one run.

    Attributes:
        folder: The run's folder, with made.json and evaluation/.
        histories: Tables of trainings (CSV) by the name of what was trained.
        pictures: `{scan}.png` files in the order of the sheet.
        scans: what else there is of each scan, by its id.
        shows: Tables (Markdown) and figures (PNG) of the run's method, by their captions.
    """

    folder: Path
    histories: Mapping[str, Path]
    pictures: Sequence[Path]
    shows: Mapping[str, Path] = field(default_factory=dict)
    scans: Mapping[str, ScanFiles] = field(default_factory=dict)


def worst_first(
    scans: Sequence[str], errors: pd.DataFrame, failures: Sequence[Sequence[str]]
) -> list[str]:
    """Returns the scans: without result first, then by falling mean error, then unevaluated.

    `failures` are rows of scan, stage, status and reason; equals stay in the order given, which is
    that of doubt.
    """
    means = main_errors(errors).groupby("scan")["error"].mean().reindex(scans)
    means[means.index.isin([row[0] for row in failures if row[2] in STOPPED])] = np.inf
    return list(means.sort_values(ascending=False, kind="stable").index)


def picture_entries(
    run_files: RunFiles,
    base: Path,
    run: Run,
    failures: Sequence[Sequence[str]],
    by_doubt: Sequence[str],
) -> list[dict[str, Any]]:
    """Returns what is said of each scan that has a picture, the worst first."""
    paths = run_files.pictures
    by_scan = {path.name.removesuffix(".png"): path for path in paths}
    places = anchors(paths)
    main = main_errors(run.errors)
    entries = []
    for scan in worst_first([s for s in by_doubt if s in by_scan], run.errors, failures):
        path = by_scan[scan]
        reasons = [f"{row[2]} ({row[1]}): {row[3]}" for row in failures if row[0] == scan]
        caption = _error_caption(main[main["scan"] == scan], run.unit)
        link = link_to(path, base)
        entry = {
            "scan": scan,
            "anchor": places[scan],
            "caption": caption,
            "failure": "; ".join(reasons),
            "link": link,
            "path": path,
            "rank": "",
        }
        _add_way(entry, run_files.scans.get(scan), base)
        entries.append(entry)
    return entries


def embed(entry: dict[str, Any], budget: Budget) -> None:
    """Adds the picture, or its link, and its size, by which a browser lays the page out."""
    picture = budget.embed(entry["path"], look=bool(entry["failure"]))
    entry["source"] = picture.source or entry["link"]
    entry |= {"width": picture.width, "height": picture.height}


def _add_way(entry: dict[str, Any], scan: ScanFiles | None, base: Path) -> None:
    """Adds the link to the picture of a scan's way, where its method drew one."""
    drawn = scan.drawn if scan is not None else None
    entry |= {"way": None, "way_link": link_to(drawn, base) if drawn else "", "surface": None}


def add_listed(
    entry: dict[str, Any], scan: ScanFiles | None, run: Run, points: pd.DataFrame, ways: Budget
) -> None:
    """Adds what a listed scan shows beside its picture: its way, and its target in 3D."""
    if scan is None:
        return
    main = main_errors(run.errors)
    errors = main[main["scan"] == entry["scan"]].set_index("landmark")["error"].dropna()
    if errors.empty:
        # Without references those with the largest radii are named.
        radii = points[points["scan"] == entry["scan"]].set_index("landmark")["radius"]
        said = dict.fromkeys(radii.sort_values(ascending=False, kind="stable").index, "")
    else:
        ranked = errors.sort_values(ascending=False, kind="stable")
        said = {name: f"{error:.2f} {run.unit}" for name, error in ranked.items()}
    entry |= {"way": way_of(scan, said, ways), "surface": target_of(scan, said)}


def examples(entries: Sequence[dict[str, Any]], errors: pd.DataFrame) -> list[dict[str, Any]]:
    """Returns the pictures with the largest, the median and the least mean error.

    Without so many errors they are the first three of the entries, which are those in most doubt.
    """
    means = main_errors(errors).groupby("scan")["error"].mean().dropna()
    ranked = list(means.sort_values(kind="stable").index)
    by_scan = {entry["scan"]: entry for entry in entries}
    places = {"worst": len(ranked) - 1, "median": (len(ranked) - 1) // 2, "best": 0}
    if len(ranked) < len(places) or not by_scan.keys() >= set(ranked):
        return [entry | {"rank": "look first"} for entry in entries[: len(places)]]
    return [by_scan[ranked[place]] | {"rank": rank} for rank, place in places.items()]


def anchors(pictures: Sequence[Path]) -> dict[str, str]:
    """Returns where the picture of each scan stands on the page; an id may hold no space."""
    names = [path.name.removesuffix(".png") for path in pictures]
    return {scan: f"scan{number}" for number, scan in enumerate(names, start=1)}


def _error_caption(rows: pd.DataFrame, unit: str) -> str:
    if rows.empty:
        return "no reference landmarks"
    known = rows.dropna(subset="error")
    if known.empty:
        return f"all {len(rows)} landmarks missing"
    worst = known.loc[known["error"].idxmax()]
    text = f"mean error {known['error'].mean():.2f} {unit}, "
    text += f"largest {worst['error']:.2f} {unit} ({worst['landmark']})"
    missing = len(rows) - len(known)
    return f"{text}, {missing} of {len(rows)} landmarks missing" if missing else text
