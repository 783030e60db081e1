"""Stages run as their rules run them: by the command line, in a study's results folder."""

import io
import json
import logging
import os
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

from pydantic import BaseModel

from landmarkflow.core.records import TEMPLATE
from landmarkflow.engine.cli import main
from landmarkflow.engine.stage import Places, Stage
from landmarkflow.methods.oneshot.settings import OneShotSettings
from landmarkflow.registry import STAGES

RUN = "mine"
# What a stage is set by where a test does not care; nothing is left to the template's survey.
STATED = {"normalise": {"method": "hu"}, "locate": {"method": "mixture"}}
DEFAULTS = OneShotSettings.model_validate(STATED).model_dump(mode="json") | {
    "seed": 1,
    "labels": [],
    "landmarks": [],
    "study_labels": [],
    "raters": [],
    "largest_gib": 8.0,
}


@dataclass(frozen=True)
class Outcome:
    """How a command ended, what it said, and what it logged."""

    status: int
    stderr: str
    log: str


def path_of(results: Path, stage: Stage, role: str, scan: str = "") -> Path:
    """The file of a role of a stage in the tests' run."""
    return Places(results, RUN, TEMPLATE).path({**stage.reads, **stage.writes}[role], scan)


def command_of(
    stage: Stage,
    results: Path,
    scans: Sequence[str] = (),
    *,
    settings: Mapping[str, Any] | None = None,
    sheet: Mapping[str, Any] | None = None,
    **others: object,
) -> list[str]:
    """The arguments of a stage's command, as `Workflow.command` puts them together."""
    arguments = [stage.command, "--results", str(results)]
    if stage.is_of_a_run:
        arguments += ["--run", RUN]
    if stage.is_by_scan:
        arguments += ["--scans", *scans]
    if stage.settings:
        values = {n: DEFAULTS[n] for n in stage.settings if n in DEFAULTS} | dict(settings or {})
        plain = {n: v.model_dump() if isinstance(v, BaseModel) else v for n, v in values.items()}
        arguments += ["--settings", json.dumps(plain)]
    if sheet is not None:
        arguments += ["--sheet", json.dumps(sheet, default=str)]
    for name, value in others.items():
        given = value if isinstance(value, tuple | list) else [value]
        arguments += [f"--{name}", *map(str, given)]
    return arguments


def run_command(log: Path, arguments: Sequence[str]) -> Outcome:
    """Run a command in this process, whose log and environment stay as they were."""
    said, logger = io.StringIO(), logging.getLogger("landmarkflow")
    with patch.dict(os.environ), redirect_stderr(said):
        status = main(STAGES, ["--log", str(log), *arguments])
    for handler in list(logger.handlers):
        handler.close()
        logger.removeHandler(handler)
    return Outcome(status, said.getvalue(), log.read_text(encoding="utf-8"))


def run_stage(stage: Stage, results: Path, scans: Sequence[str] = (), **given: Any) -> Outcome:
    """Run a stage's command; `given` is what `command_of` takes."""
    log = results / "work/logs" / f"{stage.name}.log"
    return run_command(log, command_of(stage, results, scans, **given))


def assert_refused(outcome: Outcome, *said: object) -> None:
    """One sentence on stderr, and the same in the log."""
    assert outcome.status == 1, outcome.stderr
    assert len(outcome.stderr.splitlines()) == 1, outcome.stderr
    for part in said:
        assert str(part) in outcome.stderr
    assert "Traceback" not in outcome.log
    assert outcome.stderr.strip() in outcome.log
