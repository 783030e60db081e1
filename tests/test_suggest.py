"""Scans that are suggested for annotation: unsure ones, unlike the annotated, unlike each other."""

import csv
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from image_files import DIRECTIONS
from numpy.typing import NDArray
from review_study import LOOKED_FOR, add_scan, make_study, write_ranking

from landmarkflow.commands.suggest import FILE, suggest_scans
from landmarkflow.core.errors import InputError
from landmarkflow.core.grids import Grid
from landmarkflow.core.records import Record
from landmarkflow.images.operations import image_on
from landmarkflow.review.suggest import suggest

LABELS = ("a", "b", "c")
SHAPE = np.array([[0.0, 0.0, 0.0], [10.0, 0.0, 0.0], [0.0, 8.0, 0.0]])
OTHER = np.array([[0.0, 0.0, 0.0], [14.0, 0.0, 0.0], [0.0, 4.0, 0.0]])


def cohort(
    **groups: NDArray[np.float64],
) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, NDArray[np.float64]]]:
    """Tables of five scans of each group's shape, moved about; and positions by scan."""
    random = np.random.default_rng(4)
    rows, points, places = [], [], {}
    for group, shape in groups.items():
        for number in range(5):
            scan = f"{group}{number}"
            places[scan] = shape + random.normal(0, 0.05, shape.shape) + random.uniform(-50, 50, 3)
            rows.append(
                {"scan": scan, "status": "ok", "radius": 0.3, "doubt": 0.5}
                | {"lowest_similarity": 0.9, "moved": 0.1}
            )
            points += [
                {"scan": scan, "landmark": label, "x": x, "y": y, "z": z}
                for label, (x, y, z) in zip(LABELS, places[scan], strict=True)
            ]
    return pd.DataFrame(rows), pd.DataFrame(points), places


def names(found: list) -> list[str]:
    return [one.scan for one in found]


def test_a_group_unlike_the_annotated_is_represented_first() -> None:
    scans, points, _ = cohort(same=SHAPE, other=OTHER)
    found = suggest(scans, points, {"template": SHAPE}, LABELS, 2)
    assert found[0].scan.startswith("other")
    assert set(found[0].stands_for) == {f"other{n}" for n in range(5)}
    assert found[0].worth > 0.5 > found[1].worth
    assert found[0].unlike > 3 * found[1].unlike
    assert "is most like other" in found[0].reason("mm")


def test_suggested_scans_are_unlike_each_other() -> None:
    third = SHAPE * 1.5
    scans, points, _ = cohort(same=SHAPE, other=OTHER, third=third)
    found = names(suggest(scans, points, {"template": SHAPE}, LABELS, 3))
    assert {name[:5] for name in found[:2]} == {"other", "third"}
    assert len(set(found)) == 3


def test_the_unsure_come_first_among_equals() -> None:
    scans, points, _ = cohort(other=OTHER, third=SHAPE * 1.5)
    scans.loc[scans["scan"].str.startswith("third"), ["radius", "doubt"]] = [0.9, 0.9]
    assert suggest(scans, points, {"template": SHAPE}, LABELS, 1)[0].scan.startswith("third")
    swapped = scans.assign(radius=0.3, doubt=0.5)
    swapped.loc[scans["scan"].str.startswith("other"), ["radius", "doubt"]] = [0.9, 0.9]
    assert suggest(swapped, points, {"template": SHAPE}, LABELS, 1)[0].scan.startswith("other")


def test_of_one_landmark_the_unsure_come_first() -> None:
    scans, points, _ = cohort(same=SHAPE)
    scans["radius"] = [0.2, 0.5, 0.3, 0.9, 0.1]
    points = points[points["landmark"] == "a"]
    found = suggest(scans, points, {"template": SHAPE[:1]}, ("a",), 3)
    assert names(found) == ["same3", "same1", "same2"]


def test_annotated_and_refused_scans_are_not_suggested() -> None:
    scans, points, places = cohort(other=OTHER)
    scans.loc[0, "status"] = "refused"
    annotated = {"template": SHAPE, "other1": places["other1"]}
    found = names(suggest(scans, points, annotated, LABELS, 9))
    assert sorted(found) == ["other2", "other3", "other4"]
    with pytest.raises(InputError, match="has 4 scans, of which 0 are not annotated"):
        suggest(scans, points, {f"other{n}": OTHER for n in range(1, 5)}, LABELS, 1)


def test_scans_without_landmarks_and_methods_without_a_template_are_no_hindrance() -> None:
    scans, points, _ = cohort(same=SHAPE, other=OTHER)
    points.loc[points["scan"] == "other3", ["x", "y", "z"]] = np.nan
    scans.loc[scans["scan"] == "other3", ["status", "radius", "doubt"]] = ["failed", np.nan, 1.0]
    found = suggest(scans, points, {}, LABELS, 10)
    assert sorted(names(found)) == sorted(scans["scan"])
    assert np.isinf(found[0].unlike)
    (failed,) = [one for one in found if one.scan == "other3"]
    assert failed.reason("mm").startswith("is failed; doubt 1.00")


def test_the_command_writes_a_table_with_reasons(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    grid = Grid((8, 8, 8), np.ones(3), np.zeros(3), DIRECTIONS["along"])
    image = image_on(grid, np.zeros((8, 8, 8), np.int16))
    made = make_study(tmp_path, image, np.vstack([SHAPE, SHAPE[:1] + 1]) / 4)
    ranking, rows = [], ["scan,landmark,x,y,z"]
    for number, shape in enumerate((SHAPE, SHAPE, OTHER, OTHER)):
        scan = f"p{number}"
        add_scan(made, scan, image, shape / 4, Record(scan, "place"))
        ranking.append({"scan": scan, "status": "ok", "radius": 0.2, "doubt": 0.25 * number})
        places = zip(LOOKED_FOR, shape / 4, strict=True)
        rows += [f"{scan},{label},{x},{y},{z}" for label, (x, y, z) in places]
    write_ranking(made, ranking)
    run = made / "oneshot"
    (run / "landmarks.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    assert suggest_scans(run, 2) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "To annotate next, of 4 scans, beside 1 annotated:"
    assert said[1] == "  p3: radius 0.20 mm; doubt 0.75; is most like p2"
    with (run / FILE).open(encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    assert (table[0]["scan"], table[0]["stands_for"]) == ("p3", "p2 p3")
    before = (run / FILE).read_bytes()
    suggest_scans(run, 2)
    assert (run / FILE).read_bytes() == before
    with pytest.raises(InputError, match="-n 0: expected at least 1"):
        suggest_scans(run, 0)
