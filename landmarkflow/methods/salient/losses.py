"""Losses of a saliency map, after Droste et al. (KLD) and their later UNISAL (KLD - CC - NSS)."""

import torch
from torch import Tensor

LEAST = 1e-8


def saliency_loss(
    logits: Tensor, target: Tensor, counts: Tensor, *, kld: float, cc: float, nss: float
) -> Tensor:
    """Weighted Kullback-Leibler divergence, less correlation and scanpath saliency.

    Args:
        logits: (n, rows, columns); cells outside a picture are far below all others.
        target: the same, the density of the places looked at, of sum 1.
        counts: the same, how often each cell was looked at.
        kld: weight of the divergence of the density from the map.
        cc: weight of the correlation of both.
        nss: weight of the map's mean deviation at the places.

    Returns:
        The mean over pictures.
    """
    flat, true, seen = logits.flatten(1), target.flatten(1), counts.flatten(1)
    inside = (flat > -1e3).to(flat.dtype)
    log_p = torch.log_softmax(flat, dim=1)
    loss = kld * (torch.xlogy(true, true) - true * log_p).sum(dim=1)
    if cc or nss:
        # In the units of a mean cell, so that no sum of squares vanishes.
        cells = inside.sum(dim=1, keepdim=True)
        shown, wanted = log_p.exp() * cells, true * cells
        a = (shown - _mean(shown, inside)) * inside
        b = (wanted - _mean(wanted, inside)) * inside
        spread = a.square().mean(dim=1).add(LEAST).sqrt()
        other = b.square().mean(dim=1).add(LEAST).sqrt()
        loss = loss - cc * (a * b).mean(dim=1) / (spread * other)
        deviation = a.square().sum(dim=1).div(cells[:, 0]).add(LEAST).sqrt()
        at_places = (a * seen).sum(dim=1) / seen.sum(dim=1).clamp(min=1)
        loss = loss - nss * at_places / deviation
    return loss.mean()


def _mean(values: Tensor, inside: Tensor) -> Tensor:
    return (values * inside).sum(dim=1, keepdim=True) / inside.sum(dim=1, keepdim=True)
