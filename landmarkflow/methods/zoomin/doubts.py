"""What makes a picture's answer doubtful, one clause each, and the limits from which it does."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from landmarkflow.methods.zoomin.find import Found
from landmarkflow.methods.zoomin.settings import ZoomSettings
from landmarkflow.methods.zoomin.shape import Shape

Array = NDArray[np.float64]

# A landmark nearer to the border of the picture than so many of its pixels is at the border.
BORDER_PIXELS = 1.0
# How many numbers `extremes` gives.
EXTREMES = 5


@dataclass(frozen=True)
class Limits:
    """From where on an answer is doubtful; the settings of the same names in `ZoomSettings`."""

    least_presence: float
    most_elsewhere: float
    rival: float
    most_moved: float
    most_deviations: float
    most_apart: float

    @staticmethod
    def of(settings: ZoomSettings) -> "Limits":
        """Those that the settings state."""
        return Limits(**{name: getattr(settings, name) for name in Limits.__annotations__})

    def widened(self, extremes: Array, share: float) -> "Limits":
        """The limits moved until few of some pictures, which are right, are beyond any of them.

        The more landmarks there are, the farther off is the worst of them in a picture that is
        right. Each limit becomes one quantile of what these pictures have, alike for all limits,
        the lowest that serves; none becomes stricter than it is.

        Args:
            extremes: (n, 5) what `extremes` gives of each picture.
            share: of the pictures that may be beyond a limit, at most.
        """
        if not len(extremes):
            return self
        own = self._values()
        wider = (np.maximum(own, row) for row in np.sort(extremes, axis=0))
        # The last ones are beyond nothing, so one serves.
        limits = next(one for one in (own, *wider) if (extremes > one).any(axis=1).mean() <= share)
        presence, elsewhere, rival, moved, deviations = map(float, limits)
        return Limits(1 - presence, elsewhere, rival, moved, deviations, self.most_apart)

    def _values(self) -> Array:
        """(5,) the limits as `extremes` has them."""
        return np.array(
            [
                1 - self.least_presence,
                self.most_elsewhere,
                self.rival,
                self.most_moved,
                self.most_deviations,
            ]
        )

    def as_data(self) -> dict[str, float]:
        """Plain data, which `of_data` takes back."""
        return {name: round(value, 6) for name, value in asdict(self).items()}

    @staticmethod
    def of_data(data: Mapping[str, Any]) -> "Limits":
        """Those of `as_data`, read from JSON."""
        return Limits(**data)


def extremes(found: Found, shape: Shape, size: int) -> Array:
    """(5,) the worst of a picture's landmarks, the larger the worse.

    They are the probability that a landmark is not in its region, the share of its heat map
    elsewhere, the score of a second hypothesis, the move from coarse to final place as a share of
    the field, and how many deviations two landmarks lie otherwise than in annotated pictures.

    Args:
        found: the answer, in pixels of the frame.
        shape: how landmarks lie to each other in annotated pictures.
        size: width of the frame, pixels.
    """
    off = shape.deviations(found.positions / size)
    return np.array(
        [
            1 - found.presence.min(),
            found.elsewhere.max(),
            found.rival.max(),
            _moved(found, size).max(),
            off.max() if len(off) else 0.0,
        ]
    )


def _moved(found: Found, size: int) -> Array:
    return np.asarray(np.linalg.norm(found.positions - found.coarse, axis=1) / size)


def doubts(
    found: Found,
    landmarks: Sequence[str],
    shape: Shape,
    *,
    size: int,
    depth: Array,
    limits: Limits,
) -> list[str]:
    """Everything that tells a wrong answer from a right one.

    Args:
        found: the answer, in pixels of the frame.
        landmarks: names.
        shape: how landmarks lie to each other in annotated pictures.
        size: width of the frame, pixels, of which lengths in settings are shares.
        depth: (k,) distance of each landmark from the border of the picture, pixels.
        limits: from where on it is doubtful.
    """
    moved = _moved(found, size)
    kinds = (
        (
            found.presence < limits.least_presence,
            "the networks hardly see {named}: a probability of {least:.2f}, expected at least "
            f"{limits.least_presence:.2g}",
            found.presence,
        ),
        (
            found.elsewhere > limits.most_elsewhere,
            "the heat maps of {named} are flat or have a second peak: {most:.2f} of them lie "
            "elsewhere",
            found.elsewhere,
        ),
        (
            found.rival > limits.rival,
            "another place for {named} looks alike: it has {most:.2f} of the score of the one "
            "taken",
            found.rival,
        ),
        (
            found.apart / size > limits.most_apart,
            "the networks differ on {named} by {most:.3f} of the field, expected at most "
            f"{limits.most_apart:.2g}",
            found.apart / size,
        ),
        (
            moved > limits.most_moved,
            "coarse and closer look differ on {named} by {most:.3f} of the field, expected at "
            f"most {limits.most_moved:.2g}",
            moved,
        ),
    )
    reasons = [
        text.format(
            named=_named(landmarks, chosen),
            least=float(values.min()),
            most=float(values.max()),
        )
        for chosen, text, values in kinds
        if chosen.any()
    ]
    reasons += _of_shape(found.positions / size, landmarks, shape, limits)
    near = depth < BORDER_PIXELS
    if near.any():
        reasons.append(f"at the border of the picture: {_named(landmarks, near)}")
    return reasons


def _of_shape(shares: Array, landmarks: Sequence[str], shape: Shape, limits: Limits) -> list[str]:
    off = shape.deviations(shares)
    if not len(off) or off.max() <= limits.most_deviations:
        return []
    one, other = shape.pairs[int(np.argmax(off))]
    return [
        f"{landmarks[one]} and {landmarks[other]} do not lie as in annotated pictures: "
        f"{off.max():.1f} deviations off, expected at most {limits.most_deviations:.2g}"
    ]


def _named(landmarks: Sequence[str], chosen: NDArray[np.bool_]) -> str:
    return ", ".join(label for label, one in zip(landmarks, chosen, strict=True) if one)
