"""What made a run: its method, seed, settings, steps, devices and versions."""

from importlib.metadata import version

from landmarkflow.core.files import write_json
from landmarkflow.core.records import read_record
from landmarkflow.engine.batch import Batch

# Packages whose version can change a result.
DECISIVE = ("numpy", "scipy", "simpleitk", "itk-elastix", "torch")


def run(batch: Batch) -> None:
    """Write made.json: what the study states of the run, and the devices that its records name."""
    found = [read_record(path).details.get("devices", []) for path in batch.paths("record")]
    devices = sorted({device for devices in found for device in devices})
    versions = {name: version(name) for name in DECISIVE}
    write_json(batch.path("made"), {**batch.values["run"], "device": devices, "versions": versions})
