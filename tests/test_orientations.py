"""One scan is one scan, however its voxels are stored and whichever file holds them."""

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from image_files import DIRECTIONS, ORIENTATIONS, kept_locale, reoriented
from numpy.typing import NDArray
from phantoms import bone, sampled
from scipy import ndimage
from scipy.spatial.transform import Rotation

from landmarkflow.core.grids import Grid
from landmarkflow.core.points import PointList
from landmarkflow.formats.landmarks import read_landmarks
from landmarkflow.formats.slicer import read_point_lists, write_markups
from landmarkflow.formats.volumes import read_grid, read_segmentation, read_volume
from landmarkflow.formats.written import write_volume
from landmarkflow.images.operations import array_of, grid_of, mirrored
from landmarkflow.images.sampling import resample
from landmarkflow.methods.oneshot.locate import locate
from landmarkflow.methods.oneshot.normalise import normalise
from landmarkflow.methods.oneshot.settings import LocateSettings, NormaliseSettings

Points = NDArray[np.float64]

# Three bright balls without any symmetry, LPS mm, and how bright each is.
BALLS = np.array([[-31.0, 12.0, 84.0], [-39.0, 13.0, 86.0], [-35.0, 18.5, 90.0]])
BRIGHTNESS = (9000.0, 6000.0, 3000.0)
WIDTH_MM = 0.9
REACH_MM = 4 * WIDTH_MM
THRESHOLD = 300.0
# Of a voxel's shortest side: NIfTI states places in float32, and the balls end at a threshold.
CLOSE = 0.05


def brightness(points: Points) -> Points:
    squared = ((points[:, None] - BALLS) ** 2).sum(axis=2)
    return np.exp(-squared / (2 * WIDTH_MM**2)) @ np.array(BRIGHTNESS)


def balls_in(image: sitk.Image) -> Points:
    """(3, 3) LPS mm, where the three brightest things in an image are, the brightest first."""
    values = np.maximum(array_of(image).astype(float) - THRESHOLD, 0.0)
    parts, count = ndimage.label(values)
    assert count == 3
    centres = np.array(ndimage.center_of_mass(values, parts, [1, 2, 3]))
    heaviest_first = np.argsort(-ndimage.maximum(values, parts, [1, 2, 3]))
    return grid_of(image).to_physical(centres[heaviest_first][:, ::-1])


@st.composite
def grids(draw: st.DrawFn, *, left_handed: bool = True) -> Grid:
    """A grid of any spacing in any orientation that holds the balls."""
    spacing = np.array(draw(st.tuples(*[st.floats(0.35, 0.9)] * 3)))
    quaternion = np.array(draw(st.tuples(*[st.integers(-5, 5)] * 4)), dtype=float)
    direction = np.eye(3)
    if quaternion.any():
        direction = Rotation.from_quat(quaternion).as_matrix()
    axes, flips = draw(st.sampled_from(ORIENTATIONS))
    direction = direction[:, axes] * np.where(flips, -1.0, 1.0)
    if not left_handed and np.linalg.det(direction) < 0:
        direction[:, 2] *= -1
    along = BALLS @ direction
    low, high = along.min(axis=0) - REACH_MM, along.max(axis=0) + REACH_MM
    x, y, z = (int(count) for count in np.ceil((high - low) / spacing) + 1)
    return Grid((x, y, z), spacing, direction @ low, direction)


def picture(grid: Grid) -> sitk.Image:
    return sitk.Cast(sampled(grid, brightness), sitk.sitkInt16)


# Files, written here without the reader's own library: what they say is what the formats define


def steps(grid: Grid) -> Points:
    """Column k: how far one step along voxel axis k goes, LPS mm."""
    return np.asarray(grid.direction * grid.spacing)


def voxels(grid: Grid) -> bytes:
    return array_of(picture(grid)).astype("<i2").tobytes()


def nifti_by_sform(path: Path, grid: Grid) -> None:
    ras = np.diag([-1.0, -1.0, 1.0]) @ np.column_stack([steps(grid), grid.origin])
    header = bytearray(352)
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<8h", header, 40, 3, *grid.size, 1, 1, 1, 1)
    struct.pack_into("<2h", header, 70, 4, 16)
    struct.pack_into("<8f", header, 76, 1, *grid.spacing, 1, 1, 1, 1)
    struct.pack_into("<3f", header, 108, 352, 1, 0)
    struct.pack_into("<2h", header, 252, 0, 1)
    struct.pack_into("<12f", header, 280, *ras.ravel())
    header[344:348] = b"n+1\0"
    path.write_bytes(bytes(header) + voxels(grid))


def nifti_by_qform(path: Path, grid: Grid) -> None:
    """Of left-handed axes the third one is turned, as qfac = -1 says."""
    ras = np.diag([-1.0, -1.0, 1.0]) @ grid.direction
    hand = float(np.sign(np.linalg.det(ras)))
    x, y, z, w = Rotation.from_matrix(ras * [1.0, 1.0, hand]).as_quat()
    sign = -1.0 if w < 0 else 1.0
    header = bytearray(352)
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<8h", header, 40, 3, *grid.size, 1, 1, 1, 1)
    struct.pack_into("<2h", header, 70, 4, 16)
    struct.pack_into("<8f", header, 76, hand, *grid.spacing, 1, 1, 1, 1)
    struct.pack_into("<3f", header, 108, 352, 1, 0)
    struct.pack_into("<2h", header, 252, 1, 0)
    origin = grid.origin * [-1.0, -1.0, 1.0]
    struct.pack_into("<6f", header, 256, sign * x, sign * y, sign * z, *origin)
    header[344:348] = b"n+1\0"
    path.write_bytes(bytes(header) + voxels(grid))


def nrrd(space: str, signs: tuple[float, ...]) -> Callable[[Path, Grid], None]:
    def write(path: Path, grid: Grid) -> None:
        def vector(values: Points) -> str:
            return "(" + ",".join(repr(float(value)) for value in values * signs) + ")"

        header = (
            f"NRRD0004\ntype: short\ndimension: 3\nspace: {space}\n"
            f"sizes: {' '.join(map(str, grid.size))}\n"
            f"space directions: {' '.join(map(vector, steps(grid).T))}\n"
            "kinds: domain domain domain\nendian: little\nencoding: raw\n"
            f"space origin: {vector(grid.origin)}\n\n"
        )
        path.write_bytes(header.encode() + voxels(grid))

    return write


def meta_image(path: Path, grid: Grid) -> None:
    def numbers(values: Points) -> str:
        return " ".join(repr(float(value)) for value in np.ravel(values))

    header = (
        "ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\n"
        f"TransformMatrix = {numbers(grid.direction.T)}\nOffset = {numbers(grid.origin)}\n"
        f"ElementSpacing = {numbers(grid.spacing)}\nDimSize = {' '.join(map(str, grid.size))}\n"
        "ElementType = MET_SHORT\nElementDataFile = LOCAL\n"
    )
    path.write_bytes(header.encode() + voxels(grid))


def written(path: Path, grid: Grid) -> None:
    write_volume(picture(grid), path)


FILES: dict[str, tuple[str, Callable[[Path, Grid], None]]] = {
    "NIfTI by its sform": ("a.nii", nifti_by_sform),
    "NIfTI by its qform": ("a.nii", nifti_by_qform),
    "NRRD in LPS": ("a.nrrd", nrrd("left-posterior-superior", (1.0, 1.0, 1.0))),
    "NRRD in RAS": ("a.nrrd", nrrd("right-anterior-superior", (-1.0, -1.0, 1.0))),
    "NRRD in LAS": ("a.nrrd", nrrd("left-anterior-superior", (1.0, -1.0, 1.0))),
    "MetaImage": ("a.mha", meta_image),
    "our NIfTI": ("b.nii.gz", written),
    "our NRRD": ("b.nrrd", written),
    "our MetaImage": ("b.mha", written),
}


def assert_balls_lie_in_place(path: Path, grid: Grid) -> None:
    close = CLOSE * grid.spacing.min()
    np.testing.assert_allclose(balls_in(read_volume(path)), BALLS, atol=close)
    np.testing.assert_allclose(read_grid(path).corners, grid.corners, atol=1e-2)


@pytest.mark.parametrize("file", FILES)
@settings(max_examples=25)
@given(grid=grids())
def test_a_landmark_lies_where_it_lies(
    tmp_path_factory: pytest.TempPathFactory, file: str, grid: Grid
) -> None:
    name, write = FILES[file]
    path = tmp_path_factory.getbasetemp() / name
    write(path, grid)
    assert_balls_lie_in_place(path, grid)
    if file != "NIfTI by its qform":  # a quaternion of float32 cannot hold every half turn
        assert np.linalg.det(read_grid(path).direction) == pytest.approx(
            np.linalg.det(grid.direction), abs=1e-5
        )


@pytest.mark.parametrize("write", [nifti_by_sform, nifti_by_qform])
@pytest.mark.parametrize(("code", "unit_mm"), [(0, 1.0), (1, 1e3), (2, 1.0), (3, 1e-3)])
def test_nifti_units_become_millimetres(
    tmp_path: Path, write: Callable[[Path, Grid], None], code: int, unit_mm: float
) -> None:
    """A file without a unit is in millimetres."""
    millimetres = Grid((40, 42, 44), np.full(3, 0.5), np.array([-45.0, 5.0, 76.0]), np.eye(3))
    write(tmp_path / "a.nii", millimetres)
    content = bytearray((tmp_path / "a.nii").read_bytes())
    for place, count in ((80, 3), (268, 3), (280, 12)):
        stated = struct.unpack_from(f"<{count}f", content, place)
        struct.pack_into(f"<{count}f", content, place, *(value / unit_mm for value in stated))
    content[123] = code
    (tmp_path / "a.nii").write_bytes(content)
    assert_balls_lie_in_place(tmp_path / "a.nii", millimetres)


@kept_locale()
def write_slices(folder: Path, grid: Grid, order: list[int]) -> None:
    """Writes a DICOM series whose files are named in another order than their slices."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    row, column = grid.direction[:, 0], grid.direction[:, 1]
    for number, values in enumerate(array_of(picture(grid))):
        piece = sitk.GetImageFromArray(values[None])
        position = grid.to_physical([[0, 0, number]])[0]
        header = {
            "0008|0016": "1.2.840.10008.5.1.4.1.1.2",
            "0008|0018": f"1.2.3.{number + 1}",
            "0008|0060": "CT",
            "0020|000d": "1.2.4",
            "0020|000e": "1.2.3",
            "0020|0032": "\\".join(f"{value:.8f}" for value in position),
            "0020|0037": "\\".join(f"{value:.10f}" for value in (*row, *column)),
            "0028|0030": "{1:.8f}\\{0:.8f}".format(*grid.spacing),
            "0028|1052": "-1024",
            "0028|1053": "1",
        }
        for key, value in header.items():
            piece.SetMetaData(key, value)
        piece.SetSpacing(grid.spacing.tolist())
        piece.SetOrigin(position.tolist())
        piece.SetDirection(grid.direction.ravel().tolist())
        writer.SetFileName(str(folder / f"{order[number % len(order)]}{number:03d}.dcm"))
        writer.Execute(piece)


@settings(max_examples=10)
@given(grid=grids(), order=st.permutations(range(7)))
def test_a_landmark_lies_where_it_lies_in_dicom_slices(
    tmp_path_factory: pytest.TempPathFactory, grid: Grid, order: list[int]
) -> None:
    """Slices may follow each other in either sense; they are read along their normal."""
    folder = tmp_path_factory.getbasetemp() / "series"
    write_slices(folder, grid, order)
    found = read_grid(folder)
    np.testing.assert_allclose(balls_in(read_volume(folder)), BALLS, atol=0.05 * grid.spacing.min())
    assert np.linalg.det(found.direction) == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(found.centre, grid.centre, atol=1e-5)


@settings(max_examples=30)
@given(grid=grids())
def test_any_storage_resamples_to_the_same_landmarks(grid: Grid) -> None:
    inside = resample(picture(grid), Grid.centred(BALLS.mean(axis=0), (60, 50, 40), 0.4))
    np.testing.assert_allclose(balls_in(inside), BALLS, atol=0.03)


@settings(max_examples=30)
@given(grid=grids())
def test_a_mirrored_scan_has_mirrored_landmarks(grid: Grid) -> None:
    found = balls_in(mirrored(picture(grid)))
    np.testing.assert_allclose(found, BALLS * [-1, 1, 1], atol=CLOSE * grid.spacing.min())


@settings(max_examples=15)
@given(grid=grids())
def test_a_segmentation_marks_what_it_marks(
    tmp_path_factory: pytest.TempPathFactory, grid: Grid
) -> None:
    path = tmp_path_factory.getbasetemp() / "labels.nrrd"
    labels = sitk.Cast(sampled(grid, brightness) > 3500, sitk.sitkUInt8)
    nearest = np.linalg.norm(BALLS[:2, None] - BALLS[None], axis=2).argmin(axis=0)[:2]
    assert nearest.tolist() == [0, 1]
    write_volume(labels, path)
    mask = read_segmentation(path, grid, [1])
    inside = grid_of(mask).to_physical(np.argwhere(array_of(mask))[:, ::-1].astype(float))
    # The third ball is too dim to be marked.
    distance = np.linalg.norm(inside[:, None] - BALLS, axis=2)
    assert set(distance.argmin(axis=1)) == {0, 1}
    assert distance.min(axis=1).max() < 2 * WIDTH_MM


# Landmarks


positions = st.tuples(*[st.floats(-500, 500)] * 3)
names = st.text(
    st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), min_size=1, max_size=6
).filter(lambda text: text == text.strip() and text != "frame")
points = st.dictionaries(names, positions, min_size=1, max_size=5)
SIGNS = {"LPS": (1.0, 1.0, 1.0), "RAS": (-1.0, -1.0, 1.0)}


def quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def plain_json(frame: str, lps: dict[str, Points]) -> str:
    return json.dumps({label: list(place) for label, place in lps.items()} | {"frame": frame})


def slicer(frame: str, lps: dict[str, Points]) -> str:
    controls = [{"label": label, "position": list(place)} for label, place in lps.items()]
    return json.dumps({"markups": [{"coordinateSystem": frame, "controlPoints": controls}]})


def comma_separated(frame: str, lps: dict[str, Points]) -> str:
    rows = [",".join([quoted(label), *map(repr, map(float, p))]) for label, p in lps.items()]
    return "\n".join([f"# frame: {frame}", "label,x,y,z", *rows])


def old_slicer(frame: str, lps: dict[str, Points]) -> str:
    rows = [
        f"{number},{','.join(map(repr, map(float, place)))},0,0,0,1,1,1,0,{quoted(label)},,"
        for number, (label, place) in enumerate(lps.items())
    ]
    return "\n".join([f"# CoordinateSystem = {frame}", *rows])


@pytest.mark.parametrize("frame", SIGNS)
@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("a.json", plain_json),
        ("a.mrk.json", slicer),
        ("a.csv", comma_separated),
        ("a.fcsv", old_slicer),
    ],
)
@settings(max_examples=25)
@given(stated=points)
def test_landmarks_of_every_file_and_frame_are_the_same(
    tmp_path_factory: pytest.TempPathFactory,
    name: str,
    write: Callable[[str, dict[str, Points]], str],
    frame: str,
    stated: dict[str, tuple[float, float, float]],
) -> None:
    path = tmp_path_factory.getbasetemp() / name
    in_frame = {label: np.array(place) * SIGNS[frame] for label, place in stated.items()}
    path.write_text(write(frame, in_frame), encoding="utf-8")
    found = read_landmarks(path)
    assert found.labels == tuple(stated)
    np.testing.assert_array_equal(found.positions, np.array(list(stated.values())))
    write_markups(path.with_name("again.mrk.json"), [PointList("final", found, None)])
    (again,) = read_point_lists(path.with_name("again.mrk.json"))
    assert again.landmarks.labels == found.labels
    np.testing.assert_allclose(again.landmarks.positions, found.positions, rtol=0, atol=0.5001e-4)


# The chain


@pytest.mark.parametrize("size", [(44, 40, 36), (45, 41, 37)])
@pytest.mark.parametrize("direction", ["along", "oblique", "oblique left-handed"])
def test_the_region_lies_at_one_place_however_the_scan_is_stored(
    tmp_path: Path, size: tuple[int, int, int], direction: str
) -> None:
    place = np.array([-40.0, 25.0, 60.0])
    along = Grid.centred(place, size, 0.6)
    turned = DIRECTIONS[direction]
    grid = Grid(size, along.spacing, place + turned @ (along.origin - place), turned)
    noise = np.random.default_rng(0)
    scan = sampled(grid, lambda p: bone(p - place) * 4024 - 1024 + noise.normal(0, 20, len(p)))
    scan = sitk.Cast(scan, sitk.sitkInt16)
    settings = LocateSettings(field_mm=16.0)

    def located(image: sitk.Image, name: str) -> tuple[Points, Points]:
        write_volume(image, tmp_path / name)
        stored = normalise(read_volume(tmp_path / name), NormaliseSettings())
        region = locate(stored, settings, NormaliseSettings())
        return np.array(region.centre), array_of(region.crop)

    centre, crop = located(scan, "a.nrrd")
    assert np.linalg.norm(centre - place) < 1.5
    for orientation, name in zip(ORIENTATIONS[5::9], ("b.nii", "c.mha") * 3, strict=False):
        other_centre, other_crop = located(reoriented(scan, *orientation), name)
        np.testing.assert_allclose(other_centre, centre, rtol=0, atol=1e-3)
        np.testing.assert_allclose(other_crop, crop, rtol=0, atol=2e-3)


def test_a_label_may_begin_as_comments_do(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("# frame: LPS\nlabel,x,y,z\n#1,1,2,3\n", encoding="utf-8")
    assert read_landmarks(path).labels == ("#1",)
