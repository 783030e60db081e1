"""Scenes of 3D Slicer: every file is found, and points and transforms mean what ITK's files say."""

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import SimpleITK as sitk
from image_files import DIRECTIONS
from PIL import Image
from review_study import LOOKED_FOR, RADII, add_scan, make_study, write_ranking

from landmarkflow.commands.slicer import Options, slicer
from landmarkflow.core.errors import InputError
from landmarkflow.core.grids import Grid
from landmarkflow.core.points import Landmarks, PointList
from landmarkflow.core.records import Record
from landmarkflow.formats.landmarks import read_landmarks
from landmarkflow.formats.mrml import TURN, Scene, to_parent, write_fcsv, write_scene
from landmarkflow.formats.slicer import write_markups
from landmarkflow.formats.transforms import write_transform
from landmarkflow.formats.written import write_volume
from landmarkflow.images.operations import image_on

SIZES, ORIGIN = np.array([1.0, 1.5, 2.0]), np.array([5.0, -8.0, 30.0])
GRID = Grid((12, 10, 8), SIZES, ORIGIN, DIRECTIONS["oblique"])
FOUND = np.array([[1.0, 2.0, 3.0], [-4.0, 5.0, 6.5], [np.nan] * 3])
POINTS = np.random.default_rng(3).uniform(-40, 40, (20, 3))


def rigid() -> sitk.Transform:
    return sitk.Euler3DTransform((3.0, -2.0, 5.0), 0.4, -0.3, 1.1, (7.0, -9.0, 2.0))


def mirrored() -> sitk.Transform:
    """A rigid transform of a mirror image, as of a scan of the other side."""
    mirror = sitk.AffineTransform(3)
    mirror.SetMatrix(np.diag([-1.0, 1.0, 1.0]).ravel().tolist())
    return sitk.CompositeTransform([rigid(), mirror])


def bent() -> sitk.Transform:
    bend = sitk.BSplineTransformInitializer(image_on(GRID, np.zeros(GRID.size[::-1])), [3, 3, 3])
    values = np.random.default_rng(1).normal(0, 1, len(bend.GetParameters()))
    bend.SetParameters(values.tolist())
    return sitk.CompositeTransform([rigid(), bend])


def mapped(transform: sitk.Transform, points: np.ndarray) -> np.ndarray:
    return np.array([transform.TransformPoint(point) for point in points])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study's results folder with two scans, the second without a result; scenes are written."""
    folder = tmp_path_factory.mktemp("a study")
    image = image_on(GRID, np.arange(960).reshape(GRID.size[::-1]).astype(np.int16))
    made = make_study(folder, image, np.zeros((4, 3)))
    labels = np.zeros(GRID.size[::-1], np.uint8)
    labels[2:4, 3:5, 6:9], labels[5, 5, 5] = 1, 4
    target = image_on(GRID, labels)
    for key, text in (("Name", "cochlea"), ("Color", "0.5 0.25 1"), ("LabelValue", "4")):
        target.SetMetaData(f"Segment0_{key}", text)
    sitk.WriteImage(target, folder / "given/template/segmentation.seg.nrrd")
    for name, found in (("p1", FOUND), ("p2", None)):
        record = Record(name, "place", *(() if name == "p1" else ("failed", "no answer")))
        add_scan(made, name, image, found, record)
    write_ranking(made, [{"scan": "p1", "status": "ok"}, {"scan": "p2", "status": "failed"}])
    write_volume(image_on(GRID, labels), made / "oneshot/segmentations/p1.nii.gz")
    reference = Landmarks(LOOKED_FOR, np.nan_to_num(FOUND) + 1)
    path = made / "work/references/p1.mrk.json"
    write_markups(path, [PointList("reference", reference, None)])
    for name, transform in (("", mirrored()), (".moments", rigid())):
        write_transform(transform, made / f"oneshot/work/align/p1{name}.tfm")
    write_transform(bent(), made / "oneshot/work/deform/p1.tfm")
    assert slicer(made, Options()) == 0
    return made


def nodes(path: Path) -> dict[str, ElementTree.Element]:
    """The nodes of a scene by id; each file and each node that is referred to is there."""
    root = ElementTree.fromstring(path.read_text(encoding="utf-8"))
    assert root.tag == "MRML"
    found = {node.get("id", ""): node for node in root}
    assert len(found) == len(root)
    for node in root:
        for reference in filter(None, node.get("references", "").split(";")):
            role, _, identity = reference.partition(":")
            assert identity in found or role == "color", reference
        if name := node.get("fileName"):
            assert not name.startswith("/")
            assert (path.parent / name).is_file(), name
    return found


def by_name(path: Path, name: str) -> ElementTree.Element:
    (node,) = [node for node in nodes(path).values() if node.get("name") == name]
    return node


def file_of(path: Path, name: str) -> Path:
    """The file of a node."""
    storage = by_name(path, name).get("references", "").partition("storage:")[2].split(";")[0]
    return path.parent / (nodes(path)[storage].get("fileName") or "")


def test_a_scene_names_its_files_by_relative_paths(made: Path) -> None:
    scene = made / "oneshot/slicer/p1.mrml"
    assert file_of(scene, "p1").samefile(made.parents[1] / "given/scans/p1.nii.gz")
    assert file_of(scene, "p1 detected").samefile(made / "oneshot/landmarks/p1.mrk.json")
    assert file_of(scene, "p1 reference").samefile(made / "work/references/p1.mrk.json")
    assert {node.tag for node in nodes(scene).values()} >= {"Volume", "Segmentation"}


@pytest.mark.parametrize(
    ("name", "transform"), [("p1 align rigid", mirrored()), ("p1 align moments", rigid())]
)
def test_a_matrix_lays_the_scan_on_the_template_in_ras(
    made: Path, name: str, transform: sitk.Transform
) -> None:
    text = by_name(made / "oneshot/slicer/p1.mrml", name).get("matrixTransformToParent", "")
    matrix = np.array(text.split(), float).reshape(4, 4)
    in_scan = mapped(transform, POINTS)
    turned = TURN[:3, :3]
    laid = (in_scan @ turned) @ matrix[:3, :3].T + matrix[:3, 3]
    np.testing.assert_allclose(laid @ turned, POINTS, atol=1e-9)
    back = to_parent(transform)
    assert back is not None
    np.testing.assert_array_equal(back, matrix)


def test_a_bent_transform_is_itks_own_file(made: Path) -> None:
    assert to_parent(bent()) is None
    path = file_of(made / "oneshot/slicer/p1.mrml", "p1 deform bspline")
    inside = GRID.to_physical(np.random.default_rng(2).uniform(1, 6, (10, 3)))
    read = sitk.ReadTransform(str(path))
    np.testing.assert_allclose(mapped(read, inside), mapped(bent(), inside), atol=1e-9)


def test_segments_have_names_colours_and_the_scans_voxels(made: Path) -> None:
    path = file_of(made / "oneshot/slicer/p1.mrml", "p1 segmentation")
    image = sitk.ReadImage(path)
    labels = sitk.ReadImage(made / "oneshot/segmentations/p1.nii.gz")
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), sitk.GetArrayFromImage(labels))
    np.testing.assert_allclose(image.GetOrigin(), labels.GetOrigin())
    np.testing.assert_allclose(image.GetDirection(), labels.GetDirection())
    said = {key: image.GetMetaData(key) for key in image.GetMetaDataKeys()}
    assert (said["Segment0_Name"], said["Segment0_Extent"]) == ("label 1", "6 8 3 4 2 3")
    # As the template's segmentation calls it.
    assert (said["Segment1_Name"], said["Segment1_LabelValue"]) == ("cochlea", "4")
    assert said["Segment1_Color"] == "0.5 0.25 1"


def test_a_scan_without_a_result_shows_what_there_is(made: Path) -> None:
    tags = {node.tag for node in nodes(made / "oneshot/slicer/p2.mrml").values()}
    assert "Volume" in tags
    assert not tags & {"MarkupsFiducial", "Segmentation", "Transform", "LinearTransform"}


def test_points_of_slicer_4_are_the_same_in_ras(made: Path) -> None:
    assert slicer(made, Options(fcsv=True, scans=["p1"])) == 0
    path = file_of(made / "oneshot/slicer/p1.mrml", "p1 detected")
    assert path.name == "p1.detected.fcsv"
    found = read_landmarks(path)
    assert found.labels == LOOKED_FOR[:2]
    np.testing.assert_allclose(found.positions, FOUND[:2])
    row = path.read_text(encoding="utf-8").splitlines()[3].split(",")
    assert row[1:4] == ["-1.0000", "-2.0000", "3.0000"]
    assert row[12] == f"true place within {RADII[0]:.4f} mm (90 %)"
    assert slicer(made, Options(scans=["p1"])) == 0


def test_a_name_with_commas_and_quotation_marks_stays_one_field(tmp_path: Path) -> None:
    odd = 'window, "round"'
    points = PointList("final", Landmarks((odd,), np.array([[1.0, 2.0, 3.0]])), None, ("a, b",))
    write_fcsv(tmp_path / "a.fcsv", points)
    assert read_landmarks(tmp_path / "a.fcsv").labels == (odd,)


def test_a_picture_in_colours_is_a_volume_of_vectors(tmp_path: Path) -> None:
    Image.new("RGB", (8, 6), (200, 10, 10)).save(tmp_path / "eye.png")
    write_scene(tmp_path / "eye.mrml", Scene("eye", tmp_path / "eye.png", colours=True))
    assert by_name(tmp_path / "eye.mrml", "eye").tag == "VectorVolume"
    assert file_of(tmp_path / "eye.mrml", "eye").samefile(tmp_path / "eye.png")


def test_what_there_is_not_is_refused(made: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--scan p9: the study has no such scan"):
        slicer(made, Options(scans=["p9"]))
    with pytest.raises(InputError, match=r"holds no config\.yaml, expected results/<study>"):
        slicer(tmp_path, Options())
