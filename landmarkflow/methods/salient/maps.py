"""Maps and features of pictures, as networks see them."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from landmarkflow.core.errors import InputError
from landmarkflow.core.files import replacing
from landmarkflow.methods.salient.frames import Frame
from landmarkflow.methods.salient.settings import PredictSettings

Array = NDArray[np.float64]

# Keeps logarithms of a map finite.
LEAST = 1e-12


@dataclass(frozen=True, eq=False)
class Seen:
    """What networks say of a picture.

    Attributes:
        saliency: (rows, columns) probability of each cell, of sum 1.
        features: (channels, rows, columns) of levels of the first network, float32, those of the
            last layer at the end; the others have coarser cells, and all cover the whole input.
        views: (views, rows, columns) the first network's maps of changed views of the picture,
            laid back onto it.
    """

    saliency: NDArray[np.float32]
    features: tuple[NDArray[np.float32], ...]
    views: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 0, 0), np.float32))


def features_at(seen: Seen, frame: Frame, cells: Array, which: str) -> NDArray[np.float32]:
    """(n, channels) features at places (n, 2) in cells of the map.

    Args:
        seen: of a picture.
        frame: of the same.
        cells: x, y.
        which: the `last` layer, or the coarse `levels`, each of which counts alike.
    """
    levels = seen.features[-1:] if which == "last" else seen.features[:-1]
    found = []
    for level in levels:
        _, rows, columns = level.shape
        scale = np.array([columns, rows]) * frame.stride
        at = (cells + 0.5) * scale / (frame.input_width, frame.input_height) - 0.5
        values = [
            ndimage.map_coordinates(channel, [at[:, 1], at[:, 0]], order=1, mode="nearest")
            for channel in level
        ]
        found.append(np.stack(values, axis=1) / np.sqrt(len(level)))
    return np.concatenate(found, axis=1)


def at_pixels(saliency: NDArray[np.floating], frame: Frame) -> Array:
    """A map on its picture's pixels (height, width), of sum 1.

    Between cells its logarithm is a cubic spline, so that a Gaussian stays one.
    """
    columns, rows = (
        frame.to_cells(np.stack([np.arange(count)] * 2, axis=1).astype(np.float64))[:, 0]
        for count in (frame.width, frame.height)
    )
    grid = np.meshgrid(rows, columns, indexing="ij")
    logs = np.log(np.maximum(saliency.astype(np.float64), LEAST))
    found = np.exp(ndimage.map_coordinates(logs, grid, order=3, mode="nearest"))
    return np.asarray(found / found.sum())


def softened(saliency: Array, settings: PredictSettings, stride: int) -> Array:
    """A map (rows, columns) blurred, raised to a power and divided by its surroundings, of sum 1.

    Networks place what they never saw less surely than the blur says that they learned on pictures
    which they know. What lies in a broad mass, as in the picture's middle, counts less than a peak
    that stands alone. Beyond the border the outermost cells go on.

    Args:
        saliency: of sum 1.
        settings: blurs, in pixels of the network's input, and exponents.
        stride: pixels of a cell.
    """

    def blurred(pixels: float) -> Array:
        found = ndimage.gaussian_filter(saliency, pixels / stride, mode="nearest")
        return np.asarray(np.maximum(found, LEAST))

    if not (settings.soften_px or settings.surround) and settings.power == 1:
        return saliency
    found = blurred(settings.soften_px) if settings.soften_px else saliency
    around = blurred(settings.surround_px) if settings.surround else 1.0
    found = found**settings.power / around**settings.surround
    return np.asarray(found / found.sum())


def save_seen(path: Path, seen: Seen) -> None:
    """Write the features of a picture, in half precision, and views to one file without pickle."""
    arrays: dict[str, NDArray[np.floating]] = {
        str(n): level.astype(np.float16) for n, level in enumerate(seen.features)
    }
    arrays["views"] = seen.views
    with replacing(path) as beside, beside.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]


def load_seen(saliency: Path, features: Path) -> Seen:
    """Read a picture's map and features.

    Raises:
        InputError: a file is missing or damaged.
    """
    try:
        shown = np.load(saliency, allow_pickle=False)
        with np.load(features, allow_pickle=False) as stored:
            count = len(stored.files) - 1
            levels = [stored[str(number)].astype(np.float32) for number in range(count)]
            views = stored["views"]
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise InputError(f"{saliency}: cannot be read as a saliency map ({error})") from error
    return Seen(shown, tuple(levels), views)
