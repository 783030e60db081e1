"""A picture of a template's target: three slices with its outline and the landmarks."""

from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage

from landmarkflow.core.files import replacing
from landmarkflow.core.points import Landmarks
from landmarkflow.images.operations import array_of, grid_of

# Pixels of a panel's height, and the margin around target and landmarks as a share of their size.
PANEL, MARGIN = 360, 0.25
OUTLINE, POINT = (230, 57, 70), (255, 209, 102)
POINT_RADIUS = 4


def draw_target(scan: sitk.Image, target: sitk.Image, landmarks: Landmarks, path: Path) -> None:
    """Draw the slices of the scan's own grid through the target's middle, side by side.

    Each of the three shows the scan along one axis of its grid, the target's outline in red and
    the landmarks, projected onto the slice, in yellow. What is superior is above, where the grid's
    last axis is the patient's own.

    Args:
        scan: the template.
        target: its segmentation on the same grid, 0 outside.
        landmarks: the template's, LPS mm.
        path: of the PNG file.
    """
    grid, values, inside = grid_of(scan), array_of(scan), array_of(target) > 0
    points = grid.to_index(landmarks.positions[~landmarks.missing])[:, ::-1]
    shown = np.vstack([np.argwhere(inside), points])
    spacing = grid.spacing[::-1]
    extra = MARGIN * np.ptp(shown * spacing, axis=0).max() / spacing
    last = np.array(values.shape) - 1
    low = np.clip(np.floor(shown.min(axis=0) - extra), 0, last).astype(int)
    high = np.clip(np.ceil(shown.max(axis=0) + extra), 0, last).astype(int)
    box = tuple(slice(a, b + 1) for a, b in zip(low, high, strict=True))
    grey = _grey(values[box])
    middle = np.rint(np.median(np.argwhere(inside[box]), axis=0)).astype(int)
    rises = bool(grid.direction[2, 2] > 0)
    panels = [
        _panel(
            grey.take(middle[axis], axis),
            inside[box].take(middle[axis], axis),
            np.delete(points - low, axis, axis=1),
            np.delete(spacing, axis),
            upside_down=rises and axis > 0,
        )
        for axis in range(3)
    ]
    width = sum(panel.width for panel in panels)
    sheet = Image.new("RGB", (width, max(panel.height for panel in panels)))
    left = 0
    for panel in panels:
        sheet.paste(panel, (left, 0))
        left += panel.width
    with replacing(path) as beside:
        sheet.save(beside, format="PNG")


def _grey(values: NDArray[Any]) -> NDArray[np.uint8]:
    low, high = np.percentile(values, (1, 99))
    scaled = (values.astype(np.float64) - low) / max(float(high - low), 1e-9)
    return np.asarray(255 * np.clip(scaled, 0, 1), dtype=np.uint8)


def _panel(
    grey: NDArray[np.uint8],
    inside: NDArray[np.bool_],
    points: NDArray[np.float64],
    spacing: NDArray[np.float64],
    *,
    upside_down: bool,
) -> Image.Image:
    """One slice, (rows, columns), as large on the sheet as in millimetres."""
    if upside_down:
        grey, inside = grey[::-1], inside[::-1]
        points = np.column_stack([len(grey) - 1 - points[:, 0], points[:, 1]])
    scale = PANEL / (np.array(grey.shape) * spacing).max()
    size = np.maximum(np.rint(np.array(grey.shape) * spacing * scale), 1).astype(int)
    picture = Image.fromarray(grey).resize((size[1], size[0]), Image.Resampling.BILINEAR)
    mask = Image.fromarray(inside.astype(np.uint8) * 255).resize(picture.size)
    marked = np.asarray(mask) > 0
    colours = np.array(picture.convert("RGB"))
    colours[marked & ~ndimage.binary_erosion(marked)] = OUTLINE
    panel = Image.fromarray(colours)
    draw = ImageDraw.Draw(panel)
    for row, column in (points + 0.5) * spacing * scale:
        corners = (
            (column - POINT_RADIUS, row - POINT_RADIUS),
            (
                column + POINT_RADIUS,
                row + POINT_RADIUS,
            ),
        )
        draw.ellipse(corners, outline=POINT, width=2)
    return panel
