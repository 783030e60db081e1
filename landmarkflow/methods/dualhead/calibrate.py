"""Measure errors on scans held back, make radii of them, and put all networks in one file."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
    Examples,
    Statistics,
    hold_back,
    load_examples,
)
from landmarkflow.methods.dualhead.find import Finder, finder_of
from landmarkflow.methods.dualhead.network import (
    architecture,
    load_networks,
    save_networks,
)
from landmarkflow.methods.dualhead.settings import (
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


def measure_all(
    examples: Examples,
    trained: Sequence[Mapping[str, Any]],
    by_fold: Mapping[str, nn.ModuleDict],
    *,
    train: TrainSettings,
    predict: PredictSettings,
    device: torch.device,
) -> list[Measured]:
    """Every scan that was held back, measured by the networks that never saw it.

    What it is judged by, such as distances of landmarks, comes from the other scans.

    Args:
        examples: all scans that are learned from, and those held back.
        trained: of each fold what its training left, with `network` and `held_back`.
        by_fold: the networks of each fold.
        train: settings of the training.
        predict: settings of the search.
        device: where to compute.
    """
    unseen_by = never_seen_by(examples.scans, trained)
    measured = []
    for example in examples.scans:
        # A scan that several networks never saw is measured by all of them together, as others are.
        unseen = {name: by_fold[name] for name in unseen_by[example.scan]}
        if unseen:
            finder = finder_of(
                unseen,
                train=train,
                predict=predict,
                spacings=examples.spacings,
                statistics=Statistics.of([e for e in examples.scans if e.scan != example.scan]),
                template=examples.template,
                device=device,
            )
            measured.append(measure(finder, example, "+".join(unseen)))
    return measured


def run(batch: Batch) -> None:
    """Measure on every scan held back; leave radii, errors, the histories and all networks."""
    torch.set_num_threads(batch.threads)
    train = batch.settings(TrainSettings, "train")
    predict = batch.settings(PredictSettings, "predict")
    settings, device = batch.settings(CalibrateSettings), best_device()
    trained = [read_json(batch.path("training", name)) for name in batch.scans]
    seed = int(trained[0]["seed"])
    examples = hold_back(load_examples(batch.path("examples")), train.held_back, seed)
    by_fold: dict[str, nn.ModuleDict] = {}
    for name in batch.scans:
        by_fold |= load_networks(
            batch.path("weights", name),
            [name],
            settings=train,
            labels=examples.labels,
            landmarks=examples.landmarks,
            device=device,
        )
    measured = measure_all(examples, trained, by_fold, train=train, predict=predict, device=device)
    teacher = np.array([example.teacher_mm for example in examples.scans])
    radii = radii_of(measured, np.nan_to_num(np.nanmedian(teacher, axis=0)), settings)
    shape = architecture(train, examples.labels, examples.landmarks)
    save_networks(batch.path("networks"), by_fold, shape)
    write_json(
        batch.path("calibration"),
        {
            "landmarks": list(examples.landmarks),
            "labels": list(examples.labels),
            "side": examples.side,
            "low": examples.low,
            "high": examples.high,
            "spacings_mm": list(examples.spacings),
            "networks": list(by_fold),
            "held_back_from": never_seen_by(examples.scans, trained),
            "template_mm": examples.template.tolist(),
            "statistics": Statistics.of(examples.scans).as_data(),
            "radii": radii.as_data(),
            "measured": len(measured),
            "left_out": examples.left_out,
            "device": trained[0]["device"],
        },
    )
    _write_measured(batch.path("held_back"), measured, examples.landmarks, radii)
    average_histories(batch.path("histories"), [batch.path("history", n) for n in batch.scans])
    _tell(measured, radii)


def _write_measured(
    path: Path, measured: Sequence[Measured], landmarks: Sequence[str], radii: Radii
) -> None:
    """The table of errors on scans held back, with the radii that they would have."""
    figures = (
        (
            one.scan,
            one.network,
            np.stack([one.error, one.spread, one.presence, radii.of_scan(one.spread)], axis=1),
        )
        for one in measured
    )
    write_held_back(path, COLUMNS, landmarks, figures)


def _tell(measured: Sequence[Measured], radii: Radii) -> None:
    """Log the errors, and whether they are too few for radii."""
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
