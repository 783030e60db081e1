"""The stages of the method `zoomin`: what each reads, writes and is set by."""

from collections.abc import Mapping
from typing import Any

from landmarkflow.data.stages import REFERENCES, SCANS, SPLITS
from landmarkflow.engine.method import Method
from landmarkflow.engine.stage import Stage
from landmarkflow.methods.zoomin.settings import ZoomInSettings

PACKAGE = "landmarkflow.methods.zoomin"


def _splits(settings: Mapping[str, Any]) -> bool:
    return bool(settings["folds"])


# It is given the pictures that a run learns from.
GATHER = Stage(
    "gather",
    "gather_pictures",
    f"{PACKAGE}.gather",
    "what a run learns from: annotated pictures, their fields laid into one frame",
    reads={
        **SCANS.gives("record"),
        **REFERENCES.gives("reference", "record"),
        "splits": SPLITS.writes["splits"],
    },
    writes={"examples": "{run}/work/gather/examples.npz"},
    settings=("gather", "folds", "largest_gib"),
    once=True,
    columns=("image", "split"),
)
# It and `train` are given the names of networks where other stages are given scans.
COARSE = Stage(
    "coarse",
    "train_coarse",
    f"{PACKAGE}.coarse",
    "the coarse branch of a fold, and its misses in the pictures that it never saw",
    reads=GATHER.gives("examples"),
    writes={
        "weights": "{run}/work/coarse/{scan}.npz",
        "history": "{run}/work/coarse/{scan}.csv",
        "misses": "{run}/work/coarse/{scan}.json",
    },
    settings=("train", "seed", "folds"),
    # Runs that differ in the regions alone have one coarse branch.
    apart_from=("train.regions", "train.parts", "train.joint"),
    once=True,
)
POOL = Stage(
    "pool",
    "pool_misses",
    f"{PACKAGE}.pool",
    "the misses of the coarse branches of all folds in one file",
    reads=COARSE.gives("misses"),
    writes={"pooled": "{run}/work/pool/misses.json"},
    once=True,
)
TRAIN = Stage(
    "train",
    "train_zoomin",
    f"{PACKAGE}.train",
    "the network of a fold that looks closer, at regions laid by the misses of coarse branches",
    reads={
        **GATHER.gives("examples"),
        "coarse_weights": COARSE.writes["weights"],
        "coarse_history": COARSE.writes["history"],
        **POOL.gives("pooled"),
    },
    writes={
        "weights": "{run}/work/train/{scan}.npz",
        "history": "{run}/work/train/{scan}.csv",
        "training": "{run}/work/train/{scan}.json",
    },
    settings=("train", "seed", "folds"),
    once=True,
)
CALIBRATE = Stage(
    "calibrate",
    "calibrate_zoomin",
    f"{PACKAGE}.calibrate",
    "errors on pictures held back, and from them the radii; all networks in one file",
    reads={**GATHER.gives("examples"), **TRAIN.gives("weights", "history", "training")},
    writes={
        "networks": "{run}/work/calibrate/networks.npz",
        "calibration": "{run}/work/calibrate/calibration.json",
        "held_back": "{run}/work/calibrate/held_back.csv",
        "histories": "{run}/work/calibrate/training.csv",
    },
    settings=("calibrate", "zoom", "train"),
)
ZOOM = Stage(
    "zoom",
    "zoom_landmarks",
    f"{PACKAGE}.zoom",
    "a coarse look at each picture, closer ones at what it found: landmarks and radii",
    reads={**SCANS.gives("record"), **CALIBRATE.gives("networks", "calibration")},
    writes={
        "landmarks": "{run}/landmarks/{scan}.mrk.json",
        "steps": "{run}/landmarks/{scan}.steps.mrk.json",
        "record": "{run}/landmarks/{scan}.json",
    },
    settings=("zoom", "gather", "train", "largest_gib"),
    columns=("image",),
)
METHOD = Method(
    "zoomin",
    ZoomInSettings,
    (GATHER, COARSE, POOL, TRAIN, CALIBRATE, ZOOM),
    steps={"coarse": "coarse look", "final": "+ zoom (final)"},
    histories={"the coarse branch and the regions": CALIBRATE.writes["histories"]},
    needs_template=False,
)
