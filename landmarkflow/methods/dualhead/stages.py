"""The stages of the method `dualhead`: what each reads, writes and is set by."""

from collections.abc import Mapping
from typing import Any

from landmarkflow.core.records import TEMPLATE
from landmarkflow.data.stages import REFERENCES, SCANS, SPLITS, TARGET
from landmarkflow.engine.method import Method
from landmarkflow.engine.stage import Stage
from landmarkflow.methods.dualhead.settings import DualHeadSettings

PACKAGE = "landmarkflow.methods.dualhead"


def _splits(settings: Mapping[str, Any]) -> bool:
    """Whether folds are those of the annotated scans."""
    return bool(settings["folds"]) and not settings["teacher"]


def _segmented(settings: Mapping[str, Any]) -> bool:
    return bool(settings["segmented"])


# It is given the scans that a run learns from; they and their number depend on the run.
GATHER = Stage(
    "gather",
    "gather_examples",
    f"{PACKAGE}.gather",
    "what a run learns from: crops of annotated scans, or of those that another run annotated",
    reads={
        **SCANS.gives("record"),
        **REFERENCES.gives("reference", of=TEMPLATE),
        **TARGET.gives("target", of="{template}"),
        "splits": SPLITS.writes["splits"],
    },
    writes={"examples": "{run}/work/gather/examples.npz"},
    settings=(
        "gather",
        "folds",
        "folds_by",
        "teacher",
        "segmented",
        "labels",
        "seed",
        "largest_gib",
    ),
    columns=(
        *("image", "series", "landmarks", "frame", "segmentation"),
        *("side", "split", "group"),
    ),
    of={
        "landmarks": "{of}/landmarks/{scan}.mrk.json",
        "landmarks_record": "{of}/landmarks/{scan}.json",
        "segmentation": "{of}/segmentations/{scan}.nii.gz",
    },
    only_if={"splits": _splits, "template_target": _segmented, "segmentation": _segmented},
)
# It is given the names of networks where other stages are given scans.
TRAIN = Stage(
    "train",
    "train_dualhead",
    f"{PACKAGE}.train",
    "the networks of a fold, one for each pass: coarse, fine, perhaps turned, perhaps close",
    reads=GATHER.gives("examples"),
    writes={
        "weights": "{run}/work/train/{scan}.npz",
        "history": "{run}/work/train/{scan}.csv",
        "training": "{run}/work/train/{scan}.json",
    },
    settings=("train", "seed", "folds", "segmented"),
)
CALIBRATE = Stage(
    "calibrate",
    "calibrate_dualhead",
    f"{PACKAGE}.calibrate",
    "errors on scans held back, and from them the radii; all networks in one file",
    reads={**GATHER.gives("examples"), **TRAIN.gives("weights", "history", "training")},
    writes={
        "networks": "{run}/work/calibrate/networks.npz",
        "calibration": "{run}/work/calibrate/calibration.json",
        "held_back": "{run}/work/calibrate/held_back.csv",
        "histories": "{run}/work/calibrate/training.csv",
    },
    settings=("calibrate", "predict", "train", "segmented"),
)
PREDICT = Stage(
    "predict",
    "predict_dualhead",
    f"{PACKAGE}.predict",
    "a coarse pass over each scan, finer ones around what it found: landmarks, radii and labels",
    reads={
        **SCANS.gives("record"),
        **CALIBRATE.gives("networks", "calibration"),
    },
    writes={
        "landmarks": "{run}/landmarks/{scan}.mrk.json",
        "steps": "{run}/landmarks/{scan}.steps.mrk.json",
        "found": "{run}/segmentations/{scan}.nii.gz",
        "record": "{run}/landmarks/{scan}.json",
    },
    settings=("predict", "train", "segmented", "largest_gib"),
    columns=("image", "series", "side"),
    only_if={"found": _segmented},
)
METHOD = Method(
    "dualhead",
    DualHeadSettings,
    (GATHER, TRAIN, CALIBRATE, PREDICT),
    steps={
        "coarse": "coarse pass",
        "fine": "+ fine pass",
        "final": "+ turned and close pass, if any (final)",
    },
    segments=lambda settings, given: "segmentation" in settings.train.heads and given,
    histories={"the networks with two heads": CALIBRATE.writes["histories"]},
)
