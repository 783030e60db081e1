from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from numpy.typing import NDArray
from phantoms import sampled
from stage_runs import path_of, run_stage
from torch import Tensor, nn

from landmarkflow.core.errors import ScanFailure
from landmarkflow.core.grids import Grid
from landmarkflow.core.records import Record, Step, read_record, write_record
from landmarkflow.formats.written import read_written, write_volume
from landmarkflow.images.operations import array_of, grid_of, image_on
from landmarkflow.methods.oneshot import centre as stage
from landmarkflow.methods.oneshot.centre import Centred, centre, mass_centre
from landmarkflow.methods.oneshot.crops import crop_around
from landmarkflow.methods.oneshot.localiser import Localiser, places_in, predict_joint
from landmarkflow.methods.oneshot.settings import CentreSettings, NetworkSettings
from landmarkflow.methods.oneshot.stages import CENTRE

Points = NDArray[np.float64]

GRID = Grid.centred((-40.0, 25.0, 130.0), (100, 90, 80), 0.5)
TARGET = np.array([-47.3, 21.6, 134.4])
RADIUS = 3.0
TARGET_MM3 = 4 / 3 * np.pi * RADIUS**3
# Bone elsewhere that is too dark for the network, and a place with no bone at all.
DULL, NOWHERE = np.array([-26.0, 33.0, 120.0]), np.array([-28.0, 12.0, 142.0])
SETTINGS = CentreSettings(field_mm=20.0)


class Threshold(nn.Module):
    """Marks in each pixel whether it is brighter than 0.7."""

    def forward(self, slices: Tensor) -> Tensor:
        return (slices - 0.7) * 200


def localiser(pixels: int = 24, spacing: float = 0.5) -> Localiser:
    network = NetworkSettings(window_pixels=pixels, spacing_mm=spacing)
    return Localiser(Threshold(), network, torch.device("cpu"), TARGET_MM3)  # type: ignore[arg-type]


def intensity(points: Points) -> Points:
    values = np.full(len(points), 0.26)
    for position, bright in ((TARGET, 0.95), (DULL, 0.6)):
        depth = RADIUS - np.linalg.norm(points - position, axis=1)
        values += (bright - 0.26) / (1 + np.exp(-np.clip(depth / 0.1, -30, 30)))
    return values


@pytest.fixture(scope="module")
def region() -> sitk.Image:
    torch.set_num_threads(1)
    return sampled(GRID, intensity)


def moves(start: Points, found: Centred) -> list[float]:
    path = np.array([start, *(step.centre for step in found.steps)])
    return list(np.linalg.norm(np.diff(path, axis=0), axis=1))


# One window


def test_the_joint_probability_marks_the_target_at_its_place(region: sitk.Image) -> None:
    joint = predict_joint(region, TARGET + np.array([1.0, -2.0, 0.5]), localiser())
    grid = grid_of(joint)
    np.testing.assert_allclose(grid.centre, TARGET + np.array([1.0, -2.0, 0.5]), atol=1e-9)
    assert grid.size == (24, 24, 24)
    ball = sampled(grid, lambda p: (np.linalg.norm(p - TARGET, axis=1) < RADIUS).astype(np.uint8))
    marked, truth = array_of(joint) > 0.5, array_of(ball) > 0
    assert 2 * (marked & truth).sum() / (marked.sum() + truth.sum()) > 0.9
    assert array_of(joint).sum() * 0.125 == pytest.approx(TARGET_MM3, rel=0.15)


class Ramp(nn.Module):
    """Marks the upper rows and the left columns of a slice in a way that tells them apart."""

    def forward(self, slices: Tensor) -> Tensor:
        pixels = slices.shape[-1]
        rows = torch.linspace(-1, 1, pixels)[None, None, :, None]
        columns = torch.linspace(-1, 1, pixels)[None, None, None, :]
        return (2 * rows + 0.5 * columns).expand_as(slices)


def test_three_views_are_multiplied_along_their_own_axes(region: sitk.Image) -> None:
    seen = Localiser(Ramp(), localiser(16).settings, torch.device("cpu"), 1.0)  # type: ignore[arg-type]
    joint = array_of(predict_joint(region, TARGET, seen))

    def view(down: Points, right: Points) -> Points:
        return 1 / (1 + np.exp(-(2 * down + 0.5 * right)))

    z, y, x = np.meshgrid(*[np.linspace(-1, 1, 16)] * 3, indexing="ij")
    np.testing.assert_allclose(joint, view(y, x) * view(z, x) * view(z, y), rtol=1e-4)


def test_every_other_slice_tells_the_same_where_slices_meet(region: sitk.Image) -> None:
    seen = Localiser(Ramp(), localiser(16).settings, torch.device("cpu"), 1.0)  # type: ignore[arg-type]
    whole, some = (predict_joint(region, TARGET, seen, every) for every in (1, 2))
    np.testing.assert_array_equal(array_of(some), array_of(whole)[::2, ::2, ::2])
    here, there = grid_of(some), grid_of(whole)
    np.testing.assert_allclose(here.to_physical([[3, 5, 1]]), there.to_physical([[6, 10, 2]]))


def test_without_candidates_the_whole_region_is_looked_through(region: sitk.Image) -> None:
    places = places_in(region, localiser())
    assert len(places) == 1
    np.testing.assert_allclose(places[0], TARGET, atol=1.6)
    found = centre(region, np.empty((0, 3)), localiser(), SETTINGS)
    np.testing.assert_allclose(found.steps[-1].centre, TARGET, atol=0.2)


def test_a_region_in_which_nothing_is_marked_fails(region: sitk.Image) -> None:
    dark = image_on(grid_of(region), np.zeros(grid_of(region).size[::-1], dtype=np.float32))
    with pytest.raises(ScanFailure, match=r"marks (nothing|0\.00)"):
        centre(dark, np.empty((0, 3)), localiser(), SETTINGS)


class Counting(Threshold):
    """Remembers how many slices it has seen."""

    seen = 0

    def forward(self, slices: Tensor) -> Tensor:
        self.seen += len(slices)
        return super().forward(slices)


def test_slices_that_cannot_hold_the_target_are_not_looked_at(region: sitk.Image) -> None:
    for place, fewest, most in ((TARGET, 24 + 2 * 11, 24 + 2 * 14), (NOWHERE, 24, 24)):
        network = Counting()
        seen = Localiser(network, localiser().settings, torch.device("cpu"), 1.0)  # type: ignore[arg-type]
        predict_joint(region, place, seen)
        assert fewest <= network.seen <= most


def test_the_mass_centre_weighs_probability_with_intensity() -> None:
    grid = Grid.centred((5.0, -7.0, 9.0), (5, 4, 3), 2.0)
    intensities = np.full((3, 4, 5), 0.5)
    probability = np.zeros((3, 4, 5))
    probability[0, 1, 4], probability[2, 3, 0] = 0.5, 1.0
    intensities[0, 1, 4], intensities[2, 3, 0] = 0.9, 0.3
    found = mass_centre(image_on(grid, probability), image_on(grid, intensities))
    one, other = grid.to_physical([[4, 1, 0], [0, 3, 2]])
    np.testing.assert_allclose(found, (0.45 * one + 0.3 * other) / 0.75, atol=1e-6)


def test_a_mass_of_air_has_no_centre() -> None:
    grid = Grid.centred((0.0, 0.0, 0.0), (4, 4, 4), 1.0)
    air = image_on(grid, np.zeros((4, 4, 4)))
    with pytest.raises(ScanFailure, match="only air"):
        mass_centre(image_on(grid, np.ones((4, 4, 4))), air)


# Iteration


def test_a_window_that_shows_the_whole_target_centres_at_once(region: sitk.Image) -> None:
    start = TARGET + np.array([1.5, -2.0, 1.0])
    found = centre(region, start[None], localiser(), SETTINGS)
    assert found.converged
    assert len(found.steps) == 2
    np.testing.assert_allclose(found.steps[0].centre, TARGET, atol=0.1)
    np.testing.assert_allclose([step.move_mm for step in found.steps], moves(start, found))
    assert found.steps[1].move_mm < SETTINGS.tolerance_mm
    assert found.mass_mm3 == pytest.approx(TARGET_MM3, rel=0.15)


def test_a_window_that_shows_a_part_of_the_target_climbs_onto_it(region: sitk.Image) -> None:
    start = TARGET + np.array([3.0, -3.5, 3.0])
    found = centre(region, start[None], localiser(16), SETTINGS)
    assert found.converged
    assert len(found.steps) > 2
    sizes = [step.move_mm for step in found.steps]
    np.testing.assert_allclose(sizes, moves(start, found))
    assert sizes == sorted(sizes, reverse=True)
    assert all(size >= SETTINGS.tolerance_mm for size in sizes[:-1])
    np.testing.assert_allclose(found.steps[-1].centre, TARGET, atol=0.2)


@pytest.mark.parametrize("spacing", [0.5, 1.0, 0.7])
def test_the_networks_spacing_does_not_move_the_centre(region: sitk.Image, spacing: float) -> None:
    start = TARGET + np.array([1.0, 1.0, -2.0])
    found = centre(region, start[None], localiser(24, spacing), SETTINGS)
    np.testing.assert_allclose(found.steps[-1].centre, TARGET, atol=0.15)


@pytest.mark.parametrize("place", [0, 1, 2])
def test_the_candidate_that_holds_the_target_is_chosen(region: sitk.Image, place: int) -> None:
    candidates = np.insert(
        np.array([DULL, NOWHERE]), place, TARGET + np.array([1.0, 2.0, -1.0]), axis=0
    )
    found = centre(region, candidates, localiser(), SETTINGS)
    assert found.candidate == place
    assert found.candidate_mass_mm3[place] == pytest.approx(TARGET_MM3, rel=0.15)
    assert np.delete(found.candidate_mass_mm3, place).max() < 1.0
    np.testing.assert_allclose(found.steps[-1].centre, TARGET, atol=0.1)


def test_a_second_target_is_a_rival_and_a_second_look_at_one_is_none() -> None:
    def two(points: Points) -> Points:
        beside = RADIUS - 0.4 - np.linalg.norm(points - DULL, axis=1)
        rival = 0.69 / (1 + np.exp(-np.clip(beside / 0.1, -30, 30)))
        return np.maximum(intensity(points), 0.26 + rival)

    places = np.array([DULL + 0.7, TARGET - 1.0, TARGET + 1.3, NOWHERE])
    found = centre(sampled(GRID, two), places, localiser(), SETTINGS)
    np.testing.assert_allclose(found.steps[-1].centre, TARGET, atol=0.1)
    assert found.candidate in (1, 2)
    (rival,) = found.rivals
    np.testing.assert_allclose(rival, DULL, atol=0.1)
    alone = centre(sampled(GRID, intensity), places, localiser(), SETTINGS)
    assert alone.rivals == ()
    np.testing.assert_array_equal(alone.steps[-1].centre, found.steps[-1].centre)


def test_not_converged_is_said_when_iterations_run_out(region: sitk.Image) -> None:
    start = TARGET + np.array([3.0, -3.5, 3.0])
    one = SETTINGS.model_copy(update={"iterations": 1})
    found = centre(region, start[None], localiser(16), one)
    assert not found.converged
    assert len(found.steps) == 1
    # The crop and the probability are of the last centre all the same.
    np.testing.assert_allclose(grid_of(found.probability).centre, found.steps[0].centre)
    np.testing.assert_allclose(grid_of(found.crop).centre, found.steps[0].centre, atol=0.51)


@pytest.mark.parametrize("candidates", [NOWHERE[None], np.array([NOWHERE, DULL])])
def test_no_target_is_a_failure_with_both_masses(region: sitk.Image, candidates: Points) -> None:
    with pytest.raises(ScanFailure) as failure:
        centre(region, candidates, localiser(), SETTINGS)
    message = str(failure.value)
    assert f"best of {len(candidates)} candidate" in message
    assert f"0.1 of the template's {TARGET_MM3:.1f} mm³" in message


def test_the_least_mass_decides(region: sitk.Image) -> None:
    beside = (TARGET + np.array([5.0, 0.0, 0.0]))[None]
    seen = localiser(16)
    mass = centre(
        region, beside, seen, SETTINGS.model_copy(update={"least_mass": 0.0, "iterations": 1})
    ).candidate_mass_mm3[0]
    assert 1.0 < mass < 0.5 * TARGET_MM3
    enough = mass / TARGET_MM3
    for factor, fails in ((1.02, True), (0.98, False)):
        strict = SETTINGS.model_copy(update={"least_mass": enough * factor})
        if fails:
            with pytest.raises(ScanFailure):
                centre(region, beside, seen, strict)
        else:
            assert centre(region, beside, seen, strict).converged


# The crop


@pytest.mark.parametrize(
    "position",
    [TARGET, GRID.corners[0], GRID.corners[-1], GRID.centre + np.array([0.0, 30.0, 0.0])],
    ids=["inside", "first corner", "last corner", "beyond a face"],
)
def test_a_crop_keeps_every_voxel_at_its_place_and_is_air_beyond(
    region: sitk.Image, position: Points
) -> None:
    crop = crop_around(region, position, 15.2)
    grid = grid_of(crop)
    # 15.2 mm are 31 voxels.
    assert grid.size == (31, 31, 31)
    np.testing.assert_allclose(grid.centre, position, atol=0.51)
    index = np.argwhere(np.ones(crop.GetSize()))
    there = np.round(GRID.to_index(grid.to_physical(index))).astype(int)
    np.testing.assert_allclose(GRID.to_physical(there), grid.to_physical(index), atol=1e-9)
    inside = ((there >= 0) & (there < np.array(GRID.size))).all(axis=1)
    found = array_of(crop)[tuple(index[:, ::-1].T)]
    np.testing.assert_array_equal(found[inside], array_of(region)[tuple(there[inside][:, ::-1].T)])
    assert not found[~inside].any()
    assert inside.any()


def test_a_crop_far_away_is_all_air(region: sitk.Image) -> None:
    crop = crop_around(region, GRID.centre + 60.0, 10.0)
    np.testing.assert_allclose(grid_of(crop).centre, GRID.centre + 60.0, atol=0.51)
    assert not array_of(crop).any()


def test_the_final_crop_lies_around_the_target(region: sitk.Image) -> None:
    found = centre(region, (TARGET + np.array([1.0, 2.0, -1.0]))[None], localiser(), SETTINGS)
    grid = grid_of(found.crop)
    assert grid.size == (40, 40, 40)
    np.testing.assert_allclose(grid.centre, found.steps[-1].centre, atol=0.51)
    shown = sampled(grid, intensity)
    np.testing.assert_allclose(array_of(found.crop), array_of(shown), atol=1e-5)


# The stage


def run(
    folder: Path, region: sitk.Image, candidate: Points, monkeypatch: pytest.MonkeyPatch
) -> Record:
    """Centre a scan with the network of these tests and at most two iterations."""
    monkeypatch.setattr(stage, "load_network", lambda *_: (Threshold(), TARGET_MM3))
    monkeypatch.setattr(stage, "folded", lambda network: network)
    write_volume(region, path_of(folder, CENTRE, "region", "a"))
    details = {"candidates": [{"centre": candidate.tolist(), "mass_mm3": 1.0}]}
    located = path_of(folder, CENTRE, "locate_record", "a")
    write_record(located, Record("a", "locate", details=details))
    network = {"network": localiser(16).settings.model_dump()}
    settings = {"centre": SETTINGS.model_copy(update={"iterations": 2}), "train": network}
    assert run_stage(CENTRE, folder, ["a"], settings=settings).status == 0
    return read_record(path_of(folder, CENTRE, "record", "a"))


def test_a_scan_is_centred_and_says_how(
    region: sitk.Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = run(tmp_path, region, TARGET + 0.5, monkeypatch)
    assert record == Record("a", "centre", details=record.details, earlier=(Step("locate"),))
    np.testing.assert_allclose(record.details["steps"][-1]["centre"], TARGET, atol=0.2)
    assert record.details["device"]
    assert record.details["rivals"] == []
    crop = read_written(path_of(tmp_path, CENTRE, "centred", "a"))
    np.testing.assert_allclose(grid_of(crop).centre, TARGET, atol=0.51)
    assert path_of(tmp_path, CENTRE, "probability", "a").stat().st_size > 0


def test_a_scan_whose_centre_still_moves_is_doubtful_and_one_without_target_fails(
    region: sitk.Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    doubtful = run(tmp_path, region, TARGET + np.array([3.0, -3.5, 3.0]), monkeypatch)
    assert doubtful.status == "doubtful"
    move = doubtful.details["steps"][-1]["move_mm"]
    assert doubtful.reason == (
        f"not converged after 2 iterations; the last moved the centre by {move:.2f} mm"
    )
    failed = run(tmp_path, region, NOWHERE, monkeypatch)
    assert failed.status == "failed"
    assert "mm³ of target around the best of 1 candidate regions" in str(failed.reason)
    assert path_of(tmp_path, CENTRE, "centred", "a").stat().st_size == 0
