"""Deform with B-splines (Eq. 5 and 6), template fixed, so that nothing is inverted."""

import functools
from collections.abc import Callable

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage

from landmarkflow.core.errors import InputError, ScanFailure
from landmarkflow.core.records import Record
from landmarkflow.engine.batch import Batch
from landmarkflow.engine.store import Task
from landmarkflow.formats.transforms import read_transform, write_transform
from landmarkflow.formats.written import read_written
from landmarkflow.images.extent import Extent
from landmarkflow.images.masks import points_inside
from landmarkflow.images.operations import array_of, cropped, grid_of, image_on, shrunk
from landmarkflow.images.sampling import carried, map_points
from landmarkflow.methods.oneshot import lbfgs
from landmarkflow.methods.oneshot.settings import DeformSettings
from landmarkflow.methods.oneshot.template import crop_and_mask, extent_of, maps_to, target_of

Array = NDArray[np.float64]

FOLDING_SPACING_MM = 0.5
# Of a target this share may lie beyond the scan's border without harm to the registration.
MOST_CUT = 0.1
# So many points of the target, evenly taken, tell that share.
MEASURED = 2000

# What the registration can look at: the mask's surroundings for the smoothing, and as far again
# as a landmark may move.
FIXED_MARGIN_MM = 1.5
MOVING_MARGIN_MM = 2.5
# Too thin for smoothing.
LEAST_VOXELS = 8

Deform = Callable[[sitk.Image, sitk.Transform, Extent | None], sitk.CompositeTransform]
Register = Callable[[sitk.Image, Extent | None], list[sitk.Transform]]


def prepare(
    template: sitk.Image, mask: sitk.Image, settings: DeformSettings, *, seed: int
) -> Deform:
    """Make ready to deform any number of scans.

    Args:
        template: the fixed image.
        mask: where the similarity counts, on the template's grid.
        settings: method, transforms, grids.
        seed: of the random samples.

    Returns:
        A function of a target image, of a rigid transform that takes template points to target
        points, LPS mm, and of what the target's scan shows, if not all of the image. It returns the
        whole map from template points to target points: rigid ∘ affine ∘ B-spline as one ITK
        composite, in the order in which ITK lists its parts. It raises ScanFailure where the rigid
        alignment leaves nothing of the target to compare or elastix refuses the registration.
    """
    inside = points_inside(mask)
    fixed, fixed_mask = (cropped(image, inside, FIXED_MARGIN_MM) for image in (template, mask))
    register = _method(fixed, fixed_mask, settings, seed)

    def deform(
        target: sitk.Image, rigid: sitk.Transform, extent: Extent | None
    ) -> sitk.CompositeTransform:
        whole = sitk.CompositeTransform(3)
        whole.AddTransform(rigid)
        # Carried into the template's frame by its header alone, no voxel is interpolated twice.
        try:
            moving = cropped(carried(target, rigid), inside, MOVING_MARGIN_MM)
        except InputError:
            moving = None
        if moving is None or min(moving.GetSize()) < LEAST_VOXELS:
            raise ScanFailure("the rigid registration puts the target outside the scan")
        for part in register(moving, extent and extent.carried(rigid)):
            whole.AddTransform(part)
        return whole

    return deform


def prepare_scan(
    scan: sitk.Image,
    rigid: sitk.Transform,
    mask: sitk.Image,
    settings: DeformSettings,
    *,
    seed: int,
) -> Deform:
    """Make ready to deform others onto a scan that takes the template's place.

    Args:
        scan: the fixed image.
        rigid: takes template points to the scan's points.
        mask: where the similarity counts, on the template's grid.
        settings: method, transforms, grids.
        seed: of the random samples.
    """
    there = sitk.Resample(mask, scan, rigid.GetInverse(), sitk.sitkNearestNeighbor, 0.0)
    return prepare(scan, there, settings, seed=seed)


def folded_share(transform: sitk.Transform, mask: sitk.Image) -> float:
    """Share of the mask's voxels where the map folds: its Jacobian determinant changes sign."""
    inside = array_of(mask) > 0
    near = ndimage.binary_dilation(inside)
    mapped = np.full((*inside.shape, 3), np.nan)
    mapped[near] = map_points(transform, points_inside(image_on(grid_of(mask), near)))
    # At a voxel of the mask only voxels beside it count, all of which are known.
    slopes = np.stack([np.gradient(mapped, axis=axis)[inside] for axis in range(3)], axis=-1)
    determinant = np.linalg.det(slopes)
    # A scan of the other side is mirrored as a whole, which is no fold.
    return float((determinant * np.sign(np.median(determinant)) <= 0).mean())


def _method(fixed: sitk.Image, mask: sitk.Image, settings: DeformSettings, seed: int) -> Register:
    if settings.method == "elastix":
        # Not before it is wanted: loading it takes longer than registering ten scans.
        from landmarkflow.methods.oneshot import elastix  # noqa: PLC0415

        return lambda moving, extent: elastix.register(
            fixed, mask, moving, settings.elastix, seed=seed, extent=extent
        )
    prepared = lbfgs.prepare(fixed, mask, settings.lbfgs, seed=seed)
    return lambda moving, extent: lbfgs.register(prepared, moving, settings.lbfgs, extent)


def run(batch: Batch) -> None:
    """Register every scan of the batch."""
    settings = batch.settings(DeformSettings)

    @functools.cache
    def template() -> tuple[Deform, sitk.Image]:
        """What deforms a scan, and a coarse mask in which to look for folds."""
        crop, mask = crop_and_mask(batch, settings.mask_margin_mm)
        part = cropped(mask, points_inside(mask), FOLDING_SPACING_MM)
        deform = prepare(crop, mask, settings, seed=batch.values["seed"])
        return deform, shrunk(part, FOLDING_SPACING_MM)

    @functools.cache
    def points() -> Array:
        """Some points of the target, evenly taken, LPS mm in the template."""
        inside = points_inside(target_of(batch))
        return inside[:: max(1, len(inside) // MEASURED)]

    def compute(task: Task) -> Record:
        deform, mask = template()
        target = read_written(task.inputs["crop"])
        extent = extent_of(task.inputs["locate_record"], target)
        whole = deform(target, read_transform(task.inputs["rigid"]), extent)
        said = maps_to(task.scan, batch, "B-spline, then affine, then rigid")
        write_transform(whole, task.outputs["bspline"], said)
        folded = folded_share(whole, mask)
        cut = (
            0.0 if extent is None else float((extent.depth(map_points(whole, points())) < 0).mean())
        )
        doubts = []
        if cut > MOST_CUT:
            doubts.append(
                f"the target reaches the border of the scan: {100 * cut:.0f} % of it lies beyond"
            )
        if folded > settings.most_folded:
            doubts.append(f"the B-spline folds in {100 * folded:.2f} % of the region compared")
        return Record.judged(
            task.scan, "deform", doubts, {"folded_share": folded, "cut_share": cut}
        )

    batch.run(compute)
