"""A DICOM series: slices in an even row along their normal."""

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from landmarkflow.core.errors import InputError, about
from landmarkflow.core.grids import Grid
from landmarkflow.formats import dicom_header as dicom
from landmarkflow.formats.dicom_header import DicomHeader, items_of
from landmarkflow.formats.dicom_series import choose_series
from landmarkflow.formats.heard import heard
from landmarkflow.formats.scan_checks import (
    BYTES_PER_VOXEL,
    Opened,
    bare,
    check_bytes,
    explained,
    read_header,
)
from landmarkflow.images.operations import image_on, view_of

logger = logging.getLogger(__name__)

# What the decoder of JPEG says where it runs out of data, or meets what means nothing; bytes that
# are too many do no harm.
_CORRUPT = re.compile("Corrupt JPEG data: (?!.*extraneous)|Premature end of JPEG")
TILT_TOLERANCE = 1e-3
# The part of a slice step by which a slice may lie beside its place in an even row of slices:
# scanners round positions, and a missing slice moves its neighbours by half a step or more.
UNEVEN_TOLERANCE = 0.05


@dataclass(frozen=True, eq=False)
class _Slice:
    """What a file states of one slice, or of one of its frames, counted from 0."""

    file: str
    frame: int
    position: NDArray[np.float64]
    orientation: NDArray[np.float64]
    spacing: NDArray[np.float64]
    rescaling: tuple[str, str]
    size: tuple[int, int]
    pixel_type: str
    bytes_per_voxel: int


def open_dicom(folder: Path, largest_bytes: int, series: str = "") -> Opened:
    """Reads the headers of one DICOM series of a tree, refusing what `read_volume` refuses.

    A log line names the series that is taken where there are others, and the files that are passed
    over: what is no DICOM, or no image; scouts, single images and pictures of screens beside a
    series of slices; copies. Voxels are rescaled to Hounsfield units.
    """
    chosen = choose_series(folder, series)
    if chosen.said:
        logger.debug("%s: %s", folder, chosen.said)
    images = chosen.series.images
    slices = [one for header in images for one in _slices_of(header)]
    if len(slices) < 2:
        raise InputError("the DICOM series has one slice, expected at least two")
    if 1 < len(images) < len(slices):
        found = f"{len(images)} files of {len(slices)} frames"
        raise InputError(f"the DICOM series has {found}, expected one file or one frame in each")
    first = slices[0]
    for other in slices[1:]:
        _check_alike(first, other)
    row, column = first.orientation
    normal = np.cross(row, column)
    slices.sort(key=lambda one: float(one.position @ normal))
    spacing = np.array([*first.spacing[::-1], _slice_step(slices, normal)])
    direction = np.column_stack([row, column, normal])
    grid = Grid((*first.size, len(slices)), spacing, slices[0].position, direction)
    check_bytes(grid.size, first.bytes_per_voxel, largest_bytes)

    files = list(dict.fromkeys(one.file for one in slices))
    decode = _decoded if any(one.frames is not None for one in images) else _read

    def read() -> sitk.Image:
        stored = decode(files)
        if len(files) > 1:
            return bare(stored)
        return image_on(grid, view_of(stored)[[one.frame for one in slices]])

    return Opened(grid, read)


def _read(files: Sequence[str]) -> sitk.Image:
    with explained():
        return sitk.ReadImage(files if len(files) > 1 else files[0], imageIO="GDCMImageIO")


def _decoded(files: Sequence[str]) -> sitk.Image:
    """Reads compressed slices; refuses a JPEG frame whose data end before its last voxel.

    GDCM fills up what is missing there; that it does is said by its decoder on stderr alone.
    """
    with heard() as said:
        image = _read(files)
    if not any(_CORRUPT.match(line) for line in said):
        return image
    for file in files if len(files) > 1 else ():
        with about(Path(file)):
            _decoded([file])
    raise InputError(
        "holds a compressed frame whose data are not whole, expected a voxel for each place "
        "(a part was lost)"
    )


def _slices_of(header: DicomHeader) -> list[_Slice]:
    """Returns the slices of a file: one, or each frame of an enhanced one in the file's order."""
    with about(header.path):
        photometric = header.text(dicom.PHOTOMETRIC)
        if photometric != "MONOCHROME2":
            # GDCM turns the values of MONOCHROME1 over, in Hounsfield units too.
            found = f'has the PhotometricInterpretation "{photometric}"'
            raise InputError(f"{found}, expected MONOCHROME2")
        if items_of(header.item, dicom.LOOKUP):
            raise InputError("has a ModalityLUTSequence, expected RescaleSlope, RescaleIntercept")
        frames, groups = header.count(dicom.FRAMES), items_of(header.item, dicom.PER_FRAME)
        if frames != max(len(groups), 1):
            found = f"holds {frames} frames and states the places of {len(groups)}"
            raise InputError(f"{found}, expected one slice or the places of all")
        reader = read_header(header.path, "GDCMImageIO")
        shared = items_of(header.item, dicom.SHARED)
        slices = [
            _slice(header, number, [group, *shared, {0: [header.item]}], reader)
            for number, group in enumerate(groups or [{}])
        ]
        if len({one.rescaling for one in slices}) > 1:
            raise InputError("rescales its frames differently, expected the same for all")
        return slices


def _slice(
    header: DicomHeader, frame: int, items: Sequence[dicom.Item], reader: sitk.ImageFileReader
) -> _Slice:
    """Returns what the first item that states it says: a frame's own, that of all or the file's."""

    def stated(sequence: int, tag: int) -> str:
        inner = [one for item in items for one in items_of(item, sequence) + items_of(item, 0)]
        return next((str(one[tag]) for one in inner if one.get(tag)), "")

    kind = reader.GetPixelID()
    orientation = stated(dicom.PLANE_ORIENTATION, dicom.ORIENTATION)
    return _Slice(
        str(header.path),
        frame,
        _numbers(stated(dicom.PLANE, dicom.POSITION), "ImagePositionPatient", 3),
        _numbers(orientation, "ImageOrientationPatient", 6).reshape(2, 3),
        _numbers(stated(dicom.MEASURES, dicom.SPACING), "PixelSpacing", 2),
        (stated(dicom.RESCALING, dicom.SLOPE), stated(dicom.RESCALING, dicom.INTERCEPT)),
        reader.GetSize()[:2],
        sitk.GetPixelIDValueAsString(kind),
        BYTES_PER_VOXEL[kind],
    )


def _numbers(text: str, name: str, count: int) -> NDArray[np.float64]:
    try:
        values = np.array([float(part) for part in text.split("\\")])
    except ValueError:
        values = np.empty(0)
    if len(values) != count or not np.isfinite(values).all():
        raise InputError(f'has the {name} "{text}", expected {count} numbers')
    return values


def _check_alike(first: _Slice, other: _Slice) -> None:
    for name in ("size", "spacing", "orientation", "pixel_type"):
        here, there = getattr(other, name), getattr(first, name)
        if isinstance(here, np.ndarray):
            same = np.abs(here - there).max() <= TILT_TOLERANCE * np.abs(there).max()
            here, there = here.tolist(), there.tolist()
        else:
            same = here == there
        if not same:
            found = f"{other.file}: has the {name.replace('_', ' ')} {here}"
            raise InputError(f"{found}, expected {there} as in {first.file}")


def _slice_step(slices: Sequence[_Slice], normal: NDArray[np.float64]) -> float:
    """Returns the mm between slices, sorted along `normal`, when they form an even row."""
    positions = np.array([one.position for one in slices])
    steps = np.diff(positions @ normal)
    mean = (positions[-1] - positions[0]) / (len(slices) - 1)
    length = float(np.linalg.norm(mean))
    even = positions[0] + np.arange(len(slices))[:, None] * mean
    if np.linalg.norm(positions - even, axis=1).max() > UNEVEN_TOLERANCE * length or length == 0:
        usual = float(np.median(steps))
        worst = int(np.argmax(np.abs(steps - usual)))
        names = [
            Path(one.file).name + f" (frame {one.frame + 1})" * (slices[0].file == slices[1].file)
            for one in slices[worst : worst + 2]
        ]
        raise InputError(
            f"the DICOM slices {names[0]} and {names[1]} are {steps[worst]:.4g} mm apart, expected "
            f"{usual:.4g} mm as between the others (missing, repeated or uneven slices)"
        )
    sideways = np.linalg.norm(mean - (mean @ normal) * normal)
    if sideways > TILT_TOLERANCE * length:
        raise InputError(
            f"each DICOM slice lies {sideways:.4g} mm beside the one before it, "
            f"{length:.4g} mm away; expected slices stacked along their normal (no gantry tilt)"
        )
    return length
