"""Transforms in ITK's text format, written whole."""

from pathlib import Path

import SimpleITK as sitk

from landmarkflow.core.errors import InputError
from landmarkflow.core.files import cut_short, replacing


def write_transform(transform: sitk.Transform, path: Path) -> None:
    """Writes a transform in ITK's format, replacing `path` as a whole.

    Raises:
        OSError: The file was not written whole, as where the disk is full.
    """
    with replacing(path) as temporary:
        sitk.WriteTransform(transform, str(temporary))
        # A full disk cuts the file short without a word.
        if _parameters(temporary) != transform.GetParameters():
            raise cut_short(path)


def read_transform(path: Path) -> sitk.Transform:
    """Reads a transform of points in 3D, LPS mm.

    Raises:
        InputError: The file is missing, cut short or no transform of 3D points.
    """
    try:
        if Path(path).is_file():
            transform: sitk.Transform = sitk.ReadTransform(str(path))
            if transform.GetDimension() == 3:
                return transform
        found = "no such file" if not Path(path).exists() else "is no transform of 3D points"
    except RuntimeError:
        found = "cannot be read as a transform"
    raise InputError(f"{path}: {found}, expected a transform in ITK's format")


def _parameters(path: Path) -> tuple[float, ...] | None:
    """Parameters of a transform's file; None where its text ends too early to be one."""
    if not path.read_bytes().endswith(b"\n"):
        return None
    try:
        parameters: tuple[float, ...] = sitk.ReadTransform(str(path)).GetParameters()
    except RuntimeError:
        return None
    return parameters
