import gzip
import itertools
import resource
import shutil
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given
from hypothesis import strategies as st
from image_files import (
    BRIGHT_INDEX,
    DIRECTIONS,
    OBLIQUE,
    ORIENTATIONS,
    PERMUTED,
    SIZE,
    assert_same_grid,
    brightest_point,
    meta_image_bytes,
    nifti_bytes,
    nrrd_bytes,
    reoriented,
    scan,
    scan_array,
    scan_grid,
    write_dicom,
)
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from landmarkflow.core.errors import InputError
from landmarkflow.core.grids import Grid
from landmarkflow.formats.scan_files import READABLE
from landmarkflow.formats.transforms import read_transform, write_transform
from landmarkflow.formats.volumes import read_grid, read_labels, read_segmentation, read_volume
from landmarkflow.formats.written import read_written, write_volume
from landmarkflow.images.masks import dilated
from landmarkflow.images.operations import array_of, cropped, grid_of, image_on, mirrored, shrunk
from landmarkflow.images.sampling import carried, resample

AXES = "1 0 0 0 1 0 0 0 1"


def refused(path: Path, read: Callable[[Path], Any] = read_volume) -> str:
    """Returns the message of the refusal, which names the file and is one line."""
    with pytest.raises(InputError) as error:
        read(path)
    message = str(error.value)
    assert str(path) in message
    assert "\n" not in message
    return message


# Placing arrays


@given(st.permutations(range(3)), st.tuples(*[st.sampled_from([1.0, -1.0])] * 3))
def test_grid_and_image_agree_on_every_voxel(axes: list[int], signs: tuple[float, ...]) -> None:
    direction = (OBLIQUE @ np.diag(signs))[:, axes]
    image = scan(direction)
    grid = grid_of(image)
    assert_same_grid(grid, scan_grid(direction))
    for index in ((0, 0, 0), BRIGHT_INDEX, (11, 9, 7)):
        expected = image.TransformIndexToPhysicalPoint(index)
        np.testing.assert_allclose(grid.to_physical([index])[0], expected, atol=1e-9)


def test_arrays_are_copies_in_the_order_z_y_x() -> None:
    array = scan_array()
    image = image_on(scan_grid(np.eye(3)), array)
    array[:] = 0
    copy = array_of(image)
    assert copy.shape == (8, 10, 12)
    assert copy[5, 2, 9] == 3000
    copy[:] = 0
    assert array_of(image).max() == 3000


def test_an_array_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match=r"expected \(8, 10, 12\)"):
        image_on(scan_grid(np.eye(3)), np.zeros(SIZE))


# Reading what was written


@pytest.mark.parametrize("direction", DIRECTIONS.values(), ids=DIRECTIONS.keys())
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha"])
def test_a_landmarks_voxel_is_found_again(
    tmp_path: Path, suffix: str, direction: NDArray[np.float64]
) -> None:
    path = tmp_path / f"scan{suffix}"
    write_volume(scan(direction), path)
    image = read_volume(path)
    expected = scan_grid(direction)
    # NIfTI holds float32, whose quaternions are off by 3e-4 radians near half turns.
    assert_same_grid(grid_of(image), expected, atol=1e-5)
    assert_same_grid(read_grid(path), grid_of(image))
    np.testing.assert_array_equal(array_of(image), scan_array())
    assert image.GetPixelID() == sitk.sitkInt16
    point = expected.to_physical([BRIGHT_INDEX])[0]
    np.testing.assert_allclose(brightest_point(image), point, atol=1e-4)


@pytest.mark.parametrize("suffix", [".mhd", ".nhdr"])
@pytest.mark.parametrize("compressed", [False, True])
def test_a_header_with_its_voxels_in_another_file_is_read(
    tmp_path: Path, suffix: str, compressed: bool
) -> None:
    path = tmp_path / f"scan{suffix}"
    sitk.WriteImage(scan(OBLIQUE), str(path), compressed)
    np.testing.assert_array_equal(array_of(read_volume(path)), scan_array())
    point = scan_grid(OBLIQUE).to_physical([BRIGHT_INDEX])[0]
    np.testing.assert_allclose(brightest_point(read_volume(path)), point, atol=1e-4)
    data_file = next(file for file in tmp_path.iterdir() if file != path)
    data_file.unlink()
    assert data_file.name in refused(path)
    assert data_file.name in refused(path, read_grid)


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_compressed_one_file_formats_are_read(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"scan{suffix}"
    sitk.WriteImage(scan(), str(path), True)
    np.testing.assert_array_equal(array_of(read_volume(path)), scan_array())


@pytest.mark.parametrize(
    "pixel_type", [np.uint8, np.int8, np.uint16, np.int16, np.int32, np.float32, np.float64]
)
def test_the_pixel_type_is_the_files_own(tmp_path: Path, pixel_type: type) -> None:
    array = (scan_array() > 0).astype(pixel_type)
    write_volume(image_on(scan_grid(np.eye(3)), array), tmp_path / "a.nii.gz")
    image = read_volume(tmp_path / "a.nii.gz")
    assert array_of(image).dtype == pixel_type
    np.testing.assert_array_equal(array_of(image), array)


def test_writing_twice_gives_the_same_bytes_and_leaves_no_other_file(tmp_path: Path) -> None:
    path = tmp_path / "new" / "scan.nii.gz"
    write_volume(scan(), path)
    first = path.read_bytes()
    write_volume(scan(), path)
    assert path.read_bytes() == first
    assert first[:2] == b"\x1f\x8b"
    assert list(path.parent.iterdir()) == [path]


def test_metadata_of_the_source_does_not_come_along(tmp_path: Path) -> None:
    named = scan()
    named.SetMetaData("PatientName", "Doe")
    sitk.WriteImage(named, str(tmp_path / "named.nrrd"))
    assert b"Doe" in (tmp_path / "named.nrrd").read_bytes()
    write_volume(read_volume(tmp_path / "named.nrrd"), tmp_path / "clean.nrrd")
    assert b"Doe" not in (tmp_path / "clean.nrrd").read_bytes()


@pytest.mark.parametrize("name", ["scan.mhd", "scan.nhdr", "scan.png", "scan"])
def test_formats_of_two_files_and_pictures_are_not_written(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=r"expected a name with \.nii"):
        write_volume(scan(), tmp_path / name)
    assert list(tmp_path.iterdir()) == []


# Frames, in files written here byte by byte


@pytest.mark.parametrize("name", ["scan.nii", "scan.nii.gz"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_nifti_ras_becomes_lps(tmp_path: Path, order: str, name: str) -> None:
    path = tmp_path / name
    content = nifti_bytes(order=order)
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    assert array_of(read_volume(path)).dtype == np.int16
    # RAS (-10 - 2 i, -20 - 3 j, 30 + 4 k) is LPS (10 + 2 i, 20 + 3 j, 30 + 4 k).
    np.testing.assert_allclose(brightest_point(read_volume(path)), [28, 26, 50])


@pytest.mark.parametrize(("slope", "shift"), [(0, 0), (1, 0), (1, 5), (2.5, -40)])
def test_packed_and_plain_nifti_hold_the_same_intensities(
    tmp_path: Path, slope: float, shift: float
) -> None:
    content = bytearray(nifti_bytes())
    struct.pack_into("<2f", content, 112, slope, shift)
    (tmp_path / "plain.nii").write_bytes(content)
    (tmp_path / "packed.nii.gz").write_bytes(gzip.compress(content))
    plain, packed = (read_volume(tmp_path / n) for n in ("plain.nii", "packed.nii.gz"))
    stated = scan_array() * slope + shift if slope else scan_array()
    np.testing.assert_allclose(array_of(packed), stated, rtol=1e-6)
    np.testing.assert_array_equal(array_of(packed), array_of(plain))
    assert packed.GetPixelID() == plain.GetPixelID()
    assert grid_of(packed).as_lists() == grid_of(plain).as_lists()


@pytest.mark.parametrize(("slope", "shift"), [(0, 5), (np.nan, 5)])
def test_nifti_without_a_slope_is_not_scaled(tmp_path: Path, slope: float, shift: float) -> None:
    content = bytearray(nifti_bytes())
    struct.pack_into("<2f", content, 112, slope, shift)
    (tmp_path / "scan.nii").write_bytes(content)
    np.testing.assert_array_equal(array_of(read_volume(tmp_path / "scan.nii")), scan_array())


def test_nifti_whose_intercept_is_no_number_is_refused(tmp_path: Path) -> None:
    content = bytearray(nifti_bytes())
    struct.pack_into("<2f", content, 112, 2, np.nan)
    (tmp_path / "scan.nii").write_bytes(content)
    assert "invalid intercept nan, expected a finite number" in refused(tmp_path / "scan.nii")


def nifti_of(sizes: Sequence[float], code: int = 2, form: str = "sform") -> bytes:
    """A NIfTI file of voxels in a unit, at an origin of ten voxels, by its sform or its qform."""
    x, y, z = sizes
    content = bytearray(nifti_bytes(((-x, 0, 0, -10 * x), (0, -y, 0, -10 * y), (0, 0, z, 10 * z))))
    struct.pack_into("<3f", content, 80, *sizes)
    content[123] = code
    if form == "qform":
        # A half turn about z.
        struct.pack_into("<2h6f", content, 252, 1, 0, 0, 0, 1, -10 * x, -10 * y, 10 * z)
    return bytes(content)


@pytest.mark.parametrize("form", ["sform", "qform"])
@pytest.mark.parametrize(
    ("code", "millimetres"), [(0, 1), (1, 1000), (2, 1), (3, 0.001), (3 + 8, 0.001), (32, 1)]
)
def test_nifti_in_other_units_becomes_millimetres(
    tmp_path: Path, code: int, millimetres: float, form: str
) -> None:
    sizes = np.array([0.2, 0.3, 0.4])
    (tmp_path / "scan.nii").write_bytes(nifti_of(sizes / millimetres, code, form))
    found = read_grid(tmp_path / "scan.nii")
    np.testing.assert_allclose(found.spacing, sizes, rtol=1e-6)
    np.testing.assert_allclose(found.origin, 10 * sizes, rtol=1e-6)
    np.testing.assert_array_equal(array_of(read_volume(tmp_path / "scan.nii")), scan_array())


def refused_by_both(path: Path) -> str:
    """Returns the sentence behind the file's name, which both readers say."""
    said = {refused(path, read).removeprefix(f"{path}: ") for read in (read_volume, read_grid)}
    (sentence,) = said
    return sentence


@pytest.mark.parametrize("form", ["sform", "qform"])
@pytest.mark.parametrize("size", [0, np.nan, np.inf])
@pytest.mark.parametrize("axis", range(3))
def test_nifti_without_the_size_of_a_voxel_is_refused(
    tmp_path: Path, form: str, size: float, axis: int
) -> None:
    content = bytearray(nifti_of((0.2, 0.3, 0.4), form=form))
    struct.pack_into("<f", content, 80 + 4 * axis, size)
    (tmp_path / "scan.nii").write_bytes(content)
    said = refused_by_both(tmp_path / "scan.nii")
    assert said.endswith(" in its pixdim, expected three positive sizes")
    assert f"{size:g}" in said


@pytest.mark.parametrize("code", [4, 5, 6, 7])
def test_nifti_in_a_unit_that_there_is_not_is_refused(tmp_path: Path, code: int) -> None:
    (tmp_path / "scan.nii").write_bytes(nifti_of((0.2, 0.3, 0.4), code))
    assert refused_by_both(tmp_path / "scan.nii").startswith(f"states the unit of length {code}, ")


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("a.nii", nifti_of((0.2, 0.3, 0.1875), 1), "200 x 300 x 187.5 mm, a scan of 2400 x 3000 x"),
        ("a.nii", nifti_of((0.2, 0.3, 0.4), 3), "0.0002 x 0.0003 x 0.0004 mm"),
        ("a.nii", nifti_of((200, 300, 400)), "200 x 300 x 400 mm, a scan of 2400 x 3000 x 3200 mm"),
        ("a.nrrd", nrrd_bytes("space: LPS", "(200,0,0) (0,3,0) (0,0,4)"), "200 x 3 x 4 mm"),
        ("a.nrrd", nrrd_bytes('space: LPS\nspace units: "m" "m" "m"'), "2000 x 3000 x 4000 mm"),
        ("a.mha", meta_image_bytes(AXES, more="DistanceUnits = um\n"), None),
        ("a.mha", meta_image_bytes(AXES).replace(b"= 2 3 4", b"= 2e-4 3e-4 4e-4"), "0.0002 x"),
    ],
)  # fmt: skip
def test_absurd_lengths_are_refused(
    tmp_path: Path, name: str, content: bytes, found: str | None
) -> None:
    (tmp_path / name).write_bytes(content)
    if found is None:
        np.testing.assert_allclose(read_grid(tmp_path / name).spacing, [0.002, 0.003, 0.004])
        return
    said = refused_by_both(tmp_path / name)
    assert said.startswith(f"states voxels of {found}")
    assert said.endswith(
        "; expected voxels of 0.001 to 50 mm and at most 5000 mm in all (is its unit another one?)"
    )


def test_a_scan_of_many_metres_is_refused(tmp_path: Path) -> None:
    grid = Grid((300, 3, 3), np.array([20.0, 1, 1]), np.zeros(3), np.eye(3))
    write_volume(image_on(grid, np.arange(2700).reshape(3, 3, 300)), tmp_path / "a.nrrd")
    assert "a scan of 6000 x 3 x 3 mm" in refused_by_both(tmp_path / "a.nrrd")


def test_absurd_lengths_of_a_dicom_series_are_refused(tmp_path: Path) -> None:
    write_dicom(tmp_path / "a", step=(0, 0, 1500))
    assert "0.4 x 0.5 x 1500 mm, a scan of 4.8 x 5 x 1.2e+04 mm" in refused_by_both(tmp_path / "a")


@pytest.mark.parametrize(
    ("unit", "millimetres"),
    [("", 1), ("mm", 1), ("MM", 1), ("millimeters", 1), ("cm", 10), ("m", 1000), ("um", 0.001),
     ("\u00b5m", 0.001), ("\u03bcm", 0.001), ("microns", 0.001), ("micrometer", 0.001),
     ("metres", 1000)],
)  # fmt: skip
@pytest.mark.parametrize("name", ["scan.nrrd", "scan.mha"])
def test_nrrd_and_meta_image_in_other_units_become_millimetres(
    tmp_path: Path, name: str, unit: str, millimetres: float
) -> None:
    sizes = [f"{size / millimetres:g}" for size in (0.2, 0.3, 0.4)]
    if name == "scan.nrrd":
        x, y, z = sizes
        space = f'space: LPS\nspace units: "{unit}" "{unit}" "{unit}"'
        content = nrrd_bytes(space, f"({x},0,0) (0,{y},0) (0,0,{z})")
        place = b"10,20,30"
    else:
        more = f"DistanceUnits = {unit}\n" if unit else ""
        content = meta_image_bytes(AXES, more=more).replace(b"2 3 4", " ".join(sizes).encode())
        place = b"10 20 30"
    content = content.replace(place, place.replace(b"0", b"e%d" % (1 - np.log10(millimetres))))
    (tmp_path / name).write_bytes(content)
    found = read_grid(tmp_path / name)
    np.testing.assert_allclose(found.spacing, [0.2, 0.3, 0.4])
    np.testing.assert_allclose(found.origin, [10, 20, 30])
    assert_same_grid(grid_of(read_volume(tmp_path / name)), found)


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("a.mha", meta_image_bytes(AXES).replace(b"ElementSpacing = 2 3 4\n", b""),
         "does not state the size of its voxels, expected three in ElementSpacing"),
        ("a.mha", meta_image_bytes(AXES).replace(b"= 2 3 4", b"= 2 0 4"), "the spacing [2.0, 0.0"),
        ("a.mha", meta_image_bytes(AXES).replace(b"= 2 3 4", b"= nan 3 4"), "the spacing [0.0"),
        ("a.mha", meta_image_bytes(AXES, more="DistanceUnits = furlong\n"),
         'has the DistanceUnits "furlong", expected mm, cm, m or um'),
        ("a.mha", meta_image_bytes(AXES, more="DistanceUnits = ?\n"), 'the DistanceUnits "?"'),
        ("a.nrrd", nrrd_bytes("space: LPS").replace(b"space directions", b"content"),
         "does not state the size of its voxels, expected three in space directions"),
        ("a.nrrd", nrrd_bytes("space: LPS", "(2,0,0) (0,3,0) none"), "does not state the size of"),
        ("a.nrrd", nrrd_bytes('space: LPS\nspace units: "mm" "mm" "inch"'),
         'has the space units "inch", expected mm, cm, m or um'),
        ("a.nrrd", nrrd_bytes('space: LPS\nspace units: "mm" "um" ""'), "several units of length"),
    ],
)  # fmt: skip
def test_sizes_that_are_not_stated_are_refused(
    tmp_path: Path, name: str, content: bytes, found: str
) -> None:
    (tmp_path / name).write_bytes(content)
    assert found in refused_by_both(tmp_path / name)


def test_meta_image_may_state_element_size_alone(tmp_path: Path) -> None:
    content = meta_image_bytes(AXES).replace(b"ElementSpacing", b"ElementSize")
    (tmp_path / "a.mha").write_bytes(content)
    np.testing.assert_allclose(read_grid(tmp_path / "a.mha").spacing, [2, 3, 4])


def test_packed_and_plain_nifti_of_one_name_are_two_scans(tmp_path: Path) -> None:
    write_volume(scan(OBLIQUE), tmp_path / "scan.nii.gz")
    write_volume(scan() + 1, tmp_path / "scan.nii")
    for read in (read_volume, read_written):
        image = read(tmp_path / "scan.nii.gz")
        np.testing.assert_array_equal(array_of(image), scan_array())
        assert_same_grid(grid_of(image), scan_grid(OBLIQUE), atol=1e-5)


@pytest.mark.parametrize("qfac", [0.0, 1.0, -1.0])
@pytest.mark.parametrize("form", ["both", "qform"])
def test_nifti_of_a_quaternion_alone_is_read_as_itk_does(
    tmp_path: Path, qfac: float, form: str
) -> None:
    path = tmp_path / "scan.nii"
    hand = -1.0 if qfac < 0 else 1.0
    write_volume(scan(OBLIQUE @ np.diag([1, 1, hand])), path)
    content = bytearray(path.read_bytes())
    struct.pack_into("<f", content, 76, qfac)
    if form == "qform":
        struct.pack_into("<h", content, 254, 0)
    path.write_bytes(content)
    assert_same_grid(read_grid(path), grid_of(sitk.ReadImage(str(path))), atol=1e-7)


@pytest.mark.parametrize("pixel_type", [np.uint8, np.int16, np.float32, np.float64, np.uint64])
def test_what_was_written_is_read_as_other_files_are(tmp_path: Path, pixel_type: type) -> None:
    path = tmp_path / "scan.nii.gz"
    write_volume(image_on(scan_grid(OBLIQUE), scan_array().astype(pixel_type)), path)
    found, expected = read_written(path), read_volume(path)
    assert found.GetPixelID() == expected.GetPixelID()
    np.testing.assert_array_equal(array_of(found), array_of(expected))
    assert_same_grid(grid_of(found), grid_of(expected), atol=0)


def test_a_written_volume_that_another_program_saved_anew_is_read_with_checks(
    tmp_path: Path,
) -> None:
    path = tmp_path / "scan.nii"
    write_volume(scan(OBLIQUE), path)
    content = bytearray(path.read_bytes())
    # It states its frame by a quaternion alone.
    struct.pack_into("<h", content, 254, 0)
    path.write_bytes(content)
    assert_same_grid(grid_of(read_written(path)), scan_grid(OBLIQUE), atol=1e-5)
    path.write_bytes(content[:-2])
    with pytest.raises(InputError, match="truncated"):
        read_written(path)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha"])
def test_what_was_written_is_read_without_checks(tmp_path: Path, suffix: str) -> None:
    flat = image_on(scan_grid(OBLIQUE), np.zeros(SIZE[::-1], np.float32))
    write_volume(flat, tmp_path / f"flat{suffix}")
    found = read_written(tmp_path / f"flat{suffix}")
    assert_same_grid(grid_of(found), scan_grid(OBLIQUE), atol=1e-5)
    assert found.GetMetaDataKeys() == ()
    with pytest.raises(InputError, match="absent"):
        read_written(tmp_path / f"absent{suffix}")


def test_nifti_with_ras_axes_and_left_handed_axes(tmp_path: Path) -> None:
    path = tmp_path / "scan.nii"
    path.write_bytes(nifti_bytes(srow=((2, 0, 0, -10), (0, 3, 0, -20), (0, 0, 4, 30))))
    np.testing.assert_allclose(brightest_point(read_volume(path)), [-8, 14, 50])
    path.write_bytes(nifti_bytes(srow=((2, 0, 0, -10), (0, -3, 0, -20), (0, 0, 4, 30))))
    np.testing.assert_allclose(brightest_point(read_volume(path)), [-8, 26, 50])
    assert np.linalg.det(read_grid(path).direction) == pytest.approx(-1)


def test_nifti_with_a_fourth_dimension_of_one_is_a_volume(tmp_path: Path) -> None:
    path = tmp_path / "scan.nii"
    path.write_bytes(nifti_bytes(dimensions=(4, 12, 10, 8, 1, 1, 1, 1)))
    np.testing.assert_allclose(brightest_point(read_volume(path)), [28, 26, 50])


@pytest.mark.parametrize(
    ("space", "sign"),
    [
        ("left-posterior-superior", (1, 1, 1)),
        ("right-anterior-superior", (-1, -1, 1)),
        ("RAS", (-1, -1, 1)),
        ("LAS", (1, -1, 1)),
    ],
)
def test_nrrd_spaces_become_lps(tmp_path: Path, space: str, sign: tuple[int, ...]) -> None:
    path = tmp_path / "scan.nrrd"
    path.write_bytes(nrrd_bytes(f"space: {space}"))
    expected = np.array([28.0, 26, 50]) * sign
    np.testing.assert_allclose(brightest_point(read_volume(path)), expected)


@pytest.mark.parametrize("space", ["space: scanner-xyz", "space dimension: 3"])
def test_nrrd_without_an_anatomical_space_is_refused(tmp_path: Path, space: str) -> None:
    path = tmp_path / "scan.nrrd"
    path.write_bytes(nrrd_bytes(space))
    assert "does not state its frame" in refused(path)
    assert "does not state its frame" in refused(path, read_grid)


def test_a_field_that_is_no_utf8_does_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "scan.mha"
    content = meta_image_bytes("1 0 0 0 1 0 0 0 1", more="KEY = value\n")
    path.write_bytes(content.replace(b"KEY", b"\xb5CT"))
    np.testing.assert_array_equal(array_of(read_volume(path)), scan_array())


def test_meta_image_rows_are_the_axes_in_lps(tmp_path: Path) -> None:
    path = tmp_path / "scan.mha"
    # Each row of the matrix is the direction of one voxel axis: x to y, y to -x, z to z.
    path.write_bytes(meta_image_bytes("0 1 0 -1 0 0 0 0 1"))
    np.testing.assert_allclose(brightest_point(read_volume(path)), [10 - 6, 20 + 18, 50])


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("scan.nrrd", nrrd_bytes("space: LPS", "(2,0,0) (0.1,3,0) (0,0,4)")),
        ("scan.mha", meta_image_bytes("1 0 0 0.03 1 0 0 0 1")),
        ("scan.nii", nifti_bytes(((-2, 0.1, 0, -10), (0, -3, 0, -20), (0, 0, 4, 30)))),
    ],
)
def test_sheared_axes_are_refused(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    assert "orthonormal" in refused(path)
    assert "orthonormal" in refused(path, read_grid)


def test_nifti_without_a_stated_frame_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "scan.nii.gz"
    path.write_bytes(gzip.compress(nifti_bytes(sform_code=0)))
    assert "qform_code 0 and sform_code 0" in refused(path)
    assert "qform_code 0 and sform_code 0" in refused(path, read_grid)


def test_nifti_with_one_code_is_enough(tmp_path: Path) -> None:
    path = tmp_path / "scan.nii"
    write_volume(scan(OBLIQUE), path)
    content = bytearray(path.read_bytes())
    struct.pack_into("<h", content, 254, 0)
    path.write_bytes(content)
    point = scan_grid(OBLIQUE).to_physical([BRIGHT_INDEX])[0]
    np.testing.assert_allclose(brightest_point(read_volume(path)), point, atol=1e-4)


def test_nifti_whose_two_frames_disagree_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "scan.nii"
    write_volume(scan(OBLIQUE), path)
    content = bytearray(path.read_bytes())
    (x,) = struct.unpack_from("<f", content, 292)
    struct.pack_into("<f", content, 292, x + 5)
    path.write_bytes(content)
    assert "place a corner 5 mm apart" in refused(path)


@pytest.mark.parametrize("turn", range(0, 360, 15))
def test_nifti_written_at_any_angle_agrees_with_itself(tmp_path: Path, turn: int) -> None:
    direction = Rotation.from_euler("zyx", [turn, turn / 2, 180 - turn], degrees=True).as_matrix()
    grid = Grid((400, 3, 4), np.full(3, 0.15), np.array([100.0, -80, 40]), direction)
    array = np.arange(400 * 12, dtype=np.int16).reshape(4, 3, 400)
    write_volume(image_on(grid, array), tmp_path / "scan.nii")
    found = read_grid(tmp_path / "scan.nii")
    np.testing.assert_allclose(found.corners, grid.corners, atol=0.02)


# Bad files


@pytest.mark.parametrize(
    ("suffix", "compressed"),
    [(".nii", False), (".nii.gz", True), (".nrrd", False), (".nrrd", True), (".mha", False),
     (".mha", True)],
)  # fmt: skip
def test_truncated_and_corrupt_files_are_refused(
    tmp_path: Path, suffix: str, compressed: bool
) -> None:
    path = tmp_path / f"scan{suffix}"
    sitk.WriteImage(scan(), str(path), compressed)
    content = path.read_bytes()
    for length in (0, 10, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        refused(path)
    if not compressed:
        return
    for place in (len(content) - 2, len(content) * 3 // 4):
        broken = bytearray(content)
        broken[place] ^= 0xFF
        path.write_bytes(broken)
        assert "corrupt" in refused(path)


def test_the_message_of_a_truncated_file_gives_both_sizes(tmp_path: Path) -> None:
    path = tmp_path / "scan.nii"
    path.write_bytes(nifti_bytes()[:-100])
    assert "holds 2172 bytes, expected 2272 (truncated file)" in refused(path)
    path = tmp_path / "scan.nii.gz"
    path.write_bytes(gzip.compress(nifti_bytes()[:-100]))
    assert "end after 2172 bytes, expected 2272 (truncated file)" in refused(path)


def test_a_gzip_of_several_members_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "scan.nii.gz"
    content = nifti_bytes()
    path.write_bytes(gzip.compress(content[:1000]) + gzip.compress(content[1000:]))
    np.testing.assert_array_equal(array_of(read_volume(path)), scan_array())


@pytest.mark.parametrize(("stated", "found"), [(None, "CompressedDataSize"), (-9, "truncated")])
def test_a_compressed_meta_image_that_itk_would_misread_is_refused(
    tmp_path: Path, stated: int | None, found: str
) -> None:
    header, voxels = meta_image_bytes("1 0 0 0 1 0 0 0 1").split(b"LOCAL\n", 1)
    packed = zlib.compress(voxels)
    more = b"CompressedData = True\n"
    if stated is not None:
        more += b"CompressedDataSize = %d\n" % (len(packed) + stated)
    header = header.replace(b"ElementDataFile", more + b"ElementDataFile")
    (tmp_path / "scan.mha").write_bytes(header + b"LOCAL\n" + packed)
    assert found in refused(tmp_path / "scan.mha")


def test_several_data_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "scan.mhd"
    path.write_bytes(meta_image_bytes("1 0 0 0 1 0 0 0 1", "slice%03d.raw 1 8 1"))
    assert "expected one data file" in refused(path)


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("scan.nii.gz", b"not a gzip file at all", "Not a gzipped file"),
        ("scan.nii", b"x" * 4000, "NIfTI-1 header"),
        ("scan.nii.gz", gzip.compress(b"x" * 4000, mtime=0), "NIfTI-1 header"),
        ("scan.nii", nifti_bytes(dimensions=(4, 12, 10, 4, 2, 1, 1, 1)), "12 x 10 x 4 x 2"),
        ("scan.nii", nifti_bytes(dimensions=(2, 12, 80, 1, 1, 1, 1, 1)), "12 x 80 voxels"),
        ("scan.nii", nifti_bytes(dimensions=(3, 12, 80, 1, 1, 1, 1, 1)), "12 x 80 x 1 voxels"),
        ("scan.bmp", b"", 'suffix ".bmp"'),
        ("scan.nrrd", b"NRRD0004\ntype: short\n", "states no dimensions"),
        ("scan.nrrd", b"NRRD0004\ntype: short\ndimension: 3\n", "cannot be read as an image"),
        ("scan.mha", b"ObjectType = Image\nNDims = -3\n", 'states "-3" dimensions'),
        ("scan.mha", b"ObjectType = Image\nNDims = 3\n", 'names the data file ""'),
    ],
)
def test_what_is_no_volume_is_refused(
    tmp_path: Path, name: str, content: bytes, found: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    assert found in refused(path)
    assert found in refused(path, read_grid)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    assert "no such file" in refused(tmp_path / "absent.nii.gz")
    assert "no such file" in refused(tmp_path / "absent.nii.gz", read_grid)


def test_vectors_and_complex_numbers_are_refused(tmp_path: Path) -> None:
    sitk.WriteImage(sitk.Compose(scan(), scan()), str(tmp_path / "vector.nrrd"))
    assert "2 values per voxel" in refused(tmp_path / "vector.nrrd")
    real = sitk.Cast(scan(), sitk.sitkFloat32)
    sitk.WriteImage(sitk.RealAndImaginaryToComplex(real, real), str(tmp_path / "complex.nii"))
    refused(tmp_path / "complex.nii")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("pixel_type", [np.float32, np.float64])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha"])
def test_values_that_are_not_finite_are_counted(
    tmp_path: Path, suffix: str, pixel_type: type, value: float
) -> None:
    array = scan_array().astype(pixel_type)
    array[2:4, 5, 6] = value
    write_volume(image_on(scan_grid(np.eye(3)), array), tmp_path / f"scan{suffix}")
    assert "2 voxels hold NaN or infinity" in refused(tmp_path / f"scan{suffix}")


def test_a_constant_scan_is_refused(tmp_path: Path) -> None:
    array = np.full(SIZE[::-1], -1000, np.int16)
    write_volume(image_on(scan_grid(np.eye(3)), array), tmp_path / "scan.nii.gz")
    assert "every voxel holds -1000" in refused(tmp_path / "scan.nii.gz")


# DICOM


@pytest.mark.parametrize("name", ["along", "oblique", "permuted"])
def test_a_dicom_series_is_read_in_hounsfield_units_at_its_place(tmp_path: Path, name: str) -> None:
    direction = DIRECTIONS[name]
    folder = tmp_path / "series ö"
    hounsfield = write_dicom(folder, direction)
    (folder / "notes.txt").write_text("not a slice")
    (folder / "DICOMDIR").write_bytes(bytes(128) + b"DICM")
    # What is stored is what is shown less the intercept of -1024.
    stored = (hounsfield[0] + 1024).astype("<i2").tobytes()
    assert (folder / "0.dcm").read_bytes().endswith(stored)
    image = read_volume(folder)
    np.testing.assert_array_equal(array_of(image), hounsfield)
    assert_same_grid(grid_of(image), scan_grid(direction), atol=1e-7)
    assert_same_grid(read_grid(folder), grid_of(image))
    point = scan_grid(direction).to_physical([BRIGHT_INDEX])[0]
    np.testing.assert_allclose(brightest_point(image), point, atol=1e-6)


def test_a_dicom_series_numbered_downwards_is_sorted_by_position(tmp_path: Path) -> None:
    hounsfield = write_dicom(tmp_path / "series", step=(0, 0, -1.5))
    image = read_volume(tmp_path / "series")
    np.testing.assert_array_equal(array_of(image), hounsfield[::-1])
    assert image.GetOrigin() == pytest.approx((-37.5, 12.25, 80 - 7 * 1.5))
    expected = [-37.5 + 9 * 0.4, 12.25 + 2 * 0.5, 80 - 5 * 1.5]
    np.testing.assert_allclose(brightest_point(image), expected)


def test_a_missing_dicom_slice_is_refused_with_its_gap(tmp_path: Path) -> None:
    folder = tmp_path / "series"
    write_dicom(folder)
    missing = folder / f"{(4 * 3) % SIZE[2]}.dcm"
    missing.unlink()
    for read in (read_volume, read_grid):
        message = refused(folder, read)
        assert "1.dcm and 7.dcm are 3 mm apart, expected 1.5 mm" in message


def test_a_repeated_dicom_position_is_refused(tmp_path: Path) -> None:
    again = "-37.5\\12.25\\83.0"
    write_dicom(tmp_path / "a", tags=lambda k: {"0020|0032": again} if k == 3 else {})
    message = refused(tmp_path / "a")
    assert "missing, repeated or uneven" in message
    write_dicom(tmp_path / "b", step=(0, 0, 0))
    assert "are 0 mm apart" in refused(tmp_path / "b")


def test_rounded_dicom_positions_are_even_and_drifting_ones_are_not(tmp_path: Path) -> None:
    def at(z: float) -> dict[str, str]:
        return {"0020|0032": f"-37.5\\12.25\\{z:.2f}"}

    write_dicom(tmp_path / "rounded", tags=lambda k: at(0.3125 * k))
    assert read_grid(tmp_path / "rounded").spacing[2] == pytest.approx(0.3125, abs=1e-3)
    write_dicom(tmp_path / "drifting", tags=lambda k: at(1.0 * k + 0.02 * k * k))
    assert "uneven" in refused(tmp_path / "drifting")


def test_a_tilted_gantry_is_refused(tmp_path: Path) -> None:
    write_dicom(tmp_path / "tilted", step=(0, 0.2, 1.5))
    message = refused(tmp_path / "tilted")
    assert "0.2 mm beside the one before it" in message
    write_dicom(tmp_path / "nearly straight", step=(0, 0.001, 1.5))
    read_volume(tmp_path / "nearly straight")


@pytest.mark.parametrize("kept", [0.2, 0.9])
@pytest.mark.parametrize("number", [0, 3, 7])
def test_a_truncated_dicom_slice_is_not_dropped(tmp_path: Path, number: int, kept: float) -> None:
    folder = tmp_path / "series"
    write_dicom(folder)
    path = folder / f"{(number * 3) % SIZE[2]}.dcm"
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)])
    message = refused(folder)
    assert str(path) in message


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        (b"1\\0\\0\\0\\1\\0 ", b"1\\0\\0\\0\\1\\.1", "orientation"),
        (b".5\\.4 ", b".5\\.5 ", "spacing"),
    ],
)
def test_slices_that_are_not_alike_are_refused(
    tmp_path: Path, old: bytes, new: bytes, found: str
) -> None:
    write_dicom(tmp_path / "series")
    path = tmp_path / "series" / "6.dcm"
    assert path.read_bytes().count(old) == 1
    path.write_bytes(path.read_bytes().replace(old, new))
    message = refused(tmp_path / "series")
    assert message.startswith(f"{path}: has the {found}")


def test_one_dicom_slice_is_no_volume(tmp_path: Path) -> None:
    write_dicom(tmp_path / "series")
    for number in range(1, SIZE[2]):
        (tmp_path / "series" / f"{number}.dcm").unlink()
    assert "one slice" in refused(tmp_path / "series")


def test_dicom_files_without_a_position_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "series"
    write_dicom(folder)
    for path in folder.iterdir():
        # Renaming the tag (0020,0032) to an unused one leaves a valid file without a position.
        content = path.read_bytes()
        assert content.count(b"\x20\x00\x32\x00") == 1
        path.write_bytes(content.replace(b"\x20\x00\x32\x00", b"\x20\x00\x33\x00"))
    assert 'ImagePositionPatient "", expected 3 numbers' in refused(folder)


# Resampling


def smooth_image(grid: Grid, function: Callable[[NDArray[np.float64]], Any]) -> sitk.Image:
    z, y, x = np.indices(grid.size[::-1])
    points = grid.to_physical(np.column_stack([x.ravel(), y.ravel(), z.ravel()]))
    return image_on(grid, np.asarray(function(points)).reshape(grid.size[::-1]).astype(np.float32))


@pytest.mark.parametrize("name", ["oblique", "oblique left-handed", "permuted"])
def test_a_ramp_is_the_same_on_every_grid(name: str) -> None:
    def ramp(points: NDArray[np.float64]) -> NDArray[np.float64]:
        return points @ np.array([3.0, -2.0, 5.0])

    source = Grid((40, 36, 20), np.array([0.5, 0.6, 1.0]), np.zeros(3), DIRECTIONS[name])
    target = Grid.centred(source.centre, (7, 8, 9), 0.6)
    found = resample(smooth_image(source, ramp), target)
    assert found.GetPixelID() == sitk.sitkFloat32
    assert_same_grid(grid_of(found), target)
    expected = array_of(smooth_image(target, ramp))
    np.testing.assert_allclose(array_of(found), expected, atol=0.05)


def test_outside_has_its_value() -> None:
    grid = Grid.centred([1000.0, 0, 0], (3, 3, 3), 1)
    assert np.unique(array_of(resample(scan(), grid, outside=-1000))).tolist() == [-1000]


def test_nearest_keeps_type_and_labels() -> None:
    target = Grid.centred(scan_grid(OBLIQUE).centre, (5, 5, 5), 0.3)
    found = resample(scan(OBLIQUE), target, "nearest", outside=7)
    assert found.GetPixelID() == sitk.sitkInt16
    assert set(np.unique(array_of(found))) <= {*np.unique(scan_array()), 7}


def test_nearest_on_the_own_grid_changes_nothing() -> None:
    found = resample(scan(OBLIQUE), scan_grid(OBLIQUE), "nearest")
    np.testing.assert_array_equal(array_of(found), scan_array())


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("direction", [PERMUTED, np.eye(3)], ids=["same axes", "other axes"])
def test_a_coarser_axis_is_smoothed_and_no_other(axis: int, direction: NDArray[np.float64]) -> None:
    # Stripes of one voxel along `axis` only: unsmoothed sampling keeps an amplitude of 100.
    indices = np.indices((24, 24, 24))[2 - axis]
    source = Grid((24, 24, 24), np.full(3, 0.5), np.zeros(3), PERMUTED)
    image = image_on(source, np.where(indices % 2, 100, -100).astype(np.int16))
    for coarse_axis, smoothed in [(axis, True), ((axis + 1) % 3, False)]:
        coarse = np.full(3, 0.5)
        coarse[coarse_axis] = 2.0
        # The same spacing in space, given along the target's own axes.
        spacing = direction.T @ PERMUTED @ coarse
        target = Grid((4, 4, 4), spacing, source.to_physical([[6, 6, 6]])[0], direction)
        amplitude = np.abs(array_of(resample(image, target))).max()
        assert amplitude < 2 if smoothed else amplitude == pytest.approx(100, rel=1e-3)


def test_the_smoothing_has_the_stated_width() -> None:
    # A cosine of angular frequency w is damped by exp(-sigma^2 w^2 / 2).
    source_spacing, target_spacing, wavelength = 0.25, 1.0, 4.0
    sigma = 0.5 * np.sqrt(target_spacing**2 - source_spacing**2)
    frequency = 2 * np.pi / wavelength

    def wave(points: NDArray[np.float64]) -> NDArray[np.float64]:
        return 100 * np.cos(frequency * points[:, 0])

    source = Grid((128, 8, 8), np.full(3, source_spacing), np.array([-16.0, 0, 0]), np.eye(3))
    target = Grid((9, 1, 1), np.full(3, target_spacing), np.array([-4.0, 1, 1]), np.eye(3))
    found = array_of(resample(smooth_image(source, wave), target)).ravel()
    expected = wave(target.to_physical([[i, 0, 0] for i in range(9)]))
    np.testing.assert_allclose(found, expected * np.exp(-((sigma * frequency) ** 2) / 2), atol=1)


def test_a_thin_volume_can_be_smoothed() -> None:
    array = scan_array()[:3]
    grid = Grid((12, 10, 3), np.full(3, 0.5), np.zeros(3), np.eye(3))
    found = array_of(resample(image_on(grid, array), Grid.centred(grid.centre, (2, 2, 1), 2.0)))
    assert np.isfinite(found).all()
    assert array.min() < found.min() < found.max() < array.max()


def test_resampling_leaves_its_input_alone() -> None:
    image = scan()
    resample(image, Grid.centred(grid_of(image).centre, (3, 3, 3), 3))
    np.testing.assert_array_equal(array_of(image), scan_array())


@given(st.sampled_from(ORIENTATIONS), st.sampled_from(list(DIRECTIONS.values())))
def test_the_48_orientations_of_an_image_are_one_scan(
    orientation: tuple[Sequence[int], Sequence[bool]], direction: NDArray[np.float64]
) -> None:
    image = scan(direction)
    other = reoriented(image, *orientation)
    np.testing.assert_allclose(brightest_point(other), brightest_point(image), atol=1e-9)
    np.testing.assert_allclose(grid_of(other).centre, grid_of(image).centre, atol=1e-9)
    target = Grid.centred(grid_of(image).centre, (4, 4, 4), 0.5)
    expected = array_of(resample(image, target))
    np.testing.assert_allclose(array_of(resample(other, target)), expected, atol=0.01)


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
def test_the_48_orientations_survive_their_files(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"scan{suffix}"
    point = brightest_point(scan(OBLIQUE))
    for axes, flips in ORIENTATIONS:
        write_volume(reoriented(scan(OBLIQUE), axes, flips), path)
        np.testing.assert_allclose(brightest_point(read_volume(path)), point, atol=1e-4)


@pytest.mark.parametrize("code", ["LPS", "RAS", "ASL", "IRP"])
def test_an_image_oriented_by_itk_is_the_same_scan(code: str) -> None:
    other = sitk.DICOMOrient(scan(), code)
    np.testing.assert_allclose(brightest_point(other), brightest_point(scan()), atol=1e-9)


# Mirroring


@pytest.mark.parametrize("direction", DIRECTIONS.values(), ids=DIRECTIONS.keys())
def test_mirroring_moves_every_voxel_to_minus_x(direction: NDArray[np.float64]) -> None:
    image = scan(direction)
    found = mirrored(image)
    handedness = np.linalg.det(grid_of(found).direction)
    assert handedness == pytest.approx(np.linalg.det(direction))
    indices = np.array(list(itertools.product(*[range(count) for count in SIZE])))
    there = grid_of(found).to_index(grid_of(image).to_physical(indices) * [-1, 1, 1])
    np.testing.assert_allclose(there, np.round(there), atol=1e-9)
    x, y, z = np.round(there).astype(int).T
    expected = array_of(image)[indices[:, 2], indices[:, 1], indices[:, 0]]
    np.testing.assert_array_equal(array_of(found)[z, y, x], expected)


@pytest.mark.parametrize("direction", DIRECTIONS.values(), ids=DIRECTIONS.keys())
def test_mirroring_twice_is_nothing(direction: NDArray[np.float64]) -> None:
    found = mirrored(mirrored(scan(direction)))
    np.testing.assert_array_equal(array_of(found), scan_array())
    assert_same_grid(grid_of(found), scan_grid(direction), atol=1e-9)


def test_mirroring_a_scan_along_the_axes_keeps_its_axes() -> None:
    found = grid_of(mirrored(scan()))
    np.testing.assert_array_equal(found.direction, np.eye(3))
    np.testing.assert_allclose(found.origin, [37.5 - 11 * 0.4, 12.25, 80])


# Segmentations


def segmentation() -> sitk.Image:
    labels = np.zeros(SIZE[::-1], np.uint8)
    labels[2:5, 3:6, 4:7] = 1
    labels[5, 5, 5] = 2
    return image_on(scan_grid(OBLIQUE), labels)


@pytest.mark.parametrize(("labels", "count"), [((), 28), ((1,), 27), ((2,), 1), ((1, 2, 9), 28)])
def test_a_mask_has_the_labels_asked_for(
    tmp_path: Path, labels: tuple[int, ...], count: int
) -> None:
    write_volume(segmentation(), tmp_path / "labels.nii.gz")
    mask = read_segmentation(tmp_path / "labels.nii.gz", scan_grid(OBLIQUE), labels)
    assert mask.GetPixelID() == sitk.sitkUInt8
    assert_same_grid(grid_of(mask), scan_grid(OBLIQUE))
    assert array_of(mask).sum() == count
    assert array_of(mask).max() == 1


@pytest.mark.parametrize("pixel_type", [np.uint8, np.int32, np.float32])
def test_labels_keep_their_numbers(tmp_path: Path, pixel_type: type) -> None:
    values = array_of(segmentation()).astype(pixel_type) * 120
    write_volume(image_on(scan_grid(OBLIQUE), values), tmp_path / "labels.nii.gz")
    labels = read_labels(tmp_path / "labels.nii.gz", scan_grid(OBLIQUE))
    np.testing.assert_array_equal(array_of(labels), values)
    assert array_of(labels).dtype.kind in "iu"
    assert_same_grid(grid_of(labels), scan_grid(OBLIQUE))


def test_a_segmentation_without_the_labels_is_refused_with_what_it_has(tmp_path: Path) -> None:
    path = tmp_path / "labels.nii.gz"
    write_volume(segmentation(), path)
    message = refused(path, lambda path: read_segmentation(path, scan_grid(OBLIQUE), [7, 8]))
    assert "no voxel has one of the labels 7, 8; the values found are 0, 1, 2" in message
    write_volume(image_on(scan_grid(OBLIQUE), np.zeros(SIZE[::-1], np.uint8)), path)
    message = refused(path, lambda path: read_segmentation(path, scan_grid(OBLIQUE)))
    assert "no voxel has a label; the values found are 0" in message


def test_a_segmentation_of_another_grid_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "labels.nrrd"
    write_volume(segmentation(), path)
    own = scan_grid(OBLIQUE)
    turned = Rotation.from_euler("z", 0.2, degrees=True).as_matrix() @ OBLIQUE
    for other, found in [
        (Grid((12, 10, 9), own.spacing, own.origin, own.direction), "(12, 10, 9)"),
        (Grid(own.size, own.spacing + 0.002, own.origin, own.direction), "the spacing [0.4,"),
        (Grid(own.size, own.spacing, own.origin + 0.002, own.direction), "the origin [-37.5,"),
        (Grid(own.size, own.spacing, own.origin, turned), "the direction"),
    ]:
        assert found in refused(path, lambda path, grid=other: read_segmentation(path, grid))
    rounded = Grid(own.size, own.spacing + 1e-5, own.origin + 5e-4, own.direction)
    assert_same_grid(grid_of(read_segmentation(path, rounded)), rounded)


def test_a_segmentation_of_fractions_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "labels.nrrd"
    values = array_of(segmentation()).astype(np.float32)
    write_volume(image_on(scan_grid(OBLIQUE), values), path)
    assert array_of(read_segmentation(path, scan_grid(OBLIQUE))).sum() == 28
    write_volume(image_on(scan_grid(OBLIQUE), values / 2), path)
    assert "fractions" in refused(path, lambda path: read_segmentation(path, scan_grid(OBLIQUE)))


def test_a_folder_is_not_taken_for_a_file(tmp_path: Path) -> None:
    folder = tmp_path / "scan.nii.gz"
    write_dicom(folder)
    assert read_grid(folder).size == SIZE
    shutil.rmtree(folder)
    assert READABLE in refused(folder)


# Shrinking, carrying, growing and cropping


@pytest.mark.parametrize("name", ["oblique", "oblique left-handed", "permuted"])
def test_shrinking_averages_blocks_and_keeps_the_frame(name: str) -> None:
    grid = scan_grid(DIRECTIONS[name])
    slope = np.array([0.7, -1.1, 0.4])
    small = shrunk(smooth_image(grid, lambda p: p @ slope), 1.3)
    # 12 x 10 x 8 voxels of 0.4, 0.5 and 1.5 mm; the tenth along y fills no block of three.
    assert small.GetSize() == (4, 3, 8)
    np.testing.assert_allclose(small.GetSpacing(), (1.2, 1.5, 1.5))
    expected = smooth_image(grid_of(small), lambda p: p @ slope)
    np.testing.assert_allclose(array_of(small), array_of(expected), atol=1e-4)
    assert small.GetPixelID() == sitk.sitkFloat32


def test_a_shrunk_voxel_is_the_mean_of_its_block() -> None:
    small = array_of(shrunk(scan(), 1.0))
    blocks = scan_array().astype(float).reshape(8, 5, 2, 6, 2).mean(axis=(2, 4))
    np.testing.assert_allclose(small, blocks, rtol=1e-6)


def test_a_scan_that_is_coarse_or_thin_is_not_shrunk_away() -> None:
    same = shrunk(scan(), 0.5)
    assert_same_grid(grid_of(same), scan_grid(np.eye(3)))
    np.testing.assert_array_equal(array_of(same), scan_array())
    assert shrunk(scan(), 100.0).GetSize() == (1, 1, 1)


RIGID = Rotation.from_euler("xyz", [170, -35, 60], degrees=True).as_matrix()


@pytest.mark.parametrize("hand", [1.0, -1.0], ids=["rotation", "rotary reflection"])
@pytest.mark.parametrize("direction", DIRECTIONS.values(), ids=DIRECTIONS.keys())
def test_what_lies_at_the_transformed_point_is_carried_to_the_point(
    direction: NDArray[np.float64], hand: float
) -> None:
    transform = sitk.AffineTransform(3)
    transform.SetMatrix((np.diag([hand, 1, 1]) @ RIGID).ravel().tolist())
    transform.SetCenter((4.0, 5.0, 6.0))
    transform.SetTranslation((-7.0, 3.0, 20.0))
    image = scan(direction)
    result = carried(image, transform)
    np.testing.assert_array_equal(array_of(result), scan_array())
    for index in ((0, 0, 0), BRIGHT_INDEX, (11, 9, 7)):
        here = result.TransformIndexToPhysicalPoint(index)
        there = image.TransformIndexToPhysicalPoint(index)
        np.testing.assert_allclose(transform.TransformPoint(here), there, atol=1e-9)
    assert_same_grid(grid_of(image), scan_grid(direction))


def test_carrying_agrees_with_resampling() -> None:
    transform = sitk.Euler3DTransform((-35.0, 14.0, 86.0), 0.4, -0.3, 2.9, (1.5, -2.0, 0.7))
    image = sitk.Cast(scan(), sitk.sitkFloat32)
    grid = Grid.centred(
        transform.GetInverse().TransformPoint(scan_grid(np.eye(3)).centre), (9, 9, 9), 0.5
    )
    moved = resample(carried(image, transform), grid)
    place = (
        grid.size,
        transform,
        sitk.sitkLinear,
        grid.origin,
        grid.spacing,
        grid.direction.ravel(),
    )
    np.testing.assert_allclose(array_of(moved), array_of(sitk.Resample(image, *place)), atol=0.05)
    assert np.count_nonzero(array_of(moved)) > 500


def test_only_rigid_transforms_carry() -> None:
    transform = sitk.ScaleTransform(3, (1.1, 1.0, 1.0))
    with pytest.raises(InputError, match="orthonormal"):
        carried(scan(), transform)


@pytest.mark.parametrize("margin", [0.0, 0.45, 1.0, 1.6])
def test_a_mask_grows_by_millimetres_along_every_axis(margin: float) -> None:
    array = np.zeros(SIZE[::-1], dtype=np.uint8)
    array[3:5, 4, 5:7] = 2
    grid = scan_grid(OBLIQUE)
    grown = dilated(image_on(grid, array), margin)
    voxels = grid.to_physical(np.argwhere(np.ones_like(array))[:, ::-1])
    inside = grid.to_physical(np.argwhere(array)[:, ::-1])
    apart = np.linalg.norm(voxels[:, None] - inside[None], axis=2).min(axis=1)
    np.testing.assert_array_equal(array_of(grown).ravel(), apart <= margin + 1e-6)
    assert grown.GetPixelID() == sitk.sitkUInt8
    assert_same_grid(grid_of(grown), grid)


@pytest.mark.parametrize("name", ["oblique", "left-handed", "permuted"])
def test_a_crop_holds_the_points_with_their_margin_at_their_place(name: str) -> None:
    grid = scan_grid(DIRECTIONS[name])
    points = grid.to_physical([[4.2, 3.0, 2.0], [6.0, 5.4, 4.9]])
    part = cropped(scan(grid.direction), points, 1.0)
    # A margin of 1 mm is 2.5, 2 and 0.67 voxels.
    assert part.GetSize() == (1 + 9 - 1, 1 + 8 - 1, 1 + 6 - 1)
    np.testing.assert_array_equal(array_of(part), scan_array()[1:7, 1:9, 1:10])
    np.testing.assert_allclose(grid_of(part).origin, grid.to_physical([[1, 1, 1]])[0], atol=1e-9)
    assert grid_of(part).contains(points).all()


def test_a_crop_ends_where_the_image_ends() -> None:
    grid = scan_grid(np.eye(3))
    part = cropped(scan(), grid.to_physical([[10.0, 0.0, 3.0]]), 2.0)
    assert grid_of(part).contains(grid.to_physical([[11, 0, 3]])).all()
    np.testing.assert_array_equal(array_of(part), scan_array()[1:6, 0:5, 5:12])


def test_a_crop_of_nothing_is_refused() -> None:
    with pytest.raises(InputError, match="outside the image, expected some within"):
        cropped(scan(), np.array([[500.0, 0.0, 0.0]]), 3.0)


# Full disks


@contextmanager
def at_most(size: int) -> Iterator[None]:
    """Lets no file grow beyond some bytes, as on a disk that fills up."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("size", [0, 200, 1000, 1500])
def test_a_volume_that_is_cut_short_is_not_left(tmp_path: Path, name: str, size: int) -> None:
    with pytest.raises(OSError, match="not written whole, the disk may be full"), at_most(size):
        write_volume(scan(), tmp_path / name)
    assert list(tmp_path.iterdir()) == []
    write_volume(scan(), tmp_path / name)
    assert np.array_equal(array_of(read_volume(tmp_path / name)), scan_array())


def test_a_transform_comes_back_and_another_file_is_refused(tmp_path: Path) -> None:
    transform = sitk.Euler3DTransform((1, 2, 3), 0.1, 0.2, 0.3, (4, 5, 6))
    path = tmp_path / "a.tfm"
    write_transform(transform, path)
    assert read_transform(path).TransformPoint((7, 8, 9)) == transform.TransformPoint((7, 8, 9))
    assert "no such file" in refused(tmp_path / "absent.tfm", read_transform)
    path.write_text("#Insight Transform File V1.0\nTransform: None\n")
    assert "cannot be read as a transform" in refused(path, read_transform)
    sitk.WriteTransform(sitk.Euler2DTransform(), str(path))
    assert "is no transform of 3D points" in refused(path, read_transform)


def test_what_a_transform_maps_is_a_comment_that_readers_pass_over(tmp_path: Path) -> None:
    spline = sitk.BSplineTransformInitializer(scan(), [3, 3, 3])
    numbers = np.random.default_rng(0).normal(size=spline.GetNumberOfParameters())
    spline.SetParameters(numbers.tolist())
    turn = sitk.Euler3DTransform((1, 2, 3), 0.1, 0.2, 0.3, (4, 5, 6))
    whole, path = sitk.CompositeTransform([turn, spline]), tmp_path / "a.tfm"
    write_transform(whole, path, "maps points of the template: to points of µ")
    first, second, *_ = path.read_text(encoding="utf-8").splitlines()
    # The first line is that by which ITK, and 3D Slicer, knows the format.
    assert first == "#Insight Transform File V1.0"
    assert second == "# maps points of the template: to points of µ"
    for read in (sitk.ReadTransform, read_transform):
        assert read(str(path)).TransformPoint((7, 8, 9)) == whole.TransformPoint((7, 8, 9))


@pytest.mark.parametrize("lines", [0, 2, 3, 4, 5, 5.01, 7.5, 8])
def test_a_transform_that_is_cut_short_is_not_left(tmp_path: Path, lines: float) -> None:
    random = np.random.default_rng(0)
    affine, bspline = sitk.AffineTransform(3), sitk.BSplineTransformInitializer(scan(), [3, 3, 3])
    affine.SetParameters(random.normal(size=12).tolist())
    bspline.SetParameters(random.normal(size=bspline.GetNumberOfParameters()).tolist())
    whole = sitk.CompositeTransform([affine, bspline])
    path = tmp_path / "a.tfm"
    write_transform(whole, path)
    assert sitk.ReadTransform(str(path)).GetParameters() == whole.GetParameters()
    # So many of the file's lines and a part of the next one.
    texts = path.read_bytes().splitlines(keepends=True)
    size = len(b"".join(texts[: int(lines)])) + int((lines % 1) * len(texts[int(lines)]))
    path.unlink()
    with pytest.raises(OSError, match="not written whole"), at_most(size):
        write_transform(whole, path)
    assert list(tmp_path.iterdir()) == []
