"""Heat maps of landmarks: targets at continuous positions, losses, and places below the voxel.

A map is an array z, y, x, or y, x where points have two numbers; points are voxel (pixel) indices
x, y[, z], and count from 0 at the centre of the first one. A landmark may lie outside a window:
beside the voxels a map has one more outcome, "not here", whose logit is 0. So the maps of several
windows are on one scale.
"""

import math
from collections.abc import Iterator, Sequence
from itertools import combinations_with_replacement
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

Array = NDArray[np.float64]
Decoding = Literal["mean", "parabola", "maximum", "expectation"]
LandmarkLoss = Literal["softmax", "mse", "balls"]

# Rounds of the local mean, and the move, voxels, that ends them.
ROUNDS, SETTLED = 100, 1e-4
# A parabola is fitted to the logarithm of voxels above this share of the maximum: lower ones
# are the network's background.
LEAST_SHARE = 1e-2
# Stands for the logarithm's argument where a map is 0.
LEAST = 1e-12


def gaussian_targets(points: Tensor, size: Sequence[int], sigma: float) -> Tensor:
    """Gaussians at continuous positions, each of sum 1 where it lies well inside.

    Args:
        points: (k, d) voxel indices x, y[, z]; NaN for a landmark that is not there.
        size: d numbers of voxels, along [z,] y, x.
        sigma: standard deviation, voxels; below 0.7 sums depend on the place between voxels.

    Returns:
        (k, [z,] y, x) float32. A map whose point lies outside sums to less than 1, or to 0.
    """
    scale = 1 / (sigma * math.sqrt(2 * math.pi))
    target = torch.ones((len(points), *(1 for _ in size)), device=points.device)
    for place, offset in enumerate(_offsets(points, size)):
        along = torch.nan_to_num(scale * torch.exp(-0.5 * (offset / sigma) ** 2))
        target = target * along.view(-1, *_along(place, len(size), size[place]))
    return target


def ball_targets(points: Tensor, size: Sequence[int], radius: float) -> Tensor:
    """Balls that fall linearly from 1 at a continuous position to 0 at a radius, voxels.

    Shapes are those of `gaussian_targets`.
    """
    square = torch.zeros((len(points), *size), device=points.device)
    for place, offset in enumerate(_offsets(points, size)):
        square = square + offset.view(-1, *_along(place, len(size), size[place])) ** 2
    return torch.nan_to_num(1 - square.sqrt() / radius, nan=0.0).clamp(min=0)


def _offsets(points: Tensor, size: Sequence[int]) -> Iterator[Tensor]:
    """For each axis of a map, in its order, (k, count) offsets of its steps from the points."""
    for place, count in enumerate(size):
        steps = torch.arange(count, dtype=torch.float32, device=points.device)
        yield steps[None] - points[:, len(size) - 1 - place, None].float()


def _along(place: int, axes: int, count: int) -> list[int]:
    """The shape by which values of one axis of a map run along it."""
    return [count if axis == place else 1 for axis in range(axes)]


def log_probabilities(logits: Tensor, axes: int = 3) -> tuple[Tensor, Tensor]:
    """Softmax over the voxels of each map and the outcome "not here", as logarithms.

    Args:
        logits: (..., [z,] y, x).
        axes: how many axes a map has.

    Returns:
        (..., z · y · x) of the voxels and (...) of "not here".
    """
    flat = logits.flatten(-axes)
    whole = torch.logsumexp(flat, -1)
    norm = torch.logaddexp(whole, torch.zeros_like(whole))
    return flat - norm[..., None], -norm


def landmark_loss(
    logits: Tensor,
    points: Tensor,
    weights: Tensor,
    *,
    sigma: float,
    kind: LandmarkLoss = "softmax",
    distance: float = 0.1,
    worst: float = 0.2,
) -> Tensor:
    """Loss of heat maps, a weighted mean over landmarks.

    - softmax: Kullback-Leibler divergence from the Gaussian, "not here" included, and beside it
      `distance` times the distance, voxels, from the map's mean to the point (DSNT).
    - mse: squared difference of the map's sigmoid and a Gaussian of maximum 1, summed over voxels.
    - balls: binary cross-entropy with a ball over the worst voxels (nnLandmark), of radius 3 sigma.

    Args:
        logits: (k, [z,] y, x).
        points: (k, d) voxel indices x, y[, z], inside the window or not; NaN where unknown.
        weights: (k,); a landmark of weight 0, or whose point is NaN, does not count.
        sigma: of the Gaussian, voxels.
        kind: which loss.
        distance: weight of the distance.
        worst: share of the voxels that `balls` counts.

    Returns:
        A number; 0 where no landmark counts.
    """
    size = tuple(logits.shape[1:])
    known = ~torch.isnan(points).any(dim=1)
    weights = torch.where(known, weights, torch.zeros_like(weights))
    if kind == "softmax":
        by_landmark = _divergence(logits, points, size, sigma, distance)
    elif kind == "mse":
        peak = (sigma * math.sqrt(2 * math.pi)) ** len(size)
        target = peak * gaussian_targets(points, size, sigma)
        by_landmark = ((torch.sigmoid(logits) - target) ** 2).flatten(1).sum(dim=1)
    else:
        target = ball_targets(points, size, 3 * sigma)
        each = nn.functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
        count = max(1, round(worst * each[0].numel()))
        by_landmark = each.flatten(1).topk(count, dim=1).values.mean(dim=1)
    return (weights * by_landmark).sum() / weights.sum().clamp(min=1e-6)


def _divergence(
    logits: Tensor, points: Tensor, size: Sequence[int], sigma: float, distance: float
) -> Tensor:
    """(k,) divergences from the Gaussians, with the distances of the means."""
    target = gaussian_targets(points, size, sigma).flatten(1)
    inside = target.sum(dim=1)
    # Between voxels the sum may exceed 1 by rounding.
    absent = (1 - inside).clamp(min=0)
    log_p, log_absent = log_probabilities(logits, len(size))
    entropy = torch.xlogy(target, target).sum(dim=1) + torch.xlogy(absent, absent)
    divergence = entropy - (target * log_p).sum(dim=1) - absent * log_absent
    means = expectation(log_p.exp().view(len(points), *size))
    corner = torch.tensor(size[::-1], device=points.device) - 1
    here = ((points >= 0) & (points <= corner)).all(dim=1)
    apart = (means - torch.nan_to_num(points)).square().sum(dim=1).add(1e-6).sqrt()
    return divergence + distance * torch.where(here, apart, torch.zeros_like(apart))


def expectation(maps: Tensor) -> Tensor:
    """(k, d) mean positions x, y[, z] of maps (k, [z,] y, x) that are nowhere negative."""
    mass = maps.flatten(1).sum(dim=1).clamp(min=LEAST)
    means = []
    for axis in reversed(range(1, maps.ndim)):
        others = tuple(other for other in range(1, maps.ndim) if other != axis)
        steps = torch.arange(maps.shape[axis], dtype=maps.dtype, device=maps.device)
        means.append((maps.sum(dim=others) * steps).sum(dim=1) / mass)
    return torch.stack(means, dim=1)


def decode(heat: NDArray[np.float32], how: Decoding = "mean", sigma: float = 2.0) -> Array:
    """The place, (d,) voxel indices x, y[, z], that a map marks.

    - maximum: the voxel of the maximum.
    - mean: from there on the mean under the map and a Gaussian of `sigma` around the place itself,
      until it rests; exact where the map is a Gaussian.
    - parabola: maximum of the paraboloid fitted to the map's logarithm within 1.5 `sigma`.
    - expectation: the mean of the whole map.

    Args:
        heat: ([z,] y, x), nowhere negative.
        how: as above.
        sigma: of the targets that the network learned from, voxels.
    """
    top = np.array(np.unravel_index(int(np.argmax(heat)), heat.shape), dtype=np.float64)
    if how == "maximum":
        return top[::-1].copy()
    if how == "expectation":
        found = expectation(torch.from_numpy(np.ascontiguousarray(heat))[None].double())
        return np.asarray(found[0].numpy(), dtype=np.float64)
    if how == "parabola":
        return _parabola(heat, top, 1.5 * sigma)[::-1].copy()
    return _local_mean(heat, top, sigma)[::-1].copy()


def spread(heat: NDArray[np.float32], point: Array, reach: float) -> tuple[float, float]:
    """How wide a map is around a point, and how much of it lies elsewhere.

    Args:
        heat: ([z,] y, x), nowhere negative.
        point: (d,) voxel indices x, y[, z].
        reach: radius, voxels, within which the map is taken to be of one peak.

    Returns:
        Root mean square distance, voxels, within the reach, and the share of the map beyond it.
    """
    square = np.zeros(heat.shape)
    for axis, count in enumerate(heat.shape):
        steps = np.arange(count) - point[heat.ndim - 1 - axis]
        square += (steps**2).reshape(_along(axis, heat.ndim, count))
    near = square <= reach**2
    whole, inside = float(heat.sum(dtype=np.float64)), float(heat[near].sum(dtype=np.float64))
    if inside <= 0:
        return float(reach), 1.0
    width = math.sqrt(float((heat[near] * square[near]).sum(dtype=np.float64)) / inside)
    return width, 1 - inside / whole


def _around(heat: NDArray[np.float32], place: Array, reach: float) -> tuple[Array, Array]:
    """Voxels (n, d) [z,] y, x in a box around a place, and their values (n,)."""
    low = np.maximum(np.floor(place - reach), 0).astype(int)
    high = np.minimum(np.ceil(place + reach), np.array(heat.shape) - 1).astype(int) + 1
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    axes = (np.arange(a, b, dtype=np.float64) for a, b in zip(low, high, strict=True))
    voxels = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, heat.ndim)
    return voxels, heat[box].ravel().astype(np.float64)


def _local_mean(heat: NDArray[np.float32], place: Array, sigma: float) -> Array:
    for _ in range(ROUNDS):
        voxels, values = _around(heat, place, 3 * sigma)
        square = ((voxels - place) ** 2).sum(axis=1)
        weights = values * np.exp(-0.5 * square / sigma**2)
        if weights.sum() <= 0:
            break
        moved = np.asarray(weights @ voxels / weights.sum())
        step = float(np.abs(moved - place).max())
        place = moved
        if step < SETTLED:
            break
    return place


def _parabola(heat: NDArray[np.float32], top: Array, reach: float) -> Array:
    voxels, values = _around(heat, top, reach)
    offset = voxels - top
    kept = (values > LEAST_SHARE * values.max()) & ((offset**2).sum(axis=1) <= reach**2)
    pairs = list(combinations_with_replacement(range(heat.ndim), 2))
    if kept.sum() < 1 + heat.ndim + len(pairs):
        return top
    along = list(offset[kept].T)
    terms = [np.ones(int(kept.sum())), *along, *(along[a] * along[b] for a, b in pairs)]
    weight = values[kept] / values.max()
    fit = np.linalg.lstsq(
        np.stack(terms, axis=1) * weight[:, None], np.log(values[kept]) * weight, rcond=None
    )[0]
    curve = np.zeros((heat.ndim, heat.ndim))
    for (a, b), value in zip(pairs, fit[1 + heat.ndim :], strict=True):
        curve[a, b] += value
        curve[b, a] += value
    if np.linalg.eigvalsh(curve).max() >= 0:
        return top
    step = -np.linalg.solve(curve, fit[1 : 1 + heat.ndim])
    # A maximum farther off than the voxels that were fitted is none that they show.
    return np.asarray(top + step) if np.linalg.norm(step) <= reach else top
