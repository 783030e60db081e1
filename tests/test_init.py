"""`landmarkflow init`: what it makes of folders as people have them."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from image_files import scan
from test_dicom import series as dicom_series

from landmarkflow.commands.init import init
from landmarkflow.commands.studies import workflow_of
from landmarkflow.core.errors import InputError
from landmarkflow.core.points import Landmarks, PointList
from landmarkflow.formats.slicer import write_markups
from landmarkflow.formats.written import write_volume
from landmarkflow.images.operations import grid_of, image_on, view_of

FCSV = (
    "# Markups fiducial file version = 4.11\n# CoordinateSystem = LPS\n"
    "# columns = id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc,associatedNodeID\n"
    "1,{x},24,2,0,0,0,1,1,1,0,apex,,\n2,-8,22,3,0,0,0,1,1,1,0,base,,\n"
)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def volume(path: Path, shift: float = 0.0) -> Path:
    image = scan()
    path.parent.mkdir(exist_ok=True)
    write_volume(image_on(grid_of(image), view_of(image) + np.int16(shift)), path)
    return path


def markups(path: Path, labels: tuple[str, ...] = ("apex", "base")) -> Path:
    inside = grid_of(scan()).to_physical([[3, 3, 3], [5, 5, 5], [4, 4, 4]])[: len(labels)]
    write_markups(path, [PointList("points", Landmarks(labels, inside), None)])
    return path


def test_a_tree_of_dicom_scans_and_a_slicer_template(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("anna", "bert", "carl", "dora"):
        dicom_series(here / "export" / name / "CT")
    (here / "export/anna/CT/points.fcsv").write_text(FCSV.format(x=-9))
    assert init(here / "export", here, "", "") == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("template  anna: ")
    assert "24×20×5 voxels of 0.4×0.5×1.5 mm" in said[0]
    assert "2 landmarks of points.fcsv, by their folder, in which no other scan lies" in said[0]
    assert [line.split(":")[0].split()[-1] for line in said[1:4]] == ["bert", "carl", "dora"]
    assert said[-1].startswith("Next: python -m landmarkflow check ")
    flow = workflow_of("study.yaml")
    assert list(flow.study.scans) == ["bert", "carl", "dora"]
    assert flow.study.template.landmarks.endswith("export/anna/CT/points.fcsv")


def test_several_series_in_one_folder_are_several_scans(here: Path) -> None:
    both = here / "export"

    def second(number: int, data: object) -> None:
        data.SeriesInstanceUID = "1.2.3.9"  # type: ignore[attr-defined]

    dicom_series(both)
    dicom_series(both, second, "b")
    volume(here / "export/my template.nii.gz")
    markups(here / "export/my template.mrk.json")
    assert init(both, here, "", "") == 0
    scans = workflow_of("study.yaml").study.scans
    assert sorted(scans) == ["export-series1", "export-series2"]
    assert {scan.series for scan in scans.values()} == {"1.2.3.4", "1.2.3.9"}


def test_names_around_a_scan_s_own_are_seen_through(here: Path) -> None:
    for shift, name in enumerate(("a1", "b2")):
        volume(here / f"data/{name}.nii.gz", shift)
        markups(here / f"data/{name}_landmarks.mrk.json")
    write_volume(
        image_on(grid_of(scan()), (view_of(scan()) > 0).astype(np.uint8)), here / "x.nii.gz"
    )
    (here / "x.nii.gz").rename(here / "data/a1-seg.nii.gz")
    assert init(here / "data", here, "b2", "right") == 0
    study = workflow_of("study.yaml").study
    assert study.template.side == "right"
    assert study.scans["a1"].landmarks.endswith("a1_landmarks.mrk.json")
    assert study.scans["a1"].segmentation.endswith("a1-seg.nii.gz")
    assert yaml.safe_load(Path("study.yaml").read_text())["study"] == "data"


def test_what_is_unlike_the_template_is_said_before_anything_runs(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    volume(here / "data/template.nii.gz")
    markups(here / "data/template.mrk.json")
    volume(here / "data/bright.nii.gz", 20_000)
    markups(here / "data/bright.mrk.json", ("apex", "other"))
    (here / "data/torn.nii.gz").write_bytes(b"\x1f\x8b0")
    (here / "data/alone.fcsv").write_text(FCSV.format(x=1))
    assert init(here / "data", here, "", "") == 1
    out, err = capsys.readouterr()
    looks = [line for line in out.splitlines() if line.startswith("look at")]
    assert len(looks) == 2
    assert "bright: its intensities, " in looks[0]
    assert "are not those of the template" in looks[0]
    assert looks[1].endswith("bright: its landmarks are not named as the template's")
    assert "torn.nii.gz; CANNOT BE USED: " in out
    assert "alone.fcsv: is not used: belongs to " in err


def test_landmarks_in_another_frame_are_said(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dicom_series(here / "a/template")
    dicom_series(here / "a/other")
    (here / "a/template/x.fcsv").write_text(FCSV.format(x=-9))
    (here / "a/other/x.fcsv").write_text(FCSV.format(x=90))
    assert init(here / "a", here, "", "") == 1
    assert '"apex" and 0 more lie outside' in capsys.readouterr().out


def test_without_an_annotated_scan_nothing_is_written(here: Path) -> None:
    volume(here / "data/a.nii.gz")
    with pytest.raises(InputError, match="none of 1 scans has landmarks that can be used"):
        init(here / "data", here, "", "")
    with pytest.raises(InputError, match="no such folder, expected one with scans"):
        init(here / "gone", here, "", "")
    assert not (here / "study.yaml").exists()


def test_a_study_that_is_there_is_not_written_over(here: Path) -> None:
    (here / "study.yaml").write_text("mine")
    with pytest.raises(InputError, match=r"study\.yaml: is there already"):
        init(here, here, "", "")
    assert (here / "study.yaml").read_text() == "mine"
