"""The loss of a window: the segmentation's and the landmarks', as far as both are known."""

import torch
from monai.losses.dice import DiceCELoss, DiceLoss
from torch import Tensor, nn

from landmarkflow.learning.heatmaps import landmark_loss
from landmarkflow.methods.dualhead.settings import PassSettings, TrainSettings
from landmarkflow.methods.dualhead.windows import Window


class JointLoss:
    """Segmentation loss and weighted landmark loss of one window.

    Args:
        settings: which losses.
        of_pass: the width of the Gaussians.
        classes: labels and background; 0 for no such head.
    """

    def __init__(self, settings: TrainSettings, of_pass: PassSettings, classes: int) -> None:
        self.settings, self.of_pass, self.classes = settings, of_pass, classes
        self.overlap: nn.Module = {
            "dice_ce": DiceCELoss(softmax=True, to_onehot_y=True, include_background=False),
            "dice": DiceLoss(softmax=True, to_onehot_y=True, include_background=False),
            "cross_entropy": _CrossEntropy(),
        }[settings.segmentation_loss]

    def __call__(self, logits: Tensor, window: Window) -> tuple[Tensor, float, float]:
        """The loss, and its two parts as numbers; NaN for a part that does not count.

        Args:
            logits: (1, channels, n, n, n).
            window: what is known.
        """
        total = logits.new_zeros(())
        parts = [float("nan"), float("nan")]
        if self.classes and window.segmented:
            overlap = self.overlap(logits[:, : self.classes], window.labels[None, None])
            total, parts[0] = total + overlap, float(overlap.detach())
        maps = logits[0, self.classes :]
        if len(maps):
            settings = self.settings
            heat = landmark_loss(
                maps,
                window.points,
                window.weights,
                sigma=self.of_pass.sigma_voxels,
                kind=settings.landmark_loss,
                distance=settings.distance_weight,
            )
            total, parts[1] = total + settings.landmark_weight * heat, float(heat.detach())
        return total, parts[0], parts[1]


class _CrossEntropy(nn.Module):
    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        return nn.functional.cross_entropy(logits, labels[:, 0])


def heat_of(logits: Tensor, kind: str) -> tuple[Tensor, Tensor]:
    """Heat maps, nowhere negative, and each landmark's probability of being in the window.

    Args:
        logits: (k, z, y, x).
        kind: the landmarks' loss; of others than softmax a sigmoid stands for the probability.

    Returns:
        (k, z, y, x) and (k,).
    """
    if kind == "softmax":
        flat = logits.flatten(1)
        norm = torch.logaddexp(torch.logsumexp(flat, 1), flat.new_zeros(len(flat)))
        heat = torch.exp(logits - norm[:, None, None, None])
        return heat, heat.flatten(1).sum(dim=1)
    heat = torch.sigmoid(logits)
    return heat, heat.flatten(1).amax(dim=1)
