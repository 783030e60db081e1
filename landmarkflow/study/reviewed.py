"""Landmarks that people reviewed, as references of scans that have none of their own."""

from collections.abc import Iterable
from pathlib import Path

from landmarkflow.core.errors import InputError
from landmarkflow.study.sheet import Scan


def with_reviewed(scans: Iterable[Scan], folder: str) -> tuple[Scan, ...]:
    """Scans, those without landmarks with those of a folder of `landmarkflow review`, where it has.

    Raises:
        InputError: there is no such folder.
    """
    if not folder:
        return tuple(scans)
    if not Path(folder).is_dir():
        raise InputError(
            f"config: `data.reviewed`: {folder}: no such folder, expected "
            "results/<study>/<run>/reviewed"
        )
    return tuple(_with(scan, Path(folder) / f"{scan.scan}.mrk.json") for scan in scans)


def _with(scan: Scan, path: Path) -> Scan:
    if scan.landmarks or not path.is_file():
        return scan
    # The file states its frame itself.
    return scan.model_copy(update={"landmarks": str(path), "frame": ""})
