"""What the pictures learned from are like, fitted; `familiar` compares further pictures with it."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.covariance import LedoitWolf

from landmarkflow.methods.salient.familiar import Familiar, Kind, Step

Array = NDArray[np.float64]

# Parts of the pictures learned from, each scored by the kind of all others.
PARTS = 10
# Fewer pictures with both landmarks say too little of how the two lie to each other.
FEWEST = 10
# What hardly varies among the pictures learned from must not decide alone: it is divided by this
# share of the median deviation at least.
LEAST_SPREAD, TINY = 0.1, 1e-6


def familiar_of(
    pictures: Sequence[Array],
    flat: Sequence[float],
    steps: Sequence[Mapping[Step, Array]],
    moves: Sequence[Mapping[Step, float]],
) -> Familiar:
    """What pictures are like; steps that too few of them have are left out.

    Args:
        pictures: features of each.
        flat: flatness of each one's map.
        steps: between the landmarks of each.
        moves: of the landmarks of each.
    """
    features = np.array(pictures)
    part = np.arange(len(features)) % min(PARTS, len(features))
    away = np.empty(len(features))
    for number in np.unique(part):
        here = part == number
        away[here] = kind_of(features[~here]).away(features[here])
    return Familiar(kind_of(features), away, np.array(flat), _enough(steps), _enough(moves))


def _enough(values: Sequence[Mapping[Step, Any]]) -> dict[Step, Array]:
    """Values of the pictures that have them, by landmarks, where there are enough pictures."""
    keys = sorted({key for own in values for key in own})
    known = {key: np.array([own[key] for own in values if key in own]) for key in keys}
    return {key: found for key, found in known.items() if len(found) >= FEWEST}


def kind_of(features: Array) -> Kind:
    """The kind of pictures with features (n, d), of which there are more than pictures.

    The covariance is drawn towards the identity by as much as Ledoit and Wolf (2004) say.
    """
    deviation = features.std(axis=0)
    spread = deviation + TINY + LEAST_SPREAD * float(np.median(deviation))
    mean = features.mean(axis=0)
    fitted = LedoitWolf(assume_centered=True).fit((features - mean) / spread)
    return Kind(mean, spread, np.asarray(fitted.precision_, np.float64))
