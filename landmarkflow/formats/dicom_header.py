"""What a DICOM file states before its voxels, and how many bytes of voxels it holds.

GDCM fills voxels that are missing with whatever lies in memory, and drops broken files of a series.
"""

import math
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from landmarkflow.core.errors import InputError

# What an item states by tags: text, counts as text too, or the items of a sequence.
Item = dict[int, "str | list[Item]"]

IMAGE_TYPE, SOP_CLASS, INSTANCE, SERIES_NAME = 0x00080008, 0x00080016, 0x00080018, 0x0008103E
MODALITY, SERIES_NUMBER = 0x00080060, 0x00200011
SERIES, POSITION, ORIENTATION, SPACING = 0x0020000E, 0x00200032, 0x00200037, 0x00280030
SAMPLES, PHOTOMETRIC, FRAMES, ROWS = 0x00280002, 0x00280004, 0x00280008, 0x00280010
COLUMNS, BITS, INTERCEPT, SLOPE = 0x00280011, 0x00280100, 0x00281052, 0x00281053
# Sequences: a table of intensities; what an enhanced file states of all its frames and of each,
# and in there of a frame's position, orientation, spacing and rescaling.
LOOKUP, SHARED, PER_FRAME = 0x00283000, 0x52009229, 0x52009230
PLANE, PLANE_ORIENTATION, MEASURES, RESCALING = 0x00209113, 0x00209116, 0x00289110, 0x00289145
_SEQUENCES = (LOOKUP, SHARED, PER_FRAME, PLANE, PLANE_ORIENTATION, MEASURES, RESCALING)
_COUNTS, _VOXELS = (SAMPLES, ROWS, COLUMNS, BITS), (0x7FE00008, 0x7FE00009, 0x7FE00010)
_MEDIA_CLASS, _SYNTAX = 0x00020002, 0x00020010
_ITEM, _ITEM_END, _SEQUENCE_END, _UNDEFINED = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD, 0xFFFFFFFF
# Kinds of values whose length takes four bytes.
_LONG = {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}
# Longer values are notes and tables of programs.
_LARGEST_VALUE = 1 << 12
_IMPLICIT, _DEFLATED, _BIG_ENDIAN, _RLE = (
    f"1.2.840.10008.1.2{end}" for end in ("", ".1.99", ".2", ".5")
)
_STORAGE = "1.2.840.10008.5.1.4.1.1."
_END_OF_JPEG = b"\xff\xd9"


@dataclass(eq=False)
class DicomHeader:
    """What a file states, and what it holds of its voxels.

    `whole` says that no element before the voxels was cut off; `voxels` counts their bytes, None
    where there are none; `frames` counts compressed frames that are whole, None without any.
    """

    path: Path
    item: Item = field(default_factory=dict)
    whole: bool = True
    voxels: int | None = None
    frames: int | None = None

    def text(self, *tags: int) -> str:
        """Returns what is stated under the first of some tags that is there, or nothing."""
        found = [value for tag in tags if isinstance(value := self.item.get(tag), str) and value]
        return found[0] if found else ""

    def count(self, tag: int, default: int = 1) -> int:
        """Returns a count, `default` where none is stated."""
        return int(text) if (text := self.text(tag)).isdecimal() else default

    @property
    def kind(self) -> str:
        """What the file says that it is: the first number of a storage class, or a whole class."""
        stated = self.text(SOP_CLASS, _MEDIA_CLASS)
        found = stated.removeprefix(_STORAGE)
        return stated if found == stated else found.partition(".")[0]

    def check_voxels(self) -> None:
        """Refuses a file that was cut short, and fewer voxels than it states."""
        if self.text(_SYNTAX) == _DEFLATED:
            raise InputError("has the deflated transfer syntax, expected another one")
        if not self.whole or self.voxels is None:
            raise InputError("ends before its voxels, expected a whole DICOM image (truncated)")
        found, unit, expected = self.frames, "whole compressed frames", self.count(FRAMES)
        if found is None:
            found, unit = self.voxels, "bytes of voxels"
            expected *= math.prod(self.count(tag) for tag in (ROWS, COLUMNS, SAMPLES, BITS)) // 8
        if found < expected:
            raise InputError(f"holds {found} {unit}, expected {expected} (truncated)")


def items_of(item: Item, tag: int) -> list[Item]:
    """Returns the items of a sequence, none where there is no such sequence."""
    value = item.get(tag)
    return value if isinstance(value, list) else []


def read_dicom_header(path: Path) -> DicomHeader | None:
    """Reads what a DICOM file states, None of any other file."""
    with path.open("rb") as file:
        start = file.read(132)
        marked = start[128:] == b"DICM"
        # Old files start with their first element, of group 2 or 8, without a mark.
        if not marked and (start[:2] not in (b"\2\0", b"\x08\0") or start[3:4] != b"\0"):
            return None
        file.seek(132 if marked else 0)
        reader = _Reader(file, DicomHeader(path), explicit=marked or start[4:6].isupper())
        try:
            reader.read()
        except (EOFError, RecursionError):
            reader.header.whole = False
        return reader.header


class _Reader:
    """Reads the elements of a file, one after the other."""

    def __init__(self, file: BinaryIO, header: DicomHeader, *, explicit: bool) -> None:
        self.file, self.header, self.explicit, self.order = file, header, explicit, "<"
        self.size = os.fstat(file.fileno()).st_size

    def read(self) -> None:
        # The first group is always written in one way; it says how the others are.
        while (group := self.file.read(2)) == b"\2\0":
            self.file.seek(-2, os.SEEK_CUR)
            self.store(self.header.item, *self.element(), self.size)
        self.file.seek(-len(group), os.SEEK_CUR)
        if syntax := self.header.text(_SYNTAX):
            self.explicit = syntax != _IMPLICIT
            self.order = ">" if syntax == _BIG_ENDIAN else "<"
        if syntax != _DEFLATED:
            self.fill(self.header.item, self.size, outermost=True)

    def fill(self, item: Item, end: int, *, outermost: bool = False) -> None:
        """Reads elements up to a place in the file, the end of an item or the file's voxels."""
        while self.file.tell() < end:
            tag, kind, length = self.element()
            if outermost and tag in _VOXELS:
                self.find_voxels(length)
            if tag == _ITEM_END or (outermost and tag in _VOXELS):
                return
            self.store(item, tag, kind, length, end)

    def numbers(self, layout: str) -> tuple[int, ...]:
        content = self.file.read(struct.calcsize(f"={layout}"))
        if len(content) < struct.calcsize(f"={layout}"):
            raise EOFError
        return struct.unpack(self.order + layout, content)

    def element(self) -> tuple[int, bytes, int]:
        """Returns the tag, the kind of value and the length of the next element."""
        group, number = self.numbers("HH")
        tag = group << 16 | number
        if not self.explicit or group == _ITEM >> 16:
            return tag, b"", self.numbers("I")[0]
        kind = self.file.read(2)
        return tag, kind, self.numbers("HI" if kind in _LONG else "H")[-1]

    def store(self, item: Item, tag: int, kind: bytes, length: int, end: int) -> None:
        """Reads an element's value into `item` unless it is long."""
        after = end if length == _UNDEFINED else self.file.tell() + length
        if after > end:
            raise EOFError
        if kind == b"SQ" or length == _UNDEFINED or tag in _SEQUENCES:
            explicit, self.explicit = self.explicit, self.explicit and kind != b"UN"
            item[tag] = list(self.items(after))
            self.explicit = explicit
        elif length > _LARGEST_VALUE:
            self.file.seek(after)
        elif tag in _COUNTS and length == 2:
            item[tag] = str(self.numbers("H")[0])
        else:
            item[tag] = self.file.read(length).decode("latin-1").strip(" \0")

    def items(self, end: int) -> Iterator[Item]:
        while self.file.tell() < end:
            tag, _, length = self.element()
            if tag == _SEQUENCE_END:
                return
            item: Item = {}
            self.fill(item, end if length == _UNDEFINED else self.file.tell() + length)
            yield item

    def find_voxels(self, length: int) -> None:
        """Measures voxels, whose compressed parts are items behind a table of their places."""
        header = self.header
        header.voxels = min(length, self.size - self.file.tell())
        if length != _UNDEFINED:
            return
        rle, pixels = header.text(_SYNTAX) == _RLE, header.count(ROWS) * header.count(COLUMNS)
        ends = []
        while self.size - self.file.tell() >= 8:
            tag, _, length = self.element()
            after = self.file.tell() + length
            if tag != _ITEM or after > self.size:
                break
            # Of JPEG the last bytes, which some that make the length even may follow.
            self.file.seek(after - (length if rle else min(length, 16)))
            part = self.file.read(after - self.file.tell())
            ends.append(_is_whole_rle(part, pixels) if rle else _END_OF_JPEG in part)
        header.frames = sum(ends[1:])


def _is_whole_rle(part: bytes, pixels: int) -> bool:
    """Whether a frame's last segment, which GDCM fills up, unpacks to a byte for each pixel."""
    if len(part) < 64:
        return False
    count, *places = struct.unpack_from("<16I", part)
    place = places[min(max(count, 1), 15) - 1]
    # A byte below 128 comes before one more literal bytes than it says, one above before a byte
    # that stands 257 times less what it says.
    while pixels > 0 and place + 1 < len(part):
        code = part[place]
        pixels -= code + 1 if code < 128 else 257 - code if code > 128 else 0
        place += code + 2 if code < 128 else 2 if code > 128 else 1
    return pixels <= 0 and place <= len(part)
