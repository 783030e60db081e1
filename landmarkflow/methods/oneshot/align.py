"""Align rigidly: moments of inertia (Eq. 2), then normalised cross-correlation (Eq. 3)."""

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import optimize
from scipy.spatial.transform import Rotation

from landmarkflow.core.errors import ScanFailure
from landmarkflow.core.records import TEMPLATE, Record, read_record
from landmarkflow.engine.batch import Batch, require_result
from landmarkflow.engine.store import Task
from landmarkflow.formats.transforms import write_transform
from landmarkflow.formats.written import read_written
from landmarkflow.images.operations import array_of, cropped, grid_of, mirrored, shrunk
from landmarkflow.images.sampling import resample
from landmarkflow.images.similarity import Interpolator, correlation, normalised
from landmarkflow.methods.oneshot.mixture import Mixture
from landmarkflow.methods.oneshot.settings import AlignSettings
from landmarkflow.methods.oneshot.template import crop_and_mask

Array = NDArray[np.float64]

# The half turns about each principal axis: what the axes' signs leave open.
PROPER_FLIPS = tuple(np.diag(signs) for signs in ((1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1)))


# Probabilities below this are the tails of the mixture, not bone.
LEAST_WEIGHT = 1e-3


@dataclass(frozen=True)
class Subject:
    """One scan after centring: its crop and the mixture of its intensities."""

    crop: sitk.Image
    mixture: Mixture


@dataclass(frozen=True)
class Moments:
    """Centre of mass (LPS mm) and principal axes (columns, right-handed) of a weighted volume."""

    centre: Array
    axes: Array


@dataclass(frozen=True)
class Pose:
    """A rigid map x → rotation @ (x - pivot) + pivot + translation, LPS mm."""

    rotation: Array
    pivot: Array
    translation: Array

    def turned(self, points: Array) -> Array:
        """The mapped points' (n, 3) offsets from the mapped pivot."""
        return np.asarray((points - self.pivot) @ self.rotation.T)

    def transform(self, *, mirrored: bool) -> sitk.AffineTransform:
        """The map as an ITK transform.

        Args:
            mirrored: whether the points are mapped into the space mirrored in the plane x = 0;
                the transform then undoes the mirroring.
        """
        mirror = np.diag([-1.0 if mirrored else 1.0, 1.0, 1.0])
        transform = sitk.AffineTransform(3)
        transform.SetCenter(self.pivot.tolist())
        transform.SetMatrix((mirror @ self.rotation).ravel().tolist())
        goal = mirror @ (self.pivot + self.translation)
        transform.SetTranslation((goal - self.pivot).tolist())
        return transform

    def moved(self, step: Array) -> "Pose":
        """Turn by a rotation vector (rad, first three) and shift (mm, last three)."""
        rotation = Rotation.from_rotvec(step[:3]).as_matrix() @ self.rotation
        return Pose(rotation, self.pivot, self.translation + step[3:])


@dataclass(frozen=True)
class Start:
    """A pose to start from, and the correlation that it has and comes to at coarse spacing."""

    name: str
    pose: Pose
    correlation: float


@dataclass(frozen=True)
class Alignment:
    """A rigid map from template points to target points and how it was chosen.

    `moments` is the pose of the moments of inertia alone, as Eq. 2 has it.
    """

    pose: Pose
    moments: Pose
    correlation: float
    start: str
    tried: tuple[Start, ...]


@dataclass(frozen=True)
class Samples:
    """Where the template is compared at one spacing, and its intensities there.

    Attributes:
        spacing: of the smoothed template, mm.
        points: (n, 3) LPS mm.
        values: (n,) intensities of mean zero and norm one.
    """

    spacing: float
    points: Array
    values: Array


@dataclass(frozen=True)
class Template:
    """What of the template all scans share."""

    samples: tuple[Samples, ...]
    moments: Moments


def prepare_template(template: Subject, mask: sitk.Image, settings: AlignSettings) -> Template:
    """Sample the annotated scan inside a mask, coarsest spacing first, and take its moments."""
    samples = []
    for spacing in settings.spacings_mm:
        coarse = shrunk(template.crop, spacing)
        grid = grid_of(coarse)
        inside = np.argwhere(array_of(resample(mask, grid, "nearest")) > 0)
        # Evenly spread through the list of voxels, so no generator and no seed is needed.
        chosen = inside[:: max(1, len(inside) // settings.samples)]
        values = normalised(array_of(coarse)[tuple(chosen.T)].astype(np.float64))
        points = grid.to_physical(chosen[:, ::-1].astype(np.float64))
        samples.append(Samples(spacing, points, values))
    return Template(tuple(samples), moments_of(template, settings))


def align(template: Template, target: Subject, settings: AlignSettings) -> Alignment:
    """Find the rigid transform that takes template points to target points.

    Each start (moments of inertia with the four proper flips; the upright pose) is refined at the
    coarsest spacing, and the one of the highest correlation goes on to the finer ones.

    Args:
        template: the annotated scan, the fixed image.
        target: the scan to match, the moving image.
        settings: starts, spacings, optimiser.

    Returns:
        The pose, LPS mm, with its normalised cross-correlation.

    Raises:
        ScanFailure: there is no dense bone to take moments of.
    """
    coarsest, *finer = template.samples
    similarity = Similarity.of(coarsest, target.crop)
    moments = moments_of(target, settings)
    tried = tuple(
        Start(name, *similarity.ascend(pose, settings))
        for name, pose in starting_poses(template.moments, moments, settings)
    )
    best = max(tried, key=lambda start: start.correlation)
    pose, correlation = best.pose, best.correlation
    for samples in finer:
        pose, correlation = Similarity.of(samples, target.crop).ascend(pose, settings)
    unrefined = max(
        moments_poses(template.moments, moments),
        key=lambda start: similarity.value_and_gradient(start)[0],
    )
    return Alignment(pose, unrefined, correlation, best.name, tried)


def starting_poses(
    fixed: Moments, moving: Moments, settings: AlignSettings
) -> Iterator[tuple[str, Pose]]:
    """Yield each start's name and pose, both centres of mass on each other."""
    if "upright" in settings.starts:
        yield "upright", Pose(np.eye(3), fixed.centre, moving.centre - fixed.centre)
    if "moments" in settings.starts:
        for number, pose in enumerate(moments_poses(fixed, moving)):
            yield f"moments, flip {number}", pose


def moments_poses(fixed: Moments, moving: Moments) -> Iterator[Pose]:
    """Yield the four poses that lay the principal axes on each other (Eq. 2)."""
    for flip in PROPER_FLIPS:
        rotation = moving.axes @ flip @ fixed.axes.T
        yield Pose(rotation, fixed.centre, moving.centre - fixed.centre)


def moments_of(subject: Subject, settings: AlignSettings) -> Moments:
    """Centre and principal axes of p·ρ (Eq. 1 and 2), least moment of inertia first.

    p is the mixture's probability of dense bone, ρ the intensity; only what lies within
    `moments_radius_mm` of the crop's centre counts, since the network has put the target there.
    Where the mixture finds no dense bone there, p is 1: the densest component is a thousandth of
    a large scan and can be lost in the next one, though the network found the target.

    Raises:
        ScanFailure: there is no dense bone within the radius, nor anything else to be told apart.
    """
    coarse = shrunk(subject.crop, settings.spacings_mm[-1])
    centre = grid_of(coarse).centre
    around = cropped(coarse, centre[None], settings.moments_radius_mm)
    intensity = array_of(around).astype(np.float64)
    index = np.indices(intensity.shape, dtype=np.float64).reshape(3, -1).T[:, ::-1]
    points = grid_of(around).to_physical(index)
    near = np.linalg.norm(points - centre, axis=1) <= settings.moments_radius_mm
    points, intensity = points[near], intensity.ravel()[near]
    mass = subject.mixture.dense_probability(intensity) * intensity
    if not (mass > LEAST_WEIGHT).any() and np.ptp(intensity) > LEAST_WEIGHT:
        mass = intensity
    points, mass = points[mass > LEAST_WEIGHT], mass[mass > LEAST_WEIGHT]
    if not len(mass):
        raise ScanFailure(
            f"there is no dense bone within {settings.moments_radius_mm:g} mm of the target's "
            "centre"
        )
    centre = mass @ points / mass.sum()
    offset = points - centre
    second = (offset * mass[:, None]).T @ offset / mass.sum()
    _, axes = np.linalg.eigh(np.trace(second) * np.eye(3) - second)
    axes[:, 2] *= np.sign(np.linalg.det(axes))
    return Moments(centre, axes)


@dataclass(frozen=True)
class Similarity:
    """Normalised cross-correlation of template and target at one spacing, with its gradient."""

    samples: Samples
    target: Interpolator

    @staticmethod
    def of(samples: Samples, target: sitk.Image) -> "Similarity":
        """Bring the target to the spacing of the template's samples."""
        return Similarity(samples, Interpolator.of(shrunk(target, samples.spacing)))

    def value_and_gradient(self, pose: Pose) -> tuple[float, Array]:
        """Correlation coefficient at a pose, and its derivative by a small step of `Pose.moved`."""
        arms = pose.turned(self.samples.points)
        values, gradients = self.target.sample(arms + pose.pivot + pose.translation)
        value, by_value = correlation(self.samples.values, values.astype(np.float64))
        # Σ arm × force, of the sums of all their products.
        products = arms.T @ (gradients * by_value[:, None])
        turn = products[[1, 2, 0], [2, 0, 1]] - products[[2, 0, 1], [1, 2, 0]]
        return value, np.concatenate([turn, by_value @ gradients])

    def ascend(self, pose: Pose, settings: AlignSettings) -> tuple[Pose, float]:
        """Climb from a pose; return the pose reached and its correlation."""
        # A turn of 1/radius rad moves the target's rim by 1 mm, as a shift of 1 mm does.
        scale = np.array([1 / settings.moments_radius_mm] * 3 + [1.0] * 3)

        def descend(step: Array) -> tuple[float, Array]:
            value, gradient = self.value_and_gradient(pose.moved(step * scale))
            return -value, -gradient * scale

        if settings.optimiser == "gradient_descent":
            for _ in range(settings.iterations):
                _, gradient = descend(np.zeros(6))
                pose = pose.moved(-settings.learning_rate * gradient * scale)
            return pose, self.value_and_gradient(pose)[0]
        found = optimize.minimize(
            descend,
            np.zeros(6),
            jac=True,
            method="L-BFGS-B",
            options={"maxiter": settings.iterations, "ftol": 1e-7},
        )
        return pose.moved(found.x * scale), float(-found.fun)


def run(batch: Batch) -> None:
    """Align every scan of the batch with the template prepared once.

    The template itself is only ever aligned with its own mirror image.
    """
    settings = batch.settings(AlignSettings)
    template = functools.cache(lambda: _template(batch, settings))
    side = batch.sheet[TEMPLATE]["side"]

    def compute(task: Task) -> Record:
        crop = read_written(task.inputs["centred"])
        mixture = _mixture(task.inputs["locate_record"])
        flips = (True,) if task.scan == TEMPLATE else _flips(task.row["side"], side)
        outcomes = [
            (align(template(), Subject(mirrored(crop) if flip else crop, mixture), settings), flip)
            for flip in flips
        ]
        found, flip = max(outcomes, key=lambda outcome: outcome[0].correlation)
        if found.correlation < settings.least_correlation:
            raise ScanFailure(
                f"rigid registration ends at a correlation of {found.correlation:.3f}, expected "
                f"at least {settings.least_correlation:g}: this does not look like the "
                "template's anatomy"
            )
        for role, pose in (("rigid", found.pose), ("moments", found.moments)):
            write_transform(pose.transform(mirrored=flip), task.outputs[role])
        details = {
            "correlation": found.correlation,
            "mirrored": flip,
            "start": found.start,
            "tried": {start.name: start.correlation for start in found.tried},
        }
        return Record(task.scan, "align", details=details)

    batch.run(compute)


def _flips(side: str, template: str) -> tuple[bool, ...]:
    """Whether a scan is mirrored before it is aligned: known from the sides, or tried both ways."""
    if not template:
        return (False,)
    return (side != template,) if side else (False, True)


def _template(batch: Batch, settings: AlignSettings) -> Template:
    require_result(batch.path("template_centre_record"), "template")
    crop, mask = crop_and_mask(batch, settings.mask_margin_mm)
    mixture = _mixture(batch.path("template_locate_record"))
    return prepare_template(Subject(crop, mixture), mask, settings)


def _mixture(record: Path) -> Mixture:
    return Mixture.from_record(read_record(record).details)
