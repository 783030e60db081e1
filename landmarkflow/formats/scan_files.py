"""The files of a scan: which format their names say, and whose bytes decide what is read.

Nothing here opens an image, so that programs that only list and hash files start fast.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from landmarkflow.core.errors import InputError, about
from landmarkflow.core.files import files_below, sha256, sha256_of_all

READABLE = (
    "NIfTI (.nii, .nii.gz), NRRD (.nrrd, .nhdr), MetaImage (.mha, .mhd), a picture (.png, .jpg, "
    ".tif) or a DICOM folder"
)
NIFTI: Final = (".nii.gz", ".nii")
NRRD: Final = (".nrrd", ".nhdr")
META_IMAGE: Final = (".mha", ".mhd")
PICTURES: Final = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
# A longer text is no header but voxels without an end of line.
LARGEST_HEADER_BYTES = 1 << 20
LONGEST_LINE_BYTES = 1 << 16


@dataclass(frozen=True, eq=False)
class TextHeader:
    """The header of an NRRD or MetaImage file: its fields, by keys in lower case, and its bytes."""

    path: Path
    fields: dict[str, str]
    length: int

    @property
    def data_file(self) -> Path:
        """The file that holds the voxels: the header's own, or the one that it names beside it."""
        fields = self.fields
        if suffix_of(self.path) in NRRD:
            name = fields.get("data file", fields.get("datafile", "LOCAL"))
        else:
            name = fields.get("elementdatafile", "")
        if name.upper() == "LOCAL":
            return self.path
        data_file = self.path.parent / name
        if name.upper().startswith("LIST") or "%" in name:
            named = f'files "{name}", expected one data file'
        elif "/" in name or "\\" in name or name == "..":
            # What lies elsewhere is not copied, moved or shared together with its header.
            named = f'file "{name}", expected the bare name of a file beside it'
        elif not name or not data_file.is_file():
            named = f'file "{name}", which does not exist beside it'
        else:
            return data_file
        raise InputError(f"names the data {named}")


def suffix_of(path: Path) -> str:
    """Returns the suffix that says a scan's format, in lower case; refuses that of no format."""
    name = path.name.lower()
    for suffix in (*NIFTI, *NRRD, *META_IMAGE, *PICTURES):
        if name.endswith(suffix):
            return suffix
    raise InputError(f'has the suffix "{path.suffix}", expected {READABLE}')


def is_folder(path: Path) -> bool:
    """Tells a folder from a file; refuses what is neither, and what may not be read."""
    try:
        if path.is_dir():
            return True
        if path.is_file():
            with path.open("rb"):  # What may not be read is told here.
                return False
        found = "cannot be read (no regular file)" if path.exists() else "no such file or folder"
    except OSError as error:
        found = f"cannot be read ({error.strerror})"
    raise InputError(f"{found}, expected a scan as {READABLE}")


def read_text_header(path: Path) -> TextHeader:
    """Reads the fields of an NRRD ("key: value") or MetaImage ("key = value") header.

    Refuses one that is too long or states no count of dimensions from 1 to 9.
    """
    suffix = suffix_of(path)
    nrrd = suffix in NRRD
    fields: dict[str, str] = {}
    length = 0
    with path.open("rb") as file:
        while raw := file.readline(LONGEST_LINE_BYTES):
            length += len(raw)
            if length > LARGEST_HEADER_BYTES:
                raise InputError(
                    f"has a header of more than {LARGEST_HEADER_BYTES} bytes, expected that of a "
                    f"{suffix} file in 3D"
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
        raise InputError(f"{found}, expected the header of a {suffix} file in 3D")
    return TextHeader(path, fields, length)


def files_of(path: Path) -> list[Path]:
    """Returns every file that may decide what is read of a scan, without opening images.

    That is the scan's file, a header and the file of its voxels, or all files of a DICOM tree,
    sorted. Refuses names of nothing, and headers that name no data file beside them.
    """
    path = Path(path)
    with about(path):
        if is_folder(path):
            return files_below(path)
        if not path.name.lower().endswith((*NRRD, *META_IMAGE)):
            return [path]
        return list(dict.fromkeys([path, read_text_header(path).data_file]))


def digest_of(files: Sequence[Path]) -> str:
    """Returns a SHA-256 digest of the bytes of a scan's files, 64 hexadecimal digits.

    That of a single file is the file's own; that of several is of their names and digests, in
    their order. Refuses files that cannot be read.
    """
    return sha256(files[0]) if len(files) == 1 else sha256_of_all(files)
