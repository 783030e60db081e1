"""Packs: what a study found is found again by the pack of its run, and a bad pack is refused."""

import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import landmarkflow
from landmarkflow.commands.detect import Options, detect
from landmarkflow.commands.pack import pack_run
from landmarkflow.core.errors import InputError
from landmarkflow.evaluation.lists import read_lists
from landmarkflow.formats.volumes import read_volume
from landmarkflow.packs.contents import NAME
from landmarkflow.packs.model import Model

RUN = "results/tiny/oneshot"


@pytest.fixture(scope="module")
def packed(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pack of the tiny study's run."""
    path = tmp_path_factory.mktemp("pack") / "ear.lmk"
    assert pack_run(tiny / RUN, path) == 0
    return path


def scan_of(tiny: Path, name: str) -> Path:
    return tiny / f"results/tiny/work/data/scans/{name}.nii.gz"


def test_a_pack_finds_what_the_study_found(
    tiny: Path, packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ("ear001", "ear002")
    scans = [scan_of(tiny, name) for name in names]
    assert detect(packed, scans, tmp_path, Options(as_json=True)) == 0
    said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    for name, line in zip(names, said, strict=True):
        study = tiny / RUN / "landmarks" / f"{name}.mrk.json"
        assert (tmp_path / f"{name}.mrk.json").read_bytes() == study.read_bytes()
        of_study = tiny / RUN / "segmentations" / f"{name}.nii.gz"
        assert (tmp_path / f"{name}.nii.gz").read_bytes() == of_study.read_bytes()
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        final = read_lists(study, name)[0]
        assert list(line["landmarks"]) == list(final.landmarks.labels)
        found = [line["landmarks"][label]["position"] for label in final.landmarks.labels]
        np.testing.assert_allclose(found, final.landmarks.positions, rtol=0, atol=1e-9)
        assert line["frame"] == "LPS"


def test_an_image_in_memory_is_enough(tiny: Path, packed: Path) -> None:
    image = read_volume(scan_of(tiny, "ear003"))
    with landmarkflow.load(packed) as model:
        found = model.detect(image)
        expected = read_lists(tiny / RUN / "landmarks/ear003.mrk.json", "ear003")[0]
        assert found.landmarks.labels == expected.landmarks.labels
        np.testing.assert_allclose(
            found.landmarks.positions, expected.landmarks.positions, rtol=0, atol=1e-6
        )
        assert expected.radius is not None
        np.testing.assert_allclose(found.radius, expected.radius, rtol=0, atol=1e-6)
        assert found.files["landmarks"].is_file()
    assert not found.files["landmarks"].exists()


def test_a_scan_without_an_answer_is_a_line_and_an_exit_status(
    packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torn = tmp_path / "torn.nii.gz"
    torn.write_bytes(b"\x1f\x8b" + b"0" * 50)
    assert detect(packed, [torn], tmp_path / "out", Options()) == 1
    line = capsys.readouterr().out.strip()
    assert line.startswith("torn: refused: ")
    assert str(torn) in line
    (points,) = read_lists(tmp_path / "out/torn.mrk.json", "torn")
    assert points.landmarks.missing.all()
    assert json.loads((tmp_path / "out/torn.json").read_text())["status"] == "refused"


def test_folders_of_one_name_are_told_apart_before_anything_is_done(
    packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scans = [tmp_path / f"{patient}/CT/scan.nii.gz" for patient in ("anna", "bert")]
    for path in scans:
        path.parent.mkdir(parents=True)
        path.write_bytes(b"\x1f\x8b" + path.parts[-3].encode() * 20)
    assert detect(packed, scans, tmp_path / "out", Options(picture=False)) == 1
    said = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in said] == ["1/2 anna", "2/2 bert"]
    with pytest.raises(InputError, match="a scan is given twice, expected each once"):
        detect(packed, [scans[0], scans[0]], tmp_path / "out", Options())


def test_a_missing_scan_is_said_before_anything_is_done(packed: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.nii\.gz: no such file, expected a scan"):
        detect(packed, [tmp_path / "gone.nii.gz"], tmp_path / "out", Options())
    assert not (tmp_path / "out").exists()


def test_the_same_run_packs_to_the_same_bytes(tiny: Path, packed: Path, tmp_path: Path) -> None:
    pack_run(tiny / RUN, tmp_path / "again.lmk")
    assert (tmp_path / "again.lmk").read_bytes() == packed.read_bytes()


def test_a_pack_holds_no_scan_of_the_study(packed: Path) -> None:
    with zipfile.ZipFile(packed) as archive:
        names = archive.namelist()
    assert not [name for name in names if "ear0" in name]


def test_only_a_finished_run_is_packed(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no finished run, expected results/<study>/<run>"):
        pack_run(tiny / "results/tiny", tmp_path / "x.lmk")
    with pytest.raises(InputError, match=r"has the suffix '\.zip', expected \.lmk"):
        pack_run(tiny / RUN, tmp_path / "x.zip")
    assert list(tmp_path.iterdir()) == []


def test_the_command_line_needs_no_repository_around_it(packed: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "landmarkflow", "detect", packed, "x.nii.gz", "-o", "out"]
    root = Path(__file__).parents[1]
    done = subprocess.run(
        [str(part) for part in command],
        cwd=tmp_path,
        env={"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == "landmarkflow: x.nii.gz: no such file, expected a scan\n"


# Bad packs


def changed(
    packed: Path, path: Path, edit: Callable[[dict[str, Any]], object], **more: bytes | None
) -> Path:
    """A copy of a pack with another pack.json, and with other files; None for one without it."""
    with zipfile.ZipFile(packed) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        data = json.loads(old.read(NAME))
        edit(data)
        new.writestr(NAME, json.dumps(data))
        for name in data["files"] if isinstance(data.get("files"), dict) else ():
            if name in old.namelist() and more.get(name, b"") is not None:
                new.writestr(name, more.get(name) or old.read(name))
        for name, content in more.items():
            if name not in new.namelist() and content is not None:
                new.writestr(name, content)
    return path


CALIBRATION = "oneshot/calibration.json"


def first(data: dict[str, Any]) -> dict[str, Any]:
    part: dict[str, Any] = data["parts"][1]
    return part


EDITS: dict[str, Callable[[dict[str, Any]], object]] = {
    "another format": lambda d: d.update(format=2),
    "no format": lambda d: d.pop("format"),
    "an unknown key": lambda d: d.update(more=1),
    "no parts": lambda d: d.update(parts=[]),
    "an unknown stage": lambda d: first(d).update(command="run_anything"),
    "a stage's code that is none": lambda d: first(d).update(code="x"),
    "a run that climbs": lambda d: first(d).update(run="../x"),
    "a template that climbs": lambda d: first(d).update(template="../x"),
    "a peer that climbs": lambda d: first(d).update(peers=["../../x"]),
    "a file that climbs": lambda d: d["files"].update({"../x": d["files"][CALIBRATION]}),
    "an absolute file": lambda d: d["files"].update({"/tmp/x": d["files"][CALIBRATION]}),
    "a hidden file": lambda d: d["files"].update({"a/.x": d["files"][CALIBRATION]}),
    "a file that is not there": lambda d: d["files"].update({"a/x": d["files"][CALIBRATION]}),
    "a smaller file": lambda d: d["files"][CALIBRATION].update(size=10),
    "a larger file": lambda d: d["files"][CALIBRATION].update(size=10**6),
    "a huge file": lambda d: d["files"][CALIBRATION].update(size=1 << 40),
    "a negative file": lambda d: d["files"][CALIBRATION].update(size=-1),
    "another digest": lambda d: d["files"][CALIBRATION].update(sha256="0" * 64),
    "a digest that is none": lambda d: d["files"][CALIBRATION].update(sha256="0"),
}


@pytest.mark.parametrize("name", EDITS)
def test_a_pack_that_says_something_else_is_refused(
    name: str, packed: Path, tmp_path: Path
) -> None:
    assert_refused(changed(packed, tmp_path / "bad.lmk", EDITS[name]), tmp_path)


def test_a_damaged_pack_is_refused(packed: Path, tmp_path: Path) -> None:
    bad, whole = tmp_path / "bad.lmk", packed.read_bytes()
    for content in (b"", b"PK", whole[: len(whole) // 2], whole[1000:], b"GIF89a" + whole[6:1000]):
        bad.write_bytes(content)
        assert_refused(bad, tmp_path)
    # A byte of a compressed file.
    bad.write_bytes(whole[:9000] + bytes([whole[9000] ^ 255]) + whole[9001:])
    assert_refused(bad, tmp_path)


def test_a_pack_with_more_or_other_files_is_refused(packed: Path, tmp_path: Path) -> None:
    def nothing(data: dict[str, Any]) -> None:
        pass

    bad = tmp_path / "bad.lmk"
    assert_refused(changed(packed, bad, nothing, **{"a/more.bin": b"x"}), tmp_path)
    assert_refused(changed(packed, bad, nothing, **{CALIBRATION: b"{}"}), tmp_path)
    assert_refused(changed(packed, bad, nothing, **{CALIBRATION: None}), tmp_path)
    with zipfile.ZipFile(bad, "w") as archive:
        archive.writestr("some.txt", "x")
    assert_refused(bad, tmp_path)
    with zipfile.ZipFile(bad, "w") as archive:
        archive.writestr(NAME, "[1, 2")
    assert_refused(bad, tmp_path)
    shutil.rmtree(tmp_path / "nothing", ignore_errors=True)
    assert_refused(tmp_path / "nothing", tmp_path)


def assert_refused(path: Path, folder: Path) -> None:
    before = sorted(folder.rglob("*"))
    with pytest.raises(InputError) as error:
        Model(path)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)
    assert sorted(folder.rglob("*")) == before
