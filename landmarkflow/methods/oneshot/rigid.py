"""Compare a template with a scan at a pose, and climb to the best one near it (Eq. 3)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

from landmarkflow.images.extent import Extent
from landmarkflow.images.operations import shrunk
from landmarkflow.images.similarity import Interpolator, correlation, interpolated, normalised
from landmarkflow.methods.oneshot.moments import Pose, Subject
from landmarkflow.methods.oneshot.settings import AlignSettings

Array = NDArray[np.float64]

# A pose that puts a smaller share of the samples into a scan says nothing.
LEAST_SEEN = 0.3
# Where fewer samples than this share enter or leave the scan, a climb has settled.
SETTLED = 0.01
# How often at most it is asked again which samples a pose puts into the scan.
ROUNDS = 10


@dataclass(frozen=True)
class Start:
    """A pose to start from, and the correlation that it has and comes to at coarse spacing."""

    name: str
    pose: Pose
    correlation: float


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
        arms, to_index = (points - pose.pivot).T, self.target.to_index
        start = to_index @ (pose.pivot + pose.translation - self.target.origin)
        # Straight to voxels, since as many points are turned in each step of a climb.
        index = (to_index @ pose.rotation @ arms + start[:, None]).astype(np.float32)
        values, by_index = interpolated(self.target.voxels, self.target.size, index)
        value, by_value = correlation(fixed, values.astype(np.float64))
        forces = by_index * by_value
        # Σ arm × force, of the sums of all their products.
        products = pose.rotation @ (arms @ forces.T) @ to_index
        turn = products[[1, 2, 0], [2, 0, 1]] - products[[2, 0, 1], [1, 2, 0]]
        return value, np.concatenate([turn, forces.sum(axis=1) @ to_index])

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
