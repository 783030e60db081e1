"""Copies of scans in 24 orientations, from which the bench of orientations is made."""

import importlib
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from dualhead_phantoms import write_phantom

from landmarkflow.formats.landmarks import read_landmarks
from landmarkflow.formats.volumes import read_volume
from landmarkflow.images.operations import grid_of, view_of

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def turned(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The bench's module."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.delitem(sys.modules, "turned", raising=False)
    return importlib.import_module("turned")


def test_landmarks_turn_with_their_scan(tmp_path: Path, turned: ModuleType) -> None:
    data, output = tmp_path / "given", tmp_path / "turned"
    write_phantom(data, "a", 1)
    (data / "template").mkdir()
    turned.write(data, output, None, "right")
    scans = sorted((output / "scans").iterdir())
    assert [path.stem for path in scans] == [f"a-{number:02d}" for number in range(24)]
    seen, around = set(), []
    for path in scans:
        image = read_volume(path, 2**30)
        points = read_landmarks(output / f"landmarks/{path.stem}.mrk.json").positions
        index = grid_of(image).to_index(points)
        around.append(index)
        x, y, z = index[2].round().astype(int)
        # The smallest ball is the brightest: it is where its landmark says in every orientation.
        assert view_of(image)[z, y, x] > 900
        seen.add(tuple((points[1] - points[0]).round(3).tolist()))
    np.testing.assert_allclose(around, np.broadcast_to(around[0], np.shape(around)), atol=1e-3)
    assert len(seen) == 24
    first = read_landmarks(data / "landmarks/a.mrk.json").positions
    np.testing.assert_allclose(grid_of(image).centre, grid_of(read_volume(scans[0], 2**30)).centre)
    np.testing.assert_allclose(
        read_landmarks(output / "landmarks/a-00.mrk.json").positions, first, atol=1e-4
    )
    rows = (output / "samples.tsv").read_text().splitlines()
    assert rows[:2] == ["scan\tside\tgroup", "a-00\tright\t00"]


def test_each_scan_has_random_orientations_of_its_own(tmp_path: Path, turned: ModuleType) -> None:
    data, output = tmp_path / "given", tmp_path / "turned"
    for scan in "ab":
        write_phantom(data, scan, 1)
    (data / "template").mkdir()
    generator = np.random.default_rng(1)
    turned.write(data, output, None, "", lambda: turned.random_orientations(3, generator))
    scans = sorted((output / "scans").iterdir())
    assert [path.stem for path in scans] == ["a-00", "a-01", "a-02", "b-00", "b-01", "b-02"]
    grids = [grid_of(read_volume(path, 2**30)) for path in scans]
    for one, grid in enumerate(grids):
        apart = [np.linalg.norm(grid.direction - other.direction) for other in grids[:one]]
        assert min(apart, default=1) > 0.1
        points = read_landmarks(output / f"landmarks/{scans[one].stem}.mrk.json").positions
        first = read_landmarks(output / f"landmarks/{scans[0].stem}.mrk.json").positions
        np.testing.assert_allclose(grid.to_index(points), grids[0].to_index(first), atol=1e-3)
