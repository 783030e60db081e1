"""The one stage of the method that fuses other runs' landmarks."""

from landmarkflow.core.records import TEMPLATE
from landmarkflow.data.stages import REFERENCES
from landmarkflow.engine.method import Method
from landmarkflow.engine.stage import Stage
from landmarkflow.methods.fuse.settings import FuseSettings

FUSE = Stage(
    "fuse",
    "fuse_landmarks",
    "landmarkflow.methods.fuse.fuse",
    "one list of landmarks of those that several runs found in a scan",
    reads=REFERENCES.gives("reference", of=TEMPLATE),
    writes={
        "landmarks": "{run}/landmarks/{scan}.mrk.json",
        "steps": "{run}/landmarks/{scan}.steps.mrk.json",
        "record": "{run}/landmarks/{scan}.json",
    },
    settings=("farthest", "shared_error"),
    of={
        "landmarks": "{of}/landmarks/{scan}.mrk.json",
        "steps": "{of}/landmarks/{scan}.steps.mrk.json",
        "record": "{of}/landmarks/{scan}.json",
    },
)
METHOD = Method(
    "fuse",
    FuseSettings,
    stages=(FUSE,),
    steps={"alone": "first run alone", "final": "fused (final)"},
    reads_runs=True,
)
