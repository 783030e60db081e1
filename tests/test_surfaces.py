"""The target in 3D on the report's page: the mesh, and what a browser shows of it."""

import base64
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from image_files import DIRECTIONS
from PIL import Image
from scipy.spatial import cKDTree

from landmarkflow.cohorts.settings import CohortSettings
from landmarkflow.cohorts.simulate import simulate_subject
from landmarkflow.core.files import write_json
from landmarkflow.core.grids import Grid
from landmarkflow.core.points import Landmarks, PointList
from landmarkflow.core.records import Record, write_record
from landmarkflow.engine.store import Task
from landmarkflow.evaluation.evaluate import Kind, evaluate
from landmarkflow.evaluation.settings import EvaluateSettings
from landmarkflow.formats.slicer import write_markups
from landmarkflow.formats.written import write_volume
from landmarkflow.images.operations import image_on
from landmarkflow.images.views import VIEWS, Frame
from landmarkflow.report.entries import RunFiles
from landmarkflow.report.page import write_report
from landmarkflow.report.surfaces import MOST_TRIANGLES, Surface, packed, surface_of
from landmarkflow.report.ways import ScanFiles

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
# Colours of detected and reference points in a bright page.
DETECTED, REFERENCE = (11, 110, 153), (184, 92, 0)


def volume_of(surface: Surface) -> float:
    """Positive where triangles are anticlockwise as seen from outside."""
    a, b, c = (surface.vertices[surface.triangles[:, k]] for k in range(3))
    return float(np.einsum("ij,ij->", a, np.cross(b, c)) / 6)


def box(direction: str, thin: bool = False) -> tuple[sitk.Image, np.ndarray]:
    """Labels of an oblique box, and the box's corners, LPS mm."""
    grid = Grid((60, 50, 40), np.array([0.3, 0.4, 0.5]), np.full(3, -20.0), DIRECTIONS[direction])
    labels = np.zeros(grid.size[::-1], np.uint8)
    labels[10:30, 10:40, 15 : 17 if thin else 45] = 3
    high = (17 if thin else 45, 40, 30)
    corners = np.array([[x, y, z] for x in (15, high[0]) for y in (10, 40) for z in (10, 30)])
    return image_on(grid, labels), grid.to_physical(corners - 0.5)


@pytest.mark.parametrize("direction", sorted(DIRECTIONS))
def test_a_surface_lies_around_the_labels_in_any_frame(direction: str) -> None:
    labels, corners = box(direction)
    surface = surface_of(labels)
    assert surface is not None
    assert 0.5 * MOST_TRIANGLES < len(surface.triangles) <= MOST_TRIANGLES
    expected = 9.0 * 12.0 * 10.0
    assert volume_of(surface) == pytest.approx(expected, rel=0.1)
    for end in (np.min, np.max):
        assert end(surface.vertices, axis=0) == pytest.approx(end(corners, axis=0), abs=1.1)


def test_a_wall_that_is_thinner_than_the_grid_stays() -> None:
    labels, _ = box("along", thin=True)
    surface = surface_of(labels)
    assert surface is not None
    # At least a wall of the grid's step, without holes.
    assert 0.6 * 12.0 * 10.0 < volume_of(surface) < 3 * 0.6 * 12.0 * 10.0


def test_nothing_labelled_has_no_surface() -> None:
    labels, _ = box("along")
    assert surface_of(labels * 0) is None


def test_a_packed_surface_is_small_and_the_same() -> None:
    surface = surface_of(box("along")[0])
    assert surface is not None
    data = packed(surface)
    stored = np.frombuffer(base64.b64decode(data["vertices"]), "<u2").reshape(-1, 3)
    assert data["origin"] + data["step"] * stored == pytest.approx(surface.vertices, abs=1e-3)
    triangles = np.frombuffer(base64.b64decode(data["triangles"]), "<u2").reshape(-1, 3)
    assert (triangles == surface.triangles).all()
    assert len(data["vertices"]) + len(data["triangles"]) < 14_000


def test_landmarks_of_an_ear_lie_at_its_surface() -> None:
    settings = CohortSettings(size=(96, 96, 64), spacing=(0.4, 0.4, 0.5), shift_mm=4)
    ear = simulate_subject(settings, 1, 1)
    surface = surface_of(ear.segmentation)
    assert surface is not None
    centres = surface.vertices[surface.triangles].mean(axis=1)
    places = np.concatenate([surface.vertices, centres])
    away = cKDTree(places).query(ear.landmarks.positions)[0]
    assert away.max() < 0.5
    # Farther off where any axis is turned over.
    middle = (surface.vertices.min(axis=0) + surface.vertices.max(axis=0)) / 2
    for axis in range(3):
        turned = ear.landmarks.positions.copy()
        turned[:, axis] = 2 * middle[axis] - turned[:, axis]
        assert cKDTree(places).query(turned)[0].sum() > 1.5 * away.sum()


# In a browser ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of one scan: a box, detected at its left and upper end, true at right and lower."""
    folder = tmp_path_factory.mktemp("page")
    home = folder / "oneshot"
    grid = Grid.centred((0.0, 0.0, 0.0), (40, 40, 40), 0.5)
    labels = np.zeros((40, 40, 40), np.uint8)
    labels[12:28, 12:28, 4:36] = 1
    write_volume(image_on(grid, labels), home / "segmentations/a.nii.gz")
    detected, truth = np.array([[8.0, 0.0, 4.0]]), np.array([[-8.0, 0.0, -4.0]])
    files = ScanFiles(
        home / "landmarks/a.mrk.json",
        folder / "a.mrk.json",
        home / "panels/a.webp",
        home / "panels/a.json",
        home / "segmentations/a.nii.gz",
    )
    for path, places in ((files.landmarks, detected), (folder / "a.mrk.json", truth)):
        radius = np.array([0.4]) if places is detected else None
        write_markups(path, [PointList("final", Landmarks(("p",), places), radius)])
    for picture in (home / "panels/a.webp", home / "pictures/a.png"):
        picture.parent.mkdir(parents=True)
        Image.new("RGB", (608, 500), (90, 90, 90)).save(picture)
    frame = Frame(VIEWS[1], (8.0, 0.0, 4.0), 40.0, 0, 24, 200).as_record()
    words = {"left": 2, "top": 240, "size": 15}
    tiles = {"tiles": [{"landmark": "p", "frame": frame, "words": words}]}
    write_record(home / "panels/a.json", Record("a", "panel", details=tiles))
    write_record(home / "landmarks/a.json", Record("a", "place"))
    inputs = {"found": files.landmarks, "record": home / "landmarks/a.json"}
    task = Task("a", inputs | {"reference": folder / "a.mrk.json"}, {})
    evaluate(scans=[task], folder=home, settings=EvaluateSettings(), seed=0, kind=Kind())
    made = {"run": "oneshot", "entry": "oneshot", "method": "oneshot", "seed": 1}
    made |= {"template": "template", "steps": {"final": "final"}, "settings": {}}
    write_json(home / "made.json", made)
    run = RunFiles(home, {}, [home / "pictures/a.png"], {}, {"a": files})
    write_report(folder / "report.html", {"study": "s"}, [run])
    return folder / "report.html"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(f"none of {', '.join(BROWSERS)} is installed")
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=found, args=("--no-sandbox",))
        yield opened
        opened.close()


def centre_of(page: Any, colour: tuple[int, int, int]) -> np.ndarray:
    """Mean place of a colour on the canvas, -1 to 1 to the right and up."""
    found = page.evaluate(
        """([r, g, b]) => {
            const canvas = document.querySelector('canvas'), n = canvas.width, places = [];
            const { data } = canvas.getContext('2d').getImageData(0, 0, n, n);
            for (let i = 0; i < data.length; i += 4)
                if ([r, g, b].every((part, k) => Math.abs(data[i + k] - part) < 15) &&
                    data[i + 3] > 200)
                    places.push([2 * ((i / 4) % n) / n - 1, 1 - 2 * Math.floor(i / 4 / n) / n]);
            return places;
        }""",
        list(colour),
    )
    assert found, colour
    return np.asarray(found).mean(axis=0)


def test_a_target_is_turned_by_keys_and_pointer_and_shows_sides_where_they_are(
    page_file: Path, browser: Any
) -> None:
    context = browser.new_context(viewport={"width": 1200, "height": 900}, color_scheme="light")
    page, wrong = context.new_page(), []
    page.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.goto(page_file.as_uri())
    # Closed, nothing is read or drawn.
    assert page.locator("canvas[data-turned]").count() == 0
    page.locator("details.more summary").click()
    page.wait_for_selector("canvas[data-turned]")
    canvas = page.locator("canvas")
    canvas.press("Home")
    assert canvas.get_attribute("data-turned") == "0 0"
    # From the front the patient's left is on the right, as superior is up.
    right, up = centre_of(page, DETECTED)
    assert right > 0.3 and up > 0.2
    right, up = centre_of(page, REFERENCE)
    assert right < -0.3 and up < -0.2
    for _ in range(18):
        canvas.press("ArrowRight")
    assert canvas.get_attribute("data-turned") == "-180 0"
    assert centre_of(page, REFERENCE)[0] > 0.3
    canvas.press("Home")
    # The front follows the key: seen more from above, what is superior comes to the front.
    canvas.press("ArrowDown")
    assert canvas.get_attribute("data-turned") == "0 10"
    box = canvas.bounding_box()
    page.mouse.move(box["x"] + 150, box["y"] + 150)
    page.mouse.down()
    page.mouse.move(box["x"] + 250, box["y"] + 150)
    page.mouse.up()
    assert canvas.get_attribute("data-turned") == "-57 10"
    # The panel is there, with the reference where it lies: 16 mm to the right's left, 8 down.
    way = page.locator("figure.way img")
    assert way.evaluate("image => image.complete && image.naturalWidth") == 608
    circle = page.locator("figure.way circle")
    place = (circle.get_attribute("cx"), circle.get_attribute("cy"))
    assert [float(value) for value in place] == [100 - 80, 24 + 100 + 40]
    assert page.locator("figure.way text").text_content() == "reference: 17.89 mm"
    assert wrong == []
    context.close()


def test_on_a_phone_nothing_is_wider_than_the_screen(page_file: Path, browser: Any) -> None:
    context = browser.new_context(viewport={"width": 400, "height": 800}, color_scheme="dark")
    page = context.new_page()
    page.goto(page_file.as_uri())
    page.locator("details.more summary").click()
    page.wait_for_selector("canvas[data-turned]")
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    assert page.locator("canvas").bounding_box()["width"] > 300
    context.close()
