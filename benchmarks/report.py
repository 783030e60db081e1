"""Measure the report of a study with many scans: its size, and how soon a browser shows it.

Results of simulated temporal bones are made in a folder: some scans are drawn, and every further
one has the picture of one of these. The page is opened in Chromium without a window.

Usage: report.py --output FOLDER [--scans 200] [--landmarks 45] [--drawn 4] [--dpi 110]
"""

import argparse
import json
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from landmarkflow.cohorts.settings import CohortSettings
from landmarkflow.cohorts.simulate import LABELS, simulate_subject
from landmarkflow.core.files import write_json
from landmarkflow.core.points import Landmarks, PointList
from landmarkflow.core.records import Record, write_record
from landmarkflow.engine.store import Task
from landmarkflow.evaluation.evaluate import Kind, evaluate
from landmarkflow.evaluation.settings import EvaluateSettings
from landmarkflow.formats.slicer import write_markups
from landmarkflow.formats.written import write_volume
from landmarkflow.report.entries import RunFiles
from landmarkflow.report.figures import save_png
from landmarkflow.report.page import write_report
from landmarkflow.report.pictures import draw_overview
from landmarkflow.report.settings import ReportSettings
from landmarkflow.report.ways import ScanFiles

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
# Pixels of the picture of a scan's way.
WAY_SIZE = (608, 1980)
# Every so many scans is doubtful, and every so many has no result.
DOUBTFUL, FAILED = 12, 80


@dataclass(frozen=True)
class Shown:
    """How a browser showed a page.

    Attributes:
        painted_s: from the start to the first text or picture on the screen.
        loaded_s: from the start to the page's event `load`.
        seen_s: from the start to a screenshot of the first screen.
        complaints: what the browser's console said.
    """

    painted_s: float
    loaded_s: float
    seen_s: float
    complaints: tuple[str, ...]


def write_results(
    folder: Path, scans: int, landmarks: int, drawn: int, settings: ReportSettings
) -> RunFiles:
    """Writes a run of simulated scans as a method and the evaluation leave it.

    Args:
        folder: the study's.
        scans: how many there are.
        landmarks: how many each of them has, of which pictures show those of the cohort.
        drawn: how many scans have a picture of their own.
        settings: of the pictures.
    """
    ear = simulate_subject(CohortSettings(), 1, 1)
    target, way = folder / "target.nii.gz", folder / "way.webp"
    labels = tuple(f"landmark {number}" for number in range(1, landmarks + 1))
    home, random = folder / "oneshot", np.random.default_rng(1)
    tasks, pictures = [], []
    write_volume(ear.segmentation, target)
    others: dict[str, ScanFiles] = {}
    drawn_pictures = [_draw(folder / f"drawn/{n}.png", n, settings) for n in range(drawn)]
    for number in range(1, scans + 1):
        scan = f"ear{number:03d}"
        files = {
            "found": home / f"landmarks/{scan}.mrk.json",
            "record": home / f"landmarks/{scan}.json",
            "reference": folder / f"references/{scan}.mrk.json",
        }
        truth = random.uniform(-20, 20, (landmarks, 3))
        away = random.normal(0, 0.06 if number % DOUBTFUL else 0.6, truth.shape)
        found = Landmarks(labels, truth + away)
        radius = np.abs(random.normal(0.2, 0.05, landmarks))
        write_markups(files["found"], [PointList("final", found, radius)], scan=scan)
        write_markups(files["reference"], [PointList("reference", Landmarks(labels, truth), None)])
        record = Record(scan, "place")
        if number % DOUBTFUL == 0:
            record = Record(scan, "place", "doubtful", "two places are much alike")
        if number % FAILED == 0:
            record = Record(scan, "place", "failed", "the target was not found")
            files["found"].write_bytes(b"")
        write_record(files["record"], record)
        picture = home / f"pictures/{scan}.png"
        picture.parent.mkdir(exist_ok=True)
        shutil.copyfile(drawn_pictures[number % drawn], picture)
        pictures.append(picture)
        tasks.append(Task(scan, files, {}))
        way_record = home / f"panels/{scan}.json"
        write_record(way_record, Record(scan, "panel", details={"tiles": []}))
        others[scan] = ScanFiles(files["found"], files["reference"], way, way_record, target)
    evaluate(scans=tasks, folder=home, settings=EvaluateSettings(), seed=0, kind=Kind())
    made = {"run": "oneshot", "entry": "oneshot", "method": "oneshot", "seed": 1}
    made |= {"template": "template", "steps": {"final": "final"}, "settings": {}}
    write_json(home / "made.json", made)
    # As large as the one-shot method draws it, and as full of detail as the picture is.
    with Image.open(drawn_pictures[0]) as first:
        first.convert("RGB").resize(WAY_SIZE).save(way, quality=62)
    return RunFiles(home, {}, pictures, {}, others)


def _draw(path: Path, number: int, settings: ReportSettings) -> Path:
    subject = simulate_subject(CohortSettings(), 1, number)
    moved = subject.landmarks.positions + np.random.default_rng(number).normal(0, 0.2, (4, 3))
    figure = draw_overview(
        scan=subject.scan,
        detected=Landmarks(LABELS, moved),
        reference=subject.landmarks,
        title=path.stem,
        note=None,
        settings=settings,
    )
    save_png(figure, path)
    return path


def open_page(path: Path) -> Shown | None:
    """Opens a page in Chromium and measures; None where there is no Chromium, or no Playwright."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        return None
    try:
        from playwright.sync_api import sync_playwright  # noqa: PLC0415
    except ImportError:
        return None
    said: list[str] = []
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        page = chromium.new_page(viewport={"width": 1280, "height": 900})
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        started = time.monotonic()
        page.goto(path.resolve().as_uri())
        page.screenshot()
        seen = time.monotonic() - started
        script = (
            "() => [performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? 0,"
            " performance.getEntriesByType('navigation')[0].loadEventEnd]"
        )
        painted, loaded = page.evaluate(script)
        chromium.close()
    return Shown(painted / 1000, loaded / 1000, seen, tuple(said))


def main(arguments: Sequence[str] | None = None) -> None:
    """Makes the results and the page, opens it, and prints a line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True, help="an empty folder")
    parser.add_argument("--scans", type=int, default=200)
    parser.add_argument("--landmarks", type=int, default=45)
    parser.add_argument("--drawn", type=int, default=4, help="pictures that differ")
    parser.add_argument("--dpi", type=int, default=ReportSettings().dpi)
    chosen = parser.parse_args(arguments)
    settings = ReportSettings(dpi=chosen.dpi)
    count, drawn = chosen.landmarks, chosen.drawn
    run = write_results(chosen.output, chosen.scans, count, drawn, settings)
    report = chosen.output / "report.html"
    started = time.monotonic()
    write_report(report, {"study": "many scans"}, [run])
    said = {"scans": chosen.scans, "landmarks": count}
    said["megabytes"] = round(report.stat().st_size / 1e6, 2)
    said["written_s"] = round(time.monotonic() - started, 1)
    if (shown := open_page(report)) is not None:
        said |= {n: round(v, 2) for n, v in vars(shown).items() if n != "complaints"}
        said["complaints"] = len(shown.complaints)
    sys.stdout.write(f"{json.dumps(said)}\n")


if __name__ == "__main__":
    main()
