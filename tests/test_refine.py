from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray
from phantoms import LANDMARKS, bone, sampled

from landmarkflow.__main__ import main
from landmarkflow.core.grids import Grid
from landmarkflow.core.points import Landmarks, PointList
from landmarkflow.core.records import Record, read_record, write_record
from landmarkflow.formats.landmarks import read_complete_landmarks
from landmarkflow.formats.slicer import write_markups
from landmarkflow.formats.transforms import write_transform
from landmarkflow.formats.written import write_volume
from landmarkflow.methods.oneshot.landmarks import place_landmarks
from landmarkflow.methods.oneshot.refine import ball, prepare, refine, search
from landmarkflow.methods.oneshot.settings import RefineSettings, SearchSettings

Points = NDArray[np.float64]

SETTINGS = RefineSettings(radii_mm=(1.5, 2.0), spacing_mm=0.5, contrast_mm=0.0, prior_mm=0.5)
GRID = Grid.centred((0.2, 0.1, -0.3), (40, 40, 40), 0.5)
EULER = sitk.Euler3DTransform((0.5, 0.2, -0.3), 0.3, -2.0, 0.6, (40.0, -20.0, 7.0))
MIRROR = sitk.AffineTransform(
    np.diag([-1.0, 1.0, 1.0]).ravel().tolist(), (12.0, -3.0, 5.0), (0.0, 0.0, 0.0)
)
SEARCH = SearchSettings(below=0.9, least_gain=0.1, radius_mm=2.0, reach_mm=2.0)
FAR_OFF = np.array([0.9, -1.0, 0.6])
MISS = np.array([0.25, -0.2, 0.15])


def tissue(points: Points) -> Points:
    """The bone in tissue that is mottled everywhere, so that every place can be told."""
    x, y, z = points.T
    mottle = np.sin(1.9 * x + 0.3 * z) * np.sin(1.7 * y + 0.2 + 0.2 * x) * np.sin(1.8 * z + 0.4 * y)
    return bone(points) + 0.1 * mottle


def moved(transform: sitk.Transform, noise: float = 0.0) -> sitk.Image:
    """The tissue where the transform puts it, in a scan of its own grid."""
    inverse = transform.GetInverse()
    grid = Grid.centred(transform.TransformPoint(GRID.centre.tolist()), (44, 44, 44), 0.5)
    random = np.random.default_rng(0)

    def there(points: Points) -> Points:
        values = tissue(np.array([inverse.TransformPoint(p) for p in points.tolist()]))
        return values + noise * random.normal(size=len(values))

    return sampled(grid, there)


def missing_by(transform: sitk.Transform, miss: Points) -> sitk.CompositeTransform:
    whole = sitk.CompositeTransform(sitk.TranslationTransform(3, miss.tolist()))
    whole.AddTransform(transform)
    return whole


def true_places(transform: sitk.Transform) -> Points:
    return np.array([transform.TransformPoint(p) for p in LANDMARKS.positions.tolist()])


@pytest.fixture(scope="module")
def template() -> sitk.Image:
    return sampled(GRID, tissue)


@pytest.mark.parametrize("transform", [EULER, MIRROR], ids=["turned", "mirrored"])
@pytest.mark.parametrize("contrast_mm", [0.0, 1.5])
def test_a_missed_landmark_is_brought_to_its_place(
    template: sitk.Image, transform: sitk.Transform, contrast_mm: float
) -> None:
    settings = SETTINGS.model_copy(update={"contrast_mm": contrast_mm})
    wrong = missing_by(transform, MISS)
    found = refine(prepare(LANDMARKS, template, settings), wrong, moved(transform), settings)
    error = np.linalg.norm(found.landmarks.positions - true_places(transform), axis=1)
    assert np.linalg.norm(MISS) > 0.35
    assert error.max() < 0.06
    assert found.landmarks.labels == LANDMARKS.labels


def test_without_moving_the_places_are_the_transforms_and_as_unsure(template: sitk.Image) -> None:
    resting = SETTINGS.model_copy(update={"enabled": False})
    wrong, target = missing_by(EULER, MISS), moved(EULER)
    stays = refine(prepare(LANDMARKS, template, resting), wrong, target, resting)
    moves = refine(prepare(LANDMARKS, template, SETTINGS), wrong, target, SETTINGS)
    np.testing.assert_allclose(stays.landmarks.positions, true_places(wrong))
    np.testing.assert_array_equal(stays.deviation, moves.deviation)


def test_contrast_and_brightness_do_not_matter(template: sitk.Image) -> None:
    prepared, wrong, target = (
        prepare(LANDMARKS, template, SETTINGS),
        missing_by(EULER, MISS),
        moved(EULER),
    )
    plain = refine(prepared, wrong, target, SETTINGS).landmarks.positions
    other = refine(prepared, wrong, target * 0.4 + 0.3, SETTINGS).landmarks.positions
    np.testing.assert_allclose(plain, other, atol=5e-3)


def test_noise_makes_every_place_less_sure(template: sitk.Image) -> None:
    prepared = prepare(LANDMARKS, template, SETTINGS)
    clean, noisy = (refine(prepared, EULER, moved(EULER, n), SETTINGS) for n in (0.01, 0.1))
    assert (noisy.deviation > 2 * clean.deviation).all()


def test_where_nothing_is_to_be_seen_a_landmark_stays_and_is_as_unsure_as_before() -> None:
    random = np.random.default_rng(1)
    flat = sampled(GRID, lambda p: 0.5 + 0.0 * p[:, 0])
    noise = sampled(GRID, lambda p: random.normal(size=len(p)))
    identity = sitk.Transform(3, sitk.sitkIdentity)
    found = refine(prepare(LANDMARKS, flat, SETTINGS), identity, noise, SETTINGS)
    np.testing.assert_allclose(found.landmarks.positions, LANDMARKS.positions, atol=1e-6)
    np.testing.assert_allclose(found.deviation, SETTINGS.prior_mm * np.sqrt(3), rtol=1e-3)


def test_a_landmark_beyond_the_scan_stays_and_nothing_is_said_of_it(template: sitk.Image) -> None:
    far = Landmarks(("tip", "far"), np.array([LANDMARKS.positions[0], [200.0, 0.0, 0.0]]))
    found = refine(prepare(far, template, SETTINGS), EULER, moved(EULER), SETTINGS)
    np.testing.assert_allclose(found.landmarks.positions[1], EULER.TransformPoint((200.0, 0, 0)))
    assert np.isfinite(found.deviation).tolist() == [True, False]


def test_a_landmark_does_not_hang_on_its_neighbours(template: sitk.Image) -> None:
    wrong, target = missing_by(EULER, MISS), moved(EULER)
    together = refine(prepare(LANDMARKS, template, SETTINGS), wrong, target, SETTINGS)
    alone = refine(prepare(LANDMARKS.select(["bump"]), template, SETTINGS), wrong, target, SETTINGS)
    np.testing.assert_array_equal(together.landmarks.positions[2], alone.landmarks.positions[0])


def test_a_ball_holds_its_rim() -> None:
    assert len(ball(0.3, 0.1)) == 123
    assert np.linalg.norm(ball(0.3, 0.1), axis=1).max() == pytest.approx(0.3)


def searched(
    template: sitk.Image, transform: sitk.Transform, settings: SearchSettings = SEARCH
) -> tuple[Points, Points]:
    """Where the landmarks are looked for and where they are found, in a scan turned by EULER."""
    start = place_landmarks(LANDMARKS, transform)
    found = search(LANDMARKS, transform, template, moved(EULER), start=start, settings=settings)
    return start.positions, found.positions


def test_a_landmark_far_off_is_found_within_a_step(template: sitk.Image) -> None:
    start, found = searched(template, missing_by(EULER, FAR_OFF))
    assert np.linalg.norm(start - true_places(EULER), axis=1).min() > 1.4
    step = SEARCH.reach_mm / 4
    assert np.linalg.norm(found - true_places(EULER), axis=1).max() < step


def test_a_landmark_in_like_surroundings_is_not_looked_for(template: sitk.Image) -> None:
    start, found = searched(template, missing_by(EULER, np.array([0.1, 0.0, 0.0])))
    np.testing.assert_array_equal(start, found)


def test_a_place_that_is_hardly_better_is_not_taken(template: sitk.Image) -> None:
    choosy = SEARCH.model_copy(update={"least_gain": 1.9})
    start, found = searched(template, missing_by(EULER, FAR_OFF), choosy)
    np.testing.assert_array_equal(start, found)


def test_a_search_starts_where_the_landmark_is(template: sitk.Image) -> None:
    wrong = missing_by(EULER, FAR_OFF)
    start = Landmarks(LANDMARKS.labels, true_places(EULER))
    found = search(LANDMARKS, wrong, template, moved(EULER), start=start, settings=SEARCH)
    np.testing.assert_array_equal(found.positions, start.positions)


@pytest.mark.usefixtures("quiet")
def test_a_scan_is_doubtful_in_which_the_search_moved_a_landmark(
    tmp_path: Path, template: sitk.Image
) -> None:
    settings = SETTINGS.model_copy(update={"search": SEARCH})
    write_volume(template, tmp_path / "template.nii.gz")
    write_markups(tmp_path / "t.mrk.json", [PointList("reference", LANDMARKS, None)])
    write_volume(moved(EULER), tmp_path / "scan.nii.gz")
    write_record(tmp_path / "b.json", Record("a", "deform"))
    for name, miss in (("right", MISS), ("wrong", FAR_OFF)):
        write_transform(missing_by(EULER, miss), tmp_path / f"{name}.tfm")
        arguments: dict[str, object] = {
            "settings": settings.model_dump_json(),
            "template-landmarks": tmp_path / "t.mrk.json",
            "template-centred": tmp_path / "template.nii.gz",
            "scans": "a",
            "store": tmp_path / "store",
            "centred": tmp_path / "scan.nii.gz",
            "bspline": tmp_path / f"{name}.tfm",
            "bspline_record": tmp_path / "b.json",
            "refined": tmp_path / f"{name}.mrk.json",
            "record": tmp_path / f"{name}.json",
        }
        given = [part for key, value in arguments.items() for part in (f"--{key}", str(value))]
        assert main(["refine_landmarks", *given]) == 0
        found = read_complete_landmarks(tmp_path / f"{name}.mrk.json").positions
        assert np.linalg.norm(found - true_places(EULER), axis=1).max() < 0.1
    assert read_record(tmp_path / "right.json").status == "ok"
    doubtful = read_record(tmp_path / "wrong.json")
    assert doubtful.status == "doubtful"
    assert f"{LANDMARKS.labels[0]} by 1." in str(doubtful.reason)
