import json
from pathlib import Path
from typing import Any

import pytest

from landmarkflow.core.errors import InputError
from landmarkflow.core.records import Record, read_record, write_nothing, write_record

RECORD = Record(
    "ear001",
    "centre",
    "doubtful",
    "not converged after 8 iterations",
    {"steps": [{"centre": [1.5, -2.0, 0.25], "move_mm": 0.5}], "converged": False},
)


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    write_record(tmp_path / "deep/a.json", RECORD)
    assert read_record(tmp_path / "deep/a.json") == RECORD


def test_every_stage_writes_the_same_four_fields_first(tmp_path: Path) -> None:
    write_record(tmp_path / "a.json", RECORD)
    keys = list(json.loads((tmp_path / "a.json").read_text()))
    assert keys == ["scan", "stage", "status", "reason", "steps", "converged"]


@pytest.mark.parametrize(
    ("status", "expected"),
    [("ok", True), ("doubtful", True), ("failed", False), ("refused", False)],
)
def test_only_failed_and_refused_scans_have_no_result(status: Any, expected: bool) -> None:
    assert Record("a", "align", status).has_result is expected


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[1, 2]", "expected a stage's record"),
        ('"ok"', "expected a stage's record"),
        ("7", "expected a stage's record"),
        ('{"scan": "a", "stage": "align", "status": "ok"}', "expected a stage's record"),
        ('{"scan": "a", "stage": "align", "status": "fine", "reason": null}', "'fine'"),
        ('{"scan": "a", "stage": "align", "status": ["ok"], "reason": null}', "status"),
        ('{"scan": "a", "stage"', "not valid JSON"),
        ("", "not valid JSON"),
    ],
)
def test_what_is_no_record_is_refused_by_name(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(content)
    with pytest.raises(InputError) as error:
        read_record(path)
    assert str(path) in str(error.value)
    assert said in str(error.value)


def test_a_missing_record_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_record(tmp_path / "a.json")


def test_nothing_takes_the_place_of_an_earlier_result(tmp_path: Path) -> None:
    path = tmp_path / "deep/a.nii.gz"
    write_nothing(path)
    assert path.stat().st_size == 0
    path.write_text("a result")
    write_nothing(path)
    assert path.stat().st_size == 0
