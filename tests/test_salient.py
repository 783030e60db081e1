"""The method `salient` piece by piece: equations, maxima, metrics, clusters, pairs, tables."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from landmarkflow.cohorts.fetal_head import simulate_fetal_head
from landmarkflow.cohorts.fetal_head_settings import (
    FetalHeadSettings,
    ScannerSettings,
    long_axis_of,
    plane_of,
)
from landmarkflow.core.errors import InputError
from landmarkflow.core.selection import evenly
from landmarkflow.methods.salient import metrics
from landmarkflow.methods.salient.align import drawn, measured_group
from landmarkflow.methods.salient.choose import choices_of, clusters_of
from landmarkflow.methods.salient.cluster import Gathered, clustered
from landmarkflow.methods.salient.discover import labels_of
from landmarkflow.methods.salient.familiar import (
    described,
    load_familiar,
    moves_of,
    save_familiar,
    steps_between,
)
from landmarkflow.methods.salient.frames import Frame
from landmarkflow.methods.salient.judge import halves_of
from landmarkflow.methods.salient.kinds import familiar_of
from landmarkflow.methods.salient.maps import Seen, at_pixels, features_at, softened
from landmarkflow.methods.salient.names import matched, named
from landmarkflow.methods.salient.pairs import (
    Shown,
    by_landmarks,
    coverage,
    errors_of,
    left_right,
    mean_and_error,
    pairs_of,
    unaligned,
)
from landmarkflow.methods.salient.peaks import fit, maxima
from landmarkflow.methods.salient.settings import (
    AlignSettings,
    ClusterSettings,
    GazeSettings,
    PredictSettings,
)
from landmarkflow.methods.salient.similarity import flipped, is_flipped, of_several, of_two
from landmarkflow.methods.salient.tables import as_latex, as_markdown, rows_of

Array = NDArray[np.float64]
RANDOM = np.random.default_rng(3)


# Equations


def test_two_landmarks_of_random_pairs_come_to_lie_on_their_targets() -> None:
    worst = 0.0
    for _ in range(500):
        source, target = RANDOM.uniform(0, 300, (2, 2, 2))
        found = of_two(source, target, 288)
        assert found is not None
        assert found.flip == (
            np.sign(source[0, 0] - source[1, 0]) != np.sign(target[0, 0] - target[1, 0])
        )
        worst = max(worst, float(np.abs(found.apply(source) - target).max()))
    assert worst < 1e-9


def test_equation_5_is_the_papers_with_the_sign_of_beta_mended() -> None:
    source, target = np.array([[40.0, 60], [120, 90]]), np.array([[70.0, 100], [110, 170]])
    found = of_two(source, target, 288)
    assert found is not None
    shift = target[0] - source[0]
    before, after = source[1] - source[0], target[1] - target[0]
    rho = np.linalg.norm(after) / np.linalg.norm(before)
    theta = math.atan2(after[1], after[0]) - math.atan2(before[1], before[0])
    alpha, beta, (x, y) = rho * math.cos(theta), -rho * math.sin(theta), target[0]
    printed = np.array(
        [
            [alpha, beta, (1 - alpha) * x - beta * y],
            [-beta, alpha, beta * x + (1 - alpha) * y],
            [0, 0, 1],
        ]
    )
    point = np.array([33.0, 44])
    there = printed @ [*(point + shift), 1]
    np.testing.assert_allclose(found.apply(point[None])[0], there[:2], atol=1e-9)
    np.testing.assert_allclose(found.whole @ [*point, 1], [*there[:2], 1], atol=1e-9)
    # Without mending, the second landmark misses its target by far.
    wrong = printed.copy()
    wrong[0, 1:] = -beta, (1 - alpha) * x + beta * y
    wrong[1, 0], wrong[1, 2] = beta, -beta * x + (1 - alpha) * y
    assert np.linalg.norm((wrong @ [*(source[1] + shift), 1])[:2] - target[1]) > 30


def test_mirroring_keeps_the_middle_of_the_picture_and_its_pixels() -> None:
    np.testing.assert_allclose(
        flipped(np.array([[0.0, 5], [143.5, 7]]), 288), [[287, 5], [143.5, 7]]
    )
    source, target = np.array([[10.0, 5], [30, 7]]), np.array([[50.0, 5], [20, 9]])
    assert is_flipped(source, target)
    found = of_two(source, target, 288)
    assert found is not None
    assert found.flip
    np.testing.assert_allclose(found.apply(source), target, atol=1e-9)


def test_landmarks_on_each_other_give_no_similarity() -> None:
    here = np.array([[10.0, 5], [10, 5]])
    assert of_two(here, np.array([[1.0, 2], [3, 4]]), 100) is None
    assert of_several(here, np.array([[1.0, 2], [3, 4]]), 100, 5) is None


@pytest.mark.parametrize("flip", [False, True])
def test_several_landmarks_are_fitted_without_the_one_that_disagrees(flip: bool) -> None:
    source = RANDOM.uniform(20, 200, (5, 2))
    true = of_two(
        np.array([[10.0, 20], [90, 40]]), np.array([[60.0, 30], [120, 90]]), 288, flip=flip
    )
    assert true is not None
    target = true.apply(source)
    target[2] += [60, -40]
    found = of_several(source, target, 288, 5.0)
    assert found is not None
    assert found.flip is flip
    kept = [0, 1, 3, 4]
    np.testing.assert_allclose(found.apply(source)[kept], target[kept], atol=1e-9)


def test_of_two_landmarks_the_robust_fit_is_that_of_the_paper() -> None:
    source, target = RANDOM.uniform(0, 200, (2, 2, 2))
    one, other = of_two(source, target, 288), of_several(source, target, 288, 5)
    assert one is not None
    assert other is not None
    np.testing.assert_allclose(one.whole, other.whole, atol=1e-12)


# Maxima


def bump(centre: tuple[float, float], sigma: float, height: float = 1.0) -> Array:
    y, x = np.mgrid[:28, :36]
    return height * np.exp(-0.5 * ((x - centre[0]) ** 2 + (y - centre[1]) ** 2) / sigma**2)


@pytest.mark.parametrize(
    "centre", [(10.3, 7.8), (0.2, 12.4), (-0.4, -0.3), (35.3, 27.4), (17.6, 0.45), (5.49, 27.0)]
)
@pytest.mark.parametrize("sigma", [0.8, 1.5, 3.0])
def test_a_drawn_peak_is_found_between_cells_and_at_the_border(
    centre: tuple[float, float], sigma: float
) -> None:
    drawn_map = bump(centre, sigma)
    cells = maxima(drawn_map, 2, 0.1)
    assert len(cells) == 1
    np.testing.assert_allclose(fit(drawn_map, cells)[0], centre, atol=0.02)


def test_two_peaks_come_by_height_and_one_below_the_threshold_is_left_out() -> None:
    shown = np.maximum(
        np.maximum(bump((8, 9), 1.5, 0.7), bump((20, 18), 1.5)), bump((30, 4), 1.5, 0.09)
    )
    cells = maxima(shown * 0.003, 2, 0.1)
    np.testing.assert_array_equal(cells, [[20, 18], [8, 9]])
    assert len(maxima(shown, 2, 0.05)) == 3


def test_a_plateau_is_one_maximum_and_a_flat_or_empty_map_one_or_none() -> None:
    shown = np.zeros((9, 12))
    shown[3:6, 4:7] = 1
    np.testing.assert_array_equal(maxima(shown, 2, 0.1), [[5, 4]])
    assert len(maxima(np.zeros((9, 12)), 2, 0.1)) == 0
    assert len(maxima(np.ones((9, 12)), 2, 0.1)) == 1


def test_a_fit_stays_within_a_cell_of_its_maximum() -> None:
    steep = np.exp(np.arange(12.0))[None] * np.ones((9, 1))
    cells = np.array([[11, 4]])
    assert np.abs(fit(steep, cells) - cells).max() <= 1
    np.testing.assert_array_equal(fit(np.ones((2, 5)), np.array([[3, 1]])), [[3, 1]])


# Frames


def test_cells_and_pixels_agree_whatever_the_pictures_shape() -> None:
    settings = GazeSettings(width=256, height=192, stride=4)
    for width, height in ((400, 300), (400, 270), (300, 400), (64, 64)):
        frame = Frame.of(width, height, settings)
        points = RANDOM.uniform(0, min(width, height), (5, 2))
        np.testing.assert_allclose(frame.to_pixels(frame.to_cells(points)), points, atol=1e-9)
        np.testing.assert_allclose(frame.to_cells(np.array([[-0.5, -0.5]])), [[-0.5, -0.5]])
        rows, columns = frame.cells
        last = frame.to_pixels(np.array([[columns - 1.0, rows - 1.0]]))[0]
        assert (last < [width, height]).all()
        assert frame.fitted(np.zeros((height, width, 3), np.uint8)).shape == (3, 192, 256)


def test_a_map_on_pixels_has_its_peak_where_the_cells_have_it() -> None:
    frame = Frame.of(400, 300, GazeSettings())
    true = np.array([[123.0, 77.0]])
    cells = frame.to_cells(true)[0]
    y, x = np.mgrid[: frame.cells[0], : frame.cells[1]]
    shown = np.exp(-0.5 * ((x - cells[0]) ** 2 + (y - cells[1]) ** 2) / 2.0**2) + 1e-9
    found = at_pixels(shown, frame)
    assert found.shape == (300, 400)
    assert found.sum() == pytest.approx(1)
    row, column = np.unravel_index(found.argmax(), found.shape)
    assert (column, row) == (123, 77)


def test_a_softened_peak_is_wider_by_the_blur_and_narrower_by_the_power() -> None:
    y, x = np.mgrid[:60, :80]

    def peak(sigma: float) -> Array:
        shown = np.exp(-0.5 * ((x - 40) ** 2 + (y - 30) ** 2) / sigma**2)
        return np.asarray(shown / shown.sum())

    def soft(blur: float, power: float) -> Array:
        settings = PredictSettings(soften_px=4 * blur, power=power, surround=0)
        return softened(peak(4.0), settings, 4)

    np.testing.assert_allclose(soft(3.0, 1.0), peak(5.0), atol=1e-6)
    np.testing.assert_allclose(soft(3.0, 1.5625), peak(4.0), atol=3e-6)
    np.testing.assert_allclose(soft(0.0, 1.0), peak(4.0), atol=1e-15)


def test_of_two_peaks_the_one_in_a_broad_mass_counts_less() -> None:
    y, x = np.mgrid[:48, :64]

    def bump(at: float, sigma: float) -> Array:
        return np.asarray(np.exp(-0.5 * ((x - at) ** 2 + (y - 24) ** 2) / sigma**2))

    shown = 1e-3 + bump(12, 1.5) + bump(48, 1.5) + 0.3 * bump(48, 9)
    settings = PredictSettings(soften_px=0, power=1, surround=0.4)
    found = softened(shown / shown.sum(), settings, 4)
    assert found.sum() == pytest.approx(1)
    assert shown[24, 48] > 1.2 * shown[24, 12]
    assert found[24, 12] > found[24, 48]


def test_features_are_read_at_the_same_place_of_coarse_and_fine_levels() -> None:
    frame = Frame.of(256, 192, GazeSettings())
    levels = []
    for stride in (32, 16, 4):
        x = (np.arange(256 // stride) + 0.5) * stride
        levels.append(np.broadcast_to(x, (1, 192 // stride, 256 // stride)).astype(np.float32))
    seen = Seen(np.ones(frame.cells, np.float32), tuple(levels))
    cells = frame.to_cells(np.array([[100.5, 60.0]]))
    np.testing.assert_allclose(features_at(seen, frame, cells, "levels"), [[101, 101]], rtol=1e-5)
    np.testing.assert_allclose(features_at(seen, frame, cells, "last"), [[101]], rtol=1e-5)


# Metrics


def test_metrics_of_a_map_that_is_the_density_itself() -> None:
    points = np.array([[10.0, 8], [20, 15], [21, 15]])
    true = metrics.density(points, (30, 40), 2.0)
    found = metrics.all_metrics(true, points, np.array([[2.0, 2], [35, 27]]), 2.0)
    assert true.sum() == pytest.approx(1)
    assert found["cc"] == pytest.approx(1)
    assert found["sim"] == pytest.approx(1)
    assert found["kld"] == pytest.approx(0, abs=1e-9)
    assert found["nss"] > 2
    assert found["auc_shuffled"] == 1
    assert found["auc_judd"] > 0.95


def test_a_flat_map_says_nothing() -> None:
    points, others = np.array([[10.0, 8], [20, 15]]), np.array([[2.0, 2]])
    found = metrics.all_metrics(np.ones((30, 40)), points, others, 2.0)
    assert (found["cc"], found["nss"]) == (0, 0)
    assert found["auc_judd"] == pytest.approx(0.5)
    assert found["auc_shuffled"] == 0.5
    assert found["kld"] > 1


def test_nss_and_the_areas_are_what_their_definitions_say() -> None:
    shown = np.arange(12.0).reshape(3, 4)
    points = np.array([[3.0, 2], [0, 1]])
    z = (shown - shown.mean()) / shown.std()
    assert metrics.nss(shown, points) == pytest.approx((z[2, 3] + z[1, 0]) / 2)
    # Of the pixels looked at, 11 and 4, the others are 0-3 and 5-10: the curve by hand.
    assert metrics.auc_judd(shown, points) == pytest.approx(0.5 * 0.6 * (0.5 + 1) + 0.4 * 1)
    # Of four comparisons the first place wins both, the second ties one and loses one.
    others = np.array([[0.0, 1], [2, 2]])
    assert metrics.auc_shuffled(shown, points, others) == pytest.approx((1 + 1 + 0.5 + 0) / 4)


def test_halves_of_observers_are_apart_and_complete() -> None:
    names = ["a", "b", "c", "a", "d", "e"]
    found = list(halves_of(names, 2))
    assert len(found) == 4
    for first, second in found:
        assert first | second == set(names)
        assert not first & second


# Clusters


def features(count: int, nuisance: float = 0.0) -> tuple[Array, NDArray[np.int64], Array]:
    """Three kinds of landmarks in five channels; one more channel differs from view to view."""
    random = np.random.default_rng(5)
    kinds = np.repeat(np.arange(3), count)
    centres = np.array([[3.0, 0, 0, 1, 0], [0, 3, 0, 0, 1], [0, 0, 3, 1, 1]])
    own = centres[kinds] + random.normal(0, 0.3, (len(kinds), 5))
    wild = nuisance * random.normal(0, 1, (len(kinds), 1))
    changes = np.concatenate(
        [random.normal(0, 0.2, (90, 5)), nuisance * random.normal(0, 1, (90, 1))], axis=1
    )
    return np.concatenate([own, wild], axis=1), kinds, changes


def test_the_silhouette_finds_three_kinds_and_seeds_agree() -> None:
    found, kinds, changes = features(30)
    settings = ClusterSettings(most=5, restarts=3, seeds=3)
    clusters, labels = clusters_of(found, changes, 3, settings, 1)
    choices = choices_of(clusters.reduced(found), settings, 1)
    assert [one.clusters for one in choices if one.chosen] == [3]
    assert next(one for one in choices if one.chosen).stability > 0.9
    table = np.zeros((3, 3))
    np.add.at(table, (labels, kinds), 1)
    assert np.sort(table, axis=None)[-3:].sum() == len(kinds)
    np.testing.assert_array_equal(clusters.of(found)[:5], labels[:5])


def test_what_differs_between_views_of_one_landmark_names_none() -> None:
    found, kinds, changes = features(30, nuisance=8.0)
    settings = ClusterSettings(restarts=3)

    def purity(some: Array) -> float:
        _, labels = clusters_of(found, some, 3, settings, 1)
        best = [np.bincount(kinds[labels == k]).max() for k in range(3)]
        return float(sum(best)) / len(kinds)

    assert purity(changes) == 1
    assert purity(np.zeros((0, 6))) < 0.7


def test_a_picture_has_each_cluster_once_and_strange_features_none() -> None:
    found, kinds, changes = features(30)
    clusters, labels = clusters_of(found, changes, 3, ClusterSettings(restarts=3), 1)
    two = found[kinds == kinds[0]][:2]
    chosen = clusters.of_picture(np.concatenate([two, found[-1:]]))
    assert sorted(chosen[chosen >= 0].tolist()) == sorted(set(chosen[chosen >= 0].tolist()))
    assert chosen[2] == labels[-1]
    assert (chosen[:2] == labels[0]).sum() == 1
    assert clusters.of_picture(np.full((1, 6), 500.0)).tolist() == [-1]


def test_too_few_maxima_are_refused() -> None:
    with pytest.raises(InputError, match="have 3 maxima, expected more than the 3 clusters"):
        clusters_of(np.ones((3, 4)), np.zeros((0, 4)), 3, ClusterSettings(), 1)


def test_clusters_have_the_name_of_the_structure_that_most_lie_near() -> None:
    labels = np.array([0, 0, 0, 1, 1, 2])
    near = [["csp"], ["csp"], [], ["lv"], ["lv", "csp"], []]
    assert named(labels, 3, near, ("csp", "lv"), 0.5) == ("csp", "lv", "cluster 3")
    assert named(labels, 3, near, (), 0.5) == ("cluster 1", "cluster 2", "cluster 3")


def test_clusters_of_two_networks_are_matched_by_their_landmarks() -> None:
    first, other = np.array([0, 0, 1, 1, 2, 2]), np.array([2, 2, 0, 0, 1, 0])
    np.testing.assert_array_equal(matched(first, other, 3), [1, 2, 0])


def test_a_picture_lists_what_is_found_and_what_its_group_should_show() -> None:
    labels = ("csp", "lv", "cerebellum")
    assert labels_of(labels, {"lv"}, ("csp", "lv")) == ["csp", "lv"]
    assert labels_of(labels, {"cerebellum"}, ("csp", "lv")) == list(labels)
    assert labels_of(labels, set(), ()) == list(labels)


# Pairs


def picture(
    scan: str, shift: float, *, mirrored: bool = False, found: Sequence[str] = ("a", "b")
) -> Shown:
    true = {
        "a": np.array([30.0 + shift, 40]),
        "b": np.array([60.0 + shift, 50]),
        "c": np.array([50.0 + shift, 44]),
    }
    if mirrored:
        true = {name: flipped(place[None], 100)[0] for name, place in true.items()}
    return Shown(scan, 100, 50.0, {name: true[name].copy() for name in found}, true)


def test_errors_of_pairs_are_percent_of_the_scale_and_unaligned_ones_count() -> None:
    pictures = [picture("1", 0), picture("2", 10, mirrored=True), picture("3", 5, found=["a"])]
    pairs = pairs_of(pictures)
    assert [(a.scan, b.scan) for a, b in pairs] == [("1", "2"), ("1", "3"), ("2", "3")]
    errors, aligned = errors_of(pairs, by_landmarks(("a", "b"), 5), ("a", "b", "c"))
    assert aligned.tolist() == [True, False, False]
    np.testing.assert_allclose(errors[0], 0, atol=1e-9)
    np.testing.assert_allclose(errors[1], 10, atol=1e-9)
    plain, _ = errors_of(pairs, unaligned, ("a", "b", "c"))
    np.testing.assert_allclose(plain[1:], errors[1:])
    turned, _ = errors_of(pairs, left_right(("a", "b")), ("a",))
    np.testing.assert_allclose(turned[:, 0], [20, 10, 10], atol=1e-9)


def test_coverage_counts_right_landmarks_found_structures_and_whole_pictures() -> None:
    pictures = [picture("1", 0), picture("2", 3, found=["a"]), picture("3", 5)]
    pictures[2].found["b"][:] += 30  # type: ignore[index]
    wrong = Shown("4", 100, 50.0, {"z": np.zeros(2), **pictures[0].found}, pictures[0].true)
    found = coverage([*pictures, wrong], ("a", "b"), ("a", "b", "z"), near=10)
    assert (found.landmarks, found.structures) == (8, 8)
    assert found.precision == pytest.approx(100 * 6 / 8)
    assert found.recall == pytest.approx(100 * 6 / 8)
    assert (found.aligned, found.right) == (75, 50)
    # Without any annotated structure nothing is right or wrong.
    bare = [Shown("5", 100, 50.0, pictures[0].found, {"centre": np.zeros(2)})]
    found = coverage(bare, ("a", "b"), ("a", "b"), near=10)
    assert math.isnan(found.precision) and math.isnan(found.right)
    assert found.aligned == 100


def test_drawn_pairs_are_the_same_each_time_and_in_order() -> None:
    pairs = pairs_of([picture(str(n), n) for n in range(8)])
    some = drawn(pairs, 5, 1)
    assert len(some) == 5
    assert [pairs.index(pair) for pair in some] == sorted(pairs.index(pair) for pair in some)
    assert some == drawn(pairs, 5, 1)
    assert drawn(pairs, 0, 1) == pairs


def test_all_pairs_of_143_pictures_take_seconds() -> None:
    pictures = [picture(str(n), float(n % 17)) for n in range(143)]
    errors, aligned = errors_of(pairs_of(pictures), by_landmarks(("a", "b"), 5), ("a", "b", "c"))
    assert errors.shape == (143 * 142 // 2, 3)
    assert aligned.all()


def test_a_mean_has_the_standard_error_over_what_is_known() -> None:
    values = np.array([1.0, 2, 3, np.nan])
    assert mean_and_error(values) == pytest.approx((2, 1 / math.sqrt(3), 3))
    assert mean_and_error(np.array([np.nan]))[2] == 0


def test_baselines_follow_the_papers_order_on_simulated_heads() -> None:
    settings, cohort = (
        AlignSettings(
            landmarks={"TV": ("csp", "lv")},
            measured={"TV": ("csp", "lv", "head_centre")},
            baseline_pairs=1,
            iterations=16,
            keypoints=60,
        ),
        FetalHeadSettings(),
    )
    pictures, images = [], {}
    for number in range(1, 12, 2):
        head = simulate_fetal_head(cohort, 1, number)
        places = {
            name: place[:2]
            for name, place in zip(head.landmarks.labels, head.landmarks.positions, strict=True)
        }
        found = {name: places[name] for name in ("csp", "lv")}
        scale = long_axis_of(cohort, 1, number)
        pictures.append(Shown(f"head{number}", 288, scale, found, places))
        images[f"head{number}"] = head.image.astype(np.float32)
    rows, covered = measured_group("TV", pictures, settings, images, 1)
    means = {(row.alignment, row.over, row.landmark): row.mean for row in rows}
    assert means["salient", "all", "csp"] == pytest.approx(0, abs=1e-6)
    assert means["none", "all", "csp"] > means["left_right", "all", "csp"] > 1
    assert means["salient", "right", "head_centre"] < means["left_right", "all", "head_centre"]
    assert {row.alignment for row in rows} >= {"intensity", "keypoints"}
    assert (covered.precision, covered.recall, covered.right) == (100, 100, 100)
    published = {(r.alignment, r.over): r.published for r in rows if r.landmark == "csp"}
    assert published["salient", "right"] == 9.8
    assert published["none", "all"] == 39.3
    assert math.isnan(published["salient", "all"])


def test_pictures_of_figures_are_spread_over_the_study() -> None:
    assert evenly(list(range(10)), 3) == [1, 5, 8]
    assert evenly(["a", "b"], 3) == ["a", "b"]
    assert evenly([], 3) == []


def test_tables_are_printed_with_dashes_for_what_is_unknown() -> None:
    (row,) = rows_of(("x", "salient", "all"), ["a"], np.full((2, 1), np.nan), np.zeros(2, bool))
    assert math.isnan(row.mean)
    assert (row.pairs, row.aligned_pairs) == (0, 0)
    assert as_markdown(["a", "b"], [["1", "–"]]) == "| a | b |\n| --- | --- |\n| 1 | – |\n"
    assert r"50 \% & 1 $\pm$ 2 \\" in as_latex(["a", "b"], [["50 %", "1 ± 2"]])


# The cohort


def test_simulated_heads_are_known_by_their_number_and_hold_their_structures() -> None:
    settings = FetalHeadSettings()
    head, again = simulate_fetal_head(settings, 4, 7), simulate_fetal_head(settings, 4, 7)
    np.testing.assert_array_equal(head.image, again.image)
    assert head.gaze == again.gaze
    assert head.image.shape == (224, 288)
    assert head.image.dtype == np.uint8
    assert plane_of(settings, 4, 7) == "TV"
    assert head.landmarks.labels == ("csp", "lv", "head_centre")
    assert simulate_fetal_head(settings, 4, 8).landmarks.labels[1] == "cerebellum"
    one_plane = FetalHeadSettings(planes=("TV",))
    assert [plane_of(one_plane, 4, number) for number in (7, 8)] == ["TV", "TV"]
    assert simulate_fetal_head(one_plane, 4, 8).landmarks.labels[1] == "lv"
    csp, lv, centre = head.landmarks.positions[:, :2]
    axis = long_axis_of(settings, 4, 7)
    assert np.linalg.norm(csp - centre) / axis == pytest.approx(0.21, abs=0.07)
    assert np.linalg.norm(lv - centre) / axis == pytest.approx(0.22, abs=0.07)


def test_simulated_observers_look_at_structures_and_a_few_elsewhere() -> None:
    settings = FetalHeadSettings()
    near, whole = 0, 0
    for number in range(1, 9):
        head = simulate_fetal_head(settings, 1, number)
        points = np.array([look[1:3] for look in head.gaze])
        assert (points >= -0.5).all()
        assert (points < np.array(settings.size) - 0.5).all()
        structures = head.landmarks.positions[:2, :2]
        away = np.linalg.norm(points[:, None] - structures[None], axis=2).min(axis=1)
        near += int((away < 0.1 * long_axis_of(settings, 1, number)).sum())
        whole += len(points)
        for observer in {look[0] for look in head.gaze}:
            orders = [look[4] for look in head.gaze if look[0] == observer]
            assert orders == list(range(1, len(orders) + 1))
    assert 0.65 < near / whole < 0.95


def test_a_scanner_shows_the_same_heads_otherwise() -> None:
    plain, scanner = FetalHeadSettings(), FetalHeadSettings(look="scanner")
    boxes = {"boxed": 0.0, "hidden": 0.0}
    clear = FetalHeadSettings(look="scanner", scanner=ScannerSettings(**boxes))
    dark, bone = [], []
    for number in range(1, 7):
        one, other = (simulate_fetal_head(each, 3, number) for each in (plain, scanner))
        np.testing.assert_array_equal(one.landmarks.positions, other.landmarks.positions)
        assert one.gaze == other.gaze
        assert other.image.shape == one.image.shape
        assert (other.image != one.image).mean() > 0.5
        head = simulate_fetal_head(clear, 3, number)
        x, y = head.landmarks.positions[-1, :2]
        axis = long_axis_of(clear, 3, number)
        # Bone across the beam is brighter than the brain: seen from above, below the centre.
        column = head.image[int(y) : int(y + 0.55 * axis), int(x) - 2 : int(x) + 3].mean(axis=1)
        bone.append(column[int(0.3 * axis) :].max())
        dark.append(np.median(column[: int(0.3 * axis)]))
    assert (np.array(bone) > dark).all()
    again = simulate_fetal_head(scanner, 3, 6)
    np.testing.assert_array_equal(again.image, other.image)


def test_a_head_that_fits_no_picture_is_refused() -> None:
    with pytest.raises(ValueError, match="expected 40 <= first <= second and a head that fits"):
        FetalHeadSettings(long_axis=(150, 400))
    with pytest.raises(ValueError, match="range_db is 60 to 40, expected 0 < first <= second"):
        ScannerSettings(range_db=(60, 40))


# Pictures of another kind


def seen_as(values: Array) -> Seen:
    """A picture of 16x16 pixels whose coarse levels hold these values, (channels, 4, 4)."""
    level = values.astype(np.float32)
    saliency = np.full((4, 4), 1 / 16, np.float32)
    return Seen(saliency, (level, level[:, :2, :2], level))


FRAME = Frame(16, 16, 16, 16, 4)


def learned_features(count: int) -> list[Array]:
    random = np.random.default_rng(8)
    return [
        described(seen_as(random.normal([[[2.0]], [[-1.0]]], 0.5, (2, 4, 4))), FRAME)
        for _ in range(count)
    ]


def test_a_picture_of_another_kind_is_told_and_of_the_same_kind_hardly_ever() -> None:
    features = learned_features(300)
    steps = [
        {("a", "b"): np.array([0.3, 0.1]) + RANDOM.normal(0, 0.02, 2)} for _ in range(len(features))
    ]
    moves = [{("a", "b"): float(RANDOM.uniform(0.01, 0.05))} for _ in features]
    known = familiar_of(
        features[:100], RANDOM.normal(3, 0.1, 100).tolist(), steps[:100], moves[:100]
    )
    limits, every = known.limits(0.99), ("picture", "map", "steps", "moves")
    further = [
        known.strangeness(one, 3.0, step, moved)
        for one, step, moved in zip(features, steps, moves, strict=True)
    ][100:]
    assert sum(bool(one.doubts(limits, every)) for one in further) <= 16
    other = described(seen_as(RANDOM.normal([[[-1.0]], [[2.0]]], 0.5, (2, 4, 4))), FRAME)
    strange = known.strangeness(other, 9.0, {("a", "b"): np.array([0.1, 0.5])}, {("a", "b"): 0.2})
    said = strange.doubts(limits, every)
    assert said[0].startswith("it is unlike the pictures learned from (")
    assert said[1:] == [
        "its map is flatter than those of the pictures learned from",
        "a and b do not lie as in the pictures learned from",
        "a and b move when the picture is changed a little",
    ]
    assert strange.doubts(limits, ("moves",)) == said[3:]
    assert strange.doubts(limits, ()) == []
    assert min(strange.over(limits).values()) > 1


def test_limits_hold_no_more_than_the_pictures_learned_from_can_say() -> None:
    known = familiar_of(learned_features(20), list(np.linspace(2, 3, 20)), [{}] * 20, [{}] * 20)
    assert known.limits(0.99).flat == 3
    assert known.limits(0.5).flat == pytest.approx(2 + 10 / 19)
    # Steps that too few pictures learned from have are not judged.
    strange = known.strangeness(
        learned_features(1)[0], 2.5, {("a", "b"): np.ones(2)}, {("a", "b"): 1.0}
    )
    assert (strange.steps, strange.moves) == ({}, {})


def test_features_of_a_picture_leave_out_what_lies_beside_it() -> None:
    values = np.zeros((1, 4, 4))
    values[:, :, 3:] = 100
    beside = Frame(12, 16, 16, 16, 4)
    assert described(seen_as(values), beside).max() == 0
    assert described(seen_as(values), FRAME).max() > 0


def test_steps_are_those_of_named_landmarks_and_of_the_mirror_image_alike() -> None:
    points = np.array([[4.0, 2.0], [9.0, 9.0], [12.0, 10.0], [0.0, 0.0]])
    found = steps_between(["b", "", "a", "b"], points, FRAME)
    assert list(found) == [("a", "b")]
    np.testing.assert_allclose(found["a", "b"], [0.5, -0.5])
    mirrored = points * [-1, 1] + [15, 0]
    np.testing.assert_allclose(
        steps_between(["b", "", "a", "b"], mirrored, FRAME)["a", "b"], [0.5, -0.5]
    )


def test_landmarks_move_by_their_distance_to_the_maxima_of_changed_views() -> None:
    points = np.array([[0.0, 0.0], [10.0, 0.0], [5.0, 9.0]])
    here, shifted = points, points + np.array([3.0, 0.0])
    lost = points[:1]
    assert moves_of(["a", "b", ""], points, [here, here]) == {("a", "b"): 0}
    assert moves_of(["a", "b", ""], points, [shifted] * 2)["a", "b"] == pytest.approx(0.3)
    # Of two landmarks the one that moves more counts; a lost one moves as far as they are apart.
    assert moves_of(["b", "a", ""], points, [lost])["a", "b"] == pytest.approx(1)
    assert moves_of(["a", "b", ""], points, [here, lost])["a", "b"] == pytest.approx(0.5**0.5)
    assert moves_of(["a", "", ""], points, [here]) == {}
    assert moves_of(["a", "b", ""], points, []) == {}


def test_what_differs_within_a_structure_does_not_tell_landmarks_apart() -> None:
    random = np.random.default_rng(4)
    own = Gathered()
    # One channel tells two structures apart, another one differs by more within each of them.
    for number in range(60):
        which = number % 2
        own.features.append(np.array([which, 8 * random.random(), 0], np.float32))
        own.near.append([("a", "b")[which]])
        own.changes += [random.normal(0, 0.05, 3).astype(np.float32) for _ in range(2)]
    settings = ClusterSettings(clusters=2, dimensions=2)
    for alike, share in (("views", 0.8), ("structures", 1.0)):
        chosen = settings.model_copy(update={"alike": alike})
        made, _ = clustered({"all": own}, ("a", "b"), chosen, 1)
        numbers = made["all"].of(np.array(own.features))
        same = np.mean(numbers == np.arange(60) % 2)
        assert (max(same, 1 - same) >= share) == (alike == "structures")
    own.near = [[] for _ in own.near]
    with pytest.raises(InputError, match="expected annotated ones"):
        own.alike(chosen)


def test_what_pictures_are_like_is_read_as_it_was_written(tmp_path: Path) -> None:
    steps = [{("a", "b"): RANDOM.normal(0, 1, 2)} for _ in range(12)]
    moves = [{("a", "b"): float(RANDOM.uniform())} for _ in range(12)]
    known = familiar_of(learned_features(12), [1.0] * 12, steps, moves)
    save_familiar(tmp_path / "familiar.npz", {"all": known})
    again = load_familiar(tmp_path / "familiar.npz")["all"]
    assert again.limits(0.9) == known.limits(0.9)
    np.testing.assert_array_equal(again.kind.precision, known.kind.precision)
    (tmp_path / "other.npz").write_bytes(b"PK")
    with pytest.raises(InputError, match="cannot be read as what pictures learned from are like"):
        load_familiar(tmp_path / "other.npz")
