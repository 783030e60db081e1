"""Packs a finished run: what its stages need to find landmarks in further scans."""

import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from landmarkflow.core.code_hash import code_hash
from landmarkflow.core.errors import InputError
from landmarkflow.core.files import read_json, replacing, sha256
from landmarkflow.core.records import TEMPLATE
from landmarkflow.data.stages import SCANS
from landmarkflow.engine.stage import Stage
from landmarkflow.packs.contents import (
    FORMAT,
    NAME,
    PATH,
    PRODUCTS,
    Contents,
    PackedFile,
    Part,
    needed,
    patterns_written,
)
from landmarkflow.study.runs import Run
from landmarkflow.workflow.rules import Workflow

# Of zip's own: the oldest that it can state, so that the same run packs to the same bytes.
EARLIEST = (1980, 1, 1, 0, 0, 0)


def pack(flow: Workflow, name: str, path: Path) -> Contents:
    """Write a finished run as one file.

    Args:
        flow: of the run's study.
        name: of the run.
        path: the file to write, replaced as a whole.

    Raises:
        InputError: there is no such run, it is not finished, or one of its files is gone.
    """
    run = flow.study.runs.get(name)
    if run is None:
        runs = ", ".join(flow.study.runs)
        raise InputError(f"{flow.results}: has no run {name!r}, expected one of {runs}")
    stages = {stage.command: stage for stage in flow.stages}
    products = [
        pattern.replace("{run}", name)
        for stage in flow.stages
        for role, pattern in stage.writes.items()
        if role in PRODUCTS and pattern.startswith("{run}/") and "/work/" not in pattern
    ]
    parts, files = needed(_parts(flow, run), stages, products)
    learned = [scan for scan in flow.learned(run) if scan != TEMPLATE]
    known = {*learned, *(peer for part in parts for peer in part.peers)}
    contents = Contents(
        format=FORMAT,
        study=flow.study.config.study,
        run=name,
        method=run.method,
        unit=flow.study.config.unit,
        largest_gib=flow.study.config.data.largest_gib,
        parts=tuple(parts),
        files={file: _packed(flow.results, file) for file in files},
        known={scan: _digest_of(flow.results, scan) for scan in sorted(known)},
    )
    with replacing(path) as beside, zipfile.ZipFile(beside, "w", zipfile.ZIP_DEFLATED) as archive:
        _add(archive, NAME, contents.model_dump_json(indent=1).encode())
        for file in files:
            _add(archive, file, (flow.results / file).read_bytes())
    return contents


def _parts(flow: Workflow, run: Run) -> list[Part]:
    """What a run does with each scan, after what the runs do that it is made of; each once."""
    parts: list[Part] = []
    for part in _each_part(flow, run):
        if part not in parts:
            parts.append(part)
    return parts


def _each_part(flow: Workflow, run: Run) -> Iterator[Part]:
    yield _part(flow, SCANS, None)
    for other in run.of:
        yield from _each_part(flow, flow.study.runs[other])
    own = flow.methods[run.method].stages
    segments = flow.segments(run)
    for stage in flow.stages:
        drawn = stage.is_of_a_run and "picture" in stage.writes
        by_scan = "{scan}" in stage.writes.get("record", "")
        if by_scan and (stage in own or drawn):
            part = _part(flow, stage, run if stage.is_of_a_run else None)
            # A stage that leaves nothing but segmentations is run only where they are wanted.
            if segments or set(patterns_written(part, stage)) != {"found", "record"}:
                yield part


def _part(flow: Workflow, stage: Stage, run: Run | None) -> Part:
    shown = flow.study.template if run is None or run.template == TEMPLATE else None
    if run is not None and shown is None and run.template in flow.study.templates:
        shown = flow.study.templates[run.template]
    return Part(
        command=stage.command,
        code=code_hash(stage.module),
        run=run.name if run else "",
        template=run.template if run else TEMPLATE,
        side=shown.side if shown else "",
        values=flow.values(stage, run),
        peers=tuple(flow.peers(stage, run)) if run and stage.peers else (),
        of=run.of if run else (),
    )


def _packed(results: Path, file: str) -> PackedFile:
    path = results / file
    if not PATH.fullmatch(file):
        raise InputError(f"{path}: has a name that no pack can hold")
    if not path.is_file():
        raise InputError(f"{path}: no such file, expected that of a finished run")
    return PackedFile(size=path.stat().st_size, sha256=sha256(path))


def _digest_of(results: Path, scan: str) -> str:
    record: Mapping[str, str] = read_json(results / SCANS.writes["record"].format(scan=scan))
    return str(record.get("sha256", ""))


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    entry = zipfile.ZipInfo(name, EARLIEST)
    entry.compress_type = zipfile.ZIP_DEFLATED
    archive.writestr(entry, content)
