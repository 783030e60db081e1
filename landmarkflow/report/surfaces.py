"""The surface of a scan's target with its landmarks, small enough to be a part of the page."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from skimage.measure import marching_cubes

from landmarkflow.core.grids import Grid
from landmarkflow.core.points import Landmarks
from landmarkflow.images.masks import points_inside
from landmarkflow.images.operations import array_of, cropped
from landmarkflow.images.sampling import resample

Array = NDArray[np.float64]

# More show little more in a few hundred pixels; so many take 13 KB of the page.
MOST_TRIANGLES = 1100
# Grids are tried until their triangles are no more, and no fewer than this share of them.
LEAST_SHARE, ATTEMPTS = 0.8, 7
# Of the target's longest side, the step of the first grid.
FIRST_STEP = 1 / 20
# Below it lies what resampling blurs of the labels.
LEAST_LEVEL = 0.02
# What a vertex is told in, of the surface's longest side.
LEVELS = 2**16 - 1


@dataclass(frozen=True, eq=False)
class Surface:
    """Triangles around a target.

    Attributes:
        vertices: (n, 3) LPS mm.
        triangles: (m, 3) numbers of vertices, anticlockwise as seen from outside.
    """

    vertices: Array
    triangles: NDArray[np.int64]


def surface_of(labels: sitk.Image) -> Surface | None:
    """The surface of all labels above 0, on a grid so coarse that it has few triangles.

    It encloses the volume that the labels have: walls thinner than the grid stay.

    Args:
        labels: whole numbers, on any grid.

    Returns:
        The surface; None where nothing is labelled.
    """
    mask = labels > 0
    if not array_of(mask).any():
        return None
    inside = points_inside(mask)
    low, high = inside.min(axis=0), inside.max(axis=0)
    volume = len(inside) * float(np.prod(labels.GetSpacing()))
    spacing = float(max(labels.GetSpacing()))
    exact = sitk.Cast(cropped(mask, inside, 2 * spacing), sitk.sitkFloat32)
    size = high - low + spacing
    step, best = FIRST_STEP * float(size.max()), None
    for _ in range(ATTEMPTS):
        surface = _on_grid(exact, (low + high) / 2, size, step, volume)
        share = len(surface.triangles) / MOST_TRIANGLES
        if share <= 1 and (best is None or len(surface.triangles) > len(best.triangles)):
            best = surface
        if LEAST_SHARE <= share <= 1 or (share < 1 and step < spacing / 2):
            break
        step *= float(np.clip(np.sqrt(share / (1 + LEAST_SHARE) * 2), 0.5, 2.0))
    return best


def _on_grid(mask: sitk.Image, centre: Array, size: Array, step: float, volume: float) -> Surface:
    counts = np.ceil(size / step).astype(int) + 5
    grid = Grid.centred(centre, counts.tolist(), step)
    values = np.pad(array_of(resample(mask, grid)), 1)
    voxels = min(max(1, round(volume / step**3)), values.size - 1)
    # The level above which there lies as much as is labelled; of thin walls half of what is left.
    level = float(np.partition(values.ravel(), -voxels)[-voxels])
    level = min(max(level, LEAST_LEVEL), 0.5 * float(values.max()))
    places, triangles, _, _ = marching_cubes(values, level)
    vertices = grid.to_physical(places[:, ::-1] - 1)
    first, second, third = (vertices[triangles[:, k]] for k in range(3))
    if np.einsum("ij,ij->", first - centre, np.cross(second - centre, third - centre)) < 0:
        triangles = triangles[:, ::-1]
    return Surface(vertices, triangles.astype(np.int64))


def packed(surface: Surface) -> dict[str, Any]:
    """A surface as plain data for the page's script.

    `vertices` are uint16 x, y, z in steps of `step` mm from `origin`, LPS mm; `triangles` uint16
    numbers of vertices; both little-endian in base64.
    """
    low = surface.vertices.min(axis=0)
    step = float(np.ptp(surface.vertices, axis=0).max()) / LEVELS
    vertices = np.rint((surface.vertices - low) / step)
    return {
        "origin": low.round(4).tolist(),
        "step": step,
        "vertices": base64.b64encode(vertices.astype("<u2").tobytes()).decode("ascii"),
        "triangles": base64.b64encode(surface.triangles.astype("<u2").tobytes()).decode("ascii"),
    }


def marked(
    surface: Surface,
    detected: Landmarks,
    radius: Array,
    reference: Landmarks,
    said: Sequence[str],
) -> dict[str, Any]:
    """A surface and landmarks as plain data, those that matter most first.

    Args:
        surface: of the target.
        detected: n landmarks, (n, 3) LPS mm, NaN where missing.
        radius: (n,) mm, NaN for none.
        reference: the true places of some.
        said: (n,) what is told of each beside its name.
    """
    true = dict(zip(reference.labels, reference.positions.round(3).tolist(), strict=True))
    rows = zip(detected.labels, detected.positions.round(3).tolist(), radius, said, strict=True)
    points = [
        {
            "label": label,
            "detected": place if np.isfinite(place).all() else None,
            "radius": round(float(r), 3) if np.isfinite(r) else None,
            "reference": true[label] if np.isfinite(true.get(label, [np.nan])).all() else None,
            "said": text,
        }
        for label, place, r, text in rows
    ]
    return packed(surface) | {"points": points}
