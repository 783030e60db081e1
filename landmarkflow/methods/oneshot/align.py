"""Align rigidly: from moments of inertia (Eq. 2) on by normalised cross-correlation (Eq. 3)."""

import functools
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import optimize

from landmarkflow.core.errors import ScanFailure
from landmarkflow.core.records import TEMPLATE, Record, read_record
from landmarkflow.core.sides import flips_of, side_shown
from landmarkflow.engine.batch import Batch, require_result
from landmarkflow.engine.store import Task
from landmarkflow.formats.transforms import write_transform
from landmarkflow.formats.written import read_written, write_volume
from landmarkflow.images.extent import Extent
from landmarkflow.images.identity import Identity
from landmarkflow.images.operations import array_of, grid_of, mirrored, shrunk
from landmarkflow.images.sampling import resample
from landmarkflow.images.similarity import Interpolator, ball, correlation, normalised
from landmarkflow.methods.oneshot.crops import crop_around
from landmarkflow.methods.oneshot.mixture import Mixture
from landmarkflow.methods.oneshot.moments import (
    Moments,
    Pose,
    Subject,
    bone_around,
    moments_of,
    moments_poses,
)
from landmarkflow.methods.oneshot.settings import AlignSettings, CentreSettings
from landmarkflow.methods.oneshot.template import crop_and_mask, extent_of, maps_to

Array = NDArray[np.float64]


# Of a template that is laid on a part of a target, bone counts up to so many radii of the moments.
REACH_IN_RADII = 2.0
# A pose that puts a smaller share of the samples into a scan says nothing.
LEAST_SEEN = 0.3
# Where fewer samples than this share enter or leave the scan, a climb has settled.
SETTLED = 0.01
ROUNDS = 10
# Another place fits about as well as the best where its correlation is this share of the best's:
# an ear of the other side comes to three quarters, as long as the side is not known.
ALIKE, ALIKE_OF_A_SIDE = 0.75, 0.9
# Around the upright pose of a part, shifts up to this are tried, in steps of this.
CUT_REACH_MM = 6.0
CUT_STEP_MM = 2.0
# What the files of the transforms say that they are made of.
PARTS = {"rigid": "rigid registration", "moments": "the best of the poses by moments of inertia"}


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
class Placed:
    """An alignment in one of the places that may hold the target."""

    centre: tuple[float, ...]
    crop: sitk.Image
    mirrored: bool
    found: Alignment


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
    """What of the template all scans share.

    Attributes:
        samples: where it is compared, coarsest spacing first.
        moments: of its dense bone.
        bone: (n, 3) LPS mm and (n,) masses of dense bone, farther around than moments are taken.
    """

    samples: tuple[Samples, ...]
    moments: Moments
    bone: tuple[Array, Array]


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
    bone = bone_around(template, settings, REACH_IN_RADII * settings.moments_radius_mm)
    return Template(tuple(samples), moments_of(template, settings), bone)


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
    similarity = Similarity.of(coarsest, target)
    moments = moments_of(target, settings)
    starts = dict(starting_poses(template.moments, moments, settings))
    if target.extent is not None:
        starts |= cut_poses(template, target, moments, settings)
    tried = tuple(Start(n, *similarity.ascend(pose, settings)) for n, pose in starts.items())
    best = max(tried, key=lambda start: start.correlation)
    pose, correlation = best.pose, best.correlation
    for samples in finer:
        pose, correlation = Similarity.of(samples, target).ascend(pose, settings)
    unrefined = max(
        moments_poses(template.moments, moments),
        key=similarity.value,
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


def cut_poses(
    template: Template, target: Subject, moments: Moments, settings: AlignSettings
) -> dict[str, Pose]:
    """Upright poses for a scan that shows a part of the target alone.

    Its mass centre is that of the part. The template's is taken of the same part: of the bone that
    a pose puts into the scan and near the crop's centre, until the two centres meet.
    """
    extent, (bone, mass) = target.extent, template.bone
    if extent is None or "upright" not in settings.starts:
        return {}
    middle, fixed = grid_of(target.crop).centre, template.moments.centre
    shift = moments.centre - fixed
    for _ in range(ROUNDS):
        there = bone + shift
        near = np.linalg.norm(there - middle, axis=1) <= settings.moments_radius_mm
        seen = mass * (near & extent.holds(there, 0.0))
        if not seen.any():
            return {}
        shift = shift + moments.centre - seen @ there / seen.sum()
    similarity = Similarity.of(template.samples[0], target)
    shifts = shift + ball(CUT_REACH_MM, CUT_STEP_MM)
    poses = [Pose(np.eye(3), fixed, each) for each in shifts]
    best = max(poses, key=similarity.value)
    return {"upright, of what is seen": Pose(np.eye(3), fixed, shift), "upright, shifted": best}


@dataclass(frozen=True)
class Similarity:
    """Normalised cross-correlation of template and target at one spacing, with its gradient."""

    samples: Samples
    target: Interpolator
    extent: Extent | None = None

    @staticmethod
    def of(samples: Samples, target: Subject) -> "Similarity":
        """Bring the target to the spacing of the template's samples."""
        found = Interpolator.of(shrunk(target.crop, samples.spacing))
        return Similarity(samples, found, target.extent)

    def seen(self, pose: Pose) -> NDArray[np.bool_] | None:
        """(n,) which samples a pose puts into the scan; None for all."""
        if self.extent is None:
            return None
        there = pose.turned(self.samples.points) + pose.pivot + pose.translation
        return self.extent.holds(there, self.samples.spacing)

    def value(self, pose: Pose) -> float:
        """Correlation of what a pose puts into the scan, less where that is little."""
        seen = self.seen(pose)
        if seen is None:
            return self.value_and_gradient(pose)[0]
        share = float(seen.mean())
        if share < LEAST_SEEN:
            return -1.0
        return self.value_and_gradient(pose, seen)[0]

    def value_and_gradient(
        self, pose: Pose, seen: NDArray[np.bool_] | None = None
    ) -> tuple[float, Array]:
        """Correlation coefficient at a pose, and its derivative by a small step of `Pose.moved`.

        Args:
            pose: the pose.
            seen: (n,) which samples count; None for all.
        """
        points, fixed = self.samples.points, self.samples.values
        if seen is not None:
            points, fixed = points[seen], normalised(fixed[seen])
        arms = pose.turned(points)
        values, gradients = self.target.sample(arms + pose.pivot + pose.translation)
        value, by_value = correlation(fixed, values.astype(np.float64))
        # Σ arm × force, of the sums of all their products.
        products = arms.T @ (gradients * by_value[:, None])
        turn = products[[1, 2, 0], [2, 0, 1]] - products[[2, 0, 1], [1, 2, 0]]
        return value, np.concatenate([turn, by_value @ gradients])

    def ascend(self, pose: Pose, settings: AlignSettings) -> tuple[Pose, float]:
        """Climb from a pose; return the pose reached and its correlation.

        In a scan that shows a part alone, the samples that a pose puts into it count; which these
        are is asked again where the climb has ended, until they stay.
        """
        seen = self.seen(pose)
        for _ in range(ROUNDS if seen is not None else 1):
            if seen is not None and seen.mean() < LEAST_SEEN:
                return pose, -1.0
            pose, value = self._ascend(pose, settings, seen)
            before, seen = seen, self.seen(pose)
            if seen is None or before is None or (seen != before).mean() < SETTLED:
                break
        return pose, value

    def _ascend(
        self, pose: Pose, settings: AlignSettings, seen: NDArray[np.bool_] | None
    ) -> tuple[Pose, float]:
        # A turn of 1/radius rad moves the target's rim by 1 mm, as a shift of 1 mm does.
        scale = np.array([1 / settings.moments_radius_mm] * 3 + [1.0] * 3)

        def descend(step: Array) -> tuple[float, Array]:
            value, gradient = self.value_and_gradient(pose.moved(step * scale), seen)
            return -value, -gradient * scale

        if settings.optimiser == "gradient_descent":
            for _ in range(settings.iterations):
                _, gradient = descend(np.zeros(6))
                pose = pose.moved(-settings.learning_rate * gradient * scale)
            return pose, self.value_and_gradient(pose, seen)[0]
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
    field_mm = batch.settings(CentreSettings, "centre").field_mm

    def compute(task: Task) -> Record:
        if task.scan != TEMPLATE and _is_template(batch, task):
            said = "holds the same image as the template, saved anew, expected another image, or "
            said += "another side of it that is stated for each"
            return Record(task.scan, "align", "refused", f"scan {task.scan}: {said}")
        mixture = _mixture(task.inputs["locate_record"])
        flips = (True,) if task.scan == TEMPLATE else flips_of(task.row["side"], side)
        tried: list[Placed] = []
        first: sitk.Image | None = None
        for centre, crop in _places(task, field_mm):
            first = first or crop
            extent = extent_of(task.inputs["locate_record"], crop)
            for flip in flips:
                with suppress(ScanFailure):
                    subject = _subject(crop, mixture, extent, flip=flip)
                    tried.append(Placed(centre, crop, flip, align(template(), subject, settings)))
        if not tried:
            raise ScanFailure("there is no dense bone around any place that may hold the target")
        best = max(tried, key=lambda placed: placed.found.correlation)
        found = best.found
        if found.correlation < settings.least_correlation:
            raise ScanFailure(
                f"rigid registration ends at a correlation of {found.correlation:.3f}, expected "
                f"at least {settings.least_correlation:g}: this does not look like the "
                "template's anatomy"
            )
        for role, pose in (("rigid", found.pose), ("moments", found.moments)):
            parts = f"{PARTS[role]}{', mirrored' if best.mirrored else ''}"
            rigid = pose.transform(mirrored=best.mirrored)
            write_transform(rigid, task.outputs[role], maps_to(task.scan, batch, parts))
        if best.crop is first:
            # No second name: Snakemake dates a job's outputs, and would date its input with them.
            shutil.copyfile(task.inputs["centred"], task.outputs["crop"])
        else:
            write_volume(best.crop, task.outputs["crop"])
        details = {
            "correlation": found.correlation,
            "mirrored": best.mirrored,
            "side": side_shown(side, mirrored=best.mirrored),
            "centre": best.centre,
            "start": found.start,
            "tried": {start.name: start.correlation for start in found.tried},
        }
        return Record.judged(
            task.scan, "align", _ambiguous(best, tried, task.row["side"], side), details
        )

    batch.run(compute)


def _is_template(batch: Batch, task: Task) -> bool:
    """Whether a scan is the template's image, whatever its file, and no other side of it."""
    sides = {task.row["side"], batch.sheet[TEMPLATE]["side"]} - {""}
    records = (task.inputs["locate_record"], batch.path("template_locate_record"))
    images = [read_record(path).details.get("image") for path in records]
    if len(sides) > 1 or not all(images):
        return False
    here, there = (Identity.of_record(image) for image in images if image)
    return here.is_same(there)


def _places(task: Task, field_mm: float) -> Iterator[tuple[tuple[float, ...], sitk.Image]]:
    """Centre, LPS mm, and crop of each place that may hold the target, the likeliest first."""
    details = read_record(task.inputs["centre_record"]).details
    yield tuple(details["steps"][-1]["centre"]), read_written(task.inputs["centred"])
    if details["rivals"]:
        region = read_written(task.inputs["region"])
        for centre in details["rivals"]:
            yield tuple(centre), crop_around(region, np.array(centre), field_mm)


def _ambiguous(best: Placed, tried: list[Placed], side: str, template_side: str) -> list[str]:
    """Doubt where another place fits about as well, the scan's side being stated or not."""
    others = [placed for placed in tried if placed.centre != best.centre]
    if not others:
        return []
    other = max(others, key=lambda placed: placed.found.correlation)
    alike = ALIKE_OF_A_SIDE if side else ALIKE
    if other.found.correlation < alike * best.found.correlation:
        return []
    here, there = (", ".join(f"{x:.0f}" for x in placed.centre) for placed in (best, other))
    taken = side_shown(template_side, mirrored=best.mirrored) or "first"
    return [
        f"two regions fit about equally well, at ({here}) and ({there}) mm: the {taken} one is "
        f"taken{'' if side else '; state the side'}"
    ]


def _subject(crop: sitk.Image, mixture: Mixture, extent: Extent | None, *, flip: bool) -> Subject:
    if not flip:
        return Subject(crop, mixture, extent)
    return Subject(mirrored(crop), mixture, extent and extent.mirrored())


def _template(batch: Batch, settings: AlignSettings) -> Template:
    require_result(batch.path("template_centre_record"), "template")
    crop, mask = crop_and_mask(batch, settings.mask_margin_mm)
    mixture = _mixture(batch.path("template_locate_record"))
    return prepare_template(Subject(crop, mixture), mask, settings)


def _mixture(record: Path) -> Mixture:
    return Mixture.from_record(read_record(record).details)
