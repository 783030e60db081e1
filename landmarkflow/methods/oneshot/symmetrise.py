"""Even out the template's annotation by the left-right symmetry that its landmarks obey.

Whoever marks a point errs by a little along the bone, on each side by something else. The template
registered with its own mirror image says where each landmark has its partner; the mean of a
landmark and of its partner's image errs by less, and carries no truth but the template's.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from landmarkflow.core.points import Landmarks, PointList
from landmarkflow.core.records import TEMPLATE, Record, write_record
from landmarkflow.engine.batch import Batch, require_result
from landmarkflow.formats.slicer import read_complete_markups, write_markups
from landmarkflow.formats.transforms import read_transform
from landmarkflow.images.sampling import map_points
from landmarkflow.methods.oneshot.settings import SymmetriseSettings


@dataclass(frozen=True, eq=False)
class Symmetrised:
    """Landmarks after the evening out, LPS mm, and each one's partner where it has one."""

    landmarks: Landmarks
    partners: Mapping[str, str]


def symmetrise(
    annotated: Landmarks, reflection: sitk.Transform, settings: SymmetriseSettings
) -> Symmetrised:
    """Replace each landmark by the mean of itself and of its partner's reflection.

    Two landmarks are partners if each is the nearest to the other's reflection and both
    reflections come within `partner_mm`; one in the midplane is its own. A landmark without a
    partner stays where it is.

    Args:
        annotated: the template's landmarks, LPS mm.
        reflection: takes a template point to the point of the template's other side.
        settings: how far a reflection may lie from the partner.
    """
    here = annotated.positions
    there = map_points(reflection, here)
    distance = np.linalg.norm(there[:, None] - here[None], axis=2)
    nearest = distance.argmin(axis=1)
    rows = np.arange(len(here))
    near = distance[rows, nearest] <= settings.partner_mm
    paired = (nearest[nearest] == rows) & near & near[nearest]
    evened = here.copy()
    evened[paired] = (here[paired] + there[nearest[paired]]) / 2
    labels = annotated.labels
    partners = {labels[row]: labels[nearest[row]] for row in np.flatnonzero(paired)}
    return Symmetrised(Landmarks(labels, evened), partners)


def run(batch: Batch) -> None:
    """Write the landmarks and, in the record, the pairs and how far each landmark moved."""
    settings = batch.settings(SymmetriseSettings)
    require_result(batch.path("template_deform_record"), "the template and its mirror image")
    annotated = read_complete_markups(batch.path("template_reference"))
    found = symmetrise(annotated, read_transform(batch.path("template_bspline")), settings)
    write_markups(batch.path("symmetrised"), [PointList("symmetrised", found.landmarks, None)])
    moved = np.linalg.norm(found.landmarks.positions - annotated.positions, axis=1)
    details = {
        "partners": dict(found.partners),
        "moved_mm": dict(zip(annotated.labels, moved.round(4).tolist(), strict=True)),
    }
    write_record(batch.path("record"), Record(TEMPLATE, "symmetrise", details=details))
