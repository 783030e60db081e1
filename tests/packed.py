"""Packs of finished runs: what a pack finds in a scan of its study is what the study found."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import landmarkflow
from landmarkflow.commands.pack import pack_run
from landmarkflow.evaluation.lists import read_lists


def assert_found_again(
    run: Path, scans: Mapping[str, Path], folder: Path, **given: Mapping[str, str]
) -> Path:
    """Packs a run and compares what the pack finds with the run's own files; returns the pack.

    Args:
        run: its folder, results/<study>/<run>.
        scans: image of each scan that is compared.
        folder: where the pack is written.
        given: what else is said of each scan, `side` say, by its id.
    """
    path = folder / f"{run.name}.lmk"
    assert pack_run(run, path) == 0
    assert_pack_finds(path, run, scans, **given)
    return path


def assert_pack_finds(
    pack: Path, run: Path, scans: Mapping[str, Path], **given: Mapping[str, str]
) -> None:
    """Compares what a pack finds in some scans with the files of its run."""
    with landmarkflow.load(pack) as model:
        assert model.other_code == []
        for scan, image in scans.items():
            said = {name: values.get(scan, "") for name, values in given.items()}
            found = model.detect(image, **said)
            assert found.scan == scan
            record = json.loads((run / f"landmarks/{scan}.json").read_text("utf-8"))
            assert found.status == record["worst"], found.reason
            (expected,) = read_lists(run / f"landmarks/{scan}.mrk.json", scan)
            assert found.landmarks.labels == expected.landmarks.labels
            _assert_near(found.landmarks.positions, expected.landmarks.positions)
            radius = expected.radius
            _assert_near(
                found.radius, np.full(len(found.radius), np.nan) if radius is None else radius
            )
            segmentation = run / f"segmentations/{scan}.nii.gz"
            if segmentation.exists():
                assert found.files["found"].read_bytes() == segmentation.read_bytes()


def images_of(run: Path, scans: Sequence[str]) -> dict[str, Path]:
    """The given image of some scans of a run's study."""
    records = {scan: run.parent / f"work/scans/{scan}.json" for scan in scans}
    read: dict[str, dict[str, Any]] = {
        scan: json.loads(path.read_text("utf-8")) for scan, path in records.items()
    }
    return {scan: run.parents[2] / record["image"] for scan, record in read.items()}


def _assert_near(found: Any, expected: Any) -> None:
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
