"""Kinds of simulated scans and pictures, as a study knows them before any is simulated.

A further kind is a line in `KINDS`, of pictures, or in `VOLUMES`, of scans; a field of its settings
beside `data.cohort.kind`; and a line in `landmarkflow.data.simulate`, which simulates. Nothing here
is slow to import.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from landmarkflow.cohorts.fetal_head_settings import LABELS as FETAL_HEAD
from landmarkflow.cohorts.fetal_head_settings import long_axis_of, plane_of
from landmarkflow.cohorts.fundus_settings import FUNDUS_LANDMARKS, camera_of
from landmarkflow.cohorts.settings import side_of

Side = Literal["", "left", "right"]


@dataclass(frozen=True)
class PictureKind:
    """A kind of simulated pictures.

    Attributes:
        prefix: pictures are called so, with their number.
        labels: of their landmarks, in order.
        group_of: the group of a picture, by settings, seed and number; empty for none.
        scale_of: the length in pixels of which errors in % are parts; None for none.
        gaze: whether simulated observers look at them.
    """

    prefix: str
    labels: tuple[str, ...]
    group_of: Callable[[Any, int, int], str] = lambda settings, seed, number: ""
    scale_of: Callable[[Any, int, int], float | None] = lambda settings, seed, number: None
    gaze: bool = False


@dataclass(frozen=True)
class VolumeKind:
    """A kind of simulated scans, of which number 0 is the template.

    Attributes:
        prefix: scans are called so, with their number.
        settings: name of the field of its settings beside `data.cohort.kind`.
        side_of: the side that a scan shows, by settings, seed and number; empty where it has none.
    """

    prefix: str
    settings: str
    side_of: Callable[[Any, int, int], Side] = lambda settings, seed, number: ""


VOLUMES: Mapping[str, VolumeKind] = {
    "ear": VolumeKind("ear", "anatomy", side_of),
    "mr_head": VolumeKind("mr", "mr_head"),
}
KINDS: Mapping[str, PictureKind] = {
    "fundus": PictureKind("fundus", FUNDUS_LANDMARKS, group_of=camera_of),
    "fetal_head": PictureKind("head", FETAL_HEAD, plane_of, long_axis_of, gaze=True),
}
