"""Error against the number of annotated scans, from error tables written by hand."""

import csv
import math
from pathlib import Path

import pytest
from PIL import Image
from test_steps import errors, run

from landmarkflow.evaluation.annotations import (
    Curve,
    Point,
    annotations_of,
    annotations_table,
    print_annotations,
)
from landmarkflow.evaluation.comparison import write_comparison
from landmarkflow.evaluation.results import Run
from landmarkflow.report.annotations import draw_annotations
from landmarkflow.report.figures import save_png


def point(annotated: int, mean: float) -> Point:
    return Point(f"net-{annotated}", annotated, 1, 4, 0, mean, mean, mean, mean, 0)


def learned(entry: str, train: int | None, seed: int, values: list[float], **made: object) -> Run:
    """A run whose two scans have one landmark each, off by these distances."""
    one = run(entry, seed, errors(final=[[value] for value in values]))
    one.made.update({"train": train, "method": "net", "settings": {"width": 8}}, **made)
    return one


def study() -> list[Run]:
    found = [
        learned(f"net-{train}", train, seed, [level + 0.01 * seed] * 2)
        for train, level in ((8, 0.1), (1, 0.7), (2, 0.5), (4, 0.3))
        for seed in (1, 2)
    ]
    return [*found, learned("oneshot", None, 1, [0.3, 0.33], method="oneshot")]


def test_a_level_is_worth_what_the_curve_needs_to_come_down_to_it() -> None:
    curve = Curve("net", (point(1, 0.8), point(4, 0.4), point(16, 0.2)))
    assert curve.reaches(0.4) == pytest.approx(4)
    # From 4 to 16 annotated scans the mean halves, so it falls with the square root.
    assert curve.reaches(0.4 / math.sqrt(2)) == pytest.approx(8)
    assert curve.reaches(0.9) == 0
    assert curve.reaches(0.1) == math.inf


def test_a_curve_that_rises_again_has_not_come_down() -> None:
    curve = Curve("net", (point(1, 0.8), point(2, 0.1), point(4, 0.4), point(8, 0.2)))
    assert 4 < curve.reaches(0.3) < 8


def test_what_found_nothing_is_no_good_mean() -> None:
    curve = Curve("net", (point(1, math.nan), point(2, 0.3), point(4, 0.2)))
    assert curve.reaches(0.35) == pytest.approx(2)
    assert curve.reaches(0.3 * math.sqrt(0.2 / 0.3)) == pytest.approx(2 * math.sqrt(2))


def test_runs_that_state_train_make_a_curve_and_the_others_levels() -> None:
    found = annotations_of(study())
    assert found is not None
    (curve,), (level,) = found.curves, found.levels
    assert curve.name == "net"
    assert [p.annotated for p in curve.points] == [1, 2, 4, 8]
    assert curve.points[2].mean == pytest.approx(0.315)
    assert (curve.points[2].lowest, curve.points[2].highest) == pytest.approx((0.31, 0.32))
    assert (level.run, level.mean, level.seeds) == ("oneshot", pytest.approx(0.315), 1)
    (worth,) = found.worths
    assert worth.scans == pytest.approx(4)
    assert worth.fewest < 4 < worth.most
    assert worth.sentence("mm") == (
        "oneshot is worth about 4 annotated scans: it has a mean of 0.315 mm, net 0.515 mm with 2 "
        "and 0.315 mm with 4."
    )


def test_levels_beyond_the_curve_are_said_to_be_so() -> None:
    best = learned("best", None, 1, [0.01, 0.02], method="oneshot")
    worst = learned("worst", None, 1, [3.0, 3.0], method="oneshot")
    lost = learned("lost", None, 1, [math.nan, math.nan], method="oneshot")
    found = annotations_of([*study(), best, worst, lost])
    assert found is not None
    said = [worth.sentence("mm") for worth in found.worths]
    assert said[1].startswith("best is worth more than 8 annotated scans: it has a mean of 0.015")
    assert said[2].startswith("worst is worth at most 1 annotated scan: ")
    assert said[3] == "lost found nothing."
    table = annotations_table(found).set_index("run")
    assert table.loc[["best", "worst", "lost"], "worth"].isna().all()


def test_runs_of_other_settings_are_another_curve() -> None:
    wide = [learned(f"wide-{n}", n, 1, [0.2 / n] * 2, settings={"width": 16}) for n in (2, 4)]
    found = annotations_of([*study(), *wide])
    assert found is not None
    assert [curve.name for curve in found.curves] == ["net", "wide"]
    assert [cells[-1] for cells in print_annotations(found).rows[-2:]] == [
        "4 of net",
        "at most 2 of wide",
    ]


def test_without_such_runs_there_is_nothing() -> None:
    assert annotations_of([learned("a", None, 1, [0.1, 0.2])]) is None
    assert annotations_of(study()[:1]) is None


def test_tables_and_the_figure_are_written(tmp_path: Path) -> None:
    write_comparison(tmp_path, study())
    with (tmp_path / "annotations.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["run"], row["annotated"]) for row in rows] == [
        *((f"net-{n}", f"{n}") for n in (1, 2, 4, 8)),
        ("oneshot", ""),
    ]
    assert rows[-1]["worth"] == "4.0000"
    text = (tmp_path / "annotations.md").read_text(encoding="utf-8")
    assert text.startswith("oneshot is worth about 4 annotated scans: ")
    found = annotations_of(study())
    assert found is not None
    save_png(draw_annotations(found, 100), tmp_path / "annotations.png")
    with Image.open(tmp_path / "annotations.png") as picture:
        assert picture.size == (810, 420)
        assert len(picture.convert("RGB").getcolors(100_000) or []) > 50
