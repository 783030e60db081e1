"""The networks: a coarse branch, a branch for regions of interest, co-attention and fusion."""

from collections.abc import Sequence
from itertools import combinations, pairwise

import torch
from torch import Tensor, nn

from landmarkflow.learning.crops import Frame, regridded
from landmarkflow.learning.precision import Precision, computing
from landmarkflow.methods.zoomin.settings import BranchSettings, PartSettings, TrainSettings

# Channels that are normalised together; a branch's widths are multiples of it.
GROUP = 8


class Branch(nn.Module):
    """A U-Net: pictures (n, c, size, size), 0 to 1, to features (n, width, map, map).

    Args:
        channels: of the pictures.
        settings: size, stem, widths.
    """

    def __init__(self, channels: int, settings: BranchSettings) -> None:
        super().__init__()
        widths = settings.widths
        self.stem = settings.stem
        first = [channels * settings.stem**2, *widths]
        self.down = nn.ModuleList(_convolutions(before, after) for before, after in pairwise(first))
        self.up = nn.ModuleList(
            _convolutions(widths[level + 1] + widths[level], widths[level])
            for level in reversed(range(len(widths) - 1))
        )

    def encoded(self, pictures: Tensor) -> list[Tensor]:
        """Features at every level, the finest first."""
        # A square of pixels becomes channels of one: a map need not be as fine as its picture.
        features = nn.functional.pixel_unshuffle(pictures - 0.4, self.stem)
        features = features.contiguous(memory_format=torch.channels_last)
        levels: list[Tensor] = []
        for number, block in enumerate(self.down):
            if number:
                features = nn.functional.max_pool2d(features, 2)
            features = block(features)
            levels.append(features)
        return levels

    def decoded(self, levels: Sequence[Tensor]) -> Tensor:
        """Features at the finest level, of those of all levels."""
        features = levels[-1]
        for block, skip in zip(self.up, levels[-2::-1], strict=True):
            raised = nn.functional.interpolate(
                features, scale_factor=2.0, mode="bilinear", align_corners=False
            )
            features = block(torch.cat([raised, skip], dim=1))
        return features


class Coarse(nn.Module):
    """The coarse branch with a head of one heat map a landmark."""

    def __init__(
        self, channels: int, landmarks: int, settings: BranchSettings, precision: Precision
    ) -> None:
        super().__init__()
        self.precision: Precision = precision
        self.branch = Branch(channels, settings)
        self.head = _head(settings.widths[0], landmarks, settings.map_size)

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (n, landmarks, map, map) and features (n, width, map, map)."""
        with computing(pictures.device, self.precision):
            features = self.branch.decoded(self.branch.encoded(pictures))
        with torch.autocast(pictures.device.type, enabled=False):
            return self.head(features.float()), features


class CoAttention(nn.Module):
    """Features of several regions of interest, each with what the others show that is like it.

    For features E and Q of two regions, as tokens (t, c): the affinity is A = E W Qᵀ; E takes
    softmax(A) Q, and Q takes softmax(Aᵀ) E, each through a gate sigmoid(w · Z).
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.affinity = nn.Linear(width, width, bias=False)
        self.gate = nn.Conv2d(width, 1, 1)
        self.join = _convolution(2 * width, width)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """The features (n, c, h, w) of each region, changed."""
        tokens = [one.flatten(2).transpose(1, 2) for one in features]
        taken = [torch.zeros_like(one) for one in features]
        share = 1 / max(1, len(features) - 1)
        for one, other in combinations(range(len(features)), 2):
            scale = tokens[one].shape[-1] ** -0.5
            affinity = scale * self.affinity(tokens[one]) @ tokens[other].transpose(1, 2)
            for place, seen, weights in (
                (one, tokens[other], affinity.softmax(dim=2)),
                (other, tokens[one], affinity.transpose(1, 2).softmax(dim=2)),
            ):
                like = (weights @ seen).transpose(1, 2).reshape(features[place].shape)
                taken[place] = taken[place] + share * like * torch.sigmoid(self.gate(like))
        return [
            one + self.join(torch.cat([one, more], dim=1))
            for one, more in zip(features, taken, strict=True)
        ]


class Attention(nn.Module):
    """Attention of all pixels with all others, by way of a few learned tokens ("attractors")."""

    def __init__(self, width: int, attractors: int) -> None:
        super().__init__()
        self.attractors = nn.Parameter(torch.randn(attractors, width) * width**-0.5)
        self.key, self.value = nn.Linear(width, width), nn.Linear(width, width)
        self.query, self.out = nn.Linear(width, width), nn.Linear(width, width)
        self.scale = width**-0.5

    def forward(self, features: Tensor) -> Tensor:
        """(n, c, h, w), with what was attended to added."""
        tokens = features.flatten(2).transpose(1, 2)
        keys, asked = self.key(tokens), self.query(tokens)
        gathered = (self.scale * self.attractors @ keys.transpose(1, 2)).softmax(dim=2)
        held = gathered @ self.value(tokens)
        weights = (self.scale * asked @ self.attractors.t()).softmax(dim=2)
        more = self.out(weights @ held)
        changed: Tensor = features + more.transpose(1, 2).reshape(features.shape)
        return changed


class Zoom(nn.Module):
    """Regions of interest around a place at several widths, to the heat map of the narrowest.

    Args:
        channels: of the pictures.
        landmarks: how many there are.
        coarse_width: channels of the coarse branch's features; they count in the fusion.
        train: branch, regions, parts.
    """

    def __init__(
        self, channels: int, landmarks: int, coarse_width: int, train: TrainSettings
    ) -> None:
        super().__init__()
        settings, parts = train.regions, train.parts
        self.precision: Precision = train.precision
        self.parts: PartSettings = parts
        count, width = len(settings.fields), settings.widths[0]
        branches = count if parts.own_branches else 1
        self.branches = nn.ModuleList(Branch(channels, settings) for _ in range(branches))
        self.level = min(parts.attention_level, len(settings.widths) - 1)
        self.attention = None
        if parts.co_attention and count > 1:
            self.attention = CoAttention(settings.widths[self.level])
        self.fuse = self.fused = None
        if parts.fusion:
            seen = count * width + (coarse_width if parts.coarse_features else 0)
            self.fuse = nn.Sequential(
                nn.Conv2d(seen, width, 1, bias=False),
                nn.GroupNorm(width // GROUP, width),
                Attention(width, parts.attractors) if parts.self_attention else nn.Identity(),
                _convolution(width, width),
                _convolution(width, width),
            )
            self.fused = _head(width, landmarks, settings.map_size)
        self.head = _head(width, landmarks, settings.map_size)

    def forward(
        self,
        regions: Tensor,
        frames: Sequence[Sequence[Frame]],
        coarse: Tensor,
        coarse_frames: Sequence[Frame],
    ) -> tuple[Tensor, list[Tensor]]:
        """The heat maps of all landmarks around each place.

        Args:
            regions: (n, widths, c, size, size), the narrowest first.
            frames: for each of the n places the grids of the maps of its regions.
            coarse: (n, c, h, w) features of the coarse branch.
            coarse_frames: n grids that these lie on.

        Returns:
            Logits (n, landmarks, map, map) on the grid of the narrowest region, and those of each
            region alone, on its own grid.
        """
        count = regions.shape[1]
        narrow = [row[0] for row in frames]
        with computing(regions.device, self.precision):
            features = self._features([regions[:, number] for number in range(count)])
            joined = None
            if self.fuse is not None:
                parts = [features[0]]
                for number in range(1, count):
                    wide = [row[number] for row in frames]
                    parts.append(regridded(features[number].float(), wide, narrow))
                if self.parts.coarse_features:
                    parts.append(regridded(coarse.float(), coarse_frames, narrow))
                joined = self.fuse(torch.cat([part.to(features[0].dtype) for part in parts], dim=1))
        with torch.autocast(regions.device.type, enabled=False):
            alone = [self.head(one.float()) for one in features]
            if self.fused is None or joined is None:
                return alone[0], alone
            return self.fused(joined.float()), alone

    def _features(self, regions: Sequence[Tensor]) -> list[Tensor]:
        """(n, width, map, map) of each width of region."""
        branches = [branch for branch in self.branches if isinstance(branch, Branch)]
        count, n = len(regions), len(regions[0])
        if len(branches) == 1:
            together = branches[0].encoded(torch.cat(list(regions)))
            encoded = [[level[i * n : (i + 1) * n] for level in together] for i in range(count)]
        else:
            pairs = zip(branches, regions, strict=True)
            encoded = [branch.encoded(region) for branch, region in pairs]
        if self.attention is not None:
            changed = self.attention([levels[self.level] for levels in encoded])
            for levels, one in zip(encoded, changed, strict=True):
                levels[self.level] = one
        if len(branches) == 1:
            joined = [torch.cat(level) for level in zip(*encoded, strict=True)]
            decoded = branches[0].decoded(joined)
            return [decoded[i * n : (i + 1) * n] for i in range(count)]
        return [b.decoded(levels) for b, levels in zip(branches, encoded, strict=True)]


def _convolutions(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(_convolution(before, after), _convolution(after, after))


def _convolution(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, 3, padding=1, bias=False),
        nn.GroupNorm(max(1, after // GROUP), after),
        nn.ReLU(inplace=True),
    )


def _head(width: int, landmarks: int, map_size: int) -> nn.Conv2d:
    """At first a landmark is as likely here as not, and anywhere alike."""
    head = nn.Conv2d(width, landmarks, 1)
    assert head.bias is not None
    nn.init.constant_(head.bias, -2 * float(torch.log(torch.tensor(float(map_size)))))
    return head
