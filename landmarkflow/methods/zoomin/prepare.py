"""Bring any picture into one frame and one range: its field at one width, its colours alike."""

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import nn

from landmarkflow.core.errors import ScanFailure
from landmarkflow.learning.crops import Frame, Pyramid

Array = NDArray[np.float64]
Field = Literal["round", "picture"]

# The field is looked for in a picture reduced to about so many pixels.
SEARCHED = 320
# Brightness above the background, of the picture's bright parts, from which a pixel is field.
LEAST_BRIGHTNESS = 0.12
# A circle is taken where its edge lies within this share of its radius for half of the border, and
# where so much of its circumference is seen; else the bounds of what is bright are the field.
CLOSE, LEAST_ARC = 0.02, 0.25
# Widths of the neighbourhoods that local contrast is relative to, as shares of the field's width.
# The narrow one shows vessels, the wide one what is as large as a fovea's dark spot.
NEIGHBOURHOODS = (1 / 24, 1 / 8)
CONTRASTS = len(NEIGHBOURHOODS)
# A colour that spans less than this share of what the others do is stretched no further: its noise
# would fill the range.
LEAST_SPAN = 0.5
# The share of the range that is kept for what is darker than the 1st per cent, and as much for what
# is brighter than the 99th: fovea and disc are about so small a part of a photograph, and clipped
# they would be flat.
END = 0.12
# Local contrast of so many deviations fills the range; one below this share of the picture's range
# is taken to be noise and stays faint.
DEVIATIONS, LEAST_CONTRAST = 3.0, 0.02
# Values that differ by less than this share of the largest are the same, but for rounding.
LEAST_RANGE = 1e-3
# The outermost ring of a round field is a blurred edge.
EDGE = 0.985
# Green shows vessels and fovea best; blue is the noisiest.
LUMINANCE = np.array([0.25, 0.7, 0.05], np.float32)


@dataclass(frozen=True)
class RoundField:
    """The lit part of a picture: a circle, in pixels; `certain` where one was fitted."""

    x: float
    y: float
    diameter: float
    certain: bool


@dataclass(frozen=True, eq=False)
class Prepared:
    """A picture as networks see it.

    Attributes:
        channels: (colours + CONTRASTS, size, size) uint8, 0 beyond the field: colours, then local
            contrasts, 128 where a pixel is as its neighbourhood is.
        frame: the grid of these pixels over the picture.
    """

    channels: NDArray[np.uint8]
    frame: Frame


def find_field(picture: NDArray[Any], kind: Field) -> RoundField:
    """The part of a picture that shows something.

    Args:
        picture: (rows, columns, channels).
        kind: `round` looks for the bright disc of a fundus camera, whose border may be cut off;
            `picture` takes all of the picture, letterboxed.
    """
    rows, columns = picture.shape[:2]
    whole = RoundField((columns - 1) / 2, (rows - 1) / 2, float(max(rows, columns)), False)
    if kind == "picture":
        return whole
    step = max(1, math.ceil(max(rows, columns) / SEARCHED))
    small = _reduced(picture.astype(np.float32).max(axis=2), step)
    low, high = np.percentile(small, [0.5, 97])
    if high <= low:
        return whole
    bright = ndimage.binary_opening(small > low + LEAST_BRIGHTNESS * (high - low), iterations=2)
    pieces, count = ndimage.label(bright)
    if not count:
        return whole
    largest = 1 + int(np.argmax(np.bincount(pieces.ravel())[1:]))
    mask = ndimage.binary_fill_holes(pieces == largest)
    found = _circle(mask) or _bounds(mask)
    x, y, diameter = (value * step for value in found[:3])
    # A pixel of the reduced picture has its centre in the middle of those that it stands for.
    return RoundField(x + (step - 1) / 2, y + (step - 1) / 2, diameter, bool(found[3]))


def _reduced(values: NDArray[np.float32], step: int) -> NDArray[np.float32]:
    rows, columns = (count // step * step for count in values.shape)
    blocks = values[:rows, :columns].reshape(rows // step, step, columns // step, step)
    return np.asarray(blocks.mean(axis=(1, 3)))


def _bounds(mask: NDArray[np.bool_]) -> tuple[float, float, float, bool]:
    y, x = np.nonzero(mask)
    wide, tall = int(np.ptp(x)) + 1, int(np.ptp(y)) + 1
    return (x.min() + x.max()) / 2, (y.min() + y.max()) / 2, float(max(wide, tall)), False


def _circle(mask: NDArray[np.bool_]) -> tuple[float, float, float, bool] | None:
    """Centre and diameter of the circle through a mask's border, parts at the edge left out."""
    border = mask & ~ndimage.binary_erosion(mask, border_value=1)
    y, x = np.nonzero(border)
    rows, columns = mask.shape
    free = (x > 2) & (y > 2) & (x < columns - 3) & (y < rows - 3)
    points = np.stack([x[free], y[free]], axis=1).astype(np.float64)
    if len(points) < 20:
        return None
    kept = np.ones(len(points), bool)
    centre, radius = np.zeros(2), 0.0
    for _ in range(8):
        # |p|² = 2 p·c + (r² - |c|²) is linear in the centre c.
        terms = np.column_stack([2 * points[kept], np.ones(int(kept.sum()))])
        fit = np.linalg.lstsq(terms, (points[kept] ** 2).sum(axis=1), rcond=None)[0]
        centre, radius = fit[:2], math.sqrt(max(float(fit[2] + fit[:2] @ fit[:2]), 1e-6))
        off = np.abs(np.linalg.norm(points - centre, axis=1) - radius)
        kept = off <= max(np.median(off) * 2, 0.003 * radius)
    close = np.linalg.norm(points - centre, axis=1)
    near = np.abs(close - radius) < CLOSE * radius
    turned = np.arctan2(*(points[near] - centre).T[::-1])
    arc = len(np.unique(np.floor((turned + np.pi) / (2 * np.pi) * 72))) / 72
    usual = 0.3 * max(mask.shape) < 2 * radius < 2 * max(mask.shape)
    if near.mean() < 0.5 or arc < LEAST_ARC or not usual:
        return None
    return float(centre[0]), float(centre[1]), 2 * radius + 1, True


def frame_of_field(field: RoundField, size: int) -> Frame:
    """The square frame of so many pixels that holds the field, in pixels of the picture."""
    return Frame.upright((field.x, field.y), field.diameter / size, (size, size))


def prepared(picture: NDArray[Any], field: RoundField, size: int, colours: int) -> Prepared:
    """Bring a picture into its frame, stretch its colours, and add its local contrast.

    Args:
        picture: (rows, columns, channels), any range.
        field: the part that shows something.
        size: of the frame, pixels.
        colours: 1 or 3; a grey picture has three alike, a coloured one's luminance is grey.

    Raises:
        ScanFailure: all of the field is of one brightness.
    """
    frame = frame_of_field(field, size)
    values = picture.astype(np.float32)
    if colours == 3 and values.shape[2] == 1:
        values = np.repeat(values, 3, axis=2)
    elif colours == 1 and values.shape[2] == 3:
        values = values @ LUMINANCE[:, None]
    shown = np.concatenate([values, np.ones_like(values[..., :1])], axis=2)
    pyramid = Pyramid.of(torch.from_numpy(np.ascontiguousarray(shown.transpose(2, 0, 1))))
    work = pyramid.crop(frame).numpy()
    inside = work[-1] > 0.99
    if field.certain:
        x, y = np.meshgrid(*(np.arange(size) - (size - 1) / 2,) * 2)
        inside &= np.hypot(x, y) < EDGE * size / 2
    seen = work[:-1, inside]
    if not inside.any() or np.ptp(seen) <= LEAST_RANGE * np.abs(seen).max():
        raise ScanFailure("the picture is of one brightness, expected one that shows something")
    return Prepared(_channels(work[:-1], inside), frame)


def _channels(work: NDArray[np.float32], inside: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Per cent 1 to 99 of each colour as 31 to 224; then the local contrasts of their luminance."""
    low, high = np.percentile(work[:, inside], [1, 99], axis=1)
    spanned = np.maximum(high - low, max(1e-6, LEAST_SPAN * float((high - low).max())))
    stretched = (work - low[:, None, None]) / spanned[:, None, None]
    plain = _with_soft_ends(END + (1 - 2 * END) * stretched) * inside
    grey = np.tensordot(LUMINANCE if len(work) == 3 else np.ones(1, np.float32), plain, axes=1)
    contrasts = [_contrast(grey, inside, share * len(inside)) for share in NEIGHBOURHOODS]
    return np.concatenate([plain * 255, np.stack(contrasts)]).round().astype(np.uint8)


def _with_soft_ends(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Values between 0 and 1, those beyond `END` of both by a curve that nears them ever slower."""
    dark = END * np.exp(np.minimum(values / END - 1, 0))
    bright = 1 - END * np.exp(np.minimum((1 - values) / END - 1, 0))
    ends = np.where(values < END, dark, np.where(values > 1 - END, bright, values))
    return np.asarray(ends, dtype=np.float32)


def _contrast(
    grey: NDArray[np.float32], inside: NDArray[np.bool_], width: float
) -> NDArray[np.float32]:
    """Contrast, 1 to 255, to a neighbourhood of a width, relative to that usual around it."""
    weight = _blurred(inside.astype(np.float32), width) + 1e-6
    off = (grey - _blurred(grey, width) / weight) * inside
    usual = np.sqrt(_blurred(off**2, 2 * width) / (_blurred(inside * 1.0, 2 * width) + 1e-6))
    relative = np.clip(off / (usual + LEAST_CONTRAST) / DEVIATIONS, -1, 1)
    return np.asarray((128 + 127 * relative) * inside, dtype=np.float32)


def _blurred(values: NDArray[Any], width: float) -> NDArray[np.float32]:
    """A Gaussian blur, 0 beyond the edge; a wide one is made at an eighth of the resolution."""
    step = 8 if width > 16 else 1
    small = nn.functional.avg_pool2d(torch.from_numpy(np.asarray(values, np.float32))[None], step)
    soft = ndimage.gaussian_filter(small[0].numpy(), width / step, mode="constant")
    back = nn.functional.interpolate(
        torch.from_numpy(soft)[None, None], values.shape, mode="bilinear", align_corners=False
    )
    return np.asarray(back[0, 0].numpy())
