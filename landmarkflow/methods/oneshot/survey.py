"""What the template tells of the scans to come: their grey values, and how regions are found.

Where the study leaves both open (`auto`), the template's scan and its target decide: whether the
mixture, in the units that are stated, finds the region in which the target is known to lie.
"""

import logging
from dataclasses import asdict
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from landmarkflow.core.errors import ScanFailure
from landmarkflow.core.files import write_json
from landmarkflow.engine.batch import Batch
from landmarkflow.formats.volumes import read_volume
from landmarkflow.formats.written import read_written
from landmarkflow.images.masks import points_inside
from landmarkflow.images.operations import grid_of
from landmarkflow.methods.oneshot.locate import locate_by_mixture
from landmarkflow.methods.oneshot.normalise import (
    Array,
    Range,
    histogram_of,
    percentile_range,
)
from landmarkflow.methods.oneshot.settings import LocateSettings, NormaliseSettings
from landmarkflow.methods.oneshot.surveyed import Greys, Places, Survey
from landmarkflow.methods.oneshot.template import target_in

logger = logging.getLogger(__name__)

# Of a ball of the target's radius around the target, dense voxels fill at least this share where
# the mixture finds it: bone of an ear fills a twentieth, the thin bone of a skull a hundredth, and
# noise a thousandth.
LEAST_DENSE = 0.003
# A region lies at the target where their centres are closer than so many radii of the target.
NEAR = 1.5
# A target that is so large a part of its scan along each axis is looked for in the whole scan.
LARGE = 0.4


def survey(
    scan: sitk.Image,
    target: sitk.Image,
    settings: LocateSettings,
    intensities: NormaliseSettings,
) -> Survey:
    """Choose for a study how grey values are normalised and regions found.

    Args:
        scan: the template in its own units.
        target: its target, a mask on its grid.
        settings: of `locate`; a method that is stated stands.
        intensities: of `normalise`; a method that is stated stands.
    """
    stated = Range(intensities.low, intensities.high)
    points = points_inside(target)
    dense = 0.0
    if intensities.method != "percentiles" and settings.method in ("auto", "mixture"):
        dense = dense_mass(scan, points.mean(axis=0), settings, intensities)
    ball = 4 / 3 * np.pi * settings.target_radius_mm**3
    finds = dense >= LEAST_DENSE * ball
    greys: Greys = intensities.method
    places: Places = settings.method
    if greys == "auto" and not finds:
        greys = "percentiles"
    if places == "auto" and not finds:
        extent = np.ptp(grid_of(scan).corners, axis=0)
        places = "whole" if (np.ptp(points, axis=0) >= LARGE * extent).all() else "network"
    used = percentile_range(scan) if greys == "percentiles" else stated
    found = "finds" if finds else "does not find"
    because = (
        f"between the grey values {stated.low:g} and {stated.high:g} the mixture {found} the "
        f"template's target: {dense:.3g} mm³ of dense voxels around it, expected "
        f"{LEAST_DENSE * ball:.3g}"
    )
    shares = histogram_of(scan, used)
    return Survey(greys, places, used.low, used.high, tuple(shares.tolist()), dense, because)


def dense_mass(
    scan: sitk.Image,
    centre: Array,
    settings: LocateSettings,
    intensities: NormaliseSettings,
) -> float:
    """Mass, mm³, of a scan's dense component in the candidate at a place, LPS mm; 0 for none.

    A candidate is at the place where it lies no farther from it than `NEAR` radii of the target.
    """
    try:
        greys = Range(intensities.low, intensities.high)
        candidates = locate_by_mixture(scan, settings, intensities, greys).candidates
    except ScanFailure:
        return 0.0
    near = [
        candidate.mass_mm3
        for candidate in candidates
        if np.linalg.norm(np.subtract(candidate.centre, centre)) <= NEAR * settings.target_radius_mm
    ]
    return max(near, default=0.0)


def run(batch: Batch) -> None:
    """Survey the study's template; a scan that cannot be read stops the study."""
    (task,) = batch.tasks
    scan = read_volume(
        Path(task.row["image"]), int(batch.values["largest_gib"] * 2**30), task.row["series"]
    )
    target = target_in(read_written(task.inputs["target"]), batch.values["labels"])
    settings = batch.settings(LocateSettings, "locate")
    found = survey(scan, target, settings, batch.settings(NormaliseSettings, "normalise"))
    logger.info(
        "grey values: %s; regions: %s, because %s", found.normalise, found.locate, found.because
    )
    write_json(batch.path("survey"), asdict(found))
