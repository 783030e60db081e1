"""What the console must know of a study before anything runs."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from landmarkflow.core.records import TEMPLATE
from landmarkflow.workflow.rules import Workflow

# Of stages that make or fetch one file a job, whose scans are not known to their rule.
BY_FILE = ("simulate_scan", "fetch_file")
TRAINING = "training"


@dataclass(frozen=True)
class Part:
    """A rule as a part of a stage.

    Attributes:
        stage: the stage's command, `align_scans`, say.
        scans: of the study that one job of the rule serves; 0 where it serves no scan by itself.
    """

    stage: str
    scans: int = 0


@dataclass(frozen=True)
class Plan:
    """A study as the console tells of it.

    Attributes:
        study: its name.
        results: its results folder.
        scans: ids of its scans.
        runs: names of its runs.
        parts: of which stage each rule is, by the rule's name.
        megavoxels: size of a scan in million voxels, a guess before it is read.
        is_given: whether its scans are given, and not simulated or fetched.
    """

    study: str
    results: Path
    scans: tuple[str, ...]
    runs: tuple[str, ...]
    parts: Mapping[str, Part] = field(default_factory=dict)
    megavoxels: float = 10.0
    is_given: bool = True

    def part(self, rule: str) -> Part:
        """The stage that a rule is a part of; a rule that is none stands for itself."""
        # Beside batches of scans there are rules for networks, of a fold each: train_zoomin_fold-1.
        stage = rule.rpartition("_")[0]
        return self.parts.get(rule) or self.parts.get(stage, Part(rule))

    @property
    def what(self) -> str:
        """The study in a line."""
        named = ", ".join(self.runs[:6]) + (", …" if len(self.runs) > 6 else "")
        return (
            f"Study {self.study}: {counted(len(self.scans), 'scan')}, "
            f"{counted(len(self.runs), 'run')} ({named})"
        )


def plan_of(flow: Workflow, megavoxels: float) -> Plan:
    """The plan of a study, from its workflow and the size of its scans."""
    study = flow.study
    batches = {TEMPLATE: 0, TRAINING: 0, **{name: len(b) for name, b in study.batches.items()}}
    parts = {}
    for stage in flow.stages:
        own = 1 if stage.command in BY_FILE else 0
        parts[stage.command] = Part(stage.command, own)
        for batch, scans in batches.items():
            parts[f"{stage.command}_{batch}"] = Part(stage.command, scans)
    return Plan(
        study=study.config.study,
        results=flow.results,
        scans=tuple(study.scans),
        runs=tuple(study.runs),
        parts=parts,
        megavoxels=megavoxels,
        is_given=bool(study.config.data.folder or study.config.data.sheet),
    )


def counted(number: int, noun: str) -> str:
    """A number with its noun: 1 scan, 2 scans."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
