"""The method `zoomin` from pictures to tables, its presets, and what it refuses."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from packed import assert_found_again, images_of
from PIL import Image
from workflow_runs import NOTHING, errors, points, results, rows, run_workflow, write_yaml

import landmarkflow
from landmarkflow.core.errors import InputError
from landmarkflow.learning.crops import Pyramid
from landmarkflow.methods.zoomin.batches import Shown, draw
from landmarkflow.methods.zoomin.courses import zoom_course
from landmarkflow.methods.zoomin.gather import read_of
from landmarkflow.methods.zoomin.networks import new_coarse, new_zoom
from landmarkflow.methods.zoomin.settings import ZoomInSettings

ROOT = Path(__file__).parents[1]
PRESETS = sorted((ROOT / "studies/presets/zoomin").glob("*.yaml"))
BRANCH = {"widths": [8, 16, 24], "batch": 2, "learning_rate": 0.01}
STUDY = {
    "study": "eyes",
    "unit": "px",
    "seed": 2,
    "data": {
        "cohort": {
            "kind": "fundus",
            "scans": 8,
            "evaluated": 8,
            "fundus": {"width": 128, "lesions": 0, "shift": 0.03, "rotation_degrees": 3},
        },
        "folds": 2,
    },
    "zoomin": {
        "gather": {"field": "round", "size": 96},
        "train": {
            "coarse": BRANCH | {"size": 48, "stem": 2, "steps": 150},
            "regions": BRANCH
            | {
                "size": 32,
                "stem": 1,
                "widths": [8, 16],
                "steps": 160,
                "fields": [0.3, 0.6],
                "at_once": 2,
            },
            "parts": {"attention_level": 1, "attractors": 8},
            "augment": {"flip": True, "spots": 0, "cut": 0, "dropped": 0, "grey": 0},
            "steps_per_epoch": 50,
        },
    },
    "runs": {
        "zoomin": {"method": "zoomin"},
        "one-look": {"method": "zoomin", "settings": {"zoom": {"looks": 1}}},
    },
    "report": {"dpi": 50},
}
# Of 128 pixels; a network of so few steps only shows that places go the right way.
MEAN_PX = 6.0


@pytest.fixture(scope="module")
def eyes(once: Callable[[str, Callable[[Path], None]], Path], root: Path) -> Path:
    """A folder in which the study has run."""

    def fill(folder: Path) -> None:
        folder.mkdir(parents=True)
        ran = run_workflow(root, folder, "--configfile", write_yaml(folder / "eyes.yaml", STUDY))
        assert ran.status == 0, ran.text

    return once("zoomin_eyes", fill)


@pytest.mark.slow
def test_each_picture_is_found_by_the_network_that_never_saw_it(eyes: Path) -> None:
    run = results(eyes, "eyes") / "zoomin"
    found = errors(run)
    assert len(found) == 16 and np.mean(list(found.values())) < MEAN_PX
    # The closer look is better than the coarse one.
    coarse = errors(run, "coarse")
    assert np.mean(list(found.values())) < np.mean(list(coarse.values())) + 1
    splits = rows_of(results(eyes, "eyes") / "work/splits/splits.tsv")
    for scan, fold in splits.items():
        record = json.loads((run / f"landmarks/{scan}.json").read_text("utf-8"))
        assert record["networks"] == [f"fold-{fold}"]
        assert len(record["frames"]) == 4
        training = json.loads((run / f"work/train/fold-{fold}.json").read_text("utf-8"))
        assert scan in training["held_back"] and scan not in training["learned_from"]
        placed = points(run / f"landmarks/{scan}.mrk.json")
        row = {r["landmark"]: r for r in rows(run / "landmarks.csv") if r["scan"] == scan}
        for label, place in placed.items():
            assert float(row[label]["x"]) == pytest.approx(place[0], abs=1e-3)
            assert float(row[label]["radius"]) > 0


@pytest.mark.slow
def test_a_run_that_searches_otherwise_trains_nothing(eyes: Path) -> None:
    run = results(eyes, "eyes") / "one-look"
    made = {path.name for path in (run / "work").iterdir()}
    assert not made & {"gather", "coarse", "pool", "train"} and "calibrate" in made
    other = errors(results(eyes, "eyes") / "zoomin")
    found = errors(run)
    assert found != other and np.mean(list(found.values())) < MEAN_PX + 2


@pytest.mark.slow
def test_runs_of_the_study_of_parts_share_what_is_alike(root: Path, tmp_path: Path) -> None:
    study = root / "studies/fundus_ablation.yaml"
    done = run_workflow(root, tmp_path, "--dry-run", "--configfile", study)
    assert done.status == 0, done.text
    # Three seeds; of twelve runs three differ in the search alone.
    assert done.jobs["gather_pictures"] == 1
    assert done.jobs["train_coarse_all"] == done.jobs["pool_misses"] == 3
    assert done.jobs["train_zoomin_all"] == 27
    assert done.jobs["calibrate_zoomin"] == done.jobs["zoom_landmarks_001"] == 36


def rows_of(path: Path) -> dict[str, str]:
    lines = [line.split("\t") for line in path.read_text("utf-8").splitlines()]
    return {line[0]: line[2] for line in lines[1:]}


@pytest.mark.slow
def test_a_pack_finds_what_the_study_found(eyes: Path, tmp_path: Path) -> None:
    run = results(eyes, "eyes") / "zoomin"
    pack = assert_found_again(run, images_of(run, ["fundus001", "fundus002"]), tmp_path)
    # A picture that no network saw is searched by all of them.
    given = images_of(run, ["fundus001"])["fundus001"]
    Image.open(given).save(tmp_path / "other.png", compress_level=1)
    shutil.copy(given, tmp_path / "renamed.png")
    with landmarkflow.load(pack) as model:
        found = model.detect(tmp_path / "other.png")
        assert found.record.details["networks"] == ["fold-1", "fold-2"]
        # One that they learned from is known by its bytes.
        found = model.detect(tmp_path / "renamed.png")
    assert found.scan == "fundus001"
    assert len(found.record.details["networks"]) == 1


@pytest.mark.slow
def test_a_second_run_does_nothing(eyes: Path, root: Path) -> None:
    ran = run_workflow(root, eyes, "--configfile", eyes / "eyes.yaml", "--dry-run")
    assert NOTHING in ran.text


def test_a_folder_of_sections_is_learned_eye_by_eye(root: Path, tmp_path: Path) -> None:
    (tmp_path / "given/images").mkdir(parents=True)
    sizes, marks = ["image,width,height,group"], ["image,landmark,x,y"]
    for number, name in enumerate(("a1", "a2", "b1", "b2")):
        Image.new("L", (40, 20), 50 + number).save(tmp_path / f"given/images/{name}.png")
        sizes.append(f"{name},40,20,{name[0]}")
        marks += [f"{name},spur_left,5,{number}", f"{name},spur_right,35,{number}"]
    (tmp_path / "given/images.csv").write_text("\n".join(sizes) + "\n")
    (tmp_path / "given/landmarks.csv").write_text("\n".join(marks) + "\n")
    study = ("--configfile", root / "studies/as_oct.yaml", "--dry-run")
    ran = run_workflow(root, tmp_path, *study, "--config", f"data_folder={tmp_path / 'given'}")
    assert ran.jobs["train_zoomin_fold-2"] == 1
    assert '"folds_by": "group"' in ran.text and '"group": "b"' in ran.text


def test_a_volume_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no picture, but the method zoomin finds landmarks"):
        read_of(str(tmp_path / "scan.nii.gz"), 2**30)


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_a_preset_makes_networks_that_learn(path: Path) -> None:
    torch.set_num_threads(1)
    stated = yaml.safe_load(path.read_text("utf-8"))
    # As the preset states it, but for the pictures' size: the networks take any.
    for branch, size in (("coarse", 32), ("regions", 32)):
        stated["train"][branch]["size"] = size
        stated["train"][branch]["batch"] = 1
    settings = ZoomInSettings.model_validate(stated).train
    torch.manual_seed(1)
    pair = torch.nn.ModuleDict(
        {"coarse": new_coarse(settings, 3, 2), "zoom": new_zoom(settings, 3, 2)}
    )
    random = np.random.default_rng(1)
    picture = torch.from_numpy(random.integers(0, 255, (5, 64, 64)).astype(np.uint8))
    shown = Shown(Pyramid.of(picture), np.array([[20.0, 30.0], [40.0, 36.0]]))
    coarse = pair["coarse"]
    course = zoom_course(settings, coarse, [np.zeros((0, 2))] * 2, (0,), torch.device("cpu"))
    optimiser = torch.optim.AdamW(pair.parameters(), lr=1e-3)
    losses = []
    for _ in range(4):
        loss = course.loss(pair, [shown], np.random.default_rng(0))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert draw([shown], random, settings)[1] is None
