"""A stage as a rule: its inputs, outputs, parameters and command, for Snakemake.

What depends on the run is given as a function of the rule's wildcards, of which only `run` counts.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from landmarkflow.cohorts.kinds import KINDS, VOLUMES
from landmarkflow.core.code_hash import code_hash
from landmarkflow.core.errors import InputError
from landmarkflow.core.files import stamp
from landmarkflow.core.records import TEMPLATE
from landmarkflow.core.settings import Settings, merged
from landmarkflow.data.stages import SCANS
from landmarkflow.engine.method import Method
from landmarkflow.engine.stage import Places, Stage
from landmarkflow.study.config import CohortSource
from landmarkflow.study.folder import Tell
from landmarkflow.study.kept import check_source, remember_source, set_aside
from landmarkflow.study.runs import MethodFacts, Run
from landmarkflow.study.same import parts_of
from landmarkflow.study.sheet import FILE_COLUMNS
from landmarkflow.study.study import Study, load_study, with_base

Files = Callable[[Any], list[str]]
# The scans that a job serves, or what they are in each run.
Scans = Sequence[str] | Callable[[Run], Sequence[str]]


def study_of(
    settings: Mapping[str, Any],
    methods: Mapping[str, Method],
    results: Path,
    studies: Path,
    tell: Tell = lambda line: None,
) -> Study:
    """The study of a configuration and of what the command line says beside it.

    Args:
        settings: the configuration; `data_folder` overrules where its scans are, `seeds` how often
            each of its runs is made.
        methods: every method.
        results: folder of all studies' results.
        studies: folder of the study files, for `base`, with `presets/`.
        tell: is told what the user should know and is not wrong, a line each.

    Raises:
        InputError: anything in it is wrong, in one sentence.
    """
    stated = with_base(settings, studies)
    if folder := stated.pop("data_folder", None):
        stated = merged(stated, {"data": {"folder": str(folder)}})
    if (seeds := stated.pop("seeds", None)) is not None:
        stated["runs"] = _with_seeds(stated.get("runs"), str(seeds))
    facts = {
        m.name: MethodFacts(m.settings, m.shared, m.reads_runs, m.needs_template, m.learns_from)
        for m in methods.values()
    }
    return load_study(stated, facts, results, studies / "presets", tell)


def _with_seeds(runs: Any, seeds: str) -> Any:
    """The runs of a study, each that reads no other once for every seed."""
    numbers = seeds.split()
    if not numbers or not all(number.isdecimal() for number in numbers):
        raise InputError(
            f"seeds is {seeds!r}, expected different whole numbers separated by spaces, such as "
            '"1 2 3"'
        )
    stated = runs or {"oneshot": {"method": "oneshot"}}
    if not isinstance(stated, Mapping):
        return stated
    several = {"seeds": [int(number) for number in numbers]}
    alone = [n for n, run in stated.items() if isinstance(run, Mapping) and not run.get("of")]
    return merged(stated, dict.fromkeys(alone, several))


@dataclass(frozen=True)
class Workflow:
    """What the rules of a study are made from.

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
        own = (TEMPLATE,) if self._has_template(run) else ()
        column = "landmarks" if method.needs_template else method.learns_from
        others = [scan for scan in study.taught if scan != run.template]
        return (*own, *(s for s in others if getattr(study.entry(s), column)))[: run.train]

    def reads(self, stage: Stage, scans: Scans = (), runs: Sequence[str] = ()) -> dict[str, Any]:
        """The inputs of a stage's rule, by role.

        Args:
            stage: the stage.
            scans: that one job serves; a function where they depend on the run.
            runs: that are read by what all runs share.
        """
        found: dict[str, Any] = {
            role: self._files(stage, role, pattern, scans) for role, pattern in stage.reads.items()
        }
        if stage.peers:
            found["peers"] = self._peer_files(stage)
        if stage.of:
            found["of"] = self._run_files(stage, scans, runs)
        for column in self._file_columns(stage):
            found[f"sheet_{column}"] = self._made(stage, column, scans)
        return found

    def writes(self, stage: Stage, scans: Sequence[str] = ()) -> dict[str, list[str]]:
        """The outputs of a stage's rule, by role; they say of which runs it is.

        Of one run they have no wildcard: Snakemake compares each file that is asked for with every
        output that begins with one, which takes minutes for a thousand scans.
        """
        names = self.runs_of(stage)
        run = self.study.runs[names[0]] if names else None
        values = self.values(stage, run) if stage.only_if else {}
        constrained = f"{{run,{'|'.join(names)}}}" if len(names) > 1 else "".join(names)
        return {
            role: [
                file.replace("{run}", constrained, 1)
                for file in Places(self.results, "{run}").paths(pattern, scans)
            ]
            for role, pattern in stage.writes.items()
            if stage.has(role, values)
        }

    def decides(self, stage: Stage, scans: Scans = (), runs: Sequence[str] = ()) -> dict[str, Any]:
        """The parameters of a stage's rule: what decides its results beside the files it reads."""
        found: dict[str, Any] = {"code": code_hash(stage.module)}
        if stage.is_of_a_run:
            found["run"] = lambda wildcards: self._run(stage, wildcards).name
            found["template"] = lambda wildcards: self._run(stage, wildcards).template
        if stage.is_by_scan:
            found["scans"] = self._in_run(stage, scans, list)
        if stage.settings:
            found["settings"] = lambda w: as_json(self.values(stage, self._run_or_none(stage, w)))
        if stage.columns:
            found["sheet"] = lambda w: as_json(self._rows(stage, self._scans(stage, scans, w), w))
        if stage.peers:
            found["peers"] = lambda wildcards: self.peers(stage, self._run(stage, wildcards))
        if stage.of:
            found["of"] = lambda wildcards: self._runs_read(stage, wildcards, runs)
        if self._file_columns(stage):
            found["stamp"] = self._in_run(stage, scans, lambda names: self._stamp(stage, names))
        return found

    def _stamp(self, stage: Stage, scans: Sequence[str]) -> str:
        """What tells that given files were replaced, by more than their dates."""
        files = [f for column in self._file_columns(stage) for f in self._given(column, scans)]
        return stamp([p for f in files for p in parts_of(Path(f))], apart_from=self.results)

    def _made(self, stage: Stage, column: str, scans: Scans) -> Any:
        """The files that a column of the sheet names, as far as the workflow makes them.

        Given files are known by their stamps: Snakemake would refuse what is made of a file that
        is dated in the future.
        """

        def made(names: Sequence[str]) -> list[str]:
            return [f for f in self._given(column, names) if Path(f).is_relative_to(self.results)]

        return self._in_run(stage, scans, made)

    def _in_run(
        self, stage: Stage, scans: Scans, made: Callable[[Sequence[str]], list[str] | str]
    ) -> Any:
        """What is made of a job's scans; of those that depend on the run, as a function."""
        if not callable(scans):
            return made(scans)
        return lambda wildcards: made(self._scans(stage, scans, wildcards))

    def _scans(self, stage: Stage, scans: Scans, wildcards: Any) -> Sequence[str]:
        return scans(self._run(stage, wildcards)) if callable(scans) else scans

    def command(self, stage: Stage) -> str:
        """The shell command of a stage's rule."""
        options = {
            "run": "{params.run}" if stage.is_of_a_run else "",
            "template": "{params.template}" if stage.is_of_a_run else "",
            "scans": "{params.scans:q}" if stage.is_by_scan else "",
            "settings": "{params.settings:q}" if stage.settings else "",
            "sheet": "{params.sheet:q}" if stage.columns else "",
            "peers": "{params.peers}" if stage.peers else "",
            "of": "{params.of}" if stage.of else "",
        }
        given = " ".join(f"--{name} {value}" for name, value in options.items() if value)
        return (
            f"python -m landmarkflow stage --log {{log}} {stage.command} --threads {{threads}}"
            f" --results {self.results} {given}"
        )

    def log(self, stage: Stage, batch: str = "") -> Path:
        """The log of a stage's rule."""
        return self._work(stage) / "logs" / stage.name / f"{batch or stage.name}.log"

    def benchmark(self, stage: Stage, batch: str = "") -> Path:
        """What the jobs of a stage's rule cost."""
        return self._work(stage) / "benchmarks" / stage.name / f"{batch or stage.name}.tsv"

    def every(self, pattern: str) -> list[str]:
        """The files of a pattern in every run and for every scan."""
        runs, scans = self.study.runs.values(), list(self.study.scans)
        return [file for run in runs for file in self.places(run).paths(pattern, scans)]

    def ends(self) -> list[str]:
        """The files of stages that nothing else reads, of every run; runs differ in method."""
        found, scans = [], list(self.study.scans)
        for run in self.study.runs.values():
            for stage in self.methods[run.method].ends:
                values, places = self.values(stage, run), self.places(run)
                patterns = [p for role, p in stage.writes.items() if stage.has(role, values)]
                found += [file for pattern in patterns for file in places.paths(pattern, scans)]
        return found

    def check_source(self) -> None:
        """Refuse results of other scans in the study's folder.

        Raises:
            InputError: scans of another source left results there.
        """
        check_source(self.study.config, self.results)

    def begin(self, tell: Tell) -> None:
        """Prepare the results folder for a run that starts: no other one is at work in it.

        Where the scans come from is remembered, and results of scans that left the study are moved
        aside.
        """
        remember_source(self.study.config, self.results)
        # A stage that leaves no record for each scan may have other names in the place of scans.
        by_scan = [stage for stage in self.stages if "record" in stage.writes]
        patterns = [pattern for stage in by_scan for pattern in stage.writes.values()]
        others = [*self.study.templates, *self.study.training]
        set_aside(self.results, patterns, self.study.scans.keys(), others, tell)

    def peers(self, stage: Stage, run: Run) -> list[str]:
        """The first scans of the study, as many as a stage reads in a run."""
        return list(self.study.teaching[: stage.peer_count(self.values(stage, run))])

    def first(self, stage: Stage) -> list[str]:
        """The first scans of the study, as many as a stage reads in any of its runs."""
        found = [self.peers(stage, self.study.runs[name]) for name in self.runs_of(stage)]
        return max(found, key=len, default=[])

    def _run(self, stage: Stage, wildcards: Any) -> Run:
        """The run that a job is of."""
        names = self.runs_of(stage)
        return self.study.runs[names[0] if len(names) == 1 else wildcards.run]

    def runs_of(self, stage: Stage) -> list[str]:
        """Names of the runs that a stage is run for; none where it is run once for all."""
        if not stage.is_of_a_run:
            return []
        own = [method.name for method in self.methods.values() if stage in method.stages]
        return [name for name, run in self.study.runs.items() if not own or run.method in own]

    def places(self, run: Run | None) -> Places:
        """Where the files of a run lie, or of what all runs share."""
        return Places(self.results, run.name, run.template) if run else Places(self.results)

    def segments(self, run: Run) -> bool:
        """Whether a run leaves segmentations."""
        given = self._has_template(run) and bool(self.study.entry(run.template).segmentation)
        return self.methods[run.method].segments(run.settings, given)

    def _has_template(self, run: Run | None) -> bool:
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
        return {
            name: known[name]() if name in known else self._setting(stage, run, name)
            for name in stage.settings
        }

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

    def _rows(self, stage: Stage, scans: Sequence[str], wildcards: Any) -> dict[str, Any]:
        """What the sheet says of each scan that a stage needs, and of the run's template."""
        run = self._run_or_none(stage, wildcards)
        template = run.template if run else TEMPLATE
        rows = {}
        for scan in (*scans, *([TEMPLATE] if self._has_template(run) else [])):
            name = template if scan == TEMPLATE else scan
            entry = self.study.entry(name)
            row = {column: getattr(entry, column, None) for column in stage.columns}
            if "refused" in row:
                row["refused"] = self.study.refused.get(scan)
            if "split" in row:
                row["split"] = self.study.split_of(name)
            rows[scan] = {n: "" if value is None else str(value) for n, value in row.items()}
        return rows

    def _files(self, stage: Stage, role: str, pattern: str, scans: Scans) -> Files:
        def files(wildcards: Any) -> list[str]:
            run = self._run_or_none(stage, wildcards)
            if not stage.has(role, self.values(stage, run) if stage.only_if else {}):
                return []
            return self.places(run).paths(pattern, self._scans(stage, scans, wildcards))

        return files

    def _peer_files(self, stage: Stage) -> Files:
        def files(wildcards: Any) -> list[str]:
            run = self._run(stage, wildcards)
            peers, paths = self.peers(stage, run), self.places(run).paths
            return [file for p in stage.peers.values() for file in paths(p, peers) if peers]

        return files

    def _run_files(self, stage: Stage, scans: Scans, runs: Sequence[str]) -> Files:
        def files(wildcards: Any) -> list[str]:
            read = self._runs_read(stage, wildcards, runs)
            run = self._run_or_none(stage, wildcards)
            values = self.values(stage, run) if stage.only_if else {}
            patterns = [p for role, p in stage.of.items() if stage.has(role, values)]
            names, paths = self._scans(stage, scans, wildcards), Places(self.results).paths
            return [file for p in patterns for file in paths(p, names, read) if read]

        return files

    def _runs_read(self, stage: Stage, wildcards: Any, runs: Sequence[str]) -> list[str]:
        run = self._run_or_none(stage, wildcards)
        return [*run.of, *filter(None, [run.train_on])] if run else list(runs)

    def _run_or_none(self, stage: Stage, wildcards: Any) -> Run | None:
        return self._run(stage, wildcards) if stage.is_of_a_run else None

    @staticmethod
    def _file_columns(stage: Stage) -> list[str]:
        """The sheet's columns whose files a stage reads; an image only where it is digested."""
        return [c for c in stage.columns if c in FILE_COLUMNS and (c != "image" or stage == SCANS)]

    def _given(self, column: str, scans: Iterable[str]) -> list[str]:
        template = [TEMPLATE] if column == "landmarks" and self.study.template is not None else []
        names = dict.fromkeys((*scans, *template))
        return [file for scan in names if (file := getattr(self.study.entry(scan), column, ""))]

    def _work(self, stage: Stage) -> Path:
        names = self.runs_of(stage)
        return self.results / ("{run}" if len(names) > 1 else "".join(names)) / "work"


def as_json(values: Any) -> str:
    """Plain data as JSON; what is printed keeps its order."""
    return json.dumps(values)
