import json
from pathlib import Path
from typing import Any

import pytest

from landmarkflow.core.errors import InputError
from landmarkflow.core.records import Record, Step, read_record, write_nothing, write_record

BEFORE = (Step("locate"), Step("centre", "doubtful", "not converged after 8 iterations"))
RECORD = Record("ear001", "align", details={"correlation": 0.9, "mirrored": False}, earlier=BEFORE)


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    write_record(tmp_path / "deep/a.json", RECORD)
    assert read_record(tmp_path / "deep/a.json") == RECORD


def test_every_stage_writes_the_same_fields_first(tmp_path: Path) -> None:
    write_record(tmp_path / "a.json", RECORD)
    keys = list(json.loads((tmp_path / "a.json").read_text()))
    head = ["scan", "stage", "status", "reason", "worst", "earlier"]
    assert keys == [*head, "correlation", "mirrored"]


def test_a_chain_is_what_all_stages_said_this_one_last() -> None:
    assert RECORD.chain == (*BEFORE, Step("align"))
    assert Record("a", "locate").chain == (Step("locate"),)


@pytest.mark.parametrize(
    ("record", "worst"),
    [
        (Record("a", "locate"), "ok"),
        (RECORD, "doubtful"),
        (Record("a", "align", "failed", "unlike", earlier=BEFORE), "failed"),
        (Record("a", "locate", "refused", "is empty"), "refused"),
    ],
)
def test_the_worst_of_a_chain_stands_in_the_file(
    tmp_path: Path, record: Record, worst: str
) -> None:
    write_record(tmp_path / "a.json", record)
    assert json.loads((tmp_path / "a.json").read_text())["worst"] == worst


@pytest.mark.parametrize("status", ["doubtful", "failed", "refused"])
@pytest.mark.parametrize("reason", [None, ""])
def test_a_status_without_a_reason_is_a_defect(
    tmp_path: Path, status: Any, reason: str | None
) -> None:
    with pytest.raises(ValueError, match=f"align of a: {status}"):
        write_record(tmp_path / "a.json", Record("a", "align", status, reason))
    assert not (tmp_path / "a.json").exists()


def test_a_reason_without_a_doubt_is_a_defect(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="align of a: ok: 'unlike'"):
        write_record(tmp_path / "a.json", Record("a", "align", reason="unlike"))


@pytest.mark.parametrize(
    ("status", "expected"),
    [("ok", True), ("doubtful", True), ("failed", False), ("refused", False)],
)
def test_only_failed_and_refused_scans_have_no_result(status: Any, expected: bool) -> None:
    assert Record("a", "align", status).has_result is expected


HEAD = '"scan": "a", "stage": "align", "status": "ok", "reason": null'


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[1, 2]", "expected a stage's record"),
        ('"ok"', "expected a stage's record"),
        ("7", "expected a stage's record"),
        ('{"scan": "a", "stage": "align", "status": "ok"}', "expected a stage's record"),
        (f'{{{HEAD}, "earlier": [{{"step": 1}}]}}', "expected a stage's record"),
        (f'{{{HEAD}, "earlier": 7}}', "expected a stage's record"),
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
