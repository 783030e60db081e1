"""The page of a review in a browser: points are dragged, and nothing is lost."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from image_files import DIRECTIONS
from PIL import Image
from review_study import LABELS, add_scan, make_study, write_ranking
from workflow_runs import copy_run, points, results

from landmarkflow.commands.review import study_at, subject_of
from landmarkflow.core.errors import InputError
from landmarkflow.core.grids import Grid
from landmarkflow.core.records import Record
from landmarkflow.images.operations import image_on
from landmarkflow.review import niivue
from landmarkflow.review.desk import Desk
from landmarkflow.review.server import ReviewServer
from landmarkflow.review.volumes import Volumes

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
# WebGL2 without a graphics card.
FLAGS = ("--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--no-sandbox")
PATIENCE_MS = 60_000


@pytest.fixture(scope="module")
def viewer() -> bytes:
    try:
        return niivue.bundle()
    except InputError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def browser(viewer: bytes) -> Iterator[Any]:
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(f"none of {', '.join(BROWSERS)} is installed")
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=FLAGS)
        yield browser
        browser.close()


@contextmanager
def opened(browser: Any, url: str) -> Iterator[Any]:
    """A page, once it shows a scan; nothing may be wrong on it, and nothing asked for elsewhere."""
    context = browser.new_context(viewport={"width": 900, "height": 500})
    page, wrong = context.new_page(), []
    page.set_default_timeout(PATIENCE_MS)
    page.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(url)
    page.wait_for_selector("body[data-ready]")
    yield page
    context.close()
    # What the browser itself says where the server has been killed.
    assert [text for text in wrong if "ERR_CONNECTION_REFUSED" not in text] == []
    origin = url[: url.index("/", len("http://"))]
    assert [one for one in asked if not one.startswith((origin, "data:", "blob:"))] == []


@contextmanager
def review(folder: Path, root: Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The command itself: the page's address, and its process."""
    command = [sys.executable, "-m", "landmarkflow", "review", "results/tiny", "--no-browser"]
    environment = {**os.environ, "PYTHONPATH": str(root), "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        [*command, "--reviewer", "Ann"],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        (line,) = (line for line in (process.stdout.readline() for _ in range(2)) if "http" in line)
        yield line.split()[-1], process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def drag(page: Any, right: int, down: int, tile: int = 0) -> None:
    """Drags the selected point in a plane by some pixels."""
    handle = page.locator(f"#scan-view g.selected[data-tile='{tile}'] .handle")
    box = handle.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + right / 2, y + down / 2, steps=2)
    page.mouse.move(x + right, y + down, steps=2)
    page.mouse.up()


@pytest.mark.slow
def test_a_dragged_point_is_in_the_file_and_outlives_the_server(
    root: Path, tiny: Path, tmp_path: Path, browser: Any
) -> None:
    folder = copy_run(tiny, tmp_path / "mine")
    run = results(folder) / "oneshot"
    with review(folder, root) as (url, process), opened(browser, url) as page:
        name = page.inner_text("#scan-name")
        label = page.inner_text("#landmarks [aria-current=true] .name")
        file = run / f"reviewed/{name}.mrk.json"
        detected = points(run / f"landmarks/{name}.mrk.json", "final")[label]
        assert not file.exists()
        drag(page, 20, 10)
        page.wait_for_selector("#saved.good")
        first = points(file)[label] - detected
        # As radiologists have it: left is to the right, posterior is down.
        assert first[0] > 0
        assert first[1] == pytest.approx(first[0] / 2, rel=0.05)
        assert first[2] == pytest.approx(0, abs=1e-3)
        # While no server answers, a change waits and is not called saved.
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        drag(page, 0, -20, tile=1)
        page.wait_for_selector("#saved.bad")
        assert "Not saved" in page.inner_text("#saved")
    with review(folder, root) as (url, _), opened(browser, url) as page:
        # The page goes on from the file, at the scan that is not finished.
        assert page.inner_text("#scan-name") == name
        page.click(f"#landmarks [data-label='{label}']")
        assert "moved" in page.inner_text("#landmarks [aria-current=true] .what")
        drag(page, 0, -20, tile=1)
        page.wait_for_selector("#saved.good")
        second = points(file)[label] - detected - first
        assert second[2] > 0
        assert second[:2] == pytest.approx([0, 0], abs=1e-3)
    stated = json.loads(file.read_text(encoding="utf-8"))
    assert [step["by"] for step in stated["review"]["history"]] == ["Ann", "Ann"]
    assert sum("position" in one for one in stated["markups"][0]["controlPoints"]) == 1


@pytest.fixture
def marked(tmp_path: Path, viewer: bytes) -> Iterator[ReviewServer]:
    """A server of a scan that lies askew, dark but for a bright ball at each of three landmarks."""
    made = tmp_path
    where = np.array([[10.0, 14, 9], [22, 9, 16], [14, 24, 20], [20, 20, 6]])
    for name, direction in (("template", np.eye(3)), ("askew", DIRECTIONS["oblique"])):
        grid = Grid((32, 34, 28), np.array([0.5, 0.4, 0.6]), np.array([20.0, -30, 5]), direction)
        index = np.indices(grid.size[::-1])[::-1]
        away = [(((index - p[:, None, None, None]).T * grid.spacing).T ** 2).sum(0) for p in where]
        values = np.where(np.min(away, axis=0) < 0.8**2, 1000, 0).astype(np.int16)
        values[0, 0, 0] = 1
        if name == "template":
            made = make_study(tmp_path, image_on(grid, values), grid.to_physical(where))
        else:
            found = grid.to_physical(where[:3])
            add_scan(made, name, image_on(grid, values), found, Record(name, "place"))
    write_ranking(made, [{"scan": "askew", "status": "ok", "doubt": 0.5}])
    with tempfile.TemporaryDirectory() as shown:
        desk = Desk(subject_of(study_at(made), made, ""), "Ann", Volumes(Path(shown), 1 << 30))
        with ReviewServer(desk, viewer) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            yield server
            server.shutdown()


def brightest(page: Any, view: str, tile: int) -> tuple[np.ndarray, np.ndarray]:
    """In one plane: the middle of what is bright, and where the selected point is drawn, pixels."""
    screen = page.locator(f"{view} .screen")
    box, mark = (
        screen.bounding_box(),
        page.locator(f"{view} g.selected[data-tile='{tile}'] .handle"),
    )
    place = mark.bounding_box()
    centre = np.array([place["x"] + place["width"] / 2, place["y"] + place["height"] / 2])
    page.evaluate("document.querySelectorAll('svg').forEach((one) => one.style.opacity = 0)")
    picture = Image.open(BytesIO(screen.screenshot())).convert("L")
    page.evaluate("document.querySelectorAll('svg').forEach((one) => one.style.opacity = 1)")
    half = np.array([picture.width, picture.height]) // 2
    left, top = half * [tile % 2, tile // 2]
    # Without the letters along the edges.
    part = np.asarray(picture, dtype=float)[top : top + half[1], left : left + half[0]]
    part = np.where(part > 128, part, 0)[18:-18, 18:-18]
    rows, columns = np.nonzero(part)
    assert len(rows), "nothing is bright in this plane"
    corner = np.array([box["x"] + left, box["y"] + top])
    return corner + np.array([columns.mean(), rows.mean()]) + 18.5, centre


@pytest.mark.slow
def test_marks_lie_on_what_they_mark_in_scan_and_template(
    browser: Any, marked: ReviewServer, tmp_path: Path
) -> None:
    with opened(browser, marked.url) as page:
        for label in ("a", "b", "c"):
            page.click(f"#landmarks [data-label='{label}']")
            for view in ("#scan-view", "#template-view"):
                for tile in range(3):
                    bright, mark = brightest(page, view, tile)
                    assert bright == pytest.approx(mark, abs=2.5), (label, view, tile)
        # By keys alone: the order is that of the radii, b, c, a.
        page.focus("body")
        page.click("#landmarks [data-label='b']")
        page.keyboard.press("a")
        page.wait_for_selector("#landmarks [data-label='c'][aria-current=true]")
        page.keyboard.press("x")
        page.wait_for_selector("#landmarks [data-label='a'][aria-current=true]")
        page.keyboard.press("Shift+ArrowRight")
        page.wait_for_selector("#landmarks .moved")
        page.keyboard.press("u")
        page.wait_for_selector("#landmarks .row.open[data-label='a']")
        page.keyboard.press("Shift+A")
        page.wait_for_selector("#points-done:has-text('3 of 3')")
    path = tmp_path / "results/ears/oneshot/reviewed/askew.mrk.json"
    (node,) = json.loads(path.read_text(encoding="utf-8"))["markups"]
    done = {one["label"]: one.get("review", {}).get("did") for one in node["controlPoints"]}
    assert done == dict(zip(LABELS, ("accepted", "accepted", "not visible", None), strict=True))
