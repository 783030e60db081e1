"""Scans and segmentations in any format, read with every check.

Images are SimpleITK images, whose physical space is LPS millimetres. A picture is a volume of one
slice whose millimetres are pixels.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from landmarkflow.core.errors import InputError, about
from landmarkflow.core.grids import Grid
from landmarkflow.formats.dicom import open_dicom
from landmarkflow.formats.nifti import open_nifti
from landmarkflow.formats.nrrd_meta import open_nrrd_or_meta
from landmarkflow.formats.pictures import open_picture
from landmarkflow.formats.scan_checks import LARGEST_BYTES, Opened, check_finite, check_lengths
from landmarkflow.formats.scan_files import NIFTI, PICTURES, is_folder, suffix_of
from landmarkflow.images.operations import grid_of, image_on, place, view_of

SAME_GRID_TOLERANCE = 1e-3


def read_volume(path: Path, largest_bytes: int = LARGEST_BYTES, series: str = "") -> sitk.Image:
    """Reads a scan.

    Args:
        path: A NIfTI, NRRD or MetaImage file, a picture, or a folder somewhere below which lies a
            DICOM series.
        largest_bytes: What its voxels may take unpacked; of more nothing is read.
        series: Number or UID of the series, where there are several.

    Returns:
        A 3D scalar image in the file's own pixel type (DICOM: rescaled to Hounsfield units;
        colours: their luminance), LPS mm, without the file's metadata.

    Raises:
        InputError: The file is missing, unreadable, truncated, corrupt or too large; does not
            state its frame or the sizes of its voxels, or gives absurd ones; is not a 3D volume of
            real scalars with two or more voxels along each axis; has sheared axes; holds NaN or
            infinity; or has the same value everywhere. A DICOM folder holds no
            series, or several of which none is chosen, or its slices are missing, uneven or tilted.
            A picture is one that `read_picture` refuses.
    """
    with about(path):
        image = _read(Path(path), largest_bytes, series=series)
        lowest, highest = check_finite(view_of(image))
        if lowest == highest:
            raise InputError(f"every voxel holds {lowest:g}, expected a scan with contrast")
        return image


def read_grid(path: Path, largest_bytes: int = LARGEST_BYTES, series: str = "") -> Grid:
    """Reads the grid that `read_volume` gives a scan, from its header, which alone is checked."""
    with about(path):
        return _opened(Path(path), largest_bytes, series=series).grid


def read_labels(path: Path, scan_grid: Grid, largest_bytes: int = LARGEST_BYTES) -> sitk.Image:
    """Reads a segmentation on the grid of its scan: whole numbers, 0 for background.

    The image has the file's own type of whole numbers, int64 where it holds them as fractions.

    Raises:
        InputError: The file is one that `read_volume` refuses for another reason than a constant
            value, does not lie on the scan's grid within 1e-3 (mm), holds fractions, is a picture
            in colours, or has no voxel with a label.
    """
    with about(path):
        image = _whole_numbers(Path(path), scan_grid, largest_bytes)
        _check_any(view_of(image), view_of(image) != 0)
        return image


def read_segmentation(
    path: Path, scan_grid: Grid, labels: Sequence[int] = (), largest_bytes: int = LARGEST_BYTES
) -> sitk.Image:
    """Reads a segmentation as a uint8 mask, 1 inside and 0 outside, on the grid of its scan.

    The values in `labels` make up the mask, or every value but 0 where there are none. Refuses
    what `read_labels` refuses, and a mask without voxels.
    """
    with about(path):
        image = _whole_numbers(Path(path), scan_grid, largest_bytes)
        values = view_of(image)
        mask = np.isin(values, list(labels)) if labels else values != 0
        _check_any(values, mask, labels)
        return image_on(scan_grid, mask)


def _opened(path: Path, largest_bytes: int, *, labels: bool = False, series: str = "") -> Opened:
    """Reads and checks the header of a scan in any of the formats."""
    suffix = "" if is_folder(path) else suffix_of(path)
    if suffix in PICTURES:
        return open_picture(path, largest_bytes, labels=labels)
    if not suffix:
        opened = open_dicom(path, largest_bytes, series)
    elif suffix in NIFTI:
        opened = open_nifti(path, largest_bytes)
    else:
        opened = open_nrrd_or_meta(path, largest_bytes)
    check_lengths(opened.grid)
    return opened


def _read(path: Path, largest_bytes: int, *, labels: bool = False, series: str = "") -> sitk.Image:
    """Reads a scan in any of the formats onto the grid that its header states."""
    opened = _opened(path, largest_bytes, labels=labels, series=series)
    image = opened.read()
    if image.GetSize() != opened.grid.size:
        raise InputError(f"holds {image.GetSize()} voxels, expected {opened.grid.size}")
    place(image, opened.grid)
    return image


def _whole_numbers(path: Path, scan_grid: Grid, largest_bytes: int) -> sitk.Image:
    """Reads a segmentation of any labels, also of none, on the grid of its scan."""
    image = _read(path, largest_bytes, labels=True)
    values = view_of(image)
    check_finite(values)
    _check_same_grid(grid_of(image), scan_grid)
    if values.dtype.kind == "f":
        if not np.array_equal(values, np.round(values)):
            raise InputError("holds fractions, expected a segmentation of whole labels")
        image = sitk.Cast(image, sitk.sitkInt64)
    place(image, scan_grid)
    return image


def _check_any(values: NDArray[Any], mask: NDArray[np.bool_], labels: Sequence[int] = ()) -> None:
    if not mask.any():
        found = ", ".join(str(value) for value in np.unique(values)[:20])
        wanted = f"one of the labels {', '.join(map(str, labels))}" if labels else "a label"
        raise InputError(f"no voxel has {wanted}; the values found are {found}")


def _check_same_grid(found: Grid, expected: Grid) -> None:
    if found.size != expected.size:
        raise InputError(f"has {found.size} voxels, expected the {expected.size} of its scan")
    for name in ("origin", "spacing", "direction"):
        here, there = getattr(found, name), getattr(expected, name)
        if np.abs(here - there).max() > SAME_GRID_TOLERANCE:
            raise InputError(
                f"has the {name} {np.round(here, 4).tolist()}, expected its scan's "
                f"{np.round(there, 4).tolist()} within {SAME_GRID_TOLERANCE:g}"
            )
