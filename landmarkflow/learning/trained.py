"""What is said of a training when it is done, and of the scans that were held back from it."""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from landmarkflow.core.files import table_text, write_json, write_text
from landmarkflow.learning.device import device_name
from landmarkflow.learning.folds import Folded
from landmarkflow.learning.precision import Precision, uses_bfloat16


def write_training(
    path: Path,
    network: str,
    *,
    made_by: Mapping[str, Any],
    device: torch.device,
    precision: Precision,
    learned: Iterable[Folded],
    held: Iterable[Folded],
) -> None:
    """Write what made a network: fold, seed, threads, device, numbers, and which scans it saw.

    Args:
        path: the JSON file.
        network: its name.
        made_by: what else is to be said, in its order.
        device: that it was trained on.
        precision: that the settings asked for.
        learned: scans that it learned from.
        held: scans that it never saw.
    """
    facts = {
        "network": network,
        **made_by,
        "device": device_name(device),
        "bfloat16": uses_bfloat16(device, precision),
        "torch": torch.__version__,
        "learned_from": [one.scan for one in learned],
        "held_back": [one.scan for one in held],
    }
    write_json(path, facts)


def write_held_back(
    path: Path,
    columns: Sequence[str],
    landmarks: Sequence[str],
    measured: Iterable[tuple[str, str, NDArray[np.float64]]],
) -> None:
    """Write what was found in scans held back as CSV, a row a landmark, with four decimals.

    Args:
        path: the table.
        columns: `scan`, `network`, `landmark`, and names of the figures.
        landmarks: k names.
        measured: of each scan its id, the networks, and (k, figures); NaN for an empty cell.
    """
    rows: list[Sequence[str]] = [columns]
    for scan, network, figures in measured:
        for label, row in zip(landmarks, figures, strict=True):
            numbers = ["" if math.isnan(value) else f"{value:.4f}" for value in row]
            rows.append([scan, network, label, *numbers])
    write_text(path, table_text(rows))
