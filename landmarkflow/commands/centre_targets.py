"""Centre the target in a batch of scans (Algorithm 2)."""

import argparse
from dataclasses import asdict

import numpy as np
import torch

from landmarkflow.core.records import Record, read_record
from landmarkflow.engine.arguments import (
    add_batch,
    add_paths,
    add_settings,
    as_json,
    read_settings,
    run_stage,
)
from landmarkflow.engine.batch import Task
from landmarkflow.formats.volumes import read_written, write_volume
from landmarkflow.methods.oneshot.centre import Localiser, centre
from landmarkflow.methods.oneshot.network import best_device, device_name, folded, load_network
from landmarkflow.methods.oneshot.settings import CentreSettings, NetworkSettings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_settings(parser)
    add_settings(parser, "network")
    parser.add_argument("--threads", required=True, type=int)
    parser.add_argument("--required", action="store_true", help="stop where a scan fails")
    add_paths(parser, "weights")
    add_batch(parser, ("region", "region_record"), ("centred", "probability", "record"))


def run(arguments: argparse.Namespace) -> None:
    """Centre every scan of the batch with one loading of the network."""
    torch.set_num_threads(arguments.threads)
    settings = read_settings(CentreSettings, arguments.settings)
    network_settings = read_settings(NetworkSettings, arguments.network)
    device = best_device()
    network, target_mm3 = load_network(arguments.weights, network_settings)
    localiser = Localiser(folded(network).to(device), network_settings, device, target_mm3)

    def compute(task: Task) -> Record:
        candidates = read_record(task.inputs["region_record"]).details["candidates"]
        centres = np.array([candidate["centre"] for candidate in candidates])
        found = centre(read_written(task.inputs["region"]), centres, localiser, settings)
        write_volume(found.crop, task.outputs["centred"])
        write_volume(found.probability, task.outputs["probability"])
        details = {
            "converged": found.converged,
            "steps": [asdict(step) for step in found.steps],
            "candidate": found.candidate,
            "candidate_mass_mm3": found.candidate_mass_mm3,
            "mass_mm3": found.mass_mm3,
            "device": device_name(device),
        }
        if found.converged:
            return Record(task.scan, "centre", details=details)
        reason = (
            f"not converged after {len(found.steps)} iterations; the last moved the centre by "
            f"{found.steps[-1].move_mm:.2f} mm"
        )
        return Record(task.scan, "centre", "doubtful", reason, details)

    run_stage(
        arguments,
        "centre",
        __name__,
        compute,
        shared={
            "settings": as_json(settings),
            "weights": arguments.weights,
            "threads": arguments.threads,
            "device": device.type,
        },
        after="region_record",
        required=arguments.required,
    )
