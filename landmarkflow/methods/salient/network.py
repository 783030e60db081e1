"""The saliency network: where in a picture people look, as a probability of each cell."""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from landmarkflow.learning.precision import Precision, computing
from landmarkflow.learning.weights import load_weights, save_weights
from landmarkflow.methods.salient.settings import GazeSettings, TrainSettings

# Channels of each level, in those of the first, and its stride in input pixels: 2, 4, 8, 16, 32.
WIDTHS = (1, 2, 4, 6, 6)
# Levels whose features the decoder takes up again, by the stride of the map.
LEVELS = {4: (3, 2, 1), 8: (3, 2)}
# Channels of the layer before the map, whose values are a cell's features.
LAST = 32
# Widest radius, cells, of the learned blur.
BLUR_RADIUS = 5
# Logit of a cell outside the picture.
OUTSIDE = -1e4


class SaliencyNetwork(nn.Module):
    """Residual encoder to stride 32, decoder with skips back to the map's stride.

    Learned Gaussians of a cell's place in its picture are channels beside the deepest features,
    and add to the map.
    """

    def __init__(self, settings: TrainSettings, stride: int) -> None:
        super().__init__()
        widths = [settings.channels * width for width in WIDTHS]
        self.precision: Precision = settings.precision
        self.smoothing = settings.smoothing
        self.stem = _unit(6, widths[0], stride=2)
        self.down = nn.ModuleList(
            nn.Sequential(
                Residual(before, after, stride=2),
                *(Residual(after, after) for _ in range(settings.blocks - 1)),
            )
            for before, after in pairwise(widths)
        )
        self.priors = Priors(settings.priors)
        self.context = nn.Sequential(
            _unit(widths[-1] + settings.priors, widths[-1]),
            nn.Dropout2d(settings.dropout),
            Residual(widths[-1], widths[-1]),
        )
        self.levels = LEVELS[stride]
        before, self.up = widths[-1], nn.ModuleList()
        for level in self.levels:
            after = max(LAST, widths[level] // 2)
            self.up.append(_unit(before + widths[level], after))
            before = after
        self.last = _unit(before, LAST)
        self.head = nn.Conv2d(LAST, 1, 1)
        self.place = nn.Parameter(torch.zeros(settings.priors))
        self.width = nn.Parameter(torch.zeros(int(settings.smoothing)))

    def forward(self, pictures: Tensor, where: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Logits (n, rows, columns), float32, and features (n, channels, rows, columns) of levels.

        These are the three coarsest levels of the encoder, the context that the decoder starts
        from, and the last layer, whose cells are the map's.

        Args:
            pictures: (n, 3, height, width) intensities of 0 to 1.
            where: (n, 2, rows, columns) x, y of each cell of the map as shares of its picture's
                width and height; beyond 0 to 1 a cell lies outside it.
        """
        with computing(pictures.device, self.precision):
            shown = torch.cat([pictures - 0.45, 2 * _local(pictures)], dim=1)
            # With the channels innermost a processor takes a fifth less time.
            features = self.stem(shown.contiguous(memory_format=torch.channels_last))
            skipped = [features]
            for block in self.down:
                features = block(features)
                skipped.append(features)
            coarse = functional.adaptive_avg_pool2d(where, features.shape[-2:])
            features = torch.cat([features, self.priors(coarse).to(features.dtype)], dim=1)
            features = self.context(features)
            seen = [*skipped[-3:], features]
            for block, level in zip(self.up, self.levels, strict=True):
                raised = functional.interpolate(
                    features, size=skipped[level].shape[-2:], mode="bilinear", align_corners=False
                )
                features = block(torch.cat([raised, skipped[level]], dim=1))
            features = self.last(features)
            seen.append(features)
        with torch.autocast(pictures.device.type, enabled=False):
            logits = self.head(features.float())[:, 0]
            logits = logits + torch.einsum("k,nkyx->nyx", self.place, self.priors(where))
            if self.smoothing:
                logits = blurred_maps(logits[:, None], torch.exp(self.width))[:, 0]
            outside = ((where < 0) | (where > 1)).any(dim=1)
            return logits.masked_fill(outside, OUTSIDE), seen


class Priors(nn.Module):
    """Gaussians of a place in its picture, with learned centres and widths."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.centre = nn.Parameter(0.2 + 0.6 * torch.rand(count, 2))
        self.width = nn.Parameter(torch.full((count, 2), -1.2))

    def forward(self, where: Tensor) -> Tensor:
        """(n, count, rows, columns), 1 at a centre, of places (n, 2, rows, columns)."""
        offset = (where[:, None] - self.centre[None, :, :, None, None]) * torch.exp(-self.width)[
            None, :, :, None, None
        ]
        return torch.exp(-0.5 * offset.square().sum(dim=2))


class Residual(nn.Module):
    """Two 3x3 convolutions beside a short way."""

    def __init__(self, before: int, after: int, stride: int = 1) -> None:
        super().__init__()
        self.first = _unit(before, after, stride)
        self.second = nn.Sequential(
            nn.Conv2d(after, after, 3, padding=1, bias=False), nn.BatchNorm2d(after)
        )
        self.short: nn.Module = nn.Identity()
        if stride > 1 or before != after:
            self.short = nn.Sequential(
                nn.AvgPool2d(stride), nn.Conv2d(before, after, 1, bias=False), nn.BatchNorm2d(after)
            )

    def forward(self, features: Tensor) -> Tensor:
        """(n, channels, rows, columns), smaller by the stride."""
        return functional.relu(self.second(self.first(features)) + self.short(features))


def _unit(before: int, after: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(after),
        nn.ReLU(inplace=True),
    )


class Together(nn.Module):
    """Networks of one kind that started differently: the mean of their maps."""

    def __init__(self, members: Sequence[SaliencyNetwork]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    @property
    def first(self) -> nn.Module:
        """The network whose features are theirs."""
        return self.members[0]

    def forward(self, pictures: Tensor, where: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Logits and features as one network gives them; features are the first one's."""
        found = [member(pictures, where) for member in self.members]
        if len(found) == 1:
            only: tuple[Tensor, list[Tensor]] = found[0]
            return only
        logs = torch.stack([torch.log_softmax(logits.flatten(1), dim=1) for logits, _ in found])
        mean = torch.logsumexp(logs, dim=0) - math.log(len(found))
        return mean.view(found[0][0].shape).clamp(min=OUTSIDE), found[0][1]


def _local(pictures: Tensor) -> Tensor:
    """What a picture has beyond the mean of its surroundings, about 40 pixels wide."""
    coarse = functional.avg_pool2d(pictures, 8)
    wide = functional.avg_pool2d(coarse, 5, 1, padding=2, count_include_pad=False)
    return pictures - functional.interpolate(
        wide, size=pictures.shape[-2:], mode="bilinear", align_corners=False
    )


def blurred_maps(maps: Tensor, sigma: Tensor) -> Tensor:
    """Maps (n, 1, rows, columns) blurred by a Gaussian of a learned width, cells."""
    steps = torch.arange(-BLUR_RADIUS, BLUR_RADIUS + 1, device=maps.device, dtype=maps.dtype)
    line = torch.exp(-0.5 * (steps / sigma) ** 2)
    line = line / line.sum()
    padded = functional.pad(maps, [BLUR_RADIUS] * 4, mode="replicate")
    return functional.conv2d(
        functional.conv2d(padded, line.view(1, 1, 1, -1)), line.view(1, 1, -1, 1)
    )


def architecture(settings: TrainSettings, gaze: GazeSettings) -> dict[str, object]:
    """What decides which weights there are, and what they mean."""
    shape = ("channels", "blocks", "members", "priors", "smoothing")
    frame = ("width", "height", "stride")
    return {
        **{key: getattr(settings, key) for key in shape},
        **{key: getattr(gaze, key) for key in frame},
    }


def save_networks(
    path: Path, networks: Mapping[str, nn.Module], description: Mapping[str, object]
) -> None:
    """Write the networks of several folds in one file, with their architecture."""
    together = {"network": {**description, "networks": list(networks)}}
    save_weights(path, nn.ModuleDict(dict(networks)), together)


def load_networks(
    path: Path,
    names: Sequence[str],
    settings: TrainSettings,
    gaze: GazeSettings,
    device: torch.device,
) -> dict[str, Together]:
    """Read the networks of several folds in evaluation mode.

    Raises:
        InputError: the file is missing, damaged, or of other networks.
    """
    found = {
        name: Together([SaliencyNetwork(settings, gaze.stride) for _ in range(settings.members)])
        for name in names
    }
    expected = {**architecture(settings, gaze), "networks": list(names)}
    load_weights(path, nn.ModuleDict(dict(found)), expected)
    return {name: several.to(device).eval() for name, several in found.items()}
