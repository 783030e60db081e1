"""How far a run is: counted from Snakemake's events, told in lines of plain words."""

import re
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from landmarkflow.console.estimate import cost_of, in_words, seconds
from landmarkflow.console.job_log import JobLog
from landmarkflow.console.plan import Part, Plan, counted

# How the commands of stages that train begin.
TRAINING = "train_"
# Another stage that serves no scan and is done so soon has no line of its own.
SHORTEST_S = 8.0
# Warnings of jobs that are shown: each further one is in a log, in failures.csv and in the report.
MOST_WARNINGS = 8
# A doubtful scan has a result: it is counted at the end, where the one in most doubt is named.
DOUBT = re.compile(r"\S+: doubtful: ")
# Of the stages at work, as many are named in a line.
MOST_NAMED = 3


@dataclass
class Stage:
    """A stage of the run: its jobs, its scans, and since when it runs."""

    jobs: int = 0
    scans: int = 0
    jobs_done: int = 0
    scans_done: int = 0
    started: float | None = None


@dataclass
class Job:
    """A job at work."""

    rule: str
    part: Part
    cost: float
    log: JobLog | None = None


@dataclass
class Progress:
    """The state of a run.

    Attributes:
        plan: the study.
        cores: on how many cores it runs.
        clock: seconds of a steady clock.
    """

    plan: Plan
    cores: int = 1
    clock: Callable[[], float] = time.monotonic
    stages: dict[str, Stage] = field(default_factory=lambda: defaultdict(Stage))
    running: dict[int, Job] = field(default_factory=dict)
    total_s: float = 0.0
    done_cost: float = 0.0
    total_cost: float = 0.0
    _told: set[str] = field(default_factory=set)

    def begin(self, jobs: Mapping[str, int]) -> None:
        """Take what is to be done: the number of jobs by their rule's name."""
        self.started = self.clock()
        for rule, count in jobs.items():
            part = self.plan.part(rule)
            stage = self.stages[part.stage]
            stage.jobs += count
            stage.scans += count * part.scans
            self.total_cost += count * cost_of(part, self.plan.megavoxels)
        self.total_s = seconds(self.plan, jobs, self.cores)

    def job_starts(self, number: int, rule: str, logs: Sequence[str]) -> None:
        """A job is handed to a core."""
        part = self.plan.part(rule)
        stage = self.stages[part.stage]
        if stage.started is None:
            stage.started = self.clock()
        cost = cost_of(part, self.plan.megavoxels)
        log = JobLog(Path(logs[0])) if logs else None
        self.running[number] = Job(rule, part, cost, log)

    def job_ends(self, number: int) -> list[str]:
        """A job has ended well; returns what is to be said."""
        job = self.running.pop(number, None)
        if job is None:
            return []
        said = self._warnings([job])
        stage = self.stages[job.part.stage]
        stage.jobs_done += 1
        stage.scans_done += job.part.scans
        self.done_cost += job.cost
        if stage.jobs_done == stage.jobs:
            took = self.clock() - (stage.started or 0.0)
            trains = job.part.stage.startswith(TRAINING)
            if stage.scans or trains or took >= SHORTEST_S:
                said.append(f"{self._clock()}  {self._done(job.part.stage, stage, took)}")
        return said

    def job_fails(self, number: int) -> list[str]:
        """A job has failed; returns the warnings that it leaves."""
        job = self.running.pop(number, None)
        return self._warnings([job]) if job else []

    def look(self) -> list[str]:
        """Look into the logs of the jobs at work; returns the warnings that are new."""
        return self._warnings(list(self.running.values()))

    def line(self) -> str:
        """What is at work, how much of all is done, and the time that is left."""
        work = self._at_work()
        named = ", ".join(work[:MOST_NAMED]) + (", …" if len(work) > MOST_NAMED else "")
        left = f", about {in_words(self.left_s)} left" if self.left_s else ""
        return f"{self._clock()}  … {named or 'waiting'}: {self.percent} % done{left}"

    @property
    def percent(self) -> int:
        """The share of the work that is done."""
        total = self.total_cost or 1.0
        return min(int(100 * self._cost_so_far() / total), 99)

    @property
    def elapsed_s(self) -> float:
        """Seconds since the first job could start."""
        return self.clock() - self.started

    @property
    def left_s(self) -> float:
        """Seconds that are left: as estimated before, at the pace of this run as far as it is."""
        share = self._cost_so_far() / (self.total_cost or 1.0)
        # As if a twentieth had gone as it was estimated.
        pace = (self.elapsed_s + 0.05 * self.total_s) / ((share + 0.05) * (self.total_s or 1.0))
        return max((1 - share) * self.total_s * pace, 0.0)

    def _cost_so_far(self) -> float:
        return self.done_cost + sum(job.cost * _share(job) for job in self.running.values())

    def _warnings(self, jobs: Sequence[Job]) -> list[str]:
        found = []
        for job in jobs:
            for said in job.log.follow() if job.log else []:
                if said in self._told or DOUBT.match(said):
                    continue
                self._told.add(said)
                if len(self._told) <= MOST_WARNINGS:
                    found.append(said)
                elif len(self._told) == MOST_WARNINGS + 1:
                    found.append("(Further warnings are in the logs, failures.csv and the report.)")
        return found

    def _at_work(self) -> list[str]:
        """The stages at work, each with its scans or its epoch."""
        found = {}
        for job in self.running.values():
            name, stage = job.part.stage, self.stages[job.part.stage]
            said = in_plain_words(name)
            if job.log and job.log.epoch:
                said += " epoch {} of at most {}".format(*job.log.epoch)
            elif stage.scans:
                here = [j for j in self.running.values() if j.part.stage == name]
                done = stage.scans_done + sum(_served(j) for j in here)
                said += f" {done} of {counted(stage.scans, 'scan')}"
            found[name] = said
        return list(found.values())

    def _done(self, name: str, stage: Stage, took: float) -> str:
        served = f"  {counted(stage.scans, 'scan')}" if stage.scans else ""
        return f"{in_plain_words(name)}{served} in {in_seconds(took)}"

    def _clock(self) -> str:
        return f"{in_seconds(self.elapsed_s):>7}"


def in_plain_words(command: str) -> str:
    """A stage's command as words."""
    return command.replace("_", " ")


def in_seconds(duration: float) -> str:
    """Minutes and seconds, or hours, minutes and seconds."""
    minutes, rest = divmod(int(duration), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _served(job: Job) -> int:
    return min(job.log.served, job.part.scans) if job.log else 0


def _share(job: Job) -> float:
    """Of a job at work, the share that is done."""
    if job.log and job.log.epoch:
        return job.log.epoch[0] / max(job.log.epoch[1], 1)
    return _served(job) / job.part.scans if job.part.scans else 0.0
