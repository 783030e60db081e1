"""What the stages of a study are in each of its runs: their settings, scans and places."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from landmarkflow.cohorts.kinds import KINDS, VOLUMES
from landmarkflow.core.records import TEMPLATE
from landmarkflow.core.settings import Settings
from landmarkflow.engine.method import Method
from landmarkflow.engine.stage import Places, Stage, stage_of
from landmarkflow.study.config import CohortSource
from landmarkflow.study.runs import Run
from landmarkflow.study.study import Study


@dataclass(frozen=True)
class StudyStages:
    """The stages of a study, and what each of them is in a run.

    Attributes:
        study: the study.
        methods: every method.
        stages: every stage.
        root: folder of all studies' results, as Snakemake names it.
    """

    study: Study
    methods: Mapping[str, Method]
    stages: Sequence[Stage]
    root: Path = Path("results")

    @property
    def results(self) -> Path:
        """The study's results folder."""
        return self.root / self.study.config.study

    def learned(self, run: Run) -> tuple[str, ...]:
        """The scans that a run learns from: the annotated ones, its template first, if it has one.

        Of these there are as many as the run states in `train`. With `train_on` they are those
        that another run annotates.
        """
        if run.train_on:
            return self.study.teaching
        method, study = self.methods[run.method], self.study
        own = (TEMPLATE,) if self.has_template(run) else ()
        column = "landmarks" if method.needs_template else method.learns_from
        others = [scan for scan in study.taught if scan != run.template]
        return (*own, *(s for s in others if getattr(study.entry(s), column)))[: run.train]

    def runs_of(self, stage: Stage) -> list[str]:
        """Names of the runs that a stage is run for; none where it is run once for all."""
        if not stage.is_of_a_run:
            return []
        own = [method.name for method in self.methods.values() if stage in method.stages]
        return [
            name
            for name, run in self.study.runs.items()
            if (not own or run.method in own) and stage.name not in self._held[name]
        ]

    def peers(self, stage: Stage, run: Run) -> list[str]:
        """The first scans of the study, as many as a stage reads in a run."""
        return list(self.study.teaching[: stage.peer_count(self.values(stage, run))])

    def first(self, stage: Stage) -> list[str]:
        """The first scans of the study, as many as a stage reads in any of its runs."""
        found = [self.peers(stage, self.study.runs[name]) for name in self.runs_of(stage)]
        return max(found, key=len, default=[])

    def places(self, run: Run | None) -> Places:
        """Where the files of a run lie, or of what all runs share."""
        if run is None:
            return Places(self.results)
        return Places(self.results, run.name, run.template, self._held[run.name])

    @cached_property
    def _held(self) -> dict[str, dict[str, str]]:
        """By run: the run with which files of a stage lie, where that is an earlier one."""
        held: dict[str, dict[str, str]] = {name: {} for name in self.study.runs}
        firsts: dict[str, str] = {}
        for run in self.study.runs.values():
            for stage in self.methods[run.method].stages:
                if stage.once:
                    first = firsts.setdefault(self._what_decides(stage, run, held), run.name)
                    held[run.name] |= {stage.name: first} if first != run.name else {}
        return held

    def _what_decides(self, stage: Stage, run: Run, held: Mapping[str, Mapping[str, str]]) -> str:
        """All that decides a stage's results in a run, as text."""
        read = sorted(filter(None, map(stage_of, stage.reads.values())))
        return json.dumps(
            [
                *(run.method, stage.name, self.values(stage, run)),
                *(run.template, run.train_on, run.of, self.learned(run)),
                *(held[run.name].get(name, run.name) for name in read),
            ]
        )

    def segments(self, run: Run) -> bool:
        """Whether a run leaves segmentations."""
        given = self.has_template(run) and bool(self.study.entry(run.template).segmentation)
        return self.methods[run.method].segments(run.settings, given)

    def has_template(self, run: Run | None) -> bool:
        """Whether there is an annotated scan that a run starts from, or all runs where none is."""
        return self.study.template is not None or (run is not None and run.template != TEMPLATE)

    def values(self, stage: Stage, run: Run | None) -> dict[str, Any]:
        """A stage's settings by name, of a run or of what all runs share."""
        known: dict[str, Callable[[], Any]] = {
            "seed": lambda: run.seed if run else self.study.config.seed,
            "segmented": lambda: run is not None and self.segments(run),
            "teacher": lambda: run.train_on if run else "",
            "references_segmented": lambda: any(s.segmentation for s in self.study.scans.values()),
            "referenced": lambda: any(scan.landmarks for scan in self.study.scans.values()),
            "counts_annotations": self._counts_annotations,
            "grouped": lambda: any(scan.group for scan in self.study.scans.values()),
            "in_pixels": lambda: self.study.are_pictures,
            "simulate": self._simulated,
            "study_labels": lambda: list(self.study.labels),
            "run": lambda: run and self._description(run),
            "study": lambda: self.study.config.model_dump(mode="json"),
            "modules": lambda: [(each.command, each.module) for each in self.stages],
            "histories": lambda: self._by_run(lambda method, run: method.histories),
            "shows": lambda: self._by_run(lambda method, run: method.shows(run.settings)),
            "draws_panels": lambda: run is not None and bool(self.methods[run.method].panels),
            "panels": lambda: self._by_run(lambda method, run: method.panel_files),
            "segmenting": lambda: [r.name for r in self.study.runs.values() if self.segments(r)],
        }
        found = {
            name: known[name]() if name in known else self._setting(stage, run, name)
            for name in stage.settings
        }
        for path in stage.apart_from:
            section, name = path.split(".")
            del found[section][name]
        return found

    def _counts_annotations(self) -> bool:
        """Whether one of several runs states how many annotated scans it learns from."""
        runs = self.study.runs.values()
        return len(runs) > 1 and any(run.train for run in runs)

    def _simulated(self) -> dict[str, Any]:
        """The cohort that is simulated: its kind, what is written of it, seed and settings."""
        cohort = self.study.config.data.cohort or CohortSource()
        kind = KINDS.get(cohort.kind)
        settings: Settings = getattr(cohort, cohort.kind if kind else VOLUMES[cohort.kind].settings)
        return {
            "kind": cohort.kind,
            "pictures": kind is not None,
            "gaze": kind is not None and kind.gaze,
            "seed": cohort.seed,
            "settings": settings.model_dump(mode="json"),
        }

    def _setting(self, stage: Stage, run: Run | None, name: str) -> Any:
        config = self.study.config
        of_method = [
            run.settings if run else config.of_method(method.name)
            for method in self.methods.values()
            if stage in method.stages
        ]
        for settings in (*of_method, config.data, config):
            if name in type(settings).model_fields:
                return settings.model_dump(mode="json")[name]
        raise KeyError(f"{stage.command}: no setting has the name {name}")

    def _description(self, run: Run) -> dict[str, Any]:
        """What the study states of a run, with the printed names of its steps."""
        steps = dict(self.methods[run.method].steps)
        for other in run.of[:1]:
            before = self._description(self.study.runs[other])["steps"]
            steps = {name: before.get(name, "") for name in before if name != "final"} | steps
        return {
            "run": run.name,
            "entry": run.entry,
            "method": run.method,
            "seed": run.seed,
            "template": run.template,
            "preset": run.preset,
            "of": list(run.of),
            "train": run.train,
            "steps": steps,
            "settings": run.settings.model_dump(mode="json"),
        }

    def _by_run(self, files: Callable[[Method, Run], Mapping[str, str]]) -> dict[str, Any]:
        """For each run, files of its method by what they are, with {scan} where one is a scan's."""
        found = {}
        for name, run in self.study.runs.items():
            places, patterns = self.places(run), files(self.methods[run.method], run)
            found[name] = {what: str(places.path(p, "{scan}")) for what, p in patterns.items()}
        return found
