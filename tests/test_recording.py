import hashlib
import json
from pathlib import Path

import pytest
import yaml

from landmarkflow.__main__ import main
from landmarkflow.core.files import sha256, write_json
from landmarkflow.core.records import Record, write_record

CONFIG = {
    "study": "mine",
    "seed": 3,
    "data": {"folder": "", "cohort": {"seed": 7}},
    "oneshot": {"train": {"loss": "cross_entropy"}},
}

pytestmark = pytest.mark.usefixtures("quiet")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What two stages say of three scans, one of which was not centred, and given files."""
    write_json(tmp_path / "training.json", {"device": "Some GPU", "torch": "2.13.0+cu130"})
    for scan, device in (("a", "Some GPU"), ("b", "cpu")):
        record = Record(scan, "centre", details={"device": device})
        write_record(tmp_path / f"centred/{scan}.json", record)
    write_record(tmp_path / "centred/c.json", Record("c", "normalise", "refused", "is empty"))
    (tmp_path / "given").mkdir()
    (tmp_path / "given/a scan.nrrd").write_bytes(b"scan")
    (tmp_path / "given/series").mkdir()
    (tmp_path / "given/series/1.dcm").write_bytes(b"slice")
    return tmp_path


def checksums(folder: Path, *scans: str) -> int:
    given = [str(folder / "given/a scan.nrrd"), str(folder / "given/series")]
    roles = ["image"] * len(given)
    arguments = ["checksum_inputs", "--scans", *scans, "--roles", *roles, "--paths", *given]
    return main([*arguments, "--checksums", str(folder / "checksums.tsv")])


def record(folder: Path, config: dict[str, object]) -> dict[str, object]:
    arguments = ["record_provenance", "--study", json.dumps(config), "--centred"]
    arguments += [str(folder / f"centred/{scan}.json") for scan in "abc"]
    for name in ("training.json", "checksums.tsv", "config.yaml", "provenance.json"):
        arguments += [f"--{name.partition('.')[0]}", str(folder / name)]
    assert main(arguments) == 0
    found: dict[str, object] = json.loads((folder / "provenance.json").read_text("utf-8"))
    return found


def test_files_and_folders_have_their_digests(folder: Path) -> None:
    assert checksums(folder, "a", "b") == 0
    rows = [line.split("\t") for line in (folder / "checksums.tsv").read_text().splitlines()]
    scan, series = folder / "given/a scan.nrrd", folder / "given/series"
    assert rows == [
        ["scan", "role", "path", "sha256"],
        ["a", "image", str(scan), hashlib.sha256(b"scan").hexdigest()],
        ["b", "image", str(series), sha256(series)],
    ]


def test_a_file_without_its_scan_is_refused(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert checksums(folder, "a") == 1
    assert "found 1 --scans, 2 --roles and 2 --paths" in caplog.text
    assert not (folder / "checksums.tsv").exists()


def test_the_record_says_what_made_the_results(folder: Path) -> None:
    checksums(folder, "a", "b")
    found = record(folder, CONFIG)
    assert found["seeds"] == {"study": 3, "cohort": 7}
    assert found["devices"] == {
        "training": "Some GPU",
        "centring": ["Some GPU", "cpu"],
        "torch": "2.13.0+cu130",
    }
    assert [row["scan"] for row in found["inputs"]] == ["a", "b"]
    assert found["inputs"][0]["path"] == str(folder / "given/a scan.nrrd")
    assert "align_scans" in found["code"]["commands"]
    assert found["config"] == CONFIG
    assert yaml.safe_load((folder / "config.yaml").read_text("utf-8")) == CONFIG


def test_scans_that_were_given_have_no_seed(folder: Path) -> None:
    checksums(folder, "a", "b")
    given = CONFIG | {"data": {"folder": "/scans", "cohort": {"seed": 7}}}
    assert record(folder, given)["seeds"] == {"study": 3}


def test_the_same_state_is_recorded_in_the_same_bytes(folder: Path) -> None:
    checksums(folder, "a", "b")
    record(folder, CONFIG)
    before = (folder / "provenance.json").read_bytes()
    record(folder, CONFIG)
    assert (folder / "provenance.json").read_bytes() == before
