"""Find the landmarks of every picture of a batch."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from landmarkflow.core.errors import InputError
from landmarkflow.core.files import read_json
from landmarkflow.core.points import Landmarks, PointList
from landmarkflow.core.records import Record
from landmarkflow.engine.batch import Batch
from landmarkflow.engine.store import Task
from landmarkflow.formats.slicer import write_markups, write_steps
from landmarkflow.formats.volumes import read_volume
from landmarkflow.images.identity import Identity
from landmarkflow.learning.crops import Frame, Pyramid
from landmarkflow.learning.device import best_device, device_name
from landmarkflow.learning.radii import Radii
from landmarkflow.methods.zoomin.doubts import Limits, doubts
from landmarkflow.methods.zoomin.find import Found
from landmarkflow.methods.zoomin.gather import read_of
from landmarkflow.methods.zoomin.networks import finder_of, load_pairs
from landmarkflow.methods.zoomin.prepare import find_field, prepared
from landmarkflow.methods.zoomin.settings import GatherSettings, TrainSettings, ZoomSettings
from landmarkflow.methods.zoomin.shape import Shape

Array = NDArray[np.float64]

FINAL, COARSE = "final", "coarse"


def run(batch: Batch) -> None:
    """Search every picture by all networks; one that some of them saw, by the others."""
    torch.set_num_threads(batch.threads)
    settings, train = batch.settings(ZoomSettings), batch.settings(TrainSettings, "train")
    gather = batch.settings(GatherSettings, "gather")
    known, device = read_json(batch.path("calibration")), best_device()
    names, landmarks = known["networks"], tuple(known["landmarks"])
    pairs = load_pairs(
        batch.path("networks"),
        names,
        train=train,
        colours=known["colours"],
        landmarks=landmarks,
        device=device,
    )
    radii = Radii.of_data(known["radii"])
    limits = Limits.of_data(known["limits"])
    shapes = {name: Shape.of_data(data) for name, data in known["shapes"].items()}
    largest = int(batch.values["largest_gib"] * 2**30)

    def compute(task: Task) -> Record:
        try:
            picture = read_of(task.row["image"], largest)
            grey = read_volume(Path(task.row["image"]), largest)
        except InputError as error:
            return Record(task.scan, "zoom", "refused", str(error))
        field = find_field(picture, gather.field)
        shown = prepared(picture, field, gather.size, known["colours"])
        unseen = known["held_back_from"].get(task.scan) or names
        shape = shapes[unseen[0]]
        chosen = {name: pairs[name] for name in unseen}
        finder = finder_of(chosen, train, settings, device, shape)
        found = finder.find(Pyramid.of(torch.from_numpy(shown.channels)))
        frame = shown.frame
        places = frame.to_picture(found.positions)
        reasons = doubts(
            found,
            landmarks,
            shape,
            size=gather.size,
            depth=_depth(places, picture.shape[1], picture.shape[0]),
            limits=limits,
        )
        if gather.field == "round" and not field.certain:
            reasons.append("no round field was found: all that is bright was taken for it")
        lists = [
            PointList(FINAL, _named(landmarks, places), frame.scale * radii.of_scan(found.spread)),
            PointList(COARSE, _named(landmarks, frame.to_picture(found.coarse)), None),
        ]
        _write(task, lists)
        details = {
            "field": [round(value, 2) for value in (field.x, field.y, field.diameter)],
            "image": Identity.of(grey).as_record(),
            "networks": list(unseen),
            **_figures(found, frame, landmarks),
            "devices": [known["device"], device_name(device)],
        }
        return Record.judged(task.scan, "zoom", reasons, details)

    def write_missing(task: Task, record: Record) -> None:
        note = f"{record.stage} {record.status}: {record.reason}"
        nowhere = Landmarks(landmarks, np.full((len(landmarks), 3), np.nan))
        notes = (note,) * len(landmarks)
        _write(task, [PointList(name, nowhere, None, notes) for name in (FINAL, COARSE)])

    batch.run(
        compute, also={"threads": batch.threads, "device": device.type}, nothing=write_missing
    )


def _write(task: Task, lists: list[PointList]) -> None:
    """The final points in one file, those of the coarse look in another."""
    write_markups(task.outputs["landmarks"], lists[:1], "px", task.scan)
    write_steps(task.outputs["steps"], lists[1:], "px", task.scan)


def _named(landmarks: tuple[str, ...], places: Array) -> Landmarks:
    return Landmarks(landmarks, np.column_stack([places, np.zeros(len(places))]))


def _figures(found: Found, frame: Frame, landmarks: tuple[str, ...]) -> dict[str, Any]:
    """What the record says of an answer; lengths in pixels of the picture."""
    scale = frame.scale
    return {
        "frames": _corners(frame, found.regions),
        "hypotheses": dict(zip(landmarks, found.hypotheses.tolist(), strict=True)),
        "presence": _by_label(landmarks, found.presence),
        "spread": _by_label(landmarks, scale * found.spread),
        "elsewhere": _by_label(landmarks, found.elsewhere),
        "apart": _by_label(landmarks, scale * found.apart),
        "rival": _by_label(landmarks, found.rival),
    }


def _depth(places: Array, columns: int, rows: int) -> Array:
    """(k,) distance of places (k, 2) from the border of a picture, pixels; below 0 beyond it."""
    last = np.array([columns, rows]) - 0.5
    return np.asarray(np.minimum(places + 0.5, last - places).min(axis=1))


def _corners(frame: Frame, regions: Array) -> list[list[float]]:
    """x0, y0, x1, y1 of every region, pixels of the picture."""
    corners = frame.to_picture(regions.reshape(-1, 2, 2)).reshape(-1, 4)
    return [[round(float(value), 2) for value in row] for row in corners]


def _by_label(landmarks: tuple[str, ...], values: Array) -> dict[str, float]:
    rounded = (round(float(value), 4) for value in values)
    return dict(zip(landmarks, rounded, strict=True))
