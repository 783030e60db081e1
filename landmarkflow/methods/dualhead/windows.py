"""Windows to learn from: a random part of a random scan, under random pose and intensities."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from landmarkflow.learning.augment import (
    Pose,
    random_intensities,
    random_pose,
    sample,
)
from landmarkflow.methods.dualhead.examples import Crop, Example
from landmarkflow.methods.dualhead.settings import CLOSE, PassSettings, TrainSettings
from landmarkflow.methods.dualhead.turns import turn_of

Array = NDArray[np.float64]

# Width of the seam between a target with its margin and another scan's background, mm.
MARGIN_MM, SEAM_MM = 1.5, 1.0


@dataclass(frozen=True, eq=False)
class Window:
    """What a network sees in one step, and what it is to answer.

    Attributes:
        image: (1, n, n, n) intensities.
        labels: (n, n, n) int64, 0 for background.
        points: (k, 3) voxel indices x, y, z in the window or outside of it; NaN where unknown.
        weights: (k,) of the landmarks.
        segmented: whether the labels count.
    """

    image: Tensor
    labels: Tensor
    points: Tensor
    weights: Tensor
    segmented: bool


class Windows:
    """Draws windows of one pass from the crops of some scans.

    Args:
        examples: the scans.
        name: of the pass.
        settings: of the training.
        classes: labels and background; with two, all labels are one.
        template: (k, 3) LPS mm, the template's landmarks.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        name: str,
        settings: TrainSettings,
        classes: int,
        template: Array,
    ) -> None:
        self.examples = examples
        self.template = template
        self.name = name
        self.settings = settings
        self.of_pass: PassSettings = settings.passes[name]
        self.classes = max(classes, 1)
        self.spacing = float(self._crop(examples[0]).spacing)
        self.half_mm = (self.of_pass.window - 1) / 2 * self.spacing
        # A bend's control points lie closer in the small window: it bends as much a millimetre.
        share = self.of_pass.window / settings.fine.window if name == CLOSE else 1.0
        self.bend_mm = share * settings.bend_mm

    def _crop(self, example: Example) -> Crop:
        return example.coarse if self.name == "coarse" else example.fine

    def draw(self, number: int, random: np.random.Generator) -> Window:
        """A random window of the scan of this number."""
        example, settings = self.examples[number], self.settings
        pose = random_pose(
            self._centre(example, random),
            self.half_mm,
            random,
            rotation_degrees=settings.rotation_of(self.name),
            scale=settings.scale,
            stretch=settings.stretch,
            bend_mm=self.bend_mm,
        )
        pose = replace(pose, linear=self._rotation(example) @ pose.linear)
        image, labels = self._cut(example, pose)
        backed = self.name != CLOSE and len(self.examples) > 1
        if backed and random.random() < settings.other_background:
            other = int(random.integers(len(self.examples) - 1))
            other += other >= number
            image, labels = self._before_another(image, labels, self.examples[other], pose, example)
        image = random_intensities(
            image,
            random,
            contrast=settings.contrast,
            brightness=settings.brightness,
            gamma=settings.gamma,
            blur_voxels=settings.blur_mm / self.spacing,
            noise=settings.noise,
        )
        window = self._window(example, pose, image, labels)
        return self._cut_off(window, random) if random.random() < settings.cut else window

    def plain(self, example: Example, centre: Array) -> Window:
        """The window around a place in a scan, (3,) LPS mm, with no random change."""
        pose = Pose(centre, self._rotation(example), None, self.half_mm)
        return self._window(example, pose, *self._cut(example, pose))

    def _rotation(self, example: Example) -> Array:
        """(3, 3) that a window has before any random one."""
        if not self.settings.is_turned(self.name):
            return np.eye(3)
        turn = turn_of(example.positions, self.template, np.ones(len(example.positions)))
        return np.eye(3) if turn is None else turn.rotation

    def _window(self, example: Example, pose: Pose, image: Tensor, labels: Tensor) -> Window:
        points = pose.to_window(example.positions, self.of_pass.window)
        return Window(
            image,
            labels,
            torch.from_numpy(points.astype(np.float32)),
            torch.from_numpy(example.weights.astype(np.float32)),
            example.segmented,
        )

    def _centre(self, example: Example, random: np.random.Generator) -> Array:
        if random.random() < self.of_pass.elsewhere:
            grid = self._crop(example).grid
            inside = random.uniform(0, np.array(grid.size) - 1.0)
            return np.asarray(grid.to_physical(inside[None])[0])
        shift = random.uniform(-self.of_pass.shift_mm, self.of_pass.shift_mm, 3)
        middle = example.centre
        if self.name == CLOSE and len(known := example.known):
            middle = example.positions[known[int(random.integers(len(known)))]]
        return np.asarray(middle + shift)

    def _cut(self, example: Example, pose: Pose) -> tuple[Tensor, Tensor]:
        """Intensities (1, n, n, n) and labels (n, n, n); beyond the crop it is reflected."""
        crop = self._crop(example)
        index = pose.index_of(self.of_pass.window, crop.origin, crop.spacing)
        image = sample(torch.from_numpy(crop.image.astype(np.float32))[None], index)
        if self.classes == 1 or not example.segmented:
            return image, torch.zeros(image.shape[1:], dtype=torch.int64)
        whole = torch.from_numpy(crop.labels.astype(np.int64))
        single = self.classes == 2
        members = [whole > 0] if single else [whole == k for k in range(1, self.classes)]
        one_hot = torch.stack([member.float() for member in members])
        shares = sample(one_hot, index, "zeros")
        background = 1 - shares.sum(dim=0, keepdim=True)
        return image, torch.cat([background, shares]).argmax(dim=0)

    def _before_another(
        self, image: Tensor, labels: Tensor, other: Example, pose: Pose, example: Example
    ) -> tuple[Tensor, Tensor]:
        """The target with its margin, and another scan's background around it.

        The other scan lies with its own target in the place of this one, so that what is left of
        that beyond the margin is marked, too, and no target goes unmarked.
        """
        there = replace(pose, centre=pose.centre + other.centre - example.centre)
        behind, marked = self._cut(other, there)
        if not bool((labels > 0).any()):
            return image, labels
        reach = max(1, round(MARGIN_MM / self.spacing))
        seam = max(1, round(SEAM_MM / self.spacing))
        near = (labels > 0).float()[None, None]
        for _ in range(reach):
            near = nn.functional.max_pool3d(near, 3, 1, 1)
        kept = nn.functional.avg_pool3d(near, 2 * seam + 1, 1, seam, count_include_pad=False)[0]
        inside = kept[0] >= 0.5
        return kept * image + (1 - kept) * behind, torch.where(inside, labels, marked)

    def _cut_off(self, window: Window, random: np.random.Generator) -> Window:
        """Nothing beyond a random plane, as at a scan's border; landmarks there do not count."""
        axis, count = int(random.integers(3)), self.of_pass.window
        kept = torch.ones(count, dtype=torch.bool)
        kept[: int(random.integers(1, max(2, count // 3)))] = False
        if random.random() < 0.5:
            kept = kept.flip(0)
        shape = [1, 1, 1]
        shape[2 - axis] = count
        mask = kept.view(shape)
        place = torch.nan_to_num(window.points[:, axis], nan=-1.0).round().long()
        shown = kept[place.clamp(0, count - 1)]
        return replace(
            window,
            image=window.image * mask,
            labels=window.labels * mask,
            weights=window.weights * shown,
        )
