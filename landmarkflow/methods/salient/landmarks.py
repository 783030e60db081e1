"""The landmarks of one picture: maxima of its map, with the features that name them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from landmarkflow.methods.salient.frames import Frame
from landmarkflow.methods.salient.maps import Seen, features_at
from landmarkflow.methods.salient.peaks import fit, maxima
from landmarkflow.methods.salient.settings import DiscoverSettings

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Maxima:
    """Maxima of a map, the most salient first.

    Attributes:
        cells: (n, 2) x, y of the cells in pixels of the picture.
        fitted: (n, 2) between the cells, pixels of the picture.
        saliency: (n,) share of the map's largest value.
        features: (n, channels).
    """

    cells: Array
    fitted: Array
    saliency: Array
    features: NDArray[np.float32]


def maxima_of_views(seen: Seen, frame: Frame, settings: DiscoverSettings) -> list[Array]:
    """Maxima of each changed view of a picture, (m, 2) pixels of the picture.

    Args:
        seen: what the networks say of the picture.
        frame: of the picture.
        settings: which maxima count.
    """
    found = [(view, maxima(view, settings.distance, settings.threshold)) for view in seen.views]
    return [frame.to_pixels(fit(view, cells)) for view, cells in found]


def maxima_of(seen: Seen, frame: Frame, settings: DiscoverSettings, which: str) -> Maxima:
    """Find the maxima of a picture's map.

    Args:
        seen: what the networks say of the picture.
        frame: of the picture.
        settings: which maxima count.
        which: features, `last` or `levels`.
    """
    found = maxima(seen.saliency, settings.distance, settings.threshold)
    between = fit(seen.saliency, found)
    height = seen.saliency[found[:, 1], found[:, 0]] / seen.saliency.max()
    features = features_at(seen, frame, found.astype(np.float64), which)
    # A fit may lead half a cell beyond the picture; its edge is as far as a landmark can be.
    last = np.array([frame.width, frame.height]) - 0.5
    inside = np.clip(frame.to_pixels(between), -0.5, last)
    return Maxima(
        frame.to_pixels(found.astype(np.float64)), inside, height.astype(np.float64), features
    )
