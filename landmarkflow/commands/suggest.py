"""`landmarkflow suggest`: which scans of a finished run to annotate next, and why."""

from pathlib import Path

import numpy as np

from landmarkflow.commands.review import finished_run, study_at
from landmarkflow.commands.studies import say
from landmarkflow.core.errors import InputError, about
from landmarkflow.core.files import table_text, write_text
from landmarkflow.core.records import TEMPLATE
from landmarkflow.evaluation.tables import number
from landmarkflow.formats.landmarks import frame_of, read_landmarks
from landmarkflow.registry import METHODS, STAGES
from landmarkflow.review.suggest import COLUMNS, Suggestion, found_in, suggest
from landmarkflow.study.runs import Run
from landmarkflow.study.study import Study
from landmarkflow.workflow.rules import Workflow

FILE = "suggested.csv"


def suggest_scans(folder: Path, count: int) -> int:
    """Say which scans to annotate next, and write the table `suggested.csv` beside the run's.

    Args:
        folder: of a finished run, results/<study>/<run>.
        count: how many scans at most.

    Raises:
        InputError: the folder is none of a finished run, the count is none, or no scan is left.
    """
    if count < 1:
        raise InputError(f"-n {count}: expected at least 1")
    folder = folder.resolve()
    study = study_at(folder.parent)
    run = finished_run(study, folder.parent, folder.name)
    scans, points = found_in(folder)
    labels = tuple(dict.fromkeys(points["landmark"]))
    with about(folder):
        annotated = _annotated(study, run, folder.parent, labels)
        found = suggest(scans, points, annotated, labels, count)
    unit = study.config.unit
    rows = [_row(rank, one, unit) for rank, one in enumerate(found, start=1)]
    table = [COLUMNS, *([row[column] for column in COLUMNS] for row in rows)]
    write_text(folder / FILE, table_text(table))
    say(f"To annotate next, of {len(study.scans)} scans, beside {len(annotated)} annotated:")
    for row in rows:
        say(f"  {row['scan']}: {row['reason']}")
    say(f"Table: {folder / FILE}")
    return 0


def _annotated(
    study: Study, run: Run, results: Path, labels: tuple[str, ...]
) -> dict[str, np.ndarray]:
    """Landmarks (n, 3) of the scans that a run learned from, and the runs that it is made of."""
    flow = Workflow(study, METHODS, STAGES, results.parent)
    found, raters = {}, study.config.data.raters
    for one in (run, *(study.runs[name] for name in run.of)):
        for scan in flow.learned(one):
            name = one.template if scan == TEMPLATE else scan
            entry = study.entry(name)
            if entry.landmarks:
                path, image = Path(entry.landmarks), Path(entry.image).name
                marked = read_landmarks(path, frame_of(entry.frame), image, raters)
                places = dict(zip(marked.labels, marked.positions, strict=True))
                found[name] = np.array([places.get(each, [np.nan] * 3) for each in labels])
    return found


def _row(rank: int, one: Suggestion, unit: str) -> dict[str, str]:
    return {
        "rank": str(rank),
        "scan": one.scan,
        "status": one.status,
        "radius": number(one.radius, 4, ""),
        "doubt": number(one.doubt, 4, ""),
        "unlike": number(one.unlike, 3, "") if np.isfinite(one.unlike) else "",
        "worth_percent": number(100 * one.worth, 1),
        "stands_for": " ".join(one.stands_for),
        "reason": one.reason(unit),
    }
