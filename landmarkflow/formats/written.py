"""Volumes that this package wrote, and how it writes them: whole, or not at all."""

from pathlib import Path

import numpy as np
import SimpleITK as sitk
from isal import igzip

from landmarkflow.core.errors import InputError, about
from landmarkflow.core.files import cut_short, replacing
from landmarkflow.formats.nifti import LEAST_OFFSET, open_nifti
from landmarkflow.formats.scan_checks import BYTES_PER_VOXEL, LARGEST_BYTES, bare, explained
from landmarkflow.formats.scan_files import NIFTI

WRITABLE = (".nii", ".nii.gz", ".nrrd", ".mha")
# Of isal's 0 to 3: as small as what ITK writes, in a fifth of the time.
_PACKING = 2


def read_written(path: Path) -> sitk.Image:
    """Reads a volume that `write_volume` wrote, without the checks that others' files need."""
    path = Path(path)
    with about(path):
        if path.name.lower().endswith(NIFTI):
            # Of a name that ends with .nii.gz ITK reads the .nii file beside it, if there is one.
            return open_nifti(path, LARGEST_BYTES, least=1).read()
        with explained():
            return bare(sitk.ReadImage(str(path)))


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
