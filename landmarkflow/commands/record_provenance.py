"""Write what made a study's results: settings, inputs, code, packages, machine and devices."""

import argparse
import csv
import json
import pkgutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from landmarkflow import commands
from landmarkflow.core.code_hash import code_hash
from landmarkflow.core.files import read_json, write_json, write_text
from landmarkflow.core.machine import machine, packages, repository
from landmarkflow.core.records import read_record
from landmarkflow.engine.arguments import add_paths

CONFIG_HEAD = "# Every setting of the run that made these results; for `snakemake --configfile`.\n"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--study", required=True, metavar="JSON", help="every setting")
    parser.add_argument("--centred", required=True, nargs="+", type=Path, metavar="RECORD")
    add_paths(parser, "training", "checksums", "config", "provenance")


def run(arguments: argparse.Namespace) -> None:
    """Write the settings as YAML, and everything as JSON."""
    config = json.loads(arguments.study)
    training = read_json(arguments.training)
    with arguments.checksums.open(encoding="utf-8", newline="") as file:
        inputs = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    names = sorted(m.name for m in pkgutil.iter_modules(commands.__path__))
    record = {
        "study": config["study"],
        "seeds": _seeds(config),
        "devices": {
            "training": training["device"],
            "centring": sorted(set(_devices(arguments.centred))),
            "torch": training["torch"],
        },
        "code": {
            **repository(),
            "commands": {name: code_hash(f"{commands.__name__}.{name}") for name in names},
        },
        "machine": machine(),
        "packages": packages(),
        "inputs": inputs,
        "config": config,
    }
    text = yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
    write_text(arguments.config, CONFIG_HEAD + text)
    write_json(arguments.provenance, record)


def _seeds(config: dict[str, Any]) -> dict[str, int]:
    """The study's seed, and that of the scans where they are simulated."""
    data = config["data"]
    seeds = {"study": config["seed"]}
    if data["cohort"] and not data["folder"]:
        seeds["cohort"] = data["cohort"]["seed"]
    return seeds


def _devices(records: Sequence[Path]) -> list[str]:
    """Devices that centred the scans; one that was not centred has none."""
    details = [read_record(path).details for path in records]
    return [entry["device"] for entry in details if "device" in entry]
