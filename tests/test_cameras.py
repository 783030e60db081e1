"""The stand-ins for other cameras by which `zoomin` is measured show what they say."""

import importlib
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from landmarkflow.cohorts.fundus import simulate_fundus
from landmarkflow.cohorts.fundus_settings import FundusSettings
from landmarkflow.methods.zoomin.prepare import find_field

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
SAME_COLOURS = {"as given", "500 pixels wide", "wider border", "text in the border", "JPEG 40"}


@pytest.fixture
def cameras(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The bench's module."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.delitem(sys.modules, "cameras", raising=False)
    return importlib.import_module("cameras")


def test_stand_ins_show_landmarks_and_field_where_they_say(cameras: ModuleType) -> None:
    settings = FundusSettings(width=320, lesions=0, camera_b=0, noise=1)
    simulated = simulate_fundus(settings, 3, 1)
    picture = simulated.image
    points = simulated.landmarks.positions[:, :2]
    field = find_field(picture, "round")
    assert field.certain
    side = float(np.sign(points[1, 0] - points[0, 0]))
    for name, change in cameras.STAND_INS.items():
        random = np.random.default_rng(0)
        changed = change(cameras.Eye(picture, field, side, random))
        assert np.allclose(changed.back(changed.there(points)), points), name
        found = find_field(changed.picture, "round")
        assert found.certain == (name != "white border"), name
        if found.certain and "field" not in name and "round" not in name and "disc" not in name:
            there = changed.there(np.array([[field.x, field.y]]))[0]
            assert np.hypot(found.x - there[0], found.y - there[1]) < 0.02 * found.diameter, name
            assert found.diameter == pytest.approx(changed.factor * field.diameter, rel=0.03), name
        if name in SAME_COLOURS:
            x, y = points[1].round().astype(int)
            u, v = changed.there(points[1]).round().astype(int)
            given = picture[y - 2 : y + 3, x - 2 : x + 3].mean(axis=(0, 1))
            shown = changed.picture[v - 2 : v + 3, u - 2 : u + 3].mean(axis=(0, 1))
            assert np.abs(shown - given).max() < 12, name
