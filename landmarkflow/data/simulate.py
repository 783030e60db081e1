"""Simulate one temporal bone: scan, segmentation and landmarks."""

from landmarkflow.cohorts.settings import CohortSettings
from landmarkflow.cohorts.simulate import simulate_subject
from landmarkflow.core.points import PointList
from landmarkflow.engine.batch import Batch
from landmarkflow.formats.slicer import write_markups
from landmarkflow.formats.written import write_volume


def run(batch: Batch) -> None:
    """Simulate and write; subject 0 is the template."""
    asked = batch.values["simulate"]
    settings = CohortSettings.model_validate(asked["anatomy"])
    subject = simulate_subject(settings, asked["seed"], asked["number"])
    (scan,) = batch.scans
    write_volume(subject.scan, batch.path("image", scan))
    write_volume(subject.segmentation, batch.path("segmentation", scan))
    found = PointList("reference", subject.landmarks, None)
    write_markups(batch.path("landmarks", scan), [found])
