import hashlib
import json
from pathlib import Path

import pytest

from landmarkflow.core.errors import InputError, about
from landmarkflow.core.files import (
    LARGEST_TEXT_BYTES,
    check_readable,
    read_json,
    replacing,
    sha256,
    write_json,
    write_text,
)


def test_replacing_shows_the_old_file_until_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "new" / "scan.nii.gz"
    path.parent.mkdir()
    path.write_text("old")
    with replacing(path) as temporary:
        assert temporary.parent == path.parent
        assert temporary.name.endswith(".scan.nii.gz")
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(path.parent.iterdir()) == [path]


def test_replacing_creates_the_folder(tmp_path: Path) -> None:
    with replacing(tmp_path / "a" / "b" / "c.txt") as temporary:
        temporary.write_text("x")
    assert (tmp_path / "a" / "b" / "c.txt").read_text() == "x"


def _write_half_and_fail(path: Path) -> None:
    with replacing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError("disk full")


def test_replacing_keeps_the_old_file_and_no_rest_when_the_block_fails(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError, match="disk full"):
        _write_half_and_fail(path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_replacing_refuses_a_block_that_wrote_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(FileNotFoundError), replacing(path):
        pass
    assert path.read_text() == "old"


def test_two_writers_of_one_file_do_not_share_a_temporary(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    with replacing(path) as first, replacing(path) as second:
        assert first != second
        first.write_text("first")
        second.write_text("second")
    assert path.read_text() == "first"


def test_a_replaced_file_has_the_permissions_of_a_new_file(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("x")
    write_text(tmp_path / "written", "x")
    assert (tmp_path / "written").stat().st_mode == plain.stat().st_mode


def test_write_text_keeps_line_ends_and_letters(tmp_path: Path) -> None:
    write_text(tmp_path / "a", "µ\r\nend\n")
    assert (tmp_path / "a").read_bytes() == "µ\r\nend\n".encode()


def test_json_comes_back_with_the_order_of_its_keys(tmp_path: Path) -> None:
    data = {"z": [1, 2.5, None, True], "a": {"ö": "x"}}
    write_json(tmp_path / "a.json", data)
    assert (tmp_path / "a.json").read_bytes().endswith(b"}\n")
    assert list(read_json(tmp_path / "a.json").items()) == list(data.items())


def test_write_json_refuses_nan_and_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, 1)
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"error": float("nan")})
    assert read_json(path) == 1


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b'{"a": 1, "b": {"c": 1, "c": 2}}', r'key "c" stands twice'),
        (b'{"a": NaN}', "NaN"),
        (b"[-Infinity]", "-Infinity"),
        (b'{"a": 1,\n "b" 2}', "line 2, column 6"),
        (b"", "line 1, column 1"),
        (b'"\xff"', "byte 1 is not UTF-8"),
        (b"[" * 100_000, "nested too deeply"),
        (b"1" * 5000, "digit"),
    ],
)
def test_read_json_names_the_file_and_what_is_wrong(
    tmp_path: Path, content: bytes, found: str
) -> None:
    path = tmp_path / "bad.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=found) as error:
        read_json(path)
    assert str(error.value).startswith(f"{path}: ")


def test_read_json_refuses_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"absent\.json: no such file"):
        read_json(tmp_path / "absent.json")
    with pytest.raises(InputError, match="cannot be read"):
        read_json(tmp_path)


def test_read_json_refuses_a_file_that_is_too_large(tmp_path: Path) -> None:
    path = tmp_path / "large.json"
    with path.open("wb") as file:
        file.truncate(LARGEST_TEXT_BYTES + 1)
    with pytest.raises(InputError, match=f"holds {LARGEST_TEXT_BYTES + 1} bytes"):
        read_json(path)


def test_read_json_accepts_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b"\xef\xbb\xbf" + json.dumps({"a": 1}).encode())
    assert read_json(tmp_path / "a.json") == {"a": 1}


@pytest.mark.parametrize(
    ("folder", "said", "expected"),
    [
        ("a", "is empty", "a: is empty"),
        ("a", "a: is empty", "a: is empty"),
        ("a", "a/b.dcm: is empty", "a/b.dcm: is empty"),
        ("a", "a grid has no size", "a: a grid has no size"),
        ("a\nb", "a\nb: is empty", "a\\nb: is empty"),
    ],
)
def test_a_refusal_names_its_file_once(folder: str, said: str, expected: str) -> None:
    with pytest.raises(InputError) as error, about(Path(folder)):
        raise InputError(said)
    assert str(error.value) == expected


def test_what_can_be_read_is_readable(tmp_path: Path) -> None:
    (tmp_path / "series/more").mkdir(parents=True)
    (tmp_path / "series/1.dcm").touch()
    for path in (tmp_path / "series", tmp_path / "series/1.dcm"):
        check_readable(path)


def test_what_the_machine_does_not_let_be_read_is_refused(tmp_path: Path) -> None:
    # Everybody's rights are enough for root, so the name is what the machine does not take.
    name = "x" * 300
    with pytest.raises(InputError, match=rf"{name}: cannot be read \(.+\), expected leave"):
        check_readable(tmp_path / name)


def test_what_is_not_there_is_for_its_reader_to_say(tmp_path: Path) -> None:
    check_readable(tmp_path / "absent")


def test_sha256_is_the_digest_of_the_bytes(tmp_path: Path) -> None:
    content = bytes(range(256)) * 5000
    (tmp_path / "a").write_bytes(content)
    assert sha256(tmp_path / "a") == hashlib.sha256(content).hexdigest()
    with pytest.raises(InputError, match="absent"):
        sha256(tmp_path / "absent")
