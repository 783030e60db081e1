"""What several stages take of the template: its crop, its target and its landmarks."""

import SimpleITK as sitk

from landmarkflow.core.grids import Grid
from landmarkflow.core.points import Landmarks
from landmarkflow.core.records import read_record
from landmarkflow.engine.batch import Batch
from landmarkflow.formats.landmarks import read_complete_landmarks
from landmarkflow.formats.volumes import read_segmentation, read_written
from landmarkflow.images.masks import mask_around_target


def target_of(batch: Batch) -> sitk.Image:
    """The template's target as a mask on the grid of its scan.

    Raises:
        InputError: the segmentation is unusable.
    """
    grid = Grid.of_lists(read_record(batch.path("template_locate_record")).details["grid"])
    return read_segmentation(batch.path("segmentation"), grid, batch.values["labels"])


def crop_and_mask(batch: Batch, margin_mm: float) -> tuple[sitk.Image, sitk.Image]:
    """The template's crop and, on its grid, the target with a margin around it.

    Raises:
        InputError: the segmentation is unusable.
    """
    crop = read_written(batch.path("template_centred"))
    return crop, mask_around_target(crop, target_of(batch), margin_mm)


def annotated_of(batch: Batch) -> Landmarks:
    """The template's landmarks as annotated, or evened out where the run asks for that."""
    even = batch.stage.has("symmetrised", batch.values)
    return read_complete_landmarks(batch.path("symmetrised" if even else "template_reference"))
