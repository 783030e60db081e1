import csv
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
from pydantic import ValidationError

from landmarkflow.core.errors import InputError
from landmarkflow.core.points import Landmarks, PointList
from landmarkflow.core.records import Record, Step, read_record, write_record
from landmarkflow.engine.store import Task
from landmarkflow.evaluation.errors import ScanPoints, error_table
from landmarkflow.evaluation.evaluate import evaluate
from landmarkflow.evaluation.failures import failure_table
from landmarkflow.evaluation.overlap import overlap_table
from landmarkflow.evaluation.parts import LENGTHS, by_group, in_lengths, with_lengths
from landmarkflow.evaluation.published import (
    PUBLISHED,
    beside_figures,
    beside_means,
    beside_published,
    published_texts,
)
from landmarkflow.evaluation.results import ALL_LABELS
from landmarkflow.evaluation.settings import EvaluateSettings, LengthSettings, factor_of
from landmarkflow.evaluation.summary import (
    ALL,
    bootstrap_interval,
    statistics,
    summarise,
)
from landmarkflow.evaluation.tables import (
    accuracy_caption,
    accuracy_table,
    escape_latex,
    escape_markdown,
    frame_csv,
    print_scans,
    scans_csv,
)
from landmarkflow.formats.slicer import write_markups
from landmarkflow.images.identity import Identity

NAN = [math.nan] * 3


def landmarks(**positions: list[float]) -> Landmarks:
    return Landmarks(tuple(positions), np.array(list(positions.values()), dtype=float))


def final(notes: tuple[str, ...] = (), name: str = "final", **positions: list[float]) -> PointList:
    return PointList(name, landmarks(**positions), None, notes)


def table_of(errors: dict[str, list[float]], labels: tuple[str, ...] = ()) -> pd.DataFrame:
    """An error table of one stage with the given errors along x, NaN for missing."""
    count = len(next(iter(errors.values())))
    labels = labels or tuple("abcdefghijklmnopqrstuvwxyz"[:count])
    scans = []
    for scan, values in errors.items():
        positions = np.array([[v, 0.0, 0.0] if not math.isnan(v) else NAN for v in values])
        points = PointList("final", Landmarks(labels, positions), None)
        scans.append(ScanPoints(scan, (points,), Landmarks(labels, np.zeros((count, 3)))))
    return error_table(scans)


# Errors ---------------------------------------------------------------------------------------


def test_errors_are_distances_and_signed_components():
    reference = landmarks(apex=[1, 2, 3], window=[0, 0, 0])
    detected = PointList(
        "final", landmarks(apex=[4, -2, 3], window=[0, 0, -0.5]), np.array([0.9, math.nan])
    )
    table = error_table([ScanPoints("s1", (detected,), reference)])
    apex, window = (row for _, row in table.iterrows())
    assert (apex["error"], apex["error_x"], apex["error_y"]) == (5.0, 3.0, -4.0)
    assert apex["radius"] == 0.9
    assert (window["error"], window["error_z"]) == (0.5, -0.5)
    assert math.isnan(window["radius"])


def test_missing_landmarks_keep_their_reason_and_never_become_zero():
    reference = landmarks(a=[1, 1, 1], b=[2, 2, 2], c=[3, 3, 3])
    lists = (final(("too faint", ""), a=NAN, b=NAN),)
    table = error_table([ScanPoints("s", lists, reference)])
    assert table["error"].isna().all()
    assert list(table["reason"]) == [
        "too faint",
        "missing without a stated reason",
        "not among the final points",
    ]


def test_error_csv_has_four_decimals_and_empty_fields_for_missing():
    text = frame_csv(table_of({"s1": [1 / 3, math.nan]}))
    assert text.splitlines()[1:] == [
        "s1,a,final,0.3333,0.3333,0.0000,0.0000,,",
        "s1,b,final,,,,,,missing without a stated reason",
    ]
    assert "\r" not in text


def test_a_stage_that_a_scan_lacks_counts_as_missing():
    reference = landmarks(a=[0, 0, 0])
    both = (final(name="rigid", a=[2, 0, 0]), final(a=[1, 0, 0]))
    table = error_table(
        [
            ScanPoints("s1", both, reference),
            ScanPoints("s2", (final(a=[1, 0, 0]),), reference),
            ScanPoints("s3", (), reference, "locate: nothing found"),
        ]
    )
    assert list(table["stage"]) == ["final", "rigid"] * 3
    assert list(table["reason"])[2:] == ["", "no rigid points", *["locate: nothing found"] * 2]


def test_scans_and_landmarks_without_reference_are_not_evaluated():
    table = error_table(
        [
            ScanPoints("free", (final(a=[0, 0, 0]),), None),
            ScanPoints("s", (final(a=[0, 0, 0], b=[0, 0, 0]),), landmarks(a=[1, 0, 0], b=NAN)),
        ]
    )
    assert table[["scan", "landmark"]].to_numpy().tolist() == [["s", "a"]]


def test_unknown_points_and_differing_references_are_refused():
    with pytest.raises(InputError, match=r'scan s: .*"final" has the landmark "b".*reference: a'):
        error_table([ScanPoints("s", (final(b=[0, 0, 0]),), landmarks(a=[0, 0, 0]))])
    with pytest.raises(InputError, match=r"scan s2: the reference has the labels b, expected .* a"):
        error_table(
            [
                ScanPoints("s1", (), landmarks(a=[0, 0, 0])),
                ScanPoints("s2", (), landmarks(b=[0, 0, 0])),
            ]
        )


# Summary --------------------------------------------------------------------------------------


def test_statistics_by_hand():
    errors = np.array([0.5, 1.0, 3.0, math.nan])
    found = statistics(errors, (0.5, 1.0, 2.0))
    assert (found["n"], found["missing"]) == (3, 1)
    assert found["mean"] == pytest.approx(1.5)
    assert found["sd"] == pytest.approx(math.sqrt((1.0 + 0.25 + 2.25) / 3))
    assert (found["median"], found["max"]) == (1.0, 3.0)
    assert found["p95"] == pytest.approx(2.8)
    rates = {name: value for name, value in found.items() if name.startswith("within")}
    assert rates == {"within_0.5_percent": 25, "within_1_percent": 50, "within_2_percent": 50}


def test_statistics_of_nothing_are_nan_but_misses_count():
    found = statistics(np.full(2, math.nan), (1.0,))
    assert (found["n"], found["missing"], found["within_1_percent"]) == (0, 2, 0)
    assert all(math.isnan(found[name]) for name in ("mean", "sd", "median", "p95", "max"))
    assert math.isnan(statistics(np.empty(0), (1.0,))["within_1_percent"])


def draw_scans(count: int, resamples: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, count, (resamples, count))


def test_bootstrap_resamples_whole_scans():
    # Ten scans, whose landmarks all err by 0 or all by 1: a resample's mean is a tenth, and its
    # deviation 0.16. Drawing single landmarks instead would give an interval close to 0.5.
    errors = np.repeat([0.0, 1.0] * 5, 50)
    scans = np.repeat(np.arange(10), 50)
    assert bootstrap_interval(errors, scans, draw_scans(10, 2000, 7)) == (0.2, 0.8)


def test_bootstrap_interval_matches_the_normal_one_and_its_seed():
    rng = np.random.default_rng(0)
    errors = rng.gamma(4.0, 0.1, 200)
    scans = np.arange(200)
    interval = bootstrap_interval(errors, scans, draw_scans(200, 2000, 1))
    half = 1.96 * errors.std() / math.sqrt(200)
    assert interval == pytest.approx((errors.mean() - half, errors.mean() + half), abs=0.006)
    assert interval == bootstrap_interval(errors, scans, draw_scans(200, 2000, 1))
    assert interval != bootstrap_interval(errors, scans, draw_scans(200, 2000, 2))


@pytest.mark.parametrize("count", [1, 9])
def test_fewer_than_ten_scans_have_no_interval(count):
    interval = bootstrap_interval(np.arange(count) * 1.0, np.arange(count), draw_scans(count, 9, 0))
    assert all(map(math.isnan, interval))


def test_summary_by_stage_and_landmark():
    summary = summarise(table_of({"s1": [1, 3], "s2": [2, 5]}), EvaluateSettings(), 0)
    assert summary[["stage", "landmark"]].to_numpy().tolist() == [
        ["final", ALL],
        ["final", "a"],
        ["final", "b"],
    ]
    assert summary["mean"].tolist() == pytest.approx([2.75, 1.5, 4.0])
    many = {f"s{i}": [i, 2 * i] for i in range(10)}
    summary = summarise(table_of(many), EvaluateSettings(), 0)
    assert (summary["interval_low"] < summary["mean"]).all()


# Published table ------------------------------------------------------------------------------


def test_published_table_recomputed():
    errors = PUBLISHED["wang2020"].errors.to_numpy()
    assert errors.shape == (20, 3)
    assert np.round(errors.mean(axis=0), 3).tolist() == [0.582, 0.739, 0.795]
    assert np.round(errors.std(axis=0), 3).tolist() == [0.194, 0.381, 0.353]
    assert (100 * (errors < 1).mean(axis=0)).tolist() == [100.0, 70.0, 75.0]


def test_published_note_tells_how_the_paper_printed_its_last_row():
    published = PUBLISHED["wang2020"]
    means = np.floor(100 * published.errors.mean()) / 100
    deviations = np.floor(100 * published.errors.std(ddof=1)) / 100
    for mean, deviation in zip(means, deviations, strict=True):
        assert f"{mean:.2f}±{deviation:.2f}" in published.note


def test_comparison_by_printed_name():
    settings = EvaluateSettings(columns={"apex": "TOP", "centre": "CENTER"})
    errors = table_of({"s1": [0.5, 0.2, 9], "s2": [1.5, 0.4, math.nan]}, ("apex", "centre", "x"))
    table = beside_published(errors, PUBLISHED["wang2020"], settings).set_index("landmark")
    assert table.loc["apex", "mean"] == pytest.approx(1.0)
    assert table.loc["apex", "within_1_percent"] == 50.0
    assert table.loc["apex", "published_mean"] == pytest.approx(0.7392, abs=1e-4)
    assert table.loc["centre", "published_within_1_percent"] == 100.0
    assert table.loc["x", "published_n"] == 0
    assert math.isnan(table.loc["x", "published_mean"])
    with pytest.raises(InputError, match=r"columns are apex, centre, x, expected .* CENTER, TOP"):
        beside_published(errors, PUBLISHED["wang2020"], EvaluateSettings())


# Tables ---------------------------------------------------------------------------------------


def test_table_1_in_the_papers_layout():
    errors = table_of({"s_1": [0.2, 1.0], "s_2": [0.6, math.nan]}, ("apex", "b"))
    table = accuracy_table(errors, EvaluateSettings(columns={"apex": "TOP"}))
    assert list(csv.reader(scans_csv(table, 4).splitlines())) == [
        ["ID", "scan", "TOP", "b"],
        ["0", "s_1", "0.2000", "1.0000"],
        ["1", "s_2", "0.6000", ""],
        ["Mean", "", "0.40", "1.00"],
    ]
    caption = accuracy_caption(table, "mm")
    assert "1 value is missing" in caption
    assert "n too small for a deviation" in caption
    markdown = print_scans(table, "Table 1.", 3, "mm").markdown()
    assert markdown.splitlines()[0] == "Table 1."
    assert "| 1 | s\\_2 | 0.600 | – |" in markdown
    assert "| Mean |  | 0.40 mm | 1.00 mm |" in markdown
    latex = print_scans(table, "A & B", 3, "mm").latex("tab:x", names=2)
    assert r"1 & s\_2 & 0.600 & -- \\" in latex
    assert r"Mean &  & 0.40 mm & 1.00 mm \\" in latex
    assert r"\caption{A \& B}" in latex
    assert latex.count(r"\midrule") == 2
    assert latex.count(r"\toprule") == latex.count(r"\bottomrule") == 1


def test_ten_scans_have_a_deviation():
    errors = table_of({f"s{i}": [0.2 if i % 2 else 0.6, 1.0 if i else math.nan] for i in range(10)})
    table = accuracy_table(errors, EvaluateSettings())
    # One of the two landmarks was found in nine scans alone.
    assert scans_csv(table, 4).splitlines()[-1] == "Mean,,0.40±0.20,1.00"
    assert "mean ± standard deviation (divided by n)" in accuracy_caption(table, "mm")


def test_means_beside_published_ones_in_mm_and_in_their_voxels():
    errors = table_of({"a": [0.0988], "b": [0.2964]})
    rows = [("a", "1", 0.5), ("a", ALL_LABELS, 0.9), ("b", ALL_LABELS, 0.8)]
    overlap = overlap_table([(*row, 0.7, 0.1, 0.2, 0.05, "") for row in rows])
    published = PUBLISHED["stebani2023"]
    table = beside_figures(errors, overlap, published).set_index("figure")
    assert table.loc["landmark error, mm", "mean"] == pytest.approx(0.1976)
    assert table.loc["landmark error, voxels", "mean"] == pytest.approx(2)
    assert table.loc["Dice", ["n", "mean"]].tolist() == pytest.approx([2, 0.85])
    theirs = table["A (43 cadaveric)"]
    assert theirs.tolist() == pytest.approx([0.326, 3.3, 0.97, 0.94, 0.065], abs=1e-3)
    assert table.iloc[0]["B (9 clinical)"] == pytest.approx(0.514, abs=1e-3)
    alone = beside_figures(errors, None, published).set_index("figure")
    assert math.isnan(alone.loc["IoU", "mean"])
    texts = published_texts("stebani2023", errors, None, EvaluateSettings())
    assert "| landmark error, voxels |" in texts["published.md"]
    assert texts["published_table.csv"].splitlines()[2] == '"landmark error, voxels",3.3000,5.2000'


def test_means_of_landmarks_beside_published_ones_of_other_pictures(tmp_path):
    errors = table_of({"a": [10.0, 4.0, 1.0], "b": [30.0, math.nan, 1.0]}, ("macula", "disc", "x"))
    settings = EvaluateSettings(columns={"macula": "fovea", "disc": "optic_disc"})
    table = beside_means(errors, PUBLISHED["fundus"], settings).set_index("figure")
    assert table.loc["macula, px", ["n", "mean", "sd"]].tolist() == [2, 20, 10]
    assert table.loc["macula, px", "HBA-U-Net, IDRiD"] == 32.1
    assert table.loc["disc, px", ["n", "mean", "HBA-U-Net, IDRiD"]].tolist() == [1, 4, 20.5]
    assert math.isnan(table.loc["disc, px", "ADAM challenge, best"])
    assert table.loc["x, px", list(PUBLISHED["fundus"].sets)].isna().all()
    texts = published_texts("fundus", errors, None, settings)
    assert "Other data: " in texts["published.md"]
    assert texts["published_table.csv"].splitlines()[2].startswith("optic_disc,20.5000,")
    with pytest.raises(InputError, match=r"published is fundus, figures in px, .* unit is mm"):
        evaluate(write_study(tmp_path), tmp_path, EvaluateSettings(published="fundus"), seed=0)


def test_published_table_in_the_same_layout():
    rows = list(csv.reader(scans_csv(PUBLISHED["wang2020"].errors, 6).splitlines()))
    assert rows[0] == ["ID", "CENTER", "TOP", "WINDOW"]
    assert rows[20] == ["19", "0.389453", "0.391017", "0.880967"]
    assert rows[21] == ["Mean", "0.58±0.19", "0.74±0.38", "0.79±0.35"]


def test_many_landmarks_give_statistics_of_each_scan():
    values = [float(v) for v in range(1, 21)]
    table = accuracy_table(table_of({"s": values}), EvaluateSettings())
    assert list(table) == ["mean", "median", "p95", "max"]
    assert table.loc["s"].tolist() == pytest.approx([10.5, 10.5, 19.05, 20.0])


def test_column_titles_must_fit_the_landmarks():
    errors = table_of({"s": [1, 2]})
    with pytest.raises(
        InputError, match=r'columns names the landmark "apex", expected one of a, b'
    ):
        accuracy_table(errors, EvaluateSettings(columns={"apex": "TOP"}))
    with pytest.raises(InputError, match="gives two landmarks one title"):
        accuracy_table(errors, EvaluateSettings(columns={"a": "b"}))


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("50% of A_1 & {B}", r"50\% of A\_1 \& \{B\}"),
        (r"a\b~c^d", r"a\textbackslash{}b\textasciitilde{}c\textasciicircum{}d"),
        ("$1 #2\n<x>", r"\$1 \#2 \textless{}x\textgreater{}"),
    ],
)
def test_latex_escaping(text, escaped):
    assert escape_latex(text) == escaped


def test_markdown_escaping():
    assert escape_markdown("a|b_c*<d>") == r"a\|b\_c\*\<d\>"


# Failures -------------------------------------------------------------------------------------


def test_every_doubt_and_large_error_has_a_row_and_a_stop_has_the_only_one():
    errors = table_of(
        {"bad": [3, 5], "good": [0.1, 0.3], "part": [0.1, math.nan], "no": [math.nan, math.nan]}
    )
    chains = {
        "good": [Step("locate")],
        "stopped": [
            Step("references", "doubtful", "few"),
            Step("rigid", "failed", "no overlap"),
            Step("deform", "refused", "nothing to deform"),
        ],
        "bad": [
            Step("scans", "doubtful", "tilted"),
            Step("scans", "doubtful", "tilted"),
            Step("centre", "doubtful", "did not converge"),
        ],
        "part": [],
        "no": [Step("centre", "doubtful", "did not converge")],
    }
    table = failure_table(chains, errors, 2.0, "px")
    missing = "landmarks missing: missing without a stated reason"
    assert table.to_numpy().tolist() == [
        ["stopped", "rigid", "failed", "no overlap"],
        ["bad", "scans", "doubtful", "tilted"],
        ["bad", "centre", "doubtful", "did not converge"],
        ["bad", "evaluate", "large error", "mean error 4.00 px over 2 landmarks, above 2 px"],
        ["part", "evaluate", "doubtful", f"1 of 2 {missing}"],
        ["no", "evaluate", "failed", f"2 of 2 {missing}"],
        ["no", "centre", "doubtful", "did not converge"],
    ]


# The whole evaluation -------------------------------------------------------------------------


def write_study(folder: Path) -> list[Task]:
    rng = np.random.default_rng(5)
    labels = ("apex", "centre", "window")
    scans = []
    for scan in ("s1", "s2", "lost", "free"):
        truth = Landmarks(labels, rng.normal(0, 20, (3, 3)))
        files = {
            "found": folder / "landmarks" / f"{scan}.mrk.json",
            "record": folder / "landmarks" / f"{scan}.json",
            "reference": folder / "references" / f"{scan}.mrk.json",
            "references_record": folder / "references" / f"{scan}.json",
        }
        record = Record(scan, "place", earlier=(Step("rigid"),))
        found = Landmarks(labels, truth.positions + rng.normal(0, 0.3, (3, 3)))
        write_markups(files["found"], [PointList("final", found, np.array([0.5, 0.6, 0.7]))])
        if scan == "lost":
            files["found"].write_bytes(b"")
            earlier = (Step("rigid", "failed", "no overlap"),)
            record = Record(scan, "place", "failed", "nothing to place", earlier=earlier)
        write_record(files["record"], record)
        write_markups(files["reference"], [PointList("reference", truth, None)])
        write_record(files["references_record"], Record(scan, "references"))
        if scan == "free":
            files["reference"].write_bytes(b"")
        scans.append(Task(scan, files, {}))
    return scans


SETTINGS = EvaluateSettings(
    published="wang2020", columns={"apex": "TOP", "centre": "CENTER", "window": "WINDOW"}
)


TABLES = ["errors.csv", "failures.csv"]
PRODUCTS = ["landmarks.csv", "landmarks_wide.csv", "scans.csv"]
PUBLISHED_TABLES = ["published.csv", "published.md", "published_table.csv"]
TABLES_1 = ["statistics.csv", "summary.json", "table1.csv", "table1.md", "table1.tex"]


def summary_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "evaluation/summary.json").read_text(encoding="utf-8"))


def test_evaluate_writes_the_same_bytes_again(tmp_path):
    scans = write_study(tmp_path)
    for name in ("one", "two"):
        evaluate(scans=scans, folder=tmp_path / name, settings=SETTINGS, seed=3)
    names = sorted(path.name for path in (tmp_path / "one/evaluation").iterdir())
    assert names == [*TABLES, *PUBLISHED_TABLES, *TABLES_1]
    for name in [*PRODUCTS, *(f"evaluation/{name}" for name in names)]:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_evaluate_counts_and_reasons(tmp_path):
    evaluate(scans=write_study(tmp_path), folder=tmp_path / "out", settings=SETTINGS, seed=3)
    summary = summary_of(tmp_path / "out")
    assert summary["unit"] == "mm"
    assert summary["scans"] == {"total": 4, "evaluated": 3}
    assert summary["failures"]["scans"] == summary["failures"]["failed"] == 1
    assert EvaluateSettings.model_validate(summary["settings"]) == SETTINGS
    overall = summary["stages"]["final"]["overall"]
    assert (overall["n"], overall["missing"]) == (6, 3)
    assert overall["interval"] is None, "of three scans"
    errors = pd.read_csv(tmp_path / "out/evaluation/errors.csv")
    assert errors["error"].mean() == pytest.approx(overall["mean"], abs=1e-4)
    lost = errors[errors["scan"] == "lost"]
    assert lost["reason"].tolist() == ["rigid: no overlap"] * 3
    failures = (tmp_path / "out/evaluation/failures.csv").read_text()
    assert failures == "scan,stage,status,reason\nlost,rigid,failed,no overlap\n"


def test_a_refused_reference_is_a_failure_of_its_scan(tmp_path):
    scans = write_study(tmp_path)
    scans[0].inputs["reference"].write_bytes(b"")
    refused = Record("s1", "references", "refused", "outside")
    write_record(scans[0].inputs["references_record"], refused)
    evaluate(scans=scans, folder=tmp_path / "out", settings=SETTINGS, seed=3)
    failures = (tmp_path / "out/evaluation/failures.csv").read_text().splitlines()
    assert failures[1] == "s1,references,refused,outside"
    assert summary_of(tmp_path / "out")["scans"]["evaluated"] == 2


def test_two_scans_of_one_image_saved_anew_are_counted_nowhere(tmp_path):
    scans = write_study(tmp_path)
    rng = np.random.default_rng(0)
    images = [sitk.GetImageFromArray(rng.normal(size=(4, 5, 6))) for _ in range(2)]
    for scan, image in zip(scans[:3], (images[0], images[0], images[1]), strict=True):
        details = {"image": Identity.of(image).as_record()}
        record = read_record(scan.inputs["record"])
        write_record(scan.inputs["record"], replace(record, details=details))
    evaluate(scans=scans, folder=tmp_path / "out", settings=SETTINGS, seed=3)
    summary = summary_of(tmp_path / "out")
    assert summary["scans"]["evaluated"] == 1
    assert summary["failures"]["refused"] == 2
    errors = pd.read_csv(tmp_path / "out/evaluation/errors.csv")
    assert set(errors["scan"]) == {"lost"}
    failures = (tmp_path / "out/evaluation/failures.csv").read_text().splitlines()
    assert failures[1] == (
        's1,evaluate,refused,"scan s1: holds the same image as the scan s2, saved anew, expected '
        'another image, or another side of it that is stated for each"'
    )
    # Two sides of one image are two scans.
    for scan, side in zip(scans, ("left", "right", "", ""), strict=True):
        scan.row["side"] = side
    evaluate(scans=scans, folder=tmp_path / "out", settings=SETTINGS, seed=3)
    assert summary_of(tmp_path / "out")["scans"]["evaluated"] == 3


def test_without_failures_only_the_header_is_written(tmp_path):
    scans = write_study(tmp_path)[:2]
    evaluate(scans=scans, folder=tmp_path / "out", settings=EvaluateSettings(), seed=0)
    assert (tmp_path / "out/evaluation/failures.csv").read_text() == "scan,stage,status,reason\n"
    names = sorted(path.name for path in (tmp_path / "out/evaluation").iterdir())
    assert names == [*TABLES, *TABLES_1]


def test_a_study_without_references_still_gets_its_files(tmp_path):
    scans = write_study(tmp_path)
    for scan in scans:
        scan.inputs["reference"].write_bytes(b"")
    evaluate(scans=scans, folder=tmp_path / "out", settings=SETTINGS, seed=0)
    summary = summary_of(tmp_path / "out")
    assert summary["scans"]["evaluated"] == 0
    assert summary["stages"] == {}
    assert (tmp_path / "out/evaluation/failures.csv").read_text().splitlines()[1:] == [
        "lost,rigid,failed,no overlap"
    ]


def test_percent_are_of_the_length_that_each_scan_states(tmp_path):
    scans = write_study(tmp_path)
    plain = EvaluateSettings()
    evaluate(scans=scans, folder=tmp_path / "mm", settings=plain, seed=0)
    scales = {"s1": "50", "s2": "200.0", "lost": "1", "free": ""}
    scaled = [replace(scan, row={"scale": scales[scan.scan]}) for scan in scans]
    evaluate(scans=scaled, folder=tmp_path / "%", settings=plain, seed=0, unit="%")
    columns = ["error", "error_x", "error_y", "error_z", "radius"]
    mm, percent = (pd.read_csv(tmp_path / unit / "evaluation/errors.csv") for unit in ("mm", "%"))
    for scan, factor in (("s1", 2.0), ("s2", 0.5)):
        here, there = (t.loc[t["scan"] == scan, columns].to_numpy() for t in (percent, mm))
        np.testing.assert_allclose(here, factor * there, atol=2e-4)
    assert summary_of(tmp_path / "%")["unit"] == "%"
    table = (tmp_path / "%" / "evaluation/table1.md").read_text(encoding="utf-8")
    assert "distance in % of the length that each scan states between" in table
    assert " mm" not in table
    for scale, said in (("", "none"), ("-2", "-2")):
        scaled[1] = replace(scans[1], row={"scale": scale})
        with pytest.raises(InputError, match=rf"scan s2: the length that .* is {said}, expected"):
            evaluate(scans=scaled, folder=tmp_path, settings=plain, seed=0, unit="%")


def test_pixels_stand_in_the_caption_and_not_beside_a_table_in_mm(tmp_path):
    scans = write_study(tmp_path)
    evaluate(scans=scans, folder=tmp_path / "px", settings=EvaluateSettings(), seed=0, unit="px")
    table = (tmp_path / "px" / "evaluation/table1.md").read_text(encoding="utf-8")
    assert "Euclidean distance in pixels between" in table
    assert table.splitlines()[-1].count(" px |") == 3
    with pytest.raises(InputError, match=r"published is wang2020, figures in mm, .* unit is px"):
        evaluate(scans=scans, folder=tmp_path / "px", settings=SETTINGS, seed=0, unit="px")


def test_files_that_do_not_belong_are_refused(tmp_path):
    scans = write_study(tmp_path)
    write_markups(scans[0].inputs["found"], [final(name="rigid", apex=[0, 0, 0])])
    with pytest.raises(InputError, match=r"s1.mrk.json: the point lists are rigid, .* final"):
        evaluate(scans=scans, folder=tmp_path / "out", settings=SETTINGS, seed=0)
    write_record(scans[0].inputs["record"], Record("s9", "rigid"))
    with pytest.raises(InputError, match=r's1.json: the record is of scan "s9", expected "s1"'):
        evaluate(scans=scans, folder=tmp_path / "out", settings=SETTINGS, seed=0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"radii": (1.0, 0.5)},
        {"radii": (0.0, 0.5)},
        {"radii": ()},
        {"columns": {"a": "TOP", "b": "TOP"}},
        {"published": "nobody"},
        {"radius": 1},
        {"large_error": math.inf},
        {"overlap_labels": (0,)},
    ],
)
def test_settings_that_make_no_sense(wrong):
    with pytest.raises(ValidationError):
        EvaluateSettings(**wrong)


# Groups and lengths ---------------------------------------------------------------------------

DISCS = LengthSettings(name="discs", between=("disc", "fovea"), times=0.5, radii=(0.5, 1.0))


def fundus(scan: str, apart: float, error: float, factor: float = 1.0) -> ScanPoints:
    """A scan whose fovea is found some way off, and whose disc is not found."""
    reference = landmarks(disc=[0, 0, 0], fovea=[apart, 0, 0])
    found = final(disc=NAN, fovea=[apart + error, 0, 0])
    return ScanPoints(scan, (found,), reference, factor=factor)


def test_errors_in_a_length_are_of_each_scan_s_own_references():
    nowhere = ScanPoints("c", (final(disc=[1, 0, 0]),), landmarks(disc=[0, 0, 0], fovea=NAN))
    # What a pixel measures changes the error and the length alike.
    scans = [fundus("a", 10, 5), fundus("b", 40, 5, factor=4.0), nowhere]
    table = with_lengths(error_table(scans), scans, DISCS)
    assert list(table["error"].dropna()) == [5, 20, 1]
    assert list(table[LENGTHS].dropna()) == pytest.approx([1.0, 0.25])
    told = in_lengths(table, EvaluateSettings(length=DISCS), 1).set_index("landmark")
    # The missing disc counts as not within; a scan without the length does not count.
    assert (told.loc["fovea", "n"], told.loc["disc", "n"], told.loc["disc", "missing"]) == (2, 0, 2)
    assert told.loc["fovea", ["within_0.5_percent", "within_1_percent"]].tolist() == [50, 100]
    assert told.loc[ALL, "mean"] == pytest.approx(0.625)


def test_a_length_between_unknown_landmarks_is_refused():
    scans = [fundus("a", 10, 5)]
    other = DISCS.model_copy(update={"between": ("disc", "macula")})
    with pytest.raises(InputError, match=r'length.between`: no landmark has the label "m'):
        with_lengths(error_table(scans), scans, other)
    with pytest.raises(ValidationError, match="expected two landmarks"):
        LengthSettings(name="discs", between=("disc", "disc"))


def test_each_group_has_a_row_of_its_own_scans():
    errors = table_of({"a": [1, 2], "b": [3, 4], "c": [5, 6]})
    groups = {"a": "one", "b": "two", "c": "one"}
    table = by_group(errors, groups, EvaluateSettings(), 1)
    overall = table[table["landmark"] == ALL].set_index("group")
    assert overall["mean"].to_dict() == {"one": 3.5, "two": 3.5}
    assert overall["scans"].to_dict() == {"one": 2, "two": 1}
    assert by_group(errors, {"a": "", "b": "two"}, EvaluateSettings(), 1)["group"].unique() == "two"


@pytest.mark.parametrize(
    ("unit", "scale", "spacing", "factor"),
    [("px", None, None, 1), ("px", 50, 4, 4), ("mm", None, 0.4, 0.4), ("%", 50, 4, 2)],
)
def test_a_distance_becomes_one_in_the_study_s_unit(unit, scale, spacing, factor):
    assert factor_of(unit, scale, spacing) == factor
