"""Folders of one DICOM series: slices in an even row along their normal."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from landmarkflow.core.errors import InputError
from landmarkflow.core.grids import Grid
from landmarkflow.formats.scan_checks import (
    BYTES_PER_VOXEL,
    Opened,
    bare,
    check_bytes,
    check_pixels,
    explained,
    quiet,
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
    """Reads and checks the headers of a folder that holds one DICOM series.

    Args:
        folder: Files that are no DICOM may lie beside the slices.
        largest_bytes: Of voxels.

    Returns:
        The grid in LPS mm, and a reader of the voxels, rescaled to Hounsfield units.

    Raises:
        InputError: The series is one that `read_volume` refuses.
    """
    with quiet(), explained(folder):
        identifiers = sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder))
        if len(identifiers) != 1:
            found = f"{len(identifiers)} ({', '.join(identifiers)})" if identifiers else "none"
            raise InputError(f"the DICOM series found are {found}, expected one")
        files = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), identifiers[0])
    _check_no_dicom_left(folder, files)
    slices = [_dicom_slice(Path(file)) for file in files]
    if len(slices) < 2:
        raise InputError(f"{folder}: the DICOM series has one slice, expected at least two")
    first = slices[0]
    for other in slices[1:]:
        _check_alike(first, other)
    row, column = first.orientation
    normal = np.cross(row, column)
    slices.sort(key=lambda one: float(one.position @ normal))
    step = _slice_step(folder, slices, normal)
    spacing = np.array([first.spacing[1], first.spacing[0], step])
    direction = np.column_stack([row, column, normal])
    with explained(folder):
        grid = Grid((*first.size, len(slices)), spacing, slices[0].position, direction)
    check_bytes(folder, grid.size, first.bytes_per_voxel, largest_bytes)

    def read() -> sitk.Image:
        with quiet(), explained(folder):
            image = sitk.ReadImage([one.file for one in slices], imageIO="GDCMImageIO")
        return bare(image)

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
    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(str(path))
    with quiet(), explained(path):
        reader.ReadImageInformation()
    check_pixels(path, reader)
    columns, rows, *frames = reader.GetSize()
    if int(np.prod(frames)) != 1:
        raise InputError(f"{path}: holds {int(np.prod(frames))} frames, expected one slice")
    return _Slice(
        str(path),
        _dicom_numbers(path, reader, "0020|0032", "ImagePositionPatient", 3),
        _dicom_numbers(path, reader, "0020|0037", "ImageOrientationPatient", 6).reshape(2, 3),
        _dicom_numbers(path, reader, "0028|0030", "PixelSpacing", 2),
        (columns, rows),
        sitk.GetPixelIDValueAsString(reader.GetPixelID()),
        BYTES_PER_VOXEL[reader.GetPixelID()],
    )


def _dicom_numbers(
    path: Path, reader: sitk.ImageFileReader, tag: str, name: str, count: int
) -> NDArray[np.float64]:
    text = reader.GetMetaData(tag) if reader.HasMetaDataKey(tag) else ""
    try:
        values = np.array([float(part) for part in text.split("\\")])
    except ValueError:
        values = np.empty(0)
    if len(values) != count or not np.isfinite(values).all():
        raise InputError(f'{path}: has the {name} "{text.strip()}", expected {count} numbers')
    return values


def _check_alike(first: _Slice, other: _Slice) -> None:
    for name in ("size", "spacing", "orientation", "pixel_type"):
        here, there = getattr(other, name), getattr(first, name)
        same = (
            bool(np.abs(here - there).max() <= TILT_TOLERANCE * np.abs(there).max())
            if isinstance(here, np.ndarray)
            else here == there
        )
        if not same:
            shown = [x.tolist() if isinstance(x, np.ndarray) else x for x in (here, there)]
            raise InputError(
                f"{other.file}: has the {name.replace('_', ' ')} {shown[0]}, expected {shown[1]} "
                f"as in {first.file}"
            )


def _slice_step(folder: Path, slices: Sequence[_Slice], normal: NDArray[np.float64]) -> float:
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
            f"{folder}: the DICOM slices {names[0]} and {names[1]} are {steps[worst]:.4g} mm "
            f"apart, expected {usual:.4g} mm as between the others (missing, repeated or uneven "
            "slices)"
        )
    sideways = mean - (mean @ normal) * normal
    if np.linalg.norm(sideways) > TILT_TOLERANCE * length:
        raise InputError(
            f"{folder}: each DICOM slice lies {np.linalg.norm(sideways):.4g} mm beside the one "
            f"before it, {length:.4g} mm away; expected slices stacked along their normal (no "
            "gantry tilt)"
        )
    return length
