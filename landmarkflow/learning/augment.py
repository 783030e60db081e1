"""Random poses, bends and intensities of the windows that networks learn from."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation
from torch import Tensor, nn

Array = NDArray[np.float64]

# Control points of a bend along each axis of a window.
CONTROLS = 5
# Rounds in which a bend is inverted at a point; each leaves a fraction of the error before it.
ROUNDS = 8


@dataclass(frozen=True)
class Pose:
    """How a window lies in a scan: offset u from the window's middle → centre + A u + bend(u), mm.

    Attributes:
        centre: (3,) LPS mm.
        linear: A, (3, 3), of x, y, z.
        bend: (3, c, c, c) mm of control points over the window, z, y, x; None for none.
        half_mm: half the distance between the window's outermost voxel centres.
    """

    centre: Array
    linear: Array
    bend: Tensor | None
    half_mm: float

    def index_of(self, count: int, origin: Array, spacing: float) -> Tensor:
        """(n, n, n, 3) voxel indices x, y, z in a grid along LPS of each voxel of the window."""
        steps = torch.linspace(-self.half_mm, self.half_mm, count)
        z, y, x = torch.meshgrid(steps, steps, steps, indexing="ij")
        offsets = torch.stack([x, y, z], dim=-1)
        matrix = torch.from_numpy(self.linear.T.astype(np.float32))
        shift = torch.from_numpy((self.centre - origin).astype(np.float32))
        placed = offsets @ matrix + shift
        if self.bend is not None:
            size = (count, count, count)
            bent = nn.functional.interpolate(
                self.bend[None], size=size, mode="trilinear", align_corners=True
            )
            placed = placed + bent[0].permute(1, 2, 3, 0)
        return placed / spacing

    def to_window(self, points: Array, count: int) -> Array:
        """(k, 3) voxel indices x, y, z in the window of (k, 3) LPS points; NaN stays NaN."""
        inverse = np.linalg.inv(self.linear)
        moved = points - self.centre
        offsets = moved @ inverse.T
        for _ in range(ROUNDS if self.bend is not None else 0):
            offsets = (moved - self._bent(offsets)) @ inverse.T
        step = 2 * self.half_mm / (count - 1)
        return np.asarray((offsets + self.half_mm) / step)

    def _bent(self, offsets: Array) -> Array:
        assert self.bend is not None
        where = torch.from_numpy(np.nan_to_num(offsets / self.half_mm).astype(np.float32))
        found = nn.functional.grid_sample(
            self.bend[None],
            where[None, None, None],
            padding_mode="border",
            align_corners=True,
        )
        return np.asarray(found[0, :, 0, 0].T.numpy(), dtype=np.float64)


def random_rotation(degrees: float, random: np.random.Generator) -> Array:
    """Rotation matrix: normal about each axis with this deviation; 180 is uniform over SO(3)."""
    if degrees >= 180:
        return np.asarray(Rotation.random(rng=random).as_matrix())
    vector = np.radians(random.normal(0, degrees, 3))
    return np.asarray(Rotation.from_rotvec(vector).as_matrix())


def random_pose(
    centre: Array,
    half_mm: float,
    random: np.random.Generator,
    *,
    rotation_degrees: float,
    scale: float,
    stretch: float,
    bend_mm: float,
) -> Pose:
    """A pose around a centre: rotation, size, stretch along random axes, and a smooth bend.

    Args:
        centre: (3,) LPS mm.
        half_mm: of the window.
        random: generator.
        rotation_degrees: deviation about each axis; 180 is every orientation alike.
        scale: largest relative change of size, either way.
        stretch: largest relative change along each axis beside that, either way.
        bend_mm: deviation of the bend at its control points; 0 for none.
    """
    turned = random_rotation(rotation_degrees, random)
    axes = random_rotation(180, random)
    lengths = np.exp(random.uniform(-scale, scale) + random.uniform(-stretch, stretch, 3))
    linear = turned @ axes @ np.diag(lengths) @ axes.T
    bend = None
    if bend_mm > 0:
        controls = random.normal(0, bend_mm, (3, CONTROLS, CONTROLS, CONTROLS))
        bend = torch.from_numpy(controls.astype(np.float32))
    return Pose(np.asarray(centre, dtype=np.float64), linear, bend, half_mm)


def sample(volume: Tensor, index: Tensor, padding: str = "reflection") -> Tensor:
    """Linear interpolation of (c, z, y, x) at (n, n, n, 3) voxel indices x, y, z: (c, n, n, n).

    Args:
        volume: float32.
        index: continuous; 0 is the centre of the first voxel.
        padding: what lies beyond the outermost centres: reflection, border or zeros.
    """
    last = torch.tensor([volume.shape[3], volume.shape[2], volume.shape[1]]) - 1
    where = 2 * index / last.clamp(min=1) - 1
    return nn.functional.grid_sample(
        volume[None], where[None], padding_mode=padding, align_corners=True
    )[0]


def blurred(volume: Tensor, sigma: float) -> Tensor:
    """(1, z, y, x) under a Gaussian of `sigma` voxels, the outermost voxels going on."""
    reach = max(1, int(np.ceil(3 * sigma)))
    steps = torch.arange(-reach, reach + 1, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (steps / sigma) ** 2)
    kernel = kernel / kernel.sum()
    padded = nn.functional.pad(volume[None], [reach] * 6, mode="replicate")
    for shape in ((-1, 1, 1), (1, -1, 1), (1, 1, -1)):
        padded = nn.functional.conv3d(padded, kernel.view(1, 1, *shape))
    return padded[0]


def random_intensities(
    window: Tensor,
    random: np.random.Generator,
    *,
    contrast: float,
    brightness: float,
    gamma: float,
    blur_voxels: float,
    noise: float,
) -> Tensor:
    """Change the intensities, about 0 to 1, of a window (1, z, y, x).

    Args:
        window: of intensities.
        random: generator.
        contrast: largest relative change of contrast, either way.
        brightness: largest shift, either way.
        gamma: largest logarithm of the exponent, either way.
        blur_voxels: largest deviation of a blur, which a third of the windows get.
        noise: largest deviation of noise, of which half is as coarse as two voxels.
    """
    if blur_voxels > 0 and random.random() < 1 / 3:
        window = blurred(window, random.uniform(0.3, 1.0) * blur_voxels)
    window = window.clamp(0, 1) ** float(np.exp(random.uniform(-gamma, gamma)))
    window = window * (1 + contrast * random.uniform(-1, 1)) + brightness * random.uniform(-1, 1)
    if noise > 0:
        generator = torch.Generator().manual_seed(int(random.integers(2**62)))
        fine = torch.randn(window.shape, generator=generator)
        if random.random() < 0.5:
            fine = 2.0 * nn.functional.avg_pool3d(fine[None], 3, 1, 1)[0]
        window = window + noise * random.uniform(0, 1) * fine
    return window
