"""Volumes that this package wrote, and how it writes them: whole, or not at all."""

from pathlib import Path

import numpy as np
import SimpleITK as sitk
from isal import igzip, isal_zlib

from landmarkflow.core.errors import InputError, about
from landmarkflow.core.files import cut_short, replacing
from landmarkflow.core.grids import Grid
from landmarkflow.formats.scan_checks import (
    BYTES_PER_VOXEL,
    LARGEST_BYTES,
    LEAST_OFFSET,
    bare,
    explained,
    read_header,
    stated,
)
from landmarkflow.formats.scan_files import NIFTI
from landmarkflow.images.operations import image_on, view_of

WRITABLE = (".nii", ".nii.gz", ".nrrd", ".mha")
# Of isal's 0 to 3: as small as what ITK writes, in a fifth of the time.
_PACKING = 2


def read_written(path: Path) -> sitk.Image:
    """Reads a volume that `write_volume` wrote, without the checks that others' files need."""
    path = Path(path)
    with about(path):
        packed = path.name.lower().endswith(".nii.gz")
        # Of a name that ends with .nii.gz ITK reads the .nii file beside it, if there is one.
        if packed and path.is_file() and not path.with_suffix("").exists():
            return _unpacked(path)
        if path.name.lower().endswith(NIFTI):
            return _read_nifti(path)
        with explained():
            return bare(sitk.ReadImage(str(path)))


def _unpacked(path: Path) -> sitk.Image:
    """Reads a .nii.gz file: its header by ITK, its voxels by ISA-L, which is three times as fast.

    Whatever ITK would not have written so is left to the reader of others' files.
    """
    with explained():
        header = read_header(path, "NiftiImageIO")
    try:
        content = igzip.decompress(path.read_bytes())
    except (EOFError, OSError, isal_zlib.error):  # type: ignore[misc] # stubs: an instance
        return _read_nifti(path)
    size, kind = header.GetSize(), header.GetPixelID()
    end = LEAST_OFFSET + int(np.prod(size)) * BYTES_PER_VOXEL[kind]
    if len(content) != end or stated(header, "scl_slope") not in ("0", "1"):
        return _read_nifti(path)
    one = sitk.Image((1, 1, 1), kind)
    values = np.frombuffer(content, view_of(one).dtype, offset=LEAST_OFFSET).reshape(size[::-1])
    # Adding zero takes away the signs of zeros.
    spacing, origin, axes = (
        np.array(part) + 0.0
        for part in (header.GetSpacing(), header.GetOrigin(), header.GetDirection())
    )
    return image_on(Grid(size, spacing, origin, axes.reshape(3, 3)), values)


def _read_nifti(path: Path) -> sitk.Image:
    # Not before it is wanted: loading nibabel takes longer than reading ten crops.
    from landmarkflow.formats.nifti import open_nifti  # noqa: PLC0415

    return open_nifti(path, LARGEST_BYTES, least=1).read()


def write_volume(image: sitk.Image, path: Path) -> None:
    """Writes an image as NIfTI, NRRD or MetaImage in one file, replacing `path` as a whole.

    NIfTI states the frame in float32 and is compressed when `path` ends with ".gz"; NRRD and
    MetaImage state it in full and are not compressed. Other suffixes are refused; a disk that is
    full is an OSError.
    """
    path = Path(path)
    if not path.name.lower().endswith(WRITABLE):
        raise InputError(f"{path}: cannot be written, expected a name with {', '.join(WRITABLE)}")
    with replacing(path) as temporary:
        packed = temporary.suffix.lower() == ".gz"
        plain = temporary.with_suffix("") if packed else temporary
        try:
            sitk.WriteImage(image, str(plain), useCompression=False)
            voxels = int(np.prod(image.GetSize())) * BYTES_PER_VOXEL[image.GetPixelID()]
            # Of a disk that is full ITK says nothing.
            if plain.suffix.lower() == ".nii" and plain.stat().st_size != LEAST_OFFSET + voxels:
                raise cut_short(plain)
            if packed:
                temporary.write_bytes(igzip.compress(plain.read_bytes(), _PACKING, mtime=0))
        finally:
            if packed:
                plain.unlink(missing_ok=True)
