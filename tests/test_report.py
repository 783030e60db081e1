import base64
import io
import math
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from pydantic import ValidationError

from landmarkflow.core.errors import InputError
from landmarkflow.core.files import read_json, write_json
from landmarkflow.core.grids import Grid
from landmarkflow.core.points import Landmarks, PointList
from landmarkflow.core.records import Record, Step, write_record
from landmarkflow.engine.store import Task
from landmarkflow.evaluation.errors import COLUMNS, NUMBERS
from landmarkflow.evaluation.evaluate import Kind, evaluate
from landmarkflow.evaluation.results import read_run, read_table
from landmarkflow.evaluation.settings import EvaluateSettings
from landmarkflow.formats.slicer import write_markups
from landmarkflow.formats.volumes import read_volume
from landmarkflow.formats.written import write_volume
from landmarkflow.images.operations import image_on
from landmarkflow.images.views import VIEWS
from landmarkflow.report.curves import draw_error_distribution, draw_radii
from landmarkflow.report.embedded import Budget
from landmarkflow.report.entries import RunFiles, worst_first
from landmarkflow.report.figures import png_bytes, save_png
from landmarkflow.report.further import read_markdown
from landmarkflow.report.heat import MISSING, UNASKED, heat_of
from landmarkflow.report.histories import draw_history, read_history
from landmarkflow.report.page import write_report
from landmarkflow.report.panels import Beside
from landmarkflow.report.pictures import (
    choose_landmarks,
    draw_overview,
    write_overview,
)
from landmarkflow.report.settings import ReportSettings

SETTINGS = ReportSettings(window=24.0, dpi=80)
SIDES = {"L": (0, 1), "R": (0, -1), "P": (1, 1), "A": (1, -1), "S": (2, 1), "I": (2, -1)}


def oblique_grid() -> Grid:
    a, b = math.radians(35), math.radians(-20)
    about_z = np.array([[math.cos(a), -math.sin(a), 0], [math.sin(a), math.cos(a), 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, math.cos(b), -math.sin(b)], [0, math.sin(b), math.cos(b)]])
    # A reversed axis makes the voxel order differ from LPS as well.
    direction = about_z @ about_x @ np.diag([1.0, -1.0, 1.0])
    spacing = np.array([0.6, 0.5, 0.8])
    size = (60, 70, 50)
    centre = np.array([-30.0, 12.0, 55.0])
    origin = centre - direction @ (spacing * (np.array(size) - 1) / 2)
    return Grid(size, spacing, origin, direction)


def scan_with_blobs(points: list[np.ndarray]) -> object:
    """A noisy oblique scan with a bright ball of 0.7 mm at each physical point."""
    grid = oblique_grid()
    z, y, x = np.indices(grid.size[::-1])
    positions = grid.to_physical(np.stack([x, y, z], axis=-1).reshape(-1, 3))
    values = np.random.default_rng(1).normal(0, 5, len(positions))
    for point in points:
        values += 1000 * np.exp(-(((positions - point) / 0.7) ** 2).sum(axis=1) / 2)
    return image_on(grid, values.reshape(grid.size[::-1]).astype(np.float32))


def single(position: np.ndarray | list[float]) -> Landmarks:
    return Landmarks(("apex",), np.array([position], dtype=float))


def marks(axes, gid):
    return [line for line in axes.lines if line.get_gid() == gid]


def value_at(axes, across, up):
    """The value that the axes' image shows at data coordinates."""
    image = axes.images[0]
    left, right, bottom, top = image.get_extent()
    values = image.get_array()
    column = int((across - left) / (right - left) * values.shape[1])
    row = int((up - bottom) / (top - bottom) * values.shape[0])
    return values[row, column]


def shown_at(figure, axes, across, up):
    """The grey value, 0 to 255, of the drawn picture at data coordinates."""
    figure.canvas.draw()
    pixels = np.asarray(figure.canvas.buffer_rgba())
    x, y = axes.transData.transform((across, up))
    return int(pixels[pixels.shape[0] - 1 - int(y), int(x), 0])


def texts(figure):
    return [text.get_text() for text in figure.texts]


def write_picture(
    folder: Path, image: str, points: str | None, unit: str = "mm", record: Record | None = None
) -> bytes:
    """The PNG of a scan whose points, where it has any, are its reference as well."""
    (folder / "none").touch()
    write_record(folder / "record.json", record or Record("s", "place"))
    inputs = dict.fromkeys(("landmarks", "reference"), folder / (points or "none"))
    inputs["landmarks_record"] = folder / "record.json"
    row = {"image": str(folder / image), "scale": ""}
    task = Task("s", inputs, {"picture": folder / "pictures" / "s.png"}, row)
    assert write_overview(task, SETTINGS, unit) == Record("s", "pictures")
    data = task.outputs["picture"].read_bytes()
    assert data.startswith(b"\x89PNG")
    return data


# Pictures -------------------------------------------------------------------------------------


def test_a_bright_point_of_an_oblique_volume_lies_under_the_cross_in_all_views():
    point = oblique_grid().to_physical([[33, 31, 22]])[0]
    truth = point + np.array([0.3, -0.4, 1.2])
    offsets = np.diag([5.0, 4.0, 3.0])
    figure = draw_overview(
        scan=scan_with_blobs([point, *(point + offsets)]),
        detected=single(point),
        reference=single(truth),
        title="s",
        note=None,
        settings=SETTINGS.model_copy(update={"intensity": (0.0, 800.0)}),
    )
    assert len(figure.axes) == 3
    for axes, view in zip(figure.axes, VIEWS, strict=True):
        (cross,) = marks(axes, "detected")
        (ring,) = marks(axes, "reference")
        plane = list(view.plane)
        assert np.concatenate(cross.get_data()) == pytest.approx(point[plane])
        assert np.concatenate(ring.get_data()) == pytest.approx(truth[plane])
        assert value_at(axes, *point[plane]) > 900
        # The other balls of this plane appear on their own side and not on the opposite one.
        for axis in plane:
            assert shown_at(figure, axes, *(point + offsets[axis])[plane]) > 200
            assert shown_at(figure, axes, *(point - offsets[axis])[plane]) < 40
        assert value_at(axes, *(point[plane] + 8)) < 100
    assert "1.30 mm" in texts(figure)
    assert "0.30 R  0.40 P  1.20 I" in texts(figure)


def test_side_letters_agree_with_the_data_directions():
    point = oblique_grid().centre
    figure = draw_overview(
        scan=scan_with_blobs([point]),
        detected=single(point),
        reference=None,
        title="s",
        note=None,
        settings=SETTINGS,
    )
    shown = []
    for axes, view in zip(figure.axes, VIEWS, strict=True):
        letters = {text.get_text(): text for text in axes.texts if text.get_text() in SIDES}
        shown.append(set(letters))
        for name, text in letters.items():
            place = axes.transAxes.transform(text.get_position())
            data = axes.transData.inverted().transform(place)
            offset = data - point[list(view.plane)]
            axis, sign = SIDES[name]
            towards = offset[view.plane.index(axis)]
            assert sign * towards > 10
    assert shown == [set("RLAP"), set("RLSI"), set("APSI")]
    # Radiological convention: R at the left edge, A at the left edge of sagittal slices.
    assert [view.sides[0] for view in VIEWS] == ["R", "R", "A"]
    assert all(axes.get_xlim()[0] < axes.get_xlim()[1] for axes in figure.axes)


def test_a_reference_far_away_becomes_an_arrow():
    point = oblique_grid().centre
    figure = draw_overview(
        scan=scan_with_blobs([point]),
        detected=single(point),
        reference=single(point + np.array([40.0, 0.0, 0.0])),
        title="s",
        note=None,
        settings=SETTINGS,
    )
    axial, coronal, sagittal = figure.axes
    for axes in (axial, coronal):
        (arrow,) = marks(axes, "reference beyond the view")
        x, y = (float(values[0]) for values in arrow.get_data())
        assert (x, y) == pytest.approx((0.95, 0.5), abs=0.01)
    assert marks(sagittal, "reference")
    assert any("triangle" in text for text in texts(figure))


def test_beyond_the_volume_nothing_is_shown_as_tissue():
    face = oblique_grid().to_physical([[0, 35, 25]])[0]
    figure = draw_overview(
        scan=scan_with_blobs([]),
        detected=single(face),
        reference=None,
        title="s",
        note=None,
        settings=SETTINGS,
    )
    for axes in figure.axes:
        values = np.ma.filled(axes.images[0].get_array().astype(float), np.nan)
        assert 0.2 < np.isnan(values).mean() < 0.8


def test_missing_landmarks_show_the_reference_and_say_so():
    point = oblique_grid().centre
    labels = ("apex", "window", "nothing")
    nowhere = [math.nan] * 3
    figure = draw_overview(
        scan=scan_with_blobs([point]),
        detected=Landmarks(labels, np.array([nowhere, point, nowhere])),
        reference=Landmarks(labels, np.array([point + 1, nowhere, nowhere])),
        title="s",
        note=None,
        settings=SETTINGS,
    )
    first, second, third = figure.axes[0], figure.axes[3], figure.axes[6]
    assert marks(first, "reference") and not marks(first, "detected")
    assert marks(second, "detected") and not marks(second, "reference")
    assert not marks(third, "detected") and not marks(third, "reference")
    assert "no position" in [text.get_text() for text in third.texts]
    assert texts(figure).count("missing") == 2
    assert not any(text.endswith(" mm") for text in texts(figure))


def test_a_scan_without_any_detected_landmark_shows_its_middle_and_the_reason():
    grid = oblique_grid()
    figure = draw_overview(
        scan=scan_with_blobs([grid.centre]),
        detected=single([math.nan] * 3),
        reference=single(grid.centre + 2),
        title="s",
        note="failed: no dense bone was found",
        settings=SETTINGS,
    )
    assert "failed: no dense bone was found" in texts(figure)
    assert len(figure.axes) == 3
    for axes, view in zip(figure.axes, VIEWS, strict=True):
        assert value_at(axes, *grid.centre[list(view.plane)]) > 600
        assert marks(axes, "reference") and not marks(axes, "detected")


def test_an_unreadable_scan_still_gets_a_picture_with_the_reason(tmp_path):
    figure = draw_overview(
        scan=None,
        detected=single([1, 2, 3]),
        reference=None,
        title="s7",
        note="s7.nii.gz: is truncated",
        settings=SETTINGS,
    )
    assert figure.axes == []
    assert {"s7", "s7.nii.gz: is truncated"} <= set(texts(figure))
    failed = Record("s", "place", "failed", "no landmark found")
    data = write_picture(tmp_path, "absent.nii.gz", None, record=failed)
    assert data != write_picture(tmp_path, "absent.nii.gz", None)


def test_pictures_of_equal_input_are_equal_bytes(tmp_path):
    point = oblique_grid().centre
    scan = scan_with_blobs([point])
    write_volume(scan, tmp_path / "s.nii.gz")
    write_markups(tmp_path / "s.mrk.json", [PointList("final", single(point), None)])
    data = write_picture(tmp_path, "s.nii.gz", "s.mrk.json")
    assert data == write_picture(tmp_path, "s.nii.gz", "s.mrk.json")
    assert b"Software" not in data and b"tIME" not in data


def test_names_with_dollar_signs_are_drawn_as_they_stand():
    name = r"$\\none$ {x"
    figure = draw_overview(
        scan=scan_with_blobs([]),
        detected=Landmarks((name,), oblique_grid().centre[np.newaxis]),
        reference=None,
        title=name,
        note=name,
        settings=SETTINGS,
    )
    assert texts(figure).count(name) == 3
    errors = error_frame({("s", name, name): 1.0, ("s", name, "final"): 2.0})
    for drawn in (figure, draw_error_distribution(errors, [1.0], "mm", 60)):
        assert png_bytes(drawn).startswith(b"\x89PNG")


# Pictures of pictures -------------------------------------------------------------------------


def flat_scan(width: int = 60, height: int = 40) -> object:
    """A picture with one bright pixel at (45, 10)."""
    values = np.full((1, height, width), 50, np.uint8)
    values[0, 10, 45] = 250
    return image_on(Grid((width, height, 1), np.ones(3), np.zeros(3), np.eye(3)), values)


def test_a_picture_is_drawn_once_with_all_of_its_points():
    labels = ("sella", "nasion", "gnathion")
    nowhere = [math.nan] * 3
    figure = draw_overview(
        scan=flat_scan(),
        detected=Landmarks(labels, np.array([[45.0, 10, 0], [20, 30, 0], nowhere])),
        reference=Landmarks(labels, np.array([[48.0, 14, 0], nowhere, [5, 5, 0]])),
        title="s",
        note=None,
        settings=SETTINGS.model_copy(update={"intensity": (0.0, 250.0)}),
        unit="px",
    )
    (axes,) = figure.axes
    crosses = [tuple(np.concatenate(line.get_data())) for line in marks(axes, "detected")]
    rings = [tuple(np.concatenate(line.get_data())) for line in marks(axes, "reference")]
    assert crosses == [(45, 10), (20, 30)]
    assert rings == [(48, 14), (5, 5)]
    assert shown_at(figure, axes, 45.2, 10.2) > 200
    assert shown_at(figure, axes, 45, 29) < 80
    # y goes down, and the panel has the picture's proportions.
    assert axes.get_ylim() == (39.5, -0.5)
    assert axes.get_xlim() == (-0.5, 59.5)
    box = axes.get_window_extent()
    assert box.width / box.height == pytest.approx(60 / 40)
    assert {text.get_text() for text in axes.texts} == set(labels)
    assert texts(figure)[1:6] == ["sella", "5.00 px", "nasion", "gnathion", "missing"]
    assert not any("Radiological" in text for text in texts(figure))


def test_a_point_beyond_a_picture_is_named_at_its_reference():
    figure = draw_overview(
        scan=flat_scan(),
        detected=single([80, 10, 0]),
        reference=single([48, 14, 0]),
        title="s",
        note=None,
        settings=SETTINGS,
    )
    (axes,) = figure.axes
    assert marks(axes, "detected beyond the view") and not marks(axes, "detected")
    (name,) = axes.texts
    assert name.get_position() == pytest.approx((48.7, 14.7), abs=0.3)


def test_errors_on_a_picture_are_in_the_study_s_unit():
    for factor, said in ((2.0, "10.00 %"), (np.nan, None)):
        figure = draw_overview(
            scan=flat_scan(),
            detected=single([45, 10, 0]),
            reference=single([48, 14, 0]),
            title="s",
            note=None,
            settings=SETTINGS,
            unit="%",
            factor=factor,
        )
        assert [text for text in texts(figure) if "%" in text] == ([said] if said else [])


def test_many_points_of_a_picture_are_all_marked_and_the_worst_are_written():
    labels = tuple(f"point {i}" for i in range(20))
    found = np.stack([np.linspace(5, 50, 20), np.full(20, 20.0), np.zeros(20)], axis=1)
    truth = found + np.array([[0.1 * i, 0, 0] for i in range(20)])
    figure = draw_overview(
        scan=flat_scan(),
        detected=Landmarks(labels, found),
        reference=Landmarks(labels, truth),
        title="s",
        note=None,
        settings=SETTINGS,
        unit="px",
    )
    assert len(marks(figure.axes[0], "detected")) == 20
    assert texts(figure)[1:5] == ["the 4 worst, then 2 of", "the others", "point 19", "1.90 px"]


def test_a_picture_without_any_point_shows_its_references(tmp_path):
    figure = draw_overview(
        scan=flat_scan(),
        detected=Landmarks((), np.empty((0, 3))),
        reference=single([48, 14, 0]),
        title="s",
        note="failed: nothing found",
        settings=SETTINGS,
    )
    assert len(marks(figure.axes[0], "reference")) == 1
    assert "missing" in texts(figure)


def test_a_colour_picture_is_drawn_in_its_colours_or_in_grey(tmp_path):
    colours = np.zeros((40, 60, 3), np.uint8)
    colours[:, :30] = (255, 0, 0)
    colours[:, 30:] = (0, 255, 0)
    Image.fromarray(colours).save(tmp_path / "s.png")
    write_markups(tmp_path / "s.mrk.json", [PointList("final", single([30, 20, 0]), None)])
    for unit in ("px", "%"):
        write_picture(tmp_path, "s.png", "s.mrk.json", unit)
    figure = draw_overview(
        scan=read_volume(tmp_path / "s.png"),
        detected=single([30, 20, 0]),
        reference=None,
        title="s",
        note=None,
        settings=SETTINGS.model_copy(update={"intensity": (0.0, 255.0)}),
    )
    # Green is brighter than red.
    assert shown_at(figure, figure.axes[0], 50, 30) > shown_at(figure, figure.axes[0], 10, 30) + 40
    figure = draw_overview(
        scan=read_volume(tmp_path / "s.png"),
        detected=single([30, 20, 0]),
        reference=None,
        title="s",
        note=None,
        settings=SETTINGS,
        beside=Beside(colours),
    )
    # Of red and green the first channel.
    assert shown_at(figure, figure.axes[0], 10, 30) > 240
    assert shown_at(figure, figure.axes[0], 50, 30) < 10


def test_radius_frames_and_earlier_points_of_a_picture_lie_where_they_are():
    beside = Beside(
        radius=np.array([6.0]),
        earlier=np.array([[44.0, 13.0, 0.0], [np.nan] * 3]),
        frames=((20.0, 4.0, 36.0, 20.0),),
    )
    figure = draw_overview(
        scan=flat_scan(),
        detected=single([45, 10, 0]),
        reference=single([48, 14, 0]),
        title="s",
        note=None,
        settings=SETTINGS,
        beside=beside,
    )
    (axes,) = figure.axes
    (earlier,) = marks(axes, "earlier")
    assert np.concatenate(earlier.get_data()) == pytest.approx([44, 13])
    found = {patch.get_gid(): patch for patch in axes.patches}
    circle, frame = found["radius"], found["frame"]
    assert (*circle.center, circle.radius) == (45, 10, 6)
    assert (*frame.get_xy(), frame.get_width(), frame.get_height()) == (20, 4, 16, 16)
    said = " ".join(texts(figure))
    assert "A circle is to hold" in said and "Dashed: where the method looked" in said


def test_few_landmarks_are_all_shown_in_their_order():
    assert choose_landmarks(np.array([0.1, 3.0, math.nan]), ReportSettings()) == ([0, 1, 2], "")


def test_many_landmarks_worst_first_then_spread():
    errors = np.full(45, 0.2)
    errors[[7, 30, 12]] = (1.0, 3.0, math.inf)
    errors[40] = 2.0
    chosen, how = choose_landmarks(errors, ReportSettings())
    assert chosen[:4] == [12, 30, 40, 7]
    assert len(set(chosen)) == 6
    assert how == "6 of 45 landmarks, the 4 worst, then 2 of the others"


def test_many_landmarks_without_reference_are_spread_evenly():
    chosen, how = choose_landmarks(np.full(45, math.nan), ReportSettings())
    assert len(chosen) == 6
    assert set(np.diff(chosen)) <= {7, 8}
    assert how == "6 of 45 landmarks, 6 spread evenly"


@pytest.mark.parametrize(
    "wrong",
    [
        {"window": 0},
        {"window": math.inf},
        {"intensity": (3.0, 1.0)},
        {"selected_rows": 2},
        {"percentiles": (99, 1)},
    ],
)
def test_settings_that_make_no_sense(wrong):
    with pytest.raises(ValidationError):
        ReportSettings(**wrong)


# Curves ---------------------------------------------------------------------------------------


def error_frame(values: dict[tuple[str, str, str], float]) -> pd.DataFrame:
    rows = [(*key, value) for key, value in values.items()]
    return pd.DataFrame(rows, columns=["scan", "landmark", "stage", "error"])


def test_cumulative_curve_counts_missing_landmarks():
    errors = error_frame(
        {
            ("1", "a", "rigid"): 2.0,
            ("1", "a", "final"): 0.5,
            ("2", "a", "final"): 1.5,
            ("3", "a", "final"): math.nan,
            ("4", "a", "final"): 0.25,
        }
    )
    figure = draw_error_distribution(errors, [0.5, 1.0], "mm", 80)
    curves = {
        line.get_label(): line.get_data()
        for line in figure.axes[0].lines
        if len(line.get_data()[0]) > 2
    }
    across, up = curves["final (n = 3, 1 missing)"]
    # The axis is logarithmic and begins at a tenth of the smallest radius.
    assert list(across[:4]) == [0.05, 0.25, 0.5, 1.5]
    assert list(up) == [0, 25, 50, 75, 75]
    assert "rigid (n = 1)" in curves


def test_an_early_stage_far_off_squeezes_neither_the_curves_nor_the_boxes():
    near = {(str(n), "a", "final"): 0.01 * n for n in range(1, 21)}
    far = {(str(n), "a", "region"): 1.0 * n for n in range(1, 21)}
    figure = draw_error_distribution(error_frame(near | far), [0.25, 0.5, 1.0], "mm", 80)
    cumulative, boxes = figure.axes
    assert cumulative.get_xscale() == "log"
    assert cumulative.get_xlim() == pytest.approx((0.025, 21.0))
    curves = [line.get_data() for line in cumulative.lines if len(line.get_xdata()) > 2]
    for across, _ in curves:
        assert across[0] == 0.025
        assert list(across) == sorted(across)
    assert curves[0][1][list(curves[0][0]).index(0.2)] == pytest.approx(100)
    assert boxes.get_xlim() == pytest.approx((0, 0.525))


def test_every_stage_has_a_colour_of_its_own():
    stages = ["final", "alone", "voted", "bspline", "rigid", "moments", "centred", "region"]
    errors = error_frame({("1", "a", stage): 0.1 for stage in stages})
    lines = draw_error_distribution(errors, [0.5], "mm", 80).axes[0].lines
    colours = {line.get_color() for line in lines if len(line.get_xdata()) > 2}
    assert len(colours) == len(stages)


def test_training_curve_marks_the_best_epoch(tmp_path):
    path = tmp_path / "training.csv"
    path.write_text(
        "epoch,train_loss,validation_loss,seconds,validation_dice\n"
        "1,0.9,0.8,3,0.1\n2,0.5,0.4,3,0.5\n3,0.4,,3,\n4,0.3,0.45,3,0.6\n"
    )
    figure = draw_history(read_history(path), 80)
    losses, dice = figure.axes
    labels = [line.get_label() for line in losses.lines]
    assert labels == ["training", "validation", "best: epoch 2, 0.4"]
    assert list(losses.lines[1].get_xdata()) == [1, 2, 4]
    assert list(dice.lines[0].get_ydata()) == [0.1, 0.5, 0.6]
    assert losses.lines[1].get_color() == dice.lines[0].get_color()


def test_any_table_of_numbers_by_epoch_is_drawn(tmp_path):
    path = tmp_path / "heat_maps.csv"
    path.write_text(
        "epoch,note,learning_rate,points_loss,mask_loss,train_dice,error_px\n"
        "0,first,0.1,5.0,0.1,0.5,9\n1,,0.2,4.0,0.05,0.6,\n"
    )
    figure = draw_history(read_history(path), 80)
    titles = [axes.get_ylabel() for axes in figure.axes]
    assert titles == ["loss", "Dice coefficient", "learning rate", "error px"]
    losses = figure.axes[0]
    assert [line.get_label() for line in losses.lines] == ["points", "mask"]
    assert len({line.get_color() for line in losses.lines}) == 2
    # From 0.05 to 5 on one axis of equal steps, the smaller one would be a line at the bottom.
    assert losses.get_yscale() == "log"
    assert list(figure.axes[3].lines[0].get_xdata()) == [0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("step,train_loss\n1,2\n", "no column epoch, found step, train_loss"),
        ("epoch,train_loss,validation_loss\n", "no rows"),
        ("epoch,note\n1,x\n", "no numbers beside the epochs"),
        ("epoch,train_loss\nx,1\n", "epoch holds texts"),
        ("", "cannot be read as a table"),
    ],
)
def test_training_tables_that_cannot_be_drawn(tmp_path, text, message):
    path = tmp_path / "training.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_history(path)


def test_names_that_look_like_numbers_or_nothing_stay_names(tmp_path):
    path = tmp_path / "errors.csv"
    path.write_text(
        "scan,landmark,stage,error,error_x,error_y,error_z,radius,reason\n"
        "007,NA,final,,,,,,NA\n010,nan,final,1.5,1.5,0,0,,\n"
    )
    errors = read_table(path, COLUMNS, NUMBERS)
    assert errors["scan"].tolist() == ["007", "010"]
    assert errors["landmark"].tolist() == ["NA", "nan"]
    assert errors["reason"].tolist() == ["NA", ""]
    assert errors["error"].isna().tolist() == [True, False]


# Page -----------------------------------------------------------------------------------------


class Page(HTMLParser):
    """Collects tags, links and the rows of tables by their id."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.images: list[dict[str, str]] = []
        self.rows: dict[str, list[list[str]]] = {}
        self.headings: list[str] = []
        self.table = ""
        self.ids: list[str] = []
        self.links: list[str] = []
        self.details: list[dict[str, str | None]] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        values = dict(attrs)
        self.ids += [values["id"]] if "id" in values else []
        self.links += [values["href"]] if tag == "a" else []
        self.details += [values] if tag == "details" else []
        if tag == "img":
            self.images.append(values)
        if tag == "table":
            self.table = values.get("id", "")
            self.rows.setdefault(self.table, [])
        if tag == "tr":
            self.rows[self.table].append([])
        if tag in ("td", "th"):
            self.rows[self.table][-1].append("")
        if tag == "h3":
            self.headings.append("")

    def handle_data(self, data):
        in_cell = self.tags[-1:] in (["td"], ["th"]) or self.tags[-2:] == ["td", "a"]
        if in_cell and self.rows[self.table]:
            self.rows[self.table][-1][-1] += data.strip()
        if self.tags and self.tags[-1] == "h3":
            self.headings[-1] += data.strip()


HOSTILE = "<script>alert(1)<&\"'"


def write_study(
    folder: Path,
    settings: EvaluateSettings,
    references: bool = True,
    radii: list[float] | None = None,
    *,
    run: str = "oneshot",
    far: float = 0.0,
    more: dict[str, object] | None = None,
) -> RunFiles:
    """One run of four scans as a method and the evaluation leave it, `far` mm further off."""
    labels = ("apex", "window")
    home = folder / run
    scans, pictures = [], []
    for number, scan in enumerate(["good", HOSTILE, "lost", "bad 100%"]):
        files = {
            "found": home / "landmarks" / f"{scan}.mrk.json",
            "record": home / "landmarks" / f"{scan}.json",
        }
        found = Landmarks(labels, np.array([[0.1 + number + far, 0, 0], [0.2 + number, 0, 0]]))
        write_markups(files["found"], [PointList("final", found, radii and np.array(radii))])
        record = Record(scan, "place")
        if scan == "lost":
            stopped = Step("rigid", "failed", "no <b>overlap</b>")
            record = Record(scan, "place", "failed", "nothing to place", earlier=(stopped,))
            files["found"].write_bytes(b"")
        write_record(files["record"], record)
        if references:
            truth = Landmarks(labels, np.zeros((2, 3)))
            files["reference"] = folder / "references" / f"{scan}.mrk.json"
            write_markups(files["reference"], [PointList("reference", truth, None)])
        figure = draw_overview(
            scan=None, detected=found, reference=None, title=scan, note=None, settings=SETTINGS
        )
        save_png(figure, home / "pictures" / f"{scan}.png")
        pictures.append(home / "pictures" / f"{scan}.png")
        scans.append(Task(scan, files, {}))
    given = {"kind": Kind(referenced=references)} | (more or {})
    evaluate(scans=scans, folder=home, settings=settings, seed=0, **given)
    made = {
        "run": run,
        "entry": run,
        "method": "oneshot",
        "seed": 4,
        "template": "ear001",
        "steps": {"final": "all of it"},
        "device": ["Some GPU", "cpu"],
        "versions": {"torch": "2.13"},
        "settings": {"locate": {"depth": 7}},
    }
    write_json(home / "made.json", made)
    return RunFiles(home, {}, pictures)


def page_of(folder: Path, *runs: RunFiles, provenance: Path | None = None) -> str:
    write_report(
        path=folder / "report.html",
        study={
            "study": "Study <1>",
            "seed": 4,
            "locate": {"mixture": {"components": 3}, "on": True},
        },
        runs=runs,
        provenance=provenance,
    )
    return (folder / "report.html").read_text(encoding="utf-8")


def test_page_shows_published_means_beside_ours(tmp_path):
    settings = EvaluateSettings(published="stebani2023")
    page = Page(page_of(tmp_path, write_study(tmp_path, settings)))
    header, error, voxels, dice = page.rows["published"][:4]
    assert header == ["Figure", "n", "Ours, mean ± sd", "A (43 cadaveric)", "B (9 clinical)"]
    assert error == ["landmark error, mm", "6", "1.483", "0.326", "0.514"]
    assert voxels[2:] == ["15.014", "3.300", "5.200"]
    assert dice[1:] == ["0", "–", "0.970", "0.940"]
    assert "published-table" not in page.rows


def test_page_shows_error_by_annotated_scans(tmp_path):
    runs = []
    for name, far, train in (("net-1", 1.0, 1), ("net-2", 0.0, 2), ("oneshot", 0.5, None)):
        runs.append(write_study(tmp_path, EvaluateSettings(), run=name, far=far))
        made = read_json(runs[-1].folder / "made.json")
        write_json(runs[-1].folder / "made.json", made | {"train": train})
    text = page_of(tmp_path, *runs)
    rows = Page(text).rows["annotations-table"]
    assert [row[:2] for row in rows[1:]] == [["net-1", "1"], ["net-2", "2"], ["oneshot", "–"]]
    assert "oneshot is worth about 1 annotated scan (" not in text
    assert "oneshot is worth about 1 annotated scan: " in text
    with Image.open(tmp_path / "annotations.png") as picture:
        assert picture.width == 1215


def test_page_shows_tables_and_escapes_names(tmp_path):
    settings = EvaluateSettings(published="wang2020", columns={"apex": "TOP"})
    text = page_of(tmp_path, write_study(tmp_path, settings))
    page = Page(text)
    assert "script" not in page.tags and "b" in page.tags
    assert "<b>overlap" not in text and "&lt;script&gt;alert(1)" in text
    assert len(page.rows["table1"]) == 1 + 4 + 1
    assert page.rows["table1"][2][1] == HOSTILE
    assert page.rows["table1"][1][2:] == ["0.100", "0.200"]
    assert page.rows["table1"][3][2:] == ["–", "–"]
    assert page.rows["table1"][5][0] == "Mean"
    assert len(page.rows["published-table"]) == 1 + 20 + 1
    assert page.rows["published"][2][:4] == ["apex", "TOP", "3", "1.43"]
    assert page.rows["published"][2][7] == "0.74±0.38"
    assert page.rows["published"][3][6:] == ["0", "–", "–", "–"]
    assert "comparison-table" not in page.rows
    assert len(page.rows["statistics"]) == 2 + 1 + 2
    assert page.rows["failure-table"][1:] == [
        ["lost", "rigid", "failed", "no <b>overlap</b>"],
        ["bad 100%", "evaluate", "large error", "mean error 3.15 mm over 2 landmarks, above 2 mm"],
    ]
    assert ["mixture.components", "3"] in page.rows[""] and ["on", "yes"] in page.rows[""]


def test_page_says_how_far_radii_can_be_trusted(tmp_path):
    text = page_of(tmp_path, write_study(tmp_path, EvaluateSettings(), radii=[0.15, 1.5]))
    assert 'id="radii"' in text
    assert "Here 50 % of 6 lie within; radii are 0.82 mm in the mean" in text
    assert "Errors above 2.0 mm in scans that no stage flagged: 2." in text
    assert 'id="radii"' not in page_of(tmp_path, write_study(tmp_path, EvaluateSettings()))


def test_the_share_within_the_radius_is_the_plots(tmp_path):
    errors = pd.DataFrame(
        {
            "stage": ["final"] * 4 + ["rigid"],
            "error": [0.1, 0.2, 0.3, 0.9, 9.0],
            "radius": [0.2, 0.2, 0.6, 0.6, math.nan],
        }
    )
    figure = draw_radii(errors, "mm", 80)
    scatter, shares = figure.axes
    labels = [text.get_text() for text in scatter.get_legend().get_texts()]
    assert labels == ["within the radius: 75 %", "beyond the radius: 25 %"]
    scales, percent = shares.lines[0].get_data()
    assert percent[scales == 1.0] == 75
    assert percent[-1] == 100


CELL = r'class="s(\d)"><a href="#scan\d" title="([^"]+)"'


def shown_scans(page):
    """The headings over the scans' pictures, without what else the page's headings say."""
    scans = ("lost", "bad 100%", HOSTILE, "good")
    return [heading for heading in page.headings if heading.endswith(scans)]


def test_page_holds_its_pictures_worst_first_and_nothing_from_elsewhere(tmp_path):
    run = write_study(tmp_path, EvaluateSettings())
    text = page_of(tmp_path, run)
    page = Page(text)
    lazy = [image for image in page.images if image.get("loading") == "lazy"]
    examples = ["Worst: bad 100%", f"Median: {HOSTILE}", "Best: good"]
    assert shown_scans(page) == [*examples, "lost"]
    assert "oneshot/pictures/bad%20100%25.png" in page.links
    assert all(image["src"].startswith("data:image/webp;base64,") for image in lazy)
    assert int(lazy[3]["width"]) > 100
    others = [image["src"] for image in page.images if image not in lazy]
    assert all(source.startswith("data:image/png;base64,") for source in others)
    assert "http" not in text and "<link" not in text
    assert str(tmp_path) not in text


def test_pictures_share_a_number_of_bytes_and_the_last_ones_are_linked(tmp_path):
    picture = tmp_path / "a.png"
    noise = np.random.default_rng(0).integers(0, 255, (900, 1200, 3)).astype(np.uint8)
    Image.fromarray(noise).save(picture)
    budget = Budget(count=2, left=60_000)
    found = [budget.embed(picture) for _ in range(9)]
    assert budget.each == 30_000
    assert 0 <= budget.left < budget.each
    embedded = [one for one in found if one.source]
    assert found[: len(embedded)] == embedded
    assert 2 <= len(embedded) < 9
    for one in embedded:
        data = base64.b64decode(one.source.partition(",")[2])
        assert len(data) <= budget.each
        with Image.open(io.BytesIO(data)) as shown:
            assert shown.format == "WEBP"
            assert shown.width / shown.height == pytest.approx(4 / 3, abs=0.01)
    assert {(one.width, one.height) for one in found} == {(1200, 900)}
    # A scan with a reason to look at it is shown larger.
    looked_at, other = (
        Budget(count=2, left=60_000).embed(picture, look=look) for look in (True, False)
    )
    assert len(other.source) < len(looked_at.source) < 2 * 30_000 * 4 / 3 + 100


def test_the_map_shades_errors_and_leads_to_the_picture(tmp_path):
    run = write_study(tmp_path, EvaluateSettings(), radii=[0.5, 0.25])
    text = page_of(tmp_path, run)
    page = Page(text)
    rows = {row[0]: row for row in page.rows["heat"]}
    assert list(rows)[1:] == ["lost", "bad 100%", HOSTILE, "good"]
    assert rows["scan"][1:] == ["apex", "window"]
    # Errors are 0.1, 1.1 and 3.1 for the apex, 0.2, 1.2 and 3.2 for the window: the median is 1.15.
    by_text = {said: shade for shade, said in re.findall(CELL, text)}
    assert by_text["bad 100% apex: 3.10 mm off, radius 0.50 mm"] == "5"
    assert by_text["good apex: 0.10 mm off, radius 0.50 mm"] == "0"
    assert by_text["lost window: missing"] == "8"
    assert set(page.ids) >= {link[1:] for link in page.links if link.startswith("#")}


def test_a_landmark_without_a_reference_is_not_missing_in_the_map(tmp_path):
    home = write_study(tmp_path, EvaluateSettings(), radii=[0.5, 0.25]).folder
    run = read_run(home)
    other = (run.errors["scan"] == "good") & (run.errors["landmark"] == "window")
    points = read_table(home / "landmarks.csv", ("scan", "landmark", "radius"), ("radius",))
    heat = heat_of(replace(run, errors=run.errors[~other]), points, ["good", "lost"], {})
    (_, good), (_, lost) = (cells for _, _, cells in heat.rows)
    assert good == (UNASKED, "good window: no reference, radius 0.25 mm")
    assert lost == (MISSING, "lost window: missing")


def test_the_map_of_a_study_without_references_shows_radii(tmp_path):
    run = write_study(tmp_path, EvaluateSettings(), references=False, radii=[0.5, 0.1])
    text = page_of(tmp_path, run)
    assert "Every landmark of every scan: radius, mm" in text
    assert 'title="good apex: radius 0.50 mm"' in text
    assert (
        "map" not in Page(page_of(tmp_path, write_study(tmp_path, EvaluateSettings(), False))).ids
    )


def write_provenance(path: Path, changed: list[str] | None) -> Path:
    row = {"scan": "good", "role": "image", "path": HOSTILE, "sha256": "0f" * 32}
    record = {
        "seeds": {"study": 4, "cohort": 9},
        "devices": {"oneshot": ["Some GPU", "cpu"]},
        "code": {"commit": "c0ffee", "changed": changed, "commands": {"align_scans": "a1b2"}},
        "machine": {
            "python": "3.11.7",
            "implementation": "cpython",
            "platform": "Linux-6",
            "processor": "Some CPU",
        },
        "packages": {"numpy": "2.4.6", "torch": "2.13"},
        "inputs": [row],
    }
    write_json(path, record)
    return path


def test_page_says_what_made_it(tmp_path):
    run = write_study(tmp_path, EvaluateSettings())
    clean = write_provenance(tmp_path / "provenance.json", changed=[])
    text = page_of(tmp_path, run, provenance=clean)
    page = Page(text)
    for row in (
        ["commit", "c0ffee"],
        ["method", "oneshot"],
        ["seeds: cohort", "9"],
        ["device", "Some GPU, cpu"],
        ["versions.torch", "2.13"],
        ["python", "3.11.7"],
        ["numpy", "2.4.6"],
        ["align_scans", "a1b2"],
    ):
        assert row in page.rows[""]
    assert page.rows["inputs"][1:] == [["good", "image", HOSTILE, "0f" * 32]]
    assert 'id="made"' not in page_of(tmp_path, run)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (["Snakefile"], "c0ffee, with 1 file changed since: Snakefile"),
        (["a.py", "b.py"], "c0ffee, with 2 files changed since: a.py, b.py"),
        (None, "c0ffee"),
    ],
)
def test_page_names_the_code_that_differs_from_its_commit(tmp_path, changed, said):
    run = write_study(tmp_path, EvaluateSettings())
    made = write_provenance(tmp_path / "provenance.json", changed)
    assert ["commit", said] in Page(page_of(tmp_path, run, provenance=made)).rows[""]


def test_page_is_the_same_again(tmp_path):
    run = write_study(tmp_path, EvaluateSettings())
    assert page_of(tmp_path, run) == page_of(tmp_path, run)


def test_page_of_a_study_without_references(tmp_path):
    run = write_study(tmp_path, EvaluateSettings(), references=False)
    page = Page(page_of(tmp_path, run))
    assert "table1" not in page.rows
    first = [f"Look first: {scan}" for scan in ("lost", "good", HOSTILE)]
    assert shown_scans(page) == [*first, "bad 100%"]
    assert [row[0] for row in page.rows["failure-table"]] == ["scan", "lost"]
    assert [row[0] for row in page.rows["scan-table"][1:]] == ["lost", "good", HOSTILE, "bad 100%"]
    assert "statistics" not in page.rows


def test_page_refuses_a_picture_that_is_none(tmp_path):
    run = write_study(tmp_path, EvaluateSettings())
    run.pictures[0].write_bytes(b"GIF89a")
    with pytest.raises(InputError, match=r"good.png: is neither a PNG nor a WebP file"):
        page_of(tmp_path, run)


def test_several_runs_stand_side_by_side_and_then_each_for_itself(tmp_path):
    settings = EvaluateSettings(columns={"apex": "TOP"})
    runs = [
        write_study(tmp_path, settings, radii=[0.15, 1.5]),
        write_study(tmp_path, settings, run="<script>far", far=1.0),
    ]
    history = tmp_path / "training.csv"
    history.write_text("epoch,train_loss\n1,0.5\n2,0.25\n")
    runs[1] = replace(runs[1], histories={"first": history, "second": history})
    made = write_provenance(tmp_path / "provenance.json", changed=[])
    text = page_of(tmp_path, *runs, provenance=made)
    page = Page(text)
    assert "script" not in page.tags
    assert page.rows["comparison-table"][0][:6] == ["Run", "Method", "Seeds", "n", "Missing", "TOP"]
    assert [row[0] for row in page.rows["comparison-table"][1:]] == ["oneshot", "<script>far"]
    assert page.rows["comparison-table"][1][5] == "1.433"
    assert page.rows["comparison-table"][2][5] == "2.433"
    assert [row[1] for row in page.rows["steps-table"][1:]] == ["all of it"] * 2
    # Anchors are told apart, and each link on the page has its own.
    assert len(set(page.ids)) == len(page.ids)
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)
    assert {"run1-table1", "run2-table1", "run2-training"} <= set(page.ids)
    assert "run1-training" not in page.ids
    assert page.rows["run1-table1"][1][2:] == ["0.100", "0.200"]
    assert page.rows["run2-table1"][1][2:] == ["1.100", "0.200"]
    assert [closed for closed in page.details if "run" in closed.get("class", "")] == [
        {"class": "run", "id": "run1-section", "open": None},
        {"class": "run", "id": "run2-section"},
    ]
    assert ["depth", "7"] in page.rows[""]
    first, second = text.index('id="comparison"'), text.index('id="run1-section"')
    assert first < text.index('id="steps"') < second < text.index('id="run2-section"')


def test_runs_without_references_say_so(tmp_path):
    runs = [
        write_study(tmp_path, EvaluateSettings(), references=False, run=name)
        for name in ("one", "two")
    ]
    text = page_of(tmp_path, *runs)
    assert "No scan has reference landmarks: no distance was measured." in text
    assert Page(text).rows["comparison-table"] == [
        ["Run", "Method", "Seeds", "Scans", "Ok", "Doubtful", "Failed", "Refused"],
        ["one", "oneshot", "1", "4", "3", "0", "1", "0"],
        ["two", "oneshot", "1", "4", "3", "0", "1", "0"],
    ]
    assert "steps-table" not in Page(text).rows


def test_the_unit_stands_in_headings_and_captions(tmp_path):
    run = write_study(tmp_path, EvaluateSettings(), radii=[0.15, 1.5], more={"unit": "px"})
    text = page_of(tmp_path, run)
    assert "Table 1: distance in pixels between" in text
    assert "radii are 0.82 px in the mean" in text
    assert "mean error 3.15 px over 2 landmarks, above 2 px" in text
    assert " mm" not in text.partition("</style>")[2]


def test_overlap_has_a_tile_and_a_table(tmp_path):
    run = write_study(tmp_path, EvaluateSettings())
    path = run.folder / "evaluation" / "summary.json"
    summary = read_json(path)
    figures = {name: {"mean": 0.75, "sd": 0.125} for name in ("dice", "iou")}
    figures |= {name: {"mean": None, "sd": None} for name in ("asd", "hd95")}
    summary["overlap"] = {"all": {"n": 3, "missing": 1, **figures}}
    write_json(path, summary)
    columns = "scan,label,dice,iou,asd,hd95,all_voxels,reason\n"
    (run.folder / "evaluation" / "overlap.csv").write_text(columns)
    text = page_of(tmp_path, run)
    assert "<b>0.750±0.125</b><span>Dice of the segmentations of 3 scans; 1 missing</span>" in text
    row = ["all", "3", "1", "0.750±0.125", "0.750±0.125", "–±–", "–±–"]
    assert Page(text).rows["overlap-table"][1:] == [row]


def test_tables_and_figures_of_a_method_are_shown_with_their_captions(tmp_path):
    run = write_study(tmp_path, EvaluateSettings())
    table, none, figure = (tmp_path / name for name in ("a.md", "none.md", "b.png"))
    head = "| group | error |\n| --- | --- |\n"
    table.write_text(f"What <it> shows.\n\n{head}| TV | 1.5 ± 0.1 |\n", encoding="utf-8")
    none.write_text(f"Nothing.\n\n{head}", encoding="utf-8")
    shutil.copyfile(run.pictures[0], figure)
    shows = {"Pairs": table, "No rows": none, "Maps": figure}
    text = page_of(tmp_path, replace(run, shows=shows))
    page = Page(text)
    assert page.rows["further-1"] == [["group", "error"], ["TV", "1.5 ± 0.1"]]
    assert "What &lt;it&gt; shows." in text
    assert "No rows" not in text
    assert 'alt="Maps"' in text
    assert "#further" in page.links
    assert 'id="further"' not in page_of(tmp_path, run)


def test_a_table_with_a_short_row_is_refused(tmp_path):
    path = tmp_path / "a.md"
    path.write_text("| a | b |\n| --- | --- |\n| 1 |\n")
    message = re.escape(f"{path}: row 1 of the table has 1 cells, expected 2 as in its header")
    with pytest.raises(InputError, match=message):
        read_markdown(path)


def test_worst_first():
    errors = error_frame(
        {("a", "x", "final"): 0.1, ("b", "x", "final"): 0.9, ("b", "x", "rigid"): 0.0}
    )
    failures = [["c", "rigid", "failed", ""], ["a", "centre", "doubtful", ""]]
    assert worst_first(["free", "a", "b", "c"], errors, failures) == ["c", "b", "a", "free"]


def test_figures_are_deterministic():
    errors = error_frame({("a", "x", "final"): 0.1, ("b", "x", "final"): 0.9})
    one, two = (png_bytes(draw_error_distribution(errors, [1.0], "mm", 60)) for _ in range(2))
    assert one == two
