"""NRRD and MetaImage files, whose text headers are checked before ITK reads them."""

import re
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from isal import isal_zlib

from landmarkflow.core.errors import InputError
from landmarkflow.core.grids import Grid
from landmarkflow.formats.scan_checks import (
    BYTES_PER_VOXEL,
    Opened,
    bare,
    check_bytes,
    check_packed,
    check_size,
    check_unpacked,
    explained,
    millimetres_of,
    read_header,
    stated,
)
from landmarkflow.formats.scan_files import NRRD, TextHeader, read_text_header, suffix_of

CHUNK_BYTES = 1 << 16
_TRUE = ("true", "1")


def open_nrrd_or_meta(path: Path, largest_bytes: int) -> Opened:
    """Reads the header of a .nrrd, .nhdr, .mha or .mhd file, refusing what `read_volume` refuses.

    Voxels have the file's own type.
    """
    text = read_text_header(path)
    # ITK opens the data file already to read the header.
    data_file = text.data_file
    reader = read_header(path)
    check_size(reader.GetSize())
    bytes_per_voxel = BYTES_PER_VOXEL[reader.GetPixelID()]
    check_bytes(reader.GetSize(), bytes_per_voxel, largest_bytes)
    space = stated(reader, "NRRD_space")
    if suffix_of(path) in NRRD and space != "left-posterior-superior":
        # One that ITK could not turn into LPS.
        raise InputError(
            f'has the space "{space}", so it does not state its frame; expected '
            '"left-posterior-superior", "right-anterior-superior" or "left-anterior-superior"'
        )
    unit = _millimetres(text)
    unpacked = int(np.prod(reader.GetSize())) * bytes_per_voxel
    own = data_file == path
    offset = text.length if own else 0
    found = data_file.stat().st_size - offset
    packed = _packed_bytes(text, found, own=own)
    if packed is None and found < unpacked:
        raise InputError(f"holds {found} bytes of voxels, expected {unpacked} (truncated file)")
    direction = np.reshape(reader.GetDirection(), (3, 3))
    spacing, origin = (
        np.multiply(value, unit) for value in (reader.GetSpacing(), reader.GetOrigin())
    )
    grid = Grid(reader.GetSize(), spacing, origin, direction)

    def read() -> sitk.Image:
        if packed is not None:
            _check_stream(data_file, offset, packed, unpacked)
        with explained():
            return bare(reader.Execute())

    return Opened(grid, read)


def _millimetres(text: TextHeader) -> float:
    """Returns the mm in the unit of a header's lengths, 1 where it states none.

    Refuses headers without the sizes of voxels, for which ITK takes 1 mm.
    """
    fields = text.fields
    if suffix_of(text.path) in NRRD:
        sizes, stated_in = fields.get("space directions", "").count("("), "space directions"
        found = fields.get("space units", "")
        units = {("space units", unit) for unit in re.findall('"([^"]*)"', found) or [found]}
    else:
        sizes = 3 if {"elementspacing", "elementsize"} & fields.keys() else 0
        stated_in = "ElementSpacing"
        units = {("DistanceUnits", fields.get("distanceunits", ""))}
    if sizes != 3:
        raise InputError(f"does not state the size of its voxels, expected three in {stated_in}")
    lengths = {millimetres_of(name, unit) if unit else 1.0 for name, unit in units}
    if len(lengths) > 1:
        raise InputError(f"states several units of length ({found}), expected one")
    return lengths.pop()


def _packed_bytes(text: TextHeader, found: int, *, own: bool) -> int | None:
    """Returns how many bytes are compressed, None where they are raw.

    Found were so many behind the header or in the data file, which may be the header's own.
    """
    fields = text.fields
    if suffix_of(text.path) in NRRD:
        encoding = fields.get("encoding", "").lower()
        if encoding not in ("gzip", "gz", "raw"):
            raise InputError(f'has the encoding "{encoding[:20]}", expected raw or gzip')
        return None if encoding == "raw" else found
    if fields.get("compresseddata", "").lower() not in _TRUE:
        if fields.get("binarydata", "").lower() not in _TRUE:
            raise InputError("does not state BinaryData = True, expected voxels in bytes")
        return None
    count = fields.get("compresseddatasize", "")
    if not count.isdecimal() and own:
        # ITK takes the length of the whole file instead and reads noise.
        raise InputError("does not state its CompressedDataSize, expected a count")
    return int(count) if count.isdecimal() else found


def _check_stream(file: Path, offset: int, packed: int, expected: int) -> None:
    """Refuses a broken zlib or gzip stream, which ITK does not check to its end and checksum."""
    check_packed(packed, expected)
    unpacker = isal_zlib.decompressobj(wbits=47)
    unpacked = 0
    try:
        with file.open("rb") as stream:
            stream.seek(offset)
            while chunk := stream.read(min(CHUNK_BYTES, packed)):
                packed -= len(chunk)
                while chunk and not (unpacker.eof and unpacked >= expected):
                    if unpacker.eof:
                        unpacker = isal_zlib.decompressobj(wbits=47)
                    unpacked += len(unpacker.decompress(chunk))
                    check_unpacked(unpacked, expected, whole=True)
                    chunk = unpacker.unused_data
    # isal's stubs declare an instance.
    except isal_zlib.error as error:  # type: ignore[misc]
        raise InputError(f"holds corrupt compressed voxels ({error})") from None
    check_unpacked(unpacked, expected, whole=unpacker.eof and unpacked >= expected)
