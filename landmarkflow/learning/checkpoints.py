"""A training's state in one file without pickle, so that a killed training goes on where it was."""

import hashlib
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from landmarkflow.core.files import replacing, sha256
from landmarkflow.core.settings import Settings

NETWORK, OPTIMISER, MEMO = "network", "optimiser", "memo"


def checkpoint_of(weights: Path, name: str, settings: Settings, decides: Sequence[object]) -> Path:
    """A checkpoint beside the weights, named by all that decides them.

    Args:
        weights: file of the weights.
        name: of the network.
        settings: of the training.
        decides: numbers, and files whose content counts.
    """
    read = [sha256(one) if isinstance(one, Path) else one for one in decides]
    made_by = json.dumps([settings.model_dump(mode="json"), read])
    return weights.with_name(f".{name}.{hashlib.sha256(made_by.encode()).hexdigest()[:16]}.npz")


def discard_checkpoints(weights: Path, name: str) -> None:
    """Delete the checkpoints of a network whose weights are written."""
    for left in weights.parent.glob(f".{name}.*.npz"):
        left.unlink()


def save_checkpoint(
    path: Path, network: nn.Module, optimiser: torch.optim.Optimizer, memo: dict[str, Any]
) -> None:
    """Write weights, the optimiser's state and plain data, replacing `path` as a whole."""
    arrays = {f"{NETWORK}/{k}": v.cpu().numpy() for k, v in network.state_dict().items()}
    for number, state in optimiser.state_dict()["state"].items():
        for key, value in state.items():
            tensor = value if isinstance(value, Tensor) else torch.tensor(value)
            arrays[f"{OPTIMISER}/{number}/{key}"] = tensor.cpu().numpy()
    with replacing(path) as beside, beside.open("wb") as file:
        np.savez(file, **{MEMO: np.array(json.dumps(memo))}, **arrays)  # type: ignore[arg-type]


def load_checkpoint(path: Path, network: nn.Module) -> dict[str, Any] | None:
    """Read a checkpoint's weights into a network, made as it was when it was written.

    Returns:
        Its plain data; None where there is no file, or one that is damaged or of another network,
        which leaves the network as it is.
    """
    try:
        memo, arrays = _read(path)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    start = f"{NETWORK}/"
    weights = {k.removeprefix(start): v for k, v in arrays.items() if k.startswith(start)}
    own = network.state_dict()
    if {k: v.shape for k, v in own.items()} != {k: v.shape for k, v in weights.items()}:
        return None
    network.load_state_dict(weights)
    return memo


def load_optimiser(path: Path, optimiser: torch.optim.Optimizer) -> None:
    """Read a checkpoint's state into an optimiser of the same parameters."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in _read(path)[1].items():
        kind, _, rest = name.partition("/")
        if kind == OPTIMISER:
            number, _, key = rest.partition("/")
            state.setdefault(int(number), {})[key] = value
    groups = optimiser.state_dict()["param_groups"]
    optimiser.load_state_dict({"state": state, "param_groups": groups})


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    with np.load(path, allow_pickle=False) as stored:
        memo = dict(json.loads(str(stored[MEMO])))
        return memo, {n: torch.from_numpy(stored[n]) for n in stored.files if n != MEMO}
