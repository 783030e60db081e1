"""Moments of inertia (Eq. 2): where the dense bone of a scan lies, and which way it points."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from landmarkflow.core.errors import ScanFailure
from landmarkflow.images.extent import Extent
from landmarkflow.images.operations import array_of, cropped, grid_of, shrunk
from landmarkflow.methods.oneshot.mixture import Mixture
from landmarkflow.methods.oneshot.settings import AlignSettings

Array = NDArray[np.float64]

# The half turns about each principal axis: what the axes' signs leave open.
PROPER_FLIPS = tuple(np.diag(signs) for signs in ((1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1)))
# Probabilities below this are the tails of the mixture, not bone.
LEAST_WEIGHT = 1e-3
# Fewer voxels that the network marks have no axes.
LEAST_MARKED = 20


@dataclass(frozen=True)
class Subject:
    """One scan after centring.

    Attributes:
        crop: around the target.
        mixture: of the scan's intensities; None where nothing dense told the target apart.
        extent: what the scan shows; None where it goes on beyond the crop on all sides.
        marked: the network's probability of the target; None where it is not known.
    """

    crop: sitk.Image
    mixture: Mixture | None
    extent: Extent | None = None
    marked: sitk.Image | None = None


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


def moments_poses(fixed: Moments, moving: Moments) -> Iterator[Pose]:
    """Yield the four poses that lay the principal axes on each other (Eq. 2)."""
    for flip in PROPER_FLIPS:
        rotation = moving.axes @ flip @ fixed.axes.T
        yield Pose(rotation, fixed.centre, moving.centre - fixed.centre)


def marked_moments(subject: Subject) -> Moments | None:
    """Centre and principal axes of what the network marks, weighted by its probability.

    None where it is not known, or marks nothing.
    """
    if subject.marked is None:
        return None
    mass = array_of(subject.marked).astype(np.float64)
    index = np.argwhere(mass > LEAST_WEIGHT)
    if len(index) < LEAST_MARKED:
        return None
    points = grid_of(subject.marked).to_physical(index[:, ::-1].astype(np.float64))
    return _moments(points, mass[tuple(index.T)])


def moments_of(subject: Subject, settings: AlignSettings) -> Moments:
    """Centre and principal axes of p·ρ (Eq. 1 and 2), least moment of inertia first.

    Only what lies within `moments_radius_mm` of the crop's centre counts, since the network has
    put the target there.

    Raises:
        ScanFailure: there is no dense bone within the radius, nor anything else to be told apart.
    """
    return _moments(*bone_around(subject, settings, settings.moments_radius_mm))


def _moments(points: Array, mass: Array) -> Moments:
    """Of places (n, 3) LPS mm and their masses (n,)."""
    centre = mass @ points / mass.sum()
    offset = points - centre
    second = (offset * mass[:, None]).T @ offset / mass.sum()
    _, axes = np.linalg.eigh(np.trace(second) * np.eye(3) - second)
    axes[:, 2] *= np.sign(np.linalg.det(axes))
    return Moments(centre, axes)


def bone_around(subject: Subject, settings: AlignSettings, radius_mm: float) -> tuple[Array, Array]:
    """Places (n, 3), LPS mm, and masses p·ρ (n,) of dense bone around the crop's centre.

    p is the mixture's probability of dense bone, ρ the intensity. Where the mixture finds no dense
    bone there, p is 1: the densest component is a thousandth of a large scan and can be lost in the
    next one, though the network found the target.

    Raises:
        ScanFailure: there is no dense bone within the radius, nor anything else to be told apart.
    """
    coarse = shrunk(subject.crop, settings.spacings_mm[-1])
    centre = grid_of(coarse).centre
    around = cropped(coarse, centre[None], radius_mm)
    intensity = array_of(around).astype(np.float64)
    index = np.indices(intensity.shape, dtype=np.float64).reshape(3, -1).T[:, ::-1]
    points = grid_of(around).to_physical(index)
    near = np.linalg.norm(points - centre, axis=1) <= radius_mm
    points, intensity = points[near], intensity.ravel()[near]
    dense = None if subject.mixture is None else subject.mixture.dense_probability(intensity)
    mass = intensity if dense is None else dense * intensity
    if not (mass > LEAST_WEIGHT).any() and np.ptp(intensity) > LEAST_WEIGHT:
        mass = intensity
    points, mass = points[mass > LEAST_WEIGHT], mass[mass > LEAST_WEIGHT]
    if not len(mass):
        raise ScanFailure(f"there is no dense bone within {radius_mm:g} mm of the target's centre")
    return points, mass
