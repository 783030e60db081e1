"""The method `salient` from pictures and fixations to tables, stage by stage in one process.

Pictures hold a dark disc and a bright bar, which are looked at; their truth is known.
"""

import csv
import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from packed import assert_pack_finds
from PIL import Image
from stage_runs import RUN, assert_refused, path_of, run_stage
from workflow_runs import run_workflow, write_yaml

from landmarkflow.core.points import Landmarks, PointList
from landmarkflow.core.records import Record, write_record
from landmarkflow.data.stages import REFERENCES, SCANS, SPLITS
from landmarkflow.formats.slicer import read_point_lists, write_markups
from landmarkflow.learning.folds import networks
from landmarkflow.methods.salient import train as training
from landmarkflow.methods.salient.augment import lesson_of, moved
from landmarkflow.methods.salient.examples import Example, load_examples, save_examples
from landmarkflow.methods.salient.frames import Frame
from landmarkflow.methods.salient.losses import saliency_loss
from landmarkflow.methods.salient.network import SaliencyNetwork, Together
from landmarkflow.methods.salient.see import on_cells_of
from landmarkflow.methods.salient.settings import GazeSettings, SalientSettings, TrainSettings
from landmarkflow.methods.salient.stages import (
    ALIGN,
    CLUSTER,
    DISCOVER,
    DRAW,
    GAZE,
    JUDGE,
    PREDICT,
    TRAIN,
)
from landmarkflow.packs.pack import pack
from landmarkflow.registry import METHODS, STAGES
from landmarkflow.workflow.configured import study_of
from landmarkflow.workflow.rules import Workflow

WIDTH, HEIGHT, FOLDS = 96, 64, 2
LEARNED = [f"p{number:02d}" for number in range(20)]
EVALUATED = LEARNED[:6]
LABELS = ("disc", "bar")
SETTINGS = SalientSettings.model_validate(
    {
        "gaze": {"width": 96, "height": 64, "stride": 4, "sigma": 4.0},
        "train": {
            "channels": 6,
            "epochs": 16,
            "members": 1,
            "priors": 2,
            "mixed": 0.0,
            "cc": 0.1,
            "pictures": 5,
            "learning_rate": 0.01,
            "average": 0.8,
            "scale": 0.1,
            "shift": 0.05,
            "dropout": 0.0,
            "precision": "float32",
        },
        "cluster": {"most": 3, "restarts": 2, "seeds": 2, "views": 2, "farthest": 6},
        # Twelve pictures are too few to tell one of another kind.
        "discover": {"familiar": 1.0},
        "predict": {"blur_px": 4.0, "halves": 1, "scales": [1.5], "soften_px": 2.0},
        "align": {
            "landmarks": {"x": LABELS},
            "measured": {"x": LABELS},
            "baseline_pairs": 1,
            "iterations": 8,
            "keypoints": 20,
        },
    }
).model_dump(mode="json") | {"folds": FOLDS, "seed": 1}
COLUMNS = ("image", "series", "gaze", "landmarks", "frame", "scale", "group")


def write_picture(folder: Path, scan: str, number: int) -> dict[str, str]:
    """Draw a picture, write its fixations and reference; return its row of the sheet."""
    random = np.random.default_rng([9, number])
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    disc = random.uniform([16, 14], [40, 50])
    bar = disc + random.uniform([26, -8], [34, 8])
    if number % 2:
        disc[0], bar[0] = WIDTH - 1 - disc[0], WIDTH - 1 - bar[0]
    values = 110 + random.normal(0, 6, (HEIGHT, WIDTH))
    values[np.hypot(x - disc[0], y - disc[1]) < 6] -= 100
    values[(np.abs(x - bar[0]) < 2) & (np.abs(y - bar[1]) < 8)] += 130
    (folder / "images").mkdir(parents=True, exist_ok=True)
    image = folder / f"images/{scan}.png"
    Image.fromarray(np.clip(values, 0, 255).astype(np.uint8)).save(image)
    rows = ["observer,x,y,duration_ms,order"]
    for observer in range(4):
        for order, place in enumerate((disc, bar, disc)):
            px, py = place + random.normal(0, 1, 2)
            rows.append(f"{observer},{px:.2f},{py:.2f},200,{order + 1}")
    gaze = folder / f"{scan}.csv"
    gaze.write_text("\n".join(rows) + "\n", encoding="utf-8")
    places = np.column_stack([np.array([disc, bar]), np.zeros(2)])
    reference = path_of(folder, REFERENCES, "reference", scan)
    reference.parent.mkdir(parents=True, exist_ok=True)
    write_markups(reference, [PointList("reference", Landmarks(LABELS, places), None)])
    record = path_of(folder, REFERENCES, "record", scan)
    write_record(record, Record(scan, "references"))
    row = dict.fromkeys(COLUMNS, "")
    return row | {"image": str(image), "gaze": str(gaze), "scale": "50", "group": "x"}


@pytest.fixture(scope="module")
def folder(once: Callable[[str, Callable[[Path], None]], Path]) -> Path:
    """Results of every stage."""

    def fill(results: Path) -> None:
        torch.set_num_threads(1)
        (results / "work/logs").mkdir(parents=True)
        sheet = {s: write_picture(results, s, n) for n, s in enumerate(LEARNED)}
        lines = ["scan\tsplit\tfold"]
        lines += [f"{s}\ttrain\t{n % FOLDS + 1}" for n, s in enumerate(LEARNED)]
        splits = path_of(results, SPLITS, "splits")
        splits.parent.mkdir(parents=True)
        splits.write_text("\n".join(lines) + "\n", encoding="utf-8")
        (results / "sheet.json").write_text(json.dumps(sheet), encoding="utf-8")
        for stage, scans in (
            (SCANS, LEARNED),
            (GAZE, LEARNED),
            (TRAIN, networks(FOLDS)),
            (CLUSTER, networks(FOLDS)),
            *((stage, EVALUATED) for stage in (PREDICT, DISCOVER, JUDGE, ALIGN, DRAW)),
        ):
            outcome = run(stage, results, scans)
            assert outcome.status == 0, outcome.log

    return once("salient", fill)


def run(stage: Any, results: Path, scans: Any, **changed: Any) -> Any:
    sheet = json.loads((results / "sheet.json").read_text("utf-8"))
    rows = {s: {c: sheet[s][c] for c in stage.columns} for s in scans if s in sheet}
    values = {name: SETTINGS.get(name) for name in stage.settings if name in SETTINGS}
    given = {"settings": values | changed | {"largest_gib": 8.0}}
    if not stage.settings:
        given = {}
    return run_stage(stage, results, scans, sheet=rows if stage.columns else None, **given)


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_landmarks_lie_at_the_structures_and_have_their_names(folder: Path) -> None:
    for scan in EVALUATED:
        (found,) = read_point_lists(path_of(folder, DISCOVER, "landmarks", scan), scan)
        (cells,) = read_point_lists(path_of(folder, DISCOVER, "steps", scan), scan)
        (true,) = read_point_lists(path_of(folder, REFERENCES, "reference", scan))
        assert (found.name, cells.name) == ("final", "cell")
        assert found.landmarks.labels == LABELS
        away = np.linalg.norm(found.landmarks.positions - true.landmarks.positions, axis=1)
        assert away.max() < 4
        assert np.abs(found.landmarks.positions - cells.landmarks.positions).max() < 4.1


def test_a_map_is_a_probability_of_its_own_cells_and_better_than_the_centre(folder: Path) -> None:
    saliency = np.load(path_of(folder, PREDICT, "saliency", EVALUATED[0]))
    assert (saliency.dtype, saliency.shape) == (np.float32, (16, 24))
    assert saliency.sum() == pytest.approx(1, abs=1e-5)
    rows = table(path_of(folder, JUDGE, "metrics"))
    assert {row["map"] for row in rows} == {"network", "centre bias", "other observers"}
    means = {
        name: np.mean([float(row["cc"]) for row in rows if row["map"] == name])
        for name in ("network", "centre bias", "other observers")
    }
    assert means["other observers"] > means["network"] > 0.6
    assert means["network"] > means["centre bias"] + 0.3
    assert "| network | 6 |" in path_of(folder, JUDGE, "metrics_markdown").read_text("utf-8")


def test_each_picture_is_predicted_by_the_network_that_never_saw_it(folder: Path) -> None:
    for number, scan in enumerate(EVALUATED):
        record = json.loads(path_of(folder, PREDICT, "record", scan).read_text("utf-8"))
        assert record["networks"] == [f"fold-{number % FOLDS + 1}"]
        trained = path_of(folder, TRAIN, "training", record["networks"][0])
        facts = json.loads(trained.read_text("utf-8"))
        assert scan in facts["held_back"]
        assert scan not in facts["learned_from"]


def test_tables_of_alignment_coverage_and_clusters_are_written(folder: Path) -> None:
    rows = table(path_of(folder, ALIGN, "alignment"))
    mean = {(r["alignment"], r["over"], r["landmark"]): float(r["mean"]) for r in rows if r["mean"]}
    assert mean["salient", "all", "disc"] < 8 < mean["none", "all", "disc"]
    assert {r["alignment"] for r in rows} >= {"none", "left_right", "intensity", "keypoints"}
    (covered,) = table(path_of(folder, ALIGN, "coverage"))
    assert float(covered["recall"]) == 100
    choices = table(path_of(folder, CLUSTER, "choices"))
    assert [r["chosen"] for r in choices].count("yes") == 1
    for role in ("discovered", "aligned", "clusters_chosen"):
        with Image.open(path_of(folder, DRAW, role)) as picture:
            assert min(picture.size) > 100
            assert len(np.unique(np.asarray(picture.convert("L")))) > 20


def test_a_stage_run_again_finds_what_it_knows(folder: Path) -> None:
    before = path_of(folder, PREDICT, "saliency", EVALUATED[1]).read_bytes()
    outcome = run(PREDICT, folder, EVALUATED)
    assert outcome.status == 0
    assert outcome.log.count("known") >= len(EVALUATED)
    assert path_of(folder, PREDICT, "saliency", EVALUATED[1]).read_bytes() == before


def test_a_pack_finds_what_the_run_found(folder: Path, tmp_path: Path) -> None:
    sheet = json.loads((folder / "sheet.json").read_text("utf-8"))
    columns = ("image", "gaze", "scale", "group")
    lines = ["\t".join(("scan", *columns, "split"))]
    for scan, row in sheet.items():
        split = "" if scan in EVALUATED else "train"
        lines.append("\t".join((scan, *(row[column] for column in columns), split)))
    samples = tmp_path / "samples.tsv"
    samples.write_text("\n".join(lines) + "\n", encoding="utf-8")
    stated = {
        "study": folder.name,
        "unit": "px",
        "data": {"sheet": {"sheet": str(samples)}, "folds": FOLDS},
        "runs": {RUN: {"method": "salient"}},
        "salient": {n: v for n, v in SETTINGS.items() if n not in ("folds", "seed")},
    }
    study = study_of(stated, METHODS, folder.parent, tmp_path)
    pack(Workflow(study, METHODS, STAGES, folder.parent), RUN, tmp_path / "looks.lmk")
    images = {scan: Path(sheet[scan]["image"]) for scan in EVALUATED[:2]}
    group = dict.fromkeys(EVALUATED, "x")
    assert_pack_finds(tmp_path / "looks.lmk", folder / RUN, images, group=group)


def test_bad_fixations_stop_the_run_in_a_sentence(folder: Path, tmp_path: Path) -> None:
    sheet = json.loads((folder / "sheet.json").read_text("utf-8"))
    bad = tmp_path / "bad.csv"
    bad.write_text("observer,x,y\n1,500,3\n", encoding="utf-8")
    rows = {s: {c: sheet[s][c] for c in GAZE.columns} for s in LEARNED}
    rows[LEARNED[0]]["gaze"] = str(bad)
    settings = {n: SETTINGS[n] for n in ("gaze", "folds")} | {"largest_gib": 8.0}
    copy = tmp_path / "results"
    for stage, role in ((REFERENCES, "reference"), (SPLITS, "splits")):
        for scan in LEARNED if stage is REFERENCES else [""]:
            here, there = path_of(folder, stage, role, scan), path_of(copy, stage, role, scan)
            there.parent.mkdir(parents=True, exist_ok=True)
            there.write_bytes(here.read_bytes())
    (copy / "work/logs").mkdir(parents=True)
    outcome = run_stage(GAZE, copy, LEARNED, sheet=rows, settings=settings)
    assert_refused(outcome, "bad.csv, line 2: the fixation at (500, 3)", "lie beside p00.png")


# Training


def examples_in(folder: Path) -> tuple[Example, ...]:
    return load_examples(path_of(folder, GAZE, "examples"))


def test_examples_are_read_as_they_were_written(folder: Path, tmp_path: Path) -> None:
    examples = examples_in(folder)
    assert [one.scan for one in examples] == LEARNED
    assert examples[1].structures == LABELS
    save_examples(tmp_path / "again.npz", examples)
    again = load_examples(tmp_path / "again.npz")
    for one, other in zip(examples, again, strict=True):
        for field in dataclasses.fields(Example):
            np.testing.assert_array_equal(getattr(one, field.name), getattr(other, field.name))


def trained(examples: tuple[Example, ...], checkpoint: Path) -> Mapping[str, torch.Tensor]:
    torch.set_num_threads(1)
    settings = TrainSettings.model_validate(SETTINGS["train"] | {"epochs": 3, "dropout": 0.2})
    network, history = training.train(
        examples[4:],
        examples[:4],
        "fold-1",
        settings=settings,
        stride=4,
        seed=1,
        fold=1,
        checkpoint=checkpoint,
        device=torch.device("cpu"),
    )
    assert [epoch.epoch for epoch in history] == [1, 2, 3]
    return network.state_dict()


def test_a_killed_training_ends_with_the_weights_of_one_that_nothing_disturbed(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    examples = examples_in(folder)
    whole = trained(examples, tmp_path / "a.npz")
    saved = training.save_checkpoint

    def save_and_die(*given: Any) -> None:
        saved(*given)
        if len(given[3]["history"]) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(training, "save_checkpoint", save_and_die)
    with pytest.raises(KeyboardInterrupt):
        trained(examples, tmp_path / "b.npz")
    monkeypatch.setattr(training, "save_checkpoint", saved)
    resumed = trained(examples, tmp_path / "b.npz")
    for name, value in whole.items():
        assert torch.equal(value, resumed[name]), name


def test_a_changed_picture_and_its_fixations_move_together(folder: Path) -> None:
    one = examples_in(folder)[0]
    settings = TrainSettings(rotation_degrees=20, scale=0.3, shift=0.1, noise=0.0)
    lesson = lesson_of([one], settings, np.random.default_rng(4))
    at = moved(one.frame.to_cells(one.points), lesson.maps[0], (16, 24))
    shade = lesson.pictures[0].mean(dim=0).numpy()
    strange = np.abs(shade - np.median(shade))
    pixels = np.rint((at + 0.5) * 4 - 0.5).astype(int)
    inside = ((pixels >= 0) & (pixels < [WIDTH, HEIGHT])).all(axis=1)
    assert inside.any()
    looked = strange[pixels[inside, 1], pixels[inside, 0]]
    assert looked.mean() > 4 * strange.mean()
    assert float(lesson.target.sum()) == pytest.approx(1, abs=1e-5)
    top = np.unravel_index(int(lesson.target[0].argmax()), lesson.target.shape[1:])
    assert np.linalg.norm(at - top[::-1], axis=1).min() < 1.5


def test_the_loss_is_least_for_the_density_itself() -> None:
    target = torch.rand(2, 6, 8, generator=torch.Generator().manual_seed(1))
    target = target / target.sum(dim=(1, 2), keepdim=True)
    counts = (target > target.mean()).float()
    weights = {"kld": 1.0, "cc": 0.0, "nss": 0.0}
    best = saliency_loss(target.log(), target, counts, **weights)
    assert float(best) == pytest.approx(0, abs=1e-5)
    flat = torch.zeros(2, 6, 8)
    assert float(saliency_loss(flat, target, counts, **weights)) > 0.05
    all_parts = {"kld": 1.0, "cc": 0.1, "nss": 0.1}
    assert float(saliency_loss(target.log(), target, counts, **all_parts)) < -0.1
    outside = target.log()
    outside[:, 0] = -1e4
    cut = target.clone()
    cut[:, 0] = 0
    cut = cut / cut.sum(dim=(1, 2), keepdim=True)
    assert float(saliency_loss(outside, cut, counts * (cut > 0), **all_parts)) < -0.1


@pytest.mark.parametrize("stride", [4, 8])
def test_a_network_gives_no_probability_beside_its_picture(stride: int) -> None:
    network = SaliencyNetwork(TrainSettings(channels=4, smoothing=False, priors=0), stride).eval()
    where = torch.full((1, 2, 64 // stride, 96 // stride), 0.5)
    where[:, 0, :, -1] = 1.2
    with torch.inference_mode():
        logits, levels = network(torch.rand(1, 3, 64, 96), where)
    assert logits.shape == (1, 64 // stride, 96 // stride)
    assert float(torch.softmax(logits.flatten(), 0).view(logits.shape)[..., -1].sum()) == 0
    assert levels[-1].shape[-2:] == logits.shape[-2:]


def test_networks_together_give_the_mean_of_their_maps_and_the_features_of_the_first() -> None:
    torch.manual_seed(1)
    settings = TrainSettings(channels=4, priors=0, precision="float32")
    networks_ = [SaliencyNetwork(settings, 8).eval() for _ in range(2)]
    where = torch.full((1, 2, 8, 12), 0.5)
    where[:, 0, :, -1] = 1.2
    picture = torch.rand(1, 3, 64, 96)
    with torch.inference_mode():
        maps = [torch.softmax(net(picture, where)[0].flatten(), 0) for net in networks_]
        logits, levels = Together(networks_)(picture, where)
        own = networks_[0](picture, where)[1]
    assert not torch.allclose(maps[0], maps[1])
    torch.testing.assert_close(torch.softmax(logits.flatten(), 0), (maps[0] + maps[1]) / 2)
    assert float(torch.softmax(logits.flatten(), 0).view(8, 12)[:, -1].sum()) == 0
    assert all(torch.equal(a, b) for a, b in zip(levels, own, strict=True))


def test_a_fold_of_two_networks_has_two_that_differ(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "work/logs").mkdir(parents=True)
    examples = path_of(tmp_path, GAZE, "examples")
    examples.parent.mkdir(parents=True)
    examples.write_bytes(path_of(folder, GAZE, "examples").read_bytes())
    settings = SETTINGS["train"] | {"members": 2, "epochs": 1}
    values = {name: SETTINGS.get(name) for name in TRAIN.settings if name in SETTINGS}
    outcome = run_stage(TRAIN, tmp_path, ["fold-1"], settings=values | {"train": settings})
    assert outcome.status == 0, outcome.log
    with np.load(path_of(tmp_path, TRAIN, "weights", "fold-1")) as stored:
        first = [name for name in stored.files if "members.0" in name and "head" in name]
        assert first
        for name in first:
            other = stored[name.replace("members.0", "members.1")]
            assert not np.array_equal(stored[name], other), name
    rows = table(path_of(tmp_path, TRAIN, "history", "fold-1"))
    assert [row["epoch"] for row in rows] == ["1"]


def test_a_map_of_another_size_lies_where_the_cells_of_the_picture_do() -> None:
    gaze = GazeSettings(width=128, height=96, stride=4)
    frame = Frame.of(200, 150, gaze)
    larger = Frame.of(200, 150, gaze.model_copy(update={"width": 192, "height": 160}))

    def drawn(one: Frame) -> np.ndarray:
        rows, columns = one.cells
        y, x = np.mgrid[:rows, :columns]
        cells = np.stack([x.ravel(), y.ravel()], axis=1).astype(float)
        away = np.linalg.norm(one.to_pixels(cells) - [130, 60], axis=1)
        shown = np.exp(-0.5 * (away / 20) ** 2).reshape(rows, columns)
        return np.asarray(shown / shown.sum())

    found, expected = on_cells_of(frame, larger, drawn(larger)), drawn(frame)
    known = expected > 1e-6
    known[[0, -1]], known[:, [0, -1]] = False, False
    np.testing.assert_allclose(found[known], expected[known], rtol=0.02)
    # At the border the outermost cell of the other size stands for what lies beyond its centre.
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_light_grain_and_focus_change_pictures_alone(folder: Path) -> None:
    one = examples_in(folder)[0]
    plain = TrainSettings(rotation_degrees=0, scale=0, shift=0, mirror=0, noise=0, mixed=0)
    more = plain.model_copy(update={"shade": 0.5, "grain": 0.5, "blur_px": 1.0})
    lessons = [lesson_of([one], each, np.random.default_rng(4)) for each in (plain, more, more)]
    assert torch.equal(lessons[1].pictures, lessons[2].pictures)
    assert not torch.allclose(lessons[0].pictures, lessons[1].pictures)
    assert torch.equal(lessons[0].target, lessons[1].target)


# The workflow


@pytest.mark.slow
def test_studies_ask_for_every_stage_and_for_what_nothing_else_reads(
    folder: Path, root: Path, tmp_path: Path
) -> None:
    given = tmp_path / "given"
    (given / "images").mkdir(parents=True)
    lines = ["image,observer,x,y,duration_ms,order"]
    for scan in LEARNED[:5]:
        (given / f"images/{scan}.png").write_bytes((folder / f"images/{scan}.png").read_bytes())
        lines += [f"{scan}.png,{o},{20 + o},20,100,1" for o in range(3)]
    (given / "fixations.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    study = write_yaml(
        tmp_path / "looks.yaml",
        {
            "study": "looks",
            "unit": "px",
            "data": {"folder": str(given), "folds": 2},
            "runs": {"salient": {"method": "salient"}},
        },
    )
    done = run_workflow(root, tmp_path, "--dry-run", "--configfile", study)
    assert done.status == 0, done.text
    assert {"map_gaze", "train_saliency_fold-1", "train_saliency_fold-2"} <= set(done.jobs)
    assert {"cluster_landmarks", "judge_saliency", "align_pairs", "draw_saliency"} <= set(done.jobs)
    assert "salient/saliency/p00.npy" in done.text
    ablation = ("--configfile", root / "studies/gaze_ablation.yaml")
    done = run_workflow(root, tmp_path, "--dry-run", *ablation, "--config", f"data_folder={given}")
    assert done.status == 0, done.text
    assert {done.jobs[f"train_saliency_fold-{n}"] for n in range(1, 6)} == {8}
