"""Refine landmarks: register a small window around each once more, by a shift.

A B-spline sees a few thousand samples of the whole target; the voxels around a landmark, all of
them, tell its place better. Windows of several sizes each give a shift; their mean is taken, and
how far they differ tells, with the noise that each window leaves, how sure the place is.
"""

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from landmarkflow.errors import InputError
from landmarkflow.geometry import Landmarks
from landmarkflow.oneshot.settings import RefineSettings, SearchSettings
from landmarkflow.similarity import Interpolator, Surroundings, Values, ball, feature, rim
from landmarkflow.volumes import cropped

Array = NDArray[np.float64]

# Neighbouring voxels share their noise: so many tell as much as one alone would.
VOXELS_PER_SAMPLE = 10
# The local contrast is that of a Gaussian, which reaches this many sigmas beyond a window.
REACH_IN_SIGMAS = 3
# A window may be shifted by this many deviations of the prior before its voxels end.
REACH_IN_PRIORS = 3
# Too few voxels along an axis to smooth.
LEAST_VOXELS = 4
LEAST_VARIANCE = 1e-6
# The lattice of a search is this much finer than its reach.
REACH_IN_STEPS = 4
# A shorter step ends the refinement.
LEAST_STEP_MM = 1e-3


@dataclass(frozen=True, eq=False)
class Refined:
    """Landmarks of a scan, LPS mm, and each one's standard deviation, (n,) mm.

    The deviation is what the images alone tell: noise and disagreement of the windows, not what
    all windows get wrong together.
    """

    landmarks: Landmarks
    deviation: Array


@dataclass(frozen=True)
class Window:
    """The template's surroundings of one landmark.

    Attributes:
        points: (m, 3) LPS mm.
        features: (m,) of the template there.
        distance: (m,) mm from the landmark.
    """

    points: Array
    features: Values
    distance: Array


@dataclass(frozen=True)
class Prepared:
    """The template's landmarks and each one's window, None where it leaves the template."""

    landmarks: Landmarks
    windows: tuple[Window | None, ...]


def prepare(annotated: Landmarks, template: sitk.Image, settings: RefineSettings) -> Prepared:
    """Cut out the template's surroundings of each landmark.

    Args:
        annotated: the template's landmarks, LPS mm.
        template: the template's crop.
        settings: windows and features.
    """
    offsets = ball(max(settings.radii_mm), settings.spacing_mm)
    distance = np.linalg.norm(offsets, axis=1)

    def window(point: Array) -> Window | None:
        around = _features_around(template, point, settings)
        if around is None:
            return None
        return Window(point + offsets, around.sample(point + offsets)[0], distance)

    return Prepared(annotated, tuple(window(point) for point in annotated.positions))


def refine(
    prepared: Prepared,
    transform: sitk.Transform,
    target: sitk.Image,
    settings: RefineSettings,
    start: Landmarks | None = None,
) -> Refined:
    """Shift each mapped landmark to where its surroundings fit best.

    For the points q of a window around a landmark, the shift d minimises
    Σ (f(q) - b·m(T(q) + d) - c)² / (k·σ²) + |d|² / prior² over d, the contrast b and the brightness
    c, by Gauss-Newton; σ² is the variance of the differences, k is `VOXELS_PER_SAMPLE`.

    Args:
        prepared: the template.
        transform: takes template points to the scan's points.
        target: the scan's crop.
        settings: as `prepare` had.
        start: where the landmarks are looked for, LPS mm, if not where the transform puts them.

    Returns:
        The landmarks in the scan. One whose surroundings lie outside either crop stays at its
        start, with a deviation of NaN.
    """
    annotated = prepared.landmarks
    mapped = np.array([transform.TransformPoint(p) for p in annotated.positions.tolist()])
    places = mapped.copy() if start is None else start.positions.copy()
    offsets = places - mapped
    deviation = np.full(len(places), np.nan)
    for row, window in enumerate(prepared.windows):
        around = _features_around(target, places[row], settings)
        if window is None or around is None:
            continue
        points = np.array([transform.TransformPoint(q) for q in window.points.tolist()])
        points += offsets[row]
        found = []
        for radius in settings.radii_mm:
            near = window.distance <= rim(radius, settings.spacing_mm)
            found.append(_shift(window.features[near], points[near], around, settings))
        shifts = np.array([shift for shift, _ in found])
        noise = float(np.mean([variance for _, variance in found]))
        deviation[row] = np.sqrt(noise + shifts.var(axis=0).sum())
        if settings.enabled:
            places[row] += shifts.mean(axis=0)
    return Refined(Landmarks(annotated.labels, places), deviation)


def search(
    annotated: Landmarks,
    transform: sitk.Transform,
    template: sitk.Image,
    target: sitk.Image,
    *,
    start: Landmarks,
    settings: SearchSettings,
) -> Landmarks:
    """Look further off for the landmarks that a registration left in unlike surroundings.

    Where the anatomy departs from the template's by more than a registration can follow, it rests
    beside a landmark. The ball around such a landmark is tried on a lattice of shifts; it moves to
    the best of them if that is clearly better.

    Args:
        annotated: the template's landmarks, LPS mm.
        transform: takes template points to the scan's points.
        template: the template's crop.
        target: the scan's crop.
        start: where the landmarks lie so far, LPS mm.
        settings: what is unlike, how far to look, what is better.

    Returns:
        The landmarks; those that rest have their start's very coordinates.
    """
    fixed, moving = Interpolator.of(template), Interpolator.of(target)
    shifts = ball(settings.reach_mm, settings.reach_mm / REACH_IN_STEPS)
    places = start.positions.copy()
    for row, point in enumerate(annotated.positions):
        around = Surroundings.of(point, transform, fixed, settings.radius_mm)
        offset = places[row] - np.array(transform.TransformPoint(point.tolist()))
        here = around.similarity(moving, offset)
        if here >= settings.below:
            continue
        there = np.array([around.similarity(moving, offset + shift) for shift in shifts])
        if there.max() >= here + settings.least_gain:
            places[row] += shifts[there.argmax()]
    return Landmarks(start.labels, places)


def _features_around(
    crop: sitk.Image, point: Array, settings: RefineSettings
) -> Interpolator | None:
    reach = max(settings.radii_mm) + REACH_IN_PRIORS * settings.prior_mm
    reach += REACH_IN_SIGMAS * max(settings.contrast_mm, settings.smoothing_mm)
    try:
        part = cropped(crop, point[None], reach)
    except InputError:
        return None
    if min(part.GetSize()) < LEAST_VOXELS:
        return None
    return Interpolator.of(feature(part, settings.smoothing_mm, settings.contrast_mm))


def _shift(
    features: Values, mapped: Array, target: Interpolator, settings: RefineSettings
) -> tuple[Array, float]:
    """The best shift, (3,) mm, of (m, 3) mapped points, and its total variance, mm²."""
    fixed = features - features.mean(dtype=np.float64)
    count = len(fixed)
    stiffness = np.eye(3) / settings.prior_mm**2
    shift, information = np.zeros(3), stiffness
    for _ in range(settings.iterations):
        values, gradients = target.sample(mapped + shift)
        moving = values - values.mean(dtype=np.float64)
        contrast = fixed @ moving / (moving @ moving + LEAST_VARIANCE)
        difference = fixed - contrast * moving
        slope = contrast * (gradients - gradients.mean(axis=0, dtype=np.float64))
        variance = difference @ difference / count + LEAST_VARIANCE
        weight = 1 / (VOXELS_PER_SAMPLE * variance)
        information = weight * slope.T @ slope + stiffness
        step = np.linalg.solve(information, weight * slope.T @ difference - stiffness @ shift)
        length = float(np.linalg.norm(step))
        # No further than a voxel at a time, as far as a gradient holds.
        shift = shift + step * min(1.0, settings.spacing_mm / (length + LEAST_VARIANCE))
        if length < LEAST_STEP_MM:
            break
    return shift, float(np.trace(np.linalg.inv(information)))
