"""What every reader of scans checks, and how it says what is wrong: after the name of the file."""

import math
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from landmarkflow.core.errors import InputError
from landmarkflow.core.grids import Grid

# Of a scan's voxels, unpacked. A small packed file can state far more than a machine's memory
# holds: 33 MB of zeros unpack to 34 GB.
LARGEST_BYTES = 8 << 30
# Of a NIfTI-1 header, with the four bytes that say whether extensions follow.
LEAST_OFFSET = 352
# What a compressed file may hold beyond its voxels.
SPARE_BYTES = 1 << 20
# DEFLATE packs no more than this into a byte.
_DEFLATE_RATIO = 1032
# What no scan of a body or a part of one has, mm: where it is stated, its unit is another one.
LARGEST_VOXEL, SMALLEST_VOXEL, LARGEST_SCAN = 50.0, 0.001, 5000.0
# By words without their last s.
_MILLIMETRES = {
    **dict.fromkeys(("mm", "millimeter", "millimetre"), 1.0),
    **dict.fromkeys(("cm", "centimeter", "centimetre"), 10.0),
    **dict.fromkeys(("m", "meter", "metre"), 1000.0),
    **dict.fromkeys(("um", "micron", "micrometer", "micrometre"), 0.001),
}
BYTES_PER_VOXEL = {
    **dict.fromkeys((sitk.sitkUInt8, sitk.sitkInt8), 1),
    **dict.fromkeys((sitk.sitkUInt16, sitk.sitkInt16), 2),
    **dict.fromkeys((sitk.sitkUInt32, sitk.sitkInt32, sitk.sitkFloat32), 4),
    **dict.fromkeys((sitk.sitkUInt64, sitk.sitkInt64, sitk.sitkFloat64), 8),
}


@dataclass(frozen=True, eq=False)
class Opened:
    """A scan whose header was checked: its grid, and what reads its voxels (almost) onto it."""

    grid: Grid
    read: Callable[[], sitk.Image]


def read_header(path: Path, image_io: str = "") -> sitk.ImageFileReader:
    """Returns ITK's reader after the header of a file whose voxels are one real number each."""
    reader = sitk.ImageFileReader()
    reader.SetImageIO(image_io)
    reader.SetFileName(str(path))
    with explained():
        reader.ReadImageInformation()
    count, kind = reader.GetNumberOfComponents(), reader.GetPixelID()
    if count != 1:
        raise InputError(f"has {count} values per voxel, expected one")
    if kind not in BYTES_PER_VOXEL:
        name = sitk.GetPixelIDValueAsString(kind)
        raise InputError(f"has voxels of the type {name}, expected real scalars")
    return reader


def stated(reader: sitk.ImageFileReader, key: str) -> str:
    """Returns what a header states under a key, nothing where it has none."""
    return str(reader.GetMetaData(key)) if reader.HasMetaDataKey(key) else ""


def check_size(size: Sequence[int], least: int = 2) -> None:
    """Refuses what is no 3D volume with as many voxels along each axis."""
    if len(size) != 3 or min(size) < least:
        expected = "a 3D volume with at least two along each axis"
        raise InputError(f"has {' x '.join(map(str, size))} voxels, expected {expected}")


def check_lengths(grid: Grid) -> None:
    """Refuses voxels and scans so large or small that their lengths are in another unit."""
    voxel, scan = grid.spacing, grid.spacing * grid.size
    if voxel.max() > LARGEST_VOXEL or voxel.min() < SMALLEST_VOXEL or scan.max() > LARGEST_SCAN:
        shown = [" x ".join(f"{value:.4g}" for value in row) for row in (voxel, scan)]
        raise InputError(
            f"states voxels of {shown[0]} mm, a scan of {shown[1]} mm; expected voxels of "
            f"{SMALLEST_VOXEL:g} to {LARGEST_VOXEL:g} mm and at most {LARGEST_SCAN:g} mm in all "
            "(is its unit another one?)"
        )


def millimetres_of(field: str, unit: str) -> float:
    """Returns the millimetres in a unit that a header states in words; refuses unknown ones."""
    # Headers are read as Latin-1, in which the micro sign of UTF-8 is two characters.
    name = re.sub("\u00c2?\u00b5|\u00ce\u00bc", "u", unit.strip()).lower()
    length = _MILLIMETRES.get(name) or _MILLIMETRES.get(name.removesuffix("s"))
    if length is None:
        raise InputError(f'has the {field} "{unit[:20]}", expected mm, cm, m or um')
    return length


def check_bytes(size: Sequence[int], bytes_per_voxel: float, largest: int) -> None:
    """Refuses, before anything is allocated, voxels of more bytes than `largest`."""
    stated = math.ceil(math.prod(size) * bytes_per_voxel)
    if stated > largest:
        found = f"states {' x '.join(map(str, size))} voxels of {stated} bytes in all"
        raise InputError(f"{found}, expected at most {largest} bytes")


def check_packed(packed: int, unpacked: int) -> None:
    """Refuses, before anything is allocated, so few compressed bytes that they cannot be all."""
    if unpacked > _DEFLATE_RATIO * packed:
        found = f"holds {packed} compressed bytes, which cannot be the {unpacked} bytes"
        raise InputError(f"{found} that its header states (truncated file)")


def check_unpacked(found: int, expected: int, *, whole: bool) -> None:
    """Refuses compressed voxels of too many unpacked bytes, or that are not whole."""
    if found > expected + SPARE_BYTES:
        wrong = f"of more than {expected + SPARE_BYTES} bytes, expected {expected}"
    elif not whole:
        wrong = f"that end after {found} bytes, expected {expected} (truncated file)"
    else:
        return
    raise InputError(f"holds compressed voxels {wrong}")


def check_finite(values: NDArray[Any]) -> tuple[float, float]:
    """Returns the extremes of finite values, in which NaN and infinity would always show."""
    lowest, highest = float(values.min()), float(values.max())
    if not (np.isfinite(lowest) and np.isfinite(highest)):
        count = int(np.count_nonzero(~np.isfinite(values)))
        raise InputError(f"{count} voxels hold NaN or infinity, expected finite values")
    return lowest, highest


def bare(image: sitk.Image) -> sitk.Image:
    """Returns a copy of an image without the metadata of its file.

    Writers would repeat intensity scaling, names and orientation codes that no longer hold.
    """
    copy: sitk.Image = sitk.Cast(image, image.GetPixelID())
    return copy


@contextmanager
def explained() -> Iterator[None]:
    """Turns what ITK raises about a file into one sentence, and keeps back its warnings."""
    shown = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        yield
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = re.sub(r"\(0x[0-9a-f]+\)|^sitk::ERROR: ", "", " ".join(lines[1:] or lines))
        raise InputError(f"cannot be read as an image ({reason})") from None
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(shown)
