"""A further method is one folder, one rule file and one name: a stand-in, run on what is drawn.

It moves the template's landmarks with the mass centre of what is bright, so that a scan whose
bright part lies at a known place has landmarks at known places, too.
"""

import html
import json
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray
from PIL import Image
from workflow_runs import (
    NOTHING,
    TINY,
    add_method,
    by_batch,
    copy_repository,
    copy_run,
    errors,
    met,
    points,
    results,
    rows,
    run_workflow,
    served,
    start_workflow,
    write_yaml,
)

TOY = Path(__file__).parent / "toy"
TOY_LINES = 120
SCANS = tuple(f"s{number:02d}" for number in range(10))
# In pixels: of the template, and how far those found are off the references of each picture.
LABELS = {"EYE": (20.25, 14.5), "FIN": (31.0, 22.75)}
OFFSETS = {scan: (0.25 * number, -0.125 * number) for number, scan in enumerate(SCANS)}
LENGTHS = {scan: 40.0 + number for number, scan in enumerate(SCANS)}
AT_THE_END = ("compare_runs", "record_provenance", "write_report", "check_scans", "all")


@pytest.fixture(scope="module")
def house(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository with the stand-in among its methods."""
    folder = copy_repository(root, tmp_path_factory.mktemp("house") / "repository")
    return add_method(folder, "toy", TOY)


def study(path: Path, name: str, **stated: object) -> Path:
    """The file of a study that runs the stand-in on the folder "my scans"."""
    settings = {"data": {"folder": "my scans"}, "report": {"dpi": 50}}
    toy = {"toy": {"method": "toy"}}
    return write_yaml(path, {"study": name, **settings, "runs": toy, **stated})


def test_it_takes_no_more_lines_than_a_page_or_two() -> None:
    files = [path for path in TOY.rglob("*") if path.suffix in (".py", ".smk")]
    assert sum(len(path.read_text("utf-8").splitlines()) for path in files) <= TOY_LINES


# Pictures


def bright_part(number: int) -> tuple[slice, slice, NDArray[np.float64]]:
    """Columns and rows of a rectangle, and its middle (x, y), at a pixel's edge in every other."""
    left, top, width, height = 8 + 2 * number, 5 + number, 6 + number % 2, 4 + number // 2 % 2
    middle = np.array([left + (width - 1) / 2, top + (height - 1) / 2])
    return slice(left, left + width), slice(top, top + height), middle


def draw(path: Path, number: int, shade: int = 220) -> NDArray[np.float64]:
    """Draws a picture with a bright part; returns the middle of this."""
    columns, rows_, middle = bright_part(number)
    values = np.full((40, 60), 30, np.uint8)
    values[rows_, columns] = shade
    Image.fromarray(values).save(path)
    return middle


def write_points(path: Path, positions: Mapping[str, NDArray[np.float64]]) -> None:
    lines = ["# frame: pixels, the centre of the first pixel at (0, 0)", "label,x,y"]
    lines += [f"{label},{x},{y}" for label, (x, y) in positions.items()]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def draw_pictures(folder: Path) -> dict[str, dict[str, NDArray[np.float64]]]:
    """Draws ten pictures and a template with their landmarks; returns where each point lies."""
    for name in ("template", "scans", "landmarks"):
        (folder / name).mkdir(parents=True)
    template = draw(folder / "template/scan.png", 0, shade=210)
    annotated = {label: np.array(position) for label, position in LABELS.items()}
    write_points(folder / "template/landmarks.csv", annotated)
    found = {}
    for number, scan in enumerate(SCANS):
        moved = draw(folder / f"scans/{scan}.png", number + 1) - template
        found[scan] = {label: position + moved for label, position in annotated.items()}
        truth = {label: position - OFFSETS[scan] for label, position in found[scan].items()}
        write_points(folder / f"landmarks/{scan}.csv", truth)
    sheet = ["scan\tside\tscale", *(f"{scan}\t\t{LENGTHS[scan]}" for scan in SCANS)]
    (folder / "samples.tsv").write_text("\n".join(sheet) + "\n", encoding="utf-8")
    return found


def panels(path: Path) -> int:
    """How many large dark rectangles an overview holds: the pictures' own background."""
    with Image.open(path) as picture:
        dark = (np.asarray(picture.convert("L")) < 100).astype(np.uint8)
    parts = sitk.ConnectedComponent(sitk.GetImageFromArray(dark))
    sizes = np.bincount(sitk.GetArrayFromImage(parts).ravel())[1:]
    return int((sizes > dark.size / 20).sum())


@pytest.mark.slow
@pytest.mark.parametrize("unit", ["px", "%"])
def test_pictures_are_measured_in_pixels_or_in_percent(
    house: Path, tmp_path: Path, unit: str
) -> None:
    expected = draw_pictures(tmp_path / "my scans")
    options = ("--configfile", study(tmp_path / "fish.yaml", "fish", unit=unit))
    run = run_workflow(house, tmp_path, *options)
    assert run.status == 0, run.text
    assert "train_network" not in run.jobs
    toy = results(tmp_path, "fish") / "toy"
    for scan, positions in expected.items():
        found = points(toy / f"landmarks/{scan}.mrk.json", "final")
        for label, position in positions.items():
            np.testing.assert_allclose(found[label], [*position, 0], atol=2e-4)
    table = {(r["scan"], r["landmark"]): r for r in rows(toy / "landmarks.csv")}
    assert {key: (float(r["x"]), float(r["y"])) for key, r in table.items()} == {
        (scan, label): pytest.approx(tuple(position), abs=2e-4)
        for scan, positions in expected.items()
        for label, position in positions.items()
    }
    assert {row["frame"] for row in table.values()} == {"pixels"}
    pixels = {scan: float(np.hypot(*offset)) for scan, offset in OFFSETS.items()}
    in_unit = {scan: e if unit == "px" else 100 * e / LENGTHS[scan] for scan, e in pixels.items()}
    known = {(scan, label): in_unit[scan] for scan in SCANS for label in LABELS}
    assert errors(toy) == pytest.approx(known, abs=2e-4)
    summary = json.loads((toy / "evaluation/summary.json").read_text(encoding="utf-8"))
    assert summary["unit"] == unit
    (row,) = rows(toy.parent / "comparison.csv")
    assert float(row["mean"]) == pytest.approx(np.mean(list(in_unit.values())), abs=1e-4)
    page = (toy.parent / "report.html").read_text(encoding="utf-8")
    assert {"px": "pixels", "%": "% of the length that each scan states"}[unit] in page
    assert [panels(toy / f"pictures/{scan}.png") for scan in SCANS] == [1] * len(SCANS)


# Volumes


def write_block(path: Path, corner: int, bright: int = 900) -> None:
    """Writes a volume of air with a bright block."""
    values = np.full((24, 24, 24), -1000, np.int16)
    values[corner : corner + 5, 8:13, 8:13] = bright
    image = sitk.GetImageFromArray(values)
    image.SetSpacing((0.5, 0.5, 0.5))
    sitk.WriteImage(image, str(path))


@pytest.fixture
def blocks(tmp_path: Path) -> Path:
    """A folder with a template and three scans, the first in two files, without references."""
    folder = tmp_path / "my scans"
    for name in ("template", "scans"):
        (folder / name).mkdir(parents=True)
    write_block(folder / "template/scan.nii.gz", 9, bright=800)
    for name in ("a.mhd", "b.nii.gz", "c.nrrd"):
        write_block(folder / "scans" / name, 9)
    text = "# frame: LPS\nlabel,x,y,z\nTOP,5,5,4.5\n"
    (folder / "template/landmarks.csv").write_text(text, encoding="utf-8")
    return folder


@pytest.mark.slow
def test_other_voxels_run_their_scan_again_though_header_or_date_are_as_before(
    house: Path, tmp_path: Path, blocks: Path
) -> None:
    options = ("--configfile", study(tmp_path / "blocks.yaml", "blocks"))
    assert run_workflow(house, tmp_path, *options).status == 0
    assert NOTHING in run_workflow(house, tmp_path, *options).text
    toy = results(tmp_path, "blocks") / "toy"
    # Nothing can be measured: the tables say what was found, and none is empty.
    assert not list(toy.parent.rglob("errors.csv")) + list(toy.parent.rglob("steps.csv"))
    assert [(row["scan"], row["z"], row["frame"]) for row in rows(toy / "landmarks.csv")] == [
        (scan, "4.5000", "LPS") for scan in "abc"
    ]
    assert {row["status"] for row in rows(toy / "scans.csv")} == {"ok"}

    def found() -> dict[str, float]:
        files = {scan: toy / f"landmarks/{scan}.mrk.json" for scan in "abc"}
        return {scan: points(path)["TOP"][2] for scan, path in files.items()}

    def rerun() -> dict[str, str]:
        expected = {"digest_scans_001", "check_references_001", "shift_landmarks_001"}
        jobs = run_workflow(house, tmp_path, "--dry-run", *options).jobs
        assert set(jobs) >= expected
        run = run_workflow(house, tmp_path, *options)
        assert (run.status, run.jobs) == (0, jobs), run.text
        return served(toy / "work/logs/shift/001.log")

    assert found() == {"a": 4.5, "b": 4.5, "c": 4.5}
    header = (blocks / "scans/a.mhd").read_bytes()
    write_block(tmp_path / "a.mhd", 11)
    (tmp_path / "a.raw").replace(blocks / "scans/a.raw")
    assert (blocks / "scans/a.mhd").read_bytes() == header
    assert rerun() == {"a": "computed", "b": "known", "c": "known"}
    assert found() == {"a": 5.5, "b": 4.5, "c": 4.5}

    older = (blocks / "scans/b.nii.gz").stat().st_mtime - 1000
    write_block(tmp_path / "b.nii.gz", 7)
    os.utime(tmp_path / "b.nii.gz", (older, older))
    (tmp_path / "b.nii.gz").replace(blocks / "scans/b.nii.gz")
    assert rerun() == {"a": "known", "b": "computed", "c": "known"}
    assert found() == {"a": 5.5, "b": 3.5, "c": 4.5}


@pytest.mark.slow
def test_a_defect_met_in_one_scan_is_reported_when_all_else_is_done(
    house: Path, tmp_path: Path, blocks: Path
) -> None:
    options = ("--configfile", study(tmp_path / "blocks.yaml", "blocks"))
    defect = ("os.rename", "*/.store/*/landmarks.b.mrk.json", "raise")
    first = start_workflow(house, tmp_path, [defect], *options)
    text, _ = first.communicate(timeout=300)
    assert (first.returncode, met(tmp_path)) == (1, {0}), text
    found = results(tmp_path, "blocks")
    said = "b: shift: a defect in the program (RuntimeError: raised by a test)"
    assert [line for line in text.splitlines() if line.startswith(said)], text
    reason = html.unescape((found / "report.html").read_text(encoding="utf-8"))
    assert "a defect in the program (RuntimeError: raised by a test)" in reason
    assert "Traceback" in (found / "toy/work/logs/shift/001.log").read_text(encoding="utf-8")
    positions = {s: points(found / f"toy/landmarks/{s}.mrk.json", "final")["TOP"] for s in "abc"}
    assert [scan for scan, position in positions.items() if np.isnan(position).any()] == ["b"]
    # Nothing of it is kept: once the scan's own files are taken away, it is computed.
    (found / "toy/landmarks/b.json").unlink()
    run = run_workflow(house, tmp_path, *options)
    assert run.status == 0, run.text
    expected = {"a": "known", "b": "computed", "c": "known"}
    assert served(found / "toy/work/logs/shift/001.log") == expected


# Beside the others


@pytest.mark.slow
def test_a_further_run_leaves_those_before_as_they_are(
    house: Path, tiny: Path, tmp_path: Path
) -> None:
    folder = copy_run(tiny, tmp_path / "again")
    stated = {"runs": {name: {"method": name} for name in ("toy", "oneshot")}}
    both = write_yaml(tmp_path / "both.yaml", stated)
    run = run_workflow(house, folder, "--configfile", TINY, both)
    assert run.status == 0, run.text
    own = {"evaluate_landmarks", "record_run"}
    own |= by_batch(("001", "002"), "shift_landmarks", "draw_overviews")
    assert run.jobs == dict.fromkeys([*own, *AT_THE_END], 1)
    found = results(folder)
    table = {row["run"]: row for row in rows(found / "comparison.csv")}
    assert list(table) == ["toy", "oneshot"]
    assert float(table["oneshot"]["mean"]) < float(table["toy"]["mean"])
    page = (found / "report.html").read_text(encoding="utf-8")
    assert "toy/pictures/ear004.png" in page
    assert "oneshot/pictures/ear004.png" in page
