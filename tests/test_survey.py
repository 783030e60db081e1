"""What the template decides for all scans: grey values, and how regions are found."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from phantoms import sampled
from stage_runs import assert_refused, path_of, run_stage

from landmarkflow.core.files import read_json
from landmarkflow.core.grids import Grid
from landmarkflow.core.records import TEMPLATE, read_record
from landmarkflow.formats.written import write_volume
from landmarkflow.images.operations import array_of, grid_of, image_on
from landmarkflow.methods.oneshot.locate import locate
from landmarkflow.methods.oneshot.normalise import normalise
from landmarkflow.methods.oneshot.settings import LocateSettings, NormaliseSettings
from landmarkflow.methods.oneshot.stages import LOCATE, SURVEY
from landmarkflow.methods.oneshot.survey import survey

GRID = Grid.centred((5.0, -8.0, 60.0), (72, 72, 60), 0.6)
EAR = np.array([9.0, -12.0, 62.0])
LOCATING, GREYS = LocateSettings(spacing_mm=0.6, field_mm=16.0), NormaliseSettings()


def head(dense: float, radius: float = 4.0) -> sitk.Image:
    """Soft tissue of 40 in air of -1000, with a ball of another grey value in it, noisy."""
    random = np.random.default_rng(1)

    def values(points: np.ndarray) -> np.ndarray:
        found = np.where(np.linalg.norm(points - GRID.centre, axis=1) < 16, 40.0, -1000.0)
        found[np.linalg.norm(points - EAR, axis=1) < radius] = dense
        return found + random.normal(0, 15, len(points))

    return sampled(GRID, values)


def ball(radius: float = 4.0) -> sitk.Image:
    return sampled(GRID, lambda p: (np.linalg.norm(p - EAR, axis=1) < radius).astype(np.uint8))


def test_where_the_mixture_finds_the_target_stated_units_stand() -> None:
    found = survey(head(2000.0), ball(), LOCATING, GREYS)
    assert (found.normalise, found.locate) == ("auto", "auto")
    assert (found.low, found.high) == (-1024, 3000)
    assert found.dense_mm3 > 50
    assert found.because.startswith("between the grey values -1024 and 3000 the mixture finds")


@pytest.mark.parametrize(("dense", "radius", "places"), [(400, 4, "network"), (400, 14, "whole")])
def test_where_nothing_is_dense_the_network_or_the_whole_scan_takes_its_place(
    dense: float, radius: float, places: str
) -> None:
    found = survey(head(dense, radius), ball(radius), LOCATING, GREYS)
    assert (found.normalise, found.locate) == ("percentiles", places)
    assert "does not find the template's target" in found.because


def test_stated_methods_stand() -> None:
    greys = NormaliseSettings(method="hu")
    locating = LOCATING.model_copy(update={"method": "network"})
    found = survey(head(2000.0), ball(), locating, greys)
    assert (found.normalise, found.locate) == ("hu", "network")


def test_a_scan_without_anything_dense_goes_to_the_network() -> None:
    told = survey(head(2000.0), ball(), LOCATING, GREYS)
    soft = normalise(head(60.0), GREYS)
    found = locate(soft, LOCATING, GREYS, told)
    assert (found.method, found.mixture, found.candidates) == ("network", None, ())
    assert grid_of(found.crop).contains(grid_of(soft).corners * 0.98 + GRID.centre * 0.02).all()
    assert locate(normalise(head(2000.0), GREYS), LOCATING, GREYS, told).method == "mixture"


def test_a_whole_scan_has_one_candidate_at_the_middle_of_what_is_bright() -> None:
    whole = LOCATING.model_copy(update={"method": "whole"})
    found = locate(normalise(head(40.0), GREYS), whole, GREYS)
    assert found.method == "whole"
    np.testing.assert_allclose(found.candidates[0].centre, GRID.centre, atol=0.5)


def test_the_stages_carry_the_choice_to_every_scan(tmp_path: Path) -> None:
    settings = {"locate": LOCATING, "normalise": GREYS}
    scans = {TEMPLATE: head(2000.0), "same": head(1950.0)}
    scans["other"] = image_on(GRID, (array_of(head(1950.0)) * 0.06 + 70).astype(np.float32))
    sheet = {name: {"image": tmp_path / f"{name}.nrrd"} for name in scans}
    for name, scan in scans.items():
        write_volume(scan, tmp_path / f"{name}.nrrd")
    write_volume(ball(), path_of(tmp_path, SURVEY, "target", TEMPLATE))
    done = run_stage(SURVEY, tmp_path, [TEMPLATE], settings=settings, sheet=sheet)
    assert done.status == 0, done.stderr
    assert read_json(path_of(tmp_path, SURVEY, "survey"))["locate"] == "auto"
    done = run_stage(LOCATE, tmp_path, ["same", "other"], settings=settings, sheet=sheet)
    assert done.status == 0, done.stderr
    for name, method in (("same", "hu"), ("other", "histogram")):
        details = read_record(path_of(tmp_path, LOCATE, "record", name)).details
        assert details["greys"]["method"] == method
        np.testing.assert_allclose(details["candidates"][0]["centre"], EAR, atol=0.3)
    path_of(tmp_path, SURVEY, "survey").write_text("[]")
    done = run_stage(LOCATE, tmp_path, ["same"], settings=settings, sheet=sheet)
    assert_refused(done, "survey.json", "expected what the template's survey found")
