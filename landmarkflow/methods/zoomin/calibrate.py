"""Radii from errors on pictures that the networks never saw, and all networks in one file."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from landmarkflow.core.files import read_json, write_json
from landmarkflow.engine.batch import Batch
from landmarkflow.learning.device import best_device
from landmarkflow.learning.folds import VALIDATION, never_seen_by
from landmarkflow.learning.history import average_histories
from landmarkflow.learning.radii import Radii, radii_of_others
from landmarkflow.learning.trained import write_held_back
from landmarkflow.methods.zoomin.doubts import EXTREMES, Limits, extremes
from landmarkflow.methods.zoomin.examples import (
    Example,
    Examples,
    hold_back,
    load_examples,
    shape_of,
)
from landmarkflow.methods.zoomin.find import Found, Pair
from landmarkflow.methods.zoomin.networks import (
    COARSE,
    ZOOM,
    architecture,
    finder_of,
    load_pairs,
    save_networks,
)
from landmarkflow.methods.zoomin.settings import CalibrateSettings, TrainSettings, ZoomSettings
from landmarkflow.methods.zoomin.shape import Shape

logger = logging.getLogger(__name__)

Array = NDArray[np.float64]

COLUMNS = (
    *("scan", "network", "landmark", "coarse_error", "error"),
    *("spread", "presence", "radius", "radius_of_others"),
)
# Where there are no folds, scans held back are calibrated on the others in so many groups.
GROUPS = 5


@dataclass(frozen=True, eq=False)
class Measured:
    """One picture held back: what was found, and errors (k,), NaN without a true place.

    Lengths are in pixels of the frame that pictures are brought into; `extremes` is what the
    worst of its landmarks tell of doubt.
    """

    scan: str
    network: str
    fold: int
    found: Found
    error: Array
    coarse_error: Array
    extremes: Array

    @staticmethod
    def of(example: Example, network: str, found: Found, shape: Shape) -> "Measured":
        """That of an answer."""
        error = np.linalg.norm(found.positions - example.points, axis=1)
        coarse = np.linalg.norm(found.coarse - example.points, axis=1)
        worst = extremes(found, shape, example.channels.shape[1])
        return Measured(example.scan, network, example.fold, found, error, coarse, worst)

    def figures(self, radius: Array, of_others: Array) -> Array:
        """(k, 6) errors, width of the heat map, probability, and radii."""
        found = self.found
        columns = [self.coarse_error, self.error, found.spread, found.presence, radius, of_others]
        return np.stack(columns, axis=1)


@dataclass(frozen=True, eq=False)
class Calibrated:
    """What the pictures held back tell.

    Attributes:
        radii: calibrated on all of them.
        limits: of doubts.
        errors: (n, k) of n pictures and k landmarks, pixels of the frame; NaN without a true place.
        radius: (n, k) that `radii` gives.
        of_others: (n, k) radii calibrated without the picture's own fold.
    """

    radii: Radii
    limits: Limits
    errors: Array
    radius: Array
    of_others: Array

    @staticmethod
    def of(
        measured: Sequence[Measured], count: int, settings: CalibrateSettings, search: ZoomSettings
    ) -> "Calibrated":
        """That of pictures with so many landmarks each."""
        errors = np.array([one.error for one in measured]).reshape(-1, count)
        spreads = np.array([one.found.spread for one in measured]).reshape(-1, count)
        options: dict[str, Any] = {
            "teacher": np.zeros(count),
            "coverage": settings.coverage,
            "by_spread": settings.by_spread,
        }
        radii = Radii.of(errors, spreads, **options)
        radius = np.array([radii.of_scan(spread) for spread in spreads]).reshape(-1, count)
        folds = [n % GROUPS if m.fold == VALIDATION else m.fold for n, m in enumerate(measured)]
        of_others = radii_of_others(errors, spreads, np.array(folds, dtype=np.int64), **options)
        right = ~(errors > settings.right_radii * radius).any(axis=1)
        worst = np.array([one.extremes for one in measured]).reshape(-1, EXTREMES)
        limits = Limits.of(search).widened(worst[right], settings.right_doubtful)
        return Calibrated(radii, limits, errors, radius, of_others)

    def within(self, landmarks: Sequence[str]) -> dict[str, float | None]:
        """Shares of true places within the radius of others, of each landmark and of all."""
        unknown = np.isnan(self.errors) | np.isnan(self.of_others)
        held = np.where(unknown, np.nan, self.errors <= self.of_others)
        columns = dict(zip(landmarks, held.T, strict=True)) | {"all": held.ravel()}
        return {
            label: round(float(np.nanmean(one)), 4) if np.isfinite(one).any() else None
            for label, one in columns.items()
        }


def run(batch: Batch) -> None:
    """Measure on every picture held back; leave radii, errors, histories and all networks."""
    torch.set_num_threads(batch.threads)
    train, search = batch.settings(TrainSettings, "train"), batch.settings(ZoomSettings, "zoom")
    settings, device = batch.settings(CalibrateSettings), best_device()
    trained = [read_json(batch.path("training", name)) for name in batch.scans]
    seed = int(trained[0]["seed"])
    examples = hold_back(load_examples(batch.path("examples")), train.held_back, seed)
    pairs = _pairs(batch, train, examples, device)
    # That of the pictures that a network learned from, so that none counts for its own answer.
    shapes = {
        facts["network"]: shape_of(
            [e for e in examples.scans if e.scan in set(facts["learned_from"])],
            search,
            both_ways=train.augment.flip,
        )
        for facts in trained
    }
    measured = []
    for example in examples.scans:
        # A picture that several networks never saw is measured by all of them together.
        unseen = {
            facts["network"]: pairs[facts["network"]]
            for facts in trained
            if example.scan in facts["held_back"]
        }
        if unseen:
            shape = shapes[next(iter(unseen))]
            finder = finder_of(unseen, train, search, device, shape)
            found = finder.find(example.shown.pyramid)
            measured.append(Measured.of(example, "+".join(unseen), found, shape))
    calibrated = Calibrated.of(measured, len(examples.landmarks), settings, search)
    _write_networks(batch, pairs, train, examples)
    write_json(
        batch.path("calibration"),
        {
            "landmarks": list(examples.landmarks),
            "colours": examples.colours,
            "networks": list(pairs),
            "held_back_from": never_seen_by(examples.scans, trained),
            "shapes": {name: shape.as_data() for name, shape in shapes.items()},
            "radii": calibrated.radii.as_data(),
            "limits": calibrated.limits.as_data(),
            "within_radius_of_others": calibrated.within(examples.landmarks),
            "measured": len(measured),
            "left_out": examples.left_out,
            "device": trained[0]["device"],
        },
    )
    rows = (
        (one.scan, one.network, one.figures(*both))
        for one, *both in zip(measured, calibrated.radius, calibrated.of_others, strict=True)
    )
    write_held_back(batch.path("held_back"), COLUMNS, examples.landmarks, rows)
    average_histories(batch.path("histories"), [batch.path("history", n) for n in batch.scans])
    _tell(calibrated, len(measured))


def _pairs(
    batch: Batch, train: TrainSettings, examples: Examples, device: torch.device
) -> dict[str, Pair]:
    """The networks of all folds, by their names."""
    pairs: dict[str, Pair] = {}
    for name in batch.scans:
        pairs |= load_pairs(
            batch.path("weights", name),
            [name],
            train=train,
            colours=examples.colours,
            landmarks=examples.landmarks,
            device=device,
        )
    return pairs


def _write_networks(
    batch: Batch, pairs: Mapping[str, Pair], train: TrainSettings, examples: Examples
) -> None:
    """Write the networks of all folds in one file."""
    modules = {
        name: nn.ModuleDict({COARSE: pair.coarse, ZOOM: pair.zoom})
        for name, pair in pairs.items()
        if pair.zoom is not None
    }
    described = architecture(train, examples.colours, examples.landmarks)
    save_networks(batch.path("networks"), modules, described)


def _tell(calibrated: Calibrated, pictures: int) -> None:
    """Log how far off the pictures held back are, and whether radii can be had of them."""
    known = calibrated.errors[np.isfinite(calibrated.errors)]
    if len(known):
        logger.info(
            "%d pictures held back: mean error %.2f, median %.2f pixels of the frame",
            pictures,
            known.mean(),
            np.median(known),
        )
    if not np.isfinite(calibrated.radii.quantile).any():
        logger.warning(
            "%d landmarks of pictures held back are too few for radii: landmarks have none",
            len(known),
        )
