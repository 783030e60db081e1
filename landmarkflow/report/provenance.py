"""What made a study's results: settings, inputs, code, packages and machine."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from landmarkflow.core.code_hash import code_hash
from landmarkflow.core.files import read_json, sha256, write_json, write_text
from landmarkflow.core.machine import machine, packages, repository
from landmarkflow.engine.batch import Batch
from landmarkflow.engine.store import Task

CONFIG_HEAD = "# Every setting of the run that made these results; for `snakemake --configfile`.\n"


def run(batch: Batch) -> None:
    """Write the settings as YAML, and everything as JSON."""
    config = batch.values["study"]
    made = {run: read_json(batch.places.path("{of}/made.json", of=run)) for run in batch.runs}
    seeds = {f"run {run}": facts["seed"] for run, facts in made.items()}
    if config["data"]["cohort"] and not config["data"]["folder"]:
        seeds["scans"] = config["data"]["cohort"]["seed"]
    commands = {name: code_hash(module) for name, module in batch.values["modules"]}
    record = {
        "study": config["study"],
        "seeds": seeds,
        "devices": {run: facts["device"] for run, facts in made.items()},
        "code": {**repository(), "commands": commands},
        "machine": machine(),
        "packages": packages(),
        "inputs": [row for task in batch.tasks for row in _inputs(task)],
        "config": config,
    }
    text = yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
    write_text(batch.path("config"), CONFIG_HEAD + text)
    write_json(batch.path("provenance"), record)


def _inputs(task: Task) -> Iterator[dict[str, Any]]:
    """A row for every file that the study was given of a scan."""
    digest = read_json(task.inputs["scans_record"])["sha256"]
    yield {"scan": task.scan, "role": "image", "path": task.row["image"], "sha256": digest}
    for role in ("landmarks", "segmentation"):
        path = Path(task.row[role])
        if task.row[role]:
            yield {"scan": task.scan, "role": role, "path": str(path), "sha256": sha256(path)}
