"""What the survey of the template says, as later stages read it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from landmarkflow.core.errors import InputError, about
from landmarkflow.core.files import read_json
from landmarkflow.methods.oneshot.normalise import Array, Range

Greys = Literal["auto", "hu", "percentiles", "histogram"]
Places = Literal["auto", "mixture", "network", "whole"]


@dataclass(frozen=True)
class Survey:
    """What the study's template decides for all scans.

    Attributes:
        normalise: hu, percentiles or histogram; auto is hu, and histogram for other units.
        locate: mixture, network or whole; auto is mixture, and network where nothing is dense.
        low: grey value of the template that becomes 0.
        high: grey value of the template that becomes 1.
        histogram: shares of the template's voxels between both.
        dense_mm3: mass of the dense component around the template's target, mm³.
        because: the reason, in one line.
    """

    normalise: Greys
    locate: Places
    low: float
    high: float
    histogram: tuple[float, ...]
    dense_mm3: float
    because: str

    @property
    def range(self) -> Range:
        """The template's grey values that become 0 and 1."""
        return Range(self.low, self.high)

    @property
    def shares(self) -> Array:
        """The histogram as an array."""
        return np.array(self.histogram)


def read_survey(path: Path) -> Survey:
    """Read what `write_json` wrote of a survey.

    Raises:
        InputError: the file is missing or holds something else.
    """
    data = read_json(path)
    with about(path):
        try:
            return Survey(**{**data, "histogram": tuple(data["histogram"])})
        except (KeyError, TypeError):
            raise InputError("expected what the template's survey found") from None
