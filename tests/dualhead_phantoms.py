"""Small volumes with three bright balls whose centres are landmarks; networks that know them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch
from numpy.typing import NDArray
from torch import Tensor

from landmarkflow.core.grids import Grid
from landmarkflow.core.points import Landmarks, PointList
from landmarkflow.formats.slicer import write_markups
from landmarkflow.formats.written import write_volume
from landmarkflow.images.operations import image_on
from landmarkflow.methods.dualhead.network import DualHead
from landmarkflow.methods.dualhead.settings import PassSettings

Array = NDArray[np.float64]

LABELS = ("BIG", "MIDDLE", "SMALL")
# Relative to the middle, mm: no two are alike, so that a mirrored target is another.
CENTRES = np.array([[-4.0, -1.5, 0.5], [3.0, -2.5, -2.0], [2.0, 4.0, 1.5]])
RADII = np.array([3.2, 2.7, 2.3])
BRIGHT = np.array([700.0, 900.0, 1200.0])


def smooth_balls(grid: Grid, centres: Array, radii: Array = RADII) -> NDArray[np.float64]:
    """(balls, z, y, x) from 0 to 1, one half at each ball's surface."""
    index = np.stack(np.meshgrid(*(np.arange(n) for n in grid.size), indexing="ij"), -1)
    points = grid.to_physical(index.reshape(-1, 3).astype(np.float64))
    apart = np.linalg.norm(points[None] - centres[:, None], axis=2) - radii[:, None]
    shares = 1 / (1 + np.exp(apart / 0.35))
    return np.asarray(shares.reshape(-1, *grid.size).transpose(0, 3, 2, 1))


def phantom(
    number: int, *, mirrored: bool = False, size: Sequence[int] = (34, 30, 28), spacing: float = 1.0
) -> tuple[sitk.Image, sitk.Image, Array]:
    """A volume, its labels and the balls' centres (3, 3), LPS mm, each number another."""
    random = np.random.default_rng([7, number])
    grid = Grid.centred(random.uniform(-3, 3, 3), size, spacing)
    turn = np.linalg.qr(np.eye(3) + random.normal(0, 0.08, (3, 3)))[0]
    turn = turn * np.sign(np.diag(turn))
    centres = CENTRES @ turn.T * random.uniform(0.92, 1.08)
    centres = centres * ([-1, 1, 1] if mirrored else 1) + grid.centre + random.uniform(-4, 4, 3)
    shares = smooth_balls(grid, centres)
    values = (shares * BRIGHT[:, None, None, None]).sum(axis=0)
    values += random.normal(0, 40, values.shape)
    labels = np.where(shares.max(axis=0) > 0.5, 1 + shares.argmax(axis=0), 0)
    image = image_on(grid, values.astype(np.int16))
    return image, image_on(grid, labels.astype(np.uint8)), centres


def write_phantom(
    folder: Path, name: str, number: int, *, mirrored: bool = False, missing: str = ""
) -> Array:
    """Writes scan, labels and landmarks, one of them undefined; returns the true places."""
    image, labels, centres = phantom(number, mirrored=mirrored)
    for kind in ("scans", "segmentations", "landmarks"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    write_volume(image, folder / f"scans/{name}.nii.gz")
    write_volume(labels, folder / f"segmentations/{name}.nii.gz")
    written = centres.copy()
    written[[label == missing for label in LABELS]] = np.nan
    points = PointList("final", Landmarks(LABELS, written), None)
    write_markups(folder / f"landmarks/{name}.mrk.json", [points])
    return centres


class Oracle(DualHead):
    """A network that knows: the logarithm of a voxel's intensity is its landmark's logit."""

    def __init__(self, settings: PassSettings) -> None:
        super().__init__(settings, 2, 1)

    def forward(self, windows: Tensor) -> Tensor:
        """Background, label and heat map of what is bright."""
        bright = windows[:, :1]
        marked = 20 * (bright - 0.5)
        return torch.cat([-marked, marked, torch.log(bright + 1e-9) + 4], dim=1)
