"""The table of a method's steps, from error tables written by hand."""

import csv
import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from landmarkflow.__main__ import main
from landmarkflow.core.errors import InputError
from landmarkflow.evaluation.errors import COLUMNS as ERROR_COLUMNS
from landmarkflow.evaluation.settings import EvaluateSettings
from landmarkflow.evaluation.steps import Training, compare_steps, steps_csv, steps_markdown

SETTINGS = EvaluateSettings(columns={"a": "TOP"})
NAMES = {"start": "start alone", "last": "+ the rest"}
NAN = math.nan


def errors(**stages: list[list[float]]) -> pd.DataFrame:
    """An error table: stage to rows of scans s1, s2, ... with the landmarks a, b, ..., mm."""
    rows = [
        {"scan": f"s{n}", "landmark": label, "stage": stage, "error_mm": value, "reason": ""}
        for stage, scans in stages.items()
        for n, values in enumerate(scans, 1)
        for label, value in zip("abcdefghijklmnop", values, strict=False)
    ]
    return pd.DataFrame(rows, columns=list(ERROR_COLUMNS))


ONE = errors(last=[[0.2, 0.4], [0.6, 0.8]], start=[[2.0, 4.0], [1.0, 1.0]])
TWO = errors(last=[[0.4, 0.6], [0.8, 1.4]], start=[[NAN, NAN], [1.0, 1.0]])
TRAININGS = (Training("mine", 1, ONE), Training("mine", 5, TWO))


def row(table: pd.DataFrame, step: str, landmark: str = "all landmarks") -> "pd.Series[float]":
    found = table[(table["step"] == step) & (table["landmark"] == landmark)]
    assert len(found) == 1
    return found.iloc[0]


def test_steps_are_pooled_over_scans_and_seeds() -> None:
    table = compare_steps(TRAININGS, NAMES, SETTINGS)
    last = row(table, "+ the rest")
    values = np.array([0.2, 0.4, 0.6, 0.8, 0.4, 0.6, 0.8, 1.4])
    assert (last["seeds"], last["n"], last["missing"]) == (2, 8, 0)
    assert last["mean_mm"] == pytest.approx(values.mean())
    assert last["sd_mm"] == pytest.approx(math.sqrt(((values - values.mean()) ** 2).sum() / 8))
    # The seeds' means are 0.5 and 0.8 mm.
    assert last["sd_over_seeds_mm"] == pytest.approx(0.3 / math.sqrt(2))
    assert last["median_mm"] == pytest.approx(0.6)
    assert last["p95_mm"] == pytest.approx(np.percentile(values, 95))
    assert last["within_1_mm_percent"] == pytest.approx(87.5)
    assert last["failed_scans"] == 0
    assert row(table, "+ the rest", "b")["mean_mm"] == pytest.approx(0.8)


def test_missing_landmarks_and_large_errors_are_failures_of_a_step() -> None:
    start = row(compare_steps(TRAININGS, NAMES, SETTINGS), "start alone")
    assert (start["n"], start["missing"]) == (6, 2)
    assert start["mean_mm"] == pytest.approx(10 / 6)
    assert start["within_1_mm_percent"] == pytest.approx(50)
    # s1 of the first seed is 3 mm off, s1 of the second has nothing.
    assert start["failed_scans"] == 2


def test_steps_stand_in_the_order_of_their_names_and_others_follow() -> None:
    one = errors(last=[[0.1]], unnamed=[[0.2]], start=[[0.3]])
    table = compare_steps([Training("mine", 1, one)], {**NAMES, "never": "not run"}, SETTINGS)
    assert list(table["step"].drop_duplicates()) == ["start alone", "+ the rest", "unnamed"]


def test_one_seed_has_no_spread() -> None:
    table = compare_steps(TRAININGS[:1], NAMES, SETTINGS)
    assert table["sd_over_seeds_mm"].isna().all()
    overall = steps_markdown(table, SETTINGS).splitlines()[-1]
    assert (
        overall == r"| + the rest | 0.400 | 0.600 | 0.500 ± 0.224 | – | 0.500 | 0.770 | 100 | 0 |"
    )


def test_presets_stand_below_each_other() -> None:
    other = errors(last=[[1.0, 1.0], [1.0, 1.0]])
    table = compare_steps([*TRAININGS, Training("other", 1, other)], NAMES, SETTINGS)
    assert [*dict.fromkeys(zip(table["preset"], table["step"], strict=True))] == [
        ("mine", "start alone"),
        ("mine", "+ the rest"),
        ("other", "+ the rest"),
    ]
    text = steps_markdown(table, SETTINGS)
    assert "Seeds: 2 (mine), 1 (other);" in text
    header, _, *rows = [line for line in text.splitlines() if line.startswith("|")]
    assert header.startswith("| Preset | Step | TOP | b | Mean ± sd |")
    assert (
        rows[-1]
        == "| other | + the rest | 1.000 | 1.000 | 1.000 ± 0.000 | – | 1.000 | 1.000 | 100 | 0 |"
    )


def test_many_landmarks_have_no_columns_of_their_own() -> None:
    many = errors(last=[[0.5] * 13])
    table = compare_steps([Training("mine", 1, many)], NAMES, SETTINGS)
    assert len(table) == 14
    header = steps_markdown(table, SETTINGS).splitlines()[2]
    assert header.startswith("| Step | Mean ± sd | sd over seeds |")


def test_a_step_that_found_nothing_has_no_figures() -> None:
    nothing = errors(last=[[NAN, NAN]])
    table = compare_steps([Training("mine", 1, nothing)], NAMES, SETTINGS)
    assert steps_markdown(table, SETTINGS).splitlines()[-1] == (
        "| + the rest | – | – | – ± – | – | – | – | 0 | 1 |"
    )
    assert "mine,+ the rest,all landmarks,1,0,2,,,,,,0.0000,1\n" in steps_csv(table)


def test_runs_of_other_scans_are_refused() -> None:
    other = Training("mine", 5, errors(last=[[0.2, 0.4]]))
    with pytest.raises(InputError, match='mine, seed 5: landmark "a" of scan s2 is measured in'):
        compare_steps([TRAININGS[0], other], NAMES, SETTINGS)


def test_a_study_without_references_is_refused() -> None:
    with pytest.raises(InputError, match="mine: no scan has reference landmarks"):
        compare_steps([Training("mine", 1, errors())], NAMES, SETTINGS)


@pytest.mark.usefixtures("quiet")
def test_the_command_writes_both_tables(tmp_path: Path) -> None:
    for name, table in (("one", ONE), ("two", TWO)):
        table.to_csv(tmp_path / f"{name}.csv", index=False)
    options = ["--settings", SETTINGS.model_dump_json(), "--names", json.dumps(NAMES)]
    options += ["--errors", str(tmp_path / "one.csv"), str(tmp_path / "two.csv")]
    options += ["--table", str(tmp_path / "out.csv"), "--markdown", str(tmp_path / "out.md")]
    assert main(["compare_steps", *options, "--presets", "mine", "mine", "--seeds", "1"]) == 1
    assert not (tmp_path / "out.csv").exists()
    assert main(["compare_steps", *options, "--presets", "mine", "mine", "--seeds", "1", "5"]) == 0
    expected = compare_steps(TRAININGS, NAMES, SETTINGS)
    assert (tmp_path / "out.md").read_text(encoding="utf-8") == steps_markdown(expected, SETTINGS)
    with (tmp_path / "out.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["start alone"] * 3 + ["+ the rest"] * 3
    assert rows[-1]["mean_mm"] == "0.6500"
