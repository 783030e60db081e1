"""The study that this run is about, and what the rules ask of it."""

import json
import os
import shlex
import sys
from pathlib import Path

# Jobs start `python -m landmarkflow` in the working directory, which need not be this one. The
# path is no part of their commands: a repository that has moved would run everything again. The
# prefix of all commands sets it, because Snakemake takes PYTHONPATH from jobs in conda environments.
ROOT = Path(workflow.basedir)
sys.path.insert(0, str(ROOT))
os.environ.update(LANDMARKFLOW_ROOT=str(ROOT))
shell.prefix(
    "set -euo pipefail;"
    ' export PYTHONPATH="$LANDMARKFLOW_ROOT${{PYTHONPATH:+:$PYTHONPATH}}"; '
)

from landmarkflow.study.ablation import Training, plan, read_preset, read_seeds
from landmarkflow.core.errors import InputError
from landmarkflow.core.code_hash import code_hash
from landmarkflow.core.locks import clear_stale_locks, hold
from landmarkflow.study.study import (
    OriginFile,
    Scan,
    Study,
    Template,
    cohort_number,
    load_config,
    load_study,
    write_sheet,
)

if "study" not in config:

    configfile: ROOT / "config.yaml"


# What the command line says of an ablation, of which a study knows nothing.
ABLATION = ("seeds", "presets")


def study_of(settings: dict) -> Study:
    """The checked study, or one sentence on what is wrong with it."""
    settings = {name: value for name, value in settings.items() if name not in ABLATION}
    folder = settings.pop("data_folder", None)
    template_scan = settings.pop("template_scan", "") if "data_of" in settings else ""
    data_of = settings.pop("data_of", settings.get("study", ""))
    data = settings.get("data") or {}
    if folder and isinstance(data, dict):
        settings["data"] = {**data, "folder": str(folder)}
    try:
        checked = load_config(settings)
        return load_study(checked, Path("results") / data_of, template_scan)
    except InputError as error:
        raise SystemExit(f"landmarkflow: {error}") from None


def ablation_of(settings: dict) -> tuple[list[dict], list[Training]]:
    """The presets beside the study, and the trainings of all, or what is wrong in one sentence."""
    own = {name: value for name, value in settings.items() if name not in ABLATION}
    data = {"data_folder": own["data_folder"]} if "data_folder" in own else {}
    names = str(settings.get("presets") or "").split()
    try:
        presets = [read_preset(ROOT / "studies", name) | data for name in names]
        return presets, plan([own, *presets], read_seeds(settings["seeds"]))
    except InputError as error:
        raise SystemExit(f"landmarkflow: {error}") from None


STUDY = study_of(config)
CONFIG = STUDY.config
# The scan that takes the template's place, where there is one, in a module of a study of several.
TEMPLATE_SCAN = config.get("template_scan", "")
FURTHER_TEMPLATES = {} if TEMPLATE_SCAN else STUDY.templates
RESULTS = Path("results") / CONFIG.study
STORE = RESULTS / ".store"
# The folders that a run keeps to itself; an ablation has more.
HELD = [RESULTS]
TEMPLATE = "template"
SEGMENTATION = STUDY.template.segmentation or str(
    RESULTS / "template/segmentation.nii.gz"
)

# Whose references and regions this run prepares, by batches. What neither another seed nor another
# template changes is read from the results of the study `data_of`.
if "data_of" not in config:
    PREPARED = {TEMPLATE: (TEMPLATE,), **STUDY.batches}
elif TEMPLATE_SCAN:
    PREPARED = {TEMPLATE: (TEMPLATE,)}
else:
    PREPARED = {}

# What the study was given: scan, role and path.
GIVEN = [
    (scan, role, path)
    for scan, entry in {
        TEMPLATE: STUDY.template,
        **FURTHER_TEMPLATES,
        **STUDY.scans,
    }.items()
    for role, path in entry
    if role in ("image", "landmarks", "segmentation") and path
]


if workflow.is_main_process:
    clear_stale_locks(RESULTS)


onstart:
    try:
        for folder in HELD:
            hold(folder)
    except InputError as error:
        raise SystemExit(f"landmarkflow: {error}") from None


wildcard_constraints:
    scan="[A-Za-z0-9][A-Za-z0-9_-]*",


def command(name: str) -> str:
    """The start of a rule's shell command: one command of the package, with its log."""
    return f"python -m landmarkflow --log {{log}} {name}"


def code(name: str) -> str:
    """Hash of all code of the package that a command runs; a change reruns its rule."""
    return code_hash(f"landmarkflow.commands.{name}")


def growing(amount: int):
    """A resource of which every further attempt gets more: a job may have been killed for it."""
    return lambda wildcards, attempt: attempt * amount


def settings(model) -> str:
    """A stage's settings as JSON, as its command takes them."""
    return model.model_dump_json()


def entry_of(scan: str) -> Scan | Template:
    """What the study states of a scan or of the template."""
    return STUDY.template if scan == TEMPLATE else STUDY.scans[scan]


def image_of(scan: str) -> str:
    """Path of a scan's image, a file or a DICOM folder."""
    return entry_of(scan).image


def scan_files(scan: str) -> list[str]:
    """All files of a scan's image, so that a change in a DICOM folder is seen."""
    path = Path(image_of(scan))
    return sorted(map(str, path.iterdir())) if path.is_dir() else [str(path)]


def frame_option(frame: str, name: str = "--frame") -> str:
    """The option that states a landmark file's frame, or nothing where the file does."""
    return f"{name} {frame}" if frame else ""


def hand_of(scan: str) -> str:
    """Whether a scan shows the template's side, the other one, or which is not known."""
    if scan == TEMPLATE:
        return "other"  # It is only ever registered with its own mirror image.
    side, template = STUDY.scans[scan].side, STUDY.template.side
    if not template:
        return "same"
    if not side:
        return "unknown"
    return "same" if side == template else "other"


def for_scans(pattern: str, scans) -> list[str]:
    """One path for each scan of a batch."""
    return [str(RESULTS / pattern.format(scan=scan)) for scan in scans]


def origin_file(wildcards) -> OriginFile:
    """Where a file of the study comes from."""
    name = wildcards.file
    scan = TEMPLATE if name.startswith("template/") else Path(name).name.split(".")[0]
    origin = CONFIG.data.origin
    source = origin.template if scan == TEMPLATE else origin.scans[scan]
    return source.image if name.endswith(".nii.gz") else source.landmarks
