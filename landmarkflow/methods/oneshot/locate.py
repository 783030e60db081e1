"""Find the rough region of interest: by the dense component of a mixture of intensities (Eq. 1).

Where nothing dense tells the target apart, the region is the whole scan, through which the network
looks (`centre`), or which holds the target as it is.
"""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage

from landmarkflow.core.errors import InputError, ScanFailure
from landmarkflow.core.grids import Grid
from landmarkflow.core.records import Record
from landmarkflow.engine.batch import Batch
from landmarkflow.engine.store import Task
from landmarkflow.formats.volumes import read_volume
from landmarkflow.formats.written import write_volume
from landmarkflow.images.identity import Identity
from landmarkflow.images.masks import otsu_threshold
from landmarkflow.images.operations import array_of, cropped, grid_of, image_on, view_of
from landmarkflow.images.sampling import resample
from landmarkflow.methods.oneshot.mixture import Mixture, fit_mixture
from landmarkflow.methods.oneshot.normalise import (
    UNIT,
    Greys,
    Range,
    greys_of,
    normalise,
    normalised_blocks,
)
from landmarkflow.methods.oneshot.settings import LocateSettings, NormaliseSettings
from landmarkflow.methods.oneshot.surveyed import Survey, read_survey

# Around the crop, for the smoothing that a coarser working grid needs.
CROP_MARGIN_MM = 2.0
# A place farther off than a region is wide is a candidate where it has this share of the mass.
FAR_SHARE = 0.1
# A scan whose heaviest region has less than this share of the template's dense mass has none.
LEAST_OF_TEMPLATE = 0.1
# A whole scan on the working grid, at four bytes a voxel.
MOST_VOXELS = 120e6


@dataclass(frozen=True)
class Candidate:
    """A region that may hold the target: its centre (LPS mm, Eq. 1) and its dense mass (mm³)."""

    centre: tuple[float, float, float]
    mass_mm3: float


@dataclass(frozen=True)
class Region:
    """What `locate` finds in one scan.

    Attributes:
        crop: on the LPS-aligned working grid.
        mixture: of the scan's intensities; None where it found no region.
        centre: of all that counts, LPS mm.
        candidates: the heaviest first; none where the network is to look through the whole crop.
        method: mixture, network or whole.
    """

    crop: sitk.Image
    mixture: Mixture | None
    centre: tuple[float, float, float]
    candidates: tuple[Candidate, ...]
    method: str = "mixture"


def locate(
    scan: sitk.Image,
    settings: LocateSettings,
    intensities: NormaliseSettings,
    survey: Survey | None = None,
    *,
    greys: Range = UNIT,
) -> Region:
    """Locate a scan's region by the method that is stated, or that the template's survey chose.

    Args:
        scan: in its own units, or normalised.
        settings: mixture, candidates and crop.
        intensities: the scaling of Eq. 8, in whose units the mixture is stated.
        survey: of the template; without one `auto` is the mixture.
        greys: what becomes 0 and 1 in the scan (Eq. 8); without it the scan is normalised.

    Raises:
        ScanFailure: no voxel belongs to the dense component, or the scan is too large to be the
            region as a whole.
    """
    method = survey.locate if survey else settings.method
    if method in ("network", "whole"):
        return whole_scan(scan, settings, method, greys)
    if survey is None or method == "mixture":
        return locate_by_mixture(scan, settings, intensities, greys)
    try:
        found = locate_by_mixture(scan, settings, intensities, greys)
    except ScanFailure:
        return whole_scan(scan, settings, "network", greys)
    if found.candidates[0].mass_mm3 < LEAST_OF_TEMPLATE * survey.dense_mm3:
        return whole_scan(scan, settings, "network", greys)
    return found


def whole_scan(
    scan: sitk.Image, settings: LocateSettings, method: str, greys: Range = UNIT
) -> Region:
    """The whole scan as the region, on the working grid.

    As `whole` it has one candidate, the centre of what is brighter than Otsu's threshold.

    Args:
        scan: in its own units, or normalised.
        settings: the working grid's spacing.
        method: network or whole.
        greys: what becomes 0 and 1 in the scan; without it the scan is normalised.

    Raises:
        ScanFailure: the working grid would hold too many voxels.
    """
    corners = _corners(grid_of(scan))
    low, high = corners.min(axis=0), corners.max(axis=0)
    voxels = float(np.prod((high - low) / settings.spacing_mm))
    if voxels > MOST_VOXELS:
        raise ScanFailure(
            f"the whole scan at `locate.spacing_mm` {settings.spacing_mm:g} would be a region of "
            f"{voxels / 1e6:.0f} million voxels, expected at most {MOST_VOXELS / 1e6:.0f}: state a "
            "larger spacing, or cut the scan out around the target"
        )
    box = _box_grid(low, high, settings.spacing_mm)
    crop = resample(normalise(scan, greys), box, "linear")
    coarse = _searched(scan, settings, greys)
    values = array_of(coarse).astype(np.float64)
    bright = values * (values > otsu_threshold(values.ravel()))
    if not bright.any():
        raise ScanFailure("all voxels of the scan have the same grey value, expected a target")
    centre = _centre_of_mass(bright, grid_of(coarse))
    mass = float(bright.sum() * settings.search_spacing_mm**3)
    candidates = (Candidate(centre, mass),) if method == "whole" else ()
    return Region(crop, None, centre, candidates, method)


def locate_by_mixture(
    scan: sitk.Image,
    settings: LocateSettings,
    intensities: NormaliseSettings,
    greys: Range = UNIT,
) -> Region:
    """Locate candidate regions of dense bone and crop around them.

    Args:
        scan: in its own units, or normalised.
        settings: mixture, candidates and crop.
        intensities: the scaling of Eq. 8, in whose units the mixture is stated.
        greys: what becomes 0 and 1 in the scan; without it the scan is normalised.

    Returns:
        The crop on the LPS-aligned working grid, the fitted mixture, the centre of mass of the
        whole probability map (Eq. 1) and the candidates, heaviest first.

    Raises:
        ScanFailure: no voxel belongs to the dense component.
    """
    mixture = fit_mixture(view_of(scan), settings, intensities, greys)
    search = _searched(scan, settings, greys)
    density = array_of(search).astype(np.float64)
    mass = mixture.dense_probability(density) * density
    candidates = find_candidates(mass, grid_of(search), settings)
    centre = _centre_of_mass(mass, grid_of(search))
    crop = _crop(scan, [candidate.centre for candidate in candidates], settings, greys)
    return Region(crop, mixture, centre, candidates)


def find_candidates(
    mass: NDArray[np.float64], grid: Grid, settings: LocateSettings
) -> tuple[Candidate, ...]:
    """Find the regions of the target's size that hold most mass.

    Args:
        mass: p·ρ of Eq. 1 per voxel of `grid`, z,y,x.
        grid: its isotropic grid.
        settings: radius of the target, number of candidates, weakest share of the heaviest.

    Returns:
        Candidates, heaviest first, their centres at least a target radius apart.

    Raises:
        ScanFailure: there is no mass at all.
    """
    spacing = float(grid.spacing[0])
    sigma = settings.target_radius_mm / 2 / spacing
    smooth = ndimage.gaussian_filter(mass, sigma, mode="constant")
    peaks = (smooth == ndimage.maximum_filter(smooth, size=3)) & (smooth > 0)
    order = np.argsort(-smooth[peaks], kind="stable")
    positions = grid.to_physical(np.argwhere(peaks)[order][:, ::-1].astype(np.float64))
    if not len(positions) or smooth.max() < 1e-6:
        raise ScanFailure(
            "found no voxel of the dense component where dense bone was expected; "
            "check `normalise` and `locate.dense`"
        )
    found: list[Candidate] = []
    for position in positions:
        weights, points = _mass_around(position, mass, grid, settings.target_radius_mm)
        weight = weights.sum()
        centre = (weights[:, None] * points).sum(axis=0) / weight
        candidate = Candidate(_triple(centre), float(weight * spacing**3))
        near = min((_distance(candidate, other) for other in found), default=np.inf)
        share = candidate.mass_mm3 / found[0].mass_mm3 if found else 1.0
        # Of a head one ear may be far denser than the other.
        far = near > settings.field_mm and share >= FAR_SHARE
        full = len(found) >= settings.candidates or share < settings.weakest_candidate
        if near > settings.target_radius_mm and (far or not full):
            found.append(candidate)
    return tuple(sorted(found, key=lambda c: -c.mass_mm3))


def _distance(one: Candidate, other: Candidate) -> float:
    return float(np.linalg.norm(np.subtract(one.centre, other.centre)))


def _mass_around(
    position: NDArray[np.float64], mass: NDArray[np.float64], grid: Grid, radius_mm: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Masses (n,) and places (n, 3), LPS mm, of the voxels that hold any in a ball."""
    middle = np.rint(grid.to_index(position[None])[0]).astype(int)
    reach = int(np.ceil(radius_mm / float(grid.spacing[0]))) + 1
    first = np.maximum(middle - reach, 0)
    x, y, z = (slice(low, high) for low, high in zip(first, middle + reach + 1, strict=True))
    near = mass[z, y, x]
    points = grid.to_physical(np.argwhere(near > 0)[:, ::-1] + first)
    inside = np.linalg.norm(points - position, axis=1) <= radius_mm
    return near[near > 0][inside], points[inside]


def _centre_of_mass(mass: NDArray[np.float64], grid: Grid) -> tuple[float, float, float]:
    index = ndimage.center_of_mass(mass)[::-1]
    return _triple(grid.to_physical(np.array([index]))[0])


def _triple(point: NDArray[np.float64]) -> tuple[float, float, float]:
    return float(point[0]), float(point[1]), float(point[2])


def _corners(grid: Grid) -> NDArray[np.float64]:
    """Physical corners of a volume, at its voxels' outer edges: (8, 3)."""
    ends = [(-0.5, n - 0.5) for n in grid.size]
    return grid.to_physical(
        np.array([(x, y, z) for x in ends[0] for y in ends[1] for z in ends[2]])
    )


def _box_grid(low: NDArray[np.float64], high: NDArray[np.float64], spacing: float) -> Grid:
    """LPS-aligned isotropic grid whose voxels' edges reach from low to high."""
    size = np.maximum(np.round((high - low) / spacing).astype(int), 1)
    return Grid.centred((low + high) / 2, (int(size[0]), int(size[1]), int(size[2])), spacing)


def _covering_grid(scan: Grid, spacing: float) -> Grid:
    corners = _corners(scan)
    return _box_grid(corners.min(axis=0), corners.max(axis=0), spacing)


def _searched(scan: sitk.Image, settings: LocateSettings, greys: Range) -> sitk.Image:
    """The normalised scan on the LPS-aligned grid on which regions are looked for."""
    # Blocks first: smoothing all voxels of a fine scan would take longer than all that follows.
    blocks = normalised_blocks(scan, greys, settings.search_spacing_mm / 2)
    return resample(blocks, _covering_grid(grid_of(scan), settings.search_spacing_mm), "linear")


def _crop(
    scan: sitk.Image,
    centres: list[tuple[float, float, float]],
    settings: LocateSettings,
    greys: Range,
) -> sitk.Image:
    """The normalised scan around all candidates, on the working grid, within the scan.

    Where the candidates' cubes are smaller than the box around them all, what lies between is air.
    """
    corners, half = _corners(grid_of(scan)), settings.field_mm / 2
    around = np.array(centres)
    low = np.maximum(around - half, corners.min(axis=0))
    high = np.minimum(around + half, corners.max(axis=0))
    box = _box_grid(low.min(axis=0), high.max(axis=0), settings.spacing_mm)
    first = np.clip(np.floor(box.to_index(low)), 0, None).astype(int)
    last = np.minimum(np.ceil(box.to_index(high)) + 1, box.size).astype(int)
    if np.prod(last - first, axis=1).sum() >= np.prod(box.size):
        return _resampled(scan, box, greys)
    values = np.zeros(box.size[::-1], np.float32)
    for begin, end in zip(first, last, strict=True):
        x, y, z = (end - begin).tolist()
        part = Grid((x, y, z), box.spacing, box.to_physical([begin])[0], box.direction)
        inside = tuple(slice(*ends) for ends in zip(begin[::-1], end[::-1], strict=True))
        values[inside] = array_of(_resampled(scan, part, greys))
    return image_on(box, values)


def _resampled(scan: sitk.Image, grid: Grid, greys: Range) -> sitk.Image:
    """The part of a scan around a grid, normalised, on that grid."""
    part = cropped(scan, _corners(grid), CROP_MARGIN_MM)
    return resample(normalise(part, greys), grid, "linear")


def survey_of(batch: Batch) -> Survey | None:
    """The template's survey, where the settings leave anything to it."""
    asked = batch.stage.has("survey", batch.values)
    return read_survey(batch.path("survey")) if asked else None


def scan_greys(scan: sitk.Image, intensities: NormaliseSettings, survey: Survey | None) -> Greys:
    """How a scan is normalised, as stated or as the template's survey chose."""
    if survey is None:
        stated = Range(intensities.low, intensities.high)
        method = "percentiles" if intensities.method == "percentiles" else "hu"
        return greys_of(scan, stated, None, method)
    return greys_of(scan, survey.range, survey.shares, survey.normalise)


def run(batch: Batch) -> None:
    """Read, normalise, locate and crop every scan; one that cannot be read is set aside."""
    settings = batch.settings(LocateSettings)
    intensities = batch.settings(NormaliseSettings, "normalise")
    largest = int(batch.values["largest_gib"] * 2**30)
    survey = survey_of(batch)

    def compute(task: Task) -> Record:
        try:
            scan = read_volume(Path(task.row["image"]), largest, task.row["series"])
        except InputError as error:
            if batch.is_required:
                raise
            return Record(task.scan, "locate", "refused", str(error))
        greys = scan_greys(scan, intensities, survey)
        found = locate(scan, settings, intensities, survey, greys=greys.range)
        write_volume(found.crop, task.outputs["region"])
        details = {
            "grid": grid_of(scan).as_lists(),
            "image": Identity.of(scan).as_record(),
            "centre": found.centre,
            "candidates": [asdict(candidate) for candidate in found.candidates],
            "mixture": found.mixture and found.mixture.as_record(),
            "method": found.method,
            "greys": greys.as_record(),
        }
        return Record(task.scan, "locate", details=details)

    batch.run(compute)
