"""The tables of runs side by side and of their steps, from error tables written by hand."""

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from landmarkflow.core.errors import InputError
from landmarkflow.core.files import write_json
from landmarkflow.core.points import Landmarks, PointList
from landmarkflow.core.records import Record, write_record
from landmarkflow.engine.store import Task
from landmarkflow.evaluation.comparison import (
    compare_runs,
    compare_steps,
    print_comparison,
    print_steps,
    write_comparison,
)
from landmarkflow.evaluation.errors import COLUMNS as ERROR_COLUMNS
from landmarkflow.evaluation.evaluate import evaluate
from landmarkflow.evaluation.overlap import overlap_table
from landmarkflow.evaluation.results import OVERLAP_COLUMNS, Run, read_run
from landmarkflow.evaluation.settings import EvaluateSettings
from landmarkflow.evaluation.tables import frame_csv
from landmarkflow.formats.slicer import write_markups

SETTINGS = EvaluateSettings(columns={"a": "TOP"})
NAMES = {"start": "start alone", "final": "+ the rest"}
NAN = math.nan


def errors(**stages: list[list[float]]) -> pd.DataFrame:
    """An error table: stage to rows of scans s1, s2, ... of landmarks a, b, ...; radii 0.5."""
    rows = [
        {"scan": f"s{n}", "landmark": label, "stage": stage, "error": value, "radius": 0.5}
        for stage, scans in stages.items()
        for n, values in enumerate(scans, 1)
        for label, value in zip("abcdefghijklmnop", values, strict=False)
    ]
    return pd.DataFrame(rows, columns=list(ERROR_COLUMNS))


ONE = errors(final=[[0.2, 0.4], [0.6, 0.8]], start=[[2.0, 4.0], [1.0, 1.0]])
TWO = errors(final=[[0.4, 0.6], [0.8, 1.4]], start=[[NAN, NAN], [1.0, 1.0]])


def run(
    entry: str,
    seed: int,
    table: pd.DataFrame,
    steps: dict[str, str] = NAMES,
    failures: tuple[int, int] = (0, 0),
    **more: Any,
) -> Run:
    made = {"run": f"{entry}-seed{seed}", "entry": entry, "seed": seed, "steps": steps}
    summary = {
        "unit": "mm",
        "referenced": True,
        "scans": {"evaluated": table["scan"].nunique(), "total": 9},
        "failures": {"scans": failures[0], "doubtful": failures[1]},
        "settings": SETTINGS.model_dump(mode="json"),
    }
    return Run(made | {"method": "oneshot"}, table, summary | more, more.get("overlap"))


RUNS = (run("mine", 1, ONE), run("mine", 5, TWO))


def row(table: pd.DataFrame, step: str, landmark: str = "all landmarks") -> "pd.Series[float]":
    found = table[(table["step"] == step) & (table["landmark"] == landmark)]
    assert len(found) == 1
    return found.iloc[0]


def test_steps_are_pooled_over_scans_and_seeds() -> None:
    table = compare_steps(RUNS)
    last = row(table, "+ the rest")
    values = np.array([0.2, 0.4, 0.6, 0.8, 0.4, 0.6, 0.8, 1.4])
    assert (last["seeds"], last["n"], last["missing"]) == (2, 8, 0)
    assert last["mean"] == pytest.approx(values.mean())
    assert last["sd"] == pytest.approx(math.sqrt(((values - values.mean()) ** 2).sum() / 8))
    # The seeds' means are 0.5 and 0.8 mm.
    assert last["sd_over_seeds"] == pytest.approx(0.3 / math.sqrt(2))
    assert last["median"] == pytest.approx(0.6)
    assert last["p95"] == pytest.approx(np.percentile(values, 95))
    assert last["within_1_percent"] == pytest.approx(87.5)
    assert last["failed_scans"] == 0
    assert row(table, "+ the rest", "b")["mean"] == pytest.approx(0.8)


def test_missing_landmarks_and_large_errors_are_failures_of_a_step() -> None:
    start = row(compare_steps(RUNS), "start alone")
    assert (start["n"], start["missing"]) == (6, 2)
    assert start["mean"] == pytest.approx(10 / 6)
    assert start["within_1_percent"] == pytest.approx(50)
    # s1 of the first seed is 3 mm off, s1 of the second has nothing.
    assert start["failed_scans"] == 2


def test_steps_stand_in_the_order_of_their_names_and_others_follow() -> None:
    one = errors(final=[[0.1]], unnamed=[[0.2]], start=[[0.3]])
    table = compare_steps([run("mine", 1, one, {**NAMES, "never": "not run"})])
    assert list(table["step"].drop_duplicates()) == ["start alone", "+ the rest", "unnamed"]


def test_one_seed_has_no_spread() -> None:
    table = compare_steps(RUNS[:1])
    assert table["sd_over_seeds"].isna().all()
    overall = print_steps(table, RUNS[0]).markdown().splitlines()[-1]
    assert overall == r"| + the rest | 0.400 | 0.600 | 0.500 | – | 0.500 | 0.770 | 100 | 0 |"


def test_entries_stand_below_each_other() -> None:
    other = errors(final=[[1.0, 1.0], [1.0, 1.0]])
    table = compare_steps([*RUNS, run("other", 1, other)])
    assert [*dict.fromkeys(zip(table["run"], table["step"], strict=True))] == [
        ("mine", "start alone"),
        ("mine", "+ the rest"),
        ("other", "+ the rest"),
    ]
    text = print_steps(table, RUNS[0]).markdown()
    assert "Seeds: 2 (mine), 1 (other);" in text
    header, _, *rows = [line for line in text.splitlines() if line.startswith("|")]
    assert header.startswith("| Run | Step | TOP | b | Mean ± sd |")
    assert (
        rows[-1] == "| other | + the rest | 1.000 | 1.000 | 1.000 | – | 1.000 | 1.000 | 100 | 0 |"
    )


def test_many_landmarks_have_no_columns_of_their_own() -> None:
    many = errors(final=[[0.5] * 13])
    table = compare_steps([run("mine", 1, many)])
    assert len(table) == 14
    header = print_steps(table, RUNS[0]).markdown().splitlines()[2]
    assert header.startswith("| Step | Mean ± sd | sd over seeds |")


def test_a_step_that_found_nothing_has_no_figures() -> None:
    nothing = errors(final=[[NAN, NAN]])
    table = compare_steps([run("mine", 1, nothing)])
    assert print_steps(table, RUNS[0]).markdown().splitlines()[-1] == (
        "| + the rest | – | – | – | – | – | – | 0 | 1 |"
    )
    assert "mine,+ the rest,all landmarks,1,0,2,,,,,,0.0000,1\n" in frame_csv(table)


def test_runs_of_other_scans_are_refused() -> None:
    other = run("mine", 5, errors(final=[[0.2, 0.4]]))
    said = 'mine-seed5: landmark "a" of scan s2 is measured in only one of this run and mine-seed1'
    for compare in (compare_steps, compare_runs):
        with pytest.raises(InputError, match=said):
            compare([RUNS[0], other])


def test_without_a_radius_of_1_the_largest_one_counts() -> None:
    settings = EvaluateSettings(radii=(0.28, 0.56)).model_dump(mode="json")
    table = compare_steps([run("mine", 1, ONE, settings=settings)])
    assert row(table, "+ the rest")["within_0.56_percent"] == 50


# Runs -----------------------------------------------------------------------------------------


def test_runs_are_pooled_over_scans_and_seeds() -> None:
    other = run("other", 1, errors(final=[[NAN, 1.0], [1.0, 1.5]]), failures=(2, 1))
    table = compare_runs([*RUNS, other]).set_index("run")
    assert list(table.index) == ["mine", "other"]
    mine = table.loc["mine"]
    values = np.array([0.2, 0.4, 0.6, 0.8, 0.4, 0.6, 0.8, 1.4])
    assert (mine["method"], mine["seeds"], mine["scans"]) == ("oneshot", 2, 2)
    assert (mine["n"], mine["missing"]) == (8, 0)
    assert mine["mean"] == pytest.approx(values.mean())
    assert mine["sd"] == pytest.approx(values.std())
    assert mine["sd_over_seeds"] == pytest.approx(0.3 / math.sqrt(2))
    assert (mine["median"], mine["max"]) == pytest.approx((0.6, 1.4))
    assert mine["p95"] == pytest.approx(np.percentile(values, 95))
    within = [mine[f"within_{radius:g}_percent"] for radius in SETTINGS.radii]
    assert within == [12.5, 37.5, 87.5, 100]
    assert mine["within_radius_percent"] == 37.5
    assert (mine["mean_TOP"], mine["mean_b"]) == pytest.approx((0.5, 0.8))
    assert (table.loc["other", "n"], table.loc["other", "missing"]) == (3, 1)
    assert math.isnan(table.loc["other", "sd_over_seeds"])
    assert (table.loc["other", "failed"], table.loc["other", "doubtful"]) == (2, 1)
    assert "dice" not in table


def test_a_radius_that_ranks_the_errors_says_so() -> None:
    many = errors(final=[[0.1 * scan, 0.2 * scan + 0.05] for scan in range(1, 6)])
    ranked = compare_runs([run("mine", 1, many.assign(radius=many["error"].rank()))])
    assert ranked.loc[0, "rank_correlation"] == pytest.approx(1)
    few = compare_runs([run("mine", 1, ONE.assign(radius=ONE["error"].rank()))])
    assert math.isnan(few.loc[0, "rank_correlation"])
    assert " ± " in print_comparison(ranked, RUNS[0]).markdown().splitlines()[-1]


def test_failures_are_added_up_over_seeds() -> None:
    runs = [run("mine", 1, ONE, failures=(1, 2)), run("mine", 2, TWO, failures=(0, 1))]
    table = compare_runs(runs)
    assert (table.loc[0, "failed"], table.loc[0, "doubtful"]) == (1, 3)


def test_dice_is_that_of_all_labels_and_tells_what_is_missing() -> None:
    rows = [("s1", "1", 0.5), ("s1", "all", 0.8), ("s2", "all", 0.6), ("s3", "all", NAN)]
    overlap = overlap_table([(*values, NAN, NAN, NAN, NAN, "") for values in rows])
    assert list(overlap) == list(OVERLAP_COLUMNS)
    runs = [run("mine", 1, ONE, overlap=overlap), run("other", 1, ONE)]
    table = compare_runs(runs)
    assert table["dice"].tolist() == pytest.approx([0.7, NAN], nan_ok=True)
    printed = print_comparison(table, runs[0])
    assert printed.header[-2:] == ["Dice", "No Dice"]
    assert [cells[-2:] for cells in printed.rows] == [["0.700", "1"], ["–", "–"]]


def test_the_printed_table_leaves_out_what_nobody_has() -> None:
    table = compare_runs(RUNS[:1])
    printed = print_comparison(table, RUNS[0])
    assert printed.header == [
        *("Run", "Method", "Seeds", "n", "Missing", "TOP", "b", "Mean ± sd", "Median", "p95"),
        *("Max", "Within 0.25 mm, %", "Within 0.5 mm, %", "Within 1 mm, %", "Within 2 mm, %"),
        *("Within own radius, %", "Failed", "Doubtful"),
    ]
    assert printed.rows[0][:9] == [
        *("mine", "oneshot", "1", "4", "0", "0.400", "0.600", "0.500", "0.500")
    ]
    assert printed.rows[0][11:] == ["25", "50", "100", "100", "50", "0", "0"]


def test_landmarks_named_like_columns_keep_their_own() -> None:
    table = ONE.assign(landmark=ONE["landmark"].map({"a": "Max", "b": "Median"}))
    printed = print_comparison(compare_runs([run("mine", 1, table)]), RUNS[0])
    assert printed.header.count("Max") == printed.header.count("Median") == 2
    assert printed.rows[0][5:7] == ["0.400", "0.600"]


def test_many_landmarks_have_no_columns_in_the_comparison() -> None:
    table = compare_runs([run("mine", 1, errors(final=[[0.5] * 13]))])
    assert not [name for name in table if name.startswith("mean_")]


def test_a_study_without_references_says_so_in_both_tables(tmp_path: Path) -> None:
    runs = [run("mine", 1, errors(), failures=(1, 0)), run("other", 1, errors())]
    write_comparison(tmp_path, runs)
    text = (tmp_path / "comparison.md").read_text(encoding="utf-8")
    assert text.startswith("No scan has reference landmarks: no distance was measured.")
    assert "| mine | oneshot | 1 | 0 | 0 | 1 | 0 |\n" in text
    steps = (tmp_path / "steps.md").read_text(encoding="utf-8")
    assert steps == "No scan has reference landmarks: no step was measured.\n"
    assert (tmp_path / "steps.csv").read_text(encoding="utf-8").startswith("run,step,landmark,")


def write_run(folder: Path, seed: int, errors_mm: list[float]) -> Run:
    """A run as a method and the evaluation leave it, read again."""
    scans = []
    for number, error in enumerate(errors_mm, start=1):
        files = {
            "found": folder / "landmarks" / f"s{number}.mrk.json",
            "record": folder / "landmarks" / f"s{number}.json",
            "reference": folder / "references" / f"s{number}.mrk.json",
        }
        truth = Landmarks(("a_1", "b"), np.zeros((2, 3)))
        found = Landmarks(truth.labels, np.array([[error, 0, 0], [0, 2 * error, 0]]))
        write_markups(files["found"], [PointList("final", found, np.array([1.0, 1.0]))])
        write_markups(files["reference"], [PointList("reference", truth, None)])
        write_record(files["record"], Record(f"s{number}", "place"))
        scans.append(Task(f"s{number}", files, {}))
    evaluate(scans=scans, folder=folder, settings=SETTINGS_B, seed=seed)
    steps = {"final": "the whole method"}
    made = {"run": folder.name, "entry": "mine", "method": "oneshot", "seed": seed, "steps": steps}
    write_json(folder / "made.json", made)
    return read_run(folder)


SETTINGS_B = EvaluateSettings(columns={"b": "TOP"})


def test_tables_are_written_from_what_the_evaluation_wrote(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / "one", 1, [0.2, 0.3]), write_run(tmp_path / "two", 2, [0.4, 0.5])]
    for name in ("out", "again"):
        write_comparison(tmp_path / name, runs)
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["comparison.csv", "comparison.md", "comparison.tex", "steps.csv", "steps.md"]
    for name in names:
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
    with (tmp_path / "out" / "comparison.csv").open(encoding="utf-8", newline="") as file:
        (only,) = csv.DictReader(file)
    assert (only["run"], only["seeds"], only["n"]) == ("mine", "2", "8")
    assert (only["mean"], only["mean_a_1"], only["mean_TOP"]) == ("0.5250", "0.3500", "0.7000")
    latex = (tmp_path / "out" / "comparison.tex").read_text(encoding="utf-8")
    assert r"Run & Method & Seeds & n & Missing & a\_1 & TOP & Mean $\pm$ sd" in latex
    assert r"Within own radius, \%" in latex
    with (tmp_path / "out" / "steps.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [cells["landmark"] for cells in rows] == ["a_1", "b", "all landmarks"]
    assert {cells["step"] for cells in rows} == {"the whole method"}
    assert rows[-1]["mean"] == "0.5250"


def test_a_run_that_does_not_say_what_made_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "made.json").write_text(json.dumps({"run": "a", "entry": "a"}), encoding="utf-8")
    with pytest.raises(InputError, match=r"made.json: has no method, expected what made a run"):
        read_run(tmp_path)
