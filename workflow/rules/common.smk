"""The study that this run is about, and what the rules ask of it and of each stage."""

import gc
import os
import sys
from pathlib import Path

# Jobs start `python -m landmarkflow` in the working directory, which need not be this one. The
# path is no part of their commands: a repository that has moved would run everything again. The
# prefix of all commands sets it, because Snakemake takes PYTHONPATH from jobs in conda environments.
ROOT = Path(workflow.basedir)
sys.path.insert(0, str(ROOT))
os.environ.update(LANDMARKFLOW_ROOT=str(ROOT))
# Up to 256 MB, memory that a job frees stays with it for the next array. Else glibc hands large
# arrays back to the system and gets pages of zeros for the next one: a third of a scan's reading.
for variable in ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"):
    os.environ.setdefault(variable, str(256 << 20))
shell.prefix(
    "set -euo pipefail;"
    ' export PYTHONPATH="$LANDMARKFLOW_ROOT${{PYTHONPATH:+:$PYTHONPATH}}"; '
)

from landmarkflow.console.estimate import megavoxels_of
from landmarkflow.console.handler import attach
from landmarkflow.console.plan import plan_of
from landmarkflow.core.code_hash import code_hash
from landmarkflow.core.errors import InputError
from landmarkflow.core.locks import clear_stale_locks, hold
from landmarkflow.core.records import TEMPLATE
from landmarkflow.data import stages as data
from landmarkflow.evaluation import stages as evaluation
from landmarkflow.marks import in_report
from landmarkflow.registry import METHODS, STAGES
from landmarkflow.report import stages as report
from landmarkflow.study.config import ID
from landmarkflow.workflow.configured import study_of
from landmarkflow.workflow.rules import Workflow, as_json

# What is loaded stays: no more is it looked through for garbage while jobs are made of the rules.
gc.freeze()

if "study" not in config:

    configfile: ROOT / "config.yaml"


def tell(line: str) -> None:
    """Say something on stderr at the start of a run, and not again in its jobs."""
    if workflow.is_main_process:
        print(f"landmarkflow: {InputError(line)}", file=sys.stderr)


try:
    STUDY = study_of(config, METHODS, Path("results"), ROOT / "studies", tell)
    FLOW = Workflow(STUDY, METHODS, STAGES)
    # Where the scans lie may have another name for the jobs, on another machine.
    if workflow.is_main_process:
        FLOW.check_source()
except InputError as error:
    raise SystemExit(f"landmarkflow: {error}") from None

CONFIG = STUDY.config
RESULTS = FLOW.results
# Scans that are templates of runs, in a batch of their own: one without a result stops the study.
TEMPLATES = STUDY.all_templates
PREPARED = ({TEMPLATE: TEMPLATES} if TEMPLATES else {}) | STUDY.batches


CONSOLE = attach(workflow, plan_of(FLOW, megavoxels_of(STUDY)))

if workflow.is_main_process:
    clear_stale_locks(RESULTS)


onstart:
    try:
        hold(RESULTS)
        FLOW.begin(tell)
    except InputError as error:
        raise SystemExit(f"landmarkflow: {error}") from None


onsuccess:
    if CONSOLE:
        CONSOLE.end(well=True)


onerror:
    if CONSOLE:
        CONSOLE.end(well=False)


wildcard_constraints:
    scan=ID,


def growing(amount: int):
    """A resource of which every further attempt gets more: a job may have been killed for it."""
    return lambda wildcards, attempt: attempt * amount
