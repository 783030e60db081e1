"""What people see of a run: few plain lines, and what they say."""

import io
import itertools
import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import SAID
from snakemake_interface_logger_plugins.common import LogEvent
from workflow_runs import TINY, results, run_workflow

from landmarkflow.commands.check import jobs_of
from landmarkflow.commands.studies import workflow_of
from landmarkflow.console.closing import closing_lines, look_first
from landmarkflow.console.estimate import cost_of, expected, megavoxels_of
from landmarkflow.console.handler import Console
from landmarkflow.console.job_log import JobLog, end_of
from landmarkflow.console.plan import Plan, plan_of
from landmarkflow.console.screen import Screen

# A whole study


@pytest.mark.slow
def test_a_run_is_a_screen_of_plain_lines(tiny: Path) -> None:
    said = (tiny / SAID).read_text(encoding="utf-8")
    lines = said.splitlines()
    assert len(lines) <= 30, said
    assert lines[1] == "Study tiny: 4 scans, 1 run (oneshot)"
    assert re.match(r"Takes about .+ on 2 cores and \d+ MB of disk, an estimate", lines[2])
    for stage in ("simulate scan  5 scans", "train network", "centre targets  4 scans"):
        assert [line for line in lines if re.match(rf" +\d:\d\d  {stage} in \d:\d\d", line)], stage
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", said)
    end = said.partition("Study tiny is done after ")[2]
    for text in (
        "Report      results/tiny/report.html",
        "oneshot     4 ok, 0 doubtful, 0 failed, mean error 0.",
        "look first at ear00",
    ):
        assert text in end
    (log,) = re.findall(r"Complete log\(s\): (.+)", end)
    assert "rule train_network:" in Path(log).read_text(encoding="utf-8")


def test_a_dry_run_is_a_short_table_and_starts_nothing(root: Path, tmp_path: Path) -> None:
    run = run_workflow(root, tmp_path, "-n", "--configfile", root / "studies/cochlea200.yaml")
    assert run.status == 0, run.text
    assert "  locate regions         9 jobs, 200 scans\n" in run.stdout
    assert run.stdout.endswith("This was a dry run: nothing was started.\n")
    assert len(run.stdout.splitlines()) < 30
    assert not (tmp_path / "results").exists()


def test_snakemakes_own_text_is_there_for_whom_asks(root: Path, tmp_path: Path) -> None:
    options = ("-n", "--printshellcmds", "--configfile", TINY)
    run = run_workflow(root, tmp_path, *options)
    assert "Job stats:" in run.stdout
    assert "Study tiny" not in run.stdout


# Lines, by a clock


@dataclass
class Played:
    """A run that is played: jobs one after another, each as long as it is estimated."""

    plan: Plan
    jobs: Mapping[str, int]
    cores: int = 2
    is_terminal: bool = False
    now: float = 0.0
    written: list[tuple[float, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.console = Console(SimpleNamespace(dryrun=False))
        self.console.plan, self.console.cores = self.plan, self.cores
        self.console.clock = lambda: self.now
        self.console.screen = Screen(self._stream())

    def _stream(self) -> io.StringIO:
        played = self

        class Stream(io.StringIO):
            def write(self, text: str) -> int:
                played.written.append((played.now, text))
                return super().write(text)

            def isatty(self) -> bool:
                return played.is_terminal

        return Stream()

    @property
    def text(self) -> str:
        return "".join(text for _, text in self.written)

    def tell(self, event: LogEvent | None, message: str = "", **facts: object) -> None:
        record = logging.LogRecord("snakemake", logging.INFO, "", 0, message, (), None)
        record.__dict__.update(facts, event=event)
        self.console.emit(record)

    def run(self) -> None:
        self.tell(None, "Building DAG of jobs...")
        self.tell(LogEvent.RUN_INFO, stats={**self.jobs, "total": sum(self.jobs.values())})
        number = 0
        for rule, count in self.jobs.items():
            for _ in range(count):
                number += 1
                self.tell(LogEvent.JOB_INFO, jobid=number, rule_name=rule, log=[])
                end = self.now + cost_of(self.plan.part(rule), self.plan.megavoxels) / self.cores
                while self.now < end:
                    self.now += 0.5
                    self.console.look()
                self.tell(LogEvent.JOB_FINISHED, job_id=number)
        self.console.end(well=True)
        self.console.close()


def of_study(name: str, **more: object) -> Played:
    flow = workflow_of(name)
    return Played(plan_of(flow, megavoxels_of(flow.study)), jobs_of(flow), **more)


@pytest.mark.parametrize(("study", "most"), [("cochlea", 60), ("cochlea200", 80)])
def test_lines_are_few_and_never_far_apart(
    study: str, most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    played = of_study(study)
    played.run()
    assert played.now > 60
    # The closing block of a study that is there has some six lines more.
    assert len(played.text.splitlines()) + 8 <= most, played.text
    times = [when for when, _ in played.written]
    assert max(b - a for a, b in itertools.pairwise(times)) <= 10
    assert "\r" not in played.text
    assert "\x1b" not in played.text


def test_a_terminal_has_one_line_that_is_rewritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    played = of_study("cochlea", is_terminal=True)
    played.run()
    assert played.text.count("\r\x1b[K") > 50
    assert len(played.text.split("\n")) < 30


def test_what_is_done_and_left_is_near_the_truth(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    played = of_study("cochlea200")
    played.run()
    shares = [
        (when / played.now, int(share))
        for when, text in played.written
        for share in re.findall(r"(\d+) %", text)
    ]
    assert len(shares) > 20
    assert all(abs(100 * when - share) < 15 for when, share in shares)


# Jobs that fail or warn


@pytest.fixture
def played(tmp_path: Path) -> Iterator[Played]:
    plan = Plan("mine", tmp_path / "results", ("a",), ("one",))
    yield Played(plan, {"align_scans_001": 1, "write_report": 2})


def log_of(folder: Path, *lines: str) -> Path:
    path = folder / "a.log"
    path.write_text("".join(f"2026-11-25 21:41:06,655 {line}\n" for line in lines))
    return path


def failed(played: Played, rule: str, path: Path, number: int = 1) -> list[str]:
    if played.console.progress is None:
        played.tell(LogEvent.RUN_INFO, stats=played.jobs)
    played.tell(LogEvent.JOB_INFO, jobid=number, rule_name=rule, log=[str(path)])
    before = len(played.text)
    played.tell(LogEvent.JOB_ERROR, jobid=number, rule_name=rule, log=[str(path)])
    return played.text[before:].splitlines()


def test_a_failed_job_is_told_with_the_end_of_its_log(played: Played, tmp_path: Path) -> None:
    path = log_of(tmp_path, "INFO 1/2 a: computed", "ERROR x.csv: is \x1b[31mempty")
    said = failed(played, "align_scans_001", path)
    assert said == [
        f"align scans 001 failed; its log, {path}, ends with:",
        r"x.csv: is \x1b[31mempty",
    ]
    # A second attempt that fails is no news.
    assert failed(played, "align_scans_001", path, 2) == []
    played.console.end(well=False)
    assert "Study mine is not done after 0:00: 1 job failed, as told above." in played.text


def test_of_many_failed_jobs_the_first_are_shown(played: Played, tmp_path: Path) -> None:
    path = log_of(tmp_path, *(f"ERROR reason {n}" for n in range(100)))
    for number in range(200):
        failed(played, f"align_scans_{number:03d}", path, number)
    played.console.end(well=False)
    assert len(played.text.splitlines()) < 45
    assert "… and 188 more jobs failed likewise." in played.text


def test_warnings_are_shown_once_and_not_all(tmp_path: Path) -> None:
    log = JobLog(log_of(tmp_path, "INFO 2/9 b: known", "WARNING a: refused", "DEBUG epoch 3 of at"))
    assert log.follow() == ["a: refused"]
    assert (log.served, log.epoch) == (2, None)
    with log.path.open("a") as file:
        file.write("2026-11-25 21:41:06,655 DEBUG epoch 3 of at most 40: validation\n2026-11-25")
    assert log.follow() == []
    assert log.epoch == (3, 40)
    with log.path.open("a", encoding="utf-8") as file:
        file.write(" 21:41:07,001 INFO c: computed\n")
        file.write("2026-11-25 21:41:08,655 INFO fold-1: epoch 4 of 18 (fine): loss\n")
        file.write("2026-11-25 21:41:09,655 INFO epoch 2 of 18 is the best: validation\n")
    log.follow()
    assert log.epoch == (4, 18)
    with log.path.open("a") as file:
        file.write("2026-11-25 21:41:09,855 INFO fold-1, network 2 of 3: epoch 4 of 18: loss\n")
    log.follow()
    assert log.epoch == (22, 54)


def test_doubtful_scans_are_not_told_one_by_one(played: Played, tmp_path: Path) -> None:
    doubts = [f"WARNING s{n}: doubtful: it is alike to 0.7" for n in range(3)]
    path = log_of(tmp_path, *doubts, *(f"WARNING s{n}: refused: is cut" for n in range(30)))
    played.tell(LogEvent.RUN_INFO, stats=played.jobs)
    played.tell(LogEvent.JOB_INFO, jobid=1, rule_name="align_scans_001", log=[str(path)])
    played.console.look()
    assert "doubtful" not in played.text
    assert played.text.count(": refused: is cut\n") == 8
    assert "(Further warnings are in the logs" in played.text


def test_the_end_of_a_log_without_errors_is_its_last_lines(tmp_path: Path) -> None:
    path = log_of(tmp_path, *(f"INFO {n}/20 a: computed" for n in range(1, 21)))
    assert end_of(path)[-1] == "20/20 a: computed"
    assert len(end_of(path)) == 8
    assert end_of(tmp_path / "nowhere.log") == []


# The closing block


def test_the_scan_to_look_at_first_is_the_first_of_scans_csv(tmp_path: Path) -> None:
    tables = tmp_path / "evaluation"
    tables.mkdir()
    assert look_first(tmp_path) == ""
    errors = "scan,landmark,stage,error\na,x,final,0.2\nb,x,final,0.4\nb,x,rigid,9\nc,x,final,\n"
    (tables / "errors.csv").write_text(errors)
    assert look_first(tmp_path) == "b: its mean error is the largest, 0.40"
    (tables / "failures.csv").write_text("scan,stage,status,reason\nc,align,failed,is lost\n")
    assert look_first(tmp_path) == "c: is lost"
    (tmp_path / "scans.csv").write_text("scan,doubt,status,reason\nd,0.9,ok,\na,0.1,ok,\n")
    assert look_first(tmp_path) == "d: ok"


@pytest.mark.slow
def test_the_closing_block_counts_scans_without_a_result(tiny: Path, tmp_path: Path) -> None:
    plan = Plan("tiny", results(tiny), ("ear001", "nobody"), ("oneshot",))
    assert closing_lines(plan)[3].startswith("oneshot     1 ok, 0 doubtful, 0 failed")
    assert closing_lines(Plan("tiny", tmp_path, ("a",), ("oneshot",))) == []


# Estimates


def test_a_training_counts_once_for_each_fold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    played = of_study("fundus")
    assert (played.jobs["train_coarse"], played.jobs["train_zoomin"]) == (5, 5)
    # As the workflow names the rule of a fold's network.
    assert played.plan.part("train_zoomin_fold-2") == played.plan.part("train_zoomin")


def test_more_scans_take_longer_and_more_cores_less(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    few, many = of_study("cochlea"), of_study("cochlea200")
    # Measured on two cores: 2 to 3½ minutes; 17, with 200 scans to simulate.
    assert re.match(r"Takes about [23] min on 2 cores", expected(few.plan, few.jobs, 2))
    (minutes,) = re.findall(r"about (\d+) min", expected(many.plan, many.jobs, 2))
    assert 10 < int(minutes) < 30
    (fewer,) = re.findall(r"about (\d+) min", expected(many.plan, many.jobs, 16))
    assert int(fewer) < int(minutes) / 2
