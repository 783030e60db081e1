"""What made a run, and what lies in its folder."""

from collections.abc import Mapping
from typing import Any

from landmarkflow.core.files import write_json, write_text
from landmarkflow.core.machine import packages
from landmarkflow.core.records import read_record
from landmarkflow.engine.batch import Batch

# Packages whose version can change a result.
DECISIVE = ("numpy", "scipy", "simpleitk", "itk-elastix", "torch")
LAID_OUT = """\
Run {run} of method {method}
{line}

What lies here:

  landmarks/<scan>.mrk.json    {points}
                               Each has a radius that is to hold the true place in 9 of 10 cases.
                               The file is empty where a scan has no landmarks.
  landmarks/<scan>.json        how the scan fared: ok, doubtful (look at it), failed (no answer)
                               or refused (the scan cannot be used), with the reason
{segmentations}  pictures/<scan>.png          {pictures}
{panels}  landmarks.csv                all landmarks of all scans: place, radius, status, reason
  landmarks_wide.csv           the same, one row a scan
  scans.csv                    all scans, those most in doubt first
  evaluation/                  tables: table1 (each scan), errors.csv (each landmark),
                               failures.csv (what did not go well, and why), summary.json
  reviewed/<scan>.mrk.json     what people decided (`landmarkflow review`), if they did
  slicer/<scan>.mrml           the scan and all of this in 3D Slicer (`landmarkflow slicer`)
  suggested.csv                scans to annotate next, and why (`landmarkflow suggest`)
  made.json                    what made the run: settings, seed, device, versions
  work/                        what the steps left; `landmarkflow clean STUDY` says what can go

Where to begin: ../report.html, which shows the scans that need a look first.
Every file and column: docs/results.md of landmarkflow.
"""
# What holds of volumes, and of pictures.
POINTS = {
    False: """\
a scan's landmarks: drag the file into 3D Slicer. Positions are in
                               the scan's own space (LPS: left, posterior, superior are positive;
                               mm).""",
    True: """\
a picture's landmarks, for 3D Slicer. Positions are in its pixels,
                               x to the right and y down, the centre of the first at (0, 0).""",
}
PICTURES = {
    False: "three views through each landmark of a scan",
    True: "each picture with its landmarks",
}
SEGMENTATIONS = """\
  segmentations/<scan>.nii.gz  the target in a scan: the template's labels on the scan's voxels
"""


PANELS = """\
  panels/<scan>.webp           its way: the centre step by step, then template and scan after each
                               registration; the report shows it for the scans that it lists
"""


def readme(
    described: Mapping[str, Any], *, segmented: bool, in_pixels: bool = False, panels: bool = False
) -> str:
    """What lies in a run's folder, in plain words.

    Args:
        described: what the study states of the run: its name and method at least.
        segmented: whether it leaves segmentations.
        in_pixels: whether the scans are pictures.
        panels: whether its method draws each scan's way.
    """
    first = f"Run {described['run']} of method {described['method']}"
    return LAID_OUT.format(
        run=described["run"],
        method=described["method"],
        line="=" * len(first),
        segmentations=SEGMENTATIONS if segmented else "",
        panels=PANELS if panels else "",
        points=POINTS[in_pixels],
        pictures=PICTURES[in_pixels],
    )


def run(batch: Batch) -> None:
    """Write made.json: what the study states of the run, and the devices that its records name.

    README.txt beside it says what lies in the run's folder.
    """
    found = [read_record(path).details.get("devices", []) for path in batch.paths("record")]
    devices = sorted({device for devices in found for device in devices})
    # A rule's own environment has just the packages that it needs.
    versions = {name: number for name, number in packages().items() if name in DECISIVE}
    write_json(batch.path("made"), {**batch.values["run"], "device": devices, "versions": versions})
    segmented, in_pixels = (bool(batch.values[name]) for name in ("segmented", "in_pixels"))
    panels = bool(batch.values["draws_panels"])
    text = readme(batch.values["run"], segmented=segmented, in_pixels=in_pixels, panels=panels)
    write_text(batch.path("readme"), text)
