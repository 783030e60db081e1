"""Tables of fixations: what is read of them, and what is refused in a sentence."""

from pathlib import Path

import numpy as np
import pytest

from landmarkflow.core.errors import InputError
from landmarkflow.formats.gaze import GazeTable
from landmarkflow.methods.salient.settings import GazeSettings

HEADER = "image,observer,x,y,duration_ms,order"
ROWS = ["a.png,1,3.5,4,200,1", "a.png,1,6,4,100,2", "a.png,2,0,0,90,1", "b,1,5,5,10,1"]


def table(path: Path, *rows: str, header: str = HEADER) -> GazeTable:
    file = path / "fixations.csv"
    file.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return GazeTable(file)


def test_fixations_are_those_of_the_picture_with_or_without_the_suffix(tmp_path: Path) -> None:
    found = table(tmp_path, *ROWS).fixations("a.png", 10, 8)
    np.testing.assert_array_equal(found.points, [[3.5, 4], [6, 4], [0, 0]])
    assert found.duration_ms.tolist() == [200, 100, 90]
    assert found.observers == ("1", "1", "2")
    assert table(tmp_path, *ROWS).fixations("b.jpg", 10, 8).points.tolist() == [[5, 5]]


def test_a_table_of_one_picture_needs_no_column_of_pictures_and_no_durations(
    tmp_path: Path,
) -> None:
    found = table(tmp_path, "# frame: pixels", "1,2,3", header="observer,x,y").fixations("c", 9, 9)
    assert (found.points.tolist(), found.duration_ms.tolist()) == ([[2, 3]], [1])


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (
            ["a,1,3,4,100,1", "a,1,12,4,100,2", "a,1,3,-5,100,3"],
            "line 3: the fixation at (12, 4) and 1 more of 3 lie beside a.png, expected x from "
            "-0.5 to 9.5 and y from -0.5 to 7.5 pixels (`outside: drop` leaves such out)",
        ),
        (
            ["a,1,3,4,100,2", "a,2,3,4,100,1", "a,1,3,4,100,1"],
            "line 4: the order of observer 1 at a.png goes from 2 to 1, expected it to grow",
        ),
        (
            ["b,1,3,4,100,1"],
            "holds no fixation on a.png, expected at least one, or no row of the sheet that names "
            "it",
        ),
        (["a,1,3,4,0,1"], "line 2: the duration_ms is 0, expected more than 0"),
        (["a,1,3,up,100,1"], "line 2: the y is 'up', expected a number"),
        (["a,1,3,nan,100,1"], "line 2: the y is 'nan', expected a number"),
        (["a,1,3,4,100"], "line 2: has 5 fields, expected 6"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_a_sentence(
    tmp_path: Path, rows: list[str], said: str
) -> None:
    with pytest.raises(InputError) as refused:
        table(tmp_path, *rows).fixations("a.png", 10, 8)
    path = tmp_path / "fixations.csv"
    assert str(refused.value) in (f"{path}, {said}", f"{path}: {said}")


def test_a_clock_in_milliseconds_may_stand_still_and_not_run_backwards(tmp_path: Path) -> None:
    header = "image,observer,x,y,time_ms"
    still = table(tmp_path, "a,1,1,1,5", "a,1,1,1,5", header=header)
    assert len(still.fixations("a", 9, 9).points) == 2
    back = table(tmp_path, "a,1,1,1,5", "a,1,1,1,4.5", header=header)
    with pytest.raises(InputError, match=r"the time_ms of observer 1 at a goes from 5 to 4\.5"):
        back.fixations("a", 9, 9)


def test_fixations_beside_the_picture_may_be_dropped_but_not_all(tmp_path: Path) -> None:
    found = table(tmp_path, "a,1,3,4,100,1", "a,1,12,4,100,2").fixations("a", 10, 8, "drop")
    assert (found.points.tolist(), found.dropped) == ([[3, 4]], 1)
    with pytest.raises(InputError, match="all 1 fixations on a lie beside it"):
        table(tmp_path, "a,1,30,4,100,1").fixations("a", 10, 8, "drop")


def test_a_table_without_its_columns_or_rows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no column observer, expected observer, x, y; found"):
        table(tmp_path, header="image,x,y")
    (tmp_path / "empty.csv").write_text("", encoding="utf-8")
    with pytest.raises(InputError, match=r"empty\.csv: is empty, expected the columns"):
        GazeTable(tmp_path / "empty.csv")


def test_the_blur_is_in_pixels_in_degrees_or_in_percent_of_the_width() -> None:
    assert GazeSettings(sigma=12).sigma_pixels(400) == 12
    degrees = GazeSettings(sigma=0.5, sigma_unit="degrees", pixels_per_degree=35)
    assert degrees.sigma_pixels(400) == 17.5
    assert GazeSettings(sigma=3, sigma_unit="percent").sigma_pixels(400) == 12
    with pytest.raises(ValueError, match="expected pixels_per_degree above 0"):
        GazeSettings(sigma_unit="degrees")
    with pytest.raises(ValueError, match="must be multiples of 32"):
        GazeSettings(width=250)
