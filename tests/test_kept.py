"""What a results folder keeps: whose results they are, and those of scans that left the study."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from workflow_runs import TINY, copy_run, points, results, run_workflow, served, write_yaml

from landmarkflow.core.errors import InputError
from landmarkflow.registry import METHODS, STAGES
from landmarkflow.study.kept import SOURCE, check_source, remember_source, set_aside
from landmarkflow.study.study import Study
from landmarkflow.workflow.configured import study_of

PATTERNS = [pattern for stage in STAGES for pattern in stage.writes.values()]


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a folder of scans, the same as a sheet, and the results of `mine`."""
    monkeypatch.chdir(tmp_path)
    touch(tmp_path, "data/template/scan.nii", "data/template/landmarks.csv", "data/scans/a.nii")
    (tmp_path / "samples.tsv").write_text("scan\timage\na\tdata/scans/a.nii\n")
    return tmp_path


TEMPLATE = {"image": "data/template/scan.nii", "landmarks": "data/template/landmarks.csv"}
SHEET = {"sheet": {"sheet": "samples.tsv", "template": TEMPLATE}}
FOLDER = {"folder": "data"}
RESULTS = Path("results/mine")


def study(data: dict[str, Any]) -> Study:
    raw = {"study": "mine", "data": data}
    return study_of(raw, METHODS, Path("results"), Path("studies"))


def refused(data: dict[str, Any]) -> str:
    with pytest.raises(InputError) as error:
        check_source(study(data).config, RESULTS)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_another_source_in_the_same_results_is_refused(folder: Path) -> None:
    check_source(study(SHEET).config, RESULTS)
    remember_source(study(SHEET).config, RESULTS)
    said = {"source": f"the sheet {folder}/samples.tsv"}
    assert json.loads((RESULTS / SOURCE).read_text(encoding="utf-8")) == said
    check_source(study(SHEET).config, RESULTS)
    assert refused(FOLDER) == (
        f"results/mine: holds results of the sheet {folder}/samples.tsv, but the scans of this run "
        f"are those of the folder {folder}/data, expected one source for each study; give this "
        "study another name (`study`), or move results/mine away; where the same scans have only "
        "moved, delete results/mine/work/source.json"
    )
    assert "are those of the simulated cohort, expected" in refused({"cohort": {"scans": 2}})


def test_the_same_source_by_another_path_is_the_same(folder: Path) -> None:
    remember_source(study(FOLDER).config, RESULTS)
    (folder / "linked").symlink_to(folder / "data")
    for name in ("data/", "./data", str(folder / "data"), "linked"):
        check_source(study({"folder": name}).config, RESULTS)
    shutil.copytree(folder / "data", folder / "other")
    (folder / "linked").unlink()
    (folder / "linked").symlink_to("other")
    assert f"those of the folder {folder}/other" in refused({"folder": "linked"})


def test_more_scans_of_a_source_are_no_other_source(folder: Path) -> None:
    cohort = {"cohort": {"scans": 2}}
    remember_source(study(cohort).config, RESULTS)
    check_source(study({"cohort": {"scans": 3, "seed": 7}}).config, RESULTS)
    assert folder.exists()


@pytest.mark.parametrize("text", ["{}", "[]", '{"source": 3}'])
def test_a_note_of_the_source_that_is_none_is_refused(folder: Path, text: str) -> None:
    touch(folder / RESULTS, SOURCE)
    (RESULTS / SOURCE).write_text(text)
    said = f'{RESULTS / SOURCE}: has no "source", expected where the scans came from'
    assert refused(FOLDER) == said


# Scans that left

OF_A_SCAN = (
    "work/scans/{}.json",
    "work/references/{}.mrk.json",
    "work/locate/{}.nii.gz",
    "one/landmarks/{}.mrk.json",
    "one/landmarks/{}.steps.mrk.json",
    "one/landmarks/{}.json",
    "one/segmentations/{}.nii.gz",
    "one/pictures/{}.png",
    "one/work/centre/{}.probability.nii.gz",
    "one/work/align/{}.moments.tfm",
    "one/work/deform/{}.tfm",
    "two/landmarks/{}.mrk.json",
)


def of_scan(scan: str) -> list[str]:
    return [name.format(scan) for name in OF_A_SCAN]


def files_in(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}


def of_the_day(results_of: Path, but: Path | None = None) -> Path:
    """The only folder of former scans, or the only one but another: a night may lie between."""
    (found,) = [path for path in (results_of / "former_scans").iterdir() if path != but]
    assert re.fullmatch(r"\d{4}-\d\d-\d\d(-2)?", found.name)
    return found


def test_what_belongs_to_scans_that_left_is_moved_as_it_lay_and_told(tmp_path: Path) -> None:
    others = ["report.html", "one/evaluation/errors.csv", "work/logs/scans/001.log", ".store/k/x"]
    others += ["one/landmarks/notes.txt", "work/data/scans/gone.nii.gz", "work/target/b.nii.gz"]
    staying = [*of_scan("a"), *of_scan("template"), *others]
    touch(tmp_path, *staying, *of_scan("gone"), *of_scan("a-2"))
    told: list[str] = []
    assert set_aside(tmp_path, PATTERNS, ["a"], ["b"], told.append) == ["a-2", "gone"]
    there = of_the_day(tmp_path)
    assert told == [
        f"{tmp_path}: results of scans that are no longer in the study (2: a-2, gone) were moved "
        f"to {there}"
    ]
    assert files_in(there) == {*of_scan("gone"), *of_scan("a-2")}
    assert all((there / name).read_text() == name for name in files_in(there))
    assert {f for f in files_in(tmp_path) if not f.startswith("former")} == set(staying)
    assert set_aside(tmp_path, PATTERNS, ["a"], ["b"], told.append) == []
    assert len(told) == 1
    # Another day's, or another of this day, never covers the first.
    touch(tmp_path, *of_scan("gone"))
    set_aside(tmp_path, PATTERNS, ["a"], ["b"], told.append)
    assert files_in(of_the_day(tmp_path, but=there)) == set(of_scan("gone"))
    assert files_in(there) == {*of_scan("gone"), *of_scan("a-2")}


def test_a_scan_that_became_a_template_has_shared_files_alone(tmp_path: Path) -> None:
    touch(tmp_path, *of_scan("b"))
    set_aside(tmp_path, PATTERNS, ["a"], ["b"], lambda line: None)
    left = {name for name in files_in(tmp_path) if not name.startswith("former")}
    assert left == {name for name in of_scan("b") if name.startswith("work/")}


def test_no_run_has_the_name_of_the_folder(folder: Path) -> None:
    raw = {"study": "mine", "data": FOLDER, "runs": {"former_scans": {"method": "oneshot"}}}
    with pytest.raises(InputError, match="the name former_scans is taken"):
        study_of(raw, METHODS, Path("results"), Path("studies"))
    assert folder.exists()


# The workflow

SHOWN = (
    "landmarks/{}.mrk.json",
    "landmarks/{}.json",
    "landmarks/{}.steps.mrk.json",
    "segmentations/{}.nii.gz",
    "work/deform/{}.tfm",
)
SHOWN += ("work/align/{}.tfm", "work/refine/{}.mrk.json")


@pytest.mark.slow
def test_scans_that_leave_and_come_back_change_no_byte_of_the_others(
    root: Path, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    again = copy_run(tiny, tmp_path / "again")
    monkeypatch.chdir(again)
    found, run_of = results(again), results(again) / "oneshot"
    stated = yaml.safe_load(TINY.read_text(encoding="utf-8"))
    before = study_of(stated, METHODS, Path("results"), root / "studies")
    template = before.template.model_dump(mode="json")
    sheet = {"sheet": "samples.tsv", "template": template}
    stated["data"] = {"sheet": sheet, "landmarks": stated["data"]["landmarks"]}
    study_file = write_yaml(again / "sheet.yaml", stated)

    def rows_of(*scans: str) -> None:
        rows = [before.scans[scan] for scan in scans]
        lines = [f"{r.scan}\t{r.image}\t{r.side}\t{r.landmarks}\t{r.segmentation}" for r in rows]
        text = "\n".join(["scan\timage\tside\tlandmarks\tsegmentation", *lines, ""])
        Path("samples.tsv").write_text(text, encoding="utf-8")

    def content(scan: str) -> dict[str, bytes]:
        return {name: (run_of / name.format(scan)).read_bytes() for name in SHOWN}

    scans = ("ear001", "ear002", "ear003", "ear004")
    first = {scan: content(scan) for scan in scans}
    rows_of(*scans[1:])
    run = run_workflow(root, again, "--configfile", study_file)
    assert run.status == 1
    assert "results/tiny: holds results of the simulated cohort, but" in run.stderr
    (found / SOURCE).unlink()

    run = run_workflow(root, again, "--configfile", study_file)
    assert run.status == 0, run.text
    there = of_the_day(Path("results/tiny"))
    said = f"results of scans that are no longer in the study (1: ear001) were moved to {there}"
    assert run.stderr.count(said) == 1
    assert (again / there / "oneshot/landmarks/ear001.mrk.json").stat().st_size
    assert not list(run_of.rglob("ear001*"))
    assert {scan: content(scan) for scan in scans[1:]} == {s: first[s] for s in scans[1:]}
    table = (run_of / "evaluation/errors.csv").read_text(encoding="utf-8")
    assert "ear001" not in table

    rows_of(*scans)
    run = run_workflow(root, again, "--configfile", study_file)
    assert run.status == 0, run.text
    assert served(run_of / "work/logs/deform/001.log") == dict.fromkeys(scans[:3], "known")
    assert {scan: content(scan) for scan in scans} == first
    landmarks = points(run_of / "landmarks/ear001.mrk.json", "final")
    assert np.isfinite(list(landmarks.values())).all()
