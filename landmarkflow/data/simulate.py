"""Simulate one scan or picture of a cohort, with its truth."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

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
from landmarkflow.core.files import replacing, table_text, write_text
from landmarkflow.core.points import PointList
from landmarkflow.core.settings import Settings
from landmarkflow.engine.batch import Batch
from landmarkflow.formats.slicer import write_markups
from landmarkflow.formats.tables import write_points_csv
from landmarkflow.formats.written import write_volume

# Of a place where somebody looked, in pixels.
DECIMALS = 3


Made = TypeVar("Made", Picture, Subject)


@dataclass(frozen=True)
class Simulator(Generic[Made]):
    """How a kind is simulated: by its settings, the cohort's seed and a number."""

    settings: type[Settings]
    simulate: Callable[[Any, int, int], Made]

    def make(self, asked: Mapping[str, Any]) -> Made:
        """The scan or picture that a cohort asks for."""
        settings = self.settings.model_validate(asked["settings"])
        return self.simulate(settings, asked["seed"], asked["number"])


VOLUMES: Mapping[str, Simulator[Subject]] = {
    "ear": Simulator(CohortSettings, simulate_subject),
    "mr_head": Simulator(MrHeadSettings, simulate_mr_head),
}
SIMULATORS: Mapping[str, Simulator[Picture]] = {
    "fundus": Simulator(FundusSettings, simulate_fundus),
    "fetal_head": Simulator(FetalHeadSettings, simulate_fetal_head),
}


def run(batch: Batch) -> None:
    """Simulate and write; subject 0 is the template."""
    asked = batch.values["simulate"]
    (scan,) = batch.scans
    if asked["pictures"]:
        _write_picture(batch, scan, SIMULATORS[asked["kind"]].make(asked))
        return
    subject = VOLUMES[asked["kind"]].make(asked)
    write_volume(subject.scan, batch.path("image", scan))
    write_volume(subject.segmentation, batch.path("segmentation", scan))
    found = PointList("reference", subject.landmarks, None)
    write_markups(batch.path("landmarks", scan), [found])


def _write_picture(batch: Batch, scan: str, picture: Picture) -> None:
    with replacing(batch.path("picture", scan)) as beside:
        Image.fromarray(picture.image).save(beside, format="PNG")
    write_points_csv(batch.path("marks", scan), picture.landmarks)
    if batch.values["simulate"]["gaze"]:
        looks: list[Sequence[object]] = [LOOK_COLUMNS]
        for observer, x, y, duration, order in picture.gaze:
            place = [f"{value:.{DECIMALS}f}" for value in (x, y)]
            looks.append([scan, observer, *place, f"{duration:g}", order])
        write_text(batch.path("gaze", scan), table_text(looks))
