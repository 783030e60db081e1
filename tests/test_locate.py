from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray
from phantoms import sampled
from scipy.spatial.transform import Rotation
from stage_runs import Outcome, assert_refused, path_of, run_stage

from landmarkflow.core.errors import ScanFailure
from landmarkflow.core.grids import Grid
from landmarkflow.core.records import TEMPLATE, Record, read_record
from landmarkflow.formats.written import read_written, write_volume
from landmarkflow.images.operations import array_of, grid_of
from landmarkflow.images.sampling import resample
from landmarkflow.methods.oneshot.locate import Region, find_candidates, locate
from landmarkflow.methods.oneshot.normalise import normalise
from landmarkflow.methods.oneshot.settings import LocateSettings, NormaliseSettings
from landmarkflow.methods.oneshot.stages import LOCATE

Points = NDArray[np.float64]

SCAN_GRID = Grid(
    (110, 100, 50),
    np.array([0.5, 0.6, 1.0]),
    np.array([-80.0, 35.0, -120.0]),
    Rotation.from_euler("xyz", [12, -20, 30], degrees=True).as_matrix() @ np.diag([-1.0, 1, 1]),
)
# Continuous voxel index and radius (mm) of two dense balls.
LARGE = SCAN_GRID.to_physical([[32.3, 60.7, 24.2]])[0], 4.5
SMALL = SCAN_GRID.to_physical([[82.6, 38.1, 27.4]])[0], 3.6
SETTINGS = LocateSettings(method="mixture", spacing_mm=0.5, field_mm=16.0)
INTENSITIES = NormaliseSettings(method="hu")


def head(points: Points, balls: tuple[tuple[Points, float], ...]) -> Points:
    """Soft tissue with dense balls in it, HU, their edges one mm wide."""
    values = np.full(len(points), 40.0)
    for centre, radius in balls:
        depth = radius - np.linalg.norm(points - centre, axis=1)
        values = np.maximum(values, 40 + 1960 / (1 + np.exp(-np.clip(depth / 0.25, -30, 30))))
    return values


def hounsfield(*balls: tuple[Points, float]) -> sitk.Image:
    random = np.random.default_rng(0)
    return sampled(SCAN_GRID, lambda p: head(p, balls) + random.normal(0, 20, len(p)))


def scan(*balls: tuple[Points, float]) -> sitk.Image:
    return normalise(hounsfield(*balls), INTENSITIES)


@pytest.fixture(scope="module")
def region() -> Region:
    return locate(scan(SMALL, LARGE), SETTINGS, INTENSITIES)


def test_dense_balls_are_found_where_they_lie_the_heaviest_first(region: Region) -> None:
    assert len(region.candidates) == 2
    for candidate, (centre, radius) in zip(region.candidates, (LARGE, SMALL), strict=True):
        np.testing.assert_allclose(candidate.centre, centre, atol=0.1)
        whole = 4 / 3 * np.pi * radius**3 * (2000 + 1024) / 4024
        # Blurring to the search spacing takes the balls' rims from the dense component.
        assert 0.3 * whole < candidate.mass_mm3 < whole


def test_mass_is_probability_times_intensity_in_cubic_millimetres() -> None:
    image = scan(LARGE)
    found = locate(image, SETTINGS, INTENSITIES)
    around = resample(image, Grid.centred(LARGE[0], (16, 16, 16), 1.0))
    probability = found.mixture.dense_probability(array_of(around).astype(float))
    assert found.candidates[0].mass_mm3 == pytest.approx(0.75 * probability.sum(), rel=0.05)


def test_the_centre_of_the_whole_is_the_candidates_common_centre(region: Region) -> None:
    masses = np.array([candidate.mass_mm3 for candidate in region.candidates])
    centres = np.array([candidate.centre for candidate in region.candidates])
    np.testing.assert_allclose(region.centre, masses @ centres / masses.sum(), atol=0.3)


def test_the_crop_reaches_around_all_candidates_on_the_working_grid(region: Region) -> None:
    grid = grid_of(region.crop)
    np.testing.assert_array_equal(grid.direction, np.eye(3))
    np.testing.assert_array_equal(grid.spacing, [0.5, 0.5, 0.5])
    for candidate in region.candidates:
        corners = np.array(candidate.centre) + 7.5 * np.array([[1, 1, 1], [-1, -1, -1]])
        assert grid.contains(corners).all()
    span = np.ptp([candidate.centre for candidate in region.candidates], axis=0) + 16.0
    np.testing.assert_allclose(np.array(grid.size) * 0.5, span, atol=0.5)


def test_the_crop_shows_around_each_candidate_what_the_scan_shows_there(region: Region) -> None:
    index = np.argwhere(array_of(region.crop) > -1)[::97]
    points = grid_of(region.crop).to_physical(index[:, ::-1].astype(float))
    inside = (
        np.abs(SCAN_GRID.to_index(points) - np.array(SCAN_GRID.size) / 2)
        < np.array(SCAN_GRID.size) / 2 - 2
    ).all(axis=1)
    away = np.min([np.abs(points - c.centre).max(axis=1) for c in region.candidates], axis=0)
    inside &= away < SETTINGS.field_mm / 2
    found = array_of(region.crop)[tuple(index[inside].T)]
    expected = (head(points[inside], (LARGE, SMALL)) + 1024) / 4024
    assert inside.sum() > 500
    assert expected.max() > 0.7
    # Linear interpolation between voxels of 1 mm cuts the balls' edges.
    np.testing.assert_allclose(found, expected, atol=0.2)
    assert np.corrcoef(found, expected)[0, 1] > 0.99
    beyond = away > SETTINGS.field_mm / 2 + 1
    assert beyond.sum() > 500
    assert not array_of(region.crop)[tuple(index[beyond].T)].any()


def test_the_crop_stays_within_the_scan() -> None:
    corner = SCAN_GRID.to_physical([[8.0, 50.0, 25.0]])[0]
    found = locate(scan((corner, 3.5)), SETTINGS, INTENSITIES)
    assert len(found.candidates) == 1
    np.testing.assert_allclose(found.centre, corner, atol=0.15)
    lowest, highest = grid_of(found.crop).corners[[0, -1]]
    assert (lowest >= SCAN_GRID.corners.min(axis=0) - 0.5).all()
    assert (highest <= SCAN_GRID.corners.max(axis=0) + 0.5).all()


def test_the_orientation_of_the_scans_voxels_does_not_matter(region: Region) -> None:
    turned = sitk.DICOMOrient(scan(SMALL, LARGE), "RIA")
    found = locate(turned, SETTINGS, INTENSITIES)
    for one, other in zip(found.candidates, region.candidates, strict=True):
        np.testing.assert_allclose(one.centre, other.centre, atol=1e-3)
    again = resample(found.crop, grid_of(region.crop))
    assert np.abs(array_of(again) - array_of(region.crop))[2:-2, 2:-2, 2:-2].max() < 0.02


def test_a_scan_without_dense_bone_fails_with_a_reason() -> None:
    with pytest.raises(ScanFailure, match="no voxel of the dense component"):
        locate(scan(), SETTINGS, INTENSITIES)


# Candidates among known masses

GRID = Grid.centred((10.0, -20.0, 30.0), (60, 50, 40), 1.0)


def masses(*blocks: tuple[tuple[int, int, int], float]) -> NDArray[np.float64]:
    """Blocks of three voxels a side around x, y, z indices, each with its mass in mm³."""
    mass = np.zeros(GRID.size[::-1])
    for (x, y, z), total in blocks:
        mass[z - 1 : z + 2, y - 1 : y + 2, x - 1 : x + 2] += total / 27
    return mass


def found(
    *blocks: tuple[tuple[int, int, int], float], settings: LocateSettings = SETTINGS
) -> list[tuple[Points, float]]:
    return [
        (GRID.to_index([candidate.centre])[0], candidate.mass_mm3)
        for candidate in find_candidates(masses(*blocks), GRID, settings)
    ]


def test_candidates_have_the_blocks_centres_and_masses() -> None:
    (heavy, heavy_mass), (light, light_mass) = found(((15, 20, 10), 40.0), ((45, 30, 25), 100.0))
    np.testing.assert_allclose(heavy, [45, 30, 25], atol=1e-9)
    np.testing.assert_allclose(light, [15, 20, 10], atol=1e-9)
    assert (heavy_mass, light_mass) == (pytest.approx(100), pytest.approx(40))


def test_a_mass_counts_the_voxels_volume() -> None:
    half = Grid.centred((0.0, 0.0, 0.0), GRID.size, 0.5)
    (one,) = find_candidates(masses(((30, 25, 20), 80.0)), half, SETTINGS)
    assert one.mass_mm3 == pytest.approx(80.0 / 8)


def test_weak_candidates_are_left_out() -> None:
    # They lie closer together than a region is wide.
    blocks = ((38, 24, 18), 19.0), ((45, 30, 25), 100.0)
    assert len(found(*blocks)) == 1
    weaker = SETTINGS.model_copy(update={"weakest_candidate": 0.1})
    assert len(found(*blocks, settings=weaker)) == 2


def test_a_region_far_away_is_a_candidate_though_weak_or_one_too_many() -> None:
    # Of a head one ear may be far denser than the other.
    heavy, near, far = ((12, 24, 18), 100.0), ((20, 30, 18), 19.0), ((45, 24, 18), 19.0)
    assert [mass for _, mass in found(heavy, near, far)] == [pytest.approx(m) for m in (100, 19)]
    one = SETTINGS.model_copy(update={"candidates": 1})
    for settings in (SETTINGS, one):
        np.testing.assert_allclose(found(heavy, near, far, settings=settings)[1][0], [45, 24, 18])
    assert len(found(heavy, ((45, 24, 18), 9.0))) == 1


def test_neighbours_within_the_targets_radius_are_one_candidate() -> None:
    assert len(found(((30, 20, 20), 50.0), ((35, 20, 20), 50.0))) == 1
    assert len(found(((30, 20, 20), 50.0), ((43, 20, 20), 50.0))) == 2


def test_there_are_no_more_candidates_than_asked_for() -> None:
    blocks = [((12 + 18 * n, 20, 20), 50.0 + n) for n in range(3)]
    one = SETTINGS.model_copy(update={"candidates": 1})
    assert len(found(*blocks)) == 3
    assert found(*blocks, settings=one)[0][1] == pytest.approx(52.0)


def test_no_mass_is_a_failure() -> None:
    with pytest.raises(ScanFailure, match=r"check `normalise` and `locate\.dense`"):
        find_candidates(np.zeros(GRID.size[::-1]), GRID, SETTINGS)


# The stage


def run(folder: Path, image: Path, name: str = "a") -> Outcome:
    settings = {"locate": SETTINGS, "normalise": INTENSITIES}
    return run_stage(LOCATE, folder, [name], settings=settings, sheet={name: {"image": image}})


def files(folder: Path, name: str = "a") -> tuple[Path, Path]:
    return path_of(folder, LOCATE, "region", name), path_of(folder, LOCATE, "record", name)


def test_a_scan_is_normalised_located_and_cut_out(tmp_path: Path) -> None:
    write_volume(sitk.Cast(hounsfield(LARGE), sitk.sitkInt16), tmp_path / "a.nrrd")
    assert run(tmp_path, tmp_path / "a.nrrd").status == 0
    region, record = files(tmp_path)
    found = read_record(record)
    assert found == Record("a", "locate", details=found.details)
    assert set(found.details) == {
        *("grid", "image", "centre", "candidates", "mixture", "method", "greys"),
    }
    assert Grid.of_lists(found.details["grid"]).size == SCAN_GRID.size
    heaviest = found.details["candidates"][0]
    np.testing.assert_allclose(heaviest["centre"], LARGE[0], atol=0.1)
    assert heaviest["mass_mm3"] > 50
    cut = read_written(region)
    assert grid_of(cut).contains(LARGE[0][None]).all()
    expected = locate(scan(LARGE), SETTINGS, INTENSITIES).crop
    # A scan is stored in whole HU.
    np.testing.assert_allclose(array_of(cut), array_of(expected), atol=1e-3)


def test_an_unreadable_scan_is_set_aside_and_a_template_refused(tmp_path: Path) -> None:
    broken = tmp_path / "broken.nii.gz"
    write_volume(hounsfield(LARGE), broken)
    broken.write_bytes(broken.read_bytes()[:5000])
    assert_refused(run(tmp_path, broken, TEMPLATE), broken)
    assert not any(path.exists() for path in files(tmp_path, TEMPLATE))
    done = run(tmp_path, broken)
    assert done.status == 0
    assert f"a: refused: {broken}: " in done.stderr
    region, record = files(tmp_path)
    assert (read_record(record).stage, read_record(record).status) == ("locate", "refused")
    assert str(broken) in str(read_record(record).reason)
    assert region.stat().st_size == 0


def test_a_scan_without_dense_bone_fails_and_the_study_goes_on(tmp_path: Path) -> None:
    write_volume(hounsfield(), tmp_path / "soft.nrrd")
    assert run(tmp_path, tmp_path / "soft.nrrd").status == 0
    region, record = files(tmp_path)
    assert read_record(record).status == "failed"
    assert "no voxel of the dense component" in str(read_record(record).reason)
    assert region.stat().st_size == 0
