"""The settings and the one stage of the stand-in."""

from pydantic import Field

from landmarkflow.core.records import TEMPLATE
from landmarkflow.core.settings import Settings
from landmarkflow.data.stages import REFERENCES, SCANS
from landmarkflow.engine.method import Method
from landmarkflow.engine.stage import Stage


class ToySettings(Settings):
    """What is bright."""

    above: float = Field(100.0, description="intensity above which a voxel is bright")


SHIFT = Stage(
    "shift",
    "shift_landmarks",
    "landmarkflow.methods.toy.shift",
    "the template's landmarks, moved with the mass centre of what is bright",
    reads={**SCANS.gives("record"), **REFERENCES.gives("reference", of=TEMPLATE)},
    writes={
        "landmarks": "{run}/landmarks/{scan}.mrk.json",
        "steps": "{run}/landmarks/{scan}.steps.mrk.json",
        "record": "{run}/landmarks/{scan}.json",
    },
    settings=("above", "unit"),
    columns=("image", "series"),
)
METHOD = Method("toy", ToySettings, (SHIFT,), steps={"final": "shifted"})
