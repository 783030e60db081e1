"""Studies of pictures: folders with tables, folds, what is refused, and a method that learns."""

import csv
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from stage_runs import path_of, run_stage
from workflow_runs import (
    NOTHING,
    add_method,
    copy_repository,
    errors,
    points,
    results,
    rows,
    run_workflow,
    write_yaml,
)

from landmarkflow.cohorts.picture import Picture
from landmarkflow.core.errors import InputError
from landmarkflow.core.points import Landmarks
from landmarkflow.core.records import read_record
from landmarkflow.data import simulate
from landmarkflow.data.splits import Part, read_splits
from landmarkflow.data.stages import REFERENCES, SIMULATE
from landmarkflow.engine.method import Method
from landmarkflow.engine.stage import Stage
from landmarkflow.formats.landmarks import read_landmarks
from landmarkflow.formats.pictures import read_picture
from landmarkflow.formats.slicer import read_point_lists
from landmarkflow.methods.oneshot.settings import OneShotSettings
from landmarkflow.registry import METHODS
from landmarkflow.study.study import Study
from landmarkflow.workflow.configured import study_of
from landmarkflow.workflow.rules import Workflow

NAMES = tuple(f"eye_{number:02d}" for number in range(6))
# Of the landmarks from the middle of the bright part, in pixels, and what each picture adds.
OFFSETS = {"disc": np.array([0.5, -0.25]), "fovea": np.array([14.0, 3.5])}
OWN = {name: np.array([0.5 * k, -0.25 * k]) for k, name in enumerate(NAMES)}
COLUMNS, ROWS, REDUCED = 64, 48, 4
MARKS = "image,landmark,x,y"
SIZES = "image,width,height,original_width,original_height,camera"
SIZE = (COLUMNS, ROWS, COLUMNS * REDUCED, ROWS * REDUCED)


def draw(path: Path, number: int) -> NDArray[np.float64]:
    """Draws a picture in colours with a bright square; returns the middle of this, x and y."""
    left, top = 6 + 4 * number, 8 + 2 * number
    values = np.full((ROWS, COLUMNS, 3), 40, np.uint8)
    values[top : top + 7, left : left + 7] = 220
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)
    return np.array([left + 3, top + 3], np.float64)


def write_table(path: Path, header: str, lines: Sequence[Sequence[object]]) -> None:
    text = [header, *(",".join(map(str, line)) for line in lines)]
    path.write_text("\n".join(text) + "\n", encoding="utf-8")


def fill(folder: Path, names: Sequence[str] = NAMES) -> dict[str, dict[str, NDArray[np.float64]]]:
    """Makes a folder of annotated pictures, reduced to a quarter; returns where landmarks lie."""
    found = {}
    for name in names:
        middle = draw(folder / f"images/{name}.png", NAMES.index(name))
        found[name] = {label: middle + offset + OWN[name] for label, offset in OFFSETS.items()}
    marks = [(n, label, *xy) for n, of in found.items() for label, xy in of.items()]
    write_table(folder / "landmarks.csv", MARKS, marks)
    sizes = [(name, *SIZE, "AB"[number % 2]) for number, name in enumerate(names)]
    write_table(folder / "images.csv", SIZES, sizes)
    return found


def method_that(**states: Any) -> Method:
    """A method that needs no template."""
    stage = Stage("find", "find_points", "none", "", {"record": "{run}/landmarks/{scan}.json"})
    return Method("learner", OneShotSettings, (stage,), {}, needs_template=False, **states)


def study(
    folder: Path,
    tell: Callable[[str], None] = lambda line: None,
    method: Method | None = None,
    data: dict[str, Any] | None = None,
    **stated: Any,
) -> Study:
    """The study of a folder of pictures, with three folds and a run of a method that learns."""
    where = {"folder": str(folder), "folds": 3} if folder.is_dir() else {}
    raw = {"study": "eyes", "unit": "px", "data": where | (data or {})}
    raw |= {"runs": {"learned": {"method": "learner"}}} | stated
    methods = {**METHODS, "learner": method or method_that()}
    return study_of(raw, methods, Path("results"), Path("none"), tell)


def refused(folder: Path, **stated: Any) -> str:
    with pytest.raises(InputError) as error:
        study(folder, **stated)
    assert "\n" not in str(error.value)
    return str(error.value)


# What lies in a folder


def test_a_folder_of_pictures_makes_a_sheet_in_original_pixels(tmp_path: Path) -> None:
    fill(tmp_path)
    looks = [("eye_01", "ann", 3, 4, 200, 1), ("eye_04.png", "ann", 3, 4, 200, 1)]
    write_table(tmp_path / "fixations.csv", "image,observer,x,y,duration_ms,order", looks)
    told: list[str] = []
    found = study(tmp_path, told.append)
    assert (list(found.scans), found.template, told) == ([*NAMES], None, [])
    assert (found.labels, found.taught, found.training) == (("disc", "fovea"), NAMES, {})
    for number, (name, scan) in enumerate(found.scans.items()):
        assert scan.image == str(tmp_path / f"images/{name}.png")
        assert (scan.landmarks, scan.frame) == (str(tmp_path / "landmarks.csv"), "pixels")
        assert (scan.spacing, scan.group, scan.split) == (4.0, "AB"[number % 2], "")
    gaze = [name for name, scan in found.scans.items() if scan.gaze]
    assert gaze == ["eye_01", "eye_04"]


def test_pictures_in_training_are_learned_from_alone(tmp_path: Path) -> None:
    fill(tmp_path, NAMES[:2])
    fill(tmp_path / "training", NAMES[2:])
    found = study(tmp_path, data={"folds": 0})
    assert (list(found.scans), found.taught) == ([*NAMES[:2]], NAMES[2:])
    assert {scan.split for scan in found.training.values()} == {"train"}
    flow = Workflow(found, {**METHODS, "learner": method_that()}, ())
    assert flow.learned(found.runs["learned"]) == NAMES[2:]


def test_millimetres_come_from_the_table_of_sizes(tmp_path: Path) -> None:
    fill(tmp_path)
    said = f"{tmp_path}/images.csv, row 2: states no mm_per_px of eye_00.png, expected some, since"
    assert refused(tmp_path, unit="mm").startswith(said)
    lines = [(name, *SIZE, 0.4) for name in NAMES]
    write_table(tmp_path / "images.csv", SIZES.replace("camera", "mm_per_px"), lines)
    spacings = {scan.spacing for scan in study(tmp_path, unit="mm").scans.values()}
    assert spacings == {0.4}


def test_what_is_not_used_is_told_and_counted(tmp_path: Path) -> None:
    fill(tmp_path)
    with (tmp_path / "landmarks.csv").open("a", encoding="utf-8") as file:
        file.write("gone,disc,1,2\ngone,fovea,1,2\nlost,disc,1,2\n")
    for name in ("points.csv", "SOURCE.md", "images/notes.txt"):
        (tmp_path / name).touch()
    told: list[str] = []
    study(tmp_path, told.append)
    assert told == [
        f"{tmp_path}/images/notes.txt: is not used, expected a picture, .png, .jpg, .jpeg, .tif, "
        ".tiff",
        f"{tmp_path}/points.csv: is not used, expected one of images, training, landmarks.csv, "
        "images.csv, fixations.csv",
        f"{tmp_path}/landmarks.csv: names images that are not in images/ (2, `gone` first); their "
        "rows are not used",
    ]


def test_one_picture_under_two_names_is_not_learned_from(tmp_path: Path) -> None:
    fill(tmp_path)
    shutil.copy(tmp_path / "images/eye_01.png", tmp_path / "images/eye_03.png")
    looks = [(name, "ann", 3, 4, 200, 1) for name in NAMES]
    write_table(tmp_path / "fixations.csv", "image,observer,x,y,duration_ms,order", looks)
    for column in ("landmarks", "gaze"):
        found = study(tmp_path, method=method_that(learns_from=column))
        assert found.taught == ("eye_00", "eye_02", "eye_04", "eye_05")
        assert "holds the same image as the scan eye_03" in found.refused["eye_01"]


# What is refused


def test_a_picture_of_another_size_than_stated_is_refused(tmp_path: Path) -> None:
    fill(tmp_path)
    Image.fromarray(np.zeros((ROWS, 30), np.uint8)).save(tmp_path / "images/eye_02.png")
    assert refused(tmp_path) == (
        f"{tmp_path}/images.csv, row 4: states 64 x 48 pixels, but {tmp_path}/images/eye_02.png "
        "has 30 x 48, expected the same"
    )


def test_pixels_that_are_no_squares_are_refused(tmp_path: Path) -> None:
    fill(tmp_path)
    lines = [(name, COLUMNS, ROWS, 4 * COLUMNS, 3 * ROWS, "") for name in NAMES]
    write_table(tmp_path / "images.csv", SIZES, lines)
    assert refused(tmp_path) == (
        f"{tmp_path}/images.csv, row 2: a pixel measures 4 original ones across and 3 down, "
        "expected the same within 1%"
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ((SIZES, "image,width"), "images.csv: has the columns image, width, expected each once"),
        (("eye_01,64", "eye_01,wide"), "images.csv, row 3: `width` is 'wide', expected a positive"),
        (("eye_01,64", "eye_00,64"), "images.csv, row 3: the image `eye_00` stands twice"),
    ],
)
def test_a_wrong_table_of_sizes_is_refused(
    tmp_path: Path, change: tuple[str, str], said: str
) -> None:
    fill(tmp_path)
    path = tmp_path / "images.csv"
    path.write_text(path.read_text("utf-8").replace(*change), encoding="utf-8")
    assert said in refused(tmp_path)


def test_a_study_without_annotations_has_nothing_to_learn_from(tmp_path: Path) -> None:
    fill(tmp_path)
    said = "config: `runs.learned`: there is nothing to learn from"
    assert refused(tmp_path, data={"folds": 0}) == (
        f"{said} but the 6 scans that are evaluated, expected others (`training/`, or `split: "
        "train` in the sheet), or `data.folds`"
    )
    gazing = method_that(learns_from="gaze")
    assert refused(tmp_path, method=gazing).startswith(f"{said}, no scan has gaze, expected")
    (tmp_path / "landmarks.csv").unlink()
    assert refused(tmp_path) == f"{said}, no scan has landmarks, expected some that have"
    assert refused(tmp_path, data={"folds": 1}).startswith("config: `data.folds` is 1, expected 2")


@pytest.mark.parametrize("name", ["oneshot", "dualhead"])
def test_methods_that_start_from_a_template_are_refused_without_one(
    tmp_path: Path, name: str
) -> None:
    fill(tmp_path)
    assert refused(tmp_path, runs={"first": {"method": name}}) == (
        f"config: `runs.first`: {name} starts from a template, one annotated scan, but the study "
        "has none, expected one (`template/`, or `template` of a sheet), or a method that learns "
        "from many"
    )


@pytest.mark.parametrize(
    ("setting", "names", "known"),
    [("landmarks", ["macula"], "disc, fovea"), ("raters", ["bob"], "none: the tables name none")],
)
def test_an_unknown_landmark_or_rater_is_refused(
    tmp_path: Path, setting: str, names: list[str], known: str
) -> None:
    fill(tmp_path)
    said = f"config: `data.{setting}` names {names[0]!r}, expected"
    message = refused(tmp_path, data={setting: names})
    assert message.startswith(said) and message.endswith(known)


def test_a_volume_has_no_spacing_in_the_sheet(tmp_path: Path) -> None:
    (tmp_path / "a.nii").touch()
    (tmp_path / "samples.tsv").write_text("scan\timage\tspacing\na\ta.nii\t2\n")
    sheet = {"sheet": {"sheet": str(tmp_path / "samples.tsv")}}
    assert "`spacing` is 2, but" in refused(Path("none"), data=sheet)


def test_a_sheet_of_pictures_needs_no_template(tmp_path: Path) -> None:
    fill(tmp_path)
    lines = ["scan\timage\tlandmarks\tframe\tspacing\tsplit"]
    for name in NAMES:
        split = "train" if name in NAMES[3:] else ""
        lines.append(f"{name}\timages/{name}.png\tlandmarks.csv\tpixels\t4\t{split}")
    (tmp_path / "samples.tsv").write_text("\n".join(lines))
    sheet = {"sheet": {"sheet": str(tmp_path / "samples.tsv")}}
    found = study(Path("none"), data=sheet)
    assert (found.labels, found.taught) == (("disc", "fovea"), NAMES[3:])


# Its landmarks


def references(folder: Path, found: Study, **settings: Any) -> dict[str, Path]:
    """Checks the landmarks of a study's pictures; returns the records."""
    work = folder / "results"
    stated = {"study_labels": list(found.labels), "raters": [], "landmarks": []} | settings
    sheet = {name: scan.row | {"refused": ""} for name, scan in found.scans.items()}
    done = run_stage(REFERENCES, work, list(sheet), settings=stated, sheet=sheet)
    assert done.status == 0, done.stderr
    return {name: path_of(work, REFERENCES, "record", name) for name in sheet}


def placed(record: Path) -> dict[str, NDArray[np.float64]]:
    (found,) = read_point_lists(record.with_suffix(".mrk.json"))
    return dict(zip(found.landmarks.labels, found.landmarks.positions, strict=True))


def test_a_landmark_lies_at_the_mean_of_those_who_marked_it(tmp_path: Path) -> None:
    fill(tmp_path)
    marks = [("eye_00", "disc", "a", 4, 6), ("eye_00", "disc", "b", 6, 7)]
    marks += [("eye_00", "fovea", "b", 20, 9), ("eye_01", "fovea", "a", 30, 8)]
    write_table(tmp_path / "landmarks.csv", "image,landmark,rater,x,y", marks)
    records = references(tmp_path, study(tmp_path))
    first, second = placed(records["eye_00"]), placed(records["eye_01"])
    assert list(first) == list(second) == ["disc", "fovea"]
    np.testing.assert_allclose([*first.values()], [[5, 6.5, 0], [20, 9, 0]])
    np.testing.assert_allclose(second["fovea"], [30, 8, 0])
    assert np.isnan(second["disc"]).all()
    one = study(tmp_path, data={"raters": ["a"]})
    assert one.taught == ("eye_00", "eye_01")
    records = references(tmp_path, one, raters=["a"])
    np.testing.assert_allclose(placed(records["eye_00"])["disc"], [4, 6, 0])


@pytest.mark.parametrize(
    ("marks", "said"),
    [
        (
            [("eye_00", "disc", "a", 4, 6), ("eye_00", "disc", "a", 6, 7)],
            'has marks of the rater "a" that are wrong: the landmark label "disc" stands more than '
            "once",
        ),
        (
            [("eye_00", "disc", "a", 64, 6)],
            '1 of 1 reference landmarks lie outside the picture: "disc" at (64.00, 6.00, 0.00), '
            "expected all inside x -0.5 to 63.5, y -0.5 to 47.5 pixels",
        ),
    ],
)
def test_marks_that_cannot_be_are_refused(
    tmp_path: Path, marks: list[tuple[object, ...]], said: str
) -> None:
    fill(tmp_path)
    write_table(tmp_path / "landmarks.csv", "image,landmark,rater,x,y", marks)
    records = references(tmp_path, study(tmp_path))
    record = read_record(records["eye_00"])
    assert (record.status, record.reason) == ("refused", f"{tmp_path}/landmarks.csv: {said}")


def test_only_landmarks_that_are_asked_for_are_looked_for(tmp_path: Path) -> None:
    fill(tmp_path)
    found = study(tmp_path, data={"landmarks": ["fovea"]})
    assert found.labels == ("fovea",)
    records = references(tmp_path, found, landmarks=["fovea"])
    assert list(placed(records["eye_00"])) == ["fovea"]


# Simulated pictures


def test_a_simulated_picture_is_written_with_its_marks_and_looks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def drawn(settings: OneShotSettings, seed: int, number: int) -> Picture:
        marks = Landmarks(("disc", "fovea"), np.array([[seed, number, 0.0], [np.nan] * 3]))
        looks = (("ann", 1.5, 2.25, 200.0, 1), ("ann", 3.0, 4.0, 150.0, 2))
        return Picture(np.full((ROWS, COLUMNS), 7 * number, np.uint8), marks, looks)

    simulator = simulate.Simulator(OneShotSettings, drawn)
    monkeypatch.setattr(simulate, "SIMULATORS", {"fish": simulator})
    asked = {"kind": "fish", "pictures": True, "gaze": True, "seed": 5, "number": 3}
    asked |= {"settings": OneShotSettings().model_dump(mode="json")}
    done = run_stage(SIMULATE, tmp_path, ["fish003"], settings={"simulate": asked})
    assert done.status == 0, done.stderr
    picture, marks, gaze = (
        path_of(tmp_path, SIMULATE, role, "fish003") for role in ("picture", "marks", "gaze")
    )
    assert (read_picture(picture) == 21).all()
    found = read_landmarks(marks)
    assert (found.labels, found.positions.tolist()) == (("disc",), [[5, 3, 0]])
    assert gaze.read_text("utf-8").splitlines() == [
        "image,observer,x,y,duration_ms,order",
        "fish003,ann,1.500,2.250,200,1",
        "fish003,ann,3.000,4.000,150,2",
    ]
    assert not path_of(tmp_path, SIMULATE, "image", "fish003").exists()


# A whole run


@pytest.fixture(scope="module")
def house(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository with a stand-in that learns among its methods."""
    folder = copy_repository(root, tmp_path_factory.mktemp("house") / "repository")
    return add_method(folder, "learner", Path(__file__).parent / "toy_learner")


def expected_of(learned: Sequence[str]) -> dict[str, NDArray[np.float64]]:
    """Mean offset of each landmark in the pictures that are learned from."""
    own = np.mean([OWN[name] for name in learned], axis=0)
    return {label: offset + own for label, offset in OFFSETS.items()}


@pytest.mark.slow
def test_each_picture_is_predicted_by_what_never_saw_it(house: Path, tmp_path: Path) -> None:
    truth = fill(tmp_path / "eyes")
    stated = {"data": {"folder": "eyes", "folds": 3}, "report": {"dpi": 50}, "unit": "px"}
    length = {"name": "disc diameters", "between": ["disc", "fovea"], "times": 0.5}
    stated |= {"evaluate": {"length": length, "radii": [2, 6], "large_error": 20}}
    runs = {"learner": {"method": "learner"}}
    path = write_yaml(tmp_path / "eyes.yaml", {"study": "eyes", **stated, "runs": runs})
    run = run_workflow(house, tmp_path, "--configfile", path)
    assert run.status == 0, run.text
    assert NOTHING in run_workflow(house, tmp_path, "--configfile", path).text
    study_folder = results(tmp_path, "eyes")
    splits = read_splits(study_folder / "work/splits/splits.tsv")
    assert splits == {name: Part("train", splits[name].fold) for name in NAMES}
    assert sorted(part.fold for part in splits.values()) == [1, 1, 2, 2, 3, 3]
    learner, known = study_folder / "learner", {}
    for name, places in truth.items():
        others = [n for n in NAMES if splits[n].fold != splits[name].fold]
        found = points(learner / f"landmarks/{name}.mrk.json", "final")
        for label, offset in expected_of(others).items():
            here = places[label] - OWN[name] - OFFSETS[label] + offset
            np.testing.assert_allclose(found[label][:2], here, atol=2e-4)
            known[name, label] = REDUCED * float(np.linalg.norm(here - places[label]))
    # Errors and radii are in original pixels, coordinates in those of the pictures.
    assert errors(learner) == pytest.approx(known, abs=1e-3)
    diameter = 0.5 * REDUCED * float(np.linalg.norm(OFFSETS["fovea"] - OFFSETS["disc"]))
    for row in rows(learner / "evaluation/errors.csv"):
        in_unit = float(row["error"]) / diameter
        assert float(row["lengths"]) == pytest.approx(in_unit, abs=1e-4)
    table = rows(learner / "evaluation/groups.csv")
    of_group = {(r["group"], r["landmark"]): r for r in table if r["stage"] == "final"}
    for number, group in enumerate("AB"):
        mean = np.mean([e for (name, _), e in known.items() if name in NAMES[number::2]])
        assert of_group[group, "all landmarks"]["scans"] == "3"
        assert float(of_group[group, "all landmarks"]["mean"]) == pytest.approx(mean, abs=1e-3)
    summary = json.loads((learner / "evaluation/summary.json").read_text("utf-8"))
    overall = summary["length"]["stages"]["final"]["overall"]
    mean = np.mean(list(known.values())) / diameter
    assert (summary["length"]["name"], overall["n"]) == ("disc diameters", 12)
    assert overall["mean"] == pytest.approx(mean, abs=1e-3)
    page = (study_folder / "report.html").read_text("utf-8")
    for heading in ("Errors in disc diameters", "Groups", "Worst, median and best scan"):
        assert f">{heading}</h2>" in page
    table = rows(learner / "landmarks.csv")
    assert {row["radius"] for row in table} == {"8.0000"}
    assert {row["frame"] for row in table} == {"pixels"}
    assert "Positions are in its pixels" in (learner / "README.txt").read_text("utf-8")
    with (study_folder / "samples.tsv").open(encoding="utf-8") as file:
        sheet = list(csv.DictReader(file, delimiter="\t"))
    assert [(row["group"], row["spacing"]) for row in sheet[:2]] == [("A", "4.0"), ("B", "4.0")]


@pytest.mark.slow
def test_other_pictures_are_predicted_by_all_that_were_learned_from(
    house: Path, tmp_path: Path
) -> None:
    fill(tmp_path / "eyes", NAMES[:2])
    fill(tmp_path / "eyes/training", NAMES[2:])
    stated = {"data": {"folder": "eyes", "folds": 2}, "report": {"dpi": 50}, "unit": "px"}
    runs = {"learner": {"method": "learner"}, "three": {"method": "learner", "train": 3}}
    path = write_yaml(tmp_path / "eyes.yaml", {"study": "eyes", **stated, "runs": runs})
    run = run_workflow(house, tmp_path, "--configfile", path)
    assert run.status == 0, run.text
    splits = read_splits(results(tmp_path, "eyes") / "work/splits/splits.tsv")
    assert tuple(splits) == NAMES[2:]
    for name, learned in (("learner", NAMES[2:]), ("three", NAMES[2:5])):
        path = results(tmp_path, "eyes") / name / "landmarks/eye_00.mrk.json"
        for label, offset in expected_of(learned).items():
            middle = np.array([9.0, 11.0])
            np.testing.assert_allclose(points(path, "final")[label][:2], middle + offset, atol=2e-4)
