"""The stages that say what made the results, draw every scan, and write the page."""

from landmarkflow.data.stages import REFERENCES, SCANS
from landmarkflow.engine.stage import Stage

PACKAGE = "landmarkflow.report"

MADE = Stage(
    "made",
    "record_run",
    f"{PACKAGE}.made",
    "what made a run: its method, seed, settings, steps, devices and versions",
    reads={"record": "{run}/landmarks/{scan}.json"},
    writes={"made": "{run}/made.json", "readme": "{run}/README.txt"},
    settings=("run", "segmented", "in_pixels", "draws_panels"),
)
PROVENANCE = Stage(
    "provenance",
    "record_provenance",
    f"{PACKAGE}.provenance",
    "what made a study: every setting, its inputs' SHA-256, code, packages and machine",
    reads=SCANS.gives("record"),
    writes={"provenance": "provenance.json", "config": "config.yaml"},
    settings=("study", "modules"),
    columns=("image", "landmarks", "segmentation"),
    of={"made": "{of}/made.json", "summary": "{of}/evaluation/summary.json"},
)
PICTURES = Stage(
    "pictures",
    "draw_overviews",
    f"{PACKAGE}.pictures",
    "three views through the landmarks of each scan, or the picture with its points",
    reads={
        **SCANS.gives("record"),
        "landmarks": "{run}/landmarks/{scan}.mrk.json",
        "steps": "{run}/landmarks/{scan}.steps.mrk.json",
        "landmarks_record": "{run}/landmarks/{scan}.json",
        **REFERENCES.gives("reference"),
    },
    writes={
        "picture": "{run}/pictures/{scan}.png",
        "record": "{run}/work/pictures/{scan}.json",
    },
    settings=("report", "unit", "in_pixels"),
    columns=("image", "series", "scale", "spacing"),
    only_if={"steps": lambda settings: bool(settings["in_pixels"])},
)
PAGE = Stage(
    "page",
    "write_report",
    f"{PACKAGE}.page",
    "one page with all runs: tables, curves, failures and every scan's picture",
    reads={
        "comparison": "comparison.csv",
        "steps": "steps.csv",
        "provenance": "provenance.json",
        **REFERENCES.gives("reference"),
    },
    writes={"report": "report.html", "annotations": "annotations.png"},
    settings=(
        *("study", "histories", "shows", "referenced", "counts_annotations"),
        *("panels", "segmenting"),
    ),
    of={
        "made": "{of}/made.json",
        "summary": "{of}/evaluation/summary.json",
        "picture": "{of}/pictures/{scan}.png",
    },
    only_if={
        "steps": lambda settings: bool(settings["referenced"]),
        "annotations": lambda settings: bool(
            settings["referenced"] and settings["counts_annotations"]
        ),
    },
)
STAGES = (MADE, PROVENANCE, PICTURES, PAGE)
