"""What makes a picture's answer doubtful, one clause each."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from landmarkflow.methods.zoomin.find import Found
from landmarkflow.methods.zoomin.settings import ZoomSettings
from landmarkflow.methods.zoomin.shape import Shape

Array = NDArray[np.float64]

# A landmark nearer to the border of the picture than so many of its pixels is at the border.
BORDER_PIXELS = 1.0


def doubts(
    found: Found,
    landmarks: Sequence[str],
    shape: Shape,
    *,
    size: int,
    depth: Array,
    settings: ZoomSettings,
) -> list[str]:
    """Everything that tells a wrong answer from a right one.

    Args:
        found: the answer, in pixels of the frame.
        landmarks: names.
        shape: how landmarks lie to each other in annotated pictures.
        size: width of the frame, pixels, of which lengths in settings are shares.
        depth: (k,) distance of each landmark from the border of the picture, pixels.
        settings: the limits.
    """
    moved = np.linalg.norm(found.positions - found.coarse, axis=1) / size
    limits = (
        (
            found.presence < settings.least_presence,
            "the networks hardly see {named}: a probability of {least:.2f}, expected at least "
            f"{settings.least_presence:g}",
            found.presence,
        ),
        (
            found.elsewhere > settings.most_elsewhere,
            "the heat maps of {named} are flat or have a second peak: {most:.2f} of them lie "
            "elsewhere",
            found.elsewhere,
        ),
        (
            found.rival > settings.rival,
            "another place for {named} looks alike: it has {most:.2f} of the score of the one "
            "taken",
            found.rival,
        ),
        (
            found.apart / size > settings.most_apart,
            "the networks differ on {named} by {most:.3f} of the field, expected at most "
            f"{settings.most_apart:g}",
            found.apart / size,
        ),
        (
            moved > settings.most_moved,
            "coarse and closer look differ on {named} by {most:.3f} of the field, expected at "
            f"most {settings.most_moved:g}",
            moved,
        ),
    )
    reasons = [
        text.format(
            named=_named(landmarks, chosen),
            least=float(values.min()),
            most=float(values.max()),
        )
        for chosen, text, values in limits
        if chosen.any()
    ]
    reasons += _of_shape(found.positions / size, landmarks, shape, settings)
    near = depth < BORDER_PIXELS
    if near.any():
        reasons.append(f"at the border of the picture: {_named(landmarks, near)}")
    return reasons


def _of_shape(
    shares: Array, landmarks: Sequence[str], shape: Shape, settings: ZoomSettings
) -> list[str]:
    off = shape.deviations(shares)
    if not len(off) or off.max() <= settings.most_deviations:
        return []
    one, other = shape.pairs[int(np.argmax(off))]
    return [
        f"{landmarks[one]} and {landmarks[other]} do not lie as in annotated pictures: "
        f"{off.max():.1f} deviations off, expected at most {settings.most_deviations:g}"
    ]


def _named(landmarks: Sequence[str], chosen: NDArray[np.bool_]) -> str:
    return ", ".join(label for label, one in zip(landmarks, chosen, strict=True) if one)
