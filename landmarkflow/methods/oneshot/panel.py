"""A picture of each scan's way: its centre step by step, then template and scan together.

It shows what the stages before left, and computes no registration. The template is drawn as it
comes to lie in the scan, slightly warm in colour; marks of the truth are not its business.
"""

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from landmarkflow.core.points import PointList
from landmarkflow.core.records import Record, read_record
from landmarkflow.engine.batch import Batch
from landmarkflow.engine.store import Task
from landmarkflow.formats.slicer import read_point_lists
from landmarkflow.formats.transforms import read_transform
from landmarkflow.formats.written import read_written
from landmarkflow.images.operations import grid_of
from landmarkflow.images.sampling import map_points
from landmarkflow.images.sheets import LETTER_PIXELS, SOFT, Colour, Sheet
from landmarkflow.images.similarity import Interpolator
from landmarkflow.images.views import VIEWS, Frame, View
from landmarkflow.methods.oneshot.inverse import about_inverse, inverse_at
from landmarkflow.methods.oneshot.settings import CentreSettings

Array = NDArray[np.float64]

# So many landmarks are drawn, those with the largest radii.
MOST_LANDMARKS = 4
# Of a slice, of the gaps between slices, and of a line of words above them, pixels.
SIDE, GAP, HEAD = 200, 4, 24
# Side of the slices through a landmark, of the side of the crop that is registered.
WINDOW = 0.6
# Side of the slices through the centre: the crop's, or the way of the centre and so much around it.
CENTRE_WINDOW, AROUND_WAY = 1.2, 1.4
# Fields of the checkerboard along a side.
FIELDS = 6
# Between the points of a slice at which a registration is inverted, pixels; it is smooth between.
LATTICE_PIXELS = 10
# Points along each axis of the template's crop that tell how a registration maps it as a whole.
KNOWN = 5
DETECTED, STEP, WAY = (25, 211, 255), (255, 111, 181), (255, 215, 64)
TEMPLATE_TINT = (1.0, 0.9, 0.74)
STEPS = {"rigid": "rigid", "bspline": "B-spline"}


@dataclass(frozen=True)
class Warped:
    """The template as it comes to lie in a scan after one step.

    Attributes:
        transform: takes template points to the scan's.
        affine: (3, 4), nearly its inverse.
        voxels: of the template's crop.
        points: where the step puts the landmarks in the scan.
    """

    transform: sitk.Transform
    affine: Array
    voxels: Interpolator
    points: PointList

    @staticmethod
    def of(
        transform: sitk.Transform, corners: Array, voxels: Interpolator, points: PointList
    ) -> "Warped":
        """Prepare to look the template up from the scan's side.

        Args:
            transform: takes template points to the scan's.
            corners: (8, 3) LPS mm, of the template's crop.
            voxels: of the template's crop.
            points: where the step puts the landmarks in the scan.
        """
        low, high = corners.min(axis=0), corners.max(axis=0)
        # The outer quarters are left out: beyond the target a B-spline is not defined everywhere.
        axes = [
            np.linspace(0.75 * a + 0.25 * b, 0.25 * a + 0.75 * b, KNOWN)
            for a, b in zip(low, high, strict=True)
        ]
        known = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
        affine = about_inverse(known, map_points(transform, known))
        return Warped(transform, affine, voxels, points)

    def slice(self, frame: Frame) -> NDArray[np.float32]:
        """(side · side,) the template's intensities in a slice of the scan."""
        nodes = frame.side // LATTICE_PIXELS
        coarse = Frame(frame.view, frame.centre, frame.window, 0, 0, nodes)
        there = inverse_at(self.transform, self.affine, coarse.points())
        between = _between(frame.side, nodes)
        points = between @ there.T.reshape(3, nodes, nodes) @ between.T
        return self.voxels.sample(points.reshape(3, -1).T)[0]


def _between(pixels: int, nodes: int) -> Array:
    """(pixels, nodes) weights of linear interpolation; beyond the outer nodes the map goes on."""
    place = (np.arange(pixels) + 0.5) * nodes / pixels - 0.5
    first = np.clip(np.floor(place), 0, nodes - 2).astype(int)
    weights = np.zeros((pixels, nodes))
    rows, share = np.arange(pixels), place - first
    weights[rows, first], weights[rows, first + 1] = 1 - share, share
    return weights


@dataclass(frozen=True)
class Way:
    """What is drawn of a scan.

    Attributes:
        region: the normalised scan around the target.
        crop: what was registered of it.
        centres: (n, 3) LPS mm, from the candidate to the last mass centre.
        field_mm: side of the crop.
        found: the landmarks, with their radii.
        steps: the template after each step, by the step's name.
    """

    region: sitk.Image
    crop: sitk.Image
    centres: Array
    field_mm: float
    found: PointList
    steps: dict[str, Warped]


def draw(way: Way) -> tuple[Sheet, list[dict[str, Any]]]:
    """The picture, and of each landmark drawn: its name, its frame and where words have room."""
    radius = np.nan_to_num(
        np.zeros(len(way.found.landmarks.labels)) if way.found.radius is None else way.found.radius
    )
    chosen = np.argsort(-radius, kind="stable")[:MOST_LANDMARKS]
    row = 2 * (SIDE + GAP) + HEAD
    sheet = Sheet(3 * SIDE + 2 * GAP, HEAD + SIDE + GAP + len(chosen) * row + HEAD)
    _draw_centring(sheet, way)
    voxels = Interpolator.of(way.crop)
    tiles = []
    for number, i in enumerate(chosen.tolist()):
        tiles.append(_draw_landmark(sheet, way, voxels, i, HEAD + SIDE + GAP + number * row))
    _draw_legend(sheet, HEAD + SIDE + GAP + len(chosen) * row)
    return sheet, tiles


def _draw_centring(sheet: Sheet, way: Way) -> None:
    last = way.centres[-1]
    moves = np.linalg.norm(np.diff(way.centres, axis=0), axis=1)
    said = ", ".join(f"{move:.2f}" for move in moves[:8])
    sheet.write(f"Centring: the centre moved {said} mm", 2, HEAD / 2, anchor="lm")
    reach = 2 * AROUND_WAY * float(np.abs(way.centres - last).max())
    window = max(CENTRE_WINDOW * way.field_mm, reach)
    voxels = Interpolator.of(way.region)
    for view, frame in zip(VIEWS, _frames(VIEWS, last, window, HEAD), strict=True):
        sheet.show(voxels.sample(frame.points())[0], frame)
        places = frame.to_picture(way.centres)
        if len(places) > 1:
            sheet.line(list(places), WAY)
        for place in places[:-1]:
            sheet.dot(place, WAY)
        sheet.circle(places[-1], 6, WAY)
        sheet.letters(frame)
        sheet.write(view.name, frame.left + 5, frame.top + 4)


def _draw_landmark(
    sheet: Sheet, way: Way, voxels: Interpolator, i: int, top: int
) -> dict[str, Any]:
    """Two rows: scan and template after each step, then words and checkerboards."""
    label, place = way.found.landmarks.labels[i], way.found.landmarks.positions[i]
    moved = place - way.steps["rigid"].points.landmarks.positions[i]
    view = min(VIEWS, key=lambda one: abs(moved[one.normal]))
    window = WINDOW * way.field_mm
    first, *others = _frames((view,) * 3, place, window, top + HEAD)
    scan = voxels.sample(first.points())[0]
    radius = way.found.radius[i] if way.found.radius is not None else np.nan
    sheet.write(label, 2, top + HEAD / 2, anchor="lm", size=18)
    sheet.show(scan, first)
    sheet.letters(first)
    _mark(sheet, first, place, radius)
    sheet.write("scan", first.left + 5, first.top + 4)
    for frame, (name, said) in zip(others, STEPS.items(), strict=True):
        step = way.steps[name]
        template, here = step.slice(frame), step.points.landmarks.positions[i]
        sheet.show(template, frame, TEMPLATE_TINT)
        sheet.diamond(frame.to_picture(here)[0], STEP)
        _mark(sheet, frame, place, radius)
        sheet.write(f"template, {said}", frame.left + 5, frame.top + 4)
        both = Frame(view, frame.centre, window, frame.left, frame.top + SIDE + GAP, SIDE)
        of_template = _checkers(SIDE)
        tint = np.where(of_template[:, None], TEMPLATE_TINT, (1.0, 1.0, 1.0))
        sheet.show(np.where(of_template, template, scan), both, tint)
        _mark(sheet, both, place, radius)
        sheet.write(f"both, {said}", both.left + 5, both.top + 4)
    words = [f"{view.name} slice, {window:.0f} mm wide"]
    words += [] if np.isnan(radius) else [f"radius {radius:.2f} mm"]
    for name, said in STEPS.items():
        off = float(np.linalg.norm(place - way.steps[name].points.landmarks.positions[i]))
        words.append(f"{said} is {off:.2f} mm away")
    below = top + HEAD + SIDE + GAP + 6
    for number, line in enumerate(words):
        sheet.write(line, 2, below + 20 * number, colour=SOFT)
    beside = {"left": 2, "top": below + 20 * len(words), "size": LETTER_PIXELS}
    return {"landmark": label, "frame": first.as_record(), "words": beside}


def _mark(sheet: Sheet, frame: Frame, place: Array, radius: float) -> None:
    there = frame.to_picture(place)[0]
    pixels = float(np.nan_to_num(radius * frame.side / frame.window))
    if pixels:
        sheet.circle(there, pixels, DETECTED)
    sheet.cross(there, DETECTED, pixels + 2.0)


def _draw_legend(sheet: Sheet, top: int) -> None:
    middle, left = top + HEAD / 2, 8.0
    sheet.dot((left, middle), WAY)
    sheet.circle((left + 70, middle), 3.5, DETECTED)
    sheet.cross((left + 70, middle), DETECTED, 5.5)
    sheet.diamond((left + 215, middle), STEP)
    said = {0: "centre", 70: "detected, radius", 215: "after the step"}
    for away, text in said.items():
        sheet.write(text, left + away + 13, middle, anchor="lm", colour=SOFT)
    left += 350
    sheet.write("template: warm colours", left, middle, anchor="lm", colour=_warm(SOFT))


def _warm(colour: Colour) -> Colour:
    red, green, blue = (round(c * t) for c, t in zip(colour, TEMPLATE_TINT, strict=True))
    return red, green, blue


def _frames(views: tuple[View, ...], centre: Array, window: float, top: int) -> Iterator[Frame]:
    x, y, z = centre.tolist()
    for number, view in enumerate(views):
        yield Frame(view, (x, y, z), window, number * (SIDE + GAP), top, SIDE)


def _checkers(side: int) -> NDArray[np.bool_]:
    """(side · side,) which pixels show the template."""
    fields = np.arange(side) * FIELDS // side
    return np.asarray((fields[:, None] + fields) % 2 == 1).ravel()


def centres_of(located: dict[str, Any], centred: dict[str, Any]) -> Array:
    """(n, 3) LPS mm, the candidate where centring began, where that is known, and each step."""
    steps = [step["centre"] for step in centred["steps"]]
    started = [one["centre"] for one in located["candidates"]]
    # Without candidates the network found one of its own in the whole region.
    return np.array([started[centred["candidate"]], *steps] if started else steps)


def run(batch: Batch) -> None:
    """Draw the way of every scan of the batch."""
    settings = batch.settings(CentreSettings, "centre")

    @functools.cache
    def template() -> tuple[Array, Interpolator]:
        """The corners of the template's crop and its voxels."""
        crop = read_written(batch.path("template_centred"))
        return grid_of(crop).corners, Interpolator.of(crop)

    def compute(task: Task) -> Record:
        located, centred = (
            read_record(task.inputs[f"{name}_record"]).details for name in ("locate", "centre")
        )
        after = {
            points.name: points for points in read_point_lists(task.inputs["steps"], task.scan)
        }
        way = Way(
            read_written(task.inputs["region"]),
            read_written(task.inputs["crop"]),
            centres_of(located, centred),
            settings.field_mm,
            read_point_lists(task.inputs["landmarks"], task.scan)[0],
            {
                name: Warped.of(read_transform(task.inputs[name]), *template(), after[name])
                for name in STEPS
            },
        )
        sheet, tiles = draw(way)
        sheet.save(task.outputs["panel"])
        return Record(task.scan, "panel", details={"tiles": tiles})

    batch.run(compute)
