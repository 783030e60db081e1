"""The loss of a window: the segmentation's and the landmarks', as far as both are known."""

import torch
from monai.losses.dice import DiceLoss
from torch import Tensor, nn

from landmarkflow.learning.heatmaps import landmark_loss, log_probabilities
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
        self.dice = DiceLoss(softmax=True, to_onehot_y=True, include_background=False)

    def __call__(self, logits: Tensor, window: Window) -> tuple[Tensor, float, float]:
        """The loss, and its two parts as numbers; NaN for a part that does not count.

        Args:
            logits: (1, channels, n, n, n).
            window: what is known.
        """
        total = logits.new_zeros(())
        parts = [float("nan"), float("nan")]
        if self.classes and window.segmented:
            overlap = self._overlap(logits[:, : self.classes], window.labels[None])
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

    def _overlap(self, logits: Tensor, labels: Tensor) -> Tensor:
        kind, total = self.settings.segmentation_loss, logits.new_zeros(())
        if kind != "cross_entropy":
            total = total + self.dice(logits, labels[:, None])
        if kind != "dice":
            total = total + hardest_cross_entropy(logits, labels, self.settings.hardest)
        return total


def hardest_cross_entropy(logits: Tensor, labels: Tensor, share: float) -> Tensor:
    """Mean cross-entropy of the voxels that have most of it.

    A target fills a hundredth of a window: over all voxels, a network that marks nothing is so
    good that it takes hundreds of steps to leave that.

    Args:
        logits: (1, classes, z, y, x).
        labels: (1, z, y, x) int64.
        share: of the voxels that count.
    """
    each = nn.functional.cross_entropy(logits, labels, reduction="none").flatten()
    return each.topk(max(1, round(share * len(each)))).values.mean()


def heat_of(logits: Tensor, kind: str) -> tuple[Tensor, Tensor]:
    """Heat maps, nowhere negative, and each landmark's probability of being in the window.

    Args:
        logits: (k, z, y, x).
        kind: the landmarks' loss; of others than softmax a sigmoid stands for the probability.

    Returns:
        (k, z, y, x) and (k,).
    """
    if kind == "softmax":
        inside = log_probabilities(logits)[0].exp()
        return inside.view_as(logits), inside.sum(dim=1)
    heat = torch.sigmoid(logits)
    return heat, heat.flatten(1).amax(dim=1)
