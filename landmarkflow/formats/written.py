"""Volumes that this package wrote, and how it writes them: whole, or not at all."""

from pathlib import Path

import numpy as np
import SimpleITK as sitk
from isal import igzip

from landmarkflow.core.errors import InputError
from landmarkflow.core.files import cut_short, replacing
from landmarkflow.formats.nifti import open_nifti
from landmarkflow.formats.scan_checks import BYTES_PER_VOXEL, LARGEST_BYTES, bare, explained
from landmarkflow.formats.scan_files import NIFTI

WRITABLE = (".nii", ".nii.gz", ".nrrd", ".mha")
# What ITK writes before the voxels.
_NIFTI_HEADER_BYTES = 352
# Of isal's 0 to 3: as small as what ITK writes, in a fifth of the time.
_PACKING = 2


def read_written(path: Path) -> sitk.Image:
    """Reads a volume that `write_volume` wrote, without the checks that others' files need.

    Raises:
        InputError: The file is missing or is no volume.
    """
    path = Path(path)
    if path.name.lower().endswith(NIFTI):
        # Of a name that ends with .nii.gz ITK reads the .nii file beside it, if there is one.
        return open_nifti(path, LARGEST_BYTES, least=1).read()
    with explained(path):
        return bare(sitk.ReadImage(str(path)))


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


def _write_packed(image: sitk.Image, path: Path) -> None:
    plain = path.with_suffix("")
    try:
        _write_plain(image, plain)
        path.write_bytes(igzip.compress(plain.read_bytes(), _PACKING, mtime=0))
    finally:
        plain.unlink(missing_ok=True)


def _write_plain(image: sitk.Image, path: Path) -> None:
    sitk.WriteImage(image, str(path), useCompression=False)
    voxels = int(np.prod(image.GetSize())) * BYTES_PER_VOXEL[image.GetPixelID()]
    # Of a disk that is full ITK says nothing.
    if path.suffix.lower() == ".nii" and path.stat().st_size != _NIFTI_HEADER_BYTES + voxels:
        raise cut_short(path)
