"""The console as a handler of Snakemake's logger plugins.

The Snakefile puts it in the place of Snakemake's own handler. A plugin that is chosen by `--logger`
must be installed as a package of its own beside Snakemake; this one comes with the Snakefile, so
that it is there in every checkout and every environment.
"""

import logging
import os
import re
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent

from landmarkflow.console.closing import closing_lines
from landmarkflow.console.estimate import expected
from landmarkflow.console.job_log import end_of
from landmarkflow.console.plan import Plan, counted
from landmarkflow.console.progress import Progress, in_plain_words, in_seconds
from landmarkflow.console.screen import Screen
from landmarkflow.core.errors import InputError
from landmarkflow.engine.cli import QUIET

# Of Snakemake's table of jobs: the sum, and the job that stands for all that is asked for.
NO_STAGES = ("total", "all")
LAST_CHECK = "check_scans"
SNAKEMAKES_OWN = "DefaultStreamHandler"
BUILDING = "Building DAG of jobs..."
# What Snakemake says before a run and nobody needs to read.
NEEDLESS = re.compile(
    r"Assuming unrestricted shared|Building DAG|Using shell|Provided |Rules claiming|Group jobs:"
    r"|Conda environments: ignored|Singularity containers: ignored|Config file .* is extended by"
    r"|host: "
)
# What it says while jobs run and somebody must.
NEEDED = re.compile(r"Will exit|Terminating|Trying to restart|Waiting for|Complete log")
# Errors that the console has told already, in its own way.
TOLD = re.compile(r"CalledProcessError|did not complete successfully|Exiting because a job")
# Errors of jobs: some are shown with the end of their log, some by name, the rest are counted.
MOST_SHOWN, MOST_NAMED = 3, 12
TICK_S = 0.5


class Console(LogHandlerBase):
    """A run in plain lines.

    Attributes:
        plan: the study.
        cores: on how many cores it runs.
        clock: seconds of a steady clock.
        screen: where it writes.
    """

    def __init__(self, common_settings: Any, settings: Any = None) -> None:
        super().__init__(common_settings, settings)
        self.plan = Plan("", Path(), (), ())
        self.cores = 1
        self.clock: Callable[[], float] = time.monotonic
        self.progress: Progress | None = None
        self.screen = Screen()
        # Of what is written: Snakemake's threads and the one that looks at logs take turns.
        self._lines = threading.RLock()
        self._stop = threading.Event()
        self._failed: dict[tuple[str, ...], str] = {}
        self._is_dry = bool(getattr(common_settings, "dryrun", False))

    @property
    def writes_to_stream(self) -> bool:
        """It writes to stderr."""
        return True

    @property
    def writes_to_file(self) -> bool:
        """Snakemake's own text goes to its own log file."""
        return False

    @property
    def has_filter(self) -> bool:
        """It chooses by itself what is said."""
        return True

    @property
    def has_formatter(self) -> bool:
        """It words by itself what is said."""
        return True

    @property
    def needs_rulegraph(self) -> bool:
        """It needs no graph."""
        return False

    def emit(self, record: logging.LogRecord) -> None:
        """Say what is worth a line of what Snakemake logs."""
        try:
            with self._lines:
                self._take(record)
        except Exception:  # noqa: BLE001 - what the console cannot tell must end no run
            self.handleError(record)

    def close(self) -> None:
        """End the line that is open, and the thread that looks at the jobs' logs."""
        self._stop.set()
        self.screen.close()
        super().close()

    def end(self, *, well: bool) -> None:
        """Say how a run has ended."""
        with self._lines:
            self._stop.set()
            if self.progress is None:
                return
            took = in_seconds(self.progress.elapsed_s)
            left_out = len(self._failed) - MOST_NAMED
            if left_out > 0:
                self.screen.say(f"… and {counted(left_out, 'more job')} failed likewise.")
            refused = LAST_CHECK in self._failed.values()
            if well:
                self.screen.say(f"Study {self.plan.study} is done after {took}.")
            elif refused and len(self._failed) == 1:
                said = "but for the scans that are told above"
                self.screen.say(f"Study {self.plan.study} is done after {took}, {said}.")
            else:
                failed = f"{counted(len(self._failed), 'job')} failed, as told above"
                self.screen.say(
                    f"Study {self.plan.study} is not done after {took}"
                    f"{f': {failed}' if self._failed else ''}. The same command goes on from here."
                )
            if well or refused:
                for line in closing_lines(self.plan):
                    self.screen.say(f"  {line}")

    def _take(self, record: logging.LogRecord) -> None:
        event = getattr(record, "event", None)
        facts = record.__dict__
        match event:
            case LogEvent.RUN_INFO:
                self._begin(facts["stats"])
            case LogEvent.JOB_INFO:
                self._job_starts(facts)
            case LogEvent.JOB_FINISHED:
                self._job_ends(facts["job_id"])
            case LogEvent.JOB_ERROR:
                self._job_fails(facts)
            case LogEvent.ERROR | None:
                self._say_of(record)
            case _:
                pass

    def _say_of(self, record: logging.LogRecord) -> None:
        text = str(record.msg or "").strip()
        if text == BUILDING:
            self.screen.say(self.plan.what)
        elif record.levelno >= logging.WARNING:
            if not (self.progress and TOLD.search(text)):
                self.screen.say(text, self._now())
        elif record.levelno >= logging.INFO and text:
            wanted = NEEDED.match(text) if self.progress else not NEEDLESS.match(text)
            if wanted:
                self.screen.say(text, self._now())

    def _begin(self, stats: Mapping[str, int]) -> None:
        if self.progress is not None:
            return
        jobs = {name: int(count) for name, count in stats.items() if name not in NO_STAGES}
        self.progress = Progress(self.plan, self.cores, self.clock)
        self.progress.begin(jobs)
        if self._is_dry:
            for name, stage in self.progress.stages.items():
                scans = f", {counted(stage.scans, 'scan')}" if stage.scans else ""
                line = f"  {in_plain_words(name):<22} {counted(stage.jobs, 'job')}{scans}"
                self.screen.say(line)
        self.screen.say(expected(self.plan, jobs, self.cores))
        if self._is_dry:
            self.screen.say("This was a dry run: nothing was started.")
        else:
            threading.Thread(target=self._watch, daemon=True).start()

    def _job_starts(self, facts: Mapping[str, Any]) -> None:
        is_job = not self._is_dry and facts["rule_name"] not in NO_STAGES
        if self.progress is not None and is_job:
            self.progress.job_starts(facts["jobid"], facts["rule_name"], facts["log"])

    def _job_ends(self, number: int) -> None:
        if self.progress is not None:
            for line in self.progress.job_ends(number):
                self.screen.say(line, self._now())

    def _job_fails(self, facts: Mapping[str, Any]) -> None:
        if self.progress is None:
            return
        for line in self.progress.job_fails(facts["jobid"]):
            self.screen.say(line, self._now())
        name, logs = facts["rule_name"], [str(log) for log in facts["log"]]
        # A job that fails again, when it is tried again, is no news.
        if (name, *logs) in self._failed:
            return
        self._failed[name, *logs] = name
        if len(self._failed) > MOST_NAMED:
            return
        said = f"{in_plain_words(name)} failed"
        end = end_of(Path(logs[0])) if logs else []
        if len(self._failed) > MOST_SHOWN or not end:
            self.screen.say(f"{said}; its log: {logs[0] if logs else 'none'}", self._now())
            return
        self.screen.say(f"{said}; its log, {logs[0]}, ends with:", self._now())
        for line in end:
            # What a file is called may hold control characters, a terminal's included.
            self.screen.say(str(InputError(line)), self._now())

    def _now(self) -> float:
        return self.progress.elapsed_s if self.progress else 0.0

    def look(self) -> None:
        """Show how far the run is, where it is time to."""
        with self._lines:
            progress = self.progress
            if progress is None or self._stop.is_set():
                return
            for line in progress.look():
                self.screen.say(line, progress.elapsed_s)
            self.screen.show(progress.line, lambda: f"{progress.percent} %", progress.elapsed_s)

    def _watch(self) -> None:
        while not self._stop.wait(TICK_S):
            self.look()


def attach(workflow: Any, plan: Plan) -> Console | None:
    """Put the console in the place of Snakemake's own handler; None where it is to stay.

    It stays where somebody asks for its details (`--printshellcmds`, `--verbose`, `--debug-dag`,
    `--quiet`) or for a logger plugin that writes to the screen itself, and in a job on a cluster.

    Args:
        workflow: Snakemake's workflow.
        plan: the study.
    """
    manager = workflow.logger_manager
    settings = manager.settings
    asks = settings.verbose or settings.printshellcmds or settings.debug_dag or settings.quiet
    own = [handler for handler in manager.logger.handlers if handler.name == SNAKEMAKES_OWN]
    if asks or not own or not workflow.is_main_process:
        return None
    console = Console(settings)
    console.plan = plan
    console.cores = _cores(workflow)
    console.screen = Screen(own[0].stream)
    manager.logger.removeHandler(own[0])
    manager.logger.addHandler(console)
    # Jobs write to their logs, which the console reads.
    os.environ[QUIET] = "1"
    return console


def _cores(workflow: Any) -> int:
    asked = workflow.resource_settings.cores
    nodes = workflow.resource_settings.nodes
    if nodes is not None:
        return min(int(nodes), 50)
    here = len(os.sched_getaffinity(0))
    return here if asked is None else max(min(int(asked), 10_000), 1)
