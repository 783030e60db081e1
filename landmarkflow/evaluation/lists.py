"""Reads the points that a run wrote for a scan, or that it did not write."""

from pathlib import Path

from landmarkflow.core.points import PointList
from landmarkflow.formats.slicer import read_point_lists


def read_lists(path: Path | None, scan: str = "") -> list[PointList]:
    """Reads the point lists of a file; none without a path or in the place of a missing result.

    The name of the `scan` in front of theirs is taken away.
    """
    return [] if path is None or is_empty(path) else read_point_lists(path, scan)


def is_empty(path: Path) -> bool:
    """Tells whether an empty file holds the place of a missing result."""
    return path.is_file() and path.stat().st_size == 0
