"""Measure errors on scans held back, make radii of them, and put all networks in one file."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from landmarkflow.core.errors import ScanFailure
from landmarkflow.core.files import read_json, write_json
from landmarkflow.engine.batch import Batch
from landmarkflow.images.operations import image_on
from landmarkflow.learning.device import best_device
from landmarkflow.learning.folds import never_seen_by
from landmarkflow.learning.history import average_histories
from landmarkflow.learning.radii import Radii
from landmarkflow.learning.trained import write_held_back
from landmarkflow.methods.dualhead.examples import (
    Crop,
    Example,
    Statistics,
    hold_back,
    load_examples,
)
from landmarkflow.methods.dualhead.find import Finder
from landmarkflow.methods.dualhead.network import (
    architecture,
    load_pairs,
    save_pairs,
)
from landmarkflow.methods.dualhead.seen import seers
from landmarkflow.methods.dualhead.settings import (
    CLOSE,
    CalibrateSettings,
    PredictSettings,
    TrainSettings,
)
from landmarkflow.methods.dualhead.views import View

logger = logging.getLogger(__name__)

Array = NDArray[np.float64]

COLUMNS = ("scan", "network", "landmark", "error_mm", "spread_mm", "presence", "radius_mm")


@dataclass(frozen=True, eq=False)
class Measured:
    """One scan held back: errors (k,) mm, infinite where it was lost, NaN without a true place."""

    scan: str
    network: str
    error: Array
    spread: Array
    presence: Array


def radii_of(measured: Sequence[Measured], teacher_mm: Array, settings: CalibrateSettings) -> Radii:
    """Radii, mm, by errors on scans held back; a lost scan's errors are infinite."""
    count = len(teacher_mm)
    return Radii.of(
        np.array([one.error for one in measured]).reshape(-1, count),
        np.array([one.spread for one in measured]).reshape(-1, count),
        teacher=teacher_mm,
        coverage=settings.coverage,
        by_spread=settings.by_spread,
    )


def view_of_crop(crop: Crop) -> View:
    """A crop as a scan of intensities 0 to 1."""
    return View(image_on(crop.grid, crop.image.astype(np.float32)), 0.0, 1.0)


def measure(finder: Finder, example: Example, network: str) -> Measured:
    """Errors of the whole search in a scan held back."""
    count = len(example.positions)
    nothing = np.full(count, np.nan)
    try:
        found = finder.find(view_of_crop(example.coarse), view_of_crop(example.fine))
    except ScanFailure as failure:
        logger.warning("%s: held back from %s: %s", example.scan, network, failure)
        lost = np.where(np.isnan(example.positions).any(axis=1), np.nan, np.inf)
        return Measured(example.scan, network, lost, nothing, np.zeros(count))
    if not len(found.positions):
        return Measured(example.scan, network, nothing, nothing, nothing)
    error = np.linalg.norm(found.positions - example.positions, axis=1)
    return Measured(example.scan, network, error, found.spread_mm, found.presence)


def finder_of(
    pairs: Mapping[str, nn.ModuleDict],
    *,
    train: TrainSettings,
    predict: PredictSettings,
    spacings: tuple[float, float],
    statistics: Statistics,
    device: torch.device,
) -> Finder:
    """The search by the networks of some folds."""
    by_pass = {name: seers(pairs, name, train, predict, device) for name in train.passes}
    return Finder(
        by_pass["coarse"], by_pass["fine"], spacings, statistics, predict, by_pass.get(CLOSE)
    )


def run(batch: Batch) -> None:
    """Measure on every scan held back; leave radii, errors, the histories and all networks."""
    torch.set_num_threads(batch.threads)
    train = batch.settings(TrainSettings, "train")
    predict = batch.settings(PredictSettings, "predict")
    settings, device = batch.settings(CalibrateSettings), best_device()
    trained = [read_json(batch.path("training", name)) for name in batch.scans]
    seed = int(trained[0]["seed"])
    examples = hold_back(load_examples(batch.path("examples")), train.held_back, seed)
    pairs: dict[str, nn.ModuleDict] = {}
    for name in batch.scans:
        path = batch.path("weights", name)
        pairs |= load_pairs(
            path,
            [name],
            settings=train,
            labels=examples.labels,
            landmarks=examples.landmarks,
            device=device,
        )
    first = examples.scans[0]
    spacings = (float(first.coarse.spacing), float(first.fine.spacing))
    measured = []
    for example in examples.scans:
        # A scan that several networks never saw is measured by all of them together, as others are.
        unseen = {
            facts["network"]: pairs[facts["network"]]
            for facts in trained
            if example.scan in facts["held_back"]
        }
        if unseen:
            known = Statistics.of([e for e in examples.scans if e.scan != example.scan])
            finder = finder_of(
                unseen,
                train=train,
                predict=predict,
                spacings=spacings,
                statistics=known,
                device=device,
            )
            measured.append(measure(finder, example, "+".join(unseen)))
    teacher = np.array([example.teacher_mm for example in examples.scans])
    radii = radii_of(measured, np.nan_to_num(np.nanmedian(teacher, axis=0)), settings)
    shape = architecture(train, examples.labels, examples.landmarks)
    save_pairs(batch.path("networks"), pairs, shape)
    write_json(
        batch.path("calibration"),
        {
            "landmarks": list(examples.landmarks),
            "labels": list(examples.labels),
            "side": examples.side,
            "low": examples.low,
            "high": examples.high,
            "spacings_mm": list(spacings),
            "networks": list(pairs),
            "held_back_from": never_seen_by(examples.scans, trained),
            "statistics": Statistics.of(examples.scans).as_data(),
            "radii": radii.as_data(),
            "measured": len(measured),
            "left_out": examples.left_out,
            "device": trained[0]["device"],
        },
    )
    figures = (
        (
            one.scan,
            one.network,
            np.stack([one.error, one.spread, one.presence, radii.of_scan(one.spread)], axis=1),
        )
        for one in measured
    )
    write_held_back(batch.path("held_back"), COLUMNS, examples.landmarks, figures)
    average_histories(batch.path("histories"), [batch.path("history", n) for n in batch.scans])
    errors = np.concatenate([np.empty(0), *(one.error for one in measured)])
    known_errors = errors[np.isfinite(errors)]
    if len(known_errors):
        logger.info(
            "%d scans held back: mean error %.3f mm, median %.3f mm",
            len(measured),
            known_errors.mean(),
            np.median(known_errors),
        )
    if not np.isfinite(radii.quantile).any():
        logger.warning(
            "%d landmarks of scans held back are too few for radii: landmarks have none",
            len(errors),
        )
