"""NRRD and MetaImage files, whose text headers are checked before ITK reads them."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from isal import isal_zlib

from landmarkflow.core.errors import InputError
from landmarkflow.core.grids import Grid
from landmarkflow.formats.scan_checks import (
    BYTES_PER_VOXEL,
    SPARE_BYTES,
    Opened,
    bare,
    check_bytes,
    check_packed,
    check_pixels,
    check_size,
    explained,
    quiet,
)
from landmarkflow.formats.scan_files import NRRD, TextHeader, read_text_header, suffix_of

CHUNK_BYTES = 1 << 16


@dataclass(frozen=True)
class _Stream:
    """Compressed bytes, which ITK does not check: where they lie and what they must unpack to."""

    file: Path
    offset: int
    packed_bytes: int
    unpacked_bytes: int


def open_nrrd_or_meta(path: Path, largest_bytes: int) -> Opened:
    """Reads and checks the header of a .nrrd, .nhdr, .mha or .mhd file.

    Args:
        path: The file.
        largest_bytes: Of unpacked voxels.

    Returns:
        The grid in LPS mm, and a reader of the voxels in the file's own type.

    Raises:
        InputError: The header or, once they are read, the voxels are those that `read_volume`
            refuses.
    """
    text = read_text_header(path)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    # ITK opens the data file already to read the header.
    data_file = text.data_file
    with quiet(), explained(path):
        reader.ReadImageInformation()
    check_pixels(path, reader)
    size = reader.GetSize()
    check_size(path, size)
    bytes_per_voxel = BYTES_PER_VOXEL[reader.GetPixelID()]
    check_bytes(path, size, bytes_per_voxel, largest_bytes)
    nrrd = suffix_of(path) in NRRD
    if nrrd:
        _check_space(path, reader)
    find_stream = _nrrd_stream if nrrd else _meta_image_stream
    stream = find_stream(text, data_file, int(np.prod(size)) * bytes_per_voxel)
    spacing, origin = np.array(reader.GetSpacing()), np.array(reader.GetOrigin())
    with explained(path):
        grid = Grid(size, spacing, origin, np.array(reader.GetDirection()).reshape(3, 3))

    def read() -> sitk.Image:
        if stream is not None:
            _check_stream(path, stream)
        with quiet(), explained(path):
            return bare(reader.Execute())

    return Opened(grid, read)


def _check_space(path: Path, reader: sitk.ImageFileReader) -> None:
    """Refuses an NRRD file whose axes ITK could not turn into LPS."""
    space = reader.GetMetaData("NRRD_space") if reader.HasMetaDataKey("NRRD_space") else ""
    if space != "left-posterior-superior":
        raise InputError(
            f'{path}: has the space "{space}", so it does not state its frame; expected '
            '"left-posterior-superior", "right-anterior-superior" or "left-anterior-superior"'
        )


def _nrrd_stream(text: TextHeader, data_file: Path, unpacked_bytes: int) -> _Stream | None:
    offset = text.length if data_file == text.path else 0
    found = data_file.stat().st_size - offset
    encoding = text.fields.get("encoding", "").lower()
    if encoding in ("gzip", "gz"):
        return _Stream(data_file, offset, found, unpacked_bytes)
    if encoding != "raw":
        raise InputError(f'{text.path}: has the encoding "{encoding[:20]}", expected raw or gzip')
    _check_raw_size(text.path, found, unpacked_bytes)
    return None


def _meta_image_stream(text: TextHeader, data_file: Path, unpacked_bytes: int) -> _Stream | None:
    path, fields = text.path, text.fields
    offset = text.length if data_file == path else 0
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


def _check_raw_size(path: Path, found: int, expected: int) -> None:
    if found < expected:
        raise InputError(
            f"{path}: holds {found} bytes of voxels, expected {expected} (truncated file)"
        )


def _check_stream(path: Path, stream: _Stream) -> None:
    """Refuses a broken zlib or gzip stream; it must be whole to its end and its checksum."""
    check_packed(path, stream.packed_bytes, stream.unpacked_bytes)
    unpacker = isal_zlib.decompressobj(wbits=47)
    unpacked = 0
    try:
        for packed in _chunks(stream):
            chunk = packed
            while chunk and not (unpacker.eof and unpacked >= stream.unpacked_bytes):
                if unpacker.eof:
                    unpacker = isal_zlib.decompressobj(wbits=47)
                unpacked += len(unpacker.decompress(chunk))
                if unpacked > stream.unpacked_bytes + SPARE_BYTES:
                    raise InputError(
                        f"{path}: holds compressed voxels of more than "
                        f"{stream.unpacked_bytes + SPARE_BYTES} bytes, expected "
                        f"{stream.unpacked_bytes}"
                    )
                chunk = unpacker.unused_data
    # isal's stubs declare an instance.
    except isal_zlib.error as error:  # type: ignore[misc]
        raise InputError(f"{path}: holds corrupt compressed voxels ({error})") from None
    if not unpacker.eof or unpacked < stream.unpacked_bytes:
        raise InputError(
            f"{path}: holds compressed voxels that end after {unpacked} bytes, expected "
            f"{stream.unpacked_bytes} (truncated file)"
        )


def _chunks(stream: _Stream) -> Iterator[bytes]:
    left = stream.packed_bytes
    with stream.file.open("rb") as file:
        file.seek(stream.offset)
        while chunk := file.read(min(CHUNK_BYTES, left)):
            left -= len(chunk)
            yield chunk
