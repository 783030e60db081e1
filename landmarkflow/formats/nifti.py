"""NIfTI-1 files: the header read by nibabel, the voxels unpacked once."""

import gzip
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from isal import igzip, isal_zlib
from nibabel.nifti1 import Nifti1Header
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from landmarkflow.core.errors import InputError
from landmarkflow.core.grids import CORNERS, Grid, is_orthonormal
from landmarkflow.formats.scan_checks import (
    LEAST_OFFSET,
    SPARE_BYTES,
    Opened,
    check_bytes,
    check_packed,
    check_size,
    check_unpacked,
)
from landmarkflow.images.operations import image_on

HEADER_BYTES = 348
# Notes of programs before the voxels; more is an error in the header.
LARGEST_OFFSET = 1 << 26
# By so much the squares of a quaternion in few digits may exceed 1.
ROUNDED_QUATERNION = np.float64(1e-4)
# Millimetres in the units of length that a header can state; an unstated one, 0, is taken for mm.
_UNITS = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}


@dataclass(frozen=True, eq=False)
class _Voxels:
    """What a header says of the voxels; `slope` and `shift` are 1 and 0 where it scales none."""

    # Bytes of the unpacked file before the first voxel.
    offset: int
    # Without axes of one voxel after the third.
    size: tuple[int, ...]
    bits: int
    # In the file's byte order; of no bytes where nibabel does not know it.
    type: np.dtype[Any]
    slope: float
    shift: float

    @property
    def end(self) -> int:
        """Bytes of the whole unpacked file."""
        return self.offset + int(np.prod(self.size, dtype=object)) * self.bits // 8


def open_nifti(path: Path, largest_bytes: int, *, least: int = 2) -> Opened:
    """Reads the header of a .nii or .nii.gz file, refusing what `read_volume` refuses.

    Both qform and sform may state the frame; where both do, they must agree within half a voxel
    and the sform, which is stated in more digits, is taken unless it is sheared. Voxels have the
    file's own type, or floats where the header scales them. `least` is how many there must be
    along each axis; 1 lets the one slice of a picture pass.
    """
    with _opened(path) as file:
        block = file.read(LEAST_OFFSET)
    if len(block) < LEAST_OFFSET:
        raise InputError(f"holds {len(block)} bytes, expected a NIfTI-1 file")
    header = Nifti1Header(block[:HEADER_BYTES], check=False)
    if (
        header["sizeof_hdr"] != HEADER_BYTES
        or not 1 <= header["dim"][0] <= 7
        or header["magic"].item() != b"n+1"
    ):
        raise InputError("does not start with a NIfTI-1 header, expected a NIfTI-1 file")
    voxels = _voxels(header)
    check_bytes(voxels.size, voxels.bits / 8, largest_bytes)
    found = path.stat().st_size
    if _is_packed(path):
        check_packed(found, voxels.end)
    elif found < voxels.end:
        raise InputError(f"holds {found} bytes, expected {voxels.end} (truncated file)")
    affine = _affine(header)
    if voxels.type.kind not in "iuf" or voxels.type.itemsize > 8:
        raise InputError(f"has voxels of the type {voxels.type}, expected real scalars")
    check_size(voxels.size, least)
    grid = _grid(header, affine)
    return Opened(grid, lambda: image_on(grid, _read(path, voxels)))


def _voxels(header: Nifti1Header) -> _Voxels:
    size = np.maximum(header["dim"][1 : int(header["dim"][0]) + 1], 1).tolist()
    while len(size) > 3 and size[-1] == 1:
        size.pop()
    try:
        voxel_type = header.get_data_dtype()
    except (HeaderDataError, KeyError):
        voxel_type = np.dtype("V")
    bits, offset = int(header["bitpix"]), float(header["vox_offset"])
    if (
        not LEAST_OFFSET <= offset <= LARGEST_OFFSET
        or bits < 1
        or (voxel_type.itemsize and bits != 8 * voxel_type.itemsize)
    ):
        raise InputError(
            f"has the vox_offset {offset:g}, datatype {header['datatype']} and bitpix "
            f"{bits}, expected a NIfTI-1 file"
        )
    try:
        slope, shift = header.get_slope_inter()
    except HeaderDataError as error:
        raise InputError(f"{error}, expected a finite number or scl_slope 0") from None
    return _Voxels(int(offset), tuple(size), bits, voxel_type, slope or 1.0, shift or 0.0)


def _read(path: Path, voxels: _Voxels) -> NDArray[Any]:
    """Returns the voxels in the order z, y, x, once the file was read to its end and checksum."""
    with _opened(path) as file:
        content = file.read(voxels.end)
        more = len(file.read(SPARE_BYTES + 1)) if _is_packed(path) else 0
    check_unpacked(len(content) + more, voxels.end, whole=len(content) == voxels.end)
    stored = np.frombuffer(content, voxels.type, offset=voxels.offset, count=np.prod(voxels.size))
    values = stored.astype(stored.dtype.newbyteorder("="), copy=False).reshape(voxels.size[::-1])
    if (voxels.slope, voxels.shift) == (1.0, 0.0):
        return values
    scaled = np.empty(values.shape, np.float64 if values.dtype == np.float64 else np.float32)
    # Slice by slice, since in between each number takes 8 bytes.
    for stated, real in zip(values, scaled, strict=True):
        real[:] = stated * np.float64(voxels.slope) + voxels.shift
    return scaled


def _is_packed(path: Path) -> bool:
    return path.name.lower().endswith(".gz")


@contextmanager
def _opened(path: Path) -> Iterator[io.BufferedIOBase]:
    """Opens a file, unpacked where it is packed, and says in a sentence why it cannot be read."""
    try:
        with igzip.open(path) if _is_packed(path) else path.open("rb") as file:
            yield cast(io.BufferedIOBase, file)
    except EOFError:
        found = "holds compressed voxels that end too early (truncated file)"
    except (gzip.BadGzipFile, isal_zlib.error) as error:  # type: ignore[misc] # stubs: an instance
        found = f"holds corrupt compressed voxels ({error})"
    except OSError as error:
        found = f"cannot be read ({error}), expected a whole NIfTI-1 file"
    else:
        return
    raise InputError(found)


def _affine(header: Nifti1Header) -> NDArray[np.float64]:
    """Returns the one (3, 4) map of voxel indices to RAS that a header states, in its unit."""
    qform_code, sform_code = int(header["qform_code"]), int(header["sform_code"])
    if qform_code <= 0 and sform_code <= 0:
        raise InputError(
            f"has qform_code {qform_code} and sform_code {sform_code}, so it does not "
            "state its frame; expected at least one above 0"
        )
    spacing = np.abs(header["pixdim"][1:4].astype(np.float64))
    if not (np.isfinite(spacing) & (spacing > 0)).all():
        found = " x ".join(f"{value:.4g}" for value in spacing)
        raise InputError(f"has voxels of {found} in its pixdim, expected three positive sizes")
    size = header["dim"][1:4].astype(np.int64)
    sform = header.get_sform()[:3]
    steps = np.linalg.norm(sform[:, :3], axis=0)
    # The spacing that is taken is that of pixdim.
    if sform_code > 0 and not (np.abs(steps - spacing) * (size - 1)).max() <= 0.5 * spacing.min():
        shown = [" x ".join(f"{value:.4g}" for value in row) for row in (steps, spacing)]
        raise InputError(
            f"states two sizes of a voxel, {shown[0]} in its sform and {shown[1]} in its pixdim; "
            "expected them to agree"
        )
    if qform_code <= 0:
        return np.asarray(sform)
    qform = _qform(header)
    if sform_code <= 0:
        return qform
    corners = np.column_stack([CORNERS * (size - 1), np.ones(8)])
    apart = np.linalg.norm(corners @ (sform - qform).T, axis=1).max()
    # Half a voxel: a quaternion in float32 can be off by 3e-4 radians near half turns.
    if not apart <= 0.5 * spacing.min():
        raise InputError(
            f"states two frames, its qform and sform place a corner {apart:.3g} mm apart; "
            "expected them to agree or one of their codes to be 0"
        )
    return np.asarray(sform if is_orthonormal(sform[:, :3] / steps) else qform)


def _qform(header: Nifti1Header) -> NDArray[np.float64]:
    header.quaternion_threshold = ROUNDED_QUATERNION
    # In older files it is 0, which means 1.
    header["pixdim"][0] = -1 if header["pixdim"][0] < 0 else 1
    try:
        return np.asarray(header.get_qform()[:3])
    except (HeaderDataError, ValueError) as error:
        raise InputError(f"has no usable qform ({error}), expected a rotation") from None


def _grid(header: Nifti1Header, affine: NDArray[np.float64]) -> Grid:
    """Returns the grid of an affine of RAS in LPS mm: x and y change their signs."""
    x, y, z = (int(count) for count in header["dim"][1:4])
    code = int(header["xyzt_units"]) & 7
    if (unit := _UNITS.get(code)) is None:
        raise InputError(f"states the unit of length {code}, expected 0, 1 (m), 2 (mm) or 3 (um)")
    lps = np.diag([-1.0, -1.0, 1.0]) @ affine + 0.0
    steps = np.linalg.norm(lps[:, :3], axis=0)
    spacing = np.abs(header["pixdim"][1:4].astype(np.float64)) * unit
    with np.errstate(all="ignore"):
        return Grid((x, y, z), spacing, lps[:, 3] * unit, lps[:, :3] / steps)
