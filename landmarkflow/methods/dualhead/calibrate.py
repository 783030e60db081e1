"""Measure errors on scans held back, make radii of them, and put all networks in one file."""

import csv
import io
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from landmarkflow.core.errors import ScanFailure
from landmarkflow.core.files import read_json, read_text, write_json, write_text
from landmarkflow.engine.batch import Batch
from landmarkflow.images.operations import image_on
from landmarkflow.learning.conformal import conformal_quantile
from landmarkflow.learning.device import best_device
from landmarkflow.methods.dualhead.examples import (
    Crop,
    Example,
    Examples,
    Statistics,
    hold_back,
    load_examples,
)
from landmarkflow.methods.dualhead.find import Finder
from landmarkflow.methods.dualhead.network import (
    PASSES,
    architecture,
    load_pairs,
    save_pairs,
)
from landmarkflow.methods.dualhead.seen import seers
from landmarkflow.methods.dualhead.settings import (
    CalibrateSettings,
    PredictSettings,
    TrainSettings,
)
from landmarkflow.methods.dualhead.views import View

logger = logging.getLogger(__name__)

Array = NDArray[np.float64]

COLUMNS = ("scan", "network", "landmark", "error_mm", "spread_mm", "presence", "radius_mm")
# Widths of heat maps, of the usual one, beyond which a radius grows or shrinks no further.
NARROWEST, WIDEST = 0.7, 4.0
# So many scans weigh as much for a landmark's usual error as all landmarks together.
PRIOR_SCANS = 4


@dataclass(frozen=True, eq=False)
class Measured:
    """One scan held back: errors (k,) mm, infinite where it was lost, NaN without a true place."""

    scan: str
    network: str
    error: Array
    spread: Array
    presence: Array


@dataclass(frozen=True, eq=False)
class Radii:
    """What makes the radius of a landmark: quantile · usual · width of its heat map.

    Attributes:
        usual_mm: (k,) median error of each landmark on scans held back.
        spread_mm: (k,) median width of its heat map there.
        quantile: of the errors so divided; infinite where too few scans were held back.
        teacher_mm: (k,) radius of the answers that were learned from, 0 for annotations.
        by_spread: whether widths count.
    """

    usual_mm: Array
    spread_mm: Array
    quantile: float
    teacher_mm: Array
    by_spread: bool

    @staticmethod
    def of(measured: Sequence[Measured], teacher_mm: Array, settings: CalibrateSettings) -> "Radii":
        """Those of errors on scans held back; a lost scan's errors are infinite."""
        count = len(teacher_mm)
        errors = np.array([one.error for one in measured]).reshape(-1, count)
        spreads = np.array([one.spread for one in measured]).reshape(-1, count)
        usual, width = np.full(count, np.nan), np.full(count, np.nan)
        finite = errors[np.isfinite(errors)]
        for k in range(count if len(finite) else 0):
            own = errors[np.isfinite(errors[:, k]), k]
            pooled = float(np.median(finite))
            median = float(np.median(own)) if len(own) else pooled
            usual[k] = (len(own) * median + PRIOR_SCANS * pooled) / (len(own) + PRIOR_SCANS)
            widths = spreads[np.isfinite(spreads[:, k]), k]
            width[k] = float(np.median(widths)) if len(widths) else np.nan
        radii = Radii(usual, width, 1.0, np.zeros(count), settings.by_spread)
        scores = [one.error / radii.of_scan(one.spread) for one in measured]
        quantile = conformal_quantile(np.concatenate([np.empty(0), *scores]), settings.coverage)
        return Radii(usual, width, quantile, teacher_mm, settings.by_spread)

    def of_scan(self, spread_mm: Array) -> Array:
        """(k,) radii, mm, of landmarks whose heat maps have these widths; NaN for none."""
        ratio = np.ones(len(self.usual_mm))
        if self.by_spread:
            ratio = np.clip(np.nan_to_num(spread_mm / self.spread_mm, nan=1), NARROWEST, WIDEST)
        if not math.isfinite(self.quantile):
            return np.full(len(self.usual_mm), np.nan)
        return np.asarray(np.hypot(self.quantile * self.usual_mm * ratio, self.teacher_mm))

    def as_data(self) -> dict[str, Any]:
        """Plain data, which `of_data` takes back; null for what there is not."""
        known = {n: [_plain(v) for v in getattr(self, n)] for n in ("usual_mm", "spread_mm")}
        return known | {
            "quantile": _plain(self.quantile),
            "teacher_mm": [_plain(v) for v in self.teacher_mm],
            "by_spread": self.by_spread,
        }

    @staticmethod
    def of_data(data: Mapping[str, Any]) -> "Radii":
        """Those of `as_data`, read from JSON."""
        usual, width, teacher = (
            np.array(data[name], dtype=np.float64)
            for name in ("usual_mm", "spread_mm", "teacher_mm")
        )
        quantile = math.inf if data["quantile"] is None else float(data["quantile"])
        return Radii(usual, width, quantile, teacher, bool(data["by_spread"]))


def _plain(value: float) -> float | None:
    return round(float(value), 6) if math.isfinite(value) else None


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
    coarse, fine = (seers(pairs, name, train, predict, device) for name in PASSES)
    return Finder(coarse, fine, spacings, statistics, predict)


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
    radii = Radii.of(measured, np.nan_to_num(np.nanmedian(teacher, axis=0)), settings)
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
            "held_back_from": _held_back_from(examples, trained),
            "statistics": Statistics.of(examples.scans).as_data(),
            "radii": radii.as_data(),
            "measured": len(measured),
            "left_out": examples.left_out,
            "device": trained[0]["device"],
        },
    )
    _write_measured(batch.path("held_back"), measured, radii, examples.landmarks)
    _write_histories(batch.path("histories"), [batch.path("history", n) for n in batch.scans])
    errors = np.concatenate([np.empty(0), *(one.error for one in measured)])
    known_errors = errors[np.isfinite(errors)]
    if len(known_errors):
        logger.info(
            "%d scans held back: mean error %.3f mm, median %.3f mm",
            len(measured),
            known_errors.mean(),
            np.median(known_errors),
        )
    if not math.isfinite(radii.quantile):
        logger.warning(
            "%d landmarks of scans held back are too few for radii: landmarks have none",
            len(errors),
        )


def _held_back_from(
    examples: Examples, trained: Sequence[Mapping[str, Any]]
) -> dict[str, list[str]]:
    """For each scan that is learned from, the networks that never saw it."""
    return {
        example.scan: [t["network"] for t in trained if example.scan in t["held_back"]]
        for example in examples.scans
    }


def _write_measured(
    path: Path, measured: Sequence[Measured], radii: Radii, landmarks: Sequence[str]
) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for one in measured:
        figures = np.stack([one.error, one.spread, one.presence, radii.of_scan(one.spread)], axis=1)
        for label, row in zip(landmarks, figures, strict=True):
            numbers = ["" if math.isnan(value) else f"{value:.4f}" for value in row]
            writer.writerow([one.scan, one.network, label, *numbers])
    write_text(path, text.getvalue())


def _write_histories(path: Path, histories: Sequence[Path]) -> None:
    """One history of several networks, the mean of each number in each epoch."""
    tables = [list(csv.DictReader(io.StringIO(read_text(h, "a history")))) for h in histories]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(tables[0][0]), lineterminator="\n")
    writer.writeheader()
    for rows in zip(*tables, strict=True):
        merged = {}
        for name, value in rows[0].items():
            try:
                numbers = np.array([float(row[name]) for row in rows])
            except ValueError:
                merged[name] = value
                continue
            known = numbers[np.isfinite(numbers)]
            merged[name] = f"{known.mean():.6g}" if len(known) else ""
        writer.writerow(merged)
    write_text(path, text.getvalue())
