"""What several stages take of the template: its crop, its target and its landmarks."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from landmarkflow.core.grids import Grid
from landmarkflow.core.points import Landmarks
from landmarkflow.core.records import TEMPLATE, read_record
from landmarkflow.engine.batch import Batch
from landmarkflow.formats.slicer import read_complete_markups
from landmarkflow.formats.written import read_written
from landmarkflow.images.extent import Extent
from landmarkflow.images.masks import mask_around_target
from landmarkflow.images.operations import grid_of, image_on, view_of

# A scan's border cuts the target where it leaves out more than this share of it.
LEAST_CUT = 0.005


def target_of(batch: Batch) -> sitk.Image:
    """The template's target, those labels that the study names, as a mask on its scan's grid."""
    return target_in(read_written(batch.path("template_target")), batch.values["labels"])


def target_in(labels: sitk.Image, chosen: Sequence[int]) -> sitk.Image:
    """Those of the labels that are chosen, or all, as a mask."""
    values = view_of(labels)
    return image_on(grid_of(labels), np.isin(values, chosen) if chosen else values != 0)


def crop_and_mask(batch: Batch, margin_mm: float) -> tuple[sitk.Image, sitk.Image]:
    """The template's crop and, on its grid, the target with a margin around it."""
    crop = read_written(batch.path("template_centred"))
    return crop, mask_around_target(crop, target_of(batch), margin_mm)


def maps_to(scan: str, batch: Batch, parts: str) -> str:
    """What the file of a transform says of itself: what it maps to what, and of what it is made."""
    template = batch.places.template
    named = "the template" if template == TEMPLATE else f"the template, {template},"
    return f"maps points of {named} to points of the scan {scan}, both in LPS mm: {parts}"


def annotated_of(batch: Batch) -> Landmarks:
    """The template's landmarks as annotated, or evened out where the run asks for that."""
    even = batch.stage.has("symmetrised", batch.values)
    return read_complete_markups(batch.path("symmetrised" if even else "template_reference"))


def extent_of(record: Path, crop: sitk.Image) -> Extent | None:
    """What a scan shows, by its record of `locate`; None where it goes on all around its crop."""
    extent = Extent(Grid.of_lists(read_record(record).details["grid"]))
    return None if extent.covers(crop) else extent
