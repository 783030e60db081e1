"""Scans and segmentations: read with every check, placed on grids, written whole.

Images are SimpleITK images, whose physical space is LPS millimetres. Arrays are in the order
z, y, x; everything else is in the order x, y, z.
"""

import errno
import gzip
import math
import re
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import SimpleITK as sitk
from isal import igzip, isal_zlib
from numpy.typing import NDArray
from scipy import ndimage

from landmarkflow.core.errors import InputError
from landmarkflow.core.files import replacing
from landmarkflow.core.grids import Grid
from landmarkflow.images.transforms import matrix_and_offset

READABLE = "NIfTI (.nii, .nii.gz), NRRD (.nrrd, .nhdr), MetaImage (.mha, .mhd) or a DICOM folder"
WRITABLE = (".nii", ".nii.gz", ".nrrd", ".mha")
SAME_GRID_TOLERANCE = 1e-3
TILT_TOLERANCE = 1e-3
# The part of a slice step by which a slice may lie beside its place in an even row of slices:
# scanners round positions, and a missing slice moves its neighbours by half a step or more.
UNEVEN_TOLERANCE = 0.05
SMOOTHING_RATIO = 1.5
# Where a Gaussian is cut off, in standard deviations.
GAUSSIAN_REACH = 3.0
CHUNK_BYTES = 1 << 16
# What a header may ask for before anything is allocated: 1625 voxels along each axis.
LARGEST_VOXELS = 1 << 32
LARGEST_HEADER_BYTES = 1 << 20
# DEFLATE packs no more than this into a byte.
DEFLATE_RATIO = 1032
# What a compressed stream may hold beyond its voxels.
SPARE_BYTES = 1 << 20
# What ITK writes before the voxels.
_NIFTI_HEADER_BYTES = 352
# Of isal's 0 to 3: as small as what ITK writes, in a fifth of the time.
_PACKING = 2

# By the header's code of the datatype. Colours and complex numbers are ITK's to read and refuse.
_NIFTI_TYPES = {
    2: "u1",
    4: "i2",
    8: "i4",
    16: "f4",
    64: "f8",
    256: "i1",
    512: "u2",
    768: "u4",
    1024: "i8",
    1280: "u8",
}
_INTERPOLATORS = {
    "linear": sitk.sitkLinear,
    "nearest": sitk.sitkNearestNeighbor,
    "bspline": sitk.sitkBSpline,
}
_BYTES_PER_VOXEL = {
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


def read_volume(path: Path) -> sitk.Image:
    """Reads a scan.

    Args:
        path: A NIfTI, NRRD or MetaImage file, or a folder that holds one DICOM series.

    Returns:
        A 3D scalar image in the file's own pixel type (DICOM: rescaled to Hounsfield units),
        LPS mm, without the file's metadata.

    Raises:
        InputError: The file is missing, unreadable, truncated or corrupt; does not state its
            frame; is not a 3D volume of real scalars with two or more voxels along each axis;
            has sheared axes; holds NaN or infinity; or has the same value everywhere. A DICOM
            folder holds no series or several, or its slices are missing, uneven or tilted.
    """
    image = _read(Path(path))
    lowest, highest = _finite_range(image, Path(path))
    if lowest == highest:
        raise InputError(f"{path}: every voxel holds {lowest:g}, expected a scan with contrast")
    return image


def read_written(path: Path) -> sitk.Image:
    """Reads a volume that `write_volume` wrote, without the checks that others' files need.

    Raises:
        InputError: The file is missing or is no volume.
    """
    with _explained(Path(path)):
        image: sitk.Image = sitk.ReadImage(str(path))
    # What the file says beyond its grid is left behind.
    for key in image.GetMetaDataKeys():
        image.EraseMetaData(key)
    return image


def read_grid(path: Path) -> Grid:
    """Reads where a scan's voxels lie, from its header alone.

    Args:
        path: As in `read_volume`.

    Returns:
        The grid that `grid_of(read_volume(path))` has.

    Raises:
        InputError: The header is one that `read_volume` refuses.
    """
    path = Path(path)
    if _is_folder(path):
        return _dicom_series(path).grid
    return _header(path).grid


def grid_of(image: sitk.Image) -> Grid:
    """Returns where the voxels of a 3D image lie."""
    x, y, z = image.GetSize()
    return Grid(
        (x, y, z),
        np.array(image.GetSpacing()),
        np.array(image.GetOrigin()),
        np.array(image.GetDirection()).reshape(3, 3),
    )


def image_on(grid: Grid, array: NDArray[Any]) -> sitk.Image:
    """Returns an image of a copy of `array`, in its order z, y, x, on `grid`.

    Raises:
        ValueError: The array does not have the grid's size.
    """
    if array.shape != grid.size[::-1]:
        raise ValueError(f"the array is {array.shape}, expected {grid.size[::-1]} (z, y, x)")
    stored = array.astype(np.uint8) if array.dtype == np.bool_ else array
    image = sitk.GetImageFromArray(stored)
    _place(image, grid)
    return image


def array_of(image: sitk.Image) -> NDArray[Any]:
    """Returns a copy of an image's voxels in the order z, y, x."""
    return np.asarray(sitk.GetArrayFromImage(image))


def write_volume(image: sitk.Image, path: Path) -> None:
    """Writes an image as NIfTI, NRRD or MetaImage in one file, replacing `path` as a whole.

    NIfTI states the frame in float32 and is compressed when `path` ends with ".gz"; NRRD and
    MetaImage state it in full and are not compressed.

    Raises:
        InputError: The suffix of `path` is not .nii, .nii.gz, .nrrd or .mha.
        OSError: The file was not written whole, as where the disk is full.
    """
    path = Path(path)
    suffix = path.name.lower()
    if not suffix.endswith(WRITABLE):
        raise InputError(f"{path}: cannot be written, expected a name with {', '.join(WRITABLE)}")
    with replacing(path) as temporary:
        if suffix.endswith(".gz"):
            _write_packed(image, temporary)
        else:
            _write_plain(image, temporary)


def write_transform(transform: sitk.Transform, path: Path) -> None:
    """Writes a transform in ITK's format, replacing `path` as a whole.

    Raises:
        OSError: The file was not written whole, as where the disk is full.
    """
    with replacing(path) as temporary:
        sitk.WriteTransform(transform, str(temporary))
        # A full disk cuts the file short without a word.
        if _parameters(temporary) != transform.GetParameters():
            raise _cut_short(path)


def resample(
    image: sitk.Image,
    grid: Grid,
    interpolation: Literal["linear", "nearest", "bspline"] = "linear",
    outside: float = 0.0,
) -> sitk.Image:
    """Samples an image at the voxel centres of `grid`.

    With "linear", an axis along which the grid is coarser than 1.5 times the image is first
    smoothed against aliasing with a Gaussian of
    sigma = 0.5 sqrt(target spacing^2 - source spacing^2) mm, where the target spacing along a
    source axis d is sqrt(sum_k (d . t_k spacing_k)^2) over the grid's axes t_k.

    Args:
        image: A 3D scalar image.
        grid: Where to sample, LPS mm.
        interpolation: How to sample between voxels; "nearest" keeps labels.
        outside: The value beyond the image's voxels.

    Returns:
        The samples: float32, or the image's own type with "nearest".
    """
    if interpolation == "linear":
        image = _smoothed_for(image, grid)
    pixel_type = image.GetPixelID() if interpolation == "nearest" else sitk.sitkFloat32
    return sitk.Resample(
        image,
        grid.size,
        sitk.Transform(3, sitk.sitkIdentity),
        _INTERPOLATORS[interpolation],
        grid.origin.tolist(),
        grid.spacing.tolist(),
        grid.direction.ravel().tolist(),
        float(outside),
        pixel_type,
    )


def shrunk(image: sitk.Image, spacing: float) -> sitk.Image:
    """Averages blocks of voxels so that the spacing comes close to `spacing`.

    Each axis is divided by the whole number nearest to the ratio of the spacings, at least 1. The
    result keeps the image's frame; voxels that fill no whole block at the far ends are left out.

    Args:
        image: A 3D scalar image.
        spacing: mm.

    Returns:
        float32 means, or the image as float32 where it is not finer than 1.5 times `spacing`.
    """
    factors = [
        min(max(1, round(spacing / step)), count)
        for step, count in zip(image.GetSpacing(), image.GetSize(), strict=True)
    ]
    # A cast to the type that it is would be a copy.
    exact = image if image.GetPixelID() == sitk.sitkFloat32 else sitk.Cast(image, sitk.sitkFloat32)
    means: sitk.Image = sitk.BinShrink(exact, factors)
    return means


def smoothed(image: sitk.Image, sigma_mm: float | NDArray[np.float64]) -> sitk.Image:
    """Returns an image as float32 under a Gaussian; beyond its ends the outermost voxels go on.

    Args:
        image: A 3D scalar image.
        sigma_mm: Standard deviation, one for all or (3,), one for each of the image's axes.
    """
    sigma = (np.broadcast_to(sigma_mm, 3) / image.GetSpacing())[::-1]
    values = sitk.GetArrayViewFromImage(image).astype(np.float32)
    return image_on(grid_of(image), under_gaussian(values, sigma))


def under_gaussian(
    values: NDArray[np.float32], sigma: Sequence[float] | NDArray[np.float64]
) -> NDArray[np.float32]:
    """Returns an array under a Gaussian; beyond its ends the outermost values go on.

    Args:
        values: Of any number of axes.
        sigma: Standard deviation along each axis, in steps of that axis; 0 leaves it as it is.
    """
    # Three times as fast as ITK's recursive Gaussian where sigma is a voxel or two.
    return np.asarray(
        ndimage.gaussian_filter(values, sigma, mode="nearest", truncate=GAUSSIAN_REACH)
    )


def carried(image: sitk.Image, transform: sitk.Transform) -> sitk.Image:
    """Returns an image moved by the inverse of a rigid transform, by its header alone.

    What lies at transform(p) in the image lies at p in the result. A reflection in the transform
    turns the handedness of the voxel axes over.

    Args:
        image: A 3D image.
        transform: Rotation or rotary reflection with translation, LPS mm.

    Raises:
        InputError: The transform is not rigid.
    """
    grid = grid_of(image)
    linear, origin = matrix_and_offset(transform.GetInverse())
    result = sitk.Image(image)
    placed = Grid(grid.size, grid.spacing, origin + linear @ grid.origin, linear @ grid.direction)
    _place(result, placed)
    return result


def dilated(mask: sitk.Image, margin_mm: float) -> sitk.Image:
    """Returns a 0/1 mask grown by a margin, mm, on its own grid."""
    grown: sitk.Image = sitk.Cast(mask > 0, sitk.sitkUInt8)
    inside = points_inside(grown)
    if not len(inside):
        return grown
    # Distances are taken no further than they matter.
    part = cropped(grown, inside, margin_mm + 1e-6)
    distance = sitk.SignedMaurerDistanceMap(
        part, insideIsPositive=False, squaredDistance=False, useImageSpacing=True
    )
    near = sitk.Cast(distance <= margin_mm, sitk.sitkUInt8)
    first = mask.TransformPhysicalPointToIndex(part.GetOrigin())
    pasted: sitk.Image = sitk.Paste(grown, near, near.GetSize(), destinationIndex=first)
    return pasted


def mask_around_target(
    crop: sitk.Image, image: Path, segmentation: Path, labels: Sequence[int], margin_mm: float
) -> sitk.Image:
    """Returns the target and a margin around it, as a mask on a crop's grid.

    Args:
        crop: A part of the template, on any grid.
        image: The template's scan, on whose grid the segmentation must be.
        segmentation: File of the template's segmentation.
        labels: Of the segmentation that are the target; none is all.
        margin_mm: How far beyond the target the mask reaches.

    Raises:
        InputError: The segmentation is unusable.
    """
    target = read_segmentation(segmentation, read_grid(image), labels)
    return dilated(resample(target, grid_of(crop), "nearest"), margin_mm)


def points_inside(mask: sitk.Image) -> NDArray[np.float64]:
    """Returns (n, 3) LPS mm, the centres of a mask's voxels that are not zero, x fastest."""
    index = np.argwhere(array_of(mask) > 0)[:, ::-1]
    return grid_of(mask).to_physical(index.astype(np.float64))


def cropped(image: sitk.Image, points: NDArray[np.float64], margin_mm: float) -> sitk.Image:
    """Cuts out the voxels in the bounding box of (n, 3) points, LPS mm, and a margin around it.

    Raises:
        InputError: No voxel lies there.
    """
    grid = grid_of(image)
    index = grid.to_index(points)
    margin = margin_mm / grid.spacing
    first = np.maximum(np.floor(index.min(axis=0) - margin), 0).astype(int)
    last = np.minimum(np.ceil(index.max(axis=0) + margin) + 1, grid.size).astype(int)
    if (last <= first).any():
        raise InputError(
            f"the points lie outside the image, expected some within {grid.extent_text()}"
        )
    part: sitk.Image = sitk.RegionOfInterest(image, (last - first).tolist(), first.tolist())
    return part


def mirrored(image: sitk.Image) -> sitk.Image:
    """Returns the same anatomy mirrored in the plane x = 0, without resampling.

    What lies at (x, y, z) in the image lies at (-x, y, z) in the result. With
    M = diag(-1, 1, 1), mirroring alone would give the axes M D and turn their handedness over;
    the first voxel axis is therefore reversed (F = M): D' = M D F and
    origin' = M (origin + D[:, 0] * spacing[0] * (size[0] - 1)). The axes keep their handedness.
    """
    mirror = np.diag([-1.0, 1.0, 1.0])
    grid = grid_of(image)
    last = grid.to_physical([[grid.size[0] - 1, 0, 0]])[0]
    result = sitk.GetImageFromArray(np.ascontiguousarray(_view(image)[:, :, ::-1]))
    _place(
        result,
        Grid(grid.size, grid.spacing, mirror @ last, mirror @ grid.direction @ mirror),
    )
    return result


def read_segmentation(path: Path, scan_grid: Grid, labels: Sequence[int] = ()) -> sitk.Image:
    """Reads a segmentation as a mask on the grid of its scan.

    Args:
        path: As in `read_volume`; voxels hold whole numbers, 0 is background.
        scan_grid: The grid of the scan that was segmented.
        labels: The values that make up the mask; every value but 0 when empty.

    Returns:
        A uint8 image, 1 inside the mask and 0 outside.

    Raises:
        InputError: The file is one that `read_volume` refuses for another reason than a constant
            value, does not lie on the scan's grid within 1e-3 (mm), holds fractions, or has no
            voxel with one of the labels.
    """
    path = Path(path)
    image = _read(path)
    _finite_range(image, path)
    _check_same_grid(path, grid_of(image), scan_grid)
    values = _view(image)
    if values.dtype.kind == "f" and not np.array_equal(values, np.round(values)):
        raise InputError(f"{path}: holds fractions, expected a segmentation of whole labels")
    mask = np.isin(values, list(labels)) if labels else values != 0
    if not mask.any():
        found = ", ".join(f"{value:g}" for value in np.unique(values)[:20])
        wanted = f"one of the labels {', '.join(map(str, labels))}" if labels else "a label"
        raise InputError(f"{path}: no voxel has {wanted}; the values found are {found}")
    return image_on(scan_grid, mask)


@dataclass(frozen=True)
class _Stream:
    """Bytes that ITK does not check: where they lie and how many they must unpack to."""

    file: Path
    offset: int
    packed_bytes: int
    unpacked_bytes: int
    compressed: bool = True
    # Of NIfTI: the type of the voxels, where they start, and whether ITK would scale them.
    voxel_type: str | None = None
    first_voxel: int = 0
    scaled: bool = False


@dataclass(frozen=True, eq=False)
class _TextHeader:
    """The fields of an NRRD or MetaImage header, keys in lower case, and its bytes."""

    fields: dict[str, str]
    length: int


@dataclass(frozen=True, eq=False)
class _Header:
    reader: sitk.ImageFileReader
    grid: Grid
    stream: _Stream | None


@dataclass(frozen=True, eq=False)
class _Series:
    files: tuple[str, ...]
    grid: Grid


def _read(path: Path) -> sitk.Image:
    if _is_folder(path):
        series = _dicom_series(path)
        with _quiet(), _explained(path):
            image = sitk.ReadImage(series.files, imageIO="GDCMImageIO")
        grid = series.grid
    else:
        header = _header(path)
        grid = header.grid
        if header.stream is not None:
            content = _checked_content(path, header.stream)
            if header.stream.compressed and header.stream.voxel_type and not header.stream.scaled:
                # What was unpacked for the check need not be unpacked again.
                return _image_of(content, header.stream, grid)
        with _quiet(), _explained(path):
            image = header.reader.Execute()
    if image.GetSize() != grid.size:
        raise InputError(f"{path}: holds {image.GetSize()} voxels, expected {grid.size}")
    # The copy leaves the metadata behind: writers would repeat intensity scaling, names and
    # orientation codes that no longer hold.
    bare: sitk.Image = sitk.Cast(image, image.GetPixelID())
    _place(bare, grid)
    return bare


def _image_of(content: bytes, stream: _Stream, grid: Grid) -> sitk.Image:
    values = np.frombuffer(content, stream.voxel_type, math.prod(grid.size), stream.first_voxel)
    native = values.astype(values.dtype.newbyteorder("="), copy=False)
    return image_on(grid, native.reshape(grid.size[::-1]))


def _is_folder(path: Path) -> bool:
    try:
        if path.is_dir():
            return True
        if path.is_file():
            with path.open("rb"):  # What may not be read is told here.
                return False
        found = "no such file or folder"
        if path.exists():
            found = "cannot be read (no regular file)"
    except OSError as error:
        found = f"cannot be read ({error.strerror})"
    raise InputError(f"{path}: {found}, expected a scan as {READABLE}")


def _place(image: sitk.Image, grid: Grid) -> None:
    image.SetSpacing(grid.spacing.tolist())
    image.SetOrigin(grid.origin.tolist())
    image.SetDirection(grid.direction.ravel().tolist())


def _view(image: sitk.Image) -> NDArray[Any]:
    return np.asarray(sitk.GetArrayViewFromImage(image))


def _finite_range(image: sitk.Image, path: Path) -> tuple[float, float]:
    return _check_finite(path, _view(image))


def _check_finite(path: Path, values: NDArray[Any]) -> tuple[float, float]:
    """Returns the extremes of finite values, in which NaN and infinity would always show."""
    lowest, highest = float(values.min()), float(values.max())
    if not (np.isfinite(lowest) and np.isfinite(highest)):
        count = int(np.count_nonzero(~np.isfinite(values)))
        raise InputError(f"{path}: {count} voxels hold NaN or infinity, expected finite values")
    return lowest, highest


def _check_same_grid(path: Path, found: Grid, expected: Grid) -> None:
    if found.size != expected.size:
        raise InputError(
            f"{path}: has {found.size} voxels, expected the {expected.size} of its scan"
        )
    for name in ("origin", "spacing", "direction"):
        here, there = getattr(found, name), getattr(expected, name)
        if np.abs(here - there).max() > SAME_GRID_TOLERANCE:
            raise InputError(
                f"{path}: has the {name} {np.round(here, 4).tolist()}, expected its scan's "
                f"{np.round(there, 4).tolist()} within {SAME_GRID_TOLERANCE:g}"
            )


def _smoothed_for(image: sitk.Image, grid: Grid) -> sitk.Image:
    source = grid_of(image)
    # Row i, column k: how far one step along the grid's axis k goes along the image's axis i.
    steps = (source.direction.T @ grid.direction) * grid.spacing
    target_spacing = np.linalg.norm(steps, axis=1)
    coarser = target_spacing > SMOOTHING_RATIO * source.spacing
    if not coarser.any():
        return image
    variance = 0.25 * (target_spacing**2 - source.spacing**2)
    return smoothed(image, np.sqrt(np.where(coarser, variance, 0.0)))


def _header(path: Path) -> _Header:
    suffix = _suffix(path)
    text = _text_header(path, suffix) if suffix not in (".nii", ".nii.gz") else None
    stream = _nifti_stream(path) if text is None else None
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        with _quiet(), _explained(path):
            reader.ReadImageInformation()
    except InputError:
        if stream is not None:
            # ITK finds no reader for a broken stream, which has a better reason to be told.
            _checked_content(path, stream)
        raise
    _check_pixels(path, reader)
    x, y, z = _check_size(path, reader.GetSize())
    if text is not None and suffix in (".nrrd", ".nhdr"):
        _check_nrrd_space(path, reader)
        stream = _nrrd_stream(path, text, _voxel_bytes(reader))
    elif text is not None:
        stream = _meta_image_stream(path, text, _voxel_bytes(reader))
    spacing, origin = np.array(reader.GetSpacing()), np.array(reader.GetOrigin())
    direction = np.array(reader.GetDirection()).reshape(3, 3)
    with _explained(path):
        return _Header(reader, Grid((x, y, z), spacing, origin, direction), stream)


def _write_packed(image: sitk.Image, path: Path) -> None:
    plain = path.with_suffix("")
    try:
        _write_plain(image, plain)
        path.write_bytes(igzip.compress(plain.read_bytes(), _PACKING, mtime=0))
    finally:
        plain.unlink(missing_ok=True)


def _write_plain(image: sitk.Image, path: Path) -> None:
    sitk.WriteImage(image, str(path), useCompression=False)
    voxels = int(np.prod(image.GetSize())) * _BYTES_PER_VOXEL[image.GetPixelID()]
    # Of a disk that is full ITK says nothing.
    if path.suffix.lower() == ".nii" and path.stat().st_size != _NIFTI_HEADER_BYTES + voxels:
        raise _cut_short(path)


def _parameters(path: Path) -> tuple[float, ...] | None:
    """Parameters of a transform's file; None where its text ends too early to be one."""
    if not path.read_bytes().endswith(b"\n"):
        return None
    try:
        parameters: tuple[float, ...] = sitk.ReadTransform(str(path)).GetParameters()
    except RuntimeError:
        return None
    return parameters


def _cut_short(path: Path) -> OSError:
    return OSError(errno.ENOSPC, "was not written whole, the disk may be full", str(path))


def _suffix(path: Path) -> str:
    name = path.name.lower()
    for suffix in (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd"):
        if name.endswith(suffix):
            return suffix
    raise InputError(f'{path}: has the suffix "{path.suffix}", expected {READABLE}')


def _check_pixels(path: Path, reader: sitk.ImageFileReader) -> None:
    if reader.GetNumberOfComponents() != 1:
        raise InputError(
            f"{path}: has {reader.GetNumberOfComponents()} values per voxel, expected one"
        )
    if reader.GetPixelID() not in _BYTES_PER_VOXEL:
        kind = sitk.GetPixelIDValueAsString(reader.GetPixelID())
        raise InputError(f"{path}: has voxels of the type {kind}, expected real scalars")


def _check_size(path: Path, size: Sequence[int]) -> Sequence[int]:
    if len(size) != 3 or min(size) < 2:
        raise InputError(
            f"{path}: has {' x '.join(map(str, size))} voxels, expected a 3D volume with at "
            "least two along each axis"
        )
    _check_count(path, size)
    return size


def _check_count(path: Path, size: Sequence[int]) -> None:
    """Refuses a header that asks for more memory than any scan needs."""
    if math.prod(size) > LARGEST_VOXELS:
        raise InputError(
            f"{path}: states {' x '.join(map(str, size))} voxels, expected at most "
            f"{LARGEST_VOXELS} in all"
        )


@contextmanager
def _explained(path: Path) -> Iterator[None]:
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
def _quiet() -> Iterator[None]:
    """Keeps ITK from warning on stderr about what is checked here."""
    shown = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(shown)


def _voxel_bytes(reader: sitk.ImageFileReader) -> int:
    voxels: int = math.prod(reader.GetSize())
    return voxels * _BYTES_PER_VOXEL[reader.GetPixelID()]


def _checked_content(path: Path, stream: _Stream) -> bytes:
    """Returns the unpacked bytes; refuses what ITK reads without an error: broken streams, NaN."""
    if stream.compressed and stream.unpacked_bytes > DEFLATE_RATIO * stream.packed_bytes:
        raise InputError(
            f"{path}: holds {stream.packed_bytes} compressed bytes, which cannot be the "
            f"{stream.unpacked_bytes} bytes that its header states (truncated file)"
        )
    content = b"".join(_unpacked(path, stream) if stream.compressed else _plain(stream))
    if stream.voxel_type is not None and np.dtype(stream.voxel_type).kind == "f":
        # ITK would turn NaN and infinity into 0.
        values = content[stream.first_voxel : stream.unpacked_bytes]
        _check_finite(path, np.frombuffer(values, stream.voxel_type))
    return content


def _plain(stream: _Stream) -> Iterator[bytes]:
    with stream.file.open("rb") as file:
        file.seek(stream.offset)
        yield file.read(stream.packed_bytes)


def _unpacked(path: Path, stream: _Stream) -> Iterator[bytes]:
    """Yields the bytes of a zlib or gzip stream, checked to its end and its checksum."""
    unpacker = isal_zlib.decompressobj(wbits=47)
    unpacked = 0
    try:
        with stream.file.open("rb") as file:
            file.seek(stream.offset)
            left = stream.packed_bytes
            while chunk := file.read(min(CHUNK_BYTES, left)):
                left -= len(chunk)
                while chunk and not (unpacker.eof and unpacked >= stream.unpacked_bytes):
                    if unpacker.eof:
                        unpacker = isal_zlib.decompressobj(wbits=47)
                    piece = unpacker.decompress(chunk)
                    unpacked += len(piece)
                    if unpacked > stream.unpacked_bytes + SPARE_BYTES:
                        raise InputError(
                            f"{path}: holds compressed voxels of more than "
                            f"{stream.unpacked_bytes + SPARE_BYTES} bytes, expected "
                            f"{stream.unpacked_bytes}"
                        )
                    yield piece
                    chunk = unpacker.unused_data
    # isal's stubs declare an instance.
    except isal_zlib.error as error:  # type: ignore[misc]
        raise InputError(f"{path}: holds corrupt compressed voxels ({error})") from None
    if not unpacker.eof or unpacked < stream.unpacked_bytes:
        raise InputError(
            f"{path}: holds compressed voxels that end after {unpacked} bytes, expected "
            f"{stream.unpacked_bytes} (truncated file)"
        )


def _nifti_stream(path: Path) -> _Stream:
    """Checks a NIfTI-1 header and returns what is left to check in the file's bytes."""
    header = _nifti_bytes(path)
    order = "<" if struct.unpack_from("<i", header)[0] == 348 else ">"
    (header_size,) = struct.unpack_from(order + "i", header)
    dimensions = struct.unpack_from(order + "8h", header, 40)
    if header_size != 348 or not 1 <= dimensions[0] <= 7 or header[344:347] != b"n+1":
        raise InputError(f"{path}: does not start with a NIfTI-1 header, expected a NIfTI-1 file")
    _check_nifti_frame(path, header, order)
    size = [max(count, 1) for count in dimensions[1 : dimensions[0] + 1]]
    _check_count(path, size)
    voxels = math.prod(size)
    data_type, bits = struct.unpack_from(order + "2h", header, 70)
    voxel_type = _NIFTI_TYPES.get(data_type)
    (vox_offset,) = struct.unpack_from(order + "f", header, 108)
    if (
        not len(header) <= vox_offset < np.inf
        or bits < 1
        or (voxel_type and bits != 8 * np.dtype(voxel_type).itemsize)
    ):
        raise InputError(
            f"{path}: has the vox_offset {vox_offset:g}, datatype {data_type} and bitpix {bits}, "
            "expected a NIfTI-1 file"
        )
    offset = int(vox_offset)
    expected = offset + voxels * bits // 8
    found = path.stat().st_size
    compressed = _suffix(path) == ".nii.gz"
    if not compressed and found < expected:
        raise InputError(f"{path}: holds {found} bytes, expected {expected} (truncated file)")
    slope, shift = struct.unpack_from(order + "2f", header, 112)
    return _Stream(
        path,
        0,
        found,
        expected,
        compressed,
        voxel_type and order + voxel_type,
        offset,
        scaled=slope not in (0, 1) or shift != 0,
    )


def _nifti_bytes(path: Path) -> bytes:
    try:
        with gzip.open(path) if _suffix(path) == ".nii.gz" else path.open("rb") as file:
            header = bytes(file.read(352))
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(
            f"{path}: cannot be read ({error}), expected a whole NIfTI-1 file"
        ) from None
    if len(header) < 352:
        raise InputError(f"{path}: holds {len(header)} bytes, expected a NIfTI-1 file")
    return header


def _check_nifti_frame(path: Path, header: bytes, order: str) -> None:
    """Refuses a file that states no frame or, in qform and sform, two different ones."""
    qform_code, sform_code = struct.unpack_from(order + "2h", header, 252)
    if qform_code <= 0 and sform_code <= 0:
        raise InputError(
            f"{path}: has qform_code {qform_code} and sform_code {sform_code}, so it does not "
            "state its frame; expected at least one above 0"
        )
    if sform_code <= 0:
        return
    dimensions = np.array(struct.unpack_from(order + "8h", header, 40))
    pixdim = np.array(struct.unpack_from(order + "8f", header, 76))
    sform = np.array(struct.unpack_from(order + "12f", header, 280)).reshape(3, 4)
    _check_nifti_spacing(path, sform, pixdim[1:4], dimensions[1:4])
    if qform_code <= 0:
        return
    qform = _nifti_qform(pixdim, struct.unpack_from(order + "6f", header, 256))
    unit = np.array([[x, y, z] for z in (0, 1) for y in (0, 1) for x in (0, 1)])
    corners = np.column_stack([unit * (dimensions[1:4] - 1), np.ones(8)])
    apart = np.linalg.norm(corners @ (sform - qform).T, axis=1).max()
    # Half a voxel: a quaternion in float32 can be off by 3e-4 radians near half turns.
    if not apart <= 0.5 * np.abs(pixdim[1:4]).min():
        raise InputError(
            f"{path}: states two frames, its qform and sform place a corner {apart:.3g} mm apart; "
            "expected them to agree or one of their codes to be 0"
        )


def _check_nifti_spacing(
    path: Path,
    sform: NDArray[np.float64],
    pixdim: NDArray[np.float64],
    size: NDArray[np.int64],
) -> None:
    """Refuses an sform whose steps are not as long as pixdim says, which ITK takes instead."""
    steps = np.linalg.norm(sform[:, :3], axis=0)
    if not (np.abs(steps - np.abs(pixdim)) * (size - 1)).max() <= 0.5 * np.abs(pixdim).min():
        shown = [" x ".join(f"{value:.4g}" for value in row) for row in (steps, np.abs(pixdim))]
        raise InputError(
            f"{path}: states two sizes of a voxel, {shown[0]} in its sform and {shown[1]} in its "
            "pixdim; expected them to agree"
        )


def _nifti_qform(
    pixdim: NDArray[np.float64], quaternion_and_offset: Sequence[float]
) -> NDArray[np.float64]:
    """Returns the (3, 4) matrix of a qform: [R diag(spacing x, y, qfac * z) | offset]."""
    b, c, d = quaternion_and_offset[:3]
    a = np.sqrt(max(0.0, 1.0 - (b * b + c * c + d * d)))
    rotation = np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - c * c - b * b],
        ]
    )
    qfac = -1.0 if pixdim[0] < 0 else 1.0
    scaled = rotation * (pixdim[1:4] * np.array([1.0, 1.0, qfac]))
    return np.column_stack([scaled, np.array(quaternion_and_offset[3:])])


def _check_nrrd_space(path: Path, reader: sitk.ImageFileReader) -> None:
    """Refuses an NRRD file whose axes ITK could not turn into LPS."""
    space = reader.GetMetaData("NRRD_space") if reader.HasMetaDataKey("NRRD_space") else ""
    if space != "left-posterior-superior":
        raise InputError(
            f'{path}: has the space "{space}", so it does not state its frame; expected '
            '"left-posterior-superior", "right-anterior-superior" or "left-anterior-superior"'
        )


def _text_header(path: Path, suffix: str) -> _TextHeader:
    """Reads the fields of an NRRD ("key: value") or MetaImage ("key = value") header."""
    nrrd = suffix in (".nrrd", ".nhdr")
    fields: dict[str, str] = {}
    length = 0
    with path.open("rb") as file:
        while raw := file.readline(CHUNK_BYTES):
            length += len(raw)
            if length > LARGEST_HEADER_BYTES:
                raise InputError(
                    f"{path}: has a header of more than {LARGEST_HEADER_BYTES} bytes, expected "
                    f"that of a {suffix} file in 3D"
                )
            line = raw.decode("latin-1").strip()
            if nrrd and not line:
                break
            key, _, value = line.partition(":" if nrrd else "=")
            key = key.strip().lower()
            fields[key] = value.strip()
            if not nrrd and key == "elementdatafile":
                break
    dimensions = fields.get("dimension" if nrrd else "ndims", "")
    if not re.fullmatch("[1-9]", dimensions):
        # ITK crashes on a negative count.
        found = f'states "{dimensions[:20]}" dimensions' if dimensions else "states no dimensions"
        raise InputError(f"{path}: {found}, expected the header of a {suffix} file in 3D")
    return _TextHeader(fields, length)


def _nrrd_stream(path: Path, header: _TextHeader, unpacked_bytes: int) -> _Stream | None:
    fields = header.fields
    data_file = _data_file(path, fields.get("data file", fields.get("datafile", "LOCAL")))
    offset = header.length if data_file == path else 0
    found = data_file.stat().st_size - offset
    encoding = fields.get("encoding", "").lower()
    if encoding in ("gzip", "gz"):
        return _Stream(data_file, offset, found, unpacked_bytes)
    if encoding != "raw":
        raise InputError(f'{path}: has the encoding "{encoding[:20]}", expected raw or gzip')
    _check_raw_size(path, found, unpacked_bytes)
    return None


def _meta_image_stream(path: Path, header: _TextHeader, unpacked_bytes: int) -> _Stream | None:
    fields = header.fields
    data_file = _data_file(path, fields.get("elementdatafile", ""))
    offset = header.length if data_file == path else 0
    found = data_file.stat().st_size - offset
    if fields.get("compresseddata", "").lower() in ("true", "1"):
        stated = fields.get("compresseddatasize", "")
        if not stated.isdecimal() and data_file == path:
            # ITK takes the length of the whole file instead and reads noise.
            raise InputError(f"{path}: does not state its CompressedDataSize, expected a count")
        packed_bytes = int(stated) if stated.isdecimal() else found
        return _Stream(data_file, offset, packed_bytes, unpacked_bytes)
    if fields.get("binarydata", "").lower() not in ("true", "1"):
        raise InputError(f"{path}: does not state BinaryData = True, expected voxels in bytes")
    _check_raw_size(path, found, unpacked_bytes)
    return None


def _data_file(path: Path, name: str) -> Path:
    """Returns the file that holds the voxels of a header: the header's own for LOCAL."""
    if name.upper() == "LOCAL":
        return path
    if name.upper().startswith("LIST") or "%" in name:
        raise InputError(f'{path}: names the data files "{name}", expected one data file')
    data_file = path.parent / name
    if not name or not data_file.is_file():
        raise InputError(f'{path}: names the data file "{name}", which does not exist beside it')
    return data_file


def _check_raw_size(path: Path, found: int, expected: int) -> None:
    if found < expected:
        raise InputError(
            f"{path}: holds {found} bytes of voxels, expected {expected} (truncated file)"
        )


@dataclass(frozen=True, eq=False)
class _Slice:
    file: str
    position: NDArray[np.float64]
    orientation: NDArray[np.float64]
    spacing: NDArray[np.float64]
    size: tuple[int, int]
    pixel_type: str


def _dicom_series(folder: Path) -> _Series:
    with _quiet(), _explained(folder):
        identifiers = sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder))
        if len(identifiers) != 1:
            found = f"{len(identifiers)} ({', '.join(identifiers)})" if identifiers else "none"
            raise InputError(f"the DICOM series found are {found}, expected one")
        files = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), identifiers[0])
    _check_no_dicom_left(folder, files)
    slices = [_dicom_slice(Path(file)) for file in files]
    if len(slices) < 2:
        raise InputError(f"{folder}: the DICOM series has one slice, expected at least two")
    first = slices[0]
    for other in slices[1:]:
        _check_alike(first, other)
    row, column = first.orientation
    normal = np.cross(row, column)
    slices.sort(key=lambda one: float(one.position @ normal))
    step = _slice_step(folder, slices, normal)
    spacing = np.array([first.spacing[1], first.spacing[0], step])
    direction = np.column_stack([row, column, normal])
    _check_count(folder, (*first.size, len(slices)))
    with _explained(folder):
        grid = Grid((*first.size, len(slices)), spacing, slices[0].position, direction)
    return _Series(tuple(one.file for one in slices), grid)


def _check_no_dicom_left(folder: Path, files: Sequence[str]) -> None:
    """Refuses DICOM files that GDCM passed over: it drops truncated slices without a word."""
    used = {Path(file).name for file in files}
    for path in sorted(folder.iterdir()):
        if path.name in used or path.name.upper() == "DICOMDIR" or not path.is_file():
            continue
        with path.open("rb") as file:
            if file.read(132)[128:] == b"DICM":
                raise InputError(
                    f"{path}: is a DICOM file that cannot be read as a slice of its series "
                    "(truncated or not an image), expected whole slices only"
                )


def _dicom_slice(path: Path) -> _Slice:
    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(str(path))
    with _quiet(), _explained(path):
        reader.ReadImageInformation()
    _check_pixels(path, reader)
    columns, rows, *frames = reader.GetSize()
    if int(np.prod(frames)) != 1:
        raise InputError(f"{path}: holds {int(np.prod(frames))} frames, expected one slice")
    return _Slice(
        str(path),
        _dicom_numbers(path, reader, "0020|0032", "ImagePositionPatient", 3),
        _dicom_numbers(path, reader, "0020|0037", "ImageOrientationPatient", 6).reshape(2, 3),
        _dicom_numbers(path, reader, "0028|0030", "PixelSpacing", 2),
        (columns, rows),
        sitk.GetPixelIDValueAsString(reader.GetPixelID()),
    )


def _dicom_numbers(
    path: Path, reader: sitk.ImageFileReader, tag: str, name: str, count: int
) -> NDArray[np.float64]:
    text = reader.GetMetaData(tag) if reader.HasMetaDataKey(tag) else ""
    try:
        values = np.array([float(part) for part in text.split("\\")])
    except ValueError:
        values = np.empty(0)
    if len(values) != count or not np.isfinite(values).all():
        raise InputError(f'{path}: has the {name} "{text.strip()}", expected {count} numbers')
    return values


def _check_alike(first: _Slice, other: _Slice) -> None:
    for name in ("size", "spacing", "orientation", "pixel_type"):
        here, there = getattr(other, name), getattr(first, name)
        same = (
            bool(np.abs(here - there).max() <= TILT_TOLERANCE * np.abs(there).max())
            if isinstance(here, np.ndarray)
            else here == there
        )
        if not same:
            shown = [x.tolist() if isinstance(x, np.ndarray) else x for x in (here, there)]
            raise InputError(
                f"{other.file}: has the {name.replace('_', ' ')} {shown[0]}, expected {shown[1]} "
                f"as in {first.file}"
            )


def _slice_step(folder: Path, slices: Sequence[_Slice], normal: NDArray[np.float64]) -> float:
    """Returns the mm between slices, sorted along `normal`, when they form an even row."""
    positions = np.array([one.position for one in slices])
    steps = np.diff(positions @ normal)
    mean = (positions[-1] - positions[0]) / (len(slices) - 1)
    length = float(np.linalg.norm(mean))
    even = positions[0] + np.arange(len(slices))[:, None] * mean
    if np.linalg.norm(positions - even, axis=1).max() > UNEVEN_TOLERANCE * length or length == 0:
        usual = float(np.median(steps))
        worst = int(np.argmax(np.abs(steps - usual)))
        names = [Path(one.file).name for one in slices[worst : worst + 2]]
        raise InputError(
            f"{folder}: the DICOM slices {names[0]} and {names[1]} are {steps[worst]:.4g} mm "
            f"apart, expected {usual:.4g} mm as between the others (missing, repeated or uneven "
            "slices)"
        )
    sideways = mean - (mean @ normal) * normal
    if np.linalg.norm(sideways) > TILT_TOLERANCE * length:
        raise InputError(
            f"{folder}: each DICOM slice lies {np.linalg.norm(sideways):.4g} mm beside the one "
            f"before it, {length:.4g} mm away; expected slices stacked along their normal (no "
            "gantry tilt)"
        )
    return length
