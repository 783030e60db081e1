"""Losses of heat maps in two dimensions, of the coarse branch and of the regions."""

import torch
from torch import Tensor

from landmarkflow.learning.heatmaps import landmark_loss
from landmarkflow.methods.zoomin.batches import Closely, Coarsely
from landmarkflow.methods.zoomin.settings import TrainSettings

# The weight of a landmark that a region does not show, of one that it shows: most are such, and
# "not here" is learned sooner than a place.
NOT_HERE = 0.1


def coarse_loss(logits: Tensor, seen: Coarsely, settings: TrainSettings) -> Tensor:
    """That of the coarse branch's maps (n, landmarks, h, w)."""
    weights = torch.ones(logits.shape[:2], device=logits.device)
    points = seen.points.to(logits.device)
    return _map_loss(logits, points, weights, settings.coarse.sigma_pixels, settings)


def zoom_loss(
    logits: Tensor, alone: list[Tensor], seen: Closely, settings: TrainSettings
) -> Tensor:
    """That of the regions' maps (m, landmarks, h, w), with those of each width of region alone.

    The landmark that a region is laid for counts fully, the others that it shows by
    `regions.others`.
    """
    points, sigma = seen.points.to(logits.device), settings.regions.sigma_pixels
    maps = [(logits, points[:, 0], 1.0)]
    if settings.parts.auxiliary:
        maps += [
            (one, points[:, number], settings.parts.auxiliary) for number, one in enumerate(alone)
        ]
    total = torch.zeros((), device=logits.device)
    for one, places, share in maps:
        weights = _weights(places, seen.landmark, one.shape[-1], settings.regions.others)
        total = total + share * _map_loss(one, places, weights, sigma, settings)
    return total


def _weights(points: Tensor, laid_for: tuple[int, ...], size: int, others: float) -> Tensor:
    """(m, k) weights of landmarks at (m, k, 2) pixels of maps of a size."""
    shown = ((points > -0.5) & (points < size - 0.5)).all(dim=2)
    weights = others * torch.where(shown, 1.0, NOT_HERE)
    weights[torch.arange(len(points)), torch.tensor(laid_for)] = 1.0
    return weights


def _map_loss(
    logits: Tensor, points: Tensor, weights: Tensor, sigma: float, settings: TrainSettings
) -> Tensor:
    """Mean loss of maps (m, k, h, w) whose landmarks lie at (m, k, 2) pixels, NaN if unknown."""
    counted = weights.flatten() > 0
    return landmark_loss(
        logits.flatten(0, 1)[counted],
        points.flatten(0, 1)[counted],
        weights.flatten()[counted],
        sigma=sigma,
        kind=settings.loss,
        distance=settings.distance_weight,
    )
