"""The settings and the two stages of the stand-in."""

from pydantic import Field

from landmarkflow.core.settings import Settings
from landmarkflow.data.stages import REFERENCES, SCANS, SPLITS
from landmarkflow.engine.method import Method
from landmarkflow.engine.stage import Stage

PACKAGE = "landmarkflow.methods.learner"


class LearnerSettings(Settings):
    """What is bright, and how large frames are."""

    above: float = Field(100.0, description="intensity above which a pixel is bright")
    frame: float = Field(8.0, description="side of the frames that are drawn, in pixels")


# It is given the scans that a run learns from.
AVERAGE = Stage(
    "average",
    "average_offsets",
    f"{PACKAGE}.average",
    "mean offset of each landmark from the middle of what is bright, without each fold and of all",
    reads={
        **SCANS.gives("record"),
        **REFERENCES.gives("reference", "record"),
        "splits": SPLITS.writes["splits"],
    },
    writes={"offsets": "{run}/work/average/offsets.json"},
    settings=("above", "folds"),
    columns=("image",),
)
PREDICT = Stage(
    "predict",
    "predict_points",
    f"{PACKAGE}.predict",
    "each landmark at its mean offset, learned from other folds than the picture's own",
    reads={
        **SCANS.gives("record"),
        **AVERAGE.gives("offsets"),
        "splits": SPLITS.writes["splits"],
    },
    writes={
        "landmarks": "{run}/landmarks/{scan}.mrk.json",
        "steps": "{run}/landmarks/{scan}.steps.mrk.json",
        "record": "{run}/landmarks/{scan}.json",
    },
    settings=("above", "frame"),
    columns=("image",),
)
METHOD = Method(
    "learner",
    LearnerSettings,
    (AVERAGE, PREDICT),
    steps={"coarse": "bright", "final": "learned"},
    needs_template=False,
)
