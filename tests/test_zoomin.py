"""The method `zoomin` piece by piece: fields, batches, networks, hypotheses, shapes, training."""

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from landmarkflow.cohorts.fundus import simulate_fundus
from landmarkflow.cohorts.fundus_settings import FundusSettings, camera_of
from landmarkflow.core.errors import InputError, ScanFailure
from landmarkflow.learning.crops import Frame, Pyramid
from landmarkflow.learning.folds import VALIDATION
from landmarkflow.learning.heatmaps import gaussian_targets
from landmarkflow.methods.zoomin import learn as learning
from landmarkflow.methods.zoomin.augment import draw_appearance
from landmarkflow.methods.zoomin.batches import Shown, coarse_frame, draw, region_frames
from landmarkflow.methods.zoomin.courses import coarse_course, zoom_course
from landmarkflow.methods.zoomin.doubts import Limits, doubts, extremes
from landmarkflow.methods.zoomin.examples import (
    Example,
    Examples,
    hold_back,
    load_examples,
    save_examples,
)
from landmarkflow.methods.zoomin.find import Finder, Found, Pair
from landmarkflow.methods.zoomin.learn import learn
from landmarkflow.methods.zoomin.network import Coarse, Zoom
from landmarkflow.methods.zoomin.networks import (
    architecture,
    load_pairs,
    new_pair,
    save_networks,
)
from landmarkflow.methods.zoomin.prepare import find_field, prepared
from landmarkflow.methods.zoomin.settings import AugmentSettings, TrainSettings, ZoomSettings
from landmarkflow.methods.zoomin.shape import Shape
from landmarkflow.methods.zoomin.train import misses_of

CPU = torch.device("cpu")
SIZE = 96
BRANCH = {"widths": (8, 16), "batch": 2, "learning_rate": 0.01}
TINY = TrainSettings.model_validate(
    {
        "coarse": BRANCH | {"size": 48, "stem": 2, "steps": 6},
        "regions": BRANCH | {"size": 32, "stem": 2, "steps": 6, "fields": (0.3, 0.6), "at_once": 2},
        "parts": {"attention_level": 1, "attractors": 8},
        "augment": {"flip": True, "spots": 0, "cut": 0, "dropped": 0},
        "steps_per_epoch": 2,
        "precision": "float32",
    }
)


def but(settings: TrainSettings, **changes: Any) -> TrainSettings:
    """Settings with some of a section changed."""
    data = settings.model_dump()
    for section, values in changes.items():
        data[section] = data[section] | values if isinstance(values, dict) else values
    return TrainSettings.model_validate(data)


def blob(random: np.random.Generator, *, missing: bool = False) -> Shown:
    """A picture of three channels with a bright and a dark spot, the landmarks."""
    points = random.uniform(25, SIZE - 25, (2, 2))
    points[1] = points[0] + [20, 5] if points[0, 0] < SIZE / 2 else points[0] - [20, 5]
    heat = gaussian_targets(torch.from_numpy(points), (SIZE, SIZE), 4.0).numpy()
    grey = 0.5 + 0.4 * heat[0] / heat[0].max() - 0.4 * heat[1] / heat[1].max()
    picture = (255 * np.stack([grey] * 3)).round().astype(np.uint8)
    if missing:
        points[1] = np.nan
    return Shown(Pyramid.of(torch.from_numpy(picture)), points)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small networks on several threads are slower, and as slow again beside other tests."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def blobs() -> list[Shown]:
    random = np.random.default_rng(3)
    return [blob(random, missing=number == 1) for number in range(6)]


# Fields


@pytest.mark.parametrize("cut", [False, True])
def test_the_field_of_a_camera_is_found(cut: bool) -> None:
    rows, columns = (300, 500) if cut else (420, 500)
    y, x = np.indices((rows, columns))
    centre, radius = np.array([245.3, rows / 2 + 7.4]), 190.0
    inside = np.hypot(x - centre[0], y - centre[1]) < radius
    picture = np.where(inside, 90 + 40 * np.sin(x / 17), 4)[..., None].repeat(3, axis=2)
    picture[60:70, 100:110] = 250
    field = find_field(picture.astype(np.uint8), "round")
    assert field.certain
    assert np.hypot(field.x - centre[0], field.y - centre[1]) < 2
    assert field.diameter == pytest.approx(2 * radius, rel=0.015)


def test_a_picture_without_a_field_is_taken_whole() -> None:
    y, x = np.indices((90, 140))
    picture = (120 + 60 * np.sin(x / 9) * np.cos(y / 7))[..., None].astype(np.uint8)
    field = find_field(picture, "round")
    assert not field.certain
    assert field.diameter == pytest.approx(140, abs=4)
    whole = find_field(picture, "picture")
    assert (whole.x, whole.y, whole.diameter) == (69.5, 44.5, 140)
    empty = find_field(np.zeros((90, 140, 1), np.uint8), "round")
    assert (empty.diameter, empty.certain) == (140, False)
    with pytest.raises(ScanFailure, match="of one brightness"):
        prepared(np.full((90, 140, 1), 7, np.uint8), whole, 64, 1)


def test_pictures_of_any_range_are_prepared_alike() -> None:
    random = np.random.default_rng(0)
    picture = random.integers(0, 255, (80, 120, 1)).astype(np.uint8)
    field = find_field(picture, "picture")
    one = prepared(picture, field, 64, 1)
    other = prepared(picture.astype(np.uint16) * 257, field, 64, 1)
    coloured = prepared(picture, field, 64, 3)
    assert one.channels.shape == (3, 64, 64) and coloured.channels.shape == (5, 64, 64)
    assert np.abs(one.channels.astype(int) - other.channels.astype(int)).max() <= 1
    assert np.array_equal(coloured.channels[0], coloured.channels[2])
    # The letterbox: nothing above and below, and places go there and back.
    assert not one.channels[:, :10].any() and not one.channels[:, -10:].any()
    places = random.uniform(0, 80, (5, 2))
    assert np.allclose(one.frame.to_picture(one.frame.to_grid(places)), places)


def test_a_small_dark_place_is_not_flat() -> None:
    # As dark as a fovea: about one pixel in a hundred is darker than all others.
    y, x = np.indices((200, 200))
    ground = 120 + 40 * np.sin(x / 15) * np.sin(y / 11)
    depth = np.exp(-((x - 121) ** 2 + (y - 84) ** 2) / (2 * 9**2))
    picture = (ground * (1 - depth) + (70 - 10 * depth) * depth)[..., None].astype(np.float32)
    whole = find_field(picture, "picture")
    shown = prepared(picture, whole, 200, 1).channels[0]
    assert len(np.unique(shown[80:89, 117:126])) > 10
    darkest = np.unravel_index(int(np.argmin(shown)), shown.shape)
    assert abs(darkest[0] - 84) <= 1 and abs(darkest[1] - 121) <= 1
    # Made still darker in training, it keeps its shape.
    pyramid = Pyramid.of(torch.from_numpy(prepared(picture, whole, 200, 1).channels))
    frame = coarse_frame(200, 200)
    settings = AugmentSettings(spots=0, cut=0, blur=0, noise=0, grey=0, dropped=0, gradient=0)
    random = np.random.default_rng(1)
    nowhere = np.full((1, 2), np.nan)
    drawn = draw_appearance(random, settings, channels=3, size=200, near=nowhere)
    darker = replace(drawn, shift=np.array([-0.4, 0, 0]), gain=np.array([1.2, 1, 1]), gamma=1.0)
    seen = darker.shown(pyramid, frame, 0)[0].numpy()
    assert np.ptp(seen[80:89, 117:126]) > 0.03


# Batches


def test_landmarks_of_a_batch_lie_on_what_they_mark(blobs: list[Shown]) -> None:
    settings = but(TINY, augment={"contrast": 0, "gamma": 0, "gradient": 0, "noise": 0, "blur": 0})
    random = np.random.default_rng(4)
    misses = [np.full((1, 2), 0.02)] * 2
    for number in range(5):
        wide, near = draw(blobs[:4], random, settings, misses)
        assert near is not None and wide.pictures.shape == (4, 3, 48, 48)
        # Of the picture with one landmark there is one region, of the others two.
        assert near.picture.count(1) <= 1 and len(near.picture) == 7
        for row, (k, frames) in enumerate(zip(near.landmark, near.frames, strict=True)):
            for scale, frame in enumerate(frames):
                place = near.points[row, scale, k].numpy()
                assert np.allclose(frame.to_grid(blobs[near.picture[row]].points[k]), place)
                x, y = np.round(place * 2 + 0.5).astype(int)
                if not (3 < x < 28 and 3 < y < 28):
                    continue
                part = near.regions[row, scale, 1].numpy()
                here, usual = part[y, x], np.median(part[part > 0])
                assert here > usual if k == 0 else here < usual, number


def test_pictures_are_shown_as_by_a_camera_with_a_narrower_field(blobs: list[Shown]) -> None:
    # Nothing else is changed, so a grid of the coarse branch shows the other field alone.
    still = dict.fromkeys(("rotation_degrees", "scale", "stretch", "shift", "gradient", "noise"), 0)
    same = {"contrast": 0, "brightness": 0, "gamma": 0, "grey": 0, "blur": 0, "flip": False}
    settings = but(TINY, augment=still | same | {"fields": 1.0, "narrowest": 0.5})
    misses = [np.full((1, 2), 0.02)] * 2
    hidden = 0
    for number in range(12):
        wide, near = draw(blobs, np.random.default_rng(number), settings, misses)
        assert near is not None
        for row, frame in enumerate(wide.frames):
            share = frame.axes[0, 0] * 48 / SIZE
            if share == 1:
                # A field that shows no landmark is not taken.
                continue
            assert 0.5 <= share <= 1 and np.abs(frame.centre - 47.5).max() <= (1 - share) * SIZE / 2
            y, x = np.indices((48, 48))
            beyond = np.hypot(x - 23.5, y - 23.5) > 24.5
            assert not wide.pictures[row, 1].numpy()[beyond].any()
            for k, place in enumerate(wide.points[row].numpy()):
                if np.isnan(place).any():
                    continue
                there = frame.coarser(2).to_grid(blobs[row].points[k])
                # What is not shown lies where no map reaches, and no region is laid for it.
                shown = np.abs(place).max() < 100
                assert not shown or np.allclose(place, there, atol=1e-4)
                x, y = np.round(there * 2 + 0.5).astype(int)
                around = wide.pictures[row, 1].numpy()[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2]
                assert around.any() if shown else not around.all() or around.size < 9
                laid = [
                    n == row and of == k for n, of in zip(near.picture, near.landmark, strict=True)
                ]
                assert shown or not any(laid)
                hidden += not shown
    assert 5 < hidden < 60


def test_regions_are_the_same_where_whole_pictures_are_not_made(blobs: list[Shown]) -> None:
    misses = [np.full((1, 2), 0.02)] * 2
    both = [draw(blobs, np.random.default_rng(5), TINY, misses, whole=w) for w in (True, False)]
    (with_pictures, near), (without, alone) = both
    assert near is not None and alone is not None
    assert torch.equal(near.regions, alone.regions) and near.landmark == alone.landmark
    assert len(with_pictures.pictures) == len(blobs) and len(without.pictures) == 0


def test_regions_are_laid_by_misses(blobs: list[Shown]) -> None:
    settings = but(TINY, regions={"misses": 1.0, "elsewhere": 0.0})
    misses = [np.array([[0.1, 0.0]]), np.array([[0.0, 0.05]])]
    off: dict[int, list[np.ndarray]] = {0: [], 1: []}
    for number in range(20):
        _, near = draw(blobs, np.random.default_rng(number), settings, misses)
        assert near is not None
        for row, k in enumerate(near.landmark):
            step = near.frames[row][0].centre - blobs[near.picture[row]].points[k]
            off[k].append(np.abs(step) / SIZE)
    first, second = np.array(off[0]), np.array(off[1])
    assert np.allclose(first[:, 1], 0) and np.allclose(second[:, 0], 0)
    assert first[:, 0].min() >= 0.05 and first[:, 0].max() <= 0.136
    measured = {"misses": {"a": [[0.1, 0.2], [None, None]], "b": [[0.3, 0.1], [0.0, 0.1]]}}
    kept = misses_of([measured], {"a"}, 2)
    assert kept[0].tolist() == [[0.1, 0.2]] and len(kept[1]) == 0


# Networks


PARTS: Sequence[dict[str, Any]] = (
    {},
    {"co_attention": False},
    {"fusion": False},
    {"coarse_features": False, "self_attention": False},
    {"own_branches": True, "auxiliary": 0.0},
)


@pytest.mark.parametrize("parts", PARTS)
def test_every_part_can_be_left_out(parts: dict[str, Any], blobs: list[Shown]) -> None:
    settings = but(TINY, parts=parts)
    torch.manual_seed(0)
    coarse, zoom = Coarse(3, 2, settings.coarse, "float32"), Zoom(3, 2, 8, settings)
    course = zoom_course(settings, coarse, [np.zeros((0, 2))] * 2, (0,), CPU)
    loss = course.loss(zoom, blobs[:3], np.random.default_rng(0))
    loss.backward()
    assert math.isfinite(loss.item())
    left = {n for n, p in zoom.named_parameters() if p.grad is None}
    # Without auxiliary losses a region's own head is not learned; where it is the answer, it is.
    assert left <= {"head.weight", "head.bias"}
    assert bool(left) == (settings.parts.auxiliary == 0)


def test_regions_may_be_of_any_number(blobs: list[Shown]) -> None:
    for fields in ((0.3,), (0.2, 0.4, 0.8)):
        settings = but(TINY, regions={"fields": fields})
        coarse, zoom = Coarse(3, 2, settings.coarse, "float32"), Zoom(3, 2, 8, settings)
        finder = Finder([Pair(coarse.eval(), zoom.eval())], settings, ZoomSettings(), CPU)
        assert finder.find(blobs[0].pyramid).regions.shape == (2, len(fields), 2, 2)


def test_networks_are_read_as_they_were_written(tmp_path: Path) -> None:
    pair, path = new_pair(TINY, 1, 2), tmp_path / "a.npz"
    save_networks(path, {"all": pair}, architecture(TINY, 1, ["a", "b"]))
    options: dict[str, Any] = {"train": TINY, "colours": 1, "device": CPU}
    read = load_pairs(path, ["all"], landmarks=["a", "b"], **options)["all"]
    assert torch.equal(read.coarse.head.weight, pair["coarse"].head.weight)
    with pytest.raises(InputError, match="expected"):
        load_pairs(path, ["all"], landmarks=["a", "c"], **options)
    (tmp_path / "b.npz").write_bytes(path.read_bytes()[:500])
    with pytest.raises(InputError, match="cannot be read as the weights of a network"):
        load_pairs(tmp_path / "b.npz", ["all"], landmarks=["a", "b"], **options)


# Training


def test_a_killed_training_goes_on_and_ends_with_the_same_weights(
    blobs: list[Shown], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(1)
    start = Coarse(3, 2, TINY.coarse, "float32")
    course = coarse_course(TINY, (1, 2), CPU)

    def trained(name: str) -> tuple[torch.nn.Module, list[learning.Epoch]]:
        network = copy.deepcopy(start)
        return learn(network, course, blobs, TINY, name=name, checkpoint=tmp_path / f"{name}.npz")

    whole, history = trained("whole")
    assert [epoch.epoch for epoch in history] == [1, 2, 3]
    save = learning.save_checkpoint
    written = []

    def killed(*arguments: Any) -> None:
        save(*arguments)
        written.append(1)
        if len(written) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(learning, "save_checkpoint", killed)
    with pytest.raises(KeyboardInterrupt):
        trained("cut")
    monkeypatch.setattr(learning, "save_checkpoint", save)
    again, resumed = trained("cut")
    assert [e.train_loss for e in resumed] == [e.train_loss for e in history]
    for one, other in zip(whole.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)


def test_training_that_diverges_is_refused(blobs: list[Shown]) -> None:
    settings = but(TINY, coarse={"learning_rate": 1e30})
    course = coarse_course(settings, (1,), CPU)
    with pytest.raises(InputError, match="training diverges: the loss of step"):
        learn(Coarse(3, 2, settings.coarse, "float32"), course, blobs, settings, name="a")


# Search


class Drawn(Coarse):
    """A coarse branch that marks stated places, in pixels of the map."""

    def __init__(self, places: Sequence[Sequence[tuple[float, float, float]]]) -> None:
        super().__init__(3, len(places), TINY.coarse, "float32")
        self.places = places

    def forward(self, pictures: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        count, size = len(pictures), TINY.coarse.map_size
        maps = torch.zeros((len(self.places), size, size))
        for k, row in enumerate(self.places):
            for x, y, mass in row:
                maps[k] += mass * gaussian_targets(torch.tensor([[x, y]]), (size, size), 1.5)[0]
        absent = 1 - maps.sum(dim=(1, 2))
        logits = torch.log(maps.clamp(min=1e-8)) - torch.log(absent)[:, None, None]
        both = torch.stack([logits, logits.flip(-1)])[:count]
        return both, torch.zeros((count, 8, size, size))


class Bright(Zoom):
    """A closer look that marks the brightest place of the narrow region, if it is bright."""

    def forward(self, regions: torch.Tensor, *others: Any) -> tuple[torch.Tensor, list[Any]]:
        seen = torch.nn.functional.avg_pool2d(regions[:, 0, :1], 2)
        logits = 2 * torch.log(seen + 1e-4) + 4
        return logits.expand(-1, 2, -1, -1), []


def spots(*places: tuple[float, float]) -> Pyramid:
    heat = gaussian_targets(torch.tensor(places), (SIZE, SIZE), 3.0).sum(dim=0)
    return Pyramid.of((255 * heat / heat.max()).expand(3, -1, -1))


def test_a_coarse_miss_is_not_final() -> None:
    coarse = coarse_frame(SIZE, TINY.coarse.size).coarser(2)
    true, wrong = np.array([60.3, 40.8]), np.array([25.0, 70.0])
    a, b = coarse.to_grid(true), coarse.to_grid(wrong)
    # The wrong place is the higher one of the coarse map; only the true one is bright.
    places = [[(*b, 0.55), (*a, 0.4)], [(*a, 0.9)]]
    pair = Pair(Drawn(places), Bright(3, 2, 8, TINY))
    found = Finder([pair], TINY, ZoomSettings(looks=1), CPU).find(spots((60.3, 40.8)))
    assert found.hypotheses.tolist() == [2, 1]
    assert np.linalg.norm(found.coarse[0] - wrong) < 0.5
    assert np.abs(found.positions - true).max() < 0.1
    assert found.rival[0] < 0.2
    one = Finder([pair], TINY, ZoomSettings(hypotheses=1, looks=1), CPU).find(spots((60.3, 40.8)))
    assert np.linalg.norm(one.positions[0] - true) > 10
    # The regions that were looked at last are centred on what was found.
    assert np.allclose(found.regions[0].mean(axis=1), true, atol=1)


class BrightAnywhere(Coarse):
    """A coarse branch that marks the brightest place, whichever way round the picture lies."""

    def forward(self, pictures: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        seen = torch.nn.functional.avg_pool2d(pictures[:, :1], TINY.coarse.stem)
        logits = 3 * torch.log(seen + 1e-4) + 4
        features = torch.zeros((len(pictures), 8, *logits.shape[2:]))
        return logits.expand(-1, 2, -1, -1), features


def test_turned_and_enlarged_looks_agree_on_a_place() -> None:
    place = np.array([58.3, 41.7])
    pair = Pair(BrightAnywhere(3, 2, TINY.coarse, "float32"), Bright(3, 2, 8, TINY))
    for looks in (1, 3, 5):
        finder = Finder([pair], TINY, ZoomSettings(looks=looks), CPU)
        found = finder.find(spots((58.3, 41.7)))
        assert np.abs(found.coarse - place).max() < 0.3
        assert np.abs(found.positions - place).max() < 0.1
        assert found.presence.min() > 0.9


def test_a_hidden_landmark_lies_where_the_other_one_tells() -> None:
    random = np.random.default_rng(0)
    first = random.uniform(0.3, 0.6, (20, 2))
    points = np.stack([first, first + random.normal([0.25, 0.05], 0.01, (20, 2))], axis=1)
    shape = Shape.of(points, both_ways=False)
    coarse = coarse_frame(SIZE, TINY.coarse.size).coarser(2)
    disc = np.array([66.0, 50.0])
    hidden = disc - SIZE * np.array([0.25, 0.05])
    # The coarse map marks a bright place on the wrong side; where the landmark lies is nothing.
    wrong, b = np.array([86.0, 20.0]), coarse.to_grid(disc)
    pair = Pair(Drawn([[(*coarse.to_grid(wrong), 0.7)], [(*b, 0.9)]]), Bright(3, 2, 8, TINY))
    settings = ZoomSettings(looks=1, hypotheses=2)
    picture = spots((66.0, 50.0))
    found = Finder([pair], TINY, settings, CPU, shape).find(picture)
    assert np.linalg.norm(found.positions[1] - disc) < 0.2
    assert np.linalg.norm(found.positions[0] - hidden) < 8
    assert np.linalg.norm(found.coarse[0] - wrong) < 0.5
    places = np.array([[0.4, 0.4], [0.9, 0.2]])
    likely = shape.likely(np.array([[np.nan, np.nan], [0.65, 0.45]]), 0, places)
    assert likely[0] > -0.5 and likely[1] == pytest.approx(-32)


def test_hypotheses_are_judged_together() -> None:
    random = np.random.default_rng(0)
    ways = np.where(random.random(30) < 0.5, 1.0, -1.0)
    first = random.uniform(0.4, 0.6, (30, 2))
    step = np.stack([ways * random.normal(0.35, 0.02, 30), random.normal(-0.03, 0.02, 30)], axis=1)
    shape = Shape.of_data(Shape.of(np.stack([first, first + step], 1), both_ways=True).as_data())
    assert np.abs(shape.mean[0]) == pytest.approx([0.35, 0.03], abs=0.02)
    assert np.abs(shape.deviation[0]) == pytest.approx([0.02, 0.02], abs=0.01)
    places = [np.array([[0.5, 0.5], [0.5, 0.3]]), np.array([[0.85, 0.27]])]
    scores = [np.array([0.6, 0.5]), np.array([0.9])]
    assert shape.chosen(places, scores) == [1, 0]
    mirrored = [np.array([1.0, 0.0]) + one * np.array([-1.0, 1.0]) for one in places]
    assert shape.chosen(mirrored, scores) == [1, 0]
    assert shape.deviations(np.array([[0.5, 0.3], [0.85, 0.27]])).max() < 2
    assert shape.deviations(np.array([[0.5, 0.6], [0.85, 0.27]])).max() > 5
    alone = Shape.of(np.full((4, 1, 2), 0.5), both_ways=True)
    assert alone.chosen([np.zeros((2, 2))], [np.array([0.2, 0.3])]) == [1]
    assert len(alone.deviations(np.zeros((1, 2)))) == 0


def test_hypotheses_are_judged_for_cameras_of_another_scale() -> None:
    random = np.random.default_rng(0)
    first = random.uniform(0.4, 0.6, (30, 2))
    points = np.stack([first, first + random.normal([0.3, 0], 0.01, (30, 2))], 1)
    # All is 1.4 times as large; one hypothesis of the first, which hardly looks alike, fits better.
    places = [np.array([[0.3, 0.5], [0.42, 0.5]]), np.array([[0.72, 0.5]])]
    scores = [np.array([0.8, 0.01]), np.array([0.9])]
    strict = Shape.of(points, both_ways=False)
    wide = replace(strict, other_scale=0.25)
    assert strict.chosen(places, scores) == [1, 0] and wide.chosen(places, scores) == [0, 0]
    # Doubts are not judged so: such a picture is one.
    assert wide.deviations(np.array([[0.3, 0.5], [0.72, 0.5]])).max() > 3.5
    # Steps aslant are no likelier for another scale.
    aslant = [np.array([[0.5, 0.25], [0.5, 0.5]]), np.array([[0.8, 0.5]])]
    assert wide.chosen(aslant, [np.array([0.5, 0.1]), np.array([0.9])]) == [1, 0]


def test_a_landmark_out_of_sight_draws_no_other_one_away() -> None:
    random = np.random.default_rng(0)
    first = random.uniform(0.4, 0.6, (30, 2))
    points = np.stack([first, first + random.normal([0.3, 0], 0.01, (30, 2))], 1)
    # The second one is not in the picture: its peak is none, and fits a chance place of the first.
    places = [np.array([[0.5, 0.5], [0.1, 0.3]]), np.array([[0.4, 0.3]])]
    scores = [np.array([0.9, 0.0005]), np.array([0.1])]
    assert Shape.of(points, both_ways=False).chosen(places, scores) == [1, 0]
    robust = replace(Shape.of(points, both_ways=False), most_deviations=3.7)
    again = Shape.of_data(robust.as_data())
    assert robust.chosen(places, scores) == again.chosen(places, scores) == [0, 0]


def found_at(positions: np.ndarray, **changed: Any) -> Found:
    usual = {
        "positions": positions,
        "coarse": positions,
        "spread": np.ones(2),
        "presence": np.ones(2),
        "elsewhere": np.zeros(2),
        "apart": np.zeros(2),
        "rival": np.zeros(2),
        "hypotheses": np.ones(2, int),
        "regions": np.zeros((2, 1, 2, 2)),
    }
    return Found(**(usual | changed))


def test_doubts_name_what_is_wrong() -> None:
    points = np.array([[[0.4, 0.5], [0.8, 0.5]]] * 6) + np.random.default_rng(0).normal(
        0, 0.01, (6, 2, 2)
    )
    shape = Shape.of(points, both_ways=False)
    place = np.array([[40.0, 50.0], [80.0, 50.0]])

    def said(found: Found, depth: float = 30.0) -> list[str]:
        return doubts(
            found, ["fovea", "disc"], shape, size=100, depth=np.array([depth, 30.0]),
            limits=Limits.of(ZoomSettings()),
        )  # fmt: skip

    assert said(found_at(place)) == []
    for name, value, words in (
        ("presence", [0.2, 1.0], "the networks hardly see fovea: a probability of 0.20"),
        ("elsewhere", [0.0, 0.7], "the heat maps of disc are flat or have a second peak: 0.70"),
        ("rival", [0.9, 0.0], "another place for fovea looks alike: it has 0.90"),
        ("apart", [9.0, 0.0], "the networks differ on fovea by 0.090 of the field"),
        (
            "coarse",
            place + np.array([12.0, 0.0]),
            "coarse and closer look differ on fovea",
        ),
    ):
        (reason,) = said(found_at(place, **{name: np.array(value)}))
        assert reason.startswith(words)
    (reason,) = said(found_at(place + np.array([[0, 25.0], [0, 0]])))
    assert reason.startswith("fovea and disc do not lie as in annotated pictures")
    assert said(found_at(place), depth=0.2) == ["at the border of the picture: fovea"]
    worst = extremes(found_at(place, presence=np.array([0.2, 1.0])), shape, 100)
    assert worst[0] == pytest.approx(0.8) and worst[1:4].tolist() == [0, 0, 0]


def test_limits_of_doubts_widen_until_few_right_pictures_are_beyond() -> None:
    stated = Limits.of(ZoomSettings(least_presence=0.5, rival=0.5, most_deviations=3.5))
    random = np.random.default_rng(0)
    right = np.zeros((100, 5))
    right[:, 2] = random.uniform(0.0, 0.9, 100)
    right[:, 4] = random.uniform(2.0, 6.0, 100)
    limits = stated.widened(right, 0.05)
    beyond = (right[:, 2] > limits.rival) | (right[:, 4] > limits.most_deviations)
    assert 0 < beyond.sum() <= 5
    # What no right picture is beyond stays as it is stated.
    assert (limits.least_presence, limits.most_elsewhere) == (0.5, stated.most_elsewhere)
    assert Limits.of_data(limits.as_data()).rival == pytest.approx(limits.rival, abs=1e-6)
    assert stated.widened(right, 1.0) == stated == stated.widened(np.empty((0, 5)), 0.05)


# Examples


def test_examples_are_read_as_they_were_written(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    channels = random.integers(0, 255, (6, 2, 8, 8)).astype(np.uint8)
    scans = tuple(Example(f"s{n}", 0, channels[n], random.random((2, 2))) for n in range(6))
    examples = Examples(("a", "b"), 1, scans, {"bad": "refused"})
    save_examples(tmp_path / "a.npz", examples)
    read = load_examples(tmp_path / "a.npz")
    assert (read.landmarks, read.colours, read.left_out) == (("a", "b"), 1, {"bad": "refused"})
    assert all(
        np.array_equal(a.channels, b.channels) and np.array_equal(a.points, b.points)
        for a, b in zip(read.scans, scans, strict=True)
    )
    held = hold_back(read, 0.3, 1)
    assert sum(e.fold == VALIDATION for e in held.scans) == 2
    assert len(held.learned(0)) == 4 and len(held.held_back(0)) == 2
    assert hold_back(read, 0.0, 1) is read
    (tmp_path / "b.npz").write_bytes(b"nothing")
    with pytest.raises(InputError, match="expected gathered examples"):
        load_examples(tmp_path / "b.npz")


@pytest.mark.parametrize(
    ("section", "values", "said"),
    [
        ("coarse", {"size": 50}, "must be a multiple of"),
        ("coarse", {"widths": (12, 24)}, "must be multiples of 8"),
        ("regions", {"fields": (0.5, 0.2)}, "must be above 0 and ascend"),
    ],
)
def test_settings_that_do_not_fit_are_refused(
    section: str, values: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValidationError, match=said):
        but(TINY, **{section: values})


def test_a_part_of_a_branch_may_be_stated() -> None:
    usual = TrainSettings()
    stated = TrainSettings.model_validate({"coarse": {"size": 320}, "regions": {"size": 64}})
    assert stated.coarse == usual.coarse.model_copy(update={"size": 320})
    assert stated.regions == usual.regions.model_copy(update={"size": 64})


# The simulated cohort


def test_simulated_photographs_show_what_their_landmarks_say() -> None:
    settings = FundusSettings(width=200, noise=0, lesions=0, camera_b=0.5)
    cameras = set()
    for index in range(1, 9):
        picture = simulate_fundus(settings, 3, index)
        again = simulate_fundus(settings, 3, index)
        assert np.array_equal(picture.image, again.image)
        camera = camera_of(settings, 3, index)
        cameras.add(camera)
        rows, columns = picture.image.shape[:2]
        assert (rows, columns) == ((150, 150) if camera == "camera B" else (150, 200))
        fovea, disc = picture.landmarks.positions[:, :2]
        assert picture.landmarks.labels == ("fovea", "optic_disc")
        green = picture.image[..., 1].astype(float)

        def around(place: np.ndarray, reach: int = 3, of: np.ndarray = green) -> float:
            x, y = np.round(place).astype(int)
            return float(of[y - reach : y + reach + 1, x - reach : x + reach + 1].mean())

        # The disc is brighter than what lies beside it, and the fovea darker than half way to it.
        assert around(disc) > 1.2 * around(fovea)
        field = find_field(picture.image, "round")
        assert field.certain
        distance = np.linalg.norm(disc - fovea) / field.diameter
        assert 0.3 < distance < 0.47
    assert cameras == {"camera A", "camera B"}
    with pytest.raises(ValidationError, match="expected at least 64"):
        FundusSettings(width=20)


def test_a_region_frame_follows_the_coarse_frame() -> None:
    upright = coarse_frame(SIZE, 48)
    narrow, wide = region_frames(upright, np.array([30.0, 40.0]), SIZE, TINY.regions)
    assert narrow.scale == pytest.approx(0.3 * SIZE / 32)
    assert wide.scale == pytest.approx(0.6 * SIZE / 32)
    mirrored = region_frames(upright.mirrored(), np.array([30.0, 40.0]), SIZE, TINY.regions)[0]
    corner = np.array([[0.0, 0.0]])
    assert np.allclose(mirrored.to_picture(corner), narrow.to_picture(np.array([[31.0, 0.0]])))
    assert isinstance(narrow, Frame)
