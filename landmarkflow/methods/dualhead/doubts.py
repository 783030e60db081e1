"""What makes a scan's answer doubtful, one clause each."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from landmarkflow.images.extent import Extent
from landmarkflow.methods.dualhead.examples import Statistics
from landmarkflow.methods.dualhead.find import Found
from landmarkflow.methods.dualhead.settings import PredictSettings

Array = NDArray[np.float64]


def doubts(
    found: Found,
    landmarks: Sequence[str],
    statistics: Statistics,
    extent: Extent,
    settings: PredictSettings,
) -> list[str]:
    """Everything that tells a wrong answer from a right one.

    Args:
        found: of all passes.
        landmarks: names.
        statistics: of the annotated targets.
        extent: what the scan shows, in the frame in which it was seen.
        settings: the limits.
    """
    reasons = _of_places(found, settings)
    if len(found.positions):
        reasons += _of_maps(found, landmarks, settings)
        reasons += _of_distances(found.positions, landmarks, statistics, settings)
    if len(found.answer.labels):
        reasons += _of_segmentation(found, statistics, settings)
    return reasons + _of_border(found, landmarks, extent)


def _of_places(found: Found, settings: PredictSettings) -> list[str]:
    if len(found.candidates) > 1:
        best, second = found.candidates[:2]
        if second.evidence >= settings.rival * best.evidence:
            x, y, z = second.centre
            return [
                f"two places may hold the target: one at ({x:.1f}, {y:.1f}, {z:.1f}) has "
                f"{second.evidence / best.evidence:.2f} of the evidence of the one taken"
            ]
    return []


def _of_maps(found: Found, landmarks: Sequence[str], settings: PredictSettings) -> list[str]:
    reasons = []
    faint = found.presence < settings.least_presence
    if faint.any():
        named = _named(landmarks, faint)
        lowest = float(found.presence.min())
        reasons.append(
            f"the networks see {named} with a probability of {lowest:.2f} at least, expected "
            f"{settings.least_presence:g}"
        )
    twice = found.elsewhere > settings.most_elsewhere
    if twice.any():
        reasons.append(
            f"the heat maps of {_named(landmarks, twice)} have a second peak or none: "
            f"{100 * float(found.elsewhere.max()):.0f} % lie elsewhere"
        )
    apart = found.apart_mm > settings.most_apart_mm
    if apart.any():
        reasons.append(
            f"the networks differ by {float(found.apart_mm.max()):.1f} mm on "
            f"{_named(landmarks, apart)}, expected at most {settings.most_apart_mm:g} mm"
        )
    return reasons


def _of_distances(
    positions: Array, landmarks: Sequence[str], statistics: Statistics, settings: PredictSettings
) -> list[str]:
    worst, said = settings.most_deviations, ""
    for one, other, mean, deviation in statistics.distances:
        apart = float(np.linalg.norm(positions[one] - positions[other]))
        if abs(apart - mean) > worst * deviation:
            worst = abs(apart - mean) / deviation
            said = (
                f"{landmarks[one]} and {landmarks[other]} are {apart:.2f} mm apart, expected about "
                f"{mean:.2f} mm"
            )
    return [said] if said else []


def _of_segmentation(found: Found, statistics: Statistics, settings: PredictSettings) -> list[str]:
    if found.volume_mm3 == 0:
        return ["no label was found"]
    reasons = []
    if found.second_piece > settings.largest_piece:
        reasons.append(f"a label is in pieces: the second is {found.second_piece:.2f} of the first")
    if statistics.volume_mm3 is not None:
        low, high = statistics.volume_mm3
        most = settings.most_volume
        if not low / most <= found.volume_mm3 <= high * most:
            reasons.append(
                f"the segmentation holds {found.volume_mm3:.0f} mm³, expected {low:.0f} to "
                f"{high:.0f} mm³ as annotated, or {most:g} times less or more"
            )
    return reasons


def _of_border(found: Found, landmarks: Sequence[str], extent: Extent) -> list[str]:
    spacing = float(extent.grid.spacing.max())
    near = np.zeros(0, bool)
    if len(found.positions):
        near = extent.depth(found.positions) < spacing
    cut = False
    if found.kept.any():
        inside = np.argwhere(found.kept)[:, ::-1].astype(np.float64)
        cut = bool((extent.depth(found.answer.grid.to_physical(inside)) < spacing).any())
    if near.any() or cut:
        named = f": {_named(landmarks, near)}" if near.any() else ""
        return [f"the target reaches the border of the scan{named}"]
    return ["the segmentation reaches the border of the fine window"] if found.touches else []


def _named(landmarks: Sequence[str], chosen: NDArray[np.bool_]) -> str:
    return ", ".join(label for label, one in zip(landmarks, chosen, strict=True) if one)
