"""Align rigidly: from moments of inertia (Eq. 2) on by normalised cross-correlation (Eq. 3)."""

import functools
import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from landmarkflow.core.errors import ScanFailure
from landmarkflow.core.records import TEMPLATE, Record, read_record
from landmarkflow.core.sides import flips_of, side_shown
from landmarkflow.engine.batch import Batch, require_result
from landmarkflow.engine.store import Task
from landmarkflow.formats.transforms import write_transform
from landmarkflow.formats.written import read_written, write_volume
from landmarkflow.images.identity import Identity
from landmarkflow.images.operations import array_of, grid_of, mirrored, shrunk
from landmarkflow.images.sampling import resample
from landmarkflow.images.similarity import ball, normalised
from landmarkflow.methods.oneshot.crops import crop_around
from landmarkflow.methods.oneshot.mixture import Mixture
from landmarkflow.methods.oneshot.moments import (
    Moments,
    Pose,
    Subject,
    bone_around,
    marked_moments,
    moments_of,
    moments_poses,
)
from landmarkflow.methods.oneshot.orientations import is_doubtful, is_unclear, searched
from landmarkflow.methods.oneshot.rigid import Samples, Similarity, Start
from landmarkflow.methods.oneshot.settings import AlignSettings, CentreSettings
from landmarkflow.methods.oneshot.template import crop_and_mask, extent_of, maps_to

Array = NDArray[np.float64]


# Of a template that is laid on a part of a target, bone counts up to so many radii of the moments.
REACH_IN_RADII = 2.0
# Rounds in which the template's mass centre is laid on that of the part that a scan shows.
CUT_ROUNDS = 10
# Another place fits about as well as the best where its correlation is this share of the best's:
# an ear of the other side comes to three quarters, as long as the side is not known.
ALIKE, ALIKE_OF_A_SIDE = 0.75, 0.9
# A search through all orientations begins at this many times the coarsest spacing.
COARSER = 2.0
# Around the upright pose of a part, shifts up to this are tried, in steps of this.
CUT_REACH_MM = 6.0
CUT_STEP_MM = 2.0
# What the files of the transforms say that they are made of.
PARTS = {"rigid": "rigid registration", "moments": "the best of the poses by moments of inertia"}


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
    """An alignment in one of the places that may hold the target, of its mirror image or not."""

    centre: tuple[float, ...]
    subject: Subject
    mirrored: bool
    found: Alignment


@dataclass(frozen=True)
class Template:
    """What of the template all scans share.

    Attributes:
        samples: where it is compared, coarsest spacing first.
        moments: of its dense bone.
        marked: moments of what the network marks in it; None where that is not known.
        coarse: where it is compared for a search through all orientations.
        bone: (n, 3) LPS mm and (n,) masses of dense bone, farther around than moments are taken.
        has_mixture: whether the mixture of its intensities tells its dense bone.
    """

    samples: tuple[Samples, ...]
    moments: Moments
    bone: tuple[Array, Array]
    has_mixture: bool
    marked: Moments | None
    coarse: Samples


def prepare_template(template: Subject, mask: sitk.Image, settings: AlignSettings) -> Template:
    """Sample the annotated scan inside a mask, coarsest spacing first, and take its moments."""
    samples = tuple(_samples(template, mask, step, settings) for step in settings.spacings_mm)
    bone = bone_around(template, settings, REACH_IN_RADII * settings.moments_radius_mm)
    coarse = _samples(template, mask, COARSER * settings.spacings_mm[0], settings)
    has_mixture, marked = template.mixture is not None, marked_moments(template)
    return Template(samples, moments_of(template, settings), bone, has_mixture, marked, coarse)


def _samples(
    template: Subject, mask: sitk.Image, spacing: float, settings: AlignSettings
) -> Samples:
    coarse = shrunk(template.crop, spacing)
    grid = grid_of(coarse)
    inside = np.argwhere(array_of(resample(mask, grid, "nearest")) > 0)
    # Evenly spread through the list of voxels, so no generator and no seed is needed.
    chosen = inside[:: max(1, len(inside) // settings.samples)]
    values = normalised(array_of(coarse)[tuple(chosen.T)].astype(np.float64))
    points = grid.to_physical(chosen[:, ::-1].astype(np.float64))
    return Samples(spacing, points, values)


def align(
    template: Template,
    target: Subject,
    settings: AlignSettings,
    *,
    earlier: Alignment | None = None,
) -> Alignment:
    """Find the rigid transform that takes template points to target points.

    Each start (moments of inertia with the four proper flips; the upright pose) is refined at the
    coarsest spacing, and the one of the highest correlation goes on to the finer ones.

    Args:
        template: the annotated scan, the fixed image.
        target: the scan to match, the moving image.
        settings: starts, spacings, optimiser.
        earlier: what these starts came to; orientations all around are then tried beside them.

    Returns:
        The pose, LPS mm, with its normalised cross-correlation.

    Raises:
        ScanFailure: there is no dense bone to take moments of.
    """
    coarsest, *finer = template.samples
    similarity = Similarity.of(coarsest, target)
    fixed, moments = _paired_moments(template, target, settings)
    if earlier is None:
        starts = dict(starting_poses(fixed, moments, settings))
        if target.extent is not None:
            starts |= cut_poses(template, target, moments, settings)
        tried = tuple(Start(n, *similarity.ascend(pose, settings)) for n, pose in starts.items())
    else:
        centres = Pose(np.eye(3), fixed.centre, moments.centre - fixed.centre)
        wide = Similarity.of(template.coarse, target)
        tried = earlier.tried + searched(wide, similarity, centres, settings)
    best = max(tried, key=lambda start: start.correlation)
    pose, correlation = best.pose, best.correlation
    for samples in finer:
        pose, correlation = Similarity.of(samples, target).ascend(pose, settings)
    unrefined = max(
        moments_poses(fixed, moments),
        key=similarity.value,
    )
    return Alignment(pose, unrefined, correlation, best.name, tried)


def _paired_moments(
    template: Template, target: Subject, settings: AlignSettings
) -> tuple[Moments, Moments]:
    """Moments of template and scan that weigh the same in both.

    They are of dense bone, or, where the mixture did not tell it in one of them, of what the
    network marks.
    """
    if target.mixture is None or not template.has_mixture:
        marked = marked_moments(target)
        if template.marked is not None and marked is not None:
            return template.marked, marked
    return template.moments, moments_of(target, settings)


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
    for _ in range(CUT_ROUNDS):
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
        subjects: list[tuple[tuple[float, ...], Subject]] = []
        for centre, crop in _places(task, field_mm):
            unseen = subjects or mixture
            marked = None if unseen else read_written(task.inputs["probability"])
            extent = extent_of(task.inputs["locate_record"], crop)
            subjects.append((centre, Subject(crop, mixture, extent, marked)))
        first = subjects[0][1].crop
        tried = _tried(template(), subjects, flips, settings)
        best = max(tried, key=lambda placed: placed.found.correlation)
        unclear = "moments" in settings.starts and is_unclear(best.found.tried)
        if unclear:
            tried = [_tried_everywhere(template(), placed, settings) for placed in tried]
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
        if best.subject.crop is first:
            # No second name: Snakemake dates a job's outputs, and would date its input with them.
            shutil.copyfile(task.inputs["centred"], task.outputs["crop"])
        else:
            write_volume(best.subject.crop, task.outputs["crop"])
        details = {
            "correlation": found.correlation,
            "mirrored": best.mirrored,
            "side": side_shown(side, mirrored=best.mirrored),
            "centre": best.centre,
            "start": found.start,
            "tried": {start.name: start.correlation for start in found.tried},
        }
        doubts = _ambiguous(best, tried, task.row["side"], side)
        if unclear and is_doubtful(found.tried):
            doubts.append(
                f"of {len(found.tried)} poses none is clearly the best: the target may be turned"
            )
        return Record.judged(task.scan, "align", doubts, details)

    batch.run(compute)


def _tried(
    template: Template,
    subjects: Sequence[tuple[tuple[float, ...], Subject]],
    flips: Sequence[bool],
    settings: AlignSettings,
) -> list[Placed]:
    """The alignment of each place that may hold the target, as it is or mirrored.

    Raises:
        ScanFailure: there is none.
    """
    found = []
    for centre, subject in subjects:
        for flip in flips:
            with suppress(ScanFailure):
                aligned = align(template, _subject(subject, flip=flip), settings)
                found.append(Placed(centre, subject, flip, aligned))
    if not found:
        raise ScanFailure("there is no dense bone around any place that may hold the target")
    return found


def _tried_everywhere(template: Template, placed: Placed, settings: AlignSettings) -> Placed:
    """The alignment of a place with orientations all around beside those tried."""
    target = _subject(placed.subject, flip=placed.mirrored)
    return replace(placed, found=align(template, target, settings, earlier=placed.found))


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


def _subject(subject: Subject, *, flip: bool) -> Subject:
    if not flip:
        return subject
    extent, marked = subject.extent, subject.marked
    return Subject(
        mirrored(subject.crop),
        subject.mixture,
        extent and extent.mirrored(),
        None if marked is None else mirrored(marked),
    )


def _template(batch: Batch, settings: AlignSettings) -> Template:
    require_result(batch.path("template_centre_record"), "template")
    crop, mask = crop_and_mask(batch, settings.mask_margin_mm)
    mixture = _mixture(batch.path("template_locate_record"))
    marked = read_written(batch.path("template_probability"))
    return prepare_template(Subject(crop, mixture, None, marked), mask, settings)


def _mixture(record: Path) -> Mixture | None:
    details = read_record(record).details
    return Mixture.from_record(details) if details["mixture"] else None
