"""A stage, said once: what it reads, writes and is set by; rules and commands take it from here.

Patterns of paths are relative to the study's results folder. In them {run} is the run, {scan} each
scan of a batch, {template} the scan that is the run's template, {of} each run that this run reads.
What a stage writes of a run lies in {run}/work/<its name>/, or beside that as a result of the run.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from landmarkflow.core.records import TEMPLATE

SHARED = "work/"
OF_A_RUN = "{run}/work/"


@dataclass(frozen=True)
class Stage:
    """What a stage reads and writes, and what else decides its results.

    Attributes:
        name: one word; the stage's folder, record, settings and log carry it.
        command: `verb_object`, the name of its rule and of its command.
        module: the module whose `run` does the work, with its full name.
        what: what it does, in one line.
        reads: pattern of each role that is read; one with {scan} is read for each scan.
        writes: pattern of each role that is written; the role `record` is written last.
        settings: names of the settings that decide its results.
        apart_from: what in these settings decides nothing, `train.regions`, say; the stage is not
            told of it.
        once: whether runs in which all is alike that decides its results have it run once: its
            files lie with the first of them. It then writes in its own folder alone.
        columns: columns of the sheet that decide a scan's results.
        after: role of the earlier stage's record: where that has no result, there is none here.
        peers: patterns that are read of the first scans of the study.
        peer_count: of how many, by the settings.
        of: patterns that are read of each scan in each run that this run is made of.
        only_if: roles that are read, of other runs too, or written under a condition on the
            settings.
    """

    name: str
    command: str
    module: str
    what: str
    writes: Mapping[str, str]
    reads: Mapping[str, str] = field(default_factory=dict)
    settings: tuple[str, ...] = ()
    apart_from: tuple[str, ...] = ()
    once: bool = False
    columns: tuple[str, ...] = ()
    after: str = ""
    peers: Mapping[str, str] = field(default_factory=dict)
    peer_count: Callable[[Mapping[str, Any]], int] = lambda settings: 0
    of: Mapping[str, str] = field(default_factory=dict)
    only_if: Mapping[str, Callable[[Mapping[str, Any]], bool]] = field(default_factory=dict)

    def gives(self, *roles: str, of: str = "{scan}") -> dict[str, str]:
        """Patterns of what the stage writes, as another one reads them.

        Args:
            roles: of its files; a record is read under the stage's own name, `align_record`, say.
            of: the scan whose files they are; by default each scan of a batch.
        """
        names = {role: f"{self.name}_record" if role == "record" else role for role in roles}
        before = "" if of == "{scan}" else "template_"
        return {before + names[role]: self.writes[role].replace("{scan}", of) for role in roles}

    def has(self, role: str, settings: Mapping[str, Any]) -> bool:
        """Whether a role is read or written under these settings."""
        return role not in self.only_if or self.only_if[role](settings)

    @property
    def is_of_a_run(self) -> bool:
        """Whether it is run once for each run, and not once for all."""
        return any("{run}" in pattern for pattern in self.writes.values())

    @property
    def is_by_scan(self) -> bool:
        """Whether it is given scans."""
        patterns = [*self.reads.values(), *self.writes.values(), *self.of.values()]
        return bool(self.columns) or any("{scan}" in pattern for pattern in patterns)


@dataclass(frozen=True)
class Places:
    """Where the files of one run of a study lie.

    Attributes:
        results: the study's results folder.
        run: name of the run; empty for what all runs share.
        template: id of the scan that is the run's template.
        held: the run with which the files of a stage lie, by the stage's name, where it is another
            one.
    """

    results: Path
    run: str = ""
    template: str = TEMPLATE
    held: Mapping[str, str] = field(default_factory=dict)

    def path(self, pattern: str, scan: str = "", of: str = "") -> Path:
        """The file of a pattern."""
        if scan == TEMPLATE and pattern.startswith(SHARED):
            scan = self.template
        run = self.held.get(stage_of(pattern), self.run)
        names = {"run": run, "scan": scan, "template": self.template, "of": of}
        return self.results / pattern.format(**names)

    def paths(self, pattern: str, scans: Sequence[str], runs: Sequence[str] = ("",)) -> list[str]:
        """The files of a pattern: one for each run and scan that it names, or one in all."""
        found = [self.path(pattern, scan, run) for run in runs for scan in scans or ("",)]
        return list(dict.fromkeys(map(str, found)))


def stage_of(pattern: str) -> str:
    """The stage in whose folder within a run a pattern's files lie; empty where there is none."""
    return pattern.removeprefix(OF_A_RUN).split("/")[0] if pattern.startswith(OF_A_RUN) else ""
