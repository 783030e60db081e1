"""Which ear each subject of a cohort is, known before any is simulated."""

from typing import Literal

import numpy as np

from landmarkflow.cohorts.settings import CohortSettings


def side_of(settings: CohortSettings, seed: int, index: int) -> Literal["left", "right"]:
    """Side of subject `index`; subject 0, the template, is a right ear."""
    left = index != 0 and np.random.default_rng([seed, index, 1]).random() < settings.left_fraction
    return "left" if left else "right"
