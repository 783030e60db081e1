"""What every reader of scans checks, and how it says what is wrong."""

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
# What a compressed file may hold beyond its voxels.
SPARE_BYTES = 1 << 20
# DEFLATE packs no more than this into a byte.
_DEFLATE_RATIO = 1032
BYTES_PER_VOXEL = {
    sitk.sitkUInt8: 1,
    sitk.sitkInt8: 1,
    sitk.sitkUInt16: 2,
    sitk.sitkInt16: 2,
    sitk.sitkUInt32: 4,
    sitk.sitkInt32: 4,
    sitk.sitkUInt64: 8,
    sitk.sitkInt64: 8,
    sitk.sitkFloat32: 4,
    sitk.sitkFloat64: 8,
}


@dataclass(frozen=True, eq=False)
class Opened:
    """A scan whose header was read and checked.

    Attributes:
        grid: Where its voxels lie.
        read: Reads the voxels as an image, whose place may differ from `grid` by rounding.
    """

    grid: Grid
    read: Callable[[], sitk.Image]


def check_pixels(path: Path, reader: sitk.ImageFileReader) -> None:
    """Refuses voxels that are not one real number each."""
    if reader.GetNumberOfComponents() != 1:
        raise InputError(
            f"{path}: has {reader.GetNumberOfComponents()} values per voxel, expected one"
        )
    if reader.GetPixelID() not in BYTES_PER_VOXEL:
        kind = sitk.GetPixelIDValueAsString(reader.GetPixelID())
        raise InputError(f"{path}: has voxels of the type {kind}, expected real scalars")


def check_size(path: Path, size: Sequence[int], least: int = 2) -> None:
    """Refuses what is no 3D volume with as many voxels along each axis."""
    if len(size) != 3 or min(size) < least:
        raise InputError(
            f"{path}: has {' x '.join(map(str, size))} voxels, expected a 3D volume with at "
            "least two along each axis"
        )


def check_bytes(path: Path, size: Sequence[int], bytes_per_voxel: float, largest: int) -> None:
    """Refuses, before anything is allocated, voxels of more bytes than `largest`."""
    stated = math.ceil(math.prod(size) * bytes_per_voxel)
    if stated > largest:
        raise InputError(
            f"{path}: states {' x '.join(map(str, size))} voxels of {stated} bytes in all, "
            f"expected at most {largest} bytes"
        )


def check_packed(path: Path, packed: int, unpacked: int) -> None:
    """Refuses, before anything is allocated, so few compressed bytes that they cannot be all."""
    if unpacked > _DEFLATE_RATIO * packed:
        raise InputError(
            f"{path}: holds {packed} compressed bytes, which cannot be the {unpacked} bytes that "
            "its header states (truncated file)"
        )


def check_finite(path: Path, values: NDArray[Any]) -> tuple[float, float]:
    """Returns the extremes of finite values, in which NaN and infinity would always show."""
    lowest, highest = float(values.min()), float(values.max())
    if not (np.isfinite(lowest) and np.isfinite(highest)):
        count = int(np.count_nonzero(~np.isfinite(values)))
        raise InputError(f"{path}: {count} voxels hold NaN or infinity, expected finite values")
    return lowest, highest


def bare(image: sitk.Image) -> sitk.Image:
    """Returns a copy of an image without the metadata of its file.

    Writers would repeat intensity scaling, names and orientation codes that no longer hold.
    """
    copy: sitk.Image = sitk.Cast(image, image.GetPixelID())
    return copy


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turns what ITK raises about a file, and what `Grid` refuses, into one sentence."""
    try:
        yield
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = re.sub(r"\(0x[0-9a-f]+\)|^sitk::ERROR: ", "", " ".join(lines[1:] or lines))
        raise InputError(f"{path}: cannot be read as an image ({reason})") from None
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps ITK from warning on stderr about what is checked here."""
    shown = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(shown)
