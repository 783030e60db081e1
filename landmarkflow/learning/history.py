"""The history of a training as a table, one row an epoch."""

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from landmarkflow.core.files import write_text


def write_history(path: Path, epochs: Sequence[Any]) -> None:
    """Write epochs, all of one dataclass with a field `epoch`, as CSV with six digits."""
    text = io.StringIO()
    rows = [asdict(epoch) for epoch in epochs]
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()})
    write_text(path, text.getvalue())
