"""The stages of the method `salient`: what each reads, writes and is set by."""

from collections.abc import Mapping
from typing import Any

from landmarkflow.data.stages import REFERENCES, SCANS, SPLITS
from landmarkflow.engine.method import Method
from landmarkflow.engine.stage import Stage
from landmarkflow.methods.salient.settings import SalientSettings

PACKAGE = "landmarkflow.methods.salient"


def _aligns(settings: Mapping[str, Any]) -> bool:
    return bool(settings["align"]["landmarks"])


# It is given the scans that a run learns from.
GAZE = Stage(
    "gaze",
    "map_gaze",
    f"{PACKAGE}.gaze",
    "what a run learns from: pictures, where observers looked at them, and annotated structures",
    reads={
        **SCANS.gives("record"),
        **REFERENCES.gives("reference"),
        "splits": SPLITS.writes["splits"],
    },
    writes={"examples": "{run}/work/gaze/examples.npz"},
    settings=("gaze", "folds", "largest_gib"),
    columns=("image", "gaze", "scale"),
)
# It is given the names of networks where other stages are given scans, as the next one is.
TRAIN = Stage(
    "train",
    "train_saliency",
    f"{PACKAGE}.train",
    "the network of a fold: from a picture to the density of where people look",
    reads=GAZE.gives("examples"),
    writes={
        "weights": "{run}/work/train/{scan}.npz",
        "history": "{run}/work/train/{scan}.csv",
        "training": "{run}/work/train/{scan}.json",
    },
    settings=("train", "gaze", "seed", "folds"),
)
CLUSTER = Stage(
    "cluster",
    "cluster_landmarks",
    f"{PACKAGE}.cluster",
    "clusters of the features of landmarks in the pictures learned from, and their names",
    reads={**GAZE.gives("examples"), **TRAIN.gives("weights", "history")},
    writes={
        "networks": "{run}/work/cluster/networks.npz",
        "clusters": "{run}/work/cluster/clusters.npz",
        "familiar": "{run}/work/cluster/familiar.npz",
        "choices": "{run}/clusters.csv",
        "histories": "{run}/work/cluster/training.csv",
    },
    settings=("cluster", "discover", "predict", "train", "gaze", "seed", "folds"),
)
PREDICT = Stage(
    "predict",
    "predict_saliency",
    f"{PACKAGE}.predict",
    "where people would look at a picture: its map, and the features of its cells",
    reads={
        **SCANS.gives("record"),
        **CLUSTER.gives("networks"),
        "splits": SPLITS.writes["splits"],
    },
    writes={
        "saliency": "{run}/saliency/{scan}.npy",
        "features": "{run}/work/predict/{scan}.npz",
        "record": "{run}/work/predict/{scan}.json",
    },
    settings=("predict", "cluster", "train", "gaze", "folds", "largest_gib"),
    columns=("image",),
)
DISCOVER = Stage(
    "discover",
    "discover_landmarks",
    f"{PACKAGE}.discover",
    "landmarks: maxima of the map, between its cells, with the names of their clusters",
    reads={
        **PREDICT.gives("saliency", "features", "record"),
        **CLUSTER.gives("clusters", "familiar"),
    },
    writes={
        "landmarks": "{run}/landmarks/{scan}.mrk.json",
        "steps": "{run}/landmarks/{scan}.steps.mrk.json",
        "record": "{run}/landmarks/{scan}.json",
    },
    settings=("discover", "align"),
    columns=("group",),
    after="predict_record",
)
ALIGN = Stage(
    "align",
    "align_pairs",
    f"{PACKAGE}.align",
    "the alignment table: every pair of pictures of a group, by landmarks and by baselines",
    reads={**DISCOVER.gives("landmarks"), **REFERENCES.gives("reference")},
    writes={
        "alignment": "{run}/evaluation/alignment.csv",
        "alignment_markdown": "{run}/evaluation/alignment.md",
        "alignment_latex": "{run}/evaluation/alignment.tex",
        "coverage": "{run}/evaluation/coverage.csv",
        "coverage_markdown": "{run}/evaluation/coverage.md",
    },
    settings=("align", "seed", "largest_gib"),
    columns=("image", "landmarks", "frame", "scale", "group"),
)
JUDGE = Stage(
    "judge",
    "judge_saliency",
    f"{PACKAGE}.judge",
    "how well the maps say where observers look, beside a centre bias and other observers",
    reads={**GAZE.gives("examples"), **PREDICT.gives("saliency", "record")},
    writes={
        "metrics": "{run}/evaluation/saliency.csv",
        "metrics_markdown": "{run}/evaluation/saliency.md",
        "metrics_latex": "{run}/evaluation/saliency.tex",
    },
    settings=("predict", "gaze"),
    columns=("image", "gaze"),
)
DRAW = Stage(
    "draw",
    "draw_saliency",
    f"{PACKAGE}.draw",
    "some pictures with their maps and landmarks, and some aligned pairs",
    reads={
        **PREDICT.gives("saliency", "record"),
        **DISCOVER.gives("landmarks"),
        **REFERENCES.gives("reference"),
        **CLUSTER.gives("choices"),
    },
    writes={
        "discovered": "{run}/figures/discovered.png",
        "aligned": "{run}/figures/aligned.png",
        "clusters_chosen": "{run}/figures/clusters.png",
    },
    settings=("align", "largest_gib"),
    columns=("image", "landmarks", "frame", "scale", "group"),
)


def _shows(settings: SalientSettings) -> dict[str, str]:
    """What the report shows; alignments where the study states landmarks to align by."""
    aligned = {
        "Alignment of every pair of pictures": ALIGN.writes["alignment_markdown"],
        "Landmarks found, and pictures aligned": ALIGN.writes["coverage_markdown"],
    }
    laid = {"Targets, sources, and sources laid on targets": DRAW.writes["aligned"]}
    found = {
        "Pictures, where people would look, and landmarks": DRAW.writes["discovered"],
        "Silhouette, and agreement of seeds, against the number of clusters": DRAW.writes[
            "clusters_chosen"
        ],
        "Maps against where observers looked": JUDGE.writes["metrics_markdown"],
    }
    return {**aligned, **laid, **found} if settings.align.landmarks else found


METHOD = Method(
    "salient",
    SalientSettings,
    (GAZE, TRAIN, CLUSTER, PREDICT, DISCOVER, ALIGN, JUDGE, DRAW),
    steps={"cell": "maximum of the map", "final": "+ fit between cells (final)"},
    histories={"the saliency networks": CLUSTER.writes["histories"]},
    needs_template=False,
    learns_from="gaze",
    ends=(ALIGN, JUDGE, DRAW),
    shows=_shows,
)
