"""Train the networks of one fold: for the coarse pass, the fine one, and perhaps further ones."""

import logging
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from landmarkflow.core.errors import InputError
from landmarkflow.engine.batch import Batch
from landmarkflow.learning.checkpoints import (
    checkpoint_of,
    discard_checkpoints,
    load_checkpoint,
    load_optimiser,
    save_checkpoint,
)
from landmarkflow.learning.descent import Schedule, descend, in_turn
from landmarkflow.learning.device import best_device
from landmarkflow.learning.folds import fold_of
from landmarkflow.learning.heatmaps import decode
from landmarkflow.learning.history import write_history
from landmarkflow.learning.trained import write_training
from landmarkflow.methods.dualhead.examples import Example, Examples, hold_back, load_examples
from landmarkflow.methods.dualhead.losses import JointLoss, heat_of
from landmarkflow.methods.dualhead.network import (
    DualHead,
    architecture,
    new_networks,
    save_networks,
    take_over,
)
from landmarkflow.methods.dualhead.settings import CLOSE, TURNED, PassSettings, TrainSettings
from landmarkflow.methods.dualhead.windows import Window, Windows

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Epoch:
    """What one epoch came to; NaN where nothing is measured.

    Attributes:
        epoch: from 1 on, through all passes.
        network: `coarse`, `fine`, `turned` or `close`, the pass that learned.
        learning_rate: at its end.
        train_loss: mean over its windows, as are the next two.
        segmentation_loss: its part.
        landmark_loss: its part, before it is weighted.
        validation_dice: of all labels together, in plain windows of scans held back.
        landmark_error_mm: mean distance from the true places, in these windows.
        seconds: it took.
    """

    epoch: int
    network: str
    learning_rate: float
    train_loss: float
    segmentation_loss: float
    landmark_loss: float
    validation_dice: float
    landmark_error_mm: float
    seconds: float


def train(
    examples: Examples,
    name: str,
    *,
    settings: TrainSettings,
    seed: int,
    fold: int,
    checkpoint: Path,
    device: torch.device,
) -> tuple[nn.ModuleDict, list[Epoch]]:
    """Train the networks of all passes on all scans but those held back in a fold.

    Every step's window has random streams of its own, made of seed, fold, pass and step, so that a
    training that goes on at a checkpoint ends with the weights of one that nothing disturbed.

    Args:
        examples: the scans.
        name: of the network, for the log.
        settings: network, schedule, windows.
        seed: of weights and windows.
        fold: that is held back; 0 for none.
        checkpoint: file that is written after each epoch and read where it is there.
        device: where to compute.

    Raises:
        InputError: the loss is not finite.
    """
    learned, held = examples.learned(fold), examples.held_back(fold)
    if not learned:
        raise InputError(f"{name}: there is no scan to learn from that is not held back")
    torch.manual_seed(seed * 1009 + fold)
    networks = new_networks(settings, len(examples.labels), len(examples.landmarks))
    if not list(networks.parameters()):
        raise InputError("`train.heads` is segmentation alone, expected a template with one")
    networks = networks.to(device)
    history: list[Epoch] = []
    done = {"pass": 0, "step": 0}
    passes = list(settings.passes)
    optimiser = _optimiser(networks[passes[0]], settings)
    # The checkpoint's optimiser is that of the pass in which it was written.
    memo = _resumed(checkpoint, networks, settings)
    if memo is not None:
        optimiser, stored = memo
        done = {"pass": int(stored["pass"]), "step": int(stored["step"])}
        history = [Epoch(**epoch) for epoch in stored["history"]]
        logger.info("%s: goes on after epoch %d", name, len(history))
    for number, of_pass in enumerate(passes):
        if number < done["pass"]:
            continue
        first = done["step"] if number == done["pass"] else 0
        if number != done["pass"]:
            optimiser = _optimiser(networks[of_pass], settings)
            if of_pass in (TURNED, CLOSE):
                take_over(networks[of_pass], networks[passes[number - 1]])
        learner = _Learner(
            networks[of_pass],
            optimiser,
            learned=learned,
            held=held,
            template=examples.template,
            name=of_pass,
            settings=settings,
            streams=(seed, fold, number),
            device=device,
        )
        steps = learner.of_pass.steps
        for step in range(first, steps, settings.steps_per_epoch):
            last = min(steps, step + settings.steps_per_epoch)
            history.append(learner.epoch(len(history) + 1, step, last))
            _tell(name, history, settings)
            passed = {"pass": number, "step": last, "history": [asdict(e) for e in history]}
            save_checkpoint(checkpoint, networks, optimiser, passed)
    return networks.eval(), history


def _optimiser(network: nn.Module, settings: TrainSettings) -> torch.optim.Optimizer:
    return torch.optim.AdamW(
        network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
    )


def _resumed(
    checkpoint: Path, networks: nn.ModuleDict, settings: TrainSettings
) -> tuple[torch.optim.Optimizer, dict[str, Any]] | None:
    """The optimiser and the plain data of a checkpoint, with its weights in the networks."""
    memo = load_checkpoint(checkpoint, networks)
    if memo is None:
        return None
    optimiser = _optimiser(networks[list(settings.passes)[int(memo["pass"])]], settings)
    load_optimiser(checkpoint, optimiser)
    return optimiser, memo


class _Learner:
    """One pass' network while it learns."""

    def __init__(
        self,
        network: nn.Module,
        optimiser: torch.optim.Optimizer,
        *,
        learned: Sequence[Example],
        held: Sequence[Example],
        template: NDArray[np.float64],
        name: str,
        settings: TrainSettings,
        streams: tuple[int, int, int],
        device: torch.device,
    ) -> None:
        assert isinstance(network, DualHead)
        self.network, self.optimiser, self.name = network, optimiser, name
        self.settings, self.streams, self.device = settings, streams, device
        self.of_pass: PassSettings = settings.passes[name]
        self.windows = Windows(learned, name, settings, network.classes, template)
        self.held = held[: settings.validation_scans]
        self.loss = JointLoss(settings, self.of_pass, network.classes)
        self.schedule = Schedule(self.of_pass.steps, settings.learning_rate_of(name))

    def epoch(self, number: int, first: int, last: int) -> Epoch:
        """Learn from the windows first to last - 1, then look at scans held back."""
        started = time.monotonic()
        self.network.train()
        losses = []
        for step in range(first, last):
            random = np.random.default_rng([*self.streams, step])
            scan = in_turn(step, len(self.windows.examples), self.streams)
            window = self.windows.draw(scan, random)
            loss, overlap, heat = self.loss(self._seen(window), _on(window, self.device))
            whole = descend(
                self.network,
                self.optimiser,
                loss,
                schedule=self.schedule,
                step=step,
                of=f" of the {self.name} pass",
            )
            losses.append((whole, overlap, heat))
        dice, error = self._validated()
        whole, overlap, heat = (_mean([row[column] for row in losses]) for column in range(3))
        return Epoch(
            epoch=number,
            network=self.name,
            learning_rate=self.schedule.rate(last - 1),
            train_loss=whole,
            segmentation_loss=overlap,
            landmark_loss=heat,
            validation_dice=dice,
            landmark_error_mm=error,
            seconds=time.monotonic() - started,
        )

    def _seen(self, window: Window) -> torch.Tensor:
        found: torch.Tensor = self.network(window.image[None].to(self.device))
        return found

    def _held_windows(self) -> Iterator[tuple[Example, Window, NDArray[np.intp]]]:
        """Plain windows of scans held back, and numbers of the landmarks that are looked at."""
        for number, example in enumerate(self.held):
            shift = np.random.default_rng([0, number]).uniform(-1, 1, 3)
            if self.name != CLOSE:
                window = self.windows.plain(example, example.centre + shift)
                yield example, window, np.arange(len(example.positions))
                continue
            for row in example.known:
                centre = example.positions[row] + shift * self.of_pass.shift_mm
                yield example, self.windows.plain(example, centre), np.array([row])

    def _validated(self) -> tuple[float, float]:
        """Dice of all labels as one, and mean error in mm, over the scans held back."""
        self.network.eval()
        common, sizes, errors = 0.0, 0.0, []
        classes = self.network.classes
        with torch.inference_mode():
            for example, window, rows in self._held_windows():
                logits = self._seen(window)[0].cpu()
                if classes and example.segmented:
                    marked, true = logits[:classes].argmax(dim=0) > 0, window.labels > 0
                    common += float((marked & true).sum())
                    sizes += float(marked.sum() + true.sum())
                heat, _ = heat_of(logits[classes:], self.settings.landmark_loss)
                points, last = window.points.numpy(), self.of_pass.window - 1
                for row in rows if len(heat) else ():
                    if not ((points[row] >= 0) & (points[row] <= last)).all():
                        continue
                    place = decode(heat[row].numpy(), "mean", self.of_pass.sigma_voxels)
                    errors.append(float(np.linalg.norm(place - points[row])) * self.windows.spacing)
        return 2 * common / sizes if sizes else math.nan, _mean(errors)


def _on(window: Window, device: torch.device) -> Window:
    return Window(
        window.image,
        window.labels.to(device),
        window.points.to(device),
        window.weights.to(device),
        window.segmented,
    )


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if math.isfinite(value)]
    return float(np.mean(known)) if known else math.nan


def _tell(name: str, history: Sequence[Epoch], settings: TrainSettings) -> None:
    """Progress, with the time that is left at the pace of this pass."""
    latest = history[-1]
    passes = settings.passes
    epochs = {n: -(-p.steps // settings.steps_per_epoch) for n, p in passes.items()}
    done = {n: sum(epoch.network == n for epoch in history) for n in passes}
    pace = latest.seconds / passes[latest.network].window ** 3 / passes[latest.network].channels
    left = sum(
        (epochs[n] - done[n]) * pace * passes[n].window ** 3 * passes[n].channels for n in passes
    )
    logger.info(
        "%s: epoch %d of %d (%s): loss %.3f, held back: Dice %.3f, landmarks %.3f mm; about %.0f "
        "minutes left",
        name,
        latest.epoch,
        sum(epochs.values()),
        latest.network,
        latest.train_loss,
        latest.validation_dice,
        latest.landmark_error_mm,
        left / 60,
    )


def run(batch: Batch) -> None:
    """Train the networks that are asked for; leave weights, history and what was trained."""
    torch.set_num_threads(batch.threads)
    settings, seed = batch.settings(TrainSettings), int(batch.values["seed"])
    folds, device = int(batch.values["folds"]), best_device()
    examples = hold_back(load_examples(batch.path("examples")), settings.held_back, seed)
    for name in batch.scans:
        fold = fold_of(name, folds)
        weights = batch.path("weights", name)
        decides = (seed, fold, batch.threads, batch.path("examples"))
        checkpoint = checkpoint_of(weights, name, settings, decides)
        networks, history = train(
            examples,
            name,
            settings=settings,
            seed=seed,
            fold=fold,
            checkpoint=checkpoint,
            device=device,
        )
        shape = architecture(settings, examples.labels, examples.landmarks)
        save_networks(weights, {name: networks}, shape)
        write_history(batch.path("history", name), history)
        write_training(
            batch.path("training", name),
            name,
            made_by={"fold": fold, "seed": seed, "threads": batch.threads},
            device=device,
            precision=settings.precision,
            learned=examples.learned(fold),
            held=examples.held_back(fold),
        )
        discard_checkpoints(weights, name)
