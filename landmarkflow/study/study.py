"""A study put together: its configuration, scans, templates and runs, without opening a scan."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from landmarkflow.core.errors import InputError
from landmarkflow.core.records import TEMPLATE
from landmarkflow.core.settings import merged
from landmarkflow.study.config import StudyConfig, Template, load_config
from landmarkflow.study.runs import MethodFacts, Run, read_yaml, runs_of
from landmarkflow.study.sheet import Scan
from landmarkflow.study.sources import source_of


@dataclass(frozen=True)
class Study:
    """A checked study.

    Attributes:
        config: the configuration.
        template: the one annotated scan.
        scans: those in which every run looks for landmarks, by id.
        runs: by name, each after those that it reads.
        templates: the scans of the sheet that are templates of runs, too.
        training: annotated scans for supervised methods; no run's results are measured on them.
    """

    config: StudyConfig
    template: Template
    scans: Mapping[str, Scan]
    runs: Mapping[str, Run]
    templates: Mapping[str, Template] = field(default_factory=dict)
    training: Mapping[str, Scan] = field(default_factory=dict)

    @property
    def batches(self) -> Mapping[str, tuple[str, ...]]:
        """Scans that are served by one process, in the sheet's order."""
        names = tuple(self.scans)
        step = self.config.batch_scans
        return {
            f"{start // step + 1:03d}": names[start : start + step]
            for start in range(0, len(names), step)
        }

    def entry(self, scan: str) -> Scan | Template:
        """What is stated of a scan, or of the template."""
        if scan == TEMPLATE:
            return self.template
        return self.templates.get(scan) or self.scans.get(scan) or self.training[scan]


def with_base(raw: Mapping[str, Any], folder: Path, below: tuple[Path, ...] = ()) -> dict[str, Any]:
    """Settings on top of the study file that their key `base` names in a folder."""
    name = raw.get("base")
    if not name:
        return dict(raw)
    path = folder / str(name)
    if path in below:
        raise InputError(f"{path}: is its own `base`, expected another study")
    base = with_base(read_yaml(path), path.parent, (*below, path))
    return merged(base, raw)


def load_study(
    raw: Mapping[str, Any], methods: Mapping[str, MethodFacts], results: Path, presets: Path
) -> Study:
    """Check a configuration and put its study together.

    Args:
        raw: the configuration as read from its files.
        methods: what there is to run.
        results: folder of all studies' results.
        presets: folder with `<method>/<preset>.yaml`.

    Raises:
        InputError: anything in it is wrong, in one sentence.
    """
    config = load_config(raw, {name: facts.settings for name, facts in methods.items()})
    source = source_of(config, results / config.study)
    runs = runs_of(config, methods, presets)
    scans = {scan.scan: scan for scan in source.scans}
    names = dict.fromkeys(run.template for run in runs.values() if run.template != TEMPLATE)
    templates = {name: _further_template(name, scans) for name in names}
    training = {name: scan for name, scan in scans.items() if scan.split}
    for name, scan in training.items():
        if not scan.landmarks:
            raise InputError(f"scan {name}: is to be learned from and has no landmarks")
    looked_in = {n: s for n, s in scans.items() if n not in templates and n not in training}
    if not looked_in:
        raise InputError(f"study {config.study}: there is no scan, expected at least one")
    return Study(config, source.template, looked_in, runs, templates, training)


def _further_template(name: str, scans: Mapping[str, Scan]) -> Template:
    """An annotated scan as a template."""
    if name not in scans:
        raise InputError(f"config: `runs`: the template {name} is no scan of the study")
    scan = scans[name]
    if not scan.landmarks:
        raise InputError(f"config: `runs`: the template {name} has no landmarks")
    return Template(
        image=scan.image,
        landmarks=scan.landmarks,
        segmentation=scan.segmentation,
        side=scan.side,
        frame=scan.frame,
    )
