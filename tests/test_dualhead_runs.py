"""The method `dualhead` from scans to tables: annotated scans in, networks, landmarks and labels.

Balls of three sizes are learned in seconds, so that what comes out has a known truth. One run
learns from annotations, one from the other's answers.
"""

import csv
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from dualhead_phantoms import LABELS, write_phantom
from packed import assert_found_again, images_of
from workflow_runs import NOTHING, errors, results, rows, run_workflow, write_yaml

TRAINED, EVALUATED = 6, 5
PASS = {"window": 16, "levels": 3, "channels": 6, "sigma_voxels": 1.2, "steps": 150}
STUDY = {
    "study": "balls",
    "seed": 2,
    "data": {"template_side": "right", "folds": 2},
    "dualhead": {
        "gather": {"low": -200, "high": 1400, "coarse_mm": 2, "fine_mm": 1, "fine_margin_mm": 5},
        "train": {
            "coarse": PASS | {"steps": 100, "shift_mm": 6},
            "fine": PASS | {"window": 20, "shift_mm": 2},
            "close": {"window": 16, "steps": 40, "shift_mm": 1},
            "rotation_degrees": 4,
            "bend_mm": 0,
            "blur_mm": 0,
            "other_background": 0,
            "learning_rate": 0.01,
            "steps_per_epoch": 40,
        },
    },
    "runs": {
        "dualhead": {"method": "dualhead"},
        "distilled": {"method": "dualhead", "train_on": "dualhead"},
    },
    "report": {"dpi": 50},
}
# Largest mean error, and least Dice: a voxel is 1 mm.
MEAN_MM, DICE = 0.35, 0.85


@pytest.fixture(scope="module")
def balls(once: Callable[[str, Callable[[Path], None]], Path], root: Path) -> Path:
    """A folder in which the study has run, one of whose scans is of the other side."""

    def fill(folder: Path) -> None:
        given = folder / "given"
        write_phantom(given, "template", 0)
        (given / "template").mkdir()
        for kind, name in (("scans", "scan"), ("segmentations", "segmentation")):
            (given / kind / "template.nii.gz").rename(given / f"template/{name}.nii.gz")
        markups = given / "landmarks/template.mrk.json"
        markups.rename(given / "template/landmarks.mrk.json")
        for number in range(1, TRAINED + 1):
            missing = LABELS[2] if number == 1 else ""
            write_phantom(given / "training", f"t{number}", number, missing=missing)
        for number in range(EVALUATED):
            write_phantom(given, f"e{number}", 100 + number, mirrored=number == 0)
        write_phantom(given, "nothing", 200)
        shutil.rmtree(given / "landmarks" / "nothing.mrk.json", ignore_errors=True)
        for kind in ("landmarks", "segmentations"):
            for path in (given / kind).glob("nothing.*"):
                path.unlink()
        noise = np.random.default_rng(1).normal(0, 40, (28, 30, 34)).astype(np.int16)
        sitk.WriteImage(sitk.GetImageFromArray(noise), given / "scans/nothing.nii.gz")
        sheet = ["scan\tside", "e0\tleft", *(f"e{n}\tright" for n in range(1, EVALUATED))]
        sheet += [f"t{n}\tright" for n in range(1, TRAINED + 1)] + ["nothing\tright"]
        (given / "samples.tsv").write_text("\n".join(sheet) + "\n", encoding="utf-8")
        done = run_workflow(root, folder, *options(folder))
        assert done.status == 0, done.text

    return once("balls", fill)


def options(folder: Path) -> tuple[object, ...]:
    path = write_yaml(folder / "balls.yaml", STUDY)
    return ("--configfile", path, "--config", f"data_folder={folder / 'given'}")


@pytest.mark.slow
def test_landmarks_and_labels_are_found_in_scans_of_both_sides(balls: Path) -> None:
    run = results(balls, "balls") / "dualhead"
    found = errors(run)
    assert len(found) == EVALUATED * len(LABELS)
    assert np.mean(list(found.values())) < MEAN_MM
    assert max(found.values()) < 1
    overlap = {
        (row["scan"], row["label"]): float(row["dice"])
        for row in rows(run / "evaluation/overlap.csv")
        if row["dice"]
    }
    assert all(overlap[f"e{n}", "all"] > DICE for n in range(EVALUATED))
    labels = sitk.ReadImage(run / "segmentations/e0.nii.gz")
    assert set(np.unique(sitk.GetArrayFromImage(labels))) == {0, 1, 2, 3}
    # The coarse pass is a step of its own, worse than both together.
    coarse = errors(run, "coarse")
    assert np.mean(list(found.values())) < np.mean(list(coarse.values()))


@pytest.mark.slow
def test_a_scan_without_a_target_says_so_and_every_landmark_has_a_radius(balls: Path) -> None:
    run = results(balls, "balls") / "dualhead"
    record = json.loads((run / "landmarks/nothing.json").read_text("utf-8"))
    assert record["worst"] in ("failed", "doubtful")
    assert record["reason"]
    markups = json.loads((run / "landmarks/e1.mrk.json").read_text("utf-8"))
    radii = [point["radius_mm"] for point in markups["markups"][0]["controlPoints"]]
    assert all(0.02 < radius < 2 for radius in radii)
    assert record["networks"] if record["worst"] == "doubtful" else True
    made = json.loads((run / "made.json").read_text("utf-8"))
    assert list(made["steps"]) == ["coarse", "fine", "final"]
    with (run / "work/calibrate/held_back.csv").open(encoding="utf-8", newline="") as file:
        held = list(csv.DictReader(file))
    # Every annotated scan is held back from one network; the missing landmark has no error.
    assert {row["scan"] for row in held} == {f"t{n}" for n in range(1, TRAINED + 1)}
    assert [row["landmark"] for row in held if not row["error_mm"]] == [LABELS[2]]


@pytest.mark.slow
def test_a_pack_finds_what_the_study_found(balls: Path, tmp_path: Path) -> None:
    run = results(balls, "balls") / "dualhead"
    images = images_of(run, ["e0", "e1", "nothing"])
    sides = {"e0": "left", "e1": "right", "nothing": "right"}
    assert_found_again(run, images, tmp_path, side=sides)


@pytest.mark.slow
def test_a_run_learns_from_another_runs_answers_or_from_fewer_annotations(
    balls: Path, root: Path
) -> None:
    distilled = results(balls, "balls") / "distilled"
    assert np.mean(list(errors(distilled).values())) < 1.5 * MEAN_MM
    training = json.loads((distilled / "work/train/fold-1.json").read_text("utf-8"))
    learned = [*training["learned_from"], *training["held_back"]]
    assert set(learned) <= {f"e{n}" for n in range(EVALUATED)} | {"nothing"}
    # Each scan is predicted by the networks that never saw it.
    for number in range(EVALUATED):
        record = json.loads((distilled / f"landmarks/e{number}.json").read_text("utf-8"))
        network = json.loads(
            (distilled / f"work/train/{record['networks'][0]}.json").read_text("utf-8")
        )
        assert f"e{number}" not in network["learned_from"]
    # A run that learns from two annotated scans reads no other, and needs no other.
    few = write_yaml(
        balls / "few.yaml", STUDY | {"runs": {"two": {"method": "dualhead", "train": 2}}}
    )
    data = f"data_folder={balls / 'given'}"
    done = run_workflow(root, balls, "--dry-run", "--configfile", few, "--config", data)
    (gather,) = re.findall(r"rule gather_examples:\n    input: (.*)", done.text)
    assert re.findall(r"work/scans/(\w+)\.json", gather) == ["template", "t1"]


@pytest.mark.slow
def test_a_second_run_has_nothing_to_do_and_one_more_scan_trains_nothing(
    balls: Path, root: Path
) -> None:
    assert NOTHING in run_workflow(root, balls, *options(balls)).text
    sheet = balls / "given/samples.tsv"
    before = sheet.read_text("utf-8")
    write_phantom(balls / "given", "f1", 300)
    sheet.write_text(before + "f1\tright\n", encoding="utf-8")
    try:
        done = run_workflow(root, balls, "--dry-run", *options(balls))
    finally:
        sheet.write_text(before, encoding="utf-8")
        for path in (balls / "given").glob("*/f1.*"):
            path.unlink()
    # What learns from another run's answers learns again; what learns from annotations does not.
    (gathered,) = re.findall(r"output: (\S+/gather/examples\.npz)", done.text)
    assert "/distilled/" in gathered
    assert done.jobs["train_dualhead_fold-1"] == 1
    assert "predict_dualhead_001" in done.jobs
