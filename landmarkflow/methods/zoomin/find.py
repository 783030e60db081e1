"""Find landmarks in a picture: peaks of the coarse maps, each judged by a closer look."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from landmarkflow.learning.crops import Frame, Pyramid, regridded
from landmarkflow.learning.heatmaps import decode, log_probabilities, spread
from landmarkflow.methods.zoomin.augment import plain
from landmarkflow.methods.zoomin.batches import coarse_frame, region_frames
from landmarkflow.methods.zoomin.network import Coarse, Zoom
from landmarkflow.methods.zoomin.settings import TrainSettings, ZoomSettings
from landmarkflow.methods.zoomin.shape import Shape

Array = NDArray[np.float64]
Maps = NDArray[np.float32]

# A peak is what lies within so many standard deviations of its target.
PEAK_IN_SIGMAS = 3.0
# What a place that only the other landmarks tell holds of the coarse map, at least. With more, such
# a place, which fits the others by itself, beats a right one that the coarse map shows.
LEAST_MASS = 0.005
# The probability that a closer look gives a place is taken for at least this: a landmark that lies
# hidden is not seen in its place either, so the others must tell where it is.
LEAST_SEEN = 0.05
# How a picture is turned and enlarged in each look, in deviations of the training's rotation and
# shares of the largest logarithm of its scale. What the noise of a network moves in each look
# averages out.
LOOKS = ((0, 0), (1, 0.5), (-1, -0.5), (0.5, -0.5), (-0.5, 0.5))
# Places nearer to each other than this share of the field are one.
SAME_PLACE = 0.01


@dataclass(frozen=True)
class Pair:
    """The networks of one fold in evaluation mode; without `zoom` only coarse places are found."""

    coarse: Coarse
    zoom: Zoom | None


@dataclass(frozen=True)
class Peak:
    """A hypothesis: x, y in pixels of the picture, and the share of the map that it holds."""

    x: float
    y: float
    mass: float


@dataclass(frozen=True, eq=False)
class Found:
    """What is found in a picture; places and lengths are in pixels of the picture as prepared.

    Attributes:
        positions: (k, 2).
        coarse: (k, 2) of the highest coarse peak.
        spread: (k,) widths of the final heat maps.
        presence: (k,) probability that a landmark is in its region.
        elsewhere: (k,) share of the final map far from its place.
        apart: (k,) largest distance of one network's place from that of all.
        rival: (k,) score of the second hypothesis, of the best.
        hypotheses: (k,) how many were looked at.
        regions: (k, widths, 2, 2) corners, first and last, of the final regions.
    """

    positions: Array
    coarse: Array
    spread: Array
    presence: Array
    elsewhere: Array
    apart: Array
    rival: Array
    hypotheses: NDArray[np.int64]
    regions: Array


@dataclass(frozen=True, eq=False)
class _Seen:
    """Coarse answer of one network for one way round: features and the frame of its maps."""

    features: Tensor
    maps: Frame
    coarse: Frame


class Finder:
    """The search by the networks of some folds.

    Args:
        pairs: the networks.
        train: what they were trained with.
        settings: of the search.
        device: where they are.
        shape: how landmarks lie to each other; without it each hypothesis is judged alone.
    """

    def __init__(
        self,
        pairs: Sequence[Pair],
        train: TrainSettings,
        settings: ZoomSettings,
        device: torch.device,
        shape: Shape | None = None,
    ) -> None:
        self.pairs, self.train, self.settings, self.device = pairs, train, settings, device
        self.shape = shape

    def coarse(self, pyramid: Pyramid) -> tuple[Maps, list[list[_Seen]]]:
        """(landmarks, h, w) coarse probabilities, the mean over networks and ways round.

        Beside it, for each network and way round, what the regions need of it.
        """
        size, stem = self.train.coarse.size, self.train.coarse.stem
        upright = coarse_frame(pyramid.width, size)
        ways = self._ways(upright)
        grids = [frame.coarser(stem) for frame in ways]
        pictures = torch.stack([plain(pyramid, frame) for frame in ways]).to(self.device)
        total: Tensor | None = None
        seen = []
        with torch.inference_mode():
            for pair in self.pairs:
                logits, features = pair.coarse(pictures)
                one = _laid_onto(_probabilities(logits), grids, [grids[0]] * len(ways)).mean(dim=0)
                total = one if total is None else total + one
                seen.append(
                    [
                        _Seen(features[way : way + 1], grid, frame)
                        for way, (grid, frame) in enumerate(zip(grids, ways, strict=True))
                    ]
                )
        assert total is not None
        return (total / len(self.pairs)).cpu().numpy(), seen

    def _ways(self, upright: Frame) -> list[Frame]:
        """The frames that a picture is looked at in, the upright one first."""
        augment = self.train.augment
        ways = []
        for turn, zoom in LOOKS[: self.settings.looks]:
            angle = math.radians(turn * augment.rotation_degrees)
            turned = np.array(
                [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
            )
            scale = math.exp(zoom * math.log1p(augment.scale))
            ways.append(replace(upright, axes=scale * turned @ upright.axes))
        return [*ways, *(frame.mirrored() for frame in ways)] if augment.flip else ways

    def coarse_places(self, pyramid: Pyramid) -> Array:
        """(landmarks, 2) places of the highest coarse peaks, pixels of the picture."""
        maps, _ = self.coarse(pyramid)
        return np.array([(p.x, p.y) for p in (self._peaks(m, pyramid)[0] for m in maps)])

    def find(self, pyramid: Pyramid) -> Found:
        """Search a picture."""
        maps, seen = self.coarse(pyramid)
        peaks = self._told([self._peaks(one, pyramid) for one in maps], maps, pyramid)
        looked = [(k, np.array([p.x, p.y])) for k, row in enumerate(peaks) for p in row]
        answers = self._close(pyramid, looked, seen)
        chosen, rival = self._judged(peaks, answers, size=pyramid.width)
        starts = [(row[n].x, row[n].y) for row, n in zip(peaks, chosen, strict=True)]
        ends = np.cumsum([0, *map(len, peaks)])
        best = [answers[first + n] for first, n in zip(ends[:-1], chosen, strict=True)]
        for _ in range(self.settings.rounds):
            looked = [(k, one.place) for k, one in enumerate(best)]
            best = self._close(pyramid, looked, seen, np.array([one.place for one in best]))
        return Found(
            positions=np.array(
                [one.expected(start) for one, start in zip(best, starts, strict=True)]
            ),
            coarse=np.array([(row[0].x, row[0].y) for row in peaks]),
            spread=np.array([one.spread for one in best]),
            presence=np.array([one.presence for one in best]),
            elsewhere=np.array([one.elsewhere for one in best]),
            apart=np.array([one.apart for one in best]),
            rival=np.array(rival),
            hypotheses=np.array([len(row) for row in peaks]),
            regions=np.array([[_corners(f) for f in one.frames] for one in best]),
        )

    def _told(self, peaks: list[list[Peak]], maps: Maps, pyramid: Pyramid) -> list[list[Peak]]:
        """The peaks, and places that those of the other landmarks tell."""
        if self.shape is None:
            return peaks
        size = pyramid.width
        frame = self._coarse_maps(size)
        reach = PEAK_IN_SIGMAS * self.train.coarse.sigma_pixels
        first = np.array([(row[0].x, row[0].y) for row in peaks]) / size
        y, x = np.indices(maps.shape[1:])
        more = [list(row) for row in peaks]
        for places in self.shape.predicted(first):
            for k, place in enumerate(places * size):
                if not (np.isfinite(place) & (place > 0) & (place < size - 1)).all():
                    continue
                near = [np.hypot(one.x - place[0], one.y - place[1]) for one in more[k]]
                if min(near) < reach * frame.scale:
                    continue
                at = frame.to_grid(place)
                inside = (x - at[0]) ** 2 + (y - at[1]) ** 2 <= reach**2
                mass = max(float(maps[k][inside].sum()), LEAST_MASS)
                more[k].append(Peak(float(place[0]), float(place[1]), mass))
        return more

    def _judged(
        self, peaks: Sequence[Sequence[Peak]], answers: Sequence["_Answer"], *, size: int
    ) -> tuple[list[int], list[float]]:
        """The likeliest hypothesis of each landmark, and the best other one's score, of its."""
        starts = np.cumsum([0, *map(len, peaks)])
        by_landmark = [list(answers[a:b]) for a, b in itertools.pairwise(starts)]
        scores = [
            np.array([max(a.presence, LEAST_SEEN) * p.mass for a, p in zip(own, row, strict=True)])
            for own, row in zip(by_landmark, peaks, strict=True)
        ]
        chosen = [int(np.argmax(one)) for one in scores]
        if self.shape is not None:
            places = [
                np.array([a.expected((p.x, p.y)) / size for a, p in zip(own, row, strict=True)])
                for own, row in zip(by_landmark, peaks, strict=True)
            ]
            chosen = self.shape.chosen(places, scores)
        rival = []
        for one, number, own in zip(scores, chosen, by_landmark, strict=True):
            # Hypotheses whose closer looks end at one place are one.
            away = [np.linalg.norm(answer.place - own[number].place) / size for answer in own]
            others = [s for s, far in zip(one, away, strict=True) if far > SAME_PLACE]
            rival.append(float(max(others, default=0.0) / max(one[number], 1e-9)))
        return chosen, rival

    def _coarse_maps(self, size: int) -> Frame:
        """The grid of the coarse maps over a picture of a width."""
        return coarse_frame(size, self.train.coarse.size).coarser(self.train.coarse.stem)

    def _peaks(self, heat: Maps, pyramid: Pyramid) -> list[Peak]:
        """Peaks of a coarse map, the one that holds most first."""
        maps, sigma = self._coarse_maps(pyramid.width), self.train.coarse.sigma_pixels
        reach = PEAK_IN_SIGMAS * sigma
        top = ndimage.maximum_filter(heat, size=2 * int(reach) + 1) == heat
        rows = np.argwhere(top)
        heights = heat[top]
        found: list[Peak] = []
        taken = np.zeros(heat.shape, bool)
        y, x = np.indices(heat.shape)
        for row in rows[np.argsort(heights, kind="stable")[::-1][: 2 * self.settings.hypotheses]]:
            near = (y - row[0]) ** 2 + (x - row[1]) ** 2 <= reach**2
            mass = float(heat[near & ~taken].sum())
            if found and mass < self.settings.least_peak:
                continue
            taken |= near
            part = np.where(near, heat, 0)
            place = maps.to_picture(decode(part, "mean", sigma))
            found.append(Peak(float(place[0]), float(place[1]), mass))
        return sorted(found, key=lambda peak: -peak.mass)[: self.settings.hypotheses]

    def _close(
        self,
        pyramid: Pyramid,
        looked: Sequence[tuple[int, Array]],
        seen: Sequence[Sequence[_Seen]],
        known: Array | None = None,
    ) -> list["_Answer"]:
        """A closer look at places, each for one landmark, with where all of them (k, 2) were."""
        size, settings = pyramid.width, self.train.regions
        by_network: list[list[Tensor]] = [[] for _ in self.pairs]
        upright: list[tuple[Frame, ...]] = []
        chosen = torch.tensor([k for k, _ in looked])
        for way in range(len(seen[0])):
            coarse = seen[0][way].coarse
            laid = [region_frames(coarse, centre, size, settings) for _, centre in looked]
            regions = torch.stack(
                [torch.stack([plain(pyramid, frame) for frame in row]) for row in laid]
            ).to(self.device)
            maps = [tuple(f.coarser(settings.stem) for f in row) for row in laid]
            if not way:
                upright = laid
            for number, pair in enumerate(self.pairs):
                assert pair.zoom is not None
                one = seen[number][way]
                with torch.inference_mode():
                    features = one.features.expand(len(looked), -1, -1, -1)
                    logits, _ = pair.zoom(regions, maps, features, [one.maps] * len(looked))
                    heat = _probabilities(logits[torch.arange(len(looked)), chosen])
                    if way:
                        onto = [frames[0].coarser(settings.stem) for frames in upright]
                        heat = _laid_onto(heat[:, None], [row[0] for row in maps], onto)[:, 0]
                by_network[number].append(heat.cpu())
        each = [torch.stack(ways).mean(dim=0).numpy() for ways in by_network]
        mean = np.stack(each).mean(axis=0, dtype=np.float64).astype(np.float32)
        found = []
        for number, frames in enumerate(upright):
            maps_frame = frames[0].coarser(settings.stem)
            others = [one[number] for one in each]
            likely = np.ones((1, 1))
            if self.shape is not None and known is not None:
                landmark, places = looked[number][0], maps_frame.places.numpy()
                likely = np.exp(self.shape.likely(known / size, landmark, places / size))
            found.append(self._read(mean[number], others, likely, frames))
        return found

    def _read(
        self, heat: Maps, each: Sequence[Maps], likely: Array, frames: tuple[Frame, ...]
    ) -> "_Answer":
        """What a map tells, whose peak is the one likeliest with the other landmarks' places."""
        how, sigma = self.settings.decoding, self.train.regions.sigma_pixels
        maps = frames[0].coarser(self.train.regions.stem)
        place = decode(_of_one_peak(heat, likely, PEAK_IN_SIGMAS * sigma), how, sigma)
        wide, elsewhere = spread(heat, place, PEAK_IN_SIGMAS * 1.5 * sigma)
        apart = 0.0
        if len(each) > 1:
            places = np.array([decode(one, how, sigma) for one in each])
            apart = float(np.linalg.norm(places - place, axis=1).max())
        return _Answer(
            maps.to_picture(place),
            # Laid from one grid onto another a sum may exceed 1 by rounding.
            min(1.0, float(heat.sum(dtype=np.float64))),
            wide * maps.scale,
            elsewhere,
            apart * maps.scale,
            frames,
        )


@dataclass(frozen=True, eq=False)
class _Answer:
    """What a closer look tells of one landmark, in pixels of the picture."""

    place: Array
    presence: float
    spread: float
    elsewhere: float
    apart: float
    frames: tuple[Frame, ...]

    def expected(self, start: Sequence[float]) -> Array:
        """(2,) the mean of the place and of where the search started.

        The latter counts by the probability that the landmark is not in the region: what is hidden
        lies rather where the whole picture and the other landmarks tell than at a chance maximum.
        """
        return np.asarray(self.presence * self.place + (1 - self.presence) * np.array(start))


def _probabilities(logits: Tensor) -> Tensor:
    """Heat maps (..., h, w) whose sum is the probability that the landmark is there."""
    inside, _ = log_probabilities(logits, 2)
    return inside.exp().view(logits.shape)


def _of_one_peak(heat: Maps, likely: Array, reach: float) -> Maps:
    """A map without all that is farther than a reach from its likeliest pixel.

    It stays as it is where its highest pixel is the likeliest, which no prior then moves.
    """
    top = np.array(np.unravel_index(int(np.argmax(heat * likely)), heat.shape))
    if heat[tuple(top)] == heat.max():
        return heat
    y, x = np.indices(heat.shape)
    near = (y - top[0]) ** 2 + (x - top[1]) ** 2 <= reach**2
    return np.where(near, heat, 0).astype(np.float32)


def _laid_onto(maps: Tensor, grids: Sequence[Frame], onto: Sequence[Frame]) -> Tensor:
    """Probabilities (n, c, h, w) on some grids as they are on others over the same picture.

    A wider pixel holds more, so that sums stay what they were.
    """
    wider = [(to.scale / grid.scale) ** 2 for grid, to in zip(grids, onto, strict=True)]
    factors = torch.tensor(wider, dtype=maps.dtype, device=maps.device)
    return regridded(maps, grids, onto) * factors[:, None, None, None]


def _corners(frame: Frame) -> Array:
    """(2, 2) the outer corners of a grid, first and last, in pixels of the picture."""
    ends = np.array([[-0.5, -0.5], np.array(frame.size) - 0.5])
    corners = frame.to_picture(ends)
    return np.array([corners.min(axis=0), corners.max(axis=0)])
