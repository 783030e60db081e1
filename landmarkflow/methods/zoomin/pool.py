"""Put the misses of the coarse branches of all folds in one file."""

from landmarkflow.core.files import read_json, write_json
from landmarkflow.engine.batch import Batch


def run(batch: Batch) -> None:
    """Copy what every fold's branch missed in pictures that it never saw."""
    measured = [read_json(batch.path("misses", name)) for name in batch.scans]
    write_json(batch.path("pooled"), {"networks": measured})
