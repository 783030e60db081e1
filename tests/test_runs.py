"""Studies of several runs: what they share runs once, and their tables stand side by side."""

import zipfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from packed import assert_found_again, images_of
from workflow_runs import (
    NOTHING,
    TINY,
    Run,
    by_batch,
    copy_run,
    differing,
    mean,
    points,
    results,
    rows,
    run_workflow,
    write_yaml,
)

SHARED = ("digest_scans", "check_references", "locate_regions")
PREPARED = ("write_sheet", "prepare_targets", "survey_template")
ONCE = (*PREPARED, "compare_runs", "record_provenance", "write_report", "check_scans", "all")
REGISTERING = ("centre_targets", "align_scans", "deform_scans", "refine_landmarks")
REGISTERING += ("segment_scans", "place_landmarks", "draw_panels")
OF_A_RUN = ("evaluate_landmarks", "record_run")
TWO_SEEDS = ("--configfile", TINY, "--config", "seeds=4 5")
STATED = ["oneshot", "ear003", "fused"]
# Of all landmarks of all scans; measured: 0.21 mm with one template.
WORST_MEAN_MM = 0.4


def runs(path: Path, **stated: Mapping[str, object]) -> Path:
    """A file that states the runs of a study."""
    return write_yaml(path, {"runs": stated})


def dry_jobs(root: Path, folder: Path, *arguments: object) -> dict[str, int]:
    run = run_workflow(root, folder, "--dry-run", *arguments)
    assert run.status == 0, run.text
    return run.jobs


def expected_jobs(oneshot: int, others: int, batches: tuple[str, ...]) -> dict[str, int]:
    """The jobs of the tiny study with so many runs of the method and of others."""
    once = {*ONCE, *by_batch(("template", *batches), *SHARED)}
    of_oneshot = {"train_network", "centre_targets_template", "close_loops"}
    of_oneshot |= by_batch(batches, *REGISTERING)
    of_every_run = {*OF_A_RUN, *by_batch(batches, "draw_overviews")}
    jobs = dict.fromkeys(once, 1) | dict.fromkeys(of_oneshot, oneshot) | {"simulate_scan": 5}
    return jobs | dict.fromkeys(of_every_run, oneshot + others)


# Dry runs


def test_what_runs_share_is_done_once_however_many_there_are(root: Path, tmp_path: Path) -> None:
    three = runs(
        tmp_path / "three.yaml",
        oneshot={"method": "oneshot", "seeds": [4, 5]},
        ear002={"method": "oneshot", "template": "ear002"},
        fused={"method": "fuse", "of": ["oneshot", "ear002"]},
    )
    # Three scans are left, and the scan that is a template goes with the first template.
    expected = expected_jobs(3, 1, ("001",)) | {"fuse_landmarks_001": 1}
    assert dry_jobs(root, tmp_path, "--configfile", TINY, three) == expected


def test_seeds_of_the_command_line_are_those_of_the_file(root: Path, tmp_path: Path) -> None:
    two = runs(tmp_path / "two.yaml", oneshot={"method": "oneshot", "seeds": [4, 5]})
    expected = expected_jobs(2, 0, ("001", "002"))
    assert dry_jobs(root, tmp_path, "--configfile", TINY, two) == expected
    assert dry_jobs(root, tmp_path, *TWO_SEEDS) == expected


@pytest.mark.parametrize(
    ("study", "trained", "fused"),
    [("mouse_skull_few", 3, 1), ("cochlea_ablation", 3, 0), ("cochlea_paper", 2, 0)],
)
def test_studies_of_several_runs_train_each_and_fetch_or_simulate_once(
    root: Path, tmp_path: Path, study: str, trained: int, fused: int
) -> None:
    jobs = dry_jobs(root, tmp_path, "--configfile", root / f"studies/{study}.yaml")
    made = {name: jobs.get(name, 0) for name in ("fetch_file", "simulate_scan")}
    mice = {"fetch_file": 30, "simulate_scan": 0}
    assert made == (mice if "mouse" in study else {"fetch_file": 0, "simulate_scan": 25})
    assert jobs["train_network"] == jobs["close_loops"] == trained
    assert jobs["evaluate_landmarks"] == trained + fused
    assert jobs.get("fuse_landmarks_001", 0) == fused
    assert jobs["locate_regions_001"] == jobs["locate_regions_template"] == 1


# Two seeds


@pytest.fixture(scope="module")
def two_seeds(root: Path, tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Run]:
    """A finished study that got a second seed, and the run that made it; tests only read it."""
    folder = copy_run(tiny, tmp_path_factory.mktemp("two seeds") / "again")
    run = run_workflow(root, folder, *TWO_SEEDS)
    assert run.status == 0, run.text
    return folder, run


@pytest.mark.slow
def test_another_seed_shares_what_no_seed_changes(tiny: Path, two_seeds: tuple[Path, Run]) -> None:
    folder, run = two_seeds
    expected = expected_jobs(1, 0, ("001", "002"))
    shared = {"simulate_scan", *PREPARED}
    shared |= by_batch(("template", "001", "002"), *SHARED)
    assert run.jobs == {job: count for job, count in expected.items() if job not in shared}
    found = results(folder)
    weights = "work/train/weights.npz"
    assert differing(found / "oneshot", found / "oneshot-seed5", weights) == [weights]
    errors = "oneshot/evaluation/errors.csv"
    assert differing(results(tiny), found, errors) == []


@pytest.mark.slow
def test_tables_pool_the_seeds_of_an_entry(two_seeds: tuple[Path, Run]) -> None:
    found = results(two_seeds[0])
    means = [mean(found / run) for run in ("oneshot", "oneshot-seed5")]
    (row,) = rows(found / "comparison.csv")
    assert (row["run"], row["method"], row["seeds"]) == ("oneshot", "oneshot", "2")
    steps = [row for row in rows(found / "steps.csv") if row["landmark"] == "all landmarks"]
    assert {row["run"] for row in steps} == {"oneshot"}
    assert (steps[0]["step"], steps[-1]["step"][-7:]) == ("region alone", "(final)")
    for pooled in (row, steps[-1]):
        assert (pooled["seeds"], pooled["n"]) == ("2", "24")
        assert float(pooled["mean"]) == pytest.approx(np.mean(means), abs=1e-4)
        assert float(pooled["sd_over_seeds"]) == pytest.approx(np.std(means, ddof=1), abs=1e-4)


@pytest.mark.slow
def test_finished_runs_have_nothing_to_be_done_and_one_can_be_taken_away_again(
    root: Path, two_seeds: tuple[Path, Run]
) -> None:
    folder, _ = two_seeds
    assert dry_jobs(root, folder, *TWO_SEEDS) == {}
    assert set(dry_jobs(root, folder, "--configfile", TINY)) == set(ONCE) - set(PREPARED)


@pytest.mark.slow
def test_snakemakes_own_report_shows_tables_and_pictures_without_a_network(
    root: Path, two_seeds: tuple[Path, Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    run = run_workflow(root, two_seeds[0], "--report", tmp_path / "shown.zip", *TWO_SEEDS)
    assert run.status == 0, run.text
    with zipfile.ZipFile(tmp_path / "shown.zip") as shown:
        names = Counter(Path(name).name for name in shown.namelist() if "/data/" in name)
        page = shown.read("shown/report.html").decode()
    of_each = ("errors.csv", "failures.csv", "table1.csv", *(f"ear00{n}.png" for n in range(1, 5)))
    assert names == dict.fromkeys(of_each, 2) | {"comparison.csv": 1, "steps.csv": 1}
    for heading in ("All runs", "Tables", "Pictures", "oneshot", "oneshot-seed5"):
        assert f'"{heading}"' in page


# Two templates


@pytest.mark.slow
def test_two_templates_give_one_list_of_landmarks(root: Path, tiny: Path, tmp_path: Path) -> None:
    more = runs(
        tmp_path / "more.yaml",
        oneshot={"method": "oneshot"},
        ear003={"method": "oneshot", "template": "ear003"},
        fused={"method": "fuse", "of": ["oneshot", "ear003"]},
    )
    folder = copy_run(tiny, tmp_path / "again")
    options = ("--configfile", TINY, more)
    run = run_workflow(root, folder, *options)
    assert run.status == 0, run.text
    found = results(folder)
    assert (found / "ear003/work/centre/template.json").exists()
    for scan in ("ear001", "ear002", "ear004"):
        ways = [points(found / f"{run}/landmarks/{scan}.mrk.json", "final") for run in STATED[:2]]
        fused = found / f"fused/landmarks/{scan}.mrk.json"
        alone = points(fused.with_name(f"{scan}.steps.mrk.json"), "alone")
        for label, position in points(fused, "final").items():
            np.testing.assert_array_equal(alone[label], ways[0][label])
            middle = (ways[0][label] + ways[1][label]) / 2
            np.testing.assert_allclose(position, middle, atol=2e-4)
    table = rows(found / "comparison.csv")
    assert [row["run"] for row in table] == STATED
    assert {row["scans"] for row in table} == {"3"}
    assert float(table[-1]["mean"]) < WORST_MEAN_MM
    assert list(dict.fromkeys(row["run"] for row in rows(found / "steps.csv"))) == STATED
    page = (found / "report.html").read_text(encoding="utf-8")
    assert all(f"{run}/pictures/ear001.png" in page for run in STATED)
    assert NOTHING in run_workflow(root, folder, *options).text
    # One pack holds both runs and what fuses them.
    fusing = found / "fused"
    assert_found_again(fusing, images_of(fusing, ["ear001"]), tmp_path)
