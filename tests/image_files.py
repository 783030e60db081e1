"""A small scan with one brightest voxel, and files of it in every format, written byte by byte."""

import itertools
import locale
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from landmarkflow.core.grids import Grid
from landmarkflow.images.operations import array_of, grid_of, image_on

SIZE = (12, 10, 8)
BRIGHT_INDEX = (9, 2, 5)
OBLIQUE = Rotation.from_euler("xyz", [20, 30, -15], degrees=True).as_matrix()
PERMUTED = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
DIRECTIONS = {
    "along": np.eye(3),
    "oblique": OBLIQUE,
    "left-handed": np.diag([-1.0, 1.0, 1.0]),
    "oblique left-handed": OBLIQUE @ np.diag([1.0, 1.0, -1.0]),
    "permuted": PERMUTED,
}
ORIENTATIONS = [
    (axes, flips)
    for axes in itertools.permutations(range(3))
    for flips in itertools.product([False, True], repeat=3)
]


def scan_grid(direction: NDArray[np.float64]) -> Grid:
    return Grid(SIZE, np.array([0.4, 0.5, 1.5]), np.array([-37.5, 12.25, 80.0]), direction)


def scan_array() -> NDArray[np.int16]:
    array = np.random.default_rng(0).integers(-1000, 2000, SIZE[::-1]).astype(np.int16)
    array[BRIGHT_INDEX[::-1]] = 3000
    return array


def scan(direction: NDArray[np.float64] | None = None) -> sitk.Image:
    return image_on(scan_grid(np.eye(3) if direction is None else direction), scan_array())


def brightest_point(image: sitk.Image) -> NDArray[np.float64]:
    array = array_of(image)
    index = np.unravel_index(int(array.argmax()), array.shape)[::-1]
    return np.asarray(grid_of(image).to_physical([index])[0])


def nifti_bytes(
    srow: Sequence[Sequence[float]] = ((-2, 0, 0, -10), (0, -3, 0, -20), (0, 0, 4, 30)),
    sform_code: int = 1,
    dimensions: Sequence[int] = (3, 12, 10, 8, 1, 1, 1, 1),
    order: str = "<",
) -> bytes:
    header = bytearray(352)
    struct.pack_into(order + "i", header, 0, 348)
    struct.pack_into(order + "8h", header, 40, *dimensions)
    struct.pack_into(order + "2h", header, 70, 4, 16)
    struct.pack_into(order + "8f", header, 76, 1, 2, 3, 4, 1, 1, 1, 1)
    struct.pack_into(order + "3f", header, 108, 352, 1, 0)
    struct.pack_into("<b", header, 123, 2)
    struct.pack_into(order + "2h", header, 252, 0, sform_code)
    struct.pack_into(order + "12f", header, 280, *np.ravel(srow))
    header[344:348] = b"n+1\0"
    return bytes(header) + scan_array().astype(order + "i2").tobytes()


def nrrd_bytes(space: str, directions: str = "(2,0,0) (0,3,0) (0,0,4)") -> bytes:
    header = (
        "NRRD0004\ntype: short\ndimension: 3\n"
        f"{space}\nsizes: 12 10 8\n"
        f"space directions: {directions}\n"
        "kinds: domain domain domain\nendian: little\nencoding: raw\nspace origin: (10,20,30)\n\n"
    )
    return header.encode() + scan_array().astype("<i2").tobytes()


def meta_image_bytes(matrix: str, data_file: str = "LOCAL", more: str = "") -> bytes:
    header = (
        "ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\n"
        f"TransformMatrix = {matrix}\nOffset = 10 20 30\nElementSpacing = 2 3 4\n"
        f"DimSize = 12 10 8\nElementType = MET_SHORT\n{more}ElementDataFile = {data_file}\n"
    )
    return header.encode() + scan_array().astype("<i2").tobytes()


@contextmanager
def kept_locale() -> Iterator[None]:
    """Undoes what the writer of DICOM files does to the locale, on which Python's texts depend."""
    before = locale.setlocale(locale.LC_CTYPE)
    try:
        yield
    finally:
        locale.setlocale(locale.LC_CTYPE, before)


@kept_locale()
def write_dicom(
    folder: Path,
    direction: NDArray[np.float64] | None = None,
    *,
    step: Sequence[float] = (0, 0, 1.5),
    series: str = "1.2.826.0.1.3680043.2.1",
    tags: Callable[[int], dict[str, str]] = lambda _: {},
    prefix: str = "",
) -> NDArray[np.int16]:
    """Writes the scan as one DICOM series, its files named out of order; returns its HU."""
    direction = np.eye(3) if direction is None else direction
    folder.mkdir(exist_ok=True)
    hounsfield = scan_array() // 2
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for number, values in enumerate(hounsfield):
        position = np.array([-37.5, 12.25, 80.0]) + direction @ np.array(step) * number
        image = sitk.GetImageFromArray(values[None])
        header = {
            "0008|0016": "1.2.840.10008.5.1.4.1.1.2",
            "0008|0018": f"{series}.{number + 1}",
            "0008|0060": "CT",
            "0020|000d": "1.2.826.0.1.3680043.2",
            "0020|000e": series,
            "0020|0013": str(number + 1),
            "0020|0032": "\\".join(f"{value:.8f}" for value in position),
            "0020|0037": "\\".join(f"{value:.8f}" for value in direction[:, :2].T.ravel()),
            "0028|0030": "0.5\\0.4",
            "0028|1052": "-1024",
            "0028|1053": "1",
        }
        for key, value in (header | tags(number)).items():
            image.SetMetaData(key, value)
        image.SetSpacing((0.4, 0.5, 1.5))
        image.SetOrigin(position.tolist())
        image.SetDirection(direction.ravel().tolist())
        writer.SetFileName(str(folder / f"{prefix}{(number * 3) % SIZE[2]}.dcm"))
        writer.Execute(image)
    return hounsfield


def reoriented(image: sitk.Image, axes: Sequence[int], flips: Sequence[bool]) -> sitk.Image:
    turned: sitk.Image = sitk.Flip(sitk.PermuteAxes(image, list(axes)), list(flips), False)
    return turned


def assert_same_grid(found: Grid, expected: Grid, atol: float = 1e-12) -> None:
    assert found.size == expected.size
    for name in ("spacing", "origin", "direction"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), atol=atol)
