"""Weights of a network in one .npz file, without pickle, so that opening it runs no code."""

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from landmarkflow.core.errors import InputError
from landmarkflow.core.files import replacing

LARGEST_WEIGHTS_BYTES = 1 << 30


def save_weights(path: Path, network: nn.Module, description: Mapping[str, Any]) -> None:
    """Write a network's weights and a description of plain data, its architecture in `network`."""
    arrays = {name: value.cpu().numpy() for name, value in network.state_dict().items()}
    with replacing(path) as beside:
        np.savez(beside, description=np.array(json.dumps(description)), **arrays)


def load_weights(path: Path, network: nn.Module, architecture: Mapping[str, Any]) -> dict[str, Any]:
    """Read weights into a network.

    Args:
        path: a file of `save_weights`.
        network: of that architecture; it is changed.
        architecture: what the file's description must say under `network`.

    Returns:
        The description.

    Raises:
        InputError: the file is missing, damaged, or of another architecture.
    """
    description, arrays = _read(path)
    if description["network"] != architecture:
        raise InputError(
            f"{path}: holds a network of {description['network']}, expected {architecture}"
        )
    try:
        network.load_state_dict({name: torch.from_numpy(value) for name, value in arrays.items()})
    except (RuntimeError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: its weights do not fit its network ({reason})") from error
    return description


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
        if unpacked > LARGEST_WEIGHTS_BYTES:
            raise InputError(
                f"{path}: unpacks to {unpacked} bytes, expected the weights of a network of at "
                f"most {LARGEST_WEIGHTS_BYTES} bytes"
            )
        with np.load(path, allow_pickle=False) as stored:
            description = dict(json.loads(str(stored["description"])))
            arrays = {name: stored[name] for name in stored.files if name != "description"}
        description["network"]
    except (
        OSError, ValueError, KeyError, TypeError, EOFError, MemoryError, zipfile.BadZipFile
    ) as error:  # fmt: skip
        raise InputError(
            f"{path}: cannot be read as the weights of a network ({error}), expected a file that "
            "a training wrote"
        ) from error
    return description, arrays
