"""The method `dualhead` part by part: windows, training, search, radii, doubts."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from dualhead_phantoms import CENTRES, LABELS, RADII, Oracle, phantom, smooth_balls
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from landmarkflow.core.errors import InputError, ScanFailure
from landmarkflow.core.grids import Grid
from landmarkflow.core.sides import flips_of
from landmarkflow.images.extent import Extent
from landmarkflow.images.operations import array_of, image_on, mirrored
from landmarkflow.learning.augment import random_pose, random_rotation
from landmarkflow.learning.folds import VALIDATION
from landmarkflow.learning.radii import Radii, radii_of_others
from landmarkflow.methods.dualhead.calibrate import Measured, radii_of
from landmarkflow.methods.dualhead.doubts import doubts
from landmarkflow.methods.dualhead.examples import (
    Examples,
    Statistics,
    hold_back,
    load_examples,
    save_examples,
)
from landmarkflow.methods.dualhead.find import Finder, Found, kept_pieces
from landmarkflow.methods.dualhead.gather import deal, example_of
from landmarkflow.methods.dualhead.network import DualHead, doubled
from landmarkflow.methods.dualhead.predict import answer, segmented
from landmarkflow.methods.dualhead.seen import Seer, blocks, proper_rotations
from landmarkflow.methods.dualhead.settings import (
    CalibrateSettings,
    CloseSettings,
    GatherSettings,
    PassSettings,
    PredictSettings,
    TrainSettings,
)
from landmarkflow.methods.dualhead.train import train
from landmarkflow.methods.dualhead.views import View, covering
from landmarkflow.methods.dualhead.windows import Windows

Array = NDArray[np.float64]

# More threads would wait for each other: the networks here are tiny.
torch.set_num_threads(1)

COARSE = PassSettings(window=16, levels=2, channels=4, sigma_voxels=1.0, steps=6, elsewhere=0.2)
FINE = PassSettings(window=16, levels=2, channels=4, sigma_voxels=1.5, steps=6, shift_mm=1)
GATHER = GatherSettings(low=-200, high=1400, coarse_mm=2, fine_mm=1, fine_margin_mm=5)
NO_CLOSE = CloseSettings(steps=0)
TRAIN = TrainSettings(
    coarse=COARSE, fine=FINE, close=NO_CLOSE, steps_per_epoch=3, validation_scans=1
)
PLAIN = {"rotation_degrees": 10.0, "scale": 0.1, "stretch": 0.05, "bend_mm": 0.0}


def gathered(count: int, missing: int | None = None) -> Examples:
    """Some phantoms as examples, the last of them without a landmark if asked for."""
    scans = []
    for number in range(count):
        image, labels, centres = phantom(number)
        if missing is not None and number == count - 1:
            centres[missing] = np.nan
        name = "template" if number == 0 else f"s{number}"
        scans.append(
            example_of(
                name,
                image,
                segmentation=labels,
                positions=centres,
                labels=(1, 2, 3),
                settings=GATHER,
            )
        )
    return Examples(LABELS, (1, 2, 3), "right", -200.0, 1400.0, tuple(scans), CENTRES)


@pytest.fixture(scope="module")
def examples() -> Examples:
    return gathered(4, missing=2)


# The chain from a scan to a place, with networks that know


def bright_scan(centre: Array, grid: Grid, radius: float = 3.0) -> sitk.Image:
    """A volume of air with one bright, round blob, brightest in its middle."""
    index = np.stack(np.meshgrid(*(np.arange(n) for n in grid.size), indexing="ij"), -1)
    points = grid.to_physical(index.reshape(-1, 3).astype(np.float64))
    square = ((points - centre) ** 2).sum(axis=1)
    values = np.exp(-0.5 * square / (radius / 1.3) ** 2).reshape(grid.size).T
    return image_on(grid, values.astype(np.float32))


def oracle_finder(rotations: int = 1, block: int = 32, radius_mm: float = 4.0) -> Finder:
    """A search by networks that know, at 1 mm and 0.5 mm."""
    coarse = PassSettings(window=16, levels=2, sigma_voxels=1.5)
    fine = PassSettings(window=24, levels=2, sigma_voxels=2.0)
    seers = [
        Seer([Oracle(p).eval()], p, "softmax", rotations, 0.25, torch.device("cpu"))
        for p in (coarse, fine)
    ]
    settings = PredictSettings(block_voxels=block, decoding="mean")
    statistics = Statistics(radius_mm, None, ())
    return Finder(seers[0], seers[1], (1.0, 0.5), statistics, settings, CENTRES[:1])


@pytest.mark.parametrize(("rotations", "oblique"), [(1, False), (1, True), (24, False)])
def test_no_step_from_scan_to_place_moves_it_by_a_part_of_a_voxel(
    rotations: int, oblique: bool
) -> None:
    turn = Rotation.from_euler("xyz", [20, -15, 30], degrees=True).as_matrix()
    direction = turn if oblique else np.diag([-1.0, -1, 1])
    finder = oracle_finder(rotations)
    offsets = []
    for number in range(3 if rotations == 1 else 1):
        random = np.random.default_rng([3, number])
        grid = Grid((52, 44, 36), np.array([0.61, 0.7, 0.8]), random.normal(0, 40, 3), direction)
        centre = grid.to_physical(random.uniform(0.3, 0.7, (1, 3)) * grid.size)[0]
        found = finder.find(View(bright_scan(centre, grid), 0.0, 1.0))
        offsets.append(found.positions[0] - centre)
        # A coarse place is a voxel.
        assert np.abs(found.coarse[0] - centre).max() <= 0.75
    assert np.abs(offsets).max() < 0.04 * 0.5 + 0.005
    if rotations == 1:
        assert np.abs(np.mean(offsets, axis=0)).max() < 0.02 * 0.5


def test_a_target_far_off_in_a_scan_of_many_blocks_is_found() -> None:
    grid = Grid((96, 40, 30), np.full(3, 1.0), np.array([-300.0, 20, 7]), np.eye(3))
    for x in (8.3, 44.6, 88.1):
        centre = grid.to_physical(np.array([[x, 21.4, 14.9]]))[0]
        found = oracle_finder(block=32).find(View(bright_scan(centre, grid), 0.0, 1.0))
        assert np.abs(found.positions[0] - centre).max() < 0.05
        assert max(found.answer.grid.size) <= 40


def test_two_targets_are_told_and_none_is_a_failure() -> None:
    grid = Grid((70, 40, 40), np.full(3, 1.0), np.zeros(3), np.eye(3))
    two = [bright_scan(np.array([x, 20.3, 19.2]), grid) for x in (15.2, 52.7)]
    finder = oracle_finder(block=80)
    found = finder.find(View(two[0] + 0.95 * two[1], 0.0, 1.0))
    assert len(found.candidates) == 2
    reasons = doubts(found, ("A",), finder.statistics, Extent(grid), finder.settings)
    assert any("two places" in reason for reason in reasons)
    with pytest.raises(ScanFailure, match="see no target"):
        finder.find(View(two[0] * 0 + 0.001, 0.0, 1.0))


def test_the_other_side_is_seen_mirrored_and_lies_where_it_is() -> None:
    assert flips_of("left", "right") == (True,)
    assert flips_of("right", "right") == (False,)
    assert flips_of("", "right") == (False, True)
    assert flips_of("left", "") == (False,)
    grid = Grid((50, 40, 36), np.array([0.7, 0.7, 0.8]), np.array([12.0, -9, 3]), np.eye(3))
    centre = np.array([24.2, 4.1, 17.3])
    view = View(bright_scan(centre, grid), 0.0, 1.0)
    found = answer(oracle_finder(), view, (True,))
    np.testing.assert_allclose(found.found.positions[0], centre * [-1, 1, 1], atol=0.03)
    marked = array_of(mirrored(segmented(found.found, (7,), Extent(grid).mirrored().grid)))
    expected = array_of(view.image) > 0.5
    assert set(np.unique(marked)) == {0, 7}
    assert 2 * (expected & (marked == 7)).sum() / (expected.sum() + (marked == 7).sum()) > 0.95
    # Neither way is likelier where the target is its own mirror image.
    unsure = answer(oracle_finder(), view, (False, True))
    assert "side is not stated" in unsure.doubts[0]


def test_blocks_cover_a_box_and_share_their_borders() -> None:
    low, high = np.array([-10.0, 0, 5]), np.array([55.0, 20, 31])
    found = list(blocks(low, high, 1.0, 24, 8))
    assert all(max(grid.size) <= 24 for grid in found)
    random = np.random.default_rng(0).uniform(low, high, (500, 3))
    covered = np.zeros(500, bool)
    for grid in found:
        # A window's worth away from a block's border, unless that is the border of all.
        ends = np.array([grid.corners.min(axis=0), grid.corners.max(axis=0)])
        inner = [ends[0] + 4 * (ends[0] > low + 1), ends[1] - 4 * (ends[1] < high - 1)]
        covered |= ((random >= inner[0]) & (random <= inner[1])).all(axis=1)
    assert covered.all()


def test_twenty_four_rotations_are_all_proper_and_different() -> None:
    turns = proper_rotations()
    matrices = []
    for axes, flips in turns:
        matrix = np.eye(3)[list(axes)]
        matrix[list(flips)] *= -1
        matrices.append(matrix)
        assert np.linalg.det(matrix) == pytest.approx(1)
    assert len({matrix.tobytes() for matrix in matrices}) == 24
    np.testing.assert_array_equal(matrices[0], np.eye(3))
    assert all(
        np.linalg.det(random_rotation(angle, np.random.default_rng(1))) == pytest.approx(1)
        for angle in (10.0, 180.0)
    )


# Crops and windows


def test_a_crop_lies_where_its_scan_does() -> None:
    grid = Grid((40, 36, 30), np.array([0.8, 0.8, 1.1]), np.array([5.0, -60, 33]), np.eye(3))
    centre = grid.to_physical(np.array([[18.3, 20.1, 14.6]]))[0]
    image = bright_scan(centre, grid)
    mask = image_on(grid, array_of(image) > 0.5)
    settings = GatherSettings(low=0, high=1, coarse_mm=1.7, fine_mm=0.6)
    one = example_of(
        "a", image, segmentation=mask, positions=centre[None], labels=(1,), settings=settings
    )
    for crop in (one.coarse, one.fine):
        weight = crop.image.astype(np.float64)
        index = [float((weight.sum((*{0, 1, 2} - {a},)) * np.arange(weight.shape[a])).sum())
                 / weight.sum() for a in (2, 1, 0)]  # fmt: skip
        np.testing.assert_allclose(crop.grid.to_physical([index])[0], centre, atol=0.05)
        inside = np.argwhere(crop.labels == 1)[:, ::-1].mean(axis=0)
        # Labels are whole voxels.
        np.testing.assert_allclose(crop.grid.to_physical([inside])[0], centre, atol=0.3)
    assert one.radius_mm == pytest.approx(3.0 / 1.3 * math.sqrt(2 * math.log(2)), abs=1)


@pytest.mark.parametrize("bend", [0.0, 0.5])
def test_points_follow_the_image_through_pose_and_bend(examples: Examples, bend: float) -> None:
    # The centre of mass of each ball's label is its landmark, wherever the window shows it.
    settings = TRAIN.model_copy(
        update={"bend_mm": bend, "noise": 0.0, "cut": 0.0, "other_background": 0.0}
    )
    fine = settings.model_copy(update={"fine": FINE.model_copy(update={"window": 24})})
    windows = Windows(examples.scans, "fine", fine, 4, examples.template)
    offsets = []
    for step in range(12):
        window = windows.draw(step % 3, np.random.default_rng([9, step]))
        for label in (1, 2, 3):
            inside = np.argwhere(window.labels.numpy() == label)[:, ::-1]
            if len(inside) > 15:
                offsets.append(inside.mean(axis=0) - window.points[label - 1].numpy())
    assert len(offsets) > 20
    assert np.abs(np.mean(offsets, axis=0)).max() < 0.06
    assert np.linalg.norm(offsets, axis=1).mean() < 0.35


def test_a_pose_maps_points_back_to_where_it_samples_them() -> None:
    random = np.random.default_rng(4)
    pose = random_pose(
        np.array([3.0, -8, 40]), 7.5, random, rotation_degrees=180, scale=0.2, stretch=0.1,
        bend_mm=0.4,
    )  # fmt: skip
    count, origin, spacing = 16, np.array([-30.0, -40, 10]), 0.8
    index = pose.index_of(count, origin, spacing)
    chosen = np.array([[3, 5, 7], [12, 2, 9], [8, 8, 8]])
    physical = origin + spacing * index[chosen[:, 2], chosen[:, 1], chosen[:, 0]].numpy()
    np.testing.assert_allclose(pose.to_window(physical, count), chosen, atol=5e-3)
    assert np.isnan(pose.to_window(np.full((1, 3), np.nan), count)).all()


def test_windows_are_cut_off_and_backed_by_others_without_a_target_unmarked(
    examples: Examples,
) -> None:
    settings = TRAIN.model_copy(update={"cut": 1.0, "other_background": 1.0})
    windows = Windows(examples.scans, "fine", settings, 4, examples.template)
    for step in range(6):
        window = windows.draw(step % 4, np.random.default_rng(step))
        hidden = window.image[0] == 0
        assert 0.03 < float(hidden.float().mean()) < 0.5
        assert int(window.labels[hidden].sum()) == 0
        assert bool((window.labels[~hidden] > 0).any())


def test_a_doubled_map_is_torchs_own_trilinear_one() -> None:
    maps = torch.rand((2, 3, 4, 6, 5), generator=torch.Generator().manual_seed(1))
    whole = torch.nn.functional.interpolate(maps, scale_factor=2.0, mode="trilinear")
    torch.testing.assert_close(doubled(maps), whole)


def test_examples_come_back_from_their_file(examples: Examples, tmp_path) -> None:  # type: ignore[no-untyped-def]
    save_examples(tmp_path / "examples.npz", examples)
    back = load_examples(tmp_path / "examples.npz")
    assert (back.landmarks, back.labels, back.low) == (LABELS, (1, 2, 3), -200.0)
    for one, other in zip(examples.scans, back.scans, strict=True):
        np.testing.assert_array_equal(one.positions, other.positions)
        np.testing.assert_array_equal(one.fine.image, other.fine.image)
        np.testing.assert_array_equal(one.coarse.labels, other.coarse.labels)
        np.testing.assert_array_equal(one.fine.grid.origin, other.fine.grid.origin)
    (tmp_path / "examples.npz").write_bytes(b"no archive")
    with pytest.raises(InputError, match=r"examples\.npz: cannot be read"):
        load_examples(tmp_path / "examples.npz")


def test_scans_are_held_back_by_fold_or_by_a_share() -> None:
    dealt = deal([f"s{n}" for n in range(10)], 3, seed=1)
    assert sorted(list(dealt.values()).count(fold) for fold in (1, 2, 3)) == [3, 3, 4]
    assert set(deal(["a", "b"], 0, 1).values()) == {0}
    few = gathered(3)
    assert hold_back(few, 0.5, 1) is few
    scans = tuple(replace(few.scans[n % 3], scan=f"s{n}") for n in range(10))
    many = hold_back(replace(few, scans=scans), 0.2, 1)
    assert [len(many.held_back(0)), len(many.learned(0))] == [2, 8]
    assert {example.fold for example in many.held_back(0)} == {VALIDATION}


# Training


def weights_of(networks: torch.nn.ModuleDict) -> list[NDArray[np.float32]]:
    return [value.numpy() for value in networks.state_dict().values()]


def test_a_killed_training_goes_on_and_ends_with_the_same_weights(examples, tmp_path) -> None:  # type: ignore[no-untyped-def]
    torch.set_num_threads(1)
    options = {"settings": TRAIN, "seed": 3, "fold": 0, "device": torch.device("cpu")}
    whole, history = train(examples, "a", checkpoint=tmp_path / "a.npz", **options)
    assert [(epoch.network, epoch.epoch) for epoch in history] == [
        ("coarse", 1), ("coarse", 2), ("fine", 3), ("fine", 4)
    ]  # fmt: skip

    class Killed(BaseException):
        pass

    for stop_after in (1, 2, 3):
        checkpoint = tmp_path / f"killed{stop_after}.npz"

        def tell(name, history, settings, stop=stop_after) -> None:  # type: ignore[no-untyped-def]
            if len(history) == stop + 1:
                raise Killed

        with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
            patch.setattr("landmarkflow.methods.dualhead.train._tell", tell)
            train(examples, "b", checkpoint=checkpoint, **options)
        again, resumed = train(examples, "b", checkpoint=checkpoint, **options)
        assert len(resumed) == 4
        assert [e.train_loss for e in resumed] == [e.train_loss for e in history]
        for one, other in zip(weights_of(whole), weights_of(again), strict=True):
            np.testing.assert_array_equal(one, other)
    (tmp_path / "bad.npz").write_bytes(b"no checkpoint")
    other, _ = train(examples, "c", checkpoint=tmp_path / "bad.npz", **options)
    np.testing.assert_array_equal(weights_of(whole)[0], weights_of(other)[0])


@pytest.mark.parametrize("heads", [("segmentation",), ("landmarks",)])
@pytest.mark.parametrize("loss", ["softmax", "mse", "balls"])
def test_each_head_learns_alone_and_by_each_loss(
    examples: Examples,
    tmp_path,  # type: ignore[no-untyped-def]
    heads: tuple[str, ...],
    loss: str,
) -> None:
    short = {"coarse": COARSE.model_copy(update={"steps": 1})}
    short["fine"] = FINE.model_copy(update={"steps": 1})
    settings = TRAIN.model_copy(update={"heads": heads, "landmark_loss": loss, **short})
    networks, history = train(
        examples, "a", settings=settings, seed=1, fold=0, checkpoint=tmp_path / "a.npz",
        device=torch.device("cpu"),
    )  # fmt: skip
    network = networks["fine"]
    assert isinstance(network, DualHead)
    assert (network.classes, network.landmarks) == ((4, 0) if "landmarks" not in heads else (0, 3))
    assert all(math.isfinite(epoch.train_loss) for epoch in history)


def test_a_loss_that_is_not_finite_is_told(examples: Examples, tmp_path) -> None:  # type: ignore[no-untyped-def]
    settings = TRAIN.model_copy(update={"learning_rate": 1e30})
    with pytest.raises(InputError, match="training diverges: the loss of step"):
        train(
            examples, "a", settings=settings, seed=1, fold=0, checkpoint=tmp_path / "a.npz",
            device=torch.device("cpu"),
        )  # fmt: skip


# Radii and doubts


def test_radii_hold_the_share_of_errors_that_they_say() -> None:
    random = np.random.default_rng(6)

    def scan(number: int) -> Measured:
        widths = random.uniform(0.5, 2.0, 4)
        error = widths * np.array([0.1, 0.2, 0.1, 0.3]) * np.abs(random.normal(0, 1, 4))
        return Measured(f"s{number}", "all", error, widths, np.ones(4))

    held, fixed = [], []
    for _ in range(40):
        measured = [scan(number) for number in range(16)]
        for kept, by_spread in ((held, True), (fixed, False)):
            radii = radii_of(measured, np.zeros(4), CalibrateSettings(by_spread=by_spread))
            radii = Radii.of_data(radii.as_data())
            new = [scan(number) for number in range(50)]
            kept.append(np.mean([one.error <= radii.of_scan(one.spread) for one in new]))
    assert np.mean(held) == pytest.approx(0.9, abs=0.02)
    assert np.mean(fixed) == pytest.approx(0.9, abs=0.02)
    few = radii_of([scan(0), scan(1)], np.zeros(4), CalibrateSettings())
    assert np.isnan(few.of_scan(np.ones(4))).all()
    taught = radii_of([scan(n) for n in range(9)], np.full(4, 3.0), CalibrateSettings())
    assert (taught.of_scan(np.ones(4)) > 3).all()


def test_radii_of_other_groups_say_how_often_radii_hold() -> None:
    random = np.random.default_rng(8)
    spreads = random.uniform(0.5, 2.0, (200, 3))
    errors = spreads * np.abs(random.normal(0, 1, (200, 3)))
    groups = np.arange(200) % 4
    options: dict[str, Any] = {"teacher": np.zeros(3), "coverage": 0.9, "by_spread": True}
    radii = radii_of_others(errors, spreads, groups, **options)
    assert np.mean(errors <= radii) == pytest.approx(0.9, abs=0.03)
    # What is found in a group moves no radius of that group.
    errors[groups == 2] *= 100
    changed = radii_of_others(errors, spreads, groups, **options)
    assert np.array_equal(changed[groups == 2], radii[groups == 2])
    assert not np.array_equal(changed[groups == 1], radii[groups == 1])
    assert np.isnan(radii_of_others(errors, spreads, groups * 0, **options)).all()


def test_pieces_count_as_in_annotated_scans() -> None:
    marked = np.zeros((4, 12, 12, 12), np.float32)
    marked[0] = 0.5
    marked[1, 1:5, 1:5, 1:5] = 1
    # Of the same label far off, and a stray voxel of another label inside the first piece.
    marked[1, 8:11, 8:11, 8:11] = 1
    marked[2, 2, 2, 2] = 2
    marked[2, 8:11, 1:4, 1:4] = 1
    one, second, touches = kept_pieces(marked, (0.0, 0.0, 0.0))
    assert int(one.sum()) == 64 + 27
    assert (second, touches) == (pytest.approx(27 / 63), False)
    two, second, _ = kept_pieces(marked, (0.3, 0.0, 0.0))
    assert int(two.sum()) == 64 + 27 + 27
    assert second == pytest.approx(1 / 27)
    assert not kept_pieces(marked * [[[[1]]], [[[0]]], [[[0]]], [[[0]]]], ())[0].any()


@pytest.fixture
def good(examples: Examples) -> tuple[Found, Statistics, Extent]:
    """An answer beyond doubt, of a scan that shows more than the target."""
    grid = Grid.centred([17, 15, 13], (40, 40, 40), 1.0)
    found = oracle_finder().find(View(bright_scan(grid.centre, grid), 0.0, 1.0))
    places = grid.centre + np.array([[0.0, 0, 0], [3, 0, 0]])
    found = replace(
        found,
        positions=places,
        presence=np.ones(2),
        elsewhere=np.zeros(2),
        apart_mm=np.zeros(2),
        spread_mm=np.ones(2),
    )
    volume = found.volume_mm3
    return found, Statistics(4.0, (volume, volume), ((0, 1, 3.0, 0.2),)), Extent(grid)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"presence": np.array([0.9, 0.2])}, "see B with a probability of 0.20"),
        ({"elsewhere": np.array([0.6, 0.1])}, "heat maps of A have a second peak"),
        ({"apart_mm": np.array([0.1, 2.4])}, "differ by 2.4 mm on B"),
        ({"second_piece": 0.4}, "a label is in pieces: the second is 0.40"),
        ({"volume_mm3": 1.0}, "the segmentation holds 1 mm³"),
        ({"volume_mm3": 0.0}, "no label was found"),
        ({"positions": np.array([[17.0, 15, 13], [22, 15, 13]])}, "A and B are 5.00 mm apart"),
        ({"positions": np.array([[-3.0, 15, 13], [-2.8, 15, 15.99]])}, "border of the scan: A, B"),
        ({"touches": True}, "reaches the border of the fine window"),
    ],
)
def test_each_reason_to_doubt_is_told(
    good: tuple[Found, Statistics, Extent], changed: dict[str, object], said: str
) -> None:
    found, statistics, extent = good
    assert doubts(found, ("A", "B"), statistics, extent, PredictSettings()) == []
    wrong = replace(found, **changed)  # type: ignore[arg-type]
    (reason,) = doubts(wrong, ("A", "B"), statistics, extent, PredictSettings())
    assert said in reason


def test_a_grid_covers_its_box_in_multiples() -> None:
    low, high = np.array([-3.3, 1, 2]), np.array([7.0, 9.1, 30.2])
    grid = covering(low, high, 0.7, 8)
    assert all(count % 8 == 0 for count in grid.size)
    assert (grid.corners.min(axis=0) <= low).all()
    assert (grid.corners.max(axis=0) >= high).all()
    np.testing.assert_allclose(grid.centre, (low + high) / 2)
    assert smooth_balls(grid, np.zeros((3, 3)), RADII).shape == (3, *grid.size[::-1])
