"""A study with results made by hand, and a server of its page that can be killed."""

import json
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import SimpleITK as sitk
from numpy.typing import NDArray
from workflow_runs import write_yaml

from landmarkflow.core.points import Landmarks, PointList
from landmarkflow.core.records import Record, write_nothing, write_record
from landmarkflow.evaluation.found import SCANS
from landmarkflow.formats.slicer import write_markups
from landmarkflow.formats.written import write_volume

LABELS = ("a", "b", "c", "d")
LOOKED_FOR = LABELS[:3]
RADII = (0.5, 0.9, 0.7)
# Run as a program of its own: a server without NiiVue, which says its address.
SERVE = """
import sys, tempfile
from pathlib import Path
from landmarkflow.commands.review import study_at, subject_of
from landmarkflow.review.desk import Desk
from landmarkflow.review.server import ReviewServer
from landmarkflow.review.volumes import Volumes

folder = Path(sys.argv[1])
subject = subject_of(study_at(folder), folder.resolve(), "")
desk = Desk(subject, sys.argv[2], Volumes(Path(tempfile.mkdtemp()), 1 << 30))
server = ReviewServer(desk, b"export const Niivue = 1;")
print(server.url, flush=True)
server.serve_forever()
"""


def make_study(
    folder: Path, template: sitk.Image, landmarks: NDArray[np.float64], **data: Any
) -> Path:
    """A study of a folder with a template and no scans yet; returns its results folder."""
    given, made = folder / "given", folder / "results/ears"
    (given / "scans").mkdir(parents=True)
    write_volume(template, given / "template/scan.nii.gz")
    marks = PointList("reference", Landmarks(LABELS, landmarks), None)
    write_markups(given / "template/landmarks.mrk.json", [marks])
    stated = {"folder": str(given), "landmarks": list(LOOKED_FOR), **data}
    (made / "oneshot/landmarks").mkdir(parents=True)
    write_yaml(made / "config.yaml", {"study": "ears", "data": stated})
    return made


def add_scan(
    made: Path,
    name: str,
    image: sitk.Image,
    found: NDArray[np.float64] | None,
    record: Record,
) -> None:
    """A scan of a study, with what a run found in it; None is nothing."""
    write_volume(image, made.parents[1] / f"given/scans/{name}.nii.gz")
    folder = made / "oneshot/landmarks"
    if found is None:
        write_nothing(folder / f"{name}.mrk.json")
    else:
        marks = Landmarks(LOOKED_FOR, found)
        final = PointList("final", marks, np.where(marks.missing, np.nan, RADII))
        write_markups(folder / f"{name}.mrk.json", [final], scan=name)
    write_record(folder / f"{name}.json", record)


def write_ranking(made: Path, scans: Sequence[Mapping[str, Any]]) -> None:
    """The run's scans.csv, in this order."""
    rows = [dict.fromkeys(SCANS, "") | {"rank": n, **row} for n, row in enumerate(scans, 1)]
    pd.DataFrame(rows, columns=list(SCANS)).to_csv(made / "oneshot/scans.csv", index=False)


@contextmanager
def served(made: Path, reviewer: str = "Ann") -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A server in a process of its own: its address, and the process."""
    command = [sys.executable, "-c", SERVE, str(made), reviewer]
    server = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1]
    )
    assert server.stdout is not None
    try:
        yield server.stdout.readline().strip(), server
    finally:
        server.kill()
        server.wait()
        server.stdout.close()


def ask(url: str, place: str, asked: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What a server answers; `asked` is sent as a change. A refusal is its status and sentence."""
    data = None if asked is None else json.dumps(asked).encode()
    request = urllib.request.Request(url + place, data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            found: dict[str, Any] = json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return {"status": error.code, **json.load(error)}
    return found
