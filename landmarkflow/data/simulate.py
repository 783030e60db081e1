"""Simulate one scan or picture of a cohort, with its truth."""

import csv
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from PIL import Image

from landmarkflow.cohorts.fetal_head import simulate_fetal_head
from landmarkflow.cohorts.fetal_head_settings import FetalHeadSettings
from landmarkflow.cohorts.fundus import simulate_fundus
from landmarkflow.cohorts.fundus_settings import FundusSettings
from landmarkflow.cohorts.mr_head import simulate_mr_head
from landmarkflow.cohorts.mr_head_settings import MrHeadSettings
from landmarkflow.cohorts.picture import LOOK_COLUMNS, Picture
from landmarkflow.cohorts.settings import CohortSettings
from landmarkflow.cohorts.simulate import Subject, simulate_subject
from landmarkflow.core.files import replacing, write_text
from landmarkflow.core.points import PointList
from landmarkflow.core.settings import Settings
from landmarkflow.engine.batch import Batch
from landmarkflow.formats.slicer import write_markups
from landmarkflow.formats.tables import write_points_csv
from landmarkflow.formats.written import write_volume

# Of a place where somebody looked, in pixels.
DECIMALS = 3


@dataclass(frozen=True)
class Simulator:
    """How a kind of pictures is simulated: by its settings, the cohort's seed and a number."""

    settings: type[Settings]
    simulate: Callable[[Any, int, int], Picture]


@dataclass(frozen=True)
class VolumeSimulator:
    """How a kind of scans is simulated: by its settings, the cohort's seed and a number."""

    settings: type[Settings]
    simulate: Callable[[Any, int, int], Subject]


VOLUMES: Mapping[str, VolumeSimulator] = {
    "ear": VolumeSimulator(CohortSettings, simulate_subject),
    "mr_head": VolumeSimulator(MrHeadSettings, simulate_mr_head),
}
SIMULATORS: Mapping[str, Simulator] = {
    "fundus": Simulator(FundusSettings, simulate_fundus),
    "fetal_head": Simulator(FetalHeadSettings, simulate_fetal_head),
}


def run(batch: Batch) -> None:
    """Simulate and write; subject 0 is the template."""
    asked = batch.values["simulate"]
    (scan,) = batch.scans
    if asked["pictures"]:
        simulator = SIMULATORS[asked["kind"]]
        settings = simulator.settings.model_validate(asked["settings"])
        picture = simulator.simulate(settings, asked["seed"], asked["number"])
        _write_picture(batch, scan, picture)
        return
    volumes = VOLUMES[asked["kind"]]
    anatomy = volumes.settings.model_validate(asked["settings"])
    subject = volumes.simulate(anatomy, asked["seed"], asked["number"])
    write_volume(subject.scan, batch.path("image", scan))
    write_volume(subject.segmentation, batch.path("segmentation", scan))
    found = PointList("reference", subject.landmarks, None)
    write_markups(batch.path("landmarks", scan), [found])


def _write_picture(batch: Batch, scan: str, picture: Picture) -> None:
    with replacing(batch.path("picture", scan)) as beside:
        Image.fromarray(picture.image).save(beside, format="PNG")
    write_points_csv(batch.path("marks", scan), picture.landmarks)
    if batch.values["simulate"]["gaze"]:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(LOOK_COLUMNS)
        for observer, x, y, duration, order in picture.gaze:
            row = [f"{value:.{DECIMALS}f}" for value in (x, y)]
            writer.writerow([scan, observer, *row, f"{duration:g}", order])
        write_text(batch.path("gaze", scan), text.getvalue())
