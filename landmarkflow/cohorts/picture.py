"""A simulated picture: pixels, landmarks, and where observers looked."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from landmarkflow.core.points import Landmarks


@dataclass(frozen=True, eq=False)
class Picture:
    image: NDArray[np.uint8]
    landmarks: Landmarks
    gaze: tuple[tuple[str, float, float, int, int], ...] = ()
