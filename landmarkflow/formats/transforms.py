"""Transforms in ITK's text format, written whole."""

from pathlib import Path

import SimpleITK as sitk

from landmarkflow.core.errors import InputError
from landmarkflow.core.files import cut_short, replacing


def write_transform(transform: sitk.Transform, path: Path) -> None:
    """Writes a transform, replacing `path` as a whole; a disk that is full is an OSError."""
    with replacing(path) as temporary:
        sitk.WriteTransform(transform, str(temporary))
        # A full disk cuts the file short without a word.
        try:
            whole = temporary.read_bytes().endswith(b"\n") and (
                read_transform(temporary).GetParameters() == transform.GetParameters()
            )
        except InputError:
            whole = False
        if not whole:
            raise cut_short(path)


def read_transform(path: Path) -> sitk.Transform:
    """Reads a transform of points in 3D, LPS mm; refuses what is missing, cut short or another."""
    try:
        if Path(path).is_file():
            transform: sitk.Transform = sitk.ReadTransform(str(path))
            if transform.GetDimension() == 3:
                return transform
        found = "no such file" if not Path(path).exists() else "is no transform of 3D points"
    except RuntimeError:
        found = "cannot be read as a transform"
    raise InputError(f"{path}: {found}, expected a transform in ITK's format")
