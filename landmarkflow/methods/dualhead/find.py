"""Find the target in a scan: a coarse pass over all of it, finer ones around what that found."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import nn

from landmarkflow.core.errors import ScanFailure
from landmarkflow.core.grids import Grid, bounds
from landmarkflow.learning.heatmaps import decode, spread
from landmarkflow.methods.dualhead.examples import Statistics
from landmarkflow.methods.dualhead.seen import AT_ONCE, Answer, Seer, blocks, seer_of
from landmarkflow.methods.dualhead.settings import CLOSE, TURNED, PredictSettings, TrainSettings
from landmarkflow.methods.dualhead.turns import Turn, turn_of
from landmarkflow.methods.dualhead.views import Maps, View, covering

Array = NDArray[np.float64]

# A heat map is taken to be of one peak within so many standard deviations of its target.
PEAK_IN_SIGMAS = 4.0
# How often the fine window is laid, anew where what it shows reaches its border.
ROUNDS = 4
# How often the scan is turned as the landmarks found so far say, and seen anew.
TURNS = 2
# Voxels at the border of the fine window that its answer is to leave free.
FREE_VOXELS = 2
# A piece counts down to this share of the smallest one that is annotated.
SMALLER = 0.5
# The fine window is at most so many times as wide as the largest annotated target: memory.
MOST_IN_TARGETS = 1.5


@dataclass(frozen=True)
class Candidate:
    """A place that may hold the target: its centre (LPS mm), and its evidence, 0 to 1."""

    centre: tuple[float, float, float]
    evidence: float
    low: tuple[float, float, float]
    high: tuple[float, float, float]
    points: tuple[tuple[float, float, float], ...] = ()


@dataclass(frozen=True, eq=False)
class Found:
    """What all passes find in a scan, all in LPS mm of the scan as it was seen.

    Attributes:
        positions: (k, 3).
        coarse: (k, 3) of the coarse pass.
        fine: (k, 3) of the fine pass, before the turned and the close one.
        spread_mm: (k,) widths of the heat maps.
        presence: (k,) probability of each landmark.
        elsewhere: (k,) share of each map far from its place.
        apart_mm: (k,) largest distance of one network's place from that of all.
        answer: of the fine or the turned pass, in the window around all of the target.
        candidates: of the coarse pass, the one that was taken first.
        second_piece: largest second piece, of the first, of a label that should be in one.
        volume_mm3: of the segmentation that is kept.
        touches: whether the segmentation reaches the fine window's border.
    """

    positions: Array
    coarse: Array
    fine: Array
    spread_mm: Array
    presence: Array
    elsewhere: Array
    apart_mm: Array
    answer: Answer
    candidates: tuple[Candidate, ...]
    second_piece: float = 0.0
    volume_mm3: float = 0.0
    touches: bool = False
    kept: NDArray[np.bool_] = field(default_factory=lambda: np.zeros((0, 0, 0), bool))

    @property
    def evidence(self) -> float:
        """Of the place that was taken."""
        return self.candidates[0].evidence

    def in_scan(self, turn: Turn) -> "Found":
        """The same in the frame of the scan, of what was found in a turned one."""
        grid = turn.grid_in_scan(self.answer.grid)
        return replace(
            self,
            positions=turn.to_scan(self.positions),
            fine=turn.to_scan(self.fine),
            answer=replace(self.answer, grid=grid),
        )


@dataclass(frozen=True)
class Finder:
    """All that a scan is searched with.

    Attributes:
        coarse: networks of the coarse pass.
        fine: networks of the fine pass.
        spacings: of the coarse and of the fine pass, mm.
        statistics: of the annotated targets.
        settings: of the search.
        template: (k, 3) LPS mm, the template's landmarks.
        turned: networks of the turned pass, where there is one.
        close: networks of the close pass, where there is one.
    """

    coarse: Seer
    fine: Seer
    spacings: tuple[float, float]
    statistics: Statistics
    settings: PredictSettings
    template: Array
    turned: Seer | None = None
    close: Seer | None = None

    def find(self, search: View, detail: View | None = None) -> Found:
        """Search a scan.

        Args:
            search: the scan for the coarse pass.
            detail: the scan for the fine pass, where that is another image.

        Raises:
            ScanFailure: there is no evidence of the target anywhere.
        """
        candidates = self._candidates(search)
        if not candidates or candidates[0].evidence < self.settings.least_evidence:
            best = candidates[0].evidence if candidates else 0.0
            raise ScanFailure(
                f"the networks see no target: the evidence is {best:.2f} at the best place, "
                f"expected at least {self.settings.least_evidence:g} of 1"
            )
        view, box = detail or search, (np.array(candidates[0].low), np.array(candidates[0].high))
        if self.turned is not None:
            before = self._look(view, box, candidates, self.fine)
            found = self._turned(view, before, self.turned)
            if found is not None:
                return replace(found, fine=before.positions)
        return self._look(view, box, candidates, self.fine, self.close)

    def _candidates(self, view: View) -> tuple[Candidate, ...]:
        """Places that may hold the target, the likeliest first, apart from each other."""
        spacing, window = self.spacings[0], self.coarse.settings.window
        corners = view.grid.corners
        low, high = corners.min(axis=0), corners.max(axis=0)
        side = max(self.settings.block_voxels, window)
        found: list[Candidate] = []
        for grid in blocks(low, high, spacing, side, window):
            answer = self.coarse.answer(view.on(grid), grid)
            found += _places(answer, self.statistics.radius_mm)
        found.sort(key=lambda candidate: -candidate.evidence)
        kept: list[Candidate] = []
        for one in found:
            away = [np.linalg.norm(np.subtract(one.centre, other.centre)) for other in kept]
            if all(distance > self.statistics.radius_mm for distance in away):
                kept.append(one)
        return tuple(kept)

    def _turned(self, view: View, found: Found, seer: Seer) -> Found | None:
        """What is found in the scan once it is turned so that its target lies as the template's.

        None where too few landmarks are there to tell how it lies.
        """
        turned = None
        for _ in range(TURNS):
            sure = found.presence > self.settings.least_presence
            weights = np.where(sure, 1 / np.maximum(found.spread_mm, self.spacings[1]) ** 2, 0)
            turn = turn_of(found.positions, self.template, weights)
            if turn is None:
                break
            inside = np.argwhere(found.kept)[:, ::-1].astype(np.float64)
            target = [found.positions[sure], found.answer.grid.to_physical(inside)]
            box = bounds(turn.from_scan(np.concatenate(target)))
            look = self._look(replace(view, turn=turn), box, found.candidates, seer, self.close)
            found = turned = look.in_scan(turn)
        return turned

    def _look(
        self,
        view: View,
        box: tuple[Array, Array],
        candidates: tuple[Candidate, ...],
        seer: Seer,
        close: Seer | None = None,
    ) -> Found:
        """What the networks of a pass find in a window around a box, and the close ones in that."""
        spacing = self.spacings[1]
        step = 2 ** (self.fine.settings.levels - 1)
        # The first look is one window: what the coarse pass marked may lie anywhere around.
        widest = AT_ONCE * self.fine.settings.window // step * step * spacing
        widest -= 2 * self.settings.margin_mm
        low, high = box
        for number in range(ROUNDS):
            grid = self._window(low, high, widest, spacing, step)
            answer = seer.answer(view.on(grid), grid)
            ends = _box(answer, self._places_in(answer), self.statistics.pieces)
            if ends is None or number == ROUNDS - 1:
                break
            inner = np.array(grid.size) - 1 - FREE_VOXELS
            if (ends[0] >= FREE_VOXELS).all() and (ends[1] <= inner).all():
                break
            low, high = grid.to_physical(np.array(ends, dtype=np.float64))
            widest = 2 * MOST_IN_TARGETS * self.statistics.radius_mm
        near = self._closer(view, answer, seer)
        return self._judged(answer, near, self._closest(view, near, close), candidates)

    def _closer(self, view: View, answer: Answer, seer: Seer) -> Answer:
        """What the networks say of the landmarks in a window of the size they learned from.

        A network's statistics are those of its window: in a wider one its places move by a
        fraction of a voxel. Where the landmarks do not fit into one window, they stay.
        """
        sure = answer.presence > self.settings.least_presence
        places = self._places_in(answer)[sure]
        if not len(places):
            return answer
        low, high = places.min(axis=0), places.max(axis=0)
        count = self.fine.settings.window
        if (high - low + 2 * PEAK_IN_SIGMAS * self.fine.settings.sigma_voxels > count).any():
            return answer
        middle = answer.grid.to_physical((low + high)[None] / 2)[0]
        grid = Grid.centred(middle, (count, count, count), self.spacings[1])
        return seer.answer(view.on(grid), grid)

    def _closest(self, view: View, near: Answer, close: Seer | None) -> list[Answer]:
        """For each landmark the answer that it is read off: that around it alone, if there is one.

        Where a landmark is not surely there, or the close networks do not see it, the fine answer
        counts.
        """
        least, answers = self.settings.least_presence, []
        for row, place in enumerate(near.grid.to_physical(self._places_in(near))):
            answers.append(near)
            if close is not None and near.presence[row] > least:
                count = close.settings.window
                grid = Grid.centred(place, (count, count, count), self.spacings[1])
                seen = close.answer(view.on(grid), grid)
                answers[row] = seen if seen.presence[row] > least else near
        return answers

    def _window(self, low: Array, high: Array, widest: float, spacing: float, step: int) -> Grid:
        """The fine window around a box, LPS mm: with its margin, and neither small nor too wide."""
        middle, margin = (low + high) / 2, self.settings.margin_mm
        least = self.fine.settings.window * spacing / 2
        half = np.minimum(np.maximum((high - low) / 2 + margin, least), widest / 2 + margin)
        return covering(middle - half, middle + half, spacing, step)

    def _places_in(self, answer: Answer) -> Array:
        """(k, 3) voxel indices x, y, z of all landmarks."""
        sigma = self.fine.settings.sigma_voxels
        places = [decode(heat, self.settings.decoding, sigma) for heat in answer.heat]
        return np.array(places).reshape(-1, 3)

    def _judged(
        self,
        answer: Answer,
        near: Answer,
        closest: Sequence[Answer],
        candidates: tuple[Candidate, ...],
    ) -> Found:
        """Sum up the answers in the whole window, around the landmarks, and around each alone."""
        sigma, spacing = self.fine.settings.sigma_voxels, self.spacings[1]
        positions, widths, apart = [], [], []
        for row, seen in enumerate(closest):
            place = decode(seen.heat[row], self.settings.decoding, sigma)
            positions.append(seen.grid.to_physical(place[None])[0])
            widths.append(spread(seen.heat[row], place, PEAK_IN_SIGMAS * sigma))
            single = seen.single if len(seen.single) > 1 else ()
            own = [decode(heats[row], self.settings.decoding, sigma) for heats in single]
            apart.append(max((float(np.linalg.norm(one - place)) for one in own), default=0.0))
        kept, second, touches = kept_pieces(answer.labels, self.statistics.pieces)
        return Found(
            positions=np.array(positions).reshape(-1, 3),
            coarse=np.array(candidates[0].points).reshape(-1, 3),
            fine=near.grid.to_physical(self._places_in(near)),
            spread_mm=np.array([width * spacing for width, _ in widths]),
            presence=near.presence,
            elsewhere=np.array([share for _, share in widths]),
            apart_mm=spacing * np.array(apart),
            answer=answer,
            candidates=candidates,
            second_piece=second,
            volume_mm3=float(kept.sum() * spacing**3),
            touches=touches,
            kept=kept,
        )


def finder_of(
    by_fold: Mapping[str, nn.ModuleDict],
    *,
    train: TrainSettings,
    predict: PredictSettings,
    spacings: tuple[float, float],
    statistics: Statistics,
    template: Array,
    device: torch.device,
) -> Finder:
    """The search by the networks of some folds together."""
    by_pass = {name: seer_of(by_fold, name, train, predict, device) for name in train.passes}
    return Finder(
        by_pass["coarse"],
        by_pass["fine"],
        spacings,
        statistics,
        predict,
        template,
        by_pass.get(TURNED),
        by_pass.get(CLOSE),
    )


def _places(answer: Answer, radius_mm: float) -> list[Candidate]:
    """Places of one block, by the mass of what both heads mark within the target's radius.

    Heat maps count as the share of landmarks that are there, labels as the volume that is marked,
    up to that of half a ball of the radius, which every target fills far less.
    """
    spacing = float(answer.grid.spacing[0])
    parts = []
    if len(answer.heat):
        parts.append(answer.heat.sum(axis=0) / len(answer.heat))
    marked = 1 - answer.labels[0] if len(answer.labels) else None
    if marked is not None and float(marked.max()) > 0.5:
        # A thirtieth of the ball: what a thin, branching target fills at least.
        usual = 4 / 3 * np.pi * (radius_mm / spacing) ** 3 / 30
        parts.append(np.where(marked > 0.3, marked, 0) / usual)
    elif marked is not None:
        parts.append(np.zeros_like(marked))
    density = sum(parts)
    assert isinstance(density, np.ndarray)
    reach = radius_mm / spacing
    smooth = ndimage.gaussian_filter(density, reach / 2, mode="constant", truncate=2.5)
    peaks = (smooth == ndimage.maximum_filter(smooth, size=3)) & (smooth > 0)
    order = np.argsort(-smooth[peaks], kind="stable")[:8]
    found = []
    for peak in np.argwhere(peaks)[order]:
        candidate = _place(answer, parts, peak.astype(np.float64), reach, marked)
        if candidate is not None:
            found.append(candidate)
    return found


def _place(
    answer: Answer, parts: Sequence[Maps], peak: Array, reach: float, marked: Maps | None
) -> Candidate | None:
    """The place around a peak (z, y, x): its centre, evidence, and the box of what is marked."""
    shape = np.array(parts[0].shape)
    low = np.maximum(np.floor(peak - 1.2 * reach), 0).astype(int)
    high = np.minimum(np.ceil(peak + 1.2 * reach) + 1, shape).astype(int)
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    masses = [float(part[box].sum(dtype=np.float64)) for part in parts]
    evidence = float(np.mean([min(1.0, mass) for mass in masses]))
    ends, points = [], []
    if marked is not None and bool((marked[box] > 0.5).any()):
        inside = np.argwhere(marked[box] > 0.5) + low
        ends += [inside.min(axis=0), inside.max(axis=0)]
    for heat in answer.heat:
        top = np.array(np.unravel_index(int(np.argmax(heat[box])), heat[box].shape)) + low
        points.append(answer.grid.to_physical(top[None, ::-1].astype(np.float64))[0])
        if float(heat[box].sum()) > 0.3:
            ends.append(top)
    if not ends:
        return None
    corners = np.array([np.min(ends, axis=0), np.max(ends, axis=0)], dtype=np.float64)[:, ::-1]
    first, last = answer.grid.to_physical(corners)
    return Candidate(
        _triple((first + last) / 2),
        evidence,
        _triple(first),
        _triple(last),
        tuple(_triple(point) for point in points),
    )


def _box(answer: Answer, places: Array, pieces: Sequence[float]) -> tuple[Array, Array] | None:
    """First and last voxel x, y, z of what a fine answer marks; None where it marks nothing."""
    ends = [place for place, there in zip(places, answer.presence, strict=True) if there > 0.5]
    kept, _, _ = kept_pieces(answer.labels, pieces)
    if kept.any():
        inside = np.argwhere(kept)[:, ::-1].astype(np.float64)
        ends += [inside.min(axis=0), inside.max(axis=0)]
    return (np.min(ends, axis=0), np.max(ends, axis=0)) if ends else None


def kept_pieces(labels: Maps, usual: Sequence[float]) -> tuple[NDArray[np.bool_], float, bool]:
    """What of the marked voxels is target: connected parts that hold a piece that counts.

    Of a label that is in one piece in annotated scans the largest piece counts, of another one
    those half as large as its smallest second piece there.

    Args:
        labels: (classes, z, y, x) probabilities.
        usual: for each label the smallest second piece, of the first; 0 where it is in one.

    Returns:
        (z, y, x) what is kept; the largest second piece, of the first, of labels that should be in
        one; whether what is kept reaches the border.
    """
    if not len(labels):
        return np.zeros((0, 0, 0), bool), 0.0, False
    chosen = labels.argmax(axis=0)
    parts, count = ndimage.label(chosen > 0)
    counted = np.zeros(count + 1, bool)
    worst = 0.0
    for number in range(1, len(labels)):
        pieces, found = ndimage.label(chosen == number)
        if not found:
            continue
        sizes = np.bincount(pieces.ravel())[1:]
        share = usual[number - 1] if number <= len(usual) else 0.0
        least = SMALLER * share * sizes.max() if share else sizes.max()
        counted[np.unique(parts[np.isin(pieces, np.flatnonzero(sizes >= least) + 1)])] = True
        if not share and found > 1:
            worst = max(worst, float(np.sort(sizes)[-2] / sizes.max()))
    counted[0] = False
    kept = counted[parts]
    shell = [kept.take(end, axis) for axis in range(3) for end in (0, -1)]
    return kept, worst, any(bool(side.any()) for side in shell)


def _triple(point: Array) -> tuple[float, float, float]:
    return float(point[0]), float(point[1]), float(point[2])
