"""Search all orientations for the pose of a target, where principal axes leave it unclear."""

from collections.abc import Sequence

import numpy as np
from scipy.spatial.transform import Rotation

from landmarkflow.methods.oneshot.moments import Pose
from landmarkflow.methods.oneshot.rigid import Array, Similarity, Start
from landmarkflow.methods.oneshot.settings import AlignSettings

# Poses that differ by less than this are one answer, degrees.
SAME_DEGREES = 20.0
# The best answer is clear where it is this high and the next is this much lower.
CLEAR, CLEAR_GAIN = 0.6, 0.02
# An orientation that only the search found is a doubt where another one comes to this share of it:
# those of a mirror image, which fits nowhere, come to 0.95.
RIVAL = 0.85
SEARCHED = "orientation"
# A climb that ends farther from where the mass centres lie on each other, in radii of the moments,
# has left the target: at a scan's border air beside tissue looks like tissue beside bone.
FARTHEST = 0.5
# So many lie 25 degrees apart, and no orientation is farther than 24 degrees from one of them.
ORIENTATIONS = 700
# So many of the best ones, each far from the others, are climbed from.
CLIMBED = 8


def is_unclear(tried: Sequence[Start]) -> bool:
    """Whether the best start is no clear answer: a low correlation, or another pose as good."""
    best, other = _best_two(tried)
    return best < CLEAR or other > best - CLEAR_GAIN


def is_doubtful(tried: Sequence[Start]) -> bool:
    """Whether the search alone found the best pose, and another orientation is nearly as good."""
    name = max(tried, key=lambda start: start.correlation).name
    best, other = _best_two(tried)
    return name.startswith(SEARCHED) and other > RIVAL * best


def _best_two(tried: Sequence[Start]) -> tuple[float, float]:
    """The highest correlation, and the highest one of another orientation, -1 without one."""
    best = max(tried, key=lambda start: start.correlation)
    others = [s.correlation for s in tried if apart_degrees(s.pose, best.pose) > SAME_DEGREES]
    return best.correlation, max(others, default=-1.0)


def searched(
    wide: Similarity, similarity: Similarity, centres: Pose, settings: AlignSettings
) -> tuple[Start, ...]:
    """Climb from the best of orientations all around.

    Args:
        wide: compares at a coarse spacing, by which orientations are chosen.
        similarity: compares at the spacing of all other starts, by which the climbs are judged.
        centres: lays the template's mass centre on the scan's.
        settings: of the climbs.
    """
    poses = [Pose(turn, centres.pivot, centres.translation) for turn in orientations(ORIENTATIONS)]
    values = np.array([wide.value(pose) for pose in poses])
    chosen: list[Pose] = []
    for number in np.argsort(-values, kind="stable"):
        pose = poses[number]
        if all(apart_degrees(pose, other) > SAME_DEGREES for other in chosen):
            chosen.append(pose)
        if len(chosen) == CLIMBED:
            break
    found = []
    for number, pose in enumerate(chosen):
        near, _ = wide.ascend(pose, settings)
        top, correlation = similarity.ascend(near, settings)
        shift = np.linalg.norm(top.translation - centres.translation)
        if shift <= FARTHEST * settings.moments_radius_mm:
            found.append(Start(f"{SEARCHED} {number}", top, correlation))
    return tuple(found)


def orientations(count: int) -> Array:
    """Rotation matrices, (count, 3, 3), evenly spread over SO(3).

    They are the super-Fibonacci spiral of Alexa (2022), whose constants solve ψ⁴ = ψ + 4.
    """
    number = np.arange(count) + 0.5
    share = number / count
    one = 2 * np.pi * number / np.sqrt(2)
    other = 2 * np.pi * number / 1.533751168755204288118041
    inner, outer = np.sqrt(share), np.sqrt(1 - share)
    quaternions = np.stack(
        [
            inner * np.sin(one),
            inner * np.cos(one),
            outer * np.sin(other),
            outer * np.cos(other),
        ],
        axis=1,
    )
    return np.asarray(Rotation.from_quat(quaternions).as_matrix())


def apart_degrees(one: Pose, other: Pose) -> float:
    """Angle of the rotation between two poses, degrees."""
    return float(np.degrees(Rotation.from_matrix(one.rotation.T @ other.rotation).magnitude()))
