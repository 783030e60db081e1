"""The stages that all runs of a study share: scans, references and segmentations as given."""

from collections.abc import Mapping
from typing import Any

from landmarkflow.engine.stage import Stage

PACKAGE = "landmarkflow.data"


def _pictures(settings: Mapping[str, Any]) -> bool:
    return bool(settings["simulate"]["pictures"])


SIMULATE = Stage(
    "simulate",
    "simulate_scan",
    f"{PACKAGE}.simulate",
    "one scan of a simulated cohort, with its segmentation and landmarks, or one picture",
    writes={
        "image": "work/data/scans/{scan}.nii.gz",
        "segmentation": "work/data/segmentations/{scan}.nii.gz",
        "landmarks": "work/data/landmarks/{scan}.mrk.json",
        "picture": "work/data/images/{scan}.png",
        "marks": "work/data/landmarks/{scan}.csv",
        "gaze": "work/data/gaze/{scan}.csv",
    },
    settings=("simulate",),
    only_if={
        **dict.fromkeys(("image", "segmentation", "landmarks"), lambda s: not _pictures(s)),
        **dict.fromkeys(("picture", "marks"), _pictures),
        "gaze": lambda settings: bool(settings["simulate"]["gaze"]),
    },
)
FETCH = Stage(
    "fetch",
    "fetch_file",
    f"{PACKAGE}.fetch",
    "one file of the study from its public origin, checked against its SHA-256",
    writes={"file": "work/data/{scan}"},
    settings=("fetch",),
)
SCANS = Stage(
    "scans",
    "digest_scans",
    f"{PACKAGE}.scans",
    "size and SHA-256 of each scan, by which every later stage knows its content",
    writes={"record": "work/scans/{scan}.json"},
    columns=("image", "series"),
)
REFERENCES = Stage(
    "references",
    "check_references",
    f"{PACKAGE}.references",
    "landmarks as given, in LPS and in one order of labels; refused where they do not fit a scan",
    reads=SCANS.gives("record"),
    writes={
        "reference": "work/references/{scan}.mrk.json",
        "record": "work/references/{scan}.json",
    },
    columns=("image", "series", "landmarks", "frame", "refused"),
    settings=("landmarks", "study_labels", "raters", "largest_gib"),
)
SPLITS = Stage(
    "splits",
    "split_scans",
    f"{PACKAGE}.splits",
    "which annotated scans are learned from, and in which fold; a scan on both sides is refused",
    reads=SCANS.gives("record"),
    writes={"splits": "work/splits/splits.tsv"},
    columns=("split", "group"),
    settings=("seed", "folds", "folds_by"),
)
TARGET = Stage(
    "target",
    "prepare_targets",
    f"{PACKAGE}.target",
    "the templates' target: the labels as given, or derived from scan and landmarks",
    reads=SCANS.gives("record"),
    writes={
        "target": "work/target/{scan}.nii.gz",
        "picture": "work/target/{scan}.png",
    },
    settings=("target", "labels", "largest_gib"),
    columns=("image", "series", "landmarks", "frame", "segmentation"),
)
STAGES = (SIMULATE, FETCH, SCANS, REFERENCES, SPLITS, TARGET)
