import math

import numpy as np
import pytest

from landmarkflow.core.points import Landmarks, PointList
from landmarkflow.evaluation.errors import ScanPoints, error_table
from landmarkflow.evaluation.summary import reliability

LABELS = ("a", "b")


def scan(name: str, errors: list[float], radii: list[float] | None) -> ScanPoints:
    """A scan whose landmarks are off along x; its rigid list, far off, has no radii."""
    found = Landmarks(
        LABELS, np.array([[e, 0.0, 0.0] if math.isfinite(e) else [math.nan] * 3 for e in errors])
    )
    far = Landmarks(LABELS, np.full((2, 3), 50.0))
    lists = (
        PointList("final", found, None if radii is None else np.array(radii)),
        PointList("rigid", far, None),
    )
    return ScanPoints(name, lists, Landmarks(LABELS, np.zeros((2, 3))))


def test_errors_are_held_against_their_radii() -> None:
    def scans(names: str) -> list[ScanPoints]:
        first, second, third = names
        return [
            scan(first, [0.1, 0.3], [0.2, 0.2]),
            scan(second, [0.4, math.nan], [0.4, 0.9]),
            scan(third, [0.9, 0.2], [1.0, math.nan]),
        ]

    few = reliability(error_table(scans("abc")), (), 2.0)
    assert few["n"] == 4
    assert math.isnan(few["rank_correlation"]), "n too small"
    found = reliability(error_table([*scans("abc"), *scans("def"), *scans("ghi")]), (), 2.0)
    assert found["n"] == 12
    assert found["within_radius_percent"] == pytest.approx(75)
    assert found["mean_radius"] == pytest.approx(0.45)
    # Ranks of the errors 1, 2, 3, 4 and of the radii 1.5, 1.5, 3, 4.
    assert found["rank_correlation"] == pytest.approx(4.5 / math.sqrt(5 * 4.5))


def test_a_large_error_counts_where_nobody_said_so() -> None:
    table = error_table([scan("said", [3.0, 0.1], None), scan("unsaid", [5.0, 1.9], None)])
    expected = {
        "n": 0,
        "within_radius_percent": math.nan,
        "mean_radius": math.nan,
        "rank_correlation": math.nan,
        "flagged_scans": 1,
        "unflagged_large": 1,
    }
    found = reliability(table, {"said", "elsewhere"}, 2.0)
    assert found == pytest.approx(expected, nan_ok=True)


def test_equal_radii_rank_nothing() -> None:
    table = error_table([scan("s", [0.1, 0.3], [0.2, 0.2])])
    assert math.isnan(reliability(table, (), 2.0)["rank_correlation"])
    assert reliability(error_table([]), (), 2.0)["n"] == 0
