"""The U-Net with two heads: labels and heat maps of landmarks from one body."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import torch
from monai.networks.blocks.convolutions import Convolution
from torch import Tensor, nn

from landmarkflow.learning.precision import Precision, computing
from landmarkflow.learning.weights import load_weights, save_weights
from landmarkflow.methods.dualhead.settings import TURNED, PassSettings, TrainSettings


class DualHead(nn.Module):
    """3D U-Net: (n, 1, z, y, x) intensities of 0 to 1 to (n, classes + landmarks, z, y, x) logits.

    The first `classes` channels are those of a softmax over background and labels; each other is
    the heat map of a landmark, whose softmax is over voxels and "not here" (`learning.heatmaps`).
    The full resolution has one convolution on each way, since it takes most of the time.

    Args:
        settings: window, channels, levels.
        classes: labels and background; 0 for no such head.
        landmarks: number of landmarks; 0 for no such head.
        precision: of the convolutions; the heads compute in float32.
    """

    def __init__(
        self,
        settings: PassSettings,
        classes: int,
        landmarks: int,
        precision: Precision = "float32",
    ) -> None:
        super().__init__()
        widths = [settings.channels * 2**level for level in range(settings.levels)]
        self.classes, self.landmarks, self.precision = classes, landmarks, precision
        self.down = nn.ModuleList(
            _convolutions(before, after, 1 if level == 0 else 2)
            for level, (before, after) in enumerate(pairwise([1, *widths]))
        )
        self.up = nn.ModuleList(
            _convolutions(widths[level + 1] + widths[level], widths[level], 2 if level else 1)
            for level in reversed(range(settings.levels - 1))
        )
        self.segmentation = nn.Conv3d(widths[0], classes, 1) if classes else None
        self.heat = nn.Conv3d(widths[0], landmarks, 1) if landmarks else None
        if self.heat is not None:
            # At first a landmark is as likely here as not, and anywhere alike.
            assert self.heat.bias is not None
            start = torch.log(torch.tensor(float(settings.window) ** 3))
            nn.init.constant_(self.heat.bias, -float(start))

    def forward(self, windows: Tensor) -> Tensor:
        """Return the logits of all channels, float32."""
        with computing(windows.device, self.precision):
            skipped: list[Tensor] = []
            features = windows - 0.4
            for level, block in enumerate(self.down):
                if level:
                    features = nn.functional.max_pool3d(features, 2)
                features = block(features)
                skipped.append(features)
            for block, skip in zip(self.up, skipped[-2::-1], strict=True):
                features = block(torch.cat([doubled(features), skip], dim=1))
        with torch.autocast(windows.device.type, enabled=False):
            heads = [head for head in (self.segmentation, self.heat) if head is not None]
            return torch.cat([head(features.float()) for head in heads], dim=1)


def doubled(features: Tensor) -> Tensor:
    """(n, c, z, y, x) at twice the resolution, trilinear, edges of voxels staying where they are.

    It is torch's own `interpolate`, which takes three times as long in bfloat16 on a processor.
    """
    for axis in (2, 3, 4):
        last = features.shape[axis] - 1
        before = torch.cat([features.narrow(axis, 0, 1), features.narrow(axis, 0, last)], axis)
        after = torch.cat([features.narrow(axis, 1, last), features.narrow(axis, last, 1)], axis)
        ways = [torch.lerp(features, other, 0.25) for other in (before, after)]
        features = torch.stack(ways, axis + 1).flatten(axis, axis + 1)
    return features


def _convolutions(before: int, after: int, count: int) -> nn.Sequential:
    layers = [
        Convolution(
            3,
            before if number == 0 else after,
            after,
            kernel_size=3,
            norm="instance",
            act=("leakyrelu", {"inplace": True, "negative_slope": 0.01}),
            adn_ordering="NA",
            bias=False,
        )
        for number in range(count)
    ]
    return nn.Sequential(*layers)


def new_networks(settings: TrainSettings, labels: int, landmarks: int) -> nn.ModuleDict:
    """A network for each pass, by its name, as one fold has them.

    To the coarse network all labels are one; the close network has landmarks alone.
    """
    segments = labels > 0 and "segmentation" in settings.heads
    classes = {"coarse": 2, "fine": labels + 1, TURNED: labels + 1} if segments else {}
    points = landmarks if "landmarks" in settings.heads else 0
    return nn.ModuleDict(
        {
            name: DualHead(of_pass, classes.get(name, 0), points, settings.precision)
            for name, of_pass in settings.passes.items()
        }
    )


def take_over(network: nn.Module, taught: nn.Module) -> None:
    """Give a network the weights of another one, as far as it has the same parts."""
    known = taught.state_dict()
    network.load_state_dict({key: known[key] for key in network.state_dict()})


def architecture(
    settings: TrainSettings, labels: Sequence[int], landmarks: Sequence[str]
) -> dict[str, object]:
    """What decides which weights there are, and what they mean."""
    shape = ("window", "channels", "levels")
    passes = {
        name: {key: getattr(of_pass, key) for key in shape}
        for name, of_pass in settings.passes.items()
    }
    return {
        "passes": passes,
        "heads": list(settings.heads),
        "labels": list(labels),
        "landmarks": list(landmarks),
    }


def save_networks(
    path: Path, by_fold: Mapping[str, nn.ModuleDict], description: Mapping[str, object]
) -> None:
    """Write the networks of several folds in one file, with their architecture."""
    together = {"network": {**description, "networks": list(by_fold)}}
    save_weights(path, nn.ModuleDict(dict(by_fold)), together)


def load_networks(
    path: Path,
    names: Sequence[str],
    *,
    settings: TrainSettings,
    labels: Sequence[int],
    landmarks: Sequence[str],
    device: torch.device,
) -> dict[str, nn.ModuleDict]:
    """Read the networks of several folds in evaluation mode.

    Raises:
        InputError: the file is missing, damaged, or of other networks.
    """
    by_fold = {name: new_networks(settings, len(labels), len(landmarks)) for name in names}
    expected = {**architecture(settings, labels, landmarks), "networks": list(names)}
    load_weights(path, nn.ModuleDict(by_fold), expected)
    return {name: networks.to(device).eval() for name, networks in by_fold.items()}
