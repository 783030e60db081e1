"""What a stage says of itself, what rule and command make of it, and how it serves its scans."""

import argparse
import json
import logging
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from stage_runs import RUN, path_of

from landmarkflow.core.errors import InputError, ScanFailure
from landmarkflow.core.files import write_text
from landmarkflow.core.records import DEFECT, TEMPLATE, Record, Step, read_record, write_record
from landmarkflow.data.stages import FETCH, SIMULATE
from landmarkflow.engine.batch import Batch, require_result, rows_of, values_of
from landmarkflow.engine.cli import add_stage_arguments, batch_of
from landmarkflow.engine.stage import Places, Stage, stage_of
from landmarkflow.engine.store import Task
from landmarkflow.evaluation.stages import CHECK, EVALUATE
from landmarkflow.methods.dualhead.stages import GATHER
from landmarkflow.methods.fuse.stages import FUSE
from landmarkflow.methods.oneshot.stages import (
    ALIGN,
    CENTRE,
    CLOSE,
    LOCATE,
    PLACE,
    REFINE,
    SYMMETRISE,
    TRAIN,
    VOTE,
)
from landmarkflow.methods.zoomin import stages as zoomin
from landmarkflow.registry import METHODS, STAGES
from landmarkflow.study.sheet import SHEET_COLUMNS
from landmarkflow.workflow.configured import study_of
from landmarkflow.workflow.rules import Workflow

ROOT = Path(__file__).parents[1]

# Where files lie


def test_a_template_has_its_own_id_in_what_runs_share_and_one_name_in_a_run() -> None:
    places = Places(Path("r"), "mine", "ear002")
    assert places.path("work/locate/{scan}.json", TEMPLATE) == Path("r/work/locate/ear002.json")
    assert places.path("{run}/work/align/{scan}.tfm", TEMPLATE) == Path(
        "r/mine/work/align/template.tfm"
    )
    assert places.path("work/locate/{template}.json") == Path("r/work/locate/ear002.json")
    assert places.path("{of}/made.json", of="other") == Path("r/other/made.json")


def test_a_pattern_has_a_file_for_each_scan_and_run_that_it_names() -> None:
    places = Places(Path("r"), "mine")
    assert places.paths("{run}/{scan}", ["a", "b"]) == ["r/mine/a", "r/mine/b"]
    assert places.paths("{run}/made.json", ["a", "b"]) == ["r/mine/made.json"]
    assert places.paths("{of}/{scan}", "ab", "xy") == ["r/x/a", "r/x/b", "r/y/a", "r/y/b"]


# What stages say


def test_what_a_stage_gives_is_read_under_other_names() -> None:
    assert LOCATE.gives("region", "record") == {
        "region": "work/locate/{scan}.nii.gz",
        "locate_record": "work/locate/{scan}.json",
    }
    assert CENTRE.gives("record", of=TEMPLATE) == {
        "template_centre_record": "{run}/work/centre/template.json"
    }


def test_a_stage_knows_whether_it_is_of_a_run_and_by_scan() -> None:
    assert [LOCATE.is_of_a_run, TRAIN.is_of_a_run, SYMMETRISE.is_of_a_run] == [False, True, True]
    assert [LOCATE.is_by_scan, TRAIN.is_by_scan, SYMMETRISE.is_by_scan] == [True, False, False]
    assert CHECK.is_by_scan


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)
def test_a_stage_reads_only_what_another_one_writes(stage: Stage) -> None:
    def plain(pattern: str) -> str:
        names = re.sub(r"\{(of|template)\}", lambda m: {"of": "{run}"}.get(m[1], "{scan}"), pattern)
        return re.sub(r"/template\b", "/{scan}", names)

    written = {plain(pattern) for one in STAGES for pattern in one.writes.values()}
    read = [*stage.reads.values(), *stage.peers.values(), *stage.of.values()]
    assert {plain(pattern) for pattern in read} <= written
    # Beside what the sheet says, why the study does not take a scan's reference.
    assert set(stage.columns) <= {*SHEET_COLUMNS, "refused"}
    assert set(stage.only_if) <= {*stage.reads, *stage.writes, *stage.of}
    assert not stage.after or "{scan}" in stage.reads[stage.after]


@pytest.mark.parametrize(
    ("stage", "role", "path"),
    [
        (VOTE, "symmetrised", ("symmetrise", "enabled")),
        (REFINE, "symmetrised", ("symmetrise", "enabled")),
        (CLOSE, "symmetrised", ("symmetrise", "enabled")),
        (PLACE, "symmetrised", ("symmetrise", "enabled")),
        (REFINE, "voted", ("vote", "peers")),
        (PLACE, "voted", ("vote", "peers")),
    ],
    ids=lambda value: value if isinstance(value, str) else getattr(value, "name", ""),
)
def test_what_is_left_out_of_a_run_is_not_read(
    stage: Stage, role: str, path: tuple[str, str]
) -> None:
    settings: dict[str, Any] = {"symmetrise": {"enabled": False}, "vote": {"peers": 0}}
    assert not stage.has(role, settings)
    settings[path[0]] = {path[1]: 1}
    assert stage.has(role, settings)
    assert stage.has("record", settings)


# Rules

RUNS = {
    "plain": {"method": "oneshot"},
    "rich": {
        "method": "oneshot",
        "template": "ear002",
        "settings": {"vote": {"peers": 1}, "symmetrise": {"enabled": True}},
    },
    "fused": {"method": "fuse", "of": ["plain", "rich"]},
    "learned": {"method": "dualhead", "train": 2},
    "distilled": {"method": "dualhead", "train_on": "plain"},
}


# What is learned from pictures without a template.
PICTURES = {
    "first": {"method": "salient"},
    "second": {"method": "salient", "train": 3},
    "third": {"method": "zoomin"},
    # It searches otherwise, the next looks otherwise at regions, the last learns from fewer.
    "searched": {"method": "zoomin", "settings": {"zoom": {"looks": 1}}},
    "parts": {
        "method": "zoomin",
        "seeds": [1, 2],
        "settings": {"train": {"parts": {"auxiliary": 0}}},
    },
    "fewer": {"method": "zoomin", "train": 3},
}
WITHOUT_TEMPLATE = [m.stages for m in METHODS.values() if not m.needs_template]


def workflow_of(cohort: dict[str, Any], runs: dict[str, Any]) -> Workflow:
    raw = {"study": "mine", "data": {"cohort": cohort}, "runs": runs}
    study = study_of(raw, METHODS, Path("results"), ROOT / "studies")
    return Workflow(study, METHODS, STAGES)


@pytest.fixture(scope="module")
def flow() -> Workflow:
    return workflow_of({"scans": 4, "evaluated": 4}, RUNS)


@pytest.fixture(scope="module")
def pictures_flow() -> Workflow:
    heads = {"kind": "fetal_head", "scans": 4, "evaluated": 4, "training": 5}
    return workflow_of(heads, PICTURES)


def wildcards(run: str) -> SimpleNamespace:
    return SimpleNamespace(run=run) if run else SimpleNamespace()


def asked(value: Any, run: str) -> Any:
    return value(wildcards(run)) if callable(value) else value


def filled(command: str, values: dict[str, Any]) -> list[str]:
    """The words of a shell command after Snakemake has put its values in."""

    def text(match: re.Match[str]) -> str:
        value = values[match[1]]
        words = [str(v) for v in (value if isinstance(value, list | tuple) else [value])]
        return shlex.join(words) if match[2] else " ".join(words)

    return shlex.split(re.sub(r"\{([\w.]+)(:q)?\}", text, command))


DECLARED = [stage for stage in STAGES if stage not in (SIMULATE, FETCH)]


@pytest.mark.parametrize("stage", DECLARED, ids=lambda stage: stage.name)
def test_rule_and_command_of_a_stage_name_the_same_files(
    flow: Workflow, pictures_flow: Workflow, stage: Stage
) -> None:
    if any(stage in stages for stages in WITHOUT_TEMPLATE):
        flow = pictures_flow
    scans = tuple(flow.study.scans) if stage.is_by_scan else ()
    given = scans, list(flow.study.runs)
    for run in flow.runs_of(stage) or [""]:
        params = {f"params.{k}": asked(v, run) for k, v in flow.decides(stage, *given).items()}
        values = {"log": "a.log", "threads": 3, "wildcards.run": run, **params}
        words = filled(flow.command(stage), values)
        assert words[:3] == ["python", "-m", "landmarkflow"]
        parser = argparse.ArgumentParser()
        add_stage_arguments(parser, stage)
        batch = batch_of(stage, parser.parse_args(words[words.index(stage.command) + 1 :]))
        assert batch.threads == 3
        shared = [r for r in stage.reads if "{scan}" not in stage.reads[r]]
        read = [path for task in batch.tasks for path in task.files.values()]
        read += [batch.path(role) for role in shared if stage.has(role, batch.values)]
        read += [batch.peer_path(role, peer) for peer in batch.peers for role in stage.peers]
        if not stage.is_by_scan:
            read += [batch.places.path(p, of=of) for of in batch.runs for p in stage.of.values()]
        rule = flow.reads(stage, *given).items()
        named = [asked(paths, run) for role, paths in rule if not role.startswith("sheet_")]
        assert {str(path) for path in read} == {path for paths in named for path in paths}
        written = [path for task in batch.tasks for path in task.outputs.values()]
        written += [] if scans else [batch.path(role) for role in stage.writes]
        outputs = [p for paths in flow.writes(stage, scans).values() for p in paths]
        assert {str(path) for path in written} == {re.sub(r"\{run,.*?\}", run, p) for p in outputs}


def test_a_rule_is_for_the_runs_of_its_method(flow: Workflow) -> None:
    assert flow.runs_of(ALIGN) == ["plain", "rich"]
    assert flow.runs_of(FUSE) == ["fused"]
    assert flow.runs_of(EVALUATE) == ["plain", "rich", "fused", "learned", "distilled"]
    assert flow.runs_of(LOCATE) == []
    (path,) = flow.writes(TRAIN)["weights"]
    assert path == "results/mine/{run,plain|rich}/work/train/weights.npz"


def test_what_is_alike_in_several_runs_is_made_once(pictures_flow: Workflow) -> None:
    flow = pictures_flow
    assert flow.runs_of(zoomin.GATHER) == ["third", "fewer"]
    assert flow.runs_of(zoomin.COARSE) == ["third", "parts-seed2", "fewer"]
    assert flow.runs_of(zoomin.POOL) == ["third", "parts-seed2", "fewer"]
    assert flow.runs_of(zoomin.TRAIN) == ["third", "parts", "parts-seed2", "fewer"]
    assert flow.runs_of(zoomin.CALIBRATE) == [
        *("third", "searched", "parts", "parts-seed2", "fewer"),
    ]
    read, decided = flow.reads(zoomin.TRAIN, ["all"]), flow.decides(zoomin.TRAIN, ["all"])
    assert asked(decided["run"], "parts") == "parts gather=third coarse=third pool=third"
    assert asked(decided["run"], "third") == "third"
    assert asked(read["examples"], "parts-seed2") == ["results/mine/third/work/gather/examples.npz"]
    assert asked(read["coarse_weights"], "parts-seed2") == [
        "results/mine/parts-seed2/work/coarse/all.npz"
    ]
    read = flow.reads(zoomin.CALIBRATE, ["all"])
    assert asked(read["weights"], "searched") == ["results/mine/third/work/train/all.npz"]
    # What a stage is not told of cannot decide its results.
    told = json.loads(asked(flow.decides(zoomin.COARSE, ["all"])["settings"], "third"))
    assert {"coarse", "augment"} <= set(told["train"])
    assert not {"regions", "parts", "joint"} & set(told["train"])


def test_a_run_that_files_lie_with_is_said_with_its_stage() -> None:
    parser = argparse.ArgumentParser()
    add_stage_arguments(parser, zoomin.POOL)
    words = ["--results", "results/mine", "--run", "parts", "coarse"]
    with pytest.raises(InputError, match=r"^--run: 'coarse' follows the run, expected STAGE=RUN$"):
        batch_of(zoomin.POOL, parser.parse_args(words))
    words[-1] = "coarse=third"
    read = batch_of(zoomin.POOL, parser.parse_args(words)).places.path(zoomin.POOL.reads["misses"])
    assert str(read) == "results/mine/third/work/coarse/.json"


@pytest.mark.parametrize("stage", [s for s in STAGES if s.once], ids=lambda stage: stage.name)
def test_what_runs_share_lies_in_its_stage_s_own_folder(stage: Stage) -> None:
    assert {stage_of(pattern) for pattern in stage.writes.values()} == {stage.name}
    assert not stage.of and not stage.peers


def test_a_run_reads_what_its_settings_ask_for(flow: Workflow) -> None:
    read = flow.reads(REFINE, ["ear001"])
    assert asked(read["voted"], "plain") == asked(read["symmetrised"], "plain") == []
    assert asked(read["voted"], "rich") == ["results/mine/rich/work/vote/ear001.mrk.json"]
    assert asked(read["symmetrised"], "rich") == [
        "results/mine/rich/work/symmetrise/template.mrk.json"
    ]


def test_a_run_learns_from_the_scans_that_it_states(flow: Workflow) -> None:
    read, decided = flow.reads(GATHER, flow.learned), flow.decides(GATHER, flow.learned)
    assert asked(decided["scans"], "learned") == ["template"]
    assert asked(decided["scans"], "distilled") == ["ear001", "ear003", "ear004"]
    assert asked(decided["of"], "distilled") == ["plain"]
    assert asked(read["scans_record"], "learned") == ["results/mine/work/scans/template.json"]
    assert asked(read["of"], "learned") == []
    taught = asked(read["of"], "distilled")
    assert "results/mine/plain/segmentations/ear004.nii.gz" in taught
    assert len(taught) == 9


def test_peers_are_the_first_scans_as_many_as_a_run_asks_for(flow: Workflow) -> None:
    first = ["ear001", "ear003", "ear004"]
    voters = flow.decides(VOTE)["peers"]
    # One more than vote on each, since none votes on itself.
    assert [asked(voters, run) for run in ("plain", "rich")] == [[], first[:2]]
    assert asked(flow.reads(VOTE)["peers"], "plain") == []
    assert "peers" not in flow.decides(PLACE)
    assert flow.first(VOTE) == first[:2]


def test_a_run_s_settings_template_and_sheet_decide_its_results(flow: Workflow) -> None:
    decided = flow.decides(ALIGN, ["ear001"])
    assert [asked(decided["template"], run) for run in ("plain", "rich")] == [TEMPLATE, "ear002"]
    study = flow.study
    rows = json.loads(asked(decided["sheet"], "rich"))
    assert rows == {
        "ear001": {"side": study.scans["ear001"].side},
        TEMPLATE: {"side": study.templates["ear002"].side},
    }
    assert json.loads(asked(flow.decides(VOTE)["settings"], "rich"))["vote"]["peers"] == 1


def test_a_run_leaves_segmentations_where_its_template_was_given_one(tmp_path: Path) -> None:
    for name in ("template/scan.nii", "template/landmarks.csv", "scans/a.nii"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    raw = {"study": "mine", "data": {"folder": str(tmp_path)}}

    def segments(**more: object) -> bool:
        study = study_of(raw | more, METHODS, Path("results"), ROOT / "studies")
        return Workflow(study, METHODS, STAGES).segments(study.runs["oneshot"])

    assert not segments()
    (tmp_path / "template/segmentation.nii").touch()
    assert segments()
    assert not segments(oneshot={"segment": {"enabled": False}})


# Batches

LOOK = Stage(
    "look",
    "look_closely",
    "landmarkflow.core.errors",
    "what a text says",
    reads={"text": "texts/{scan}.txt", "before": "before/{scan}.json", "all": "all.txt"},
    writes={"loud": "{run}/look/{scan}.txt", "record": "{run}/look/{scan}.json"},
    settings=("look",),
    columns=("side",),
    after="before",
)
ERRORS: dict[str, Callable[[], Exception]] = {
    "fails": lambda: ScanFailure("nothing to be seen"),
    "breaks": lambda: ZeroDivisionError("division by zero"),
    "input": lambda: InputError("all.txt: is empty"),
    "disk": lambda: OSError(28, "No space left on device"),
    "memory": lambda: MemoryError("too large"),
}


class Look:
    """Does what the text of a scan says, once it has written a part of its result."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, task: Task) -> Record:
        self.asked.append(task.scan)
        text = task.inputs["text"].read_text()
        write_text(task.outputs["loud"], text.upper())
        if text in ERRORS:
            raise ERRORS[text]()
        if text == "doubts":
            return Record(task.scan, "look", "doubtful", "it is dark", {"light": 0.1})
        return Record(task.scan, "look")


class Ran:
    """What a batch left: the scans that were computed, and each one's record and result."""

    def __init__(self, results: Path, asked: list[str]) -> None:
        self.results, self.asked = results, asked

    def record(self, scan: str) -> Record:
        return read_record(path_of(self.results, LOOK, "record", scan))

    def result(self, scan: str) -> str:
        return path_of(self.results, LOOK, "loud", scan).read_text()


def look(results: Path, before: Record | None = None, **texts: str) -> Ran:
    """Run the stage on scans of these texts."""
    write_text(results / "all.txt", "shared")
    for scan, text in texts.items():
        write_text(results / f"texts/{scan}.txt", text)
        write_record(results / f"before/{scan}.json", before or Record(scan, "locate"))
    seen = Look()
    places = Places(results, RUN, TEMPLATE)
    batch = Batch(LOOK, places, tuple(texts), {"look": 1}, {scan: {} for scan in texts})
    batch.run(seen)
    return Ran(results, seen.asked)


def test_a_scan_s_failure_is_its_own(tmp_path: Path) -> None:
    ran = look(tmp_path, a="first", b="fails", c="doubts")
    assert ran.record("a") == Record("a", "look", earlier=(Step("locate"),))
    assert ran.record("b").reason == "nothing to be seen"
    assert [ran.record(scan).status for scan in "abc"] == ["ok", "failed", "doubtful"]
    assert [ran.result(scan) for scan in "abc"] == ["FIRST", "", "DOUBTS"]
    assert look(tmp_path, a="first", b="fails", c="doubts").asked == []


def test_records_carry_the_chain(tmp_path: Path) -> None:
    before = Record("a", "centre", "doubtful", "wandered", earlier=(Step("locate"),))
    record = look(tmp_path, before, a="doubts").record("a")
    assert record.earlier == (Step("locate"), Step("centre", "doubtful", "wandered"))
    written = json.loads(path_of(tmp_path, LOOK, "record", "a").read_text())
    assert (written["status"], written["worst"], written["light"]) == ("doubtful", "doubtful", 0.1)


def test_a_scan_without_an_earlier_result_is_not_looked_at(tmp_path: Path) -> None:
    before = Record("a", "centre", "failed", "no target", {"mass": 1}, (Step("locate"),))
    ran = look(tmp_path, before, a="first")
    assert ran.asked == []
    assert ran.result("a") == ""
    assert ran.record("a") == Record("a", "centre", "failed", "no target", {}, (Step("locate"),))


def test_a_defect_fails_its_scan_alone_with_a_traceback_and_is_not_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ran = look(tmp_path, a="first", b="breaks", c="third")
    assert ran.asked == ["a", "b", "c"]
    record = ran.record("b")
    assert record.status == "failed"
    assert record.reason == (
        f"{DEFECT} (ZeroDivisionError: division by zero); its traceback is in the log"
    )
    assert record.earlier == (Step("locate"),)
    assert [ran.result(scan) for scan in "abc"] == ["FIRST", "", "THIRD"]
    (told,) = [entry for entry in caplog.records if entry.levelno == logging.ERROR]
    assert told.getMessage() == f"b: {DEFECT}"
    assert told.exc_info
    assert isinstance(told.exc_info[1], ZeroDivisionError)
    assert len(list((tmp_path / ".store").iterdir())) == 2
    assert look(tmp_path, a="first", b="breaks", c="third").asked == ["b"]


def test_a_later_stage_keeps_nothing_of_a_defect_either(tmp_path: Path) -> None:
    before = Record("a", "locate", "failed", f"{DEFECT} (KeyError: 1)")
    assert str(look(tmp_path, before, a="first").record("a").reason).startswith(DEFECT)
    assert list((tmp_path / ".store").iterdir()) == []


@pytest.mark.parametrize(
    ("text", "error"), [("input", InputError), ("disk", OSError), ("memory", MemoryError)]
)
def test_what_is_wrong_with_the_study_or_the_machine_ends_the_batch(
    tmp_path: Path, text: str, error: type[Exception]
) -> None:
    with pytest.raises(error):
        look(tmp_path, a="first", b=text, c="third")
    assert Ran(tmp_path, []).result("a") == "FIRST"
    assert not path_of(tmp_path, LOOK, "record", "b").exists()
    assert not path_of(tmp_path, LOOK, "record", "c").exists()


def test_a_template_s_defect_or_failure_ends_the_study(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        look(tmp_path, template="breaks")
    with pytest.raises(InputError, match=r"^template: look failed: nothing to be seen$"):
        look(tmp_path, template="fails")
    before = Record(TEMPLATE, "locate", "refused", "is empty")
    with pytest.raises(InputError, match=r"^template: locate refused: is empty$"):
        look(tmp_path, before, template="first")
    assert not path_of(tmp_path, LOOK, "record", TEMPLATE).exists()


def test_what_several_stages_need_of_a_template_must_be_there(tmp_path: Path) -> None:
    write_record(tmp_path / "a.json", Record(TEMPLATE, "centre", "failed", "no target"))
    with pytest.raises(InputError, match=r"^the template: centre failed: no target$"):
        require_result(tmp_path / "a.json", "the template")


@pytest.mark.parametrize("text", ["{", "[1]", "7", ""])
def test_settings_and_sheet_are_objects_of_json(text: str) -> None:
    for read, option in ((rows_of, "--sheet"), (values_of, "--settings")):
        with pytest.raises(InputError, match=f"^{option}: is .*expected a"):
            read(text)
