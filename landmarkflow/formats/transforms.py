"""Transforms in ITK's text format, written whole."""

from pathlib import Path

import SimpleITK as sitk

from landmarkflow.core.errors import InputError
from landmarkflow.core.files import cut_short, replacing


def write_transform(transform: sitk.Transform, path: Path, what: str = "") -> None:
    """Writes a transform, replacing `path` as a whole; a disk that is full is an OSError.

    `what`, one line on what is mapped to what, stands in the file as its first comment: behind the
    line by which ITK, and so 3D Slicer, knows the format.
    """
    with replacing(path) as temporary:
        sitk.WriteTransform(transform, str(temporary))
        if what:
            mark, _, rest = temporary.read_text("utf-8").partition("\n")
            temporary.write_text(f"{mark}\n# {what}\n{rest}", "utf-8")
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
