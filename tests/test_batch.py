import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from landmarkflow.core.errors import InputError
from landmarkflow.core.files import write_text
from landmarkflow.engine import store
from landmarkflow.engine.store import DIGESTS, Task, run_batch

SETTINGS = {"settings": {"radius": 2}, "code": "1"}


class Shout:
    """Writes each input in capitals, and remembers for which scans it was asked to."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, task: Task) -> bool:
        self.asked.append(task.scan)
        text = task.inputs["text"].read_text()
        write_text(task.outputs["loud"], text.upper())
        write_text(task.outputs["record"], f"{len(text)}\n")
        return True


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in (("a", "first"), ("b", "second"), ("c", "third")):
        write_text(tmp_path / f"in/{name}.txt", text)
    return tmp_path


def task(folder: Path, scan: str, row: Mapping[str, str] | None = None) -> Task:
    return Task(
        scan,
        {"text": folder / f"in/{scan}.txt"},
        {"loud": folder / f"out/{scan}.txt", "record": folder / f"out/{scan}.json"},
        row or {},
    )


def tasks(folder: Path) -> list[Task]:
    return [task(folder, scan) for scan in "abc"]


def asked(
    folder: Path, made_by: Mapping[str, object] = SETTINGS, which: list[Task] | None = None
) -> list[str]:
    """Runs the batch; returns the scans that were computed."""
    shout = Shout()
    run_batch(which or tasks(folder), made_by, folder / "store", shout)
    return shout.asked


def remove_outputs(folder: Path) -> None:
    """What Snakemake does before it runs a job."""
    for path in (folder / "out").iterdir():
        path.unlink()


def entries(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "store").iterdir())


def test_every_task_is_computed_once_and_its_outputs_are_the_stores(folder: Path) -> None:
    assert asked(folder) == ["a", "b", "c"]
    assert (folder / "out/b.txt").read_text() == "SECOND"
    assert (folder / "out/b.json").read_text() == "6\n"
    assert len(entries(folder)) == 3
    assert (folder / "out/b.txt").stat().st_nlink == 2


def test_removed_outputs_come_back_from_the_store_without_computing(folder: Path) -> None:
    asked(folder)
    before = {path.name: path.stat().st_ino for path in (folder / "out").iterdir()}
    remove_outputs(folder)
    assert asked(folder) == []
    assert {path.name: path.stat().st_ino for path in (folder / "out").iterdir()} == before
    assert (folder / "out/c.txt").read_text() == "THIRD"


def test_present_outputs_are_left_alone(folder: Path) -> None:
    asked(folder)
    before = (folder / "out/a.txt").stat()
    assert asked(folder) == []
    assert (folder / "out/a.txt").stat() == before


def test_a_result_that_was_replaced_is_put_right(folder: Path) -> None:
    asked(folder)
    write_text(folder / "out/a.txt", "someone else's")
    assert asked(folder) == []
    assert (folder / "out/a.txt").read_text() == "FIRST"


def test_a_changed_input_recomputes_its_scan_alone_and_the_old_result_stays_known(
    folder: Path,
) -> None:
    asked(folder)
    write_text(folder / "in/b.txt", "other")
    assert asked(folder) == ["b"]
    assert (folder / "out/b.txt").read_text() == "OTHER"
    write_text(folder / "in/b.txt", "second")
    assert asked(folder) == []
    assert (folder / "out/b.txt").read_text() == "SECOND"


@pytest.mark.parametrize("changed", [{"settings": {"radius": 3}}, {"code": "2"}, {"seed": 1}])
def test_what_all_scans_share_recomputes_all(folder: Path, changed: Mapping[str, object]) -> None:
    asked(folder)
    assert asked(folder, SETTINGS | changed) == ["a", "b", "c"]


def test_a_row_of_the_sheet_recomputes_its_scan_alone(folder: Path) -> None:
    def which(side: str) -> list[Task]:
        return [task(folder, "a", {"side": "left"}), task(folder, "b", {"side": side})]

    assert asked(folder, which=which("left")) == ["a", "b"]
    assert asked(folder, which=which("right")) == ["b"]


def test_a_batch_that_is_put_together_anew_computes_only_what_is_new(folder: Path) -> None:
    asked(folder, which=[task(folder, "c"), task(folder, "a")])
    assert asked(folder) == ["b"]


def test_scans_never_share_results_though_their_inputs_are_alike(folder: Path) -> None:
    write_text(folder / "in/b.txt", "first")
    assert asked(folder) == ["a", "b", "c"]
    assert not (folder / "out/a.txt").samefile(folder / "out/b.txt")


def test_files_of_one_name_in_two_folders_are_two_results(folder: Path) -> None:
    def of(scan: str) -> Task:
        outputs = {role: folder / scan / f"{role}.txt" for role in ("loud", "record")}
        return Task(scan, {"text": folder / "in/a.txt"}, outputs)

    assert asked(folder, which=[of("a"), of("b")]) == ["a", "b"]
    assert not (folder / "a/loud.txt").samefile(folder / "b/loud.txt")


@pytest.mark.parametrize("role", ["loud", "record"])
def test_a_result_edited_in_place_is_told_of_and_computed_again(
    folder: Path, caplog: pytest.LogCaptureFixture, role: str
) -> None:
    asked(folder)
    edited = tasks(folder)[1].outputs[role]
    was = edited.read_text()
    with edited.open("r+") as file:
        file.write("edited")
    assert asked(folder) == ["b"]
    assert f"b: the stored {role} was changed after it was computed" in caplog.text
    assert edited.read_text() == was
    assert asked(folder) == []


@pytest.mark.parametrize("name", ["loud", DIGESTS])
def test_an_entry_that_has_lost_a_file_is_computed_again(folder: Path, name: str) -> None:
    asked(folder)
    next((folder / "store").iterdir()).joinpath(name).unlink()
    assert len(asked(folder)) == 1
    assert asked(folder) == []


def test_two_that_compute_the_same_both_have_it(folder: Path) -> None:
    shout = Shout()

    def overtaken(one: Task) -> bool:
        run_batch([task(folder, one.scan)], SETTINGS, folder / "store", Shout())
        return shout(one)

    run_batch(tasks(folder), SETTINGS, folder / "store", overtaken)
    assert shout.asked == ["a", "b", "c"]
    assert (folder / "out/a.txt").read_text() == "FIRST"
    assert len(entries(folder)) == 3


def test_of_an_input_that_changes_while_it_is_read_nothing_is_kept(folder: Path) -> None:
    shout = Shout()

    def copied_meanwhile(one: Task) -> bool:
        shout(one)
        if one.scan == "b":
            write_text(folder / "in/b.txt", "second, and whole")
        return True

    with pytest.raises(InputError, match=r"in/b\.txt: was changed while it was read"):
        run_batch(tasks(folder), SETTINGS, folder / "store", copied_meanwhile)
    assert not (folder / "out/b.txt").exists()
    assert asked(folder) == ["b", "c"]
    assert (folder / "out/b.txt").read_text() == "SECOND, AND WHOLE"


# Computes one scan as Shout does and is killed when a file or a folder gets a certain name.
KILLED = """
import os, signal, sys
from pathlib import Path
from landmarkflow.engine.store import Task, run_batch
from landmarkflow.core.files import write_text

folder, moment = Path(sys.argv[1]), sys.argv[2]

def compute(task):
    text = task.inputs["text"].read_text()
    write_text(task.outputs["loud"], text.upper())
    write_text(task.outputs["record"], f"{len(text)}\\n")
    return True

def watch(event, arguments):
    if event == "os.rename" and (folder / arguments[1]).match(moment):
        os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(watch)
outputs = {"loud": folder / "out/a.txt", "record": folder / "out/a.json"}
task = Task("a", {"text": folder / "in/a.txt"}, outputs)
run_batch([task], {"settings": {"radius": 2}, "code": "1"}, folder / "store", compute)
"""


@pytest.mark.parametrize(
    ("moment", "again"),
    [
        ("loud.a.txt", ["a"]),
        ("record.a.json", ["a"]),
        ("record", ["a"]),
        (DIGESTS, ["a"]),
        ("store/*", ["a"]),
        ("out/a.txt", []),
        ("out/a.json", []),
    ],
)
def test_of_a_batch_killed_at_any_moment_nothing_half_is_trusted(
    folder: Path, moment: str, again: list[str]
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(folder), moment],
        env={"PYTHONPATH": str(Path(store.__file__).parents[2])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert asked(folder, which=[task(folder, "a")]) == again
    assert (folder / "out/a.txt").read_text() == "FIRST"
    assert (folder / "out/a.json").read_text() == "5\n"


def failing_at(scan: str, write_first: bool) -> Callable[[Task], bool]:
    shout = Shout()

    def compute(one: Task) -> bool:
        if one.scan == scan:
            if write_first:
                write_text(one.outputs["loud"], "half")
            raise RuntimeError("the power went")
        return shout(one)

    return compute


@pytest.mark.parametrize("write_first", [False, True])
def test_what_was_finished_before_a_failure_stays_known_and_nothing_half(
    folder: Path, write_first: bool
) -> None:
    with pytest.raises(RuntimeError, match="the power went"):
        run_batch(tasks(folder), SETTINGS, folder / "store", failing_at("b", write_first))
    assert len(entries(folder)) == 1
    remove_outputs(folder)
    assert asked(folder) == ["b", "c"]
    assert (folder / "out/b.txt").read_text() == "SECOND"


def test_a_task_that_leaves_an_output_out_is_not_kept(folder: Path) -> None:
    def forgetful(one: Task) -> bool:
        write_text(one.outputs["loud"], "only this")
        return True

    with pytest.raises(FileNotFoundError):
        run_batch([task(folder, "a")], SETTINGS, folder / "store", forgetful)
    assert entries(folder) == []
    assert asked(folder) == ["a", "b", "c"]


def test_an_output_of_before_is_not_taken_for_a_new_one(folder: Path) -> None:
    asked(folder)
    write_text(folder / "in/a.txt", "changed")
    with pytest.raises(FileNotFoundError):
        run_batch([task(folder, "a")], SETTINGS, folder / "store", lambda one: True)


def test_what_is_not_to_be_kept_is_left_and_computed_another_time(folder: Path) -> None:
    shout = Shout()
    run_batch(tasks(folder), SETTINGS, folder / "store", lambda one: shout(one) and one.scan != "b")
    assert (folder / "out/b.txt").read_text() == "SECOND"
    assert len(entries(folder)) == 2
    assert asked(folder) == ["b"]


def test_a_file_of_another_run_that_changes_computes_its_scan_again(folder: Path) -> None:
    def which() -> list[Task]:
        return [
            replace(task(folder, scan), of={"first": {"text": folder / f"of/{scan}.txt"}})
            for scan in "ab"
        ]

    for scan in "ab":
        write_text(folder / f"of/{scan}.txt", scan)
    assert asked(folder, which=which()) == ["a", "b"]
    write_text(folder / "of/a.txt", "other")
    assert asked(folder, which=which()) == ["a"]


def test_files_are_copied_where_there_are_no_hard_links(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(source: object, name: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    assert asked(folder) == ["a", "b", "c"]
    assert (folder / "out/a.txt").stat().st_nlink == 1
    remove_outputs(folder)
    assert asked(folder) == []
    assert (folder / "out/a.txt").read_text() == "FIRST"
    assert not list((folder / "out").glob(".*"))
