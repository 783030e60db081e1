"""Batches to learn from: pictures in a coarse frame, and regions of interest around places."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from landmarkflow.learning.crops import Frame, Pyramid
from landmarkflow.methods.zoomin.augment import (
    Appearance,
    Opening,
    draw_appearance,
    draw_frame,
    draw_other_field,
)
from landmarkflow.methods.zoomin.settings import RegionSettings, TrainSettings

Array = NDArray[np.float64]

# A miss is made larger or smaller at random, so that rare large ones are met, too.
LEAST_MISS, MOST_MISS = 0.5, 1.5
# How much the landmarks' even share counts beside their misses when one is chosen.
EVEN = 0.5
# Where a landmark is put that is not shown, in widths of the picture: no map reaches so far.
BEYOND = 10


@dataclass(frozen=True, eq=False)
class Shown:
    """A picture to learn from: its pyramid, and its landmarks (k, 2) in pixels, NaN if missing."""

    pyramid: Pyramid
    points: Array

    @property
    def size(self) -> int:
        """Width of the picture, which is a square."""
        return self.pyramid.width

    @property
    def channels(self) -> int:
        """Of the picture."""
        return len(self.pyramid.levels[0])

    @property
    def visible(self) -> NDArray[np.int64]:
        """Which landmarks it shows."""
        with np.errstate(invalid="ignore"):
            return np.flatnonzero((np.abs(self.points) < BEYOND * self.size).all(axis=1))

    def within(self, opening: Opening) -> "Shown":
        """The picture with what an opening does not show beyond it, where nothing looks."""
        hidden = ~opening.holds(self.points) & ~np.isnan(self.points).any(axis=1)
        far = np.full_like(self.points, BEYOND * self.size)
        return replace(self, points=np.where(hidden[:, None], far, self.points))


@dataclass(frozen=True, eq=False)
class Coarsely:
    """Pictures in coarse frames.

    Attributes:
        pictures: (n, c, size, size); of no pictures where only regions are looked at.
        points: (n, k, 2) landmarks, in pixels of the coarse branch's maps; NaN where unknown.
        frames: the n coarse frames.
    """

    pictures: Tensor
    points: Tensor
    frames: tuple[Frame, ...]


@dataclass(frozen=True, eq=False)
class Closely:
    """Regions of interest.

    Attributes:
        regions: (m, widths, c, size, size).
        frames: for each of the m places the grids of its regions' maps.
        picture: (m,) which picture of the batch each is of.
        landmark: (m,) which landmark it is laid for.
        points: (m, widths, k, 2) where all landmarks of its picture lie, in pixels of each map,
            many of them beyond it; NaN where unknown.
    """

    regions: Tensor
    frames: tuple[tuple[Frame, ...], ...]
    picture: tuple[int, ...]
    landmark: tuple[int, ...]
    points: Tensor


def coarse_frame(picture: int, size: int) -> Frame:
    """The frame of the coarse branch over all of a square picture, unchanged."""
    middle = (picture - 1) / 2
    return Frame.upright((middle, middle), picture / size, (size, size))


def region_frames(
    coarse: Frame, centre: Array, picture: int, settings: RegionSettings
) -> tuple[Frame, ...]:
    """The grids of the regions around a place, turned and stretched as the coarse frame is.

    Args:
        coarse: the coarse frame.
        centre: x, y in pixels of the picture.
        picture: width of the picture, pixels.
        settings: widths and size of regions.
    """
    size = (settings.size, settings.size)
    usual = picture / coarse.size[0]
    widths = (share * picture / settings.size for share in settings.fields)
    return tuple(coarse.moved(centre, width / usual, size) for width in widths)


def draw(
    shown: Sequence[Shown],
    random: np.random.Generator,
    settings: TrainSettings,
    misses: Sequence[Array] | None = None,
    *,
    whole: bool = True,
) -> tuple[Coarsely, Closely | None]:
    """Pictures, changed at random, and regions of interest in them.

    Args:
        shown: the pictures of a batch.
        random: stream of this batch.
        settings: sizes, changes, regions.
        misses: for each landmark (n, 2) errors of the coarse branch, shares of the field; None
            for no regions.
        whole: whether the pictures in their coarse frames are made, too, which takes about as long
            as the regions; what is drawn at random does not depend on it.
    """
    pictures, frames, points, regions = [], [], [], []
    placed: list[tuple[Shown, int, int, tuple[Frame, ...]]] = []
    for number, picture in enumerate(shown):
        one, opening, frame, appearance = _changed(picture, random, settings)
        noise_seed = _seed_of(random)
        if whole:
            pictures.append(appearance.shown(one.pyramid, frame, noise_seed))
        frames.append(frame)
        points.append(frame.coarser(settings.coarse.stem).to_grid(one.points))
        if misses is None:
            continue
        for k in _landmarks(one, random, settings.regions, misses):
            centre = _laid(one, k, random, settings.regions, misses[k], opening=opening)
            laid = region_frames(frame, centre, one.size, settings.regions)
            crops = [appearance.shown(one.pyramid, f, _seed_of(random)) for f in laid]
            regions.append(torch.stack(crops))
            placed.append((one, number, k, laid))
    coarsely = Coarsely(
        torch.stack(pictures) if whole else torch.zeros((0, shown[0].channels, 0, 0)),
        torch.from_numpy(np.stack(points)).float(),
        tuple(frames),
    )
    if not placed:
        return coarsely, None
    maps = tuple(tuple(f.coarser(settings.regions.stem) for f in laid) for *_, laid in placed)
    where = [
        [f.to_grid(one.points) for f in row] for (one, *_), row in zip(placed, maps, strict=True)
    ]
    return coarsely, Closely(
        torch.stack(regions),
        maps,
        tuple(number for _, number, _, _ in placed),
        tuple(k for _, _, k, _ in placed),
        torch.from_numpy(np.array(where)).float(),
    )


def _changed(
    picture: Shown, random: np.random.Generator, settings: TrainSettings
) -> tuple[Shown, Opening | None, Frame, Appearance]:
    """A picture as it is shown once: its landmarks, its field, where it lies, how it looks."""
    augment, size = settings.augment, picture.size
    opening = draw_other_field(random, augment, size=size, points=picture.points)
    one = picture if opening is None else picture.within(opening)
    frame = draw_frame(random, augment, picture=size, size=settings.coarse.size, opening=opening)
    near = one.points[one.visible]
    appearance = draw_appearance(
        random, augment, channels=one.channels, size=size, near=near, opening=opening
    )
    return one, opening, frame, appearance


def _seed_of(random: np.random.Generator) -> int:
    return int(random.integers(2**62))


def _landmarks(
    one: Shown, random: np.random.Generator, settings: RegionSettings, misses: Sequence[Array]
) -> list[int]:
    """The landmarks that are zoomed in on: those with larger misses more often."""
    known = one.visible
    usual = [float(np.linalg.norm(own, axis=1).mean()) if len(own) else 0.0 for own in misses]
    weights = np.array(usual)[known] + 1e-6
    weights = weights / weights.sum() + EVEN / max(1, len(known))
    count = min(settings.at_once, len(known))
    chosen = random.choice(known, count, replace=False, p=weights / weights.sum())
    return [int(k) for k in chosen]


def _laid(
    one: Shown,
    landmark: int,
    random: np.random.Generator,
    settings: RegionSettings,
    misses: Array,
    *,
    opening: Opening | None,
) -> Array:
    """The centre of a region: off the landmark by a miss or a little, or anywhere in the field."""
    corner, wide = np.zeros(2), float(one.size)
    if opening is not None:
        corner, wide = np.array([opening.x, opening.y]) - opening.radius, 2 * opening.radius
    if random.random() < settings.elsewhere:
        return np.asarray(corner + random.uniform(0.1, 0.9, 2) * wide)
    off = random.normal(0, settings.offset, 2)
    if len(misses) and random.random() < settings.misses:
        miss = misses[random.integers(len(misses))]
        off = miss * random.choice([-1, 1], 2) * random.uniform(LEAST_MISS, MOST_MISS)
        # A miss beyond the region would leave nothing to find.
        reach = 0.45 * settings.fields[0]
        off = off * min(1.0, reach / max(float(np.linalg.norm(off)), 1e-9))
    return np.asarray(one.points[landmark] + off * wide)
