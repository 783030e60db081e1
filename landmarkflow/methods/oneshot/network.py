"""The 2D U-Net that marks the target in a slice, and its file."""

import json
import zipfile
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from landmarkflow.core.errors import InputError
from landmarkflow.core.files import replacing
from landmarkflow.methods.oneshot.settings import NetworkSettings

SLICES_AT_ONCE = 32
LARGEST_WEIGHTS_BYTES = 1 << 30


class UNet(nn.Module):
    """2D U-Net (Figure 1): (n, 1, pixels, pixels) intensities to (n, 1, pixels, pixels) logits."""

    def __init__(self, settings: NetworkSettings) -> None:
        super().__init__()
        widths = [settings.channels * 2**level for level in range(settings.levels)]
        self.down = nn.ModuleList(
            _convolutions(before, after, settings)
            for before, after in zip([1, *widths[:-1]], widths, strict=True)
        )
        self.up = nn.ModuleList(
            _convolutions(below + here, here, settings)
            for here, below in zip(widths[-2::-1], widths[:0:-1], strict=True)
        )
        self.last = nn.Conv2d(widths[0], 1, kernel_size=3, padding=1)

    def forward(self, slices: Tensor) -> Tensor:
        """Return the logit of the target in every pixel."""
        skipped: list[Tensor] = []
        features = slices
        for level, block in enumerate(self.down):
            if level:
                features = nn.functional.max_pool2d(features, 2)
            features = block(features)
            skipped.append(features)
        for block, skip in zip(self.up, skipped[-2::-1], strict=True):
            raised = nn.functional.interpolate(features, scale_factor=2.0, mode="nearest")
            features = block(torch.cat([raised, skip], dim=1))
        logits: Tensor = self.last(features)
        return logits


def _convolutions(before: int, after: int, settings: NetworkSettings) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in [before] + [after] * (settings.convolutions - 1):
        layers.append(nn.Conv2d(channels, after, 3, padding=1, bias=not settings.batch_norm))
        if settings.batch_norm:
            layers.append(nn.BatchNorm2d(after))
        layers.append(nn.ReLU(inplace=True))
    if settings.dropout:
        layers.append(nn.Dropout2d(settings.dropout))
    return nn.Sequential(*layers)


def folded(network: UNet) -> UNet:
    """Fold each batch normalisation into the convolution before it: an eighth less time.

    Args:
        network: in evaluation mode; it is changed, and good for prediction alone.
    """
    for block in (*network.down, *network.up):
        for number, (before, after) in enumerate(pairwise(block)):
            if isinstance(before, nn.Conv2d) and isinstance(after, nn.BatchNorm2d):
                block[number] = fuse_conv_bn_eval(before, after)
                block[number + 1] = nn.Identity()
    return channels_last(network)


def channels_last(network: UNet) -> UNet:
    """Lay the weights out with the channels last: convolutions on a CPU are faster so."""
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def best_device() -> torch.device:
    """CUDA when there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def device_name(device: torch.device) -> str:
    """Name of a GPU as its driver has it, or `cpu`."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def save_network(path: Path, network: UNet, settings: NetworkSettings, target_mm3: float) -> None:
    """Write weights, architecture and the target's volume (mm³) to one .npz, without pickle."""
    description = {"network": settings.model_dump(mode="json"), "target_mm3": target_mm3}
    arrays = {name: value.cpu().numpy() for name, value in network.state_dict().items()}
    with replacing(path) as beside:
        np.savez(beside, description=np.array(json.dumps(description)), **arrays)


def load_network(path: Path, settings: NetworkSettings) -> tuple[UNet, float]:
    """Read a network in evaluation mode and the volume of the target it was trained on (mm³).

    Raises:
        InputError: the file is missing, damaged, or of another architecture.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
        if unpacked > LARGEST_WEIGHTS_BYTES:
            raise InputError(
                f"{path}: unpacks to {unpacked} bytes, expected the weights of a network of at "
                f"most {LARGEST_WEIGHTS_BYTES} bytes"
            )
        with np.load(path, allow_pickle=False) as stored:
            description = json.loads(str(stored["description"]))
            arrays = {name: stored[name] for name in stored.files if name != "description"}
        architecture, target_mm3 = description["network"], float(description["target_mm3"])
    except (
        OSError, ValueError, KeyError, TypeError, EOFError, MemoryError, zipfile.BadZipFile
    ) as error:  # fmt: skip
        raise InputError(
            f"{path}: cannot be read as the weights of a network ({error}), expected a file that "
            "train_network wrote"
        ) from error
    if architecture != settings.model_dump(mode="json"):
        raise InputError(
            f"{path}: holds a network of {architecture}, "
            f"expected {settings.model_dump(mode='json')}"
        )
    network = UNet(settings)
    try:
        network.load_state_dict({name: torch.from_numpy(value) for name, value in arrays.items()})
    except (RuntimeError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: its weights do not fit its network ({reason})") from error
    return channels_last(network).eval(), target_mm3


def predict_slices(
    network: UNet, slices: NDArray[np.float32], device: torch.device
) -> NDArray[np.float32]:
    """Probability of the target in a stack of slices, (n, pixels, pixels) to the same shape."""
    with torch.inference_mode():
        stack = torch.from_numpy(slices)[:, None].to(device)
        # A few slices at a time stay in a processor's cache, which is worth a factor of two.
        parts = torch.split(stack, len(stack) if device.type == "cuda" else SLICES_AT_ONCE)
        logits = [network(part.contiguous(memory_format=torch.channels_last)) for part in parts]
        probability: NDArray[np.float32] = torch.sigmoid(torch.cat(logits))[:, 0].cpu().numpy()
    return probability
