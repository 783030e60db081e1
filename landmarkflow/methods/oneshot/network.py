"""The 2D U-Net that marks the target in a slice, and its file."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from landmarkflow.core.errors import InputError
from landmarkflow.learning.weights import load_weights, save_weights
from landmarkflow.methods.oneshot.settings import NetworkSettings

SLICES_AT_ONCE = 32


class UNet(nn.Module):
    """2D U-Net (Figure 1): (n, 1, pixels, pixels) intensities to (n, 1, pixels, pixels) logits."""

    def __init__(self, settings: NetworkSettings) -> None:
        super().__init__()
        widths = [settings.channels * 2**level for level in range(settings.levels)]
        self.down = nn.ModuleList(
            _convolutions(before, after, settings)
            for before, after in zip([1, *widths[:-1]], widths, strict=True)
        )
        self.up = nn.ModuleList(
            _convolutions(below + here, here, settings)
            for here, below in zip(widths[-2::-1], widths[:0:-1], strict=True)
        )
        self.last = nn.Conv2d(widths[0], 1, kernel_size=3, padding=1)

    def forward(self, slices: Tensor) -> Tensor:
        """Return the logit of the target in every pixel."""
        skipped: list[Tensor] = []
        features = slices
        for level, block in enumerate(self.down):
            if level:
                features = nn.functional.max_pool2d(features, 2)
            features = block(features)
            skipped.append(features)
        for block, skip in zip(self.up, skipped[-2::-1], strict=True):
            raised = nn.functional.interpolate(features, scale_factor=2.0, mode="nearest")
            features = block(torch.cat([raised, skip], dim=1))
        logits: Tensor = self.last(features)
        return logits


def _convolutions(before: int, after: int, settings: NetworkSettings) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in [before] + [after] * (settings.convolutions - 1):
        layers.append(nn.Conv2d(channels, after, 3, padding=1, bias=not settings.batch_norm))
        if settings.batch_norm:
            layers.append(nn.BatchNorm2d(after))
        layers.append(nn.ReLU(inplace=True))
    if settings.dropout:
        layers.append(nn.Dropout2d(settings.dropout))
    return nn.Sequential(*layers)


def folded(network: UNet) -> UNet:
    """Fold each batch normalisation into the convolution before it: an eighth less time.

    Args:
        network: in evaluation mode; it is changed, and good for prediction alone.
    """
    for block in (*network.down, *network.up):
        for number, (before, after) in enumerate(pairwise(block)):
            if isinstance(before, nn.Conv2d) and isinstance(after, nn.BatchNorm2d):
                block[number] = fuse_conv_bn_eval(before, after)
                block[number + 1] = nn.Identity()
    return channels_last(network)


def channels_last(network: UNet) -> UNet:
    """Lay the weights out with the channels last: convolutions on a CPU are faster so."""
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def save_network(path: Path, network: UNet, settings: NetworkSettings, target_mm3: float) -> None:
    """Write weights, architecture and the target's volume (mm³)."""
    description = {"network": settings.model_dump(mode="json"), "target_mm3": target_mm3}
    save_weights(path, network, description)


def load_network(path: Path, settings: NetworkSettings) -> tuple[UNet, float]:
    """Read a network in evaluation mode and the volume of the target it was trained on (mm³).

    Raises:
        InputError: the file is missing, damaged, or of another architecture.
    """
    network = UNet(settings)
    description = load_weights(path, network, settings.model_dump(mode="json"))
    try:
        target_mm3 = float(description["target_mm3"])
    except (KeyError, TypeError, ValueError):
        raise InputError(f"{path}: states no target_mm3, expected the target's volume") from None
    return channels_last(network).eval(), target_mm3


def predict_slices(
    network: UNet, slices: NDArray[np.float32], device: torch.device
) -> NDArray[np.float32]:
    """Probability of the target in a stack of slices, (n, pixels, pixels) to the same shape."""
    with torch.inference_mode():
        stack = torch.from_numpy(slices)[:, None].to(device)
        # A few slices at a time stay in a processor's cache, which is worth a factor of two.
        parts = torch.split(stack, len(stack) if device.type == "cuda" else SLICES_AT_ONCE)
        logits = [network(part.contiguous(memory_format=torch.channels_last)) for part in parts]
        probability: NDArray[np.float32] = torch.sigmoid(torch.cat(logits))[:, 0].cpu().numpy()
    return probability
