"""`landmarkflow check`: everything that a study reads is read, nothing is detected."""

import json
import logging
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from landmarkflow.commands.studies import say, workflow_of
from landmarkflow.console.estimate import expected, megavoxels_of
from landmarkflow.console.plan import counted, plan_of
from landmarkflow.console.progress import in_seconds
from landmarkflow.core.errors import InputError
from landmarkflow.core.grids import Grid
from landmarkflow.core.records import TEMPLATE, read_record
from landmarkflow.data import references, target
from landmarkflow.data.stages import FETCH, REFERENCES, SCANS, SIMULATE, SPLITS, TARGET
from landmarkflow.engine.batch import Batch, rows_of, values_of
from landmarkflow.engine.stage import Places, Stage
from landmarkflow.formats.volumes import read_labels, read_volume
from landmarkflow.images.operations import grid_of
from landmarkflow.study.study import Study
from landmarkflow.workflow.rules import Workflow

EVERY_S = 9.0
# Each reads a whole scan into memory.
MOST_AT_ONCE = 4


@dataclass(frozen=True)
class Seen:
    """What was seen of a scan: its grid, or why it is refused."""

    scan: str
    grid: Grid | None = None
    refused: str = ""


def check(study: str, data: str, cores: int) -> int:
    """Read all scans and references of a study and its template; say what is refused, and why.

    Args:
        study: name of the study, or path of its file.
        data: folder of scans, empty where the study says it.
        cores: of which the estimate is made, and on which scans are read.

    Returns:
        0, or 1 where the template or a scan is refused.

    Raises:
        InputError: the study is wrong, or its template cannot be used.
    """
    flow = workflow_of(study, data)
    plan = plan_of(flow, megavoxels_of(flow.study))
    say(plan.what)
    if not plan.is_given:
        made = "simulated" if flow.study.config.data.cohort else "fetched"
        say(f"Its scans are {made} by the run: there is nothing to read before.")
        say(expected(plan, jobs_of(flow), cores))
        return 0
    # The references' own words are in the answer below.
    logging.getLogger("landmarkflow").addHandler(logging.NullHandler())
    say(_template(flow))
    seen = _read_all(flow.study, min(cores, MOST_AT_ONCE))
    refused = _references(flow)
    refused |= {one.scan: one.refused for one in seen if one.refused}
    annotated = sum(bool(scan.landmarks) for scan in flow.study.scans.values())
    say(
        f"{len(seen) - len(refused)} of {counted(len(seen), 'scan')} can be used; "
        f"{annotated} have references."
    )
    for scan, reason in sorted(refused.items()):
        say(f"  refused  {scan}: {InputError(reason)}")
    sizes = [float(np.prod(one.grid.size)) for one in seen if one.grid]
    if sizes:
        plan = replace(plan, megavoxels=sum(sizes) / len(sizes) / 1e6)
    say(expected(plan, jobs_of(flow), cores))
    return 1 if refused else 0


def jobs_of(flow: Workflow) -> dict[str, int]:
    """How many jobs a whole run of a study has, by their rule's name."""
    study, data = flow.study, flow.study.config.data
    absent = [SIMULATE] if not data.cohort or data.folder else []
    absent += [FETCH] if not data.origin or data.folder else []
    absent += [] if study.taught else [SPLITS]
    absent += [] if study.all_templates else [TARGET]
    prepared = (*([TEMPLATE] if study.all_templates else []), *study.batches)
    found: dict[str, int] = {}
    for stage in flow.stages:
        runs = [study.runs[name] for name in flow.runs_of(stage)]
        if stage.peers:
            runs = [run for run in runs if flow.peers(stage, run)]
        count = len(runs) if stage.is_of_a_run else 1
        if stage in absent or not count:
            continue
        if stage in (SIMULATE, FETCH):
            found[stage.command] = len(study.scans) + (study.template is not None)
        elif stage == TARGET or not any("{scan}" in file for file in stage.writes.values()):
            found[stage.command] = count
        elif "record" in stage.writes:
            found |= {f"{stage.command}_{batch}": count for batch in prepared}
        else:
            # What leaves no record of a scan is of networks, one of each fold, in their place.
            found[stage.command] = count * max(data.folds, 1)
    return found


def _template(flow: Workflow) -> str:
    """The template in a line.

    Raises:
        InputError: it cannot be used.
    """
    template = flow.study.template
    if template is None:
        learned = counted(len(flow.study.taught), "annotated scan")
        return f"No template; {learned} to learn from."
    largest = int(flow.study.config.data.largest_gib * 2**30)
    grid = grid_of(read_volume(Path(template.image), largest, template.series))
    with tempfile.TemporaryDirectory() as folder:
        places = Places(Path(folder))
        for stage, module in ((REFERENCES, references), (TARGET, target)):
            module.run(_batch(flow, stage, (TEMPLATE, *flow.study.templates), places))
    size = " × ".join(str(count) for count in grid.size)
    spacing = " × ".join(f"{step:.3g}" for step in grid.spacing)
    given = "with its segmentation" if template.segmentation else "its segmentation is derived"
    return f"Template {template.image}: {size} voxels of {spacing} mm, {given}."


def _references(flow: Workflow) -> dict[str, str]:
    """The scans whose references are refused, with the reason, as the workflow's stage says."""
    scans = tuple(flow.study.scans)
    with tempfile.TemporaryDirectory() as folder:
        batch = _batch(flow, REFERENCES, scans, Places(Path(folder)))
        references.run(batch)
        records = [read_record(batch.path("record", scan)) for scan in scans]
    return {record.scan: record.reason or "" for record in records if not record.has_result}


def _batch(flow: Workflow, stage: Stage, scans: tuple[str, ...], places: Places) -> Batch:
    decides: Mapping[str, Any] = flow.decides(stage, scans)
    settings, sheet = decides["settings"](None), decides["sheet"](None)
    for scan in scans:
        # What the stage would read of the one before: which scan it is.
        record = places.path(SCANS.writes["record"], scan)
        record.parent.mkdir(parents=True, exist_ok=True)
        record.write_text(json.dumps({"scan": scan}), encoding="utf-8")
    return Batch(stage, places, scans, values_of(settings), rows_of(sheet))


def _read_all(study: Study, threads: int) -> list[Seen]:
    """Read every scan, and its segmentation where it has one; a line at least every ten seconds."""
    began = told = time.monotonic()
    found = []
    with ThreadPoolExecutor(max(threads, 1)) as pool:
        for one in _in_order(pool, study):
            found.append(one)
            if time.monotonic() - told > EVERY_S:
                told = time.monotonic()
                clock = in_seconds(told - began)
                say(f"{clock:>7}  … read {len(found)} of {counted(len(study.scans), 'scan')}")
    return found


def _in_order(pool: ThreadPoolExecutor, study: Study) -> Iterator[Seen]:
    largest = int(study.config.data.largest_gib * 2**30)

    def look(scan: str) -> Seen:
        entry = study.scans[scan]
        try:
            grid = grid_of(read_volume(Path(entry.image), largest, entry.series))
            if entry.segmentation:
                read_labels(Path(entry.segmentation), grid, largest)
        except InputError as error:
            return Seen(scan, refused=str(error))
        except OSError as error:
            return Seen(scan, refused=f"{error.filename or entry.image}: {error.strerror}")
        return Seen(scan, grid)

    yield from pool.map(look, study.scans)
