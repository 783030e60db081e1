"""Find landmarks and labels in every scan of a batch."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch
from numpy.typing import NDArray
from torch import nn

from landmarkflow.core.errors import InputError, ScanFailure
from landmarkflow.core.files import read_json
from landmarkflow.core.grids import Grid
from landmarkflow.core.points import Landmarks, PointList
from landmarkflow.core.records import Record
from landmarkflow.core.sides import flips_of, side_shown
from landmarkflow.engine.batch import Batch
from landmarkflow.engine.store import Task
from landmarkflow.formats.slicer import write_markups, write_steps
from landmarkflow.formats.volumes import read_volume
from landmarkflow.formats.written import write_volume
from landmarkflow.images.extent import Extent
from landmarkflow.images.identity import Identity
from landmarkflow.images.operations import MIRROR, array_of, grid_of, image_on, mirrored
from landmarkflow.images.sampling import resample
from landmarkflow.learning.device import best_device, device_name
from landmarkflow.learning.radii import Radii
from landmarkflow.methods.dualhead.doubts import doubts
from landmarkflow.methods.dualhead.examples import Statistics
from landmarkflow.methods.dualhead.find import Finder, Found, finder_of
from landmarkflow.methods.dualhead.network import load_networks
from landmarkflow.methods.dualhead.settings import PredictSettings, TrainSettings
from landmarkflow.methods.dualhead.views import View

Array = NDArray[np.float64]

FINAL, FINE, COARSE = "final", "fine", "coarse"
LISTS = (FINAL, FINE, COARSE)
# Of a scan whose side is not stated, the other side is a doubt from this share of the evidence on.
OTHER_SIDE = 0.9
NOT_LEARNED = "this run learns no landmarks"


@dataclass(frozen=True)
class Answered:
    """An answer in the scan's own frame: what was found, and whether it was seen mirrored."""

    found: Found
    mirrored: bool
    doubts: tuple[str, ...]


def segmented(found: Found, labels: tuple[int, ...], scan: Grid) -> sitk.Image:
    """The labels of a fine answer on a scan's grid: uint8, or uint16 where a label is above 255.

    Args:
        found: of the fine pass, in the frame of the grid.
        labels: value of each class but the background.
        scan: the grid.
    """
    answer, wide = found.answer, max(labels) > 255
    whole = np.zeros(scan.size[::-1], np.uint16 if wide else np.uint8)
    index = scan.to_index(answer.grid.corners)
    first = np.maximum(np.floor(index.min(axis=0)), 0).astype(int)
    last = np.minimum(np.ceil(index.max(axis=0)), np.array(scan.size) - 1).astype(int)
    if (last < first).any() or not found.kept.any():
        return image_on(scan, whole)
    origin = scan.to_physical(first[None].astype(np.float64))[0]
    sizes = last - first + 1
    part = Grid((int(sizes[0]), int(sizes[1]), int(sizes[2])), scan.spacing, origin, scan.direction)
    # Labels of other pieces are background; a label's probabilities go on beyond its piece, or
    # the surface would move inwards.
    near = array_of(sitk.BinaryDilate(image_on(answer.grid, found.kept), [2, 2, 2])) > 0
    best, chosen = np.full(part.size[::-1], -np.inf, np.float32), np.zeros(part.size[::-1], int)
    for number, probability in enumerate(answer.labels):
        kept = np.where(near, probability, 1.0 if number == 0 else 0.0).astype(np.float32)
        outside = 1.0 if number == 0 else 0.0
        here = array_of(resample(image_on(answer.grid, kept), part, "linear", outside))
        chosen[here > best] = number
        best = np.maximum(best, here)
    x, y, z = (slice(a, b + 1) for a, b in zip(first, last, strict=True))
    whole[z, y, x] = np.array([0, *labels])[chosen]
    return image_on(scan, whole)


def answer(finder: Finder, view: View, flips: tuple[bool, ...]) -> Answered:
    """Search a scan as it is, mirrored, or both ways, and take that with more evidence.

    Raises:
        ScanFailure: no way shows the target.
    """
    tried: list[Answered] = []
    failure: ScanFailure | None = None
    for flip in flips:
        seen = View(mirrored(view.image), view.low, view.high) if flip else view
        try:
            tried.append(Answered(finder.find(seen), flip, ()))
        except ScanFailure as error:
            failure = failure or error
    if not tried:
        assert failure is not None
        raise failure
    tried.sort(key=lambda one: -_sureness(one.found))
    best = tried[0]
    if len(tried) > 1 and _sureness(tried[1].found) >= OTHER_SIDE * _sureness(best.found):
        said = "the scan's side is not stated, and it looks alike mirrored and not"
        return Answered(best.found, best.mirrored, (said,))
    return best


def _sureness(found: Found) -> float:
    """Evidence of the passes: of the place, and of the landmarks in it."""
    there = float(found.presence.mean()) if len(found.presence) else 1.0
    clear = float(1 - found.elsewhere.mean()) if len(found.elsewhere) else 1.0
    return found.evidence * there * clear


def run(batch: Batch) -> None:
    """Predict every scan by all networks; one that some of them saw, by the others."""
    torch.set_num_threads(batch.threads)
    settings, train = batch.settings(PredictSettings), batch.settings(TrainSettings, "train")
    known, device = read_json(batch.path("calibration")), best_device()
    names, labels, landmarks = known["networks"], tuple(known["labels"]), tuple(known["landmarks"])
    by_fold = load_networks(
        batch.path("networks"),
        names,
        settings=train,
        labels=labels,
        landmarks=landmarks,
        device=device,
    )
    statistics, radii = Statistics.of_data(known["statistics"]), Radii.of_data(known["radii"])
    spacings = (float(known["spacings_mm"][0]), float(known["spacings_mm"][1]))
    largest = int(batch.values["largest_gib"] * 2**30)

    def finder(chosen: Mapping[str, nn.ModuleDict]) -> Finder:
        return finder_of(
            chosen,
            train=train,
            predict=settings,
            spacings=spacings,
            statistics=statistics,
            template=np.array(known["template_mm"]),
            device=device,
        )

    def compute(task: Task) -> Record:
        try:
            scan = read_volume(Path(task.row["image"]), largest, task.row["series"])
        except InputError as error:
            return Record(task.scan, "predict", "refused", str(error))
        unseen = known["held_back_from"].get(task.scan) or names
        chosen = {name: by_fold[name] for name in unseen}
        view = View(scan, known["low"], known["high"])
        flips = flips_of(task.row["side"], known["side"])
        # One network tells the side: all of them would take twice as long.
        first = {unseen[0]: by_fold[unseen[0]]} if len(flips) > 1 else chosen
        answered = answer(finder(first), view, flips)
        unsure = answered.doubts
        if len(first) < len(chosen):
            answered = answer(finder(chosen), view, (answered.mirrored,))
        found = answered.found
        extent = Extent(grid_of(scan))
        seen = extent.mirrored() if answered.mirrored else extent
        reasons = [*unsure, *doubts(found, landmarks, statistics, seen, settings)]
        radius = radii.of_scan(found.spread_mm) if len(found.positions) else None
        _write(task, _lists(answered, landmarks, radius))
        if "found" in task.outputs:
            marked = segmented(found, labels, seen.grid)
            write_volume(mirrored(marked) if answered.mirrored else marked, task.outputs["found"])
        details = {
            "evidence": round(found.evidence, 4),
            "places": len(found.candidates),
            "side": side_shown(known["side"], mirrored=answered.mirrored),
            "mirrored": answered.mirrored,
            "image": Identity.of(scan).as_record(),
            "networks": list(chosen),
            "presence": _by_label(landmarks, found.presence),
            "spread_mm": _by_label(landmarks, found.spread_mm),
            "elsewhere": _by_label(landmarks, found.elsewhere),
            "apart_mm": _by_label(landmarks, found.apart_mm),
            "volume_mm3": round(found.volume_mm3, 2),
            "devices": [known["device"], device_name(device)],
        }
        return Record.judged(task.scan, "predict", reasons, details)

    def write_missing(task: Task, record: Record) -> None:
        note = f"{record.stage} {record.status}: {record.reason}"
        _write(task, [_nowhere(name, landmarks, note) for name in LISTS])

    batch.run(
        compute, also={"threads": batch.threads, "device": device.type}, nothing=write_missing
    )


def _write(task: Task, lists: list[PointList]) -> None:
    """The final points in one file, those of the earlier passes in another."""
    write_markups(task.outputs["landmarks"], lists[:1], scan=task.scan)
    write_steps(task.outputs["steps"], lists[1:], scan=task.scan)


def _lists(answered: Answered, landmarks: tuple[str, ...], radius: Array | None) -> list[PointList]:
    found = answered.found
    if not len(found.positions):
        return [_nowhere(name, landmarks, NOT_LEARNED) for name in LISTS]
    sign = MIRROR if answered.mirrored else np.ones(3)
    final = Landmarks(landmarks, found.positions * sign)
    earlier = {FINE: found.fine, COARSE: found.coarse}
    return [
        PointList(FINAL, final, radius),
        *(PointList(name, Landmarks(landmarks, at * sign), None) for name, at in earlier.items()),
    ]


def _nowhere(name: str, landmarks: tuple[str, ...], note: str) -> PointList:
    places = Landmarks(landmarks, np.full((len(landmarks), 3), np.nan))
    return PointList(name, places, None, (note,) * len(landmarks))


def _by_label(landmarks: tuple[str, ...], values: Array) -> dict[str, float]:
    rounded = (round(float(value), 4) for value in values)
    return dict(zip(landmarks, rounded, strict=False))
