from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray
from phantoms import LANDMARKS, bone, cut, depth_mask, sampled
from scipy.spatial.transform import Rotation
from stage_runs import path_of, run_stage

from landmarkflow.core.errors import ScanFailure
from landmarkflow.core.files import read_json, write_json
from landmarkflow.core.grids import Grid
from landmarkflow.core.points import Landmarks, PointList
from landmarkflow.core.records import TEMPLATE, Record, Step, read_record, write_record
from landmarkflow.formats.slicer import read_point_lists, write_markups
from landmarkflow.formats.transforms import read_transform, write_transform
from landmarkflow.formats.written import write_volume
from landmarkflow.images.extent import Extent
from landmarkflow.images.operations import array_of, grid_of, image_on
from landmarkflow.images.sampling import carried, resample
from landmarkflow.methods.oneshot import deform as deform_stage
from landmarkflow.methods.oneshot import lbfgs, stages
from landmarkflow.methods.oneshot.deform import folded_share, prepare
from landmarkflow.methods.oneshot.network import UNet, save_network
from landmarkflow.methods.oneshot.settings import (
    DeformSettings,
    ElastixSettings,
    LbfgsSettings,
    NetworkSettings,
)

Points = NDArray[np.float64]

SETTINGS = DeformSettings()
ELASTIX = DeformSettings(method="elastix")
METHODS = {"lbfgs": SETTINGS, "elastix": ELASTIX}
QUICK = {
    "lbfgs": DeformSettings(lbfgs=LbfgsSettings(levels=SETTINGS.lbfgs.levels[:1])),
    "elastix": DeformSettings(
        method="elastix", elastix=ElastixSettings(iterations=60, resolutions=2, samples=1000)
    ),
}
AFFINE = {
    "lbfgs": SETTINGS,
    "elastix": DeformSettings(
        method="elastix",
        elastix=ElastixSettings(iterations=100, affine_iterations=40, affine=True),
    ),
}
GRID = Grid.centred((0.2, 0.1, -0.3), (40, 40, 40), 0.5)
PLACE = np.array([-41.3, 22.7, 108.9])
ROTATION = Rotation.from_euler("xyz", [20, -30, 140], degrees=True).as_matrix()
MIRROR = np.diag([-1.0, 1.0, 1.0])
POINTS = np.vstack([LANDMARKS.positions, np.random.default_rng(0).uniform(-3.5, 3.5, (30, 3))])


def tissue(points: Points) -> Points:
    """The bone in tissue that is mottled everywhere, so that every place can be told."""
    x, y, z = points.T
    mottle = np.sin(1.9 * x + 0.3 * z) * np.sin(1.7 * y + 0.2 + 0.2 * x) * np.sin(1.8 * z + 0.4 * y)
    return bone(points) + 0.1 * mottle


def bend(points: Points) -> Points:
    """Where in the template a point of the other, still unturned, bone lies."""
    x, y, z = 0.35 * points.T
    return points + 0.6 * np.stack([np.sin(y + 0.4), np.sin(z - 0.2), np.sin(x + 1.0)], axis=1)


def truth(points: Points, linear: Points) -> Points:
    """The target's points for the template's: the inverse of what the target is drawn with."""
    straight = points.copy()
    for _ in range(60):
        straight = points - (bend(straight) - straight)
    return straight @ linear.T + PLACE


def bent(linear: Points) -> sitk.Image:
    grid = Grid.centred(PLACE + np.array([0.6, -0.4, 0.3]), (56, 56, 56), 0.5)
    return sampled(grid, lambda p: tissue(bend((p - PLACE) @ linear)))


def rigid(linear: Points) -> sitk.AffineTransform:
    transform = sitk.AffineTransform(3)
    transform.SetMatrix(linear.ravel().tolist())
    transform.SetTranslation(PLACE.tolist())
    return transform


def mapped(transform: sitk.Transform, points: Points = POINTS) -> Points:
    return np.array([transform.TransformPoint(point) for point in points.tolist()])


def worst(transform: sitk.Transform, linear: Points) -> float:
    return float(np.linalg.norm(mapped(transform) - truth(POINTS, linear), axis=1).max())


@pytest.fixture(scope="module")
def template() -> sitk.Image:
    return sampled(GRID, tissue)


@pytest.fixture(scope="module")
def mask() -> sitk.Image:
    return depth_mask(GRID)


@pytest.fixture(scope="module")
def target() -> sitk.Image:
    return bent(ROTATION)


def deform(
    template: sitk.Image,
    mask: sitk.Image,
    target: sitk.Image,
    start: sitk.Transform,
    settings: DeformSettings,
    *,
    seed: int = 1,
    extent: Extent | None = None,
) -> sitk.CompositeTransform:
    return prepare(template, mask, settings, seed=seed)(target, start, extent)


def test_control_points_that_no_sample_sees_stay_where_the_coarser_lattice_left_them(
    template: sitk.Image, mask: sitk.Image, target: sitk.Image
) -> None:
    settings = SETTINGS.lbfgs
    first, last = settings.levels[0], settings.levels[-1]
    ways = [LbfgsSettings(affine=None, levels=levels) for levels in ((first,), (first, last))]
    moving = carried(target, rigid(ROTATION))
    ready = [lbfgs.prepare(template, mask, way, seed=1) for way in ways]
    found = [lbfgs.register(a, moving, b)[-1] for a, b in zip(ready, ways, strict=True)]
    (_,), (coarse, fine) = (one.levels for one in ready)
    before, after = (np.array(one.GetParameters()).reshape(3, -1) for one in found)
    moved = np.abs(after - coarse.lattice.refined(before, fine.lattice)).max(axis=0)
    held = np.setdiff1d(np.arange(fine.lattice.count), fine.free)
    assert len(coarse.free) == coarse.lattice.count
    assert 0.1 * fine.lattice.count < len(held) < 0.9 * fine.lattice.count
    # Files hold them to a nanometre.
    assert moved[held].max() < 1e-5
    assert moved[fine.free].max() > 0.05


@pytest.fixture(scope="module", params=METHODS)
def found(
    request: pytest.FixtureRequest, template: sitk.Image, mask: sitk.Image, target: sitk.Image
) -> sitk.CompositeTransform:
    return deform(template, mask, target, rigid(ROTATION), METHODS[request.param])


def test_a_known_deformation_is_recovered(found: sitk.CompositeTransform) -> None:
    assert worst(rigid(ROTATION), ROTATION) > 0.6
    assert worst(found, ROTATION) < 0.1


def test_points_and_image_go_the_same_way(
    found: sitk.CompositeTransform, template: sitk.Image, target: sitk.Image, mask: sitk.Image
) -> None:
    warped = sitk.Resample(target, template, found, sitk.sitkLinear, 0.0, sitk.sitkFloat32)
    inside = array_of(mask) > 0
    correlation = np.corrcoef(array_of(warped)[inside], array_of(template)[inside])[0, 1]
    unbent = sitk.Resample(target, template, rigid(ROTATION), sitk.sitkLinear, 0.0)
    before = np.corrcoef(array_of(unbent)[inside], array_of(template)[inside])[0, 1]
    assert before < 0.98
    assert correlation > 0.995


@pytest.mark.parametrize("row", range(4))
def test_a_bright_voxel_of_the_target_lands_on_the_landmark(
    found: sitk.CompositeTransform, template: sitk.Image, row: int
) -> None:
    point = LANDMARKS.positions[row]
    grid = Grid.centred(found.TransformPoint(point.tolist()), (9, 9, 9), 0.25)
    marker = np.zeros((9, 9, 9))
    marker[4, 4, 4] = 1.0
    around = sitk.Image([21] * 3, sitk.sitkFloat32)
    around.SetOrigin((point - 1.0).tolist())
    around.SetSpacing([0.1] * 3)
    warped = array_of(sitk.Resample(image_on(grid, marker), around, found, sitk.sitkLinear, 0.0))
    weight = warped / warped.sum()
    centre = [
        float((weight.sum(axis=axes) * np.arange(21)).sum()) for axes in ((0, 1), (0, 2), (1, 2))
    ]
    np.testing.assert_allclose(grid_of(around).to_physical([centre])[0], point, atol=0.03)


def test_the_written_transform_maps_points_identically(
    found: sitk.CompositeTransform, tmp_path: Path
) -> None:
    sitk.WriteTransform(found, str(tmp_path / "bspline.tfm"))
    read = sitk.ReadTransform(str(tmp_path / "bspline.tfm"))
    np.testing.assert_array_equal(mapped(read), mapped(found))


def test_the_composite_ends_with_the_rigid_transform_it_was_given(
    found: sitk.CompositeTransform,
) -> None:
    # ITK applies the last of a composite first.
    first = found.GetNthTransform(0)
    np.testing.assert_allclose(mapped(first), mapped(rigid(ROTATION)), atol=1e-9)
    spline = found.GetNthTransform(found.GetNumberOfTransforms() - 1)
    far = np.array([[15.0, 0.0, 0.0]])
    np.testing.assert_allclose(mapped(spline, far), far, atol=1e-6)
    assert np.linalg.norm(mapped(spline) - POINTS, axis=1).max() > 0.1


def test_a_smooth_deformation_folds_nowhere(
    found: sitk.CompositeTransform, mask: sitk.Image
) -> None:
    assert folded_share(found, mask) == 0.0


@pytest.mark.parametrize("method", METHODS)
def test_the_other_side_is_deformed_with_its_mirroring(
    template: sitk.Image, mask: sitk.Image, method: str
) -> None:
    linear = MIRROR @ ROTATION
    whole = deform(template, mask, bent(linear), rigid(linear), AFFINE[method])
    assert whole.GetNumberOfTransforms() == 3
    assert worst(whole, linear) < 0.1
    assert folded_share(whole, mask) == 0.0


@pytest.mark.parametrize("method", METHODS)
def test_a_scan_that_fits_already_stays_where_it_is(mask: sitk.Image, method: str) -> None:
    # Nothing but the bone's edges drives it, and they fit: a step chosen too large shows at once.
    turned = sampled(Grid.centred(PLACE, (48, 48, 48), 0.5), lambda p: bone((p - PLACE) @ ROTATION))
    placed = rigid(ROTATION)
    whole = deform(sampled(GRID, bone), mask, turned, placed, METHODS[method])
    moved = mapped(whole, LANDMARKS.positions) - mapped(placed, LANDMARKS.positions)
    assert np.linalg.norm(moved, axis=1).max() < 0.2
    assert folded_share(whole, mask) == 0.0


@pytest.mark.parametrize("method", METHODS)
def test_one_seed_gives_one_transform_to_the_bit(
    template: sitk.Image, mask: sitk.Image, target: sitk.Image, method: str
) -> None:
    one, same, other = (
        mapped(deform(template, mask, target, rigid(ROTATION), QUICK[method], seed=seed))
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)
    np.testing.assert_allclose(one, other, atol=0.2)


@pytest.mark.parametrize(("method", "away"), [("elastix", 19.0), ("lbfgs", 40.0)])
def test_a_target_out_of_the_scan_is_a_failure_with_its_reason(
    template: sitk.Image, mask: sitk.Image, target: sitk.Image, method: str, away: float
) -> None:
    beside = sitk.CompositeTransform(
        [sitk.TranslationTransform(3, (away, 17.0, 0.0)), rigid(ROTATION)]
    )
    with pytest.raises(ScanFailure) as failure:
        deform(template, mask, target, beside, QUICK[method])
    assert "outside" in str(failure.value)
    assert "0x" not in str(failure.value)


# A scan that shows a part of the target


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("label", "axis", "side"), [("tip", 0, -1), ("flank", 2, -1), ("knob", 2, 1)]
)
def test_of_a_bone_cut_at_the_border_what_is_seen_is_compared(
    template: sitk.Image,
    mask: sitk.Image,
    target: sitk.Image,
    *,
    label: str,
    axis: int,
    side: int,
    method: str,
) -> None:
    true = truth(POINTS, ROTATION)
    row = LANDMARKS.labels.index(label)
    crop, extent = cut(target, axis, side, float(true[row, axis]) - side * 1.0)
    depth = extent.depth(true)
    start = rigid(ROTATION)

    def errors(extent: Extent | None) -> Points:
        whole = deform(template, mask, crop, start, METHODS[method], extent=extent)
        return np.linalg.norm(mapped(whole) - true, axis=1)

    found = errors(extent)
    assert found[depth > 1].max() < 0.25
    assert found[depth > 0].max() < 0.5
    # A landmark beyond the border is placed beyond it, no worse than by a millimetre.
    assert depth[row] < -0.7
    assert found[row] < 1.0
    whole = deform(template, mask, crop, start, METHODS[method], extent=extent)
    assert extent.depth(mapped(whole))[row] < 0
    # Air beyond the border, taken for what it seems, pulls at the map, that of L-BFGS far inside.
    blind = errors(None)
    assert blind[row] > found[row] + 0.3
    assert method == "elastix" or blind[depth > 1].max() > 1.0


@pytest.mark.parametrize(("method", "pixels"), [("lbfgs", 56), ("lbfgs", 300), ("elastix", 56)])
def test_a_scan_that_shows_all_of_its_crop_gives_the_same_to_the_bit(
    template: sitk.Image, mask: sitk.Image, target: sitk.Image, method: str, pixels: int
) -> None:
    extent = Extent(Grid.centred(grid_of(target).centre, (pixels, pixels, pixels), 0.5))
    one, other = (
        deform(template, mask, target, rigid(ROTATION), QUICK[method], extent=shown)
        for shown in (extent, None)
    )
    np.testing.assert_array_equal(mapped(one), mapped(other))


# Folding


def wave(height: float) -> sitk.DisplacementFieldTransform:
    """x → x + height · sin x: its Jacobian determinant is 1 + height · cos x."""
    grid = Grid.centred((0.0, 0.0, 0.0), (126, 8, 8), 0.1)
    x = grid.to_physical(np.argwhere(np.ones(grid.size))).reshape(*grid.size, 3)[..., 0].T
    field = np.zeros((*x.shape, 3))
    field[..., 0] = height * np.sin(x)
    image = sitk.GetImageFromArray(field, isVector=True)
    image.SetOrigin(grid.origin.tolist())
    image.SetSpacing(grid.spacing.tolist())
    return sitk.DisplacementFieldTransform(image)


@pytest.fixture(scope="module")
def box() -> sitk.Image:
    """Two whole waves."""
    grid = Grid.centred((0.0, 0.0, 0.0), (120, 6, 6), 0.1)
    return image_on(grid, np.ones(grid.size[::-1], dtype=np.uint8))


@pytest.mark.parametrize("height", [0.0, 0.5, 0.95])
def test_no_voxel_folds_while_the_map_is_one_to_one(box: sitk.Image, height: float) -> None:
    assert folded_share(wave(height), box) == 0.0


@pytest.mark.parametrize("height", [1.2, 1.5])
@pytest.mark.parametrize("mirrored", [False, True])
def test_the_share_that_folds_is_counted(box: sitk.Image, height: float, mirrored: bool) -> None:
    # 1 + height · cos x falls below zero within arccos(1 / height) of π and -π.
    whole = sitk.CompositeTransform(3)
    if mirrored:
        whole.AddTransform(sitk.ScaleTransform(3, (-1.0, 1.0, 1.0)))
    whole.AddTransform(wave(height))
    x = grid_of(box).to_physical(np.argwhere(np.ones(box.GetSize())))[:, 0]
    expected = np.mean(1 + height * np.cos(x) < 0)
    assert expected > 0.1
    assert folded_share(whole, box) == pytest.approx(expected, abs=0.02)


def test_folds_beyond_the_mask_do_not_count(box: sitk.Image) -> None:
    array = array_of(box)
    x = grid_of(box).to_physical(np.argwhere(np.ones(box.GetSize()))).reshape(*box.GetSize(), 3)
    array[np.abs(x[..., 0].T) > 1.5] = 0
    assert folded_share(wave(1.5), image_on(grid_of(box), array)) == 0.0


# The target's way into the template's frame


def test_carrying_the_target_is_the_same_as_resampling_it(target: sitk.Image) -> None:
    for linear in (ROTATION, MIRROR @ ROTATION):
        moved = resample(carried(target, rigid(linear)), GRID)
        expected = sitk.Resample(
            target, moved, rigid(linear), sitk.sitkLinear, 0.0, sitk.sitkFloat32
        )
        difference = np.abs(array_of(moved) - array_of(expected))[2:-2, 2:-2, 2:-2]
        assert difference.max() < 1e-3
        assert np.ptp(array_of(expected)) > 0.3


# The stages


@pytest.fixture
def study(tmp_path: Path, template: sitk.Image, mask: sitk.Image) -> Path:
    """A template as far as later stages read it."""
    write_volume(template, path_of(tmp_path, stages.DEFORM, "template_centred"))
    write_volume(mask, path_of(tmp_path, stages.DEFORM, "template_target"))
    annotated = PointList("reference", LANDMARKS, None)
    write_markups(path_of(tmp_path, stages.PLACE, "template_reference"), [annotated])
    centre = [0.0, 0.0, 0.0]
    details = {"steps": [{"centre": centre}]}
    centred = Record(TEMPLATE, "centre", details=details)
    write_record(path_of(tmp_path, stages.PLACE, "template_centre_record"), centred)
    located = Record(TEMPLATE, "locate", details={"centre": centre})
    write_record(path_of(tmp_path, stages.PLACE, "template_locate_record"), located)
    write_json(path_of(tmp_path, stages.PLACE, "training"), {"device": "cpu"})
    return tmp_path


def aligned(folder: Path, scan: str, crop: sitk.Image, linear: Points) -> None:
    """What the stages before left of a scan, which is seen all around its crop."""
    write_volume(crop, path_of(folder, stages.DEFORM, "crop", scan))
    shown = Grid.centred(PLACE, (500, 500, 500), 0.5).as_lists()
    located = Record(scan, "locate", details={"grid": shown})
    write_record(path_of(folder, stages.DEFORM, "locate_record", scan), located)
    write_transform(rigid(linear), path_of(folder, stages.DEFORM, "rigid", scan))
    record = Record(scan, "align", earlier=(Step("locate"), Step("centre")))
    write_record(path_of(folder, stages.DEFORM, "align_record", scan), record)


def test_a_scan_is_deformed_and_one_that_folds_too_much_is_doubtful(
    study: Path, target: sitk.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    aligned(study, "a", target, ROTATION)
    assert run_stage(stages.DEFORM, study, ["a"], settings={"deform": SETTINGS}).status == 0
    assert worst(read_transform(path_of(study, stages.DEFORM, "bspline", "a")), ROTATION) < 0.1
    record = read_record(path_of(study, stages.DEFORM, "record", "a"))
    details = {"folded_share": 0.0, "cut_share": 0.0}
    assert record == Record("a", "deform", details=details, earlier=record.earlier)
    assert [step.stage for step in record.earlier] == ["locate", "centre", "align"]
    monkeypatch.setattr(deform_stage, "folded_share", lambda *_: 0.2)
    aligned(study, "b", target, ROTATION)
    assert run_stage(stages.DEFORM, study, ["b"], settings={"deform": SETTINGS}).status == 0
    doubtful = read_record(path_of(study, stages.DEFORM, "record", "b"))
    assert (doubtful.status, doubtful.details) == ("doubtful", details | {"folded_share": 0.2})
    assert doubtful.reason == "the B-spline folds in 20.00 % of the region compared"


LOOP_SETTINGS = {"deform": SETTINGS, "symmetrise": {"enabled": False}}


def refined(
    folder: Path, scan: str, crop: sitk.Image, cut_share: float = 0.0, doubt: str = ""
) -> None:
    """What the stages before left of a scan that is to be registered back."""
    aligned(folder, scan, crop, ROTATION)
    there = Landmarks(LANDMARKS.labels, truth(LANDMARKS.positions, ROTATION))
    path = path_of(folder, stages.CLOSE, "refined", scan)
    write_markups(path, [PointList("refined", there, None)])
    deformed = Record(scan, "deform", details={"cut_share": cut_share})
    write_record(path_of(folder, stages.CLOSE, "deform_record", scan), deformed)
    before = Step("align", *(("doubtful", doubt) if doubt else ()))
    known = {"deviation_mm": [0.1] * len(LANDMARKS.labels)}
    record = Record(scan, "refine", details=known, earlier=(before,))
    write_record(path_of(folder, stages.CLOSE, "refine_record", scan), record)


def closed(folder: Path, scans: str, loops: int, **settings: object) -> list[dict[str, Any]]:
    """What a new calibration says of the scans that were registered back."""
    path_of(folder, stages.CLOSE, "calibration").unlink(missing_ok=True)
    return calibrated(folder, scans, loops, **settings)


def calibrated(folder: Path, scans: str, loops: int, **settings: object) -> list[dict[str, Any]]:
    """What the calibration says that is there, or a new one where it does not fit."""
    given = LOOP_SETTINGS | {"close": {"loops": loops}} | settings
    assert run_stage(stages.CLOSE, folder, scans, settings=given).status == 0
    return list(read_json(path_of(folder, stages.CLOSE, "calibration"))["loops"])


def test_a_loop_that_closes_ends_where_it_began(study: Path, target: sitk.Image) -> None:
    refined(study, "a", target)
    # Where the template's landmarks are evened out, the loop begins at those.
    even = Landmarks(LANDMARKS.labels, LANDMARKS.positions + np.array([2.0, 0.0, 0.0]))
    symmetrised = path_of(study, stages.CLOSE, "symmetrised")
    write_markups(symmetrised, [PointList("symmetrised", even, None)])
    for enabled, low, high in ((False, 0.0, 0.15), (True, 1.85, 2.15)):
        (loop,) = closed(study, "a", 3, symmetrise={"enabled": enabled})
        assert (loop["scan"], loop["deviation_mm"]) == ("a", [0.1] * 4)
        assert list(loop["loop_mm"]) == list(LANDMARKS.labels)
        assert low <= min(loop["loop_mm"].values()) <= max(loop["loop_mm"].values()) < high


@pytest.mark.parametrize("before_mm", [0.0, 3.0])
def test_the_share_of_a_target_beyond_the_border_is_recorded_and_much_is_doubtful(
    study: Path, target: sitk.Image, before_mm: float
) -> None:
    tip = truth(LANDMARKS.positions[:1], ROTATION)[0]
    crop, extent = cut(target, 0, -1, float(tip[0]) + before_mm)
    aligned(study, "a", crop, ROTATION)
    located = Record("a", "locate", details={"grid": extent.grid.as_lists()})
    write_record(path_of(study, stages.DEFORM, "locate_record", "a"), located)
    write_volume(depth_mask(GRID, 5.0), path_of(study, stages.DEFORM, "template_target"))
    assert run_stage(stages.DEFORM, study, ["a"], settings={"deform": QUICK["lbfgs"]}).status == 0
    record = read_record(path_of(study, stages.DEFORM, "record", "a"))
    inside = np.random.default_rng(2).uniform(-5, 5, (4000, 3))
    inside = inside[np.linalg.norm(inside, axis=1) < 5]
    expected = (extent.depth(truth(inside, ROTATION)) < 0).mean()
    assert record.details["cut_share"] == pytest.approx(expected, abs=0.06)
    assert record.status == ("doubtful" if before_mm else "ok")
    if before_mm:
        share = 100 * record.details["cut_share"]
        assert record.reason == (
            f"the target reaches the border of the scan: {share:.0f} % of it lies beyond"
        )


def test_scans_that_are_cut_or_doubted_measure_no_error_while_others_do(
    study: Path, target: sitk.Image
) -> None:
    quick = {"deform": QUICK["lbfgs"]}
    refined(study, "a", target, cut_share=0.04)
    refined(study, "b", target, doubt="two regions fit about equally well")
    for scan in "cde":
        refined(study, scan, target)
    failed = Record("c", "align", "failed", "unlike")
    write_record(path_of(study, stages.CLOSE, "refine_record", "c"), failed)
    # Whatever comes first by name: d and e take their place.
    assert [loop["scan"] for loop in closed(study, "abcde", 1, **quick)] == ["d"]
    assert [loop["scan"] for loop in closed(study, "abcde", 3, **quick)] == ["d", "e"]
    assert [loop["scan"] for loop in closed(study, "abc", 3, **quick)] == ["a"]
    assert [loop["scan"] for loop in closed(study, "bc", 3, **quick)] == ["b"]


def test_a_calibration_is_kept_until_it_is_removed_or_made_of_something_else(
    study: Path, target: sitk.Image
) -> None:
    quick = {"deform": QUICK["lbfgs"]}
    for scan in "ab":
        refined(study, scan, target)
    path = path_of(study, stages.CLOSE, "calibration")
    (first,) = calibrated(study, "b", 3, **quick)
    before = path.read_bytes()
    # A scan that comes later, and is the first by name, changes nothing, nor does one that leaves.
    assert calibrated(study, "ab", 3, **quick) == calibrated(study, "a", 3, **quick) == [first]
    assert path.read_bytes() == before
    other = calibrated(study, "ab", 2, **quick)
    assert [loop["scan"] for loop in other] == ["a", "b"]
    path.unlink()
    assert [loop["scan"] for loop in calibrated(study, "a", 2, **quick)] == ["a"]
    # One of no scan is none.
    failed = Record("a", "align", "failed", "unlike")
    write_record(path_of(study, stages.CLOSE, "refine_record", "a"), failed)
    assert closed(study, "a", 2, **quick) == []
    assert [loop["scan"] for loop in calibrated(study, "ab", 2, **quick)] == ["b"]


def test_a_refused_scan_passes_every_stage_to_landmarks_that_say_why(study: Path) -> None:
    image = study / "image.nii.gz"
    image.write_bytes(b"no image")
    network = NetworkSettings(window_pixels=16, channels=2, levels=2)
    save_network(path_of(study, stages.CENTRE, "weights"), UNet(network), network, 100.0)
    names = ("LOCATE", "CENTRE", "ALIGN", "DEFORM", "VOTE", "REFINE", "PLACE", "SEGMENT")
    passed = [getattr(stages, name) for name in names]
    sheet = {"a": {"image": image, "side": ""}, TEMPLATE: {"side": ""}}
    for stage in (*passed[:-2], stages.CLOSE, *passed[-2:]):
        settings = {"train": {"network": network.model_dump()}} if stage == stages.CENTRE else {}
        given = {"sheet": sheet} if stage.columns else {}
        peers = {"peers": ["a"]} if stage.peers else {}
        done = run_stage(stage, study, ["a"], settings=settings, **given, **peers)
        assert done.status == 0, done.stderr
    records = [read_record(path_of(study, stage, "record", "a")) for stage in passed]
    (refused,) = {(record.scan, record.stage, record.status) for record in records}
    assert refused == ("a", "locate", "refused")
    assert len({record.reason for record in records}) == 1
    assert str(image) in str(records[0].reason)
    for points in read_point_lists(path_of(study, stages.PLACE, "landmarks", "a")):
        assert points.landmarks.labels == LANDMARKS.labels
        assert points.landmarks.missing.all()
        assert set(points.notes) == {f"locate refused: {records[0].reason}"}
    assert path_of(study, stages.SEGMENT, "found", "a").stat().st_size == 0
