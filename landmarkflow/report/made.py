"""What made a run: its method, seed, settings, steps, devices and versions."""

from landmarkflow.core.files import write_json
from landmarkflow.core.machine import packages
from landmarkflow.core.records import read_record
from landmarkflow.engine.batch import Batch

# Packages whose version can change a result.
DECISIVE = ("numpy", "scipy", "simpleitk", "itk-elastix", "torch")


def run(batch: Batch) -> None:
    """Write made.json: what the study states of the run, and the devices that its records name."""
    found = [read_record(path).details.get("devices", []) for path in batch.paths("record")]
    devices = sorted({device for devices in found for device in devices})
    # A rule's own environment has just the packages that it needs.
    versions = {name: number for name, number in packages().items() if name in DECISIVE}
    write_json(batch.path("made"), {**batch.values["run"], "device": devices, "versions": versions})
