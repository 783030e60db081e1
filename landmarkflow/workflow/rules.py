"""A stage as a rule: its inputs, outputs, parameters and command, for Snakemake.

What depends on the run is given as a function of the rule's wildcards, of which only `run` counts.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from landmarkflow.core.code_hash import code_hash
from landmarkflow.core.files import stamp
from landmarkflow.core.records import TEMPLATE
from landmarkflow.data.stages import SCANS
from landmarkflow.engine.stage import Places, Stage, stage_of
from landmarkflow.study.folder import Tell
from landmarkflow.study.kept import check_source, remember_source, set_aside
from landmarkflow.study.runs import Run
from landmarkflow.study.same import parts_of
from landmarkflow.study.sheet import FILE_COLUMNS
from landmarkflow.workflow.stages import StudyStages

Files = Callable[[Any], list[str]]
# The scans that a job serves, or what they are in each run.
Scans = Sequence[str] | Callable[[Run], Sequence[str]]


class Workflow(StudyStages):
    """What the rules of a study are made from."""

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
            found["run"] = lambda wildcards: self._named(stage, self._run(stage, wildcards))
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

    def _named(self, stage: Stage, run: Run) -> str:
        """A run, and the others with which files lie that a stage reads, for its command."""
        read = set(map(stage_of, stage.reads.values()))
        held = self.places(run).held.items()
        return " ".join([run.name, *(f"{name}={other}" for name, other in held if name in read)])

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

    def _run(self, stage: Stage, wildcards: Any) -> Run:
        """The run that a job is of."""
        names = self.runs_of(stage)
        return self.study.runs[names[0] if len(names) == 1 else wildcards.run]

    def _rows(self, stage: Stage, scans: Sequence[str], wildcards: Any) -> dict[str, Any]:
        """What the sheet says of each scan that a stage needs, and of the run's template."""
        run = self._run_or_none(stage, wildcards)
        template = run.template if run else TEMPLATE
        rows = {}
        for scan in (*scans, *([TEMPLATE] if self.has_template(run) else [])):
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
