"""The stages that measure runs, set them side by side, and say which scans were unusable."""

from collections.abc import Mapping
from typing import Any

from landmarkflow.data.stages import REFERENCES
from landmarkflow.engine.stage import Stage

PACKAGE = "landmarkflow.evaluation"
# Of every study; those of evaluation/ that compare with references only where there are some.
PRODUCTS = {
    "coordinates": "landmarks.csv",
    "coordinates_wide": "landmarks_wide.csv",
    "scans": "scans.csv",
}
TABLES = {
    "errors": "errors.csv",
    "statistics": "statistics.csv",
    "groups": "groups.csv",
    "lengths": "lengths.csv",
    "summary": "summary.json",
    "failures": "failures.csv",
    "table1": "table1.csv",
    "table1_markdown": "table1.md",
    "table1_latex": "table1.tex",
    "overlap": "overlap.csv",
    "published": "published.csv",
    "published_markdown": "published.md",
    "published_table": "published_table.csv",
}
# Tables that hold nothing where no scan has reference landmarks.
MEASURED = ("errors", "statistics", "table1", "table1_markdown", "table1_latex")


def _referenced(settings: Mapping[str, Any]) -> bool:
    return bool(settings["referenced"])


def _by_annotations(settings: Mapping[str, Any]) -> bool:
    """Whether one of several runs states how many annotated scans it learns from."""
    return _referenced(settings) and bool(settings["counts_annotations"])


def _grouped(settings: Mapping[str, Any]) -> bool:
    return _referenced(settings) and bool(settings["grouped"])


def _in_lengths(settings: Mapping[str, Any]) -> bool:
    return _referenced(settings) and bool(settings["evaluate"]["length"])


def _beside_published(settings: Mapping[str, Any]) -> bool:
    return _referenced(settings) and bool(settings["evaluate"]["published"])


EVALUATE = Stage(
    "evaluate",
    "evaluate_landmarks",
    f"{PACKAGE}.evaluate",
    "a run's errors, success rates, overlaps, failures and Table 1",
    reads={
        "found": "{run}/landmarks/{scan}.mrk.json",
        "steps": "{run}/landmarks/{scan}.steps.mrk.json",
        "record": "{run}/landmarks/{scan}.json",
        **REFERENCES.gives("reference", "record"),
        "segmentation": "{run}/segmentations/{scan}.nii.gz",
    },
    writes={
        **{role: f"{{run}}/{name}" for role, name in PRODUCTS.items()},
        **{role: f"{{run}}/evaluation/{name}" for role, name in TABLES.items()},
    },
    settings=(
        *("evaluate", "seed", "unit", "segmented", "references_segmented"),
        *("referenced", "in_pixels", "grouped"),
    ),
    columns=("side", "segmentation", "scale", "spacing", "group"),
    only_if={
        "segmentation": lambda settings: bool(settings["segmented"]),
        "overlap": lambda settings: bool(settings["references_segmented"]),
        **dict.fromkeys(MEASURED, _referenced),
        "groups": _grouped,
        "lengths": _in_lengths,
        "published": _beside_published,
        "published_markdown": _beside_published,
        "published_table": _beside_published,
    },
)
COMPARE = Stage(
    "compare",
    "compare_runs",
    f"{PACKAGE}.comparison",
    "all runs of a study side by side, what each step of them is worth, and annotations",
    writes={
        "comparison": "comparison.csv",
        "comparison_markdown": "comparison.md",
        "comparison_latex": "comparison.tex",
        "steps": "steps.csv",
        "steps_markdown": "steps.md",
        "annotations": "annotations.csv",
        "annotations_markdown": "annotations.md",
    },
    settings=("referenced", "counts_annotations"),
    of={
        "made": "{of}/made.json",
        "errors": "{of}/evaluation/errors.csv",
        "summary": "{of}/evaluation/summary.json",
    },
    only_if={
        **dict.fromkeys(("errors", "steps", "steps_markdown"), _referenced),
        **dict.fromkeys(("annotations", "annotations_markdown"), _by_annotations),
    },
)
CHECK = Stage(
    "check",
    "check_scans",
    f"{PACKAGE}.check",
    "ends a run in an error where scans were refused, or the program met a defect",
    reads=REFERENCES.gives("record"),
    writes={"checked": "work/check/checked.txt"},
    settings=("bad_scans",),
    columns=("side",),
    of={"record": "{of}/landmarks/{scan}.json"},
)
STAGES = (EVALUATE, COMPARE, CHECK)
