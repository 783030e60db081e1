import csv
import hashlib
import html
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import yaml
from numpy.typing import NDArray
from workflow_runs import TINY, Run, copy_repository, run_workflow

from landmarkflow.formats.volumes import read_volume, write_volume

NOTHING = "Nothing to be done (all requested files are present and up to date)."
AFTER_LANDMARKS = ("evaluate_landmarks", "record_provenance", "write_report", "check_scans", "all")
BATCHES = ("001", "002")
PREPARING = ("check_references", "locate_regions")
BATCHED = ("centre_targets", "align_scans", "deform_scans", "refine_landmarks")
BATCHED += ("place_landmarks", "draw_overviews")
# The first scans say how far errors reach: what changes them changes every radius.
LOOPS = "close_loops_001"
EARS = {"ear001": "left", "ear002": "left", "ear003": "right", "ear004": "right"}
AUTHOR = ("-c", "user.name=Somebody", "-c", "user.email=somebody@example.org")
# Measured: 0.35 mm, and 0.59 mm after the rigid registration alone.
WORST_MEAN_MM = 0.5


def write_yaml(path: Path, data: dict[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(data), encoding="utf-8")
    return path


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


def by_batch(batches: tuple[str, ...], *stages: str) -> set[str]:
    return {f"{stage}_{batch}" for stage in stages for batch in batches}


def expected_jobs(scans: int, batches: int, **source: int) -> dict[str, int]:
    once = ["write_sheet", "checksum_inputs", "train_network", "centre_targets_template", LOOPS]
    once += AFTER_LANDMARKS
    numbers = tuple(f"{n:03d}" for n in range(1, batches + 1))
    batched = by_batch(numbers, *BATCHED) | by_batch(("template", *numbers), *PREPARING)
    return dict.fromkeys([*once, *batched], 1) | source


# A template whose left and right are both seen is registered with its own mirror image.
SYMMETRY = {"align_scans_template": 1, "deform_scans_template": 1, "symmetrise_landmarks": 1}


@pytest.mark.parametrize(
    ("study", "expected"),
    [
        ("config", expected_jobs(24, 2, simulate_template=1, simulate_scan=24)),
        ("studies/cochlea200", expected_jobs(200, 8, simulate_template=1, simulate_scan=200)),
        (
            "studies/mouse_skull",
            expected_jobs(14, 2, fetch_file=30, derive_segmentation=1, **SYMMETRY),
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
    [("mouse_skull", False, {"derive_segmentation": 1, **SYMMETRY}), ("ear_reference", True, {})],
)
def test_a_study_on_a_folder_uses_its_files(
    root: Path, tmp_path: Path, study: str, segmentation: bool, source: dict[str, int]
) -> None:
    folder = data_folder(tmp_path / "my scans", 3, segmentation=segmentation)
    options = ("--configfile", root / f"studies/{study}.yaml", "--config", f"data_folder={folder}")
    run = run_workflow(root, tmp_path, "--dry-run", *options)
    assert run.status == 0, run.text
    assert run.jobs == expected_jobs(3, 1, **source)


# Several trainings

SHARED = ("simulate_template", "simulate_scan", "fetch_file", "derive_segmentation")
SHARED += (*by_batch(("template", *BATCHES), *PREPARING),)
NOT_COMPARED = {"write_sheet", "checksum_inputs", "record_provenance", "write_report"}
NOT_COMPARED |= {"check_scans", "all"}
NOT_COMPARED |= by_batch(BATCHES, "draw_overviews")


@pytest.mark.parametrize(
    ("path", "name"), [("config", "cochlea"), ("studies/mouse_skull", "mouse_skull")]
)
def test_an_ablation_trains_with_each_seed_and_prepares_once(
    root: Path, tmp_path: Path, path: str, name: str
) -> None:
    options = ("--dry-run", "--configfile", root / f"{path}.yaml")
    single = run_workflow(root, tmp_path, *options).jobs
    own = {job: count for job, count in single.items() if job not in NOT_COMPARED}
    again = {job: count for job, count in own.items() if job not in SHARED}
    seeds = (f"{name}-seed2", f"{name}-seed3")
    expected = own | {f"{seed}_{job}": n for seed in seeds for job, n in again.items()}
    run = run_workflow(root, tmp_path, "ablation", *options, "--config", "seeds=1 2 3", "presets=")
    assert run.status == 0, run.text
    assert run.jobs == expected | {"compare_steps": 1, "ablation": 1}


def test_an_ablation_trains_other_presets_where_asked_to(root: Path, tmp_path: Path) -> None:
    options = ("--dry-run", "--config", "seeds=1 2", "presets=cochlea_paper")
    run = run_workflow(root, tmp_path, "ablation", *options)
    assert run.status == 0, run.text
    assert {job for job in run.jobs if job.endswith("train_network")} == {
        "train_network",
        "cochlea-seed2_train_network",
        "cochlea_paper_train_network",
        "cochlea_paper-seed2_train_network",
    }


def test_the_mice_at_their_best_let_scans_vote(root: Path, tmp_path: Path) -> None:
    studies = root / "studies"
    both = (studies / "mouse_skull.yaml", studies / "best/mouse_skull.yaml")
    run = run_workflow(root, tmp_path, "--dry-run", "--configfile", *both)
    assert run.status == 0, run.text
    votes = by_batch(BATCHES, "vote_landmarks")
    expected = expected_jobs(14, 2, fetch_file=30, derive_segmentation=1, **SYMMETRY)
    assert run.jobs == expected | dict.fromkeys(votes, 1)


def test_three_mice_may_be_templates(root: Path, tmp_path: Path) -> None:
    both = (root / "studies/mouse_skull.yaml", root / "studies/few/mouse_skull.yaml")
    run = run_workflow(root, tmp_path, "--dry-run", "--configfile", *both)
    assert run.status == 0, run.text
    assert run.jobs["fetch_file"] == 30
    trained = sorted(job for job in run.jobs if job.endswith("train_network"))
    first, second = (f"mouse_skull_few-{name}" for name in ("129S1-SVLMJ", "129X1-SVJ"))
    assert trained == [f"{first}_train_network", f"{second}_train_network", "train_network"]


def test_several_templates_share_what_none_of_them_changes(root: Path, tmp_path: Path) -> None:
    more = tmp_path / "more.yaml"
    more.write_text("study: few\ntemplates: [ear002, ear005]\n", encoding="utf-8")
    run = run_workflow(root, tmp_path, "--dry-run", "--configfile", root / "config.yaml", more)
    assert run.status == 0, run.text
    expected = expected_jobs(22, 2, simulate_template=1, simulate_scan=24)
    shared = NOT_COMPARED | by_batch(BATCHES, *PREPARING) | {"evaluate_landmarks"}
    others = {job: n for job, n in expected_jobs(22, 2).items() if job not in shared}
    for name in ("ear002", "ear005"):
        expected |= {f"few-{name}_{job}": n for job, n in others.items()}
    assert run.jobs == expected | dict.fromkeys(by_batch(BATCHES, "fuse_landmarks"), 1)


# A whole study


@pytest.fixture
def again(tiny: Path, tmp_path: Path) -> Path:
    """A copy of that folder, to change and to run again."""
    return Path(shutil.copytree(tiny, tmp_path / "again"))


def results(folder: Path, study: str = "tiny") -> Path:
    return folder / "results" / study


def points(path: Path, name: str) -> dict[str, NDArray[np.float64] | None]:
    """The positions in one list of a markups file; None where there is none."""
    data = json.loads(path.read_text(encoding="utf-8"))
    (node,) = [node for node in data["markups"] if node["name"] == name]
    assert node["coordinateSystem"] == "LPS"
    return {
        point["label"]: np.array(point["position"]) if "position" in point else None
        for point in node["controlPoints"]
    }


def errors(folder: Path, stage: str) -> dict[tuple[str, str], float]:
    """errors.csv of one stage: mm by scan and landmark, NaN where it is empty."""
    with (folder / "evaluation" / "errors.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["stage"] == stage]
    return {(row["scan"], row["landmark"]): float(row["error_mm"] or "nan") for row in rows}


def mean(folder: Path, stage: str, scans: set[str] | None = None) -> float:
    found = [mm for (scan, _), mm in errors(folder, stage).items() if not scans or scan in scans]
    return float(np.mean(found))


def failures(folder: Path) -> list[dict[str, str]]:
    with (folder / "evaluation" / "failures.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_every_stage_leaves_its_files(tiny: Path) -> None:
    files = ["samples.tsv", "model/weights.npz", "model/training.csv", "report.html"]
    files += ["checksums.tsv", "config.yaml", "provenance.json"]
    tables = ("errors.csv", "landmarks.csv", "summary.json", "failures.csv")
    files += [f"evaluation/{name}" for name in (*tables, "table1.csv", "table1.md", "table1.tex")]
    by_scan = ("foi/{}.nii.gz", "foi/{}.json", "centred/{}.nii.gz")
    by_scan += ("centred/{}.json", "rigid/{}.tfm", "rigid/{}.moments.tfm", "bspline/{}.tfm")
    by_scan += ("refined/{}.mrk.json", "landmarks/{}.mrk.json")
    by_scan += ("references/{}.mrk.json", "pictures/{}.png")
    files += [pattern.format(scan) for scan in EARS for pattern in by_scan]
    assert [name for name in files if not (results(tiny) / name).stat().st_size] == []


@pytest.mark.slow
def test_landmarks_are_near_their_references(tiny: Path) -> None:
    steps = ("final", "bspline", "rigid", "moments", "region")
    final, bspline, rigid, moments, region = (mean(results(tiny), step) for step in steps)
    assert final < WORST_MEAN_MM
    assert final < bspline < rigid < moments < region
    assert failures(results(tiny)) == []


@pytest.mark.slow
def test_left_ears_are_as_good_as_right_ones(tiny: Path) -> None:
    sheet = (results(tiny) / "samples.tsv").read_text(encoding="utf-8").splitlines()[1:]
    assert {line.split("\t")[0]: line.split("\t")[2] for line in sheet} == EARS
    left, right = (
        mean(results(tiny), "final", {scan for scan in EARS if EARS[scan] == side})
        for side in ("left", "right")
    )
    assert left < right + 0.15


@pytest.mark.slow
def test_errors_are_the_distances_of_the_markups(tiny: Path) -> None:
    folder = results(tiny)
    for stage in ("final", "rigid"):
        expected = {}
        for scan in EARS:
            found = points(folder / f"landmarks/{scan}.mrk.json", stage)
            truth = points(folder / f"data/landmarks/{scan}.mrk.json", "reference")
            for label, position in truth.items():
                expected[scan, label] = np.linalg.norm(found[label] - position)
        assert errors(folder, stage) == pytest.approx(expected, abs=2e-4)


@pytest.mark.slow
def test_transforms_take_the_template_to_the_landmarks(tiny: Path) -> None:
    folder = results(tiny)
    template = points(folder / "data/template/landmarks.mrk.json", "reference")
    for scan in EARS:
        for stage, file in (
            ("moments", f"rigid/{scan}.moments.tfm"),
            ("rigid", f"rigid/{scan}.tfm"),
            ("bspline", f"bspline/{scan}.tfm"),
        ):
            transform = sitk.ReadTransform(str(folder / file))
            found = points(folder / f"landmarks/{scan}.mrk.json", stage)
            for label, position in template.items():
                moved = transform.TransformPoint(position.tolist())
                assert moved == pytest.approx(found[label], abs=2e-4)


# What made it


@pytest.mark.slow
def test_what_made_the_results_is_recorded(tiny: Path) -> None:
    record = json.loads((results(tiny) / "provenance.json").read_text(encoding="utf-8"))
    assert record["seeds"] == {"study": 4, "cohort": 4}
    assert record["devices"]["training"] in ("cpu", *record["devices"]["centring"])
    assert record["packages"]["numpy"] == np.__version__
    given = {(row["scan"], row["role"]): row for row in record["inputs"]}
    roles = {(scan, role) for scan in ("template", *EARS) for role in ("image", "landmarks")}
    assert set(given) == roles | {("template", "segmentation")}
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


def jobs_after(root: Path, folder: Path, *settings: Path) -> set[str]:
    run = run_workflow(root, folder, "--dry-run", "--configfile", TINY, *settings)
    assert run.status == 0, run.text
    return set(run.jobs)


@pytest.mark.slow
def test_a_finished_study_has_nothing_to_be_done(root: Path, tiny: Path) -> None:
    run = run_workflow(root, tiny, "--configfile", TINY)
    assert run.status == 0
    assert NOTHING in run.text
    assert run.jobs == {}


@pytest.mark.slow
def test_a_changed_scan_runs_its_own_chain_and_leaves_its_neighbours(
    root: Path, again: Path
) -> None:
    folder = results(again)
    path = folder / "data/scans/ear002.nii.gz"
    image = read_volume(path)
    image[tuple(count // 2 for count in image.GetSize())] += 200
    write_volume(image, path)
    before = {scan: (folder / f"landmarks/{scan}.mrk.json").read_bytes() for scan in EARS}
    run = run_workflow(root, again, "--configfile", TINY)
    assert run.status == 0, run.text
    own = {"checksum_inputs", *by_batch(("001",), *PREPARING), *AFTER_LANDMARKS}
    others = {LOOPS, *by_batch(("002",), "place_landmarks", "draw_overviews")}
    assert run.jobs == dict.fromkeys(own | by_batch(("001",), *BATCHED) | others, 1)
    for stage in BATCHED:
        log = (folder / f"logs/{stage}/001.log").read_text(encoding="utf-8")
        said = [line.split("INFO ")[1] for line in log.splitlines() if "INFO" in line]
        assert said == ["1/3 ear001: known", "2/3 ear002: computed", "3/3 ear003: known"]
    after = {scan: (folder / f"landmarks/{scan}.mrk.json").read_bytes() for scan in EARS}
    assert {scan for scan in EARS if after[scan] != before[scan]} == {"ear002"}


@pytest.mark.slow
def test_a_changed_setting_runs_its_stage_and_what_follows(
    root: Path, tiny: Path, tmp_path: Path
) -> None:
    deform = write_yaml(tmp_path / "deform.yaml", {"oneshot": {"deform": {"mask_margin_mm": 1.1}}})
    after = by_batch(BATCHES, *BATCHED[2:]) | {LOOPS}
    assert jobs_after(root, tiny, deform) == after | set(AFTER_LANDMARKS)
    evaluate = write_yaml(tmp_path / "evaluate.yaml", {"evaluate": {"radii_mm": [0.3, 1]}})
    assert jobs_after(root, tiny, evaluate) == set(AFTER_LANDMARKS)


@pytest.mark.slow
def test_an_edited_module_runs_the_rules_that_use_it(
    root: Path, tiny: Path, tmp_path: Path
) -> None:
    moved = copy_repository(root, tmp_path / "moved")
    assert jobs_after(moved, tiny) == set()
    with (moved / "landmarkflow/oneshot/deform.py").open("a", encoding="utf-8") as file:
        file.write("\nEDITED = True\n")
    after = by_batch(BATCHES, *BATCHED[2:]) | {LOOPS}
    assert jobs_after(moved, tiny) == after | set(AFTER_LANDMARKS)


# Bytes


def differing(one: Path, other: Path, *names: str) -> list[str]:
    return [name for name in names if (one / name).read_bytes() != (other / name).read_bytes()]


@pytest.mark.slow
def test_one_core_trains_the_weights_of_two(root: Path, tiny: Path, again: Path) -> None:
    shutil.rmtree(results(again) / "model")
    options = ("--configfile", TINY, "--until", "train_network")
    run = run_workflow(root, again, *options, cores=1)
    assert run.status == 0, run.text
    assert run.jobs == {"train_network": 1}
    assert differing(results(tiny), results(again), "model/weights.npz") == []


@pytest.mark.slow
def test_one_core_gives_the_tables_of_two(root: Path, tiny: Path, again: Path) -> None:
    folder = results(again)
    shutil.rmtree(folder / ".store")
    for path in folder.glob("*/ear004*"):
        if path.parent.name not in ("foi", "references"):
            path.unlink()
    run = run_workflow(root, again, "--configfile", TINY, cores=1)
    assert run.status == 0, run.text
    assert run.jobs == dict.fromkeys(by_batch(("002",), *BATCHED) | set(AFTER_LANDMARKS), 1)
    log = (folder / "logs/deform_scans/002.log").read_text(encoding="utf-8")
    assert "ear004: computed" in log
    names = ["errors.csv", "table1.csv", "summary.json", "landmarks.csv"]
    names = [f"evaluation/{name}" for name in names]
    names += [f"landmarks/{scan}.mrk.json" for scan in EARS]
    assert differing(results(tiny), folder, *names) == []


# Several trainings of a finished study

TWO_SEEDS = ("ablation", "--configfile", TINY, "--config", "seeds=4 5")


@pytest.mark.slow
def test_two_templates_give_one_list_of_landmarks(root: Path, again: Path, tmp_path: Path) -> None:
    more = write_yaml(tmp_path / "more.yaml", {"templates": ["ear003"]})
    options = ("--configfile", TINY, more)
    run = run_workflow(root, again, *options)
    assert run.status == 0, run.text
    assert "tiny-ear003_locate_regions_template" in run.jobs
    assert "tiny-ear003_locate_regions_001" not in run.jobs
    scans = sorted(set(EARS) - {"ear003"})
    for scan in scans:
        name = f"landmarks/{scan}.mrk.json"
        ways = (results(again) / f"placed/{scan}.mrk.json", results(again, "tiny-ear003") / name)
        first, second = (points(path, "final") for path in ways)
        alone, fused = (points(results(again) / name, one) for one in ("alone", "final"))
        for label, position in fused.items():
            np.testing.assert_array_equal(alone[label], first[label])
            np.testing.assert_allclose(position, (first[label] + second[label]) / 2, atol=2e-4)
    assert mean(results(again), "final") < WORST_MEAN_MM
    assert NOTHING in run_workflow(root, again, *options).text


@pytest.fixture(scope="session")
def compared(root: Path, tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Run]:
    """A copy of that folder in which an ablation has finished, and its run; tests only read it."""
    folder = Path(shutil.copytree(tiny, tmp_path_factory.mktemp("compared") / "again"))
    run = run_workflow(root, folder, *TWO_SEEDS)
    assert run.status == 0, run.text
    return folder, run


@pytest.mark.slow
def test_another_seed_shares_what_no_seed_changes(compared: tuple[Path, Run]) -> None:
    folder, run = compared
    anew = {"train_network", "centre_targets_template", LOOPS, "evaluate_landmarks"}
    anew |= by_batch(BATCHES, *BATCHED) - NOT_COMPARED
    anew = {f"tiny-seed5_{job}" for job in anew} | {"compare_steps", "ablation"}
    assert run.jobs == dict.fromkeys(anew, 1)
    made = {path.name for path in results(folder, "tiny-seed5").iterdir()}
    assert made & {"data", "foi", "references", "template"} == set()
    weights = "model/weights.npz"
    assert differing(results(folder), results(folder, "tiny-seed5"), weights) == [weights]


@pytest.mark.slow
def test_the_table_of_steps_is_of_both_seeds(compared: tuple[Path, Run]) -> None:
    folder, _ = compared
    with (results(folder) / "ablation.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["landmark"] == "all landmarks"]
    means = [mean(results(folder, study), "final") for study in ("tiny", "tiny-seed5")]
    assert (rows[0]["step"], rows[-1]["step"][-7:]) == ("region alone", "(final)")
    assert (rows[-1]["preset"], rows[-1]["seeds"], rows[-1]["n"]) == ("tiny", "2", "24")
    assert float(rows[-1]["mean_mm"]) == pytest.approx(np.mean(means), abs=1e-4)
    assert float(rows[-1]["sd_over_seeds_mm"]) == pytest.approx(np.std(means, ddof=1), abs=1e-4)


@pytest.mark.slow
def test_a_finished_ablation_has_nothing_to_be_done(root: Path, compared: tuple[Path, Run]) -> None:
    folder, _ = compared
    for arguments in (TWO_SEEDS, ("--configfile", TINY)):
        assert NOTHING in run_workflow(root, folder, *arguments).text


@pytest.mark.slow
def test_one_core_gives_the_table_of_steps_of_two(
    root: Path, tmp_path: Path, compared: tuple[Path, Run]
) -> None:
    folder = Path(shutil.copytree(compared[0], tmp_path / "again"))
    shutil.rmtree(results(folder, "tiny-seed5"))
    assert run_workflow(root, folder, *TWO_SEEDS, cores=1).status == 0
    assert differing(results(compared[0]), results(folder), "ablation.csv", "ablation.md") == []


# Scans as they come, two of them bad


def write_dicom(image: sitk.Image, folder: Path) -> None:
    """Writes an image along the LPS axes as a DICOM series of CT slices."""
    folder.mkdir()
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for number in range(image.GetSize()[2]):
        piece = image[:, :, number : number + 1]
        header = {
            "0008|0016": "1.2.840.10008.5.1.4.1.1.2",
            "0008|0018": f"1.2.826.0.1.3680043.2.1.{number + 1}",
            "0008|0060": "CT",
            "0020|000d": "1.2.826.0.1.3680043.2",
            "0020|000e": "1.2.826.0.1.3680043.2.1",
            "0020|0013": str(number + 1),
            "0020|0032": "\\".join(f"{value:.8f}" for value in piece.GetOrigin()),
            "0020|0037": "1\\0\\0\\0\\1\\0",
            "0028|1052": "-1024",
            "0028|1053": "1",
        }
        for key, value in header.items():
            piece.SetMetaData(key, value)
        writer.SetFileName(str(folder / f"{number:03d}.dcm"))
        writer.Execute(piece)


def given_study(folder: Path, source: Path) -> Path:
    """Puts the ears of the tiny study into a sheet, each in another format; returns its config.

    p002 has a reference outside its volume, and the file of p004 ends too early.
    """
    mine = folder / "my scans"
    (mine / "points").mkdir(parents=True)
    images = {name: read_volume(source / f"data/scans/{name}.nii.gz") for name in EARS}
    truth = [points(source / f"data/landmarks/{name}.mrk.json", "reference") for name in EARS]
    write_volume(images["ear001"], mine / "p001.nrrd")
    write_volume(images["ear002"], mine / "p002.mha")
    write_dicom(images["ear003"], mine / "p003 dicom")
    whole = (source / "data/scans/ear004.nii.gz").read_bytes()
    (mine / "p004.nii.gz").write_bytes(whole[: len(whole) // 2])
    # RAS in a Slicer table, LPS in a plain one, and the paper's own, whose frame the sheet states.
    rows = [f"{label},{-x},{-y},{z}" for label, (x, y, z) in truth[0].items()]
    (mine / "points/p001.csv").write_text("\n".join(["# frame: RAS", "label,x,y,z", *rows]))
    rows = [f"{label},{x + 40},{y},{z},LPS" for label, (x, y, z) in truth[1].items()]
    (mine / "points/p002.csv").write_text("\n".join(["label,x,y,z,frame", *rows]))
    plain = {label: position.tolist() for label, position in truth[2].items()}
    (mine / "points/p003.json").write_text(json.dumps(plain))
    shutil.copy(source / "data/landmarks/ear004.mrk.json", mine / "points/p004.mrk.json")
    sheet = ["scan\timage\tside\tlandmarks\tframe", "p001\tp001.nrrd\tleft\tpoints/p001.csv"]
    sheet += [
        "p002\tp002.mha\tleft\tpoints/p002.csv",
        "p003\tp003 dicom\tright\tpoints/p003.json\tLPS",
    ]
    sheet += ["p004\tp004.nii.gz\tright\tpoints/p004.mrk.json"]
    (mine / "samples.tsv").write_text("\n".join(sheet) + "\n", encoding="utf-8")
    template = source / "data/template"
    write_volume(read_volume(template / "scan.nii.gz"), mine / "t.mha")
    write_volume(read_volume(template / "segmentation.nii.gz"), mine / "t segmentation.nrrd")
    shutil.copy(template / "landmarks.mrk.json", mine / "t.mrk.json")
    entries = {"image": "t.mha", "segmentation": "t segmentation.nrrd", "landmarks": "t.mrk.json"}
    entries = {key: f"my scans/{name}" for key, name in entries.items()} | {"side": "right"}
    study = yaml.safe_load(TINY.read_text(encoding="utf-8"))
    study |= {"study": "given", "batch_scans": 4}
    study["data"] = {"sheet": {"sheet": "my scans/samples.tsv", "template": entries}}
    return write_yaml(folder / "given.yaml", study)


@pytest.fixture(scope="session")
def given(
    root: Path, tiny: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Run, Run]:
    """The folder of a study with two bad scans, and its runs that refuse and set aside."""
    folder = tmp_path_factory.mktemp("given")
    study = given_study(folder, results(tiny))
    refused = run_workflow(root, folder, "--configfile", study)
    options = ("--configfile", study, "--config", "bad_scans=set_aside")
    return folder, refused, run_workflow(root, folder, *options)


OUTSIDE = "my scans/points/p002.csv: 3 of 3 reference landmarks lie outside the volume"
TRUNCATED = "my scans/p004.nii.gz: "


@pytest.mark.slow
def test_bad_scans_are_refused_by_name(given: tuple[Path, Run, Run]) -> None:
    _, refused, _ = given
    assert refused.status == 1
    said = refused.stderr.splitlines()
    for sentence in (OUTSIDE, TRUNCATED):
        assert [line for line in said if line.startswith(sentence)], refused.stderr
    assert "Traceback" not in refused.text
    assert not set(refused.jobs) - set(expected_jobs(4, 1))


@pytest.mark.slow
def test_bad_scans_are_set_aside_with_their_reasons(given: tuple[Path, Run, Run]) -> None:
    folder, _, run = given
    assert run.status == 0, run.text
    found = failures(results(folder, "given"))
    assert [(row["scan"], row["stage"], row["status"]) for row in found] == [
        ("p002", "reference", "refused"),
        ("p004", "locate", "refused"),
    ]
    page = html.unescape((results(folder, "given") / "report.html").read_text(encoding="utf-8"))
    for row, reason in zip(found, (OUTSIDE, TRUNCATED), strict=True):
        assert row["reason"].startswith(reason)
        assert row["reason"] in page


@pytest.mark.slow
def test_a_scan_set_aside_has_no_landmarks_but_the_reason(given: tuple[Path, Run, Run]) -> None:
    folder = results(given[0], "given")
    path = folder / "landmarks/p004.mrk.json"
    for name in ("final", "rigid"):
        assert points(path, name) == {"CENTER": None, "TOP": None, "WINDOW": None}
    data = json.loads(path.read_text(encoding="utf-8"))
    for point in data["markups"][0]["controlPoints"]:
        assert point["positionStatus"] == "undefined"
        assert TRUNCATED in point["description"]
    with (folder / "evaluation/errors.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["scan"] == "p004"]
    assert rows
    assert all(row["error_mm"] == "" and TRUNCATED in row["reason"] for row in rows)


@pytest.mark.slow
def test_other_scans_are_found_as_in_the_first_format(
    tiny: Path, given: tuple[Path, Run, Run]
) -> None:
    folder = results(given[0], "given")
    evaluated = {scan for (scan, _), mm in errors(folder, "final").items() if not np.isnan(mm)}
    assert evaluated == {"p001", "p003"}
    for scan, ear in (("p001", "ear001"), ("p002", "ear002"), ("p003", "ear003")):
        here = points(folder / f"landmarks/{scan}.mrk.json", "final")
        there = points(results(tiny) / f"landmarks/{ear}.mrk.json", "final")
        for label, position in there.items():
            assert np.linalg.norm(here[label] - position) < 0.1
