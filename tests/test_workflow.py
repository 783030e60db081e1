"""A study from scans to report: the jobs it takes, what it finds, and what runs again."""

import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import yaml
from workflow_runs import (
    NOTHING,
    TINY,
    by_batch,
    copy_repository,
    copy_run,
    differing,
    errors,
    mean,
    points,
    results,
    rows,
    run_workflow,
    served,
    write_yaml,
)

from landmarkflow.formats.volumes import read_volume
from landmarkflow.formats.written import write_volume

# Of one run, after its landmarks; and of all runs together.
OF_THE_RUN = ("evaluate_landmarks", "record_run")
AT_THE_END = ("compare_runs", "record_provenance", "write_report", "check_scans", "all")
BATCHES = ("001", "002")
PREPARING = ("digest_scans", "check_references", "locate_regions")
REGISTERING = ("deform_scans", "refine_landmarks", "place_landmarks", "segment_scans")
REGISTERING += ("draw_panels",)
BATCHED = ("centre_targets", "align_scans", *REGISTERING, "draw_overviews")
# Where another scan's radii change, and nothing else of it.
PLACED = ("place_landmarks", "draw_panels", "draw_overviews")
# The first scans say how far errors reach: what changes them changes every radius.
LOOPS = "close_loops"
EARS = {"ear001": "left", "ear002": "left", "ear003": "right", "ear004": "right"}
AUTHOR = ("-c", "user.name=Somebody", "-c", "user.email=somebody@example.org")
WEIGHTS = "work/train/weights.npz"
# Measured: 0.21 mm, and 0.62 mm after the rigid registration alone.
WORST_MEAN_MM = 0.4


# Dry runs


def data_folder(folder: Path, scans: int, *, segmentation: bool) -> Path:
    """A folder of scans as a study takes it, the last one without a reference; all are empty."""
    names = ["template/scan.nii.gz", "template/landmarks.mrk.json"]
    names += ["template/segmentation.nii.gz"] if segmentation else []
    names += [f"scans/h{n}.nii.gz" for n in range(scans)]
    names += [f"landmarks/h{n}.mrk.json" for n in range(scans - 1)]
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def expected_jobs(
    scans: int, batches: int, *, segmented: bool = True, **others: int
) -> dict[str, int]:
    once = ["write_sheet", "prepare_targets", "survey_template", "train_network"]
    once += ["centre_targets_template", LOOPS]
    once += [*OF_THE_RUN, *AT_THE_END]
    numbers = tuple(f"{n:03d}" for n in range(1, batches + 1))
    batched = by_batch(numbers, *BATCHED) | by_batch(("template", *numbers), *PREPARING)
    if not segmented:
        batched -= by_batch(numbers, "segment_scans")
    return dict.fromkeys([*once, *batched], 1) | others


# A template whose left and right are both seen is registered with its own mirror image.
MICE = {"align_scans_template": 1, "deform_scans_template": 1, "symmetrise_landmarks": 1}
VOTES = {"vote_landmarks_001": 1}


@pytest.mark.parametrize(
    ("study", "expected"),
    [
        ("config", expected_jobs(24, 2, simulate_scan=25)),
        ("studies/cochlea200", expected_jobs(200, 8, simulate_scan=201)),
        ("studies/mouse_skull", expected_jobs(14, 1, segmented=False, fetch_file=30, **MICE)),
        (
            "studies/mouse_skull_best",
            expected_jobs(14, 1, segmented=False, fetch_file=30, **MICE, **VOTES),
        ),
    ],
)
def test_a_study_without_data_makes_or_fetches_it(
    root: Path, tmp_path: Path, study: str, expected: dict[str, int]
) -> None:
    run = run_workflow(root, tmp_path, "--dry-run", "--configfile", root / f"{study}.yaml")
    assert run.status == 0, run.text
    assert run.jobs == expected


@pytest.mark.parametrize(
    ("study", "segmentation", "source"),
    [
        ("mouse_skull", False, MICE),
        ("mouse_orientations", False, MICE),
        ("ear_reference", True, {}),
    ],
)
def test_a_study_on_a_folder_uses_its_files(
    root: Path, tmp_path: Path, study: str, segmentation: bool, source: dict[str, int]
) -> None:
    folder = data_folder(tmp_path / "my scans", 3, segmentation=segmentation)
    options = ("--configfile", root / f"studies/{study}.yaml", "--config", f"data_folder={folder}")
    run = run_workflow(root, tmp_path, "--dry-run", *options)
    assert run.status == 0, run.text
    assert run.jobs == expected_jobs(3, 1, segmented=segmentation, **source)


# A whole study


@pytest.fixture
def again(tiny: Path, tmp_path: Path) -> Path:
    """A copy of that folder, to change and to run again."""
    return copy_run(tiny, tmp_path / "again")


def of_run(folder: Path) -> Path:
    """The results of the study's one run."""
    return results(folder) / "oneshot"


@pytest.mark.slow
def test_every_stage_leaves_its_files(tiny: Path) -> None:
    files = ["samples.tsv", "report.html", "config.yaml", "provenance.json", "steps.csv"]
    files += [f"comparison.{suffix}" for suffix in ("csv", "md", "tex")]
    tables = ("errors.csv", "statistics.csv", "summary.json", "failures.csv", "overlap.csv")
    tables += ("table1.csv", "table1.md", "table1.tex")
    files += [f"oneshot/evaluation/{name}" for name in tables]
    files += ["oneshot/made.json", "oneshot/README.txt"]
    files += [f"oneshot/work/train/{name}" for name in ("weights.npz", "training.csv")]
    shared = ("locate/{}.nii.gz", "locate/{}.json", "references/{}.mrk.json", "scans/{}.json")
    by_scan = [f"work/{name}" for name in shared]
    own = ("centre/{}.nii.gz", "centre/{}.json", "align/{}.tfm", "align/{}.moments.tfm")
    own += ("deform/{}.tfm", "refine/{}.mrk.json", "pictures/{}.json")
    by_scan += [f"oneshot/work/{name}" for name in own]
    shown = (
        "landmarks/{}.mrk.json",
        "landmarks/{}.steps.mrk.json",
        "landmarks/{}.json",
        "pictures/{}.png",
        "panels/{}.webp",
    )
    by_scan += [f"oneshot/{name}" for name in (*shown, "segmentations/{}.nii.gz")]
    files += [pattern.format(scan) for scan in EARS for pattern in by_scan]
    assert [name for name in files if not (results(tiny) / name).stat().st_size] == []


@pytest.mark.slow
def test_a_run_shows_what_people_want_and_hides_the_rest(tiny: Path) -> None:
    shown = {path.name for path in of_run(tiny).iterdir()}
    folders = {"landmarks", "segmentations", "pictures", "panels", "evaluation", "work"}
    tables = {"landmarks.csv", "landmarks_wide.csv", "scans.csv"}
    assert shown == {*folders, *tables, "made.json", "calibration.json", "README.txt"}


@pytest.mark.slow
def test_landmarks_are_near_their_references(tiny: Path) -> None:
    steps = ("final", "bspline", "rigid", "region")
    final, bspline, rigid, region = (mean(of_run(tiny), step) for step in steps)
    assert final < WORST_MEAN_MM
    assert final < bspline < rigid < region
    assert rows(of_run(tiny) / "evaluation/failures.csv") == []


@pytest.mark.slow
def test_left_ears_are_as_good_as_right_ones(tiny: Path) -> None:
    sheet = (results(tiny) / "samples.tsv").read_text(encoding="utf-8").splitlines()[1:]
    assert {line.split("\t")[0]: line.split("\t")[2] for line in sheet} == EARS
    left, right = (
        mean(of_run(tiny), "final", {scan for scan in EARS if EARS[scan] == side})
        for side in ("left", "right")
    )
    assert left < right + 0.15


@pytest.mark.slow
def test_errors_are_the_distances_of_the_markups(tiny: Path) -> None:
    for stage, file in (("final", "mrk.json"), ("rigid", "steps.mrk.json")):
        expected = {}
        for scan in EARS:
            found = points(of_run(tiny) / f"landmarks/{scan}.{file}", stage)
            truth = points(results(tiny) / f"work/data/landmarks/{scan}.mrk.json")
            for label in ("CENTER", "TOP", "WINDOW"):
                expected[scan, label] = np.linalg.norm(found[label] - truth[label])
        assert errors(of_run(tiny), stage) == pytest.approx(expected, abs=2e-4)


@pytest.mark.slow
def test_transforms_take_the_template_to_the_landmarks(tiny: Path) -> None:
    template = points(results(tiny) / "work/references/template.mrk.json")
    for scan in EARS:
        for stage, file in (
            ("moments", f"align/{scan}.moments.tfm"),
            ("rigid", f"align/{scan}.tfm"),
            ("bspline", f"deform/{scan}.tfm"),
        ):
            transform = sitk.ReadTransform(str(of_run(tiny) / "work" / file))
            found = points(of_run(tiny) / f"landmarks/{scan}.steps.mrk.json", stage)
            for label, position in template.items():
                moved = transform.TransformPoint(position.tolist())
                assert moved == pytest.approx(found[label], abs=2e-4)


# What made it


@pytest.mark.slow
def test_what_made_the_results_is_recorded(tiny: Path) -> None:
    record = json.loads((results(tiny) / "provenance.json").read_text(encoding="utf-8"))
    made = json.loads((of_run(tiny) / "made.json").read_text(encoding="utf-8"))
    assert record["seeds"] == {"run oneshot": 4, "scans": 4}
    assert record["devices"] == {"oneshot": made["device"]}
    assert made["device"]
    assert record["packages"]["numpy"] == made["versions"]["numpy"] == np.__version__
    stated = ("run", "entry", "method", "seed", "template")
    assert [made[name] for name in stated] == ["oneshot", "oneshot", "oneshot", 4, "template"]
    given = {(row["scan"], row["role"]): row for row in record["inputs"]}
    roles = ("image", "landmarks", "segmentation")
    assert set(given) == {(scan, role) for scan in ("template", *EARS) for role in roles}
    for row in given.values():
        assert row["sha256"] == hashlib.sha256((tiny / row["path"]).read_bytes()).hexdigest()
    # The repository is a copy without its history.
    assert (record["code"]["commit"], record["code"]["changed"]) == ("unknown", None)
    page = (results(tiny) / "report.html").read_text(encoding="utf-8")
    assert all(row["sha256"] in page for row in given.values())


@pytest.mark.slow
def test_the_recorded_settings_are_those_of_the_run_and_a_commit_changes_nothing(
    root: Path, tiny: Path, tmp_path: Path
) -> None:
    record = json.loads((results(tiny) / "provenance.json").read_text(encoding="utf-8"))
    config = results(tiny) / "config.yaml"
    assert yaml.safe_load(config.read_text(encoding="utf-8")) == record["config"]
    committed = copy_repository(root, tmp_path / "committed")
    for arguments in (["init", "--quiet"], ["add", "."], [*AUTHOR, "commit", "-qm", "All"]):
        subprocess.run(["git", *arguments], cwd=committed, check=True)
    run = run_workflow(committed, tiny, "--dry-run", "--configfile", config)
    assert run.status == 0, run.text
    assert NOTHING in run.text


# What runs again


AFTERWARDS = {*OF_THE_RUN, *AT_THE_END, *by_batch(BATCHES, "draw_overviews")}


def jobs_after(root: Path, folder: Path, *settings: Path) -> set[str]:
    run = run_workflow(root, folder, "--dry-run", "--configfile", TINY, *settings)
    assert run.status == 0, run.text
    return set(run.jobs)


@pytest.mark.slow
def test_a_finished_study_has_nothing_to_be_done(root: Path, again: Path) -> None:
    run = run_workflow(root, again, "--configfile", TINY)
    assert run.status == 0
    assert NOTHING in run.text
    assert run.jobs == {}


@pytest.mark.slow
def test_a_changed_scan_runs_its_own_chain_and_leaves_its_neighbours(
    root: Path, again: Path
) -> None:
    path = results(again) / "work/data/scans/ear002.nii.gz"
    image = read_volume(path)
    image[tuple(count // 2 for count in image.GetSize())] += 200
    write_volume(image, path)
    landmarks = {scan: of_run(again) / f"landmarks/{scan}.mrk.json" for scan in EARS}
    before = {scan: path.read_bytes() for scan, path in landmarks.items()}
    run = run_workflow(root, again, "--configfile", TINY)
    assert run.status == 0, run.text
    own = by_batch(("001",), *PREPARING, *BATCHED) | {*OF_THE_RUN, *AT_THE_END}
    others = {LOOPS, *by_batch(("002",), *PLACED)}
    assert run.jobs == dict.fromkeys(own | others, 1)
    expected = {"ear001": "known", "ear002": "computed", "ear003": "known"}
    for stage in ("centre", "align", "deform", "refine", "segment", "place", "pictures"):
        assert served(of_run(again) / f"work/logs/{stage}/001.log") == expected, stage
    changed = {scan for scan, path in landmarks.items() if path.read_bytes() != before[scan]}
    assert changed == {"ear002"}


@pytest.mark.slow
def test_a_changed_setting_runs_its_stage_and_what_follows(
    root: Path, tiny: Path, tmp_path: Path
) -> None:
    deform = write_yaml(tmp_path / "deform.yaml", {"oneshot": {"deform": {"mask_margin_mm": 1.1}}})
    after = by_batch(BATCHES, *REGISTERING) | {LOOPS}
    assert jobs_after(root, tiny, deform) == after | AFTERWARDS
    evaluate = write_yaml(tmp_path / "evaluate.yaml", {"evaluate": {"radii": [0.3, 1]}})
    after = {"evaluate_landmarks", *AT_THE_END}
    assert jobs_after(root, tiny, evaluate) == after


@pytest.mark.slow
def test_an_edited_module_runs_the_rules_that_use_it(
    root: Path, tiny: Path, tmp_path: Path
) -> None:
    moved = copy_repository(root, tmp_path / "moved")
    assert jobs_after(moved, tiny) == set()
    module = moved / "landmarkflow/methods/oneshot/deform.py"
    with module.open("a", encoding="utf-8") as file:
        file.write("\nEDITED = True\n")
    after = by_batch(BATCHES, *REGISTERING) | {LOOPS}
    assert jobs_after(moved, tiny) == after | AFTERWARDS


# Bytes


@pytest.mark.slow
def test_one_core_trains_the_weights_of_two(root: Path, tiny: Path, again: Path) -> None:
    shutil.rmtree(of_run(again) / "work/train")
    wanted = f"results/tiny/oneshot/{WEIGHTS}"
    run = run_workflow(root, again, wanted, "--configfile", TINY, cores=1)
    assert run.status == 0, run.text
    assert run.jobs == {"train_network": 1}
    assert differing(of_run(tiny), of_run(again), WEIGHTS) == []


@pytest.mark.slow
def test_one_core_gives_the_tables_of_two(root: Path, tiny: Path, again: Path) -> None:
    shutil.rmtree(results(again) / ".store")
    for path in of_run(again).rglob("ear004*"):
        path.unlink()
    run = run_workflow(root, again, "--configfile", TINY, cores=1)
    assert run.status == 0, run.text
    expected = by_batch(("002",), *BATCHED) | {*OF_THE_RUN, *AT_THE_END}
    expected |= {LOOPS, *by_batch(("001",), *PLACED)}
    assert run.jobs == dict.fromkeys(expected, 1)
    assert served(of_run(again) / "work/logs/deform/002.log") == {"ear004": "computed"}
    names = ["errors.csv", "table1.csv", "summary.json", "statistics.csv"]
    names = [f"evaluation/{name}" for name in names]
    names += [f"landmarks/{scan}.mrk.json" for scan in EARS]
    assert differing(of_run(tiny), of_run(again), *names) == []
    assert differing(results(tiny), results(again), "comparison.csv", "steps.csv") == []
