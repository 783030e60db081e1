"""Where people would look at each picture of a batch: its map, and features of every level."""

from pathlib import Path

import numpy as np
import torch

from landmarkflow.core.errors import InputError
from landmarkflow.core.files import replacing
from landmarkflow.core.records import Record
from landmarkflow.data.splits import read_splits
from landmarkflow.engine.batch import Batch
from landmarkflow.engine.store import Task
from landmarkflow.learning.device import best_device, device_name
from landmarkflow.learning.folds import networks
from landmarkflow.methods.salient.familiar import flatness
from landmarkflow.methods.salient.frames import Frame
from landmarkflow.methods.salient.gaze import colours_of
from landmarkflow.methods.salient.maps import save_seen, softened
from landmarkflow.methods.salient.network import load_networks
from landmarkflow.methods.salient.see import at_scales, see
from landmarkflow.methods.salient.settings import (
    ClusterSettings,
    GazeSettings,
    PredictSettings,
    TrainSettings,
)


def run(batch: Batch) -> None:
    """Predict every picture by all networks; one that some of them saw, by that of its fold."""
    torch.set_num_threads(batch.threads)
    settings = batch.settings(PredictSettings)
    train, gaze = batch.settings(TrainSettings, "train"), batch.settings(GazeSettings, "gaze")
    names, device = networks(int(batch.values["folds"])), best_device()
    known = load_networks(batch.path("networks"), names, train, gaze, device)
    views = batch.settings(ClusterSettings, "cluster").views
    splits = read_splits(batch.path("splits"))
    largest = int(batch.values["largest_gib"] * 2**30)

    def compute(task: Task) -> Record:
        try:
            picture = colours_of(Path(task.row["image"]), largest)
        except InputError as error:
            return Record(task.scan, "predict", "refused", str(error))
        height, width = picture.shape[:2]
        frame = Frame.of(width, height, gaze)
        fold = splits[task.scan].fold if task.scan in splits else 0
        chosen = [f"fold-{fold}"] if fold else list(names)
        seen = see(
            [known[name] for name in chosen],
            frame,
            frame.fitted(picture),
            device,
            mirror=settings.mirror,
            views=views,
        )
        further = at_scales(
            [known[name] for name in chosen],
            picture,
            gaze,
            settings.scales,
            device,
            mirror=settings.mirror,
        )
        mean = np.stack([seen.saliency.astype(np.float64), *further]).mean(axis=0)
        saliency = softened(mean, settings, gaze.stride)
        with replacing(task.outputs["saliency"]) as beside, beside.open("wb") as file:
            np.save(file, saliency.astype(np.float32))
        save_seen(task.outputs["features"], seen)
        details = {
            "networks": chosen,
            "frame": vars(frame),
            "flatness": round(flatness(seen.saliency), 6),
            "pixels_per_cell": round(frame.pixels_per_cell, 6),
            "device": device_name(device),
        }
        return Record(task.scan, "predict", details=details)

    batch.run(compute, also={"threads": batch.threads, "device": device.type})
