"""Scans that show a part of an ear, or two ears: placed within bounds, and said to be so."""

import re
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import yaml
from numpy.typing import NDArray
from workflow_runs import TINY, results, run_workflow, write_yaml

from landmarkflow.cohorts.settings import side_of
from landmarkflow.cohorts.simulate import simulate_subject
from landmarkflow.core.files import read_json
from landmarkflow.core.grids import Grid
from landmarkflow.core.points import PointList
from landmarkflow.core.records import read_record
from landmarkflow.formats.slicer import read_point_lists, write_markups
from landmarkflow.formats.written import write_volume
from landmarkflow.images.extent import Extent
from landmarkflow.images.operations import array_of, grid_of, image_on
from landmarkflow.study.config import CohortSource

Array = NDArray[np.float64]
Places = dict[str, Array]

STUDY = yaml.safe_load(TINY.read_text(encoding="utf-8"))
COHORT = CohortSource.model_validate(STUDY["data"]["cohort"])
LABELS = STUDY["data"]["landmarks"]
# An ear that is seen whole, too, and another one, which measures the study's error as well.
EAR, OTHER = 3, 1
# Where the scan ends, mm beyond the apex of the cochlea; below 0 the apex is not seen.
CUTS = {"cut-beyond-1": 1.0, "cut-before-05": -0.5, "cut-before-1": -1.0}
RIGHT_MM, BEYOND_MM = 1.0, 1.5


def cut_off(scan: sitk.Image, truth: Places, beyond_mm: float) -> sitk.Image:
    """The ear in a scan that ends so far beyond the apex, on the axis on which it lies outmost."""
    offset = truth["TOP"] - truth["CENTER"]
    axis = int(np.argmax(np.abs(offset)))
    side = np.sign(offset[axis])
    border = truth["TOP"].copy()
    border[axis] += side * beyond_mm
    # The border lies between two voxels.
    last = int(np.floor(grid_of(scan).to_index(border[None])[0, axis] + 0.5))
    size, start = list(scan.GetSize()), [0, 0, 0]
    start[axis], size[axis] = (0, last) if side > 0 else (last, size[axis] - last)
    return sitk.RegionOfInterest(scan, size, start)


def beside_its_mirror_image(scan: sitk.Image) -> sitk.Image:
    """One scan of an ear and, in positive direction of x, of its mirror image."""
    grid, values = grid_of(scan), array_of(scan)
    both = np.concatenate([values, values[:, :, ::-1]], axis=2)
    size = (2 * grid.size[0], *grid.size[1:])
    return image_on(Grid(size, grid.spacing, grid.origin, grid.direction), both)


def mirror_image(scan: sitk.Image, truth: Places) -> Places:
    """Where the landmarks lie in the mirror image."""
    plane = grid_of(scan).corners[:, 0].max()
    return {label: place * [-1, 1, 1] + [2 * plane, 0, 0] for label, place in truth.items()}


@pytest.fixture(scope="module")
def truths() -> dict[str, Places]:
    """The true places of every scan's landmarks, filled in as the scans are made."""
    return {}


@pytest.fixture(scope="module")
def extents() -> dict[str, Extent]:
    """What every scan shows, filled in as the scans are made."""
    return {}


@pytest.fixture(scope="module")
def placed(
    root: Path,
    tmp_path_factory: pytest.TempPathFactory,
    truths: dict[str, Places],
    extents: dict[str, Extent],
) -> Path:
    """Results of a study of whole ears, of one that is cut, and of two in one scan."""
    folder = tmp_path_factory.mktemp("cut")
    mine = folder / "mine"
    template, ear, other = (
        simulate_subject(COHORT.anatomy, COHORT.seed, n) for n in (0, EAR, OTHER)
    )
    write_volume(template.scan, mine / "template/scan.nii.gz")
    write_volume(template.segmentation, mine / "template/segmentation.nii.gz")
    marked = PointList("reference", template.landmarks, None)
    write_markups(mine / "template/landmarks.mrk.json", [marked])
    places, elsewhere = (
        dict(zip(each.landmarks.labels, each.landmarks.positions, strict=True))
        for each in (ear, other)
    )
    own, others = (side_of(COHORT.anatomy, COHORT.seed, n) for n in (EAR, OTHER))
    scans = {name: cut_off(ear.scan, places, beyond) for name, beyond in CUTS.items()}
    both = beside_its_mirror_image(ear.scan)
    # The same image without a side would be taken for a scan given twice.
    scans |= {"both-own": both, "both-other": both, "both-unstated": both + 1}
    scans |= {"whole": ear.scan, "whole-other": other.scan}
    sides = dict.fromkeys(scans, own) | {"whole-other": others, "both-unstated": ""}
    sides["both-other"] = "left" if own == "right" else "right"
    for name, image in scans.items():
        write_volume(image, mine / f"scans/{name}.nii.gz")
        extents[name] = Extent(grid_of(image))
        truths[name] = elsewhere if name == "whole-other" else places
    truths["both-other"] = mirror_image(ear.scan, places)
    sheet = ["scan\tside", *(f"{name}\t{side}" for name, side in sides.items())]
    (mine / "samples.tsv").write_text("\n".join(sheet) + "\n", encoding="utf-8")
    settings = write_yaml(folder / "cut.yaml", {"data": {"template_side": "right"}})
    options = ("study=cut", f"data_folder={mine}", "--until", "evaluate_landmarks")
    run = run_workflow(root, folder, "--configfile", TINY, settings, "--config", *options)
    assert run.status == 0, run.text
    return results(folder, "cut") / "oneshot"


def found_in(placed: Path, scan: str) -> PointList:
    lists = read_point_lists(placed / f"landmarks/{scan}.mrk.json", scan)
    return next(points for points in lists if points.name == "final")


def errors_of(placed: Path, scan: str, truth: Places) -> Array:
    """(n,) mm, in the order of LABELS."""
    found = found_in(placed, scan).landmarks.select(LABELS).positions
    return np.linalg.norm(found - np.array([truth[label] for label in LABELS]), axis=1)


def radii_of(placed: Path, scan: str) -> Array:
    """(n,) mm, in the order of LABELS."""
    found = found_in(placed, scan)
    assert found.radius is not None
    return found.radius[[found.landmarks.labels.index(label) for label in LABELS]]


def reasons(placed: Path, scan: str) -> str:
    chain = read_record(placed / f"landmarks/{scan}.json").chain
    return "; ".join(step.reason for step in chain if step.reason)


@pytest.mark.slow
@pytest.mark.parametrize("scan", CUTS)
def test_landmarks_of_a_cut_ear_lie_within_bounds_beyond_the_border_too(
    placed: Path, truths: dict[str, Places], extents: dict[str, Extent], scan: str
) -> None:
    truth = truths[scan]
    depth = extents[scan].depth([truth[label] for label in LABELS])
    error = errors_of(placed, scan, truth)
    assert (error[depth > 0] < RIGHT_MM).all()
    assert (error < BEYOND_MM).all()
    # The apex is placed beyond the border where it lies beyond, and within it where it is seen.
    apex = found_in(placed, scan).landmarks.select(["TOP"]).positions
    assert np.sign(extents[scan].depth(apex)[0]) == np.sign(CUTS[scan])


@pytest.mark.slow
@pytest.mark.parametrize("scan", CUTS)
def test_an_ear_whose_apex_is_not_seen_is_doubtful_and_says_so(placed: Path, scan: str) -> None:
    told = "the target reaches the border of the scan: beyond it, or close to it, lie TOP"
    assert (told in reasons(placed, scan)) == (CUTS[scan] < 0)


@pytest.mark.slow
def test_the_less_is_seen_of_a_landmark_the_larger_is_its_radius(placed: Path) -> None:
    whole, *cut = (radii_of(placed, scan) for scan in ("whole", *CUTS))
    top = LABELS.index("TOP")
    apex = [radii[top] for radii in (whole, *cut)]
    assert apex == sorted(apex)
    assert apex[-1] > 2 * apex[0]
    far = LABELS.index("WINDOW")
    np.testing.assert_allclose([radii[far] for radii in cut], whole[far], rtol=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("scan", ["whole", "whole-other", "both-own", "both-other"])
def test_whole_ears_and_that_of_the_stated_side_of_two_are_right_and_beyond_doubt(
    placed: Path, truths: dict[str, Places], scan: str
) -> None:
    assert reasons(placed, scan) == ""
    assert errors_of(placed, scan, truths[scan]).max() < RIGHT_MM


@pytest.mark.slow
def test_of_two_ears_without_a_side_one_is_taken_and_both_are_told(
    placed: Path, truths: dict[str, Places]
) -> None:
    said = re.search(
        r"two regions fit about equally well, at \((.*)\) and \((.*)\) mm: "
        r"the (left|right) one is taken; state the side",
        reasons(placed, "both-unstated"),
    )
    assert said
    own, other = truths["both-own"], truths["both-other"]
    taken = own if said[3] == side_of(COHORT.anatomy, COHORT.seed, EAR) else other
    assert errors_of(placed, "both-unstated", taken).max() < RIGHT_MM
    for text, truth in zip(said.groups(), (taken, other if taken is own else own), strict=False):
        place = np.array([float(x) for x in text.split(", ")])
        assert np.linalg.norm(place - truth["CENTER"]) < 6


@pytest.mark.slow
def test_no_scan_that_is_cut_or_doubted_measures_the_study_s_error(placed: Path) -> None:
    loops = read_json(placed / "calibration.json")["loops"]
    assert [loop["scan"] for loop in loops] == ["whole-other"]
