"""Losses of heat maps in two dimensions, of the coarse branch and of the regions."""

import torch
from torch import Tensor

from landmarkflow.learning.heatmaps import landmark_loss
from landmarkflow.methods.zoomin.batches import Closely, Coarsely
from landmarkflow.methods.zoomin.settings import TrainSettings


def map_loss(logits: Tensor, points: Tensor, sigma: float, settings: TrainSettings) -> Tensor:
    """Mean loss of maps (m, h, w) whose landmarks lie at (m, 2) pixels, NaN where unknown."""
    return landmark_loss(
        logits,
        points,
        torch.ones(len(points), device=points.device),
        sigma=sigma,
        kind=settings.loss,
        distance=settings.distance_weight,
    )


def coarse_loss(logits: Tensor, seen: Coarsely, settings: TrainSettings) -> Tensor:
    """That of the coarse branch's maps (n, landmarks, h, w)."""
    points = seen.points.to(logits.device).flatten(0, 1)
    return map_loss(logits.flatten(0, 1), points, settings.coarse.sigma_pixels, settings)


def zoom_loss(
    logits: Tensor, alone: list[Tensor], seen: Closely, settings: TrainSettings
) -> Tensor:
    """That of the regions' maps (m, landmarks, h, w), with those of each width of region alone."""
    rows = torch.arange(len(logits))
    chosen = torch.tensor(seen.landmark)
    points, sigma = seen.points.to(logits.device), settings.regions.sigma_pixels
    total = map_loss(logits[rows, chosen], points[:, 0], sigma, settings)
    if settings.parts.auxiliary:
        for number, maps in enumerate(alone):
            loss = map_loss(maps[rows, chosen], points[:, number], sigma, settings)
            total = total + settings.parts.auxiliary * loss
    return total
