"""Train the U-Net on the one annotated scan (Algorithm 1)."""

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from landmarkflow.core.errors import InputError
from landmarkflow.core.files import write_json
from landmarkflow.core.grids import Grid
from landmarkflow.engine.batch import Batch, require_result
from landmarkflow.formats.written import read_written
from landmarkflow.images.operations import array_of, grid_of, shrunk
from landmarkflow.images.sampling import resample
from landmarkflow.learning.device import best_device, device_name
from landmarkflow.learning.history import write_history
from landmarkflow.methods.oneshot.network import UNet, channels_last, save_network
from landmarkflow.methods.oneshot.probe import require_a_scan
from landmarkflow.methods.oneshot.settings import TrainSettings
from landmarkflow.methods.oneshot.template import target_of

logger = logging.getLogger(__name__)

# The plane of a slice across axis 0 (x), 1 (y), 2 (z): its rows run along the first axis named,
# its columns along the second, as in an array z,y,x that is cut at one index.
PLANES = {0: (2, 1), 1: (2, 0), 2: (1, 0)}
# A pixel is target when the target fills this share of it: thin bone must not vanish at the
# network's spacing.
TARGET_SHARE = 0.25


@dataclass(frozen=True)
class Epoch:
    """One row of `training.csv`; losses are means of the binary cross-entropy per pixel."""

    epoch: int
    learning_rate: float
    train_loss: float
    validation_loss: float
    validation_dice: float
    seconds: float


@dataclass(frozen=True)
class Training:
    """A trained network, its history and the target's volume."""

    network: UNet
    epochs: tuple[Epoch, ...]
    best_epoch: int
    converged: bool
    target_mm3: float


@dataclass(frozen=True)
class Pose:
    """Where a window lies: window coordinate u (mm) is the template's point centre + linear @ u."""

    centre: NDArray[np.float64]
    linear: NDArray[np.float64]


class SliceSampler:
    """Cuts slices of the annotated scan in any pose, image and segmentation alike."""

    def __init__(
        self, scan: sitk.Image, target: sitk.Image, settings: TrainSettings, device: torch.device
    ) -> None:
        """Take the normalised scan and its target mask, both on one LPS-aligned grid.

        Raises:
            InputError: the mask is empty.
        """
        self.settings = settings
        coarse = shrunk(scan, settings.network.spacing_mm)
        self.grid: Grid = grid_of(coarse)
        share = shrunk(sitk.Cast(target, sitk.sitkFloat32), settings.network.spacing_mm)
        pair = np.stack([array_of(coarse), array_of(share)])
        self.pair = torch.from_numpy(pair)[None].to(device)
        inside = np.argwhere(pair[1] > TARGET_SHARE)[:, ::-1].astype(np.float64)
        if not len(inside):
            raise InputError(
                "the template's segmentation lies outside the region located in the template, "
                f"{self.grid.extent_text()}; check `locate`"
            )
        self.target_centre = self.grid.to_physical(inside).mean(axis=0)
        self.target_mm3 = float(len(inside) * np.prod(self.grid.spacing))

    def cut(self, pose: Pose, axis: int, offsets: NDArray[np.float64]) -> tuple[Tensor, Tensor]:
        """Cut slices across one axis of a posed window.

        Args:
            pose: the window.
            axis: 0, 1, 2 for slices across x, y, z.
            offsets: (n,) positions along that axis, mm from the window's centre.

        Returns:
            Intensities and target, each (n, 1, pixels, pixels).
        """
        network = self.settings.network
        steps = (np.arange(network.window_pixels) - (network.window_pixels - 1) / 2) * (
            network.spacing_mm
        )
        rows, columns = PLANES[axis]
        window = np.zeros((len(offsets), len(steps), len(steps), 3))
        window[..., axis] = offsets[:, None, None]
        window[..., rows] = steps[None, :, None]
        window[..., columns] = steps[None, None, :]
        points = (pose.centre + window.reshape(-1, 3) @ pose.linear.T).reshape(-1, 3)
        index = self.grid.to_index(points).reshape(window.shape)
        # grid_sample counts from -1 to 1 between the outermost voxels' centres.
        unit = 2.0 * index / (np.array(self.grid.size) - 1.0) - 1.0
        where = torch.from_numpy(unit.astype(np.float32)).to(self.pair.device)
        both = nn.functional.grid_sample(self.pair, where[None], align_corners=True)[0]
        return both[0][:, None], (both[1] > TARGET_SHARE).float()[:, None]


def train(
    scan: sitk.Image,
    target: sitk.Image,
    settings: TrainSettings,
    seed: int,
    device: torch.device,
) -> Training:
    """Train on random rigid transforms of the one annotated scan until validation stops improving.

    Args:
        scan: the template's normalised crop on the LPS-aligned working grid.
        target: its 0/1 mask on the same grid.
        settings: ranges of the transforms, network, schedule.
        seed: of weights, transforms and slices; the validation transforms have their own, fixed.
        device: where to compute.

    Returns:
        The weights of the best validation epoch, with the history.

    Raises:
        InputError: the loss is not finite from the first epoch on.
    """
    torch.manual_seed(seed)
    sampler = SliceSampler(scan, target, settings, device)
    validation = list(_validation_slices(sampler))
    network = channels_last(UNet(settings.network).to(device))
    optimiser = torch.optim.Adam(network.parameters(), lr=settings.learning_rate)
    random = np.random.default_rng([seed, 1])
    history: list[Epoch] = []
    best_state, best = {}, float("inf")
    best_epoch = 0
    for epoch in range(1, settings.epochs + 1):
        started = time.monotonic()
        rate = learning_rate(epoch, settings)
        for group in optimiser.param_groups:
            group["lr"] = rate
        train_loss = _train_epoch(network, optimiser, sampler, random)
        loss, dice = _validate(network, validation)
        history.append(Epoch(epoch, rate, train_loss, loss, dice, time.monotonic() - started))
        logger.debug(
            "epoch %d of at most %d: validation loss %.4f, Dice %.3f",
            *(epoch, settings.epochs, loss, dice),
        )
        if loss < best:
            best, best_epoch = loss, epoch
            best_state = {k: v.detach().clone() for k, v in network.state_dict().items()}
        elif epoch - best_epoch >= settings.patience or not np.isfinite(loss):
            break
    if not best_state:
        raise InputError(
            f"training diverges: the validation loss of epoch 1 is {history[0].validation_loss} "
            f"at `learning_rate` {settings.learning_rate:g}; expected a finite loss, choose a "
            "lower rate"
        )
    network.load_state_dict(best_state)
    converged = best_epoch < history[-1].epoch
    return Training(network.eval(), tuple(history), best_epoch, converged, sampler.target_mm3)


def learning_rate(epoch: int, settings: TrainSettings) -> float:
    """Learning rate of an epoch, counted from 1; `paper` is the initial rate over the epoch."""
    if settings.learning_rate_decay == "paper":
        return settings.learning_rate / epoch
    if settings.learning_rate_decay == "cosine":
        turn = np.pi * (epoch - 1) / settings.epochs
        return float(settings.learning_rate * (0.02 + 0.98 * (1 + np.cos(turn)) / 2))
    return settings.learning_rate


def random_pose(sampler: SliceSampler, random: np.random.Generator) -> Pose:
    """Draw one transform of Algorithm 1, with a small change of size, mirrored or not.

    A share of the windows lies anywhere in the crop, so that bone elsewhere is learnt as
    background; the others lie around the target.
    """
    settings = sampler.settings
    if random.random() < settings.elsewhere:
        inside = random.uniform(0, np.array(sampler.grid.size) - 1.0)
        centre = sampler.grid.to_physical(inside[None])[0]
    else:
        centre = sampler.target_centre + random.normal(0, settings.translation_mm, 3)
    linear = random_rotation(settings.rotation_degrees, random)
    linear *= 1.0 + settings.scale * random.uniform(-1, 1)
    if settings.mirror and random.random() < 0.5:
        linear[:, 0] *= -1
    return Pose(centre, linear)


def random_rotation(degrees: float, random: np.random.Generator) -> NDArray[np.float64]:
    """Rotation matrix: normal about each axis with this deviation; 180 is uniform over SO(3)."""
    if degrees >= 180:
        quaternion = random.normal(size=4)
    else:
        vector = np.radians(random.normal(0, degrees, 3))
        angle = np.linalg.norm(vector) + 1e-12
        quaternion = np.array([np.cos(angle / 2), *(np.sin(angle / 2) * vector / angle)])
    w, x, y, z = quaternion / np.linalg.norm(quaternion)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def _train_epoch(
    network: UNet,
    optimiser: torch.optim.Optimizer,
    sampler: SliceSampler,
    random: np.random.Generator,
) -> float:
    network.train()
    losses = []
    for _ in range(sampler.settings.batches_per_epoch):
        images, targets = _random_batch(sampler, random)
        loss = training_loss(network(images), targets, sampler.settings)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        losses.append(float(loss.detach()))
    return float(np.mean(losses))


def training_loss(logits: Tensor, targets: Tensor, settings: TrainSettings) -> Tensor:
    """Binary cross-entropy, and the soft Dice overlap of the whole batch where it is asked for.

    The target fills less than a hundredth of the pixels: by cross-entropy alone a network that
    marks nothing is so good that some trainings never leave it.

    Args:
        logits: (n, 1, pixels, pixels) of the network.
        targets: the same shape, 0 or 1.
        settings: which loss.
    """
    loss = nn.functional.binary_cross_entropy_with_logits(logits, targets)
    if settings.loss == "cross_entropy":
        return loss
    marked = torch.sigmoid(logits)
    overlap = 2 * (marked * targets).sum() / (marked.sum() + targets.sum() + 1)
    return loss + 1 - overlap


def _random_batch(sampler: SliceSampler, random: np.random.Generator) -> tuple[Tensor, Tensor]:
    settings = sampler.settings
    half = settings.network.window_mm / 2
    images, targets = [], []
    for _ in range(settings.transforms_per_batch):
        pose = random_pose(sampler, random)
        contrast = 1.0 + settings.contrast * random.uniform(-1, 1)
        for axis in PLANES:
            offsets = random.uniform(-half, half, settings.slices_per_axis)
            image, target = sampler.cut(pose, axis, offsets)
            noise = random.normal(0, settings.noise, image.shape).astype(np.float32)
            images.append(image * contrast + torch.from_numpy(noise).to(image.device))
            targets.append(target)
    batch = torch.cat(images).clamp_(0, 1).contiguous(memory_format=torch.channels_last)
    return batch, torch.cat(targets)


def _validation_slices(sampler: SliceSampler) -> Iterator[tuple[Tensor, Tensor]]:
    """Slices of transforms that no seed changes, so that losses compare between runs."""
    random = np.random.default_rng(0)
    half = sampler.settings.network.window_mm / 2
    offsets = np.linspace(-half, half, 8)
    for _ in range(sampler.settings.validation_transforms):
        pose = random_pose(sampler, random)
        cuts = [sampler.cut(pose, axis, offsets) for axis in PLANES]
        yield torch.cat([image for image, _ in cuts]), torch.cat([target for _, target in cuts])


def _validate(network: UNet, slices: list[tuple[Tensor, Tensor]]) -> tuple[float, float]:
    """Mean loss, and Dice overlap at probability one half, over all validation slices."""
    network.eval()
    losses, overlap, sizes = [], 0.0, 0.0
    with torch.inference_mode():
        for images, targets in slices:
            logits = network(images)
            loss = nn.functional.binary_cross_entropy_with_logits(logits, targets)
            losses.append(float(loss))
            marked = (logits > 0).float()
            overlap += float((marked * targets).sum())
            sizes += float(marked.sum() + targets.sum())
    return float(np.mean(losses)), 2 * overlap / sizes if sizes else 0.0


def run(batch: Batch) -> None:
    """Train, and write weights, the epochs' losses and what was trained.

    Raises:
        InputError: no scan of the study can be used, or the network does not find the target even
            in the template.
    """
    torch.set_num_threads(batch.threads)
    require_result(batch.path("template_locate_record"), "template")
    require_a_scan(batch)
    settings, seed = batch.settings(TrainSettings), int(batch.values["seed"])
    region = read_written(batch.path("template_region"))
    device = best_device()
    target = resample(target_of(batch), grid_of(region), "nearest")
    trained = train(region, target, settings, seed, device)
    best = trained.epochs[trained.best_epoch - 1]
    if best.validation_dice < settings.least_dice:
        given = batch.path("template_target")
        picture = given.with_name(f"{given.name.partition('.')[0]}.png")
        raise InputError(
            f"training with seed {seed} ends at a Dice coefficient of "
            f"{best.validation_dice:.3f} in validation, expected at least "
            f"{settings.least_dice:g}: the network does not find the target even in the "
            f"template. Look at {picture}: where the target is wrong, give a segmentation; where "
            "it is right, train longer or with another seed or loss"
        )
    save_network(batch.path("weights"), trained.network, settings.network, trained.target_mm3)
    write_history(batch.path("history"), trained.epochs)
    summary = {
        "seed": seed,
        "threads": batch.threads,
        "device": device_name(device),
        "torch": torch.__version__,
        "best_epoch": trained.best_epoch,
        "converged": trained.converged,
        "target_mm3": round(trained.target_mm3, 3),
        "settings": batch.values["train"],
    }
    write_json(batch.path("training"), summary)
    logger.info(
        "epoch %d of %d is the best: validation loss %.4f, Dice %.3f",
        best.epoch,
        len(trained.epochs),
        best.validation_loss,
        best.validation_dice,
    )
