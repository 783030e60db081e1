"""Landmarks in hundreds of scans from one annotated scan, as a reproducible Snakemake pipeline."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from landmarkflow.packs.model import Model


def load(path: str | Path) -> "Model":
    """Open a pack, a finished run in one file, to find landmarks in further scans.

    ```python
    model = landmarkflow.load("ear.lmk")
    found = model.detect("scan.nii.gz")
    print(found.status, dict(zip(found.landmarks.labels, found.landmarks.positions)))
    ```

    Raises:
        InputError: the file is none, damaged, or one that this program cannot use.
    """
    # What a job imports it need not wait for.
    from landmarkflow.packs.model import Model  # noqa: PLC0415

    return Model(path)
