"""Simulated heads in magnetic resonance, and the study that finds landmarks in them."""

import csv
from pathlib import Path

import numpy as np
import pytest
import yaml
from pydantic import ValidationError
from workflow_runs import run_workflow

from landmarkflow.cohorts.mr_head import draw_anatomy, render, simulate_mr_head
from landmarkflow.cohorts.mr_head_settings import LABELS, MrHeadSettings
from landmarkflow.core.files import read_json
from landmarkflow.images.operations import array_of, grid_of

TINY = MrHeadSettings(size=(23, 26, 24), spacing=(8.0, 8.0, 8.0))
COARSE = MrHeadSettings(size=(48, 56, 52), spacing=(4.0, 4.0, 4.0), noise=(0.0, 0.0), bias=0.0)


def test_the_same_numbers_make_the_same_bytes_and_others_another_head() -> None:
    one, again, other = (simulate_mr_head(COARSE, 1, number) for number in (3, 3, 4))
    assert array_of(one.scan).tobytes() == array_of(again.scan).tobytes()
    assert one.landmarks.labels == LABELS
    np.testing.assert_array_equal(one.landmarks.positions, again.landmarks.positions)
    assert np.abs(one.landmarks.positions - other.landmarks.positions).min() > 0.1
    assert array_of(one.scan).max() != array_of(other.scan).max()


def test_landmarks_lie_where_their_tissue_ends() -> None:
    anatomy = draw_anatomy(np.random.default_rng(5), 0.05)
    places = dict(zip(LABELS, anatomy.points, strict=True))
    ahead, up = np.array([0, -4.0, 0]), np.array([0, 0, 4.0])
    for contrast in ("t1", "t2"):
        fine = COARSE.model_copy(update={"contrast": contrast, "spacing": (0.5, 0.5, 0.5)})
        fluid_is_dark = contrast == "t1"

        def brightness(*points: np.ndarray, settings: MrHeadSettings = fine) -> np.ndarray:
            return render(anatomy, np.array(points), settings, np.random.default_rng(1))[0]

        horns = (places["horn_left"], places["horn_right"])
        within, before = brightness(*(p - ahead / 2 for p in horns)), brightness(*horns + ahead)
        assert (within < before).all() == fluid_is_dark
        third, behind = brightness(places["pineal"] + ahead / 4, places["pineal"] - ahead / 4)
        assert (third < behind) == fluid_is_dark
        inside, roof = brightness(places["fastigium"] - up / 2, places["fastigium"] + up / 2)
        assert (inside < roof) == fluid_is_dark


def test_the_template_is_upright_and_no_head_is_turned_farther_than_stated() -> None:
    def turned(number: int, degrees: float) -> float:
        settings = TINY.model_copy(update={"rotation_degrees": degrees})
        shown = simulate_mr_head(settings, 2, number).landmarks.positions
        straight = simulate_mr_head(settings.model_copy(update={"rotation_degrees": 0}), 2, number)
        one, other = (p - p.mean(axis=0) for p in (shown, straight.landmarks.positions))
        left, _, right = np.linalg.svd(one.T @ other)
        cosine = (np.trace(left @ right) - 1) / 2
        return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))

    assert turned(0, 30.0) == pytest.approx(0, abs=1e-4)
    angles = [turned(number, 30.0) for number in (1, 2, 3)]
    assert max(angles) <= 30.0
    assert max(angles) > 3.0


def test_noise_is_rician_and_the_brain_is_bright_in_its_segmentation() -> None:
    noisy = COARSE.model_copy(update={"noise": (0.05, 0.05), "gain": (1000.0, 1000.0)})
    subject = simulate_mr_head(noisy, 1, 1)
    values, brain = array_of(subject.scan), array_of(subject.segmentation) > 0
    air = values[-2:].astype(float)
    # Of noise alone the magnitude has a mean of 1.25 deviations.
    assert air.mean() == pytest.approx(1.2533 * 50, rel=0.05)
    assert 600 < values[brain].mean() < 900
    assert 0.9e6 < brain.sum() * 64 < 1.6e6
    assert grid_of(subject.scan).size == (48, 56, 52)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"size": (48, 48, 48)}, "expected at least 176 mm to hold a head's brain"),
        ({"noise": (0.3, 0.1)}, "noise is 0.3 to 0.1"),
        ({"gain": (0.0, 100.0)}, "gain is 0.0 to 100.0"),
    ],
)
def test_volumes_and_ranges_that_cannot_be_are_refused(
    settings: dict[str, object], said: str
) -> None:
    with pytest.raises(ValidationError, match=said):
        MrHeadSettings.model_validate(settings)


@pytest.mark.slow
def test_landmarks_are_found_in_heads_that_have_nothing_dense(root: Path, tmp_path: Path) -> None:
    study = yaml.safe_load((root / "studies/mr_head.yaml").read_text("utf-8"))
    cohort = study["data"]["cohort"]
    cohort |= {"scans": 2, "evaluated": 2}
    cohort["mr_head"] = {"size": [48, 56, 52], "spacing": [4, 4, 4]}
    oneshot = study["oneshot"]
    oneshot["locate"]["spacing_mm"] = 4.0
    oneshot["train"] |= {"epochs": 3, "batches_per_epoch": 12}
    oneshot["deform"]["lbfgs"]["levels"] = oneshot["deform"]["lbfgs"]["levels"][:1]
    oneshot["close"] = {"loops": 1}
    study["report"] |= {"dpi": 50}
    path = tmp_path / "heads.yaml"
    path.write_text(yaml.safe_dump(study), encoding="utf-8")
    done = run_workflow(root, tmp_path, "--configfile", path)
    assert done.status == 0, done.text
    results = tmp_path / "results/mr_head"
    survey = read_json(results / "work/survey/survey.json")
    assert (survey["normalise"], survey["locate"]) == ("percentiles", "whole")
    rows = list(csv.DictReader((results / "oneshot/evaluation/errors.csv").open(encoding="utf-8")))
    errors = [float(row["error"]) for row in rows if row["stage"] == "final"]
    assert len(errors) == 2 * len(LABELS)
    # A voxel is 4 mm.
    assert np.median(errors) < 4.0
    assert run_workflow(root, tmp_path, "--dry-run", "--configfile", path).jobs == {}
