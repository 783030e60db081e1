"""How sure a landmark is: a radius around it, calibrated without any reference.

A few scans of the study are registered back to the template. Where the loop ends, beside where it
began, is the study's own measure of error; what the windows say of a landmark (`refine`) spreads
it over the landmarks.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from landmarkflow.core.grids import Grid
from landmarkflow.core.points import Landmarks
from landmarkflow.methods.oneshot.settings import ConfidenceSettings

Array = NDArray[np.float64]

# Of the loops' landmarks so many end within the length that measures the study's error. Beyond,
# single loops that went astray decide.
LOOP_SHARE = 0.8
# A scan whose loops end this many times as far off as is usual was lost, and measures no error.
LOST = 3.0


@dataclass(frozen=True)
class Calibration:
    """What a study's loops say.

    Attributes:
        loop_mm: within which `LOOP_SHARE` of the landmarks return.
        deviation_mm: the landmarks' median deviation in the same scans.
    """

    loop_mm: float
    deviation_mm: float


def calibrate(loops: Array, deviations: Array) -> Calibration | None:
    """Measure a study's error.

    Args:
        loops: (scans, n) mm from where a landmark began to where it returned.
        deviations: (m,) mm of the landmarks of the same scans; NaN where there is none.

    Returns:
        The calibration; None where there is nothing to measure.
    """
    known = deviations[np.isfinite(deviations)]
    if not len(loops) or not len(known):
        return None
    of_scan = np.median(loops, axis=1)
    kept = loops[of_scan <= LOST * np.median(of_scan)]
    return Calibration(float(np.quantile(kept, LOOP_SHARE)), float(np.median(known)))


def radii(deviation: Array, calibration: Calibration | None, settings: ConfidenceSettings) -> Array:
    """The radius, (n,) mm, that holds 9 of 10 true places around landmarks of (n,) deviations.

    r² = annotation² + (`radius_in_loops` · loop)² · (1 + deviation / usual deviation): annotations
    of one point scatter too, and what misleads both ways of a loop alike is common to all
    landmarks. NaN where a landmark has no deviation or the study no calibration.
    """
    if calibration is None:
        return np.full(len(deviation), np.nan)
    ratio = deviation / calibration.deviation_mm
    detection = settings.radius_in_loops * calibration.loop_mm * np.sqrt(1 + ratio)
    radius: Array = np.hypot(settings.annotation_mm, detection)
    return radius


@dataclass(frozen=True)
class Evidence:
    """What tells a wrong answer from a right one in a scan.

    Attributes:
        median_similarity: of the landmarks' surroundings, in [-1, 1].
        median_deviation_mm: of the places; None where no landmark has one.
        scaling: how many times as far apart as the template's the landmarks lie; 1 for one alone.
        beyond: landmarks that lie outside the scan, by more than a voxel.
        most_unlike: the landmark whose surroundings are the least similar.
        lowest_similarity: of these surroundings.
    """

    median_similarity: float
    median_deviation_mm: float | None
    scaling: float
    beyond: tuple[str, ...] = ()
    most_unlike: str = ""
    lowest_similarity: float = 1.0

    @staticmethod
    def of(
        annotated: Landmarks, found: Landmarks, similarity: Array, deviation: Array, scan: Grid
    ) -> "Evidence":
        """Sum up (n,) similarities and deviations (mm, NaN for none) of landmarks in LPS mm."""
        outside = scan.distance_to(found.positions) > scan.spacing.max()
        known = deviation[np.isfinite(deviation)]
        size = _size(annotated)
        lowest = int(np.argmin(similarity))
        return Evidence(
            float(np.median(similarity)),
            float(np.median(known)) if len(known) else None,
            _size(found) / size if size > 0 else 1.0,
            tuple(label for label, out in zip(found.labels, outside, strict=True) if out),
            found.labels[lowest],
            float(similarity[lowest]),
        )


def doubts(
    evidence: Evidence, calibration: Calibration | None, settings: ConfidenceSettings
) -> list[str]:
    """What makes a scan's landmarks doubtful, one clause each."""
    reasons = []
    if evidence.beyond:
        reasons.append(f"outside the scan lie the landmarks {', '.join(evidence.beyond)}")
    if not evidence.median_similarity >= settings.least_similarity:
        reasons.append(
            f"the landmarks' surroundings are alike to {evidence.median_similarity:.2f} in the "
            f"median, expected at least {settings.least_similarity:g}"
        )
    if not evidence.lowest_similarity >= settings.least_landmark_similarity:
        reasons.append(
            f"the surroundings of the landmark {evidence.most_unlike} are alike to "
            f"{evidence.lowest_similarity:.2f}, expected at least "
            f"{settings.least_landmark_similarity:g}"
        )
    if not 1 / settings.most_scaling <= evidence.scaling <= settings.most_scaling:
        reasons.append(
            f"the landmarks lie {evidence.scaling:.2f} times as far apart as the template's, "
            f"expected at most {settings.most_scaling:g} times more or less"
        )
    if calibration is None:
        reasons.append(
            "no scan of the study could be registered back, so nothing says how sure the "
            "landmarks are"
        )
    elif evidence.median_deviation_mm is None:
        reasons.append("every landmark lies at the edge of the scan")
    else:
        unsure = evidence.median_deviation_mm / calibration.deviation_mm
        if unsure > settings.most_unsure:
            reasons.append(
                f"the landmarks' places are {unsure:.1f} times as unsure as usual in this study, "
                f"expected at most {settings.most_unsure:g} times"
            )
    return reasons


def _size(landmarks: Landmarks) -> float:
    """Root mean square distance from the centre, mm."""
    return float(np.linalg.norm(landmarks.positions.std(axis=0)))
