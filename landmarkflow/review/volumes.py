"""Scans as the page shows them: NIfTI files in a temporary folder, made when they are asked for."""

import os
import struct
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from landmarkflow.core.grids import Grid
from landmarkflow.core.points import Landmarks
from landmarkflow.formats.volumes import read_grid, read_volume
from landmarkflow.formats.written import write_volume
from landmarkflow.images.operations import grid_of, view_of

# So many files stay: the scans before and after, without filling the disk with a whole study.
KEPT = 8
# A larger scan is shown coarser: browsers hold it as a texture, several times over. Points are in
# mm and lose nothing.
MOST_VOXELS = 96_000_000
# Most of a scan is air: what is dense is a few percent of it, metal less than a thousandth.
_WINDOW_PERCENT = (1.0, 99.8)
_SAMPLES = 1_000_000
# Of `cal_max` in a NIfTI-1 header; `cal_min` follows it.
_CAL_MAX_OFFSET = 124
# NiiVue reads these; 64 bits it does not.
_SHOWN_AS = {
    sitk.sitkInt8: sitk.sitkInt16,
    sitk.sitkUInt32: sitk.sitkFloat32,
    sitk.sitkInt64: sitk.sitkFloat32,
    sitk.sitkUInt64: sitk.sitkFloat32,
    sitk.sitkFloat64: sitk.sitkFloat32,
}


@dataclass(frozen=True)
class Source:
    """Where a scan lies: a file, or a folder of DICOM series with the one that is meant."""

    image: Path
    series: str = ""


@dataclass(frozen=True, eq=False)
class Move:
    """x in the scan = `matrix` (3, 3) x in the template + `shift` (3,), both LPS mm, no scaling."""

    matrix: NDArray[np.float64]
    shift: NDArray[np.float64]

    def points(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """(n, 3) points of the template as they lie in the scan."""
        return np.asarray(points @ self.matrix.T + self.shift)


def move_between(template: Landmarks, scan: Landmarks, *, mirrored: bool) -> Move | None:
    """The rotation and shift that lay the template's landmarks on a scan's (Kabsch 1976).

    Args:
        template: its landmarks.
        scan: those of the scan.
        mirrored: whether the scan shows the other side, so that a mirror image is laid on it.

    Returns:
        None where fewer than three landmarks are known in both, or they lie on a line.
    """
    both = [label for label in template.labels if label in scan.labels]
    here, there = template.select(both).positions, scan.select(both).positions
    known = np.isfinite(here).all(axis=1) & np.isfinite(there).all(axis=1)
    here, there = here[known], there[known]
    if len(here) < 3:
        return None
    middle, target = here.mean(axis=0), there.mean(axis=0)
    left, values, right = np.linalg.svd((here - middle).T @ (there - target))
    if values[1] < 1e-6 * values[0]:
        return None
    wanted = -1.0 if mirrored else 1.0
    sign = wanted * np.sign(np.linalg.det(left @ right))
    matrix = (left @ np.diag([1.0, 1.0, sign]) @ right).T
    return Move(matrix, target - matrix @ middle)


class Volumes:
    """Makes what is shown; one at a time, so that two large scans are never read at once."""

    def __init__(self, folder: Path, largest_bytes: int) -> None:
        self._folder = folder
        self._largest = largest_bytes
        self._lock = threading.Lock()
        self._grids: dict[Source, Grid] = {}
        self._files: OrderedDict[str, BinaryIO] = OrderedDict()

    def grid(self, source: Source) -> Grid:
        """The grid of a scan, by its header.

        Raises:
            InputError: it cannot be read.
        """
        # Without the lock: who saves a point does not wait for a scan that is being made.
        if source not in self._grids:
            self._grids[source] = read_grid(source.image, self._largest, source.series)
        return self._grids[source]

    def scan(self, name: str, source: Source) -> BinaryIO:
        """A scan as an open NIfTI file, whose place for reading others may move.

        Raises:
            InputError: it cannot be used.
        """
        return self._kept(f"scan-{name}", lambda: self._read(source))

    def template(self, name: str, source: Source, move: Move | None, scan: Source) -> BinaryIO:
        """The template as an open NIfTI file, turned as a scan lies where a move is known.

        Raises:
            InputError: it cannot be used.
        """
        if move is None:
            return self._kept("template", lambda: self._read(source))
        direction = self.grid(scan).direction
        return self._kept(f"template-{name}", lambda: turned(self._read(source), move, direction))

    def _read(self, source: Source) -> sitk.Image:
        return read_volume(source.image, self._largest, source.series)

    def _kept(self, name: str, make: Callable[[], sitk.Image]) -> BinaryIO:
        with self._lock:
            if name not in self._files:
                image = shown(make())
                path = self._folder / f"{name}.nii"
                write_volume(image, path)
                _state_window(path, image)
                self._files[name] = path.open("rb")
                # An open file without a name is gone with the program, however that ends.
                path.unlink()
            self._files.move_to_end(name)
            while len(self._files) > KEPT:
                self._files.popitem(last=False)[1].close()
            # Who sends it may go on where it is dropped here meanwhile.
            return os.fdopen(os.dup(self._files[name].fileno()), "rb")


def shown(image: sitk.Image) -> sitk.Image:
    """An image of a size and type that the page can show."""
    if image.GetPixelID() in _SHOWN_AS:
        image = sitk.Cast(image, _SHOWN_AS[image.GetPixelID()])
    voxels = float(np.prod(image.GetSize()))
    if voxels > MOST_VOXELS:
        factor = int(np.ceil((voxels / MOST_VOXELS) ** (1 / 3)))
        image = sitk.BinShrink(image, [min(factor, count) for count in image.GetSize()])
    return image


def _state_window(path: Path, image: sitk.Image) -> None:
    """Write into a NIfTI file's header which intensities are shown black and white."""
    values = view_of(image).ravel()
    low, high = np.percentile(values[:: max(1, len(values) // _SAMPLES)], _WINDOW_PERCENT)
    with path.open("r+b") as file:
        file.seek(_CAL_MAX_OFFSET)
        file.write(struct.pack("<ff", high, low))


def turned(image: sitk.Image, move: Move, direction: NDArray[np.float64]) -> sitk.Image:
    """The template as the scan lies, on axes as the scan's, in cubes of its own mean voxel size."""
    corners = move.points(grid_of(image).corners) @ direction
    low, high = corners.min(axis=0), corners.max(axis=0)
    spacing = float(np.prod(image.GetSpacing()) ** (1 / 3))
    spacing = max(spacing, float((np.prod(high - low) / MOST_VOXELS) ** (1 / 3)))
    size = np.maximum(np.ceil((high - low) / spacing), 1).astype(int)
    back = sitk.AffineTransform(3)
    back.SetMatrix(move.matrix.T.ravel().tolist())
    back.SetTranslation((-move.matrix.T @ move.shift).tolist())
    resample = sitk.ResampleImageFilter()
    resample.SetSize(size.tolist())
    resample.SetOutputSpacing([spacing] * 3)
    resample.SetOutputOrigin((direction @ (low + spacing / 2)).tolist())
    resample.SetOutputDirection(direction.ravel().tolist())
    resample.SetTransform(back)
    resample.SetInterpolator(sitk.sitkLinear)
    resample.SetDefaultPixelValue(float(view_of(image).min()))
    found: sitk.Image = resample.Execute(image)
    return found
