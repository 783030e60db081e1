"""Train the U-Net on the one annotated scan (Algorithm 1)."""

import argparse
import csv
import io
import logging
from dataclasses import asdict, fields

import torch

from landmarkflow.core.errors import InputError
from landmarkflow.core.files import write_json, write_text
from landmarkflow.engine.arguments import (
    add_paths,
    add_settings,
    as_json,
    read_settings,
    require_result,
)
from landmarkflow.formats.volumes import (
    grid_of,
    read_grid,
    read_segmentation,
    read_written,
    resample,
)
from landmarkflow.methods.oneshot.network import best_device, device_name, save_network
from landmarkflow.methods.oneshot.settings import TrainSettings
from landmarkflow.methods.oneshot.train import Epoch, train

logger = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_settings(parser)
    parser.add_argument("--seed", required=True, type=int)
    parser.add_argument("--threads", required=True, type=int)
    parser.add_argument("--labels", nargs="*", type=int, default=[])
    add_paths(parser, "image", "segmentation", "region", "region-record")
    add_paths(parser, "weights", "history", "training")


def run(arguments: argparse.Namespace) -> None:
    """Train, and write weights, the epochs' losses and what was trained."""
    torch.set_num_threads(arguments.threads)
    require_result(arguments.region_record, "template")
    settings = read_settings(TrainSettings, arguments.settings)
    region = read_written(arguments.region)
    target = read_segmentation(arguments.segmentation, read_grid(arguments.image), arguments.labels)
    device = best_device()
    trained = train(
        region, resample(target, grid_of(region), "nearest"), settings, arguments.seed, device
    )
    best = trained.epochs[trained.best_epoch - 1]
    if best.validation_dice < settings.least_dice:
        raise InputError(
            f"training with seed {arguments.seed} ends at a Dice coefficient of "
            f"{best.validation_dice:.3f} in validation, expected at least "
            f"{settings.least_dice:g}: the network does not find the target even in the "
            "template; train longer or with another seed or loss"
        )
    save_network(arguments.weights, trained.network, settings.network, trained.target_mm3)
    write_text(arguments.history, _table(trained.epochs))
    summary = {
        "seed": arguments.seed,
        "threads": arguments.threads,
        "device": device_name(device),
        "torch": torch.__version__,
        "best_epoch": trained.best_epoch,
        "converged": trained.converged,
        "target_mm3": round(trained.target_mm3, 3),
        "settings": as_json(settings),
    }
    write_json(arguments.training, summary)
    logger.info(
        "epoch %d of %d is the best: validation loss %.4f, Dice %.3f",
        best.epoch,
        len(trained.epochs),
        best.validation_loss,
        best.validation_dice,
    )


def _table(epochs: tuple[Epoch, ...]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(Epoch)], lineterminator="\n")
    writer.writeheader()
    for epoch in epochs:
        row = asdict(epoch)
        writer.writerow({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()})
    return text.getvalue()
