import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from numpy.typing import NDArray
from phantoms import sampled
from scipy.spatial.transform import Rotation
from stage_runs import Outcome, assert_refused, path_of, run_stage

from landmarkflow.core.errors import InputError
from landmarkflow.core.files import read_json
from landmarkflow.core.grids import Grid
from landmarkflow.core.records import TEMPLATE, Record, write_record
from landmarkflow.formats.written import write_volume
from landmarkflow.images.operations import array_of, image_on
from landmarkflow.images.sampling import resample
from landmarkflow.methods.oneshot.network import load_network, predict_slices
from landmarkflow.methods.oneshot.settings import NetworkSettings, TrainSettings
from landmarkflow.methods.oneshot.stages import TRAIN
from landmarkflow.methods.oneshot.train import (
    PLANES,
    TARGET_SHARE,
    Pose,
    SliceSampler,
    Training,
    learning_rate,
    random_pose,
    random_rotation,
    train,
    training_loss,
)

Points = NDArray[np.float64]

CPU = torch.device("cpu")
NETWORK = NetworkSettings(window_pixels=16, spacing_mm=1.0, channels=6, levels=2)
SETTINGS = TrainSettings(
    network=NETWORK,
    transforms_per_batch=2,
    slices_per_axis=2,
    batches_per_epoch=10,
    epochs=6,
    validation_transforms=3,
    learning_rate=0.01,
)
THOROUGH = SETTINGS.model_copy(
    update={
        "network": NETWORK.model_copy(update={"channels": 12}),
        "slices_per_axis": 4,
        "batches_per_epoch": 20,
        "translation_mm": 2.0,
        "learning_rate": 0.005,
    }
)
GRID = Grid.centred((-35.0, 14.0, 90.0), (44, 40, 48), 0.5)
CENTRE = np.array([-34.0, 13.0, 91.0])
TILT = Rotation.from_euler("xyz", [20, -50, 130], degrees=True).as_matrix()
POSES = {
    "upright": Pose(CENTRE, np.eye(3)),
    "turned": Pose(CENTRE, TILT),
    "mirrored": Pose(CENTRE, np.diag([-1.0, 1.0, 1.0])),
    "turned, mirrored, larger": Pose(CENTRE, 1.1 * TILT @ np.diag([-1.0, 1.0, 1.0])),
}


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> None:
    torch.set_num_threads(1)


def ball(points: Points) -> NDArray[np.uint8]:
    return (np.linalg.norm(points - CENTRE, axis=1) < 3.5).astype(np.uint8)


def toy() -> sitk.Image:
    """The target is bright and round; a rod of the same brightness is not the target."""

    def intensity(p: Points) -> Points:
        rod = np.linalg.norm(p[:, :2] - CENTRE[:2] - [6.0, -5.0], axis=1) < 1.2
        texture = 0.05 * np.sin(1.3 * p[:, 0]) * np.sin(1.7 * p[:, 1])
        return 0.3 + texture + 0.5 * np.maximum(ball(p), rod)

    return sampled(GRID, intensity)


def sampler(scan: sitk.Image, spacing: float = 0.5, **more: object) -> SliceSampler:
    network = NETWORK.model_copy(update={"spacing_mm": spacing})
    settings = SETTINGS.model_copy(update={"network": network, **more})
    return SliceSampler(scan, sampled(GRID, ball), settings, CPU)


# Slices


def slice_points(pose: Pose, axis: int, offsets: Points, spacing: float) -> Points:
    """(n, pixels, pixels, 3) LPS mm: where the pixels of slices across an axis lie."""
    steps = (np.arange(16) - 7.5) * spacing
    # The order of an array is z, y, x: what is left of it without the slices' own axis.
    rows, columns = (other for other in (2, 1, 0) if other != axis)
    points = np.empty((len(offsets), 16, 16, 3))
    for n, offset in enumerate(offsets):
        for i, down in enumerate(steps):
            for j, right in enumerate(steps):
                u = np.zeros(3)
                u[[axis, rows, columns]] = offset, down, right
                points[n, i, j] = pose.centre + pose.linear @ u
    return points


@pytest.mark.parametrize("pose", POSES.values(), ids=POSES.keys())
@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("spacing", [0.5, 0.9])
def test_pixels_lie_where_the_pose_puts_them(pose: Pose, axis: int, spacing: float) -> None:
    offsets = np.array([-2.5, 0.0, 1.7])
    expected = slice_points(pose, axis, offsets, spacing)
    inside = GRID.contains((1.0 * (expected - GRID.centre) * 1.15 + GRID.centre).reshape(-1, 3))
    inside = inside.reshape(expected.shape[:3])
    assert inside.mean() > 0.5
    for coordinate in range(3):
        # Voxels hold one of their own coordinates, which interpolation keeps.
        encoded = sampled(GRID, lambda p, c=coordinate: (p[:, c] + 50.0) / 200.0)
        images, _ = sampler(encoded, spacing).cut(pose, axis, offsets)
        assert images.shape == (3, 1, 16, 16)
        found = images[:, 0].numpy() * 200.0 - 50.0
        np.testing.assert_allclose(found[inside], expected[..., coordinate][inside], atol=2e-3)


@pytest.mark.parametrize("axis", range(3))
def test_the_network_is_trained_on_slices_as_it_will_see_them(axis: int) -> None:
    grid = Grid.centred(CENTRE, (16, 16, 16), 0.5)
    window = array_of(resample(toy(), grid))
    offsets = (np.arange(16) - 7.5) * 0.5
    images, _ = sampler(toy()).cut(POSES["upright"], axis, offsets)
    np.testing.assert_allclose(images[:, 0], np.moveaxis(window, 2 - axis, 0), atol=1e-4)


@pytest.mark.parametrize("pose", POSES.values(), ids=POSES.keys())
def test_the_target_stays_with_the_image(pose: Pose) -> None:
    mask = sitk.Cast(sampled(GRID, ball), sitk.sitkFloat32)
    for axis in PLANES:
        images, targets = sampler(mask).cut(pose, axis, np.linspace(-3, 3, 7))
        assert targets.sum() > 100
        np.testing.assert_array_equal((images > TARGET_SHARE).float(), targets)
        assert set(np.unique(targets)) == {0.0, 1.0}


def test_beyond_the_scan_there_is_air_and_no_target() -> None:
    far = Pose(GRID.centre + 40.0, np.eye(3))
    images, targets = sampler(toy()).cut(far, 0, np.zeros(1))
    assert not images.any()
    assert not targets.any()


def test_the_sampler_knows_the_targets_centre_and_volume() -> None:
    one = sampler(toy())
    np.testing.assert_allclose(one.target_centre, CENTRE, atol=0.01)
    assert one.target_mm3 == pytest.approx(4 / 3 * np.pi * 3.5**3, rel=0.03)


def test_a_target_thinner_than_a_pixel_stays_whole() -> None:
    def plate(p: Points) -> NDArray[np.uint8]:
        return ((np.abs(p - CENTRE)[:, 1:] < 4).all(axis=1) & (p[:, 0] == -34.25)).astype(np.uint8)

    one = SliceSampler(toy(), sampled(GRID, plate), SETTINGS, CPU)
    assert one.target_centre[0] == pytest.approx(-34.25, abs=0.5)
    pose = Pose(one.target_centre, np.eye(3))
    _, targets = one.cut(pose, 0, np.zeros(1))
    assert targets.sum() == pytest.approx(64, abs=8)


def test_a_target_outside_the_region_is_refused() -> None:
    nothing = image_on(GRID, np.zeros(GRID.size[::-1], dtype=np.uint8))
    with pytest.raises(InputError, match="outside the region located in the template"):
        SliceSampler(toy(), nothing, SETTINGS, CPU)


# Transforms


@pytest.mark.parametrize("degrees", [0.0, 15.0, 120.0, 180.0])
def test_rotations_are_proper(degrees: float) -> None:
    random = np.random.default_rng(0)
    for _ in range(50):
        rotation = random_rotation(degrees, random)
        np.testing.assert_allclose(rotation.T @ rotation, np.eye(3), atol=1e-9)
        assert np.linalg.det(rotation) == pytest.approx(1.0)


def rotations(degrees: float, count: int) -> Points:
    random = np.random.default_rng(1)
    return np.array([random_rotation(degrees, random) for _ in range(count)])


def test_180_degrees_is_every_orientation_alike() -> None:
    drawn = rotations(180.0, 20_000)
    trace = np.trace(drawn, axis1=1, axis2=2)
    # The angle of a uniform rotation has the density (1 - cos) / pi; trace = 1 + 2 cos.
    assert trace.mean() == pytest.approx(0.0, abs=0.03)
    assert trace.var() == pytest.approx(1.0, abs=0.03)
    angle = np.arccos(np.clip((trace - 1) / 2, -1, 1))
    assert np.mean(angle < np.pi / 2) == pytest.approx((np.pi / 2 - 1) / np.pi, abs=0.015)
    np.testing.assert_allclose(drawn.mean(axis=0), np.zeros((3, 3)), atol=0.02)
    np.testing.assert_allclose((drawn**2).mean(axis=0), np.full((3, 3), 1 / 3), atol=0.02)


def test_degrees_are_the_deviation_about_each_axis() -> None:
    vectors = Rotation.from_matrix(rotations(15.0, 5000)).as_rotvec(degrees=True)
    np.testing.assert_allclose(vectors.std(axis=0), [15, 15, 15], atol=0.7)
    np.testing.assert_allclose(vectors.mean(axis=0), [0, 0, 0], atol=0.8)
    assert np.abs(np.corrcoef(vectors.T) - np.eye(3)).max() < 0.06
    np.testing.assert_allclose(rotations(0.0, 1)[0], np.eye(3), atol=1e-9)


def test_poses_have_their_ranges() -> None:
    one = sampler(toy(), elsewhere=0.25, scale=0.1, translation_mm=0.5, rotation_degrees=15.0)
    random = np.random.default_rng(2)
    poses = [random_pose(one, random) for _ in range(2000)]
    volumes = np.array([np.linalg.det(pose.linear) for pose in poses])
    assert np.mean(volumes < 0) == pytest.approx(0.5, abs=0.05)
    sizes = np.cbrt(np.abs(volumes))
    assert 0.9 <= sizes.min() < 0.91
    assert 1.09 < sizes.max() <= 1.1
    apart = np.array([np.linalg.norm(pose.centre - CENTRE) for pose in poses])
    assert np.mean(apart > 2.5) == pytest.approx(0.25, abs=0.04)
    assert one.grid.contains(np.array([pose.centre for pose in poses])).all()


def test_without_mirroring_every_pose_keeps_its_hand() -> None:
    one = sampler(toy(), mirror=False)
    random = np.random.default_rng(3)
    assert all(np.linalg.det(random_pose(one, random).linear) > 0 for _ in range(50))


# Training


def trained(settings: TrainSettings = SETTINGS, seed: int = 1) -> Training:
    return train(toy(), sampled(GRID, ball), settings, seed, CPU)


@pytest.fixture(scope="module")
def learnt() -> Training:
    return trained(THOROUGH)


def test_a_ball_is_learnt_and_the_rod_is_not(learnt: Training) -> None:
    assert learnt.epochs[learnt.best_epoch - 1].validation_dice > 0.7
    assert learnt.epochs[-1].train_loss < 0.5 * learnt.epochs[0].train_loss
    grid = Grid.centred(CENTRE, (16, 16, 16), 1.0)
    # Slices across z show the rod as a disc.
    window = array_of(resample(toy(), grid))
    marked = predict_slices(learnt.network, window, CPU) > 0.5
    truth = array_of(sampled(grid, ball)) > 0
    assert 2 * (marked & truth).sum() / (marked.sum() + truth.sum()) > 0.7


def test_the_history_is_one_row_an_epoch(learnt: Training) -> None:
    assert [row.epoch for row in learnt.epochs] == [1, 2, 3, 4, 5, 6]
    assert learnt.best_epoch == 1 + int(np.argmin([e.validation_loss for e in learnt.epochs]))
    assert learnt.target_mm3 == sampler(toy(), spacing=1.0).target_mm3
    assert not learnt.network.training


def weights(training: Training) -> dict[str, NDArray[np.float32]]:
    return {name: value.numpy() for name, value in training.network.state_dict().items()}


def test_one_seed_gives_one_network_bit_for_bit() -> None:
    short = SETTINGS.model_copy(update={"epochs": 2, "batches_per_epoch": 3})
    one, same, other = trained(short), trained(short), trained(short, seed=2)
    for name, value in weights(one).items():
        np.testing.assert_array_equal(value, weights(same)[name])
    assert [replace(row, seconds=0) for row in one.epochs] == [
        replace(row, seconds=0) for row in same.epochs
    ]
    assert not np.array_equal(weights(one)["last.weight"], weights(other)["last.weight"])


def test_the_best_epochs_weights_are_kept() -> None:
    # At this rate losses jump, so the last epoch is not the best.
    wild = SETTINGS.model_copy(
        update={"learning_rate": 0.5, "learning_rate_decay": "none", "batches_per_epoch": 3}
    )
    for seed in range(1, 6):
        whole = trained(wild, seed)
        if whole.best_epoch < len(whole.epochs):
            break
    assert whole.best_epoch < len(whole.epochs)
    assert whole.converged
    cut_short = wild.model_copy(update={"epochs": whole.best_epoch})
    for name, value in weights(trained(cut_short, seed)).items():
        np.testing.assert_array_equal(value, weights(whole)[name])


def test_training_stops_when_nothing_gets_better() -> None:
    update = {"learning_rate": 0.5, "batches_per_epoch": 2, "epochs": 40, "patience": 2}
    found = trained(SETTINGS.model_copy(update={**update, "learning_rate_decay": "none"}))
    assert len(found.epochs) == found.best_epoch + 2 < 40


def test_a_diverging_training_is_refused() -> None:
    hopeless = SETTINGS.model_copy(update={"learning_rate": 1e30, "learning_rate_decay": "none"})
    with pytest.raises(InputError, match=r"training diverges.*`learning_rate` 1e\+30"):
        trained(hopeless)


@pytest.mark.parametrize("epoch", [1, 2, 7])
def test_the_papers_rate_is_the_initial_one_over_the_epoch(epoch: int) -> None:
    paper = SETTINGS.model_copy(update={"learning_rate": 0.1, "learning_rate_decay": "paper"})
    assert learning_rate(epoch, paper) == pytest.approx(0.1 / epoch)
    assert learning_rate(epoch, paper.model_copy(update={"learning_rate_decay": "none"})) == 0.1


def test_the_cosine_falls_from_the_initial_rate_to_almost_nothing() -> None:
    cosine = SETTINGS.model_copy(update={"learning_rate": 0.1, "epochs": 20})
    rates = [learning_rate(epoch, cosine) for epoch in range(1, 21)]
    assert rates[0] == pytest.approx(0.1)
    assert rates == sorted(rates, reverse=True)
    assert 0.0 < rates[-1] < 0.005


def test_each_epoch_has_its_rate(learnt: Training) -> None:
    for row in learnt.epochs:
        assert row.learning_rate == learning_rate(row.epoch, THOROUGH)


def test_marking_nothing_is_almost_good_by_cross_entropy_and_bad_by_dice() -> None:
    targets = torch.zeros(4, 1, 50, 50)
    targets[:, :, 20:22, 20:25] = 1
    nothing, right = torch.full(targets.shape, -6.0), 40 * targets - 20
    entropy = SETTINGS.model_copy(update={"loss": "cross_entropy"})
    both = SETTINGS.model_copy(update={"loss": "cross_entropy_and_dice"})
    assert float(training_loss(nothing, targets, entropy)) < 0.05
    assert float(training_loss(nothing, targets, both)) > 0.9
    for settings in (entropy, both):
        assert float(training_loss(right, targets, settings)) < 0.03


def test_dice_is_of_the_whole_batch_so_that_slices_without_target_count_little() -> None:
    targets = torch.zeros(2, 1, 50, 50)
    targets[0, :, 10:20, 10:20] = 1
    both = SETTINGS.model_copy(update={"loss": "cross_entropy_and_dice"})
    assert float(training_loss(40 * targets - 20, targets, both)) < 0.01


# The stage


def run(folder: Path, settings: TrainSettings, record: Record | None = None) -> Outcome:
    write_volume(toy(), path_of(folder, TRAIN, "template_region"))
    labels = sampled(GRID, lambda p: 3 * ball(p) + 2 * (1 - ball(p)))
    write_volume(labels, path_of(folder, TRAIN, "template_target"))
    located = path_of(folder, TRAIN, "template_locate_record")
    write_record(located, record or Record(TEMPLATE, "locate"))
    return run_stage(TRAIN, folder, settings={"train": settings, "labels": [3]})


def test_a_network_is_trained_on_the_labels_asked_for_and_its_history_is_told(
    tmp_path: Path,
) -> None:
    short = THOROUGH.model_copy(update={"epochs": 2, "least_dice": 0.0})
    done = run(tmp_path, short)
    assert done.status == 0, done.stderr
    network, target_mm3 = load_network(path_of(tmp_path, TRAIN, "weights"), short.network)
    expected = trained(short)
    assert target_mm3 == pytest.approx(expected.target_mm3)
    for name, value in network.state_dict().items():
        np.testing.assert_allclose(value, weights(expected)[name], atol=1e-3)
    with path_of(tmp_path, TRAIN, "history").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert float(rows[1]["train_loss"]) == pytest.approx(expected.epochs[1].train_loss, rel=1e-3)
    made = read_json(path_of(tmp_path, TRAIN, "training"))
    assert {"seed": 1, "threads": 1, "best_epoch": expected.best_epoch}.items() <= made.items()
    assert made["settings"] == short.model_dump(mode="json")
    assert made["device"]


def test_a_training_that_finds_nothing_is_refused(tmp_path: Path) -> None:
    hopeless = SETTINGS.model_copy(
        update={"epochs": 1, "batches_per_epoch": 1, "learning_rate": 1e-9}
    )
    assert_refused(run(tmp_path, hopeless), "ends at a Dice coefficient of 0.0")
    assert not path_of(tmp_path, TRAIN, "weights").exists()


def test_nothing_is_trained_where_no_scan_can_be_used(tmp_path: Path) -> None:
    results = tmp_path / "results"
    short = THOROUGH.model_copy(update={"epochs": 1, "least_dice": 0.0})
    images = {name: tmp_path / f"mine/{name}.nii.gz" for name in ("cut", "air", "absent")}
    write_volume(
        image_on(GRID, np.arange(np.prod(GRID.size)).reshape(GRID.size[::-1]) % 3), images["air"]
    )
    write_volume(toy(), images["cut"])
    images["cut"].write_bytes(images["cut"].read_bytes()[:400])
    lines = ["scan\timage\tsplit", *(f"{name}\t{path}\t" for name, path in images.items())]
    results.mkdir()
    sheet = results / "samples.tsv"
    sheet.write_text("\n".join([*lines, f"learned\t{images['air']}\ttrain"]) + "\n")
    done = run(results, short)
    said = [f"none of the study's 3 scans can be used: cut: {images['cut']}: ", "; air: found no"]
    assert_refused(done, *said, f"; absent: {images['absent']}: ")
    assert not path_of(results, TRAIN, "weights").exists()
    # What the workflow makes itself counts as usable.
    sheet.write_text("\n".join([*lines, f"made\t{results}/work/data/scans/made.nii.gz\t"]))
    assert run(results, short).status == 0


def test_a_template_in_which_nothing_was_located_stops_the_study(tmp_path: Path) -> None:
    failed = Record(TEMPLATE, "locate", "failed", "no dense bone")
    assert_refused(run(tmp_path, SETTINGS, failed), "template: locate failed: no dense bone")
