"""Volumes that this package wrote, and how it writes them: whole, or not at all."""

from pathlib import Path

import numpy as np
import SimpleITK as sitk
from isal import igzip, isal_zlib

from landmarkflow.core.errors import InputError, about
from landmarkflow.core.files import cut_short, replacing
from landmarkflow.core.grids import Grid
from landmarkflow.formats.scan_checks import BYTES_PER_VOXEL, LARGEST_BYTES, bare, explained
from landmarkflow.formats.scan_files import NIFTI
from landmarkflow.images.operations import image_on

WRITABLE = (".nii", ".nii.gz", ".nrrd", ".mha")
# Of isal's 0 to 3: as small as what ITK writes, in a fifth of the time.
_PACKING = 2
# Of a NIfTI-1 header that ITK wrote: how long it is, where its fields lie, and its voxels' types.
_LEAST_OFFSET = 352
_HEADER = np.dtype(
    {
        "names": [
            "bytes",
            "axes",
            "size",
            "type",
            "spacing",
            "offset",
            "scaling",
            "sform",
            "to_ras",
        ],
        "formats": ["<i4", "<i2", "3<i2", "<i2", "3<f4", "<f4", "2<f4", "<i2", "(3,4)<f4"],
        "offsets": [0, 40, 42, 70, 80, 108, 112, 254, 280],
        "itemsize": 348,
    }
)
_TYPES = {2: "u1", 4: "<i2", 8: "<i4", 16: "<f4", 64: "<f8", 256: "i1", 512: "<u2", 768: "<u4"}


def read_written(path: Path) -> sitk.Image:
    """Reads a volume that `write_volume` wrote, without the checks that others' files need."""
    path = Path(path)
    with about(path):
        if path.name.lower().endswith(NIFTI):
            # Of a name that ends with .nii.gz ITK reads the .nii file beside it, if there is one.
            return _read_nifti(path)
        with explained():
            return bare(sitk.ReadImage(str(path)))


def _read_nifti(path: Path) -> sitk.Image:
    """Reads a .nii or .nii.gz file; one whose header ITK did not write is left to `open_nifti`."""
    try:
        content = path.read_bytes()
        content = igzip.decompress(content) if path.name.lower().endswith(".gz") else content
    except (OSError, EOFError, isal_zlib.error):  # type: ignore[misc] # stubs: an instance
        content = b""
    if len(content) > _LEAST_OFFSET:
        header = np.frombuffer(content, _HEADER, count=1)[0]
        kind, size = _TYPES.get(int(header["type"])), tuple(header["size"].tolist())
        end = _LEAST_OFFSET + int(np.prod(size)) * np.dtype(kind).itemsize
        usual = header["bytes"] == _HEADER.itemsize and header["axes"] == 3
        usual &= header["offset"] == _LEAST_OFFSET and header["sform"] > 0
        usual &= header["scaling"].tolist() in ([1, 0], [0, 0])
        if usual and kind and len(content) == end:
            values = np.frombuffer(content, kind, offset=_LEAST_OFFSET).reshape(size[::-1])
            to_lps = np.diag([-1.0, -1.0, 1.0]) @ header["to_ras"].astype(np.float64) + 0.0
            steps = np.linalg.norm(to_lps[:, :3], axis=0)
            spacing = header["spacing"].astype(np.float64)
            return image_on(Grid(size, spacing, to_lps[:, 3], to_lps[:, :3] / steps), values)
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
            if plain.suffix.lower() == ".nii" and plain.stat().st_size != _LEAST_OFFSET + voxels:
                raise cut_short(plain)
            if packed:
                temporary.write_bytes(igzip.compress(plain.read_bytes(), _PACKING, mtime=0))
        finally:
            if packed:
                plain.unlink(missing_ok=True)
