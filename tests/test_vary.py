"""Copies of scans as other scanners and exports would have made them."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from landmarkflow.commands.main import main
from landmarkflow.core.grids import Grid
from landmarkflow.formats.written import read_written, write_volume
from landmarkflow.images.changes import CHANGES
from landmarkflow.images.operations import array_of, grid_of, image_on

GRID = Grid((40, 36, 30), np.array([0.25, 0.25, 0.5]), np.array([3.0, -7.0, 11.0]), np.eye(3))
SPOT = GRID.to_physical([[17.0, 21.0, 12.0]])[0]


def scan() -> sitk.Image:
    """Air and soft tissue, and a bright spot at a known place, HU."""
    index = np.stack(np.meshgrid(*map(np.arange, GRID.size), indexing="ij"), axis=-1)
    points = GRID.to_physical(index.reshape(-1, 3).astype(float))
    values = np.where(points[:, 2] < GRID.centre[2], 40.0, -900.0)
    values += 1800 * np.exp(-0.5 * (np.linalg.norm(points - SPOT, axis=1) / 1.0) ** 2)
    return image_on(GRID, values.reshape(GRID.size).T.astype(np.int16))


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_leaves_what_lies_where(name: str) -> None:
    random = np.random.default_rng(1)
    made = CHANGES[name].make(scan(), random)
    values, grid = array_of(made).astype(float), grid_of(made)
    near = grid.to_physical(np.argwhere(np.ones(values.shape))[:, ::-1].astype(float))
    around = np.linalg.norm(near - SPOT, axis=1) < 2.0
    bright = values.ravel()[around] * (-1 if name == "inverted" else 1)
    weight = np.clip(bright - np.median(bright), 0, None)
    middle = weight @ near[around] / weight.sum()
    np.testing.assert_allclose(middle, SPOT, atol=0.35)


def test_grey_values_and_voxels_become_what_is_said() -> None:
    given, random = scan(), np.random.default_rng(1)
    hu = array_of(given).astype(float)
    np.testing.assert_allclose(
        array_of(CHANGES["cone-beam"].make(given, random)), 0.6 * hu + 300, atol=1
    )
    assert CHANGES["bytes"].make(given, random).GetPixelID() == sitk.sitkUInt8
    assert array_of(CHANGES["clipped"].make(given, random)).min() == -200
    noisy = array_of(CHANGES["noise-100"].make(given, random)).astype(float)
    assert (noisy - hu)[hu > 0].std() == pytest.approx(100, rel=0.05)
    coarse = CHANGES["voxels-0.6"].make(given, random)
    assert coarse.GetSpacing() == pytest.approx((0.6, 0.6, 0.6))
    np.testing.assert_allclose(grid_of(coarse).corners[0], GRID.corners[0], atol=0.3)
    assert CHANGES["slices-1.25"].make(given, random).GetSpacing() == (0.25, 0.25, 1.25)
    assert CHANGES["half-field"].make(given, random).GetSize() == (20, 18, 15)


def test_a_folder_is_written_that_a_study_reads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given, made = tmp_path / "given", tmp_path / "made"
    for path in ("template/scan.nii.gz", "scans/one.nii.gz", "scans/two.nii.gz"):
        write_volume(scan(), given / path)
    for path in ("template/landmarks.mrk.json", "landmarks/one.mrk.json"):
        (given / path).parent.mkdir(exist_ok=True)
        (given / path).write_text("{}")
    asked = ["vary", str(given), "-o", str(made), "--changes", "inverted", "voxels-1.0"]
    assert main([*asked, "--template", "inverted"]) == 0
    rows = list(csv.DictReader((made / "samples.tsv").open(encoding="utf-8"), delimiter="\t"))
    assert [row["scan"] for row in rows] == [
        *("one_inverted", "one_voxels-1-0", "two_inverted", "two_voxels-1-0")
    ]
    assert {row["group"] for row in rows} == {CHANGES[n].what for n in ("inverted", "voxels-1.0")}
    assert sorted(p.name for p in (made / "landmarks").iterdir()) == [
        *("one_inverted.mrk.json", "one_voxels-1-0.mrk.json")
    ]
    turned = array_of(read_written(made / "template/scan.nii.gz"))
    np.testing.assert_array_equal(turned, 2000 - array_of(scan()))
    assert main(asked) == 1
    assert "is there already" in capsys.readouterr().err
    shutil.rmtree(made)
    assert main([*asked[:-2], "upside-down"]) == 1
    assert "there is no change 'upside-down', expected one of as-it-is," in capsys.readouterr().err
    assert not made.exists()
