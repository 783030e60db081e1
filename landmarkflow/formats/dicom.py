"""Folders of one DICOM series: slices in an even row along their normal."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from landmarkflow.core.errors import InputError, about
from landmarkflow.core.grids import Grid
from landmarkflow.formats.scan_checks import (
    BYTES_PER_VOXEL,
    Opened,
    bare,
    check_bytes,
    explained,
    read_header,
    stated,
)

TILT_TOLERANCE = 1e-3
# The part of a slice step by which a slice may lie beside its place in an even row of slices:
# scanners round positions, and a missing slice moves its neighbours by half a step or more.
UNEVEN_TOLERANCE = 0.05


@dataclass(frozen=True, eq=False)
class _Slice:
    """What the header of one slice states."""

    file: str
    position: NDArray[np.float64]
    orientation: NDArray[np.float64]
    spacing: NDArray[np.float64]
    size: tuple[int, int]
    pixel_type: str
    bytes_per_voxel: int


def open_dicom(folder: Path, largest_bytes: int) -> Opened:
    """Reads the headers of a folder's one DICOM series, refusing what `read_volume` refuses.

    Files that are no DICOM may lie beside the slices. Voxels are rescaled to Hounsfield units.
    """
    with explained():
        identifiers = sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder))
        if len(identifiers) != 1:
            found = f"{len(identifiers)} ({', '.join(identifiers)})" if identifiers else "none"
            raise InputError(f"the DICOM series found are {found}, expected one")
        files = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), identifiers[0])
    _check_no_dicom_left(folder, files)
    slices = [_dicom_slice(Path(file)) for file in files]
    if len(slices) < 2:
        raise InputError("the DICOM series has one slice, expected at least two")
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

    def read() -> sitk.Image:
        with explained():
            return bare(sitk.ReadImage([one.file for one in slices], imageIO="GDCMImageIO"))

    return Opened(grid, read)


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
    with about(path):
        reader = read_header(path, "GDCMImageIO")
        columns, rows, *frames = reader.GetSize()
        if (count := int(np.prod(frames))) != 1:
            raise InputError(f"holds {count} frames, expected one slice")
        return _Slice(
            str(path),
            _numbers(reader, "0020|0032", "ImagePositionPatient", 3),
            _numbers(reader, "0020|0037", "ImageOrientationPatient", 6).reshape(2, 3),
            _numbers(reader, "0028|0030", "PixelSpacing", 2),
            (columns, rows),
            sitk.GetPixelIDValueAsString(reader.GetPixelID()),
            BYTES_PER_VOXEL[reader.GetPixelID()],
        )


def _numbers(reader: sitk.ImageFileReader, tag: str, name: str, count: int) -> NDArray[np.float64]:
    text = stated(reader, tag)
    try:
        values = np.array([float(part) for part in text.split("\\")])
    except ValueError:
        values = np.empty(0)
    if len(values) != count or not np.isfinite(values).all():
        raise InputError(f'has the {name} "{text.strip()}", expected {count} numbers')
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
        names = [Path(one.file).name for one in slices[worst : worst + 2]]
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
