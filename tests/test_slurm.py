"""A study on a real SLURM of this machine's own, with faults; and what its profile asks for."""

import os
import re
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from workflow_runs import TINY, differing, results, run_workflow, served

SLURM = Path(__file__).parent / "slurm"
LONGEST_WAIT_S = 400
# The first attempt at training gets less memory than it takes, the second one more.
FAULTS = ("--set-resources", "train_network:mem_mb=attempt**3*250")
# So that no test waits for the next look at jobs, and because there is no accounting.
LOOKS = ("--slurm-status-command", "squeue", "--slurm-init-seconds-before-status-checks", 1)
LOCAL = ("all", "write_sheet", "check_references", "check_scans", "evaluate_landmarks")
LOCAL += ("compare_runs", "record_run", "record_provenance", "write_report")
# What is submitted once where nothing fails: groups of rules by their first word.
FAULTLESS = {"digest_scans": 3, "centre_targets": 3, "finish": 2}
SAME = ["comparison.csv", "steps.csv", "oneshot/work/train/weights.npz"]
SAME += [f"oneshot/evaluation/{name}" for name in ("table1.md", "errors.csv", "summary.json")]
SAME += ["oneshot/evaluation/failures.csv"]


def profile_of(root: Path) -> tuple[str, Path]:
    return ("--workflow-profile", root / "profiles/slurm")


# What the profile makes of a study


def test_two_hundred_scans_are_a_few_dozen_jobs(root: Path, tmp_path: Path) -> None:
    study = ("--configfile", root / "studies/cochlea200.yaml")
    run = run_workflow(root, tmp_path, "--dry-run", *profile_of(root), *study)
    assert run.status == 0, run.text
    # A group stands for the rules indented below it.
    names = re.findall(r"^(?:rule|\[.*\] Group job) (\w+)", run.text, re.MULTILINE)
    jobs = Counter(re.sub(r"_(\d+|template)$", "", name) for name in names)
    assert {name: count for name, count in jobs.items() if name not in LOCAL} == {
        "simulate": 9,
        "digest_scans": 9,
        "prepare_targets": 1,
        "survey": 1,
        "locate_regions": 9,
        "train_network": 1,
        "centre_targets": 9,
        "register": 8,
        "close_loops": 1,
        "finish": 8,
    }


def test_one_line_does_without_gpus(root: Path, tmp_path: Path) -> None:
    study = ("--dry-run", *profile_of(root), "--configfile", TINY)
    asked = run_workflow(root, tmp_path, *study).text
    assert Counter(re.findall(r"runtime=\d+, gpu=(\d)", asked)) == {"1": 4}
    asked = run_workflow(root, tmp_path, *study, "--resources", "gpu=0").text
    assert Counter(re.findall(r"runtime=\d+, gpu=(\d)", asked)) == {"0": 4}


# A study through SLURM


def scontrol(*arguments: str) -> str:
    done = subprocess.run(["scontrol", *arguments], capture_output=True, text=True, check=True)
    return done.stdout


def jobs_named(name: str) -> list[dict[str, str]]:
    """What SLURM says of the jobs of a rule or a group, in the order they were submitted."""
    lines = scontrol("--oneliner", "show", "job").splitlines()
    jobs = [dict(re.findall(r"(\S+?)=(\S*)", line)) for line in lines]
    jobs = [job for job in jobs if job.get("Comment", "").startswith(f"rule_{name}")]
    return sorted(jobs, key=lambda job: int(job["JobId"]))


def processes(folder: Path, word: str) -> list[int]:
    """The processes of this study whose command has such a word in it, as a log's name."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().decode()
            if word in command and (process / "cwd").readlink() == folder:
                found.append(int(process.name))
        except OSError:
            continue  # It has ended meanwhile.
    return found


def wait_for(reached: Callable[[], object], what: str) -> None:
    end = time.monotonic() + LONGEST_WAIT_S
    while not reached():
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.1)


def running(folder: Path, name: str, log: str) -> dict[str, str]:
    """A job that has got as far as to write a log."""
    log = f"logs/{log}"
    wait_for(lambda: processes(folder, log), log)
    (job,) = (job for job in jobs_named(name) if job["JobState"] == "RUNNING")
    return job


def suspend(folder: Path, log: str) -> None:
    """Lets a job get no further."""
    for process in processes(folder, f"logs/{log}"):
        os.kill(process, signal.SIGSTOP)


def interrupt(folder: Path) -> None:
    """Control-C on the login node, while regions are sought."""
    running(folder, "locate_regions_001", "locate/001.log")
    suspend(folder, "locate/001.log")
    # Jobs that Snakemake is just looking at it does not take back.
    hurry = Path("/etc/slurm/slurm.conf").readlink().with_name("hurry")
    hurry.touch()
    wait_for(lambda: not processes(folder, "slurm/squeue"), "the last look at jobs to end")
    hurry.unlink()
    (snakemake,) = processes(folder, "--workflow-profile")
    os.kill(snakemake, signal.SIGINT)


def lose_node(folder: Path) -> None:
    """The node goes down while scans are centred, and comes back."""
    node = running(folder, "centre_targets_001", "centre/001.log")["NodeList"]
    scontrol("update", f"nodename={node}", "state=down", "reason=test")
    wait_for(lambda: not processes(folder, "logs/centre/"), "the node's processes to end")
    scontrol("update", f"nodename={node}", "state=resume")


def cancel(folder: Path) -> None:
    job = running(folder, "register_002", "deform/002.log")
    subprocess.run(["scancel", job["JobId"]], check=True)


def hang(folder: Path) -> None:
    """A process hangs, and the job's time runs out: SLURM looks for such jobs twice a minute."""
    job = running(folder, "register_001", "deform/001.log")
    suspend(folder, "deform/001.log")
    scontrol("update", f"jobid={job['JobId']}", "endtime=now+1")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A SLURM of one node, for as long as these tests run."""
    missing = [name for name in ("slurmctld", "slurmd", "munged") if not shutil.which(name)]
    if missing:
        pytest.skip(f"no SLURM on this machine: {', '.join(missing)} not found; see .ci/run")
    if os.geteuid():
        pytest.skip("SLURM's daemons are started by root alone")
    if Path("/etc/slurm/slurm.conf").exists():
        pytest.skip("/etc/slurm/slurm.conf: this machine belongs to a SLURM cluster already")
    folder = tmp_path_factory.mktemp("slurm")
    try:
        subprocess.run([SLURM / "cluster", "start", folder], check=True)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PATH", f"{SLURM}{os.pathsep}{os.environ['PATH']}")
            yield
    finally:
        subprocess.run([SLURM / "cluster", "stop", folder], check=True)


@pytest.fixture(scope="module")
def survivor(
    cluster: None, root: Path, tiny: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """Results of a study that has been through all faults, on the scans of the local one."""
    # Who is started in the background ignores Control-C, and so do all whom he starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    folder = tmp_path_factory.mktemp("survivor") / "with a space"
    shutil.copytree(results(tiny) / "work/data", results(folder) / "work/data")
    options = (*profile_of(root), *LOOKS, *FAULTS, "--configfile", TINY)
    with ThreadPoolExecutor() as pool:
        study = pool.submit(run_workflow, root, folder, *options)
        interrupt(folder)
        assert study.result().status == 1
        study = pool.submit(run_workflow, root, folder, *options)
        faults = [pool.submit(fault, folder) for fault in (lose_node, cancel, hang)]
        for fault in faults:
            fault.result()
        run = study.result()
    assert run.status == 0, run.text
    yield results(folder)
    # This small a SLURM kills no more than it knows of: of a lost node's jobs, some live on.
    for process in processes(folder, "snakemake"):
        os.kill(process, signal.SIGKILL)


def states(name: str) -> list[str]:
    return [job["JobState"] for job in jobs_named(name)]


def served_by(results: Path, job: str) -> dict[str, str]:
    """What the last attempt of a job did of each of its scans."""
    return served(results / f"oneshot/work/logs/{job}.log")


@pytest.mark.slow
def test_results_are_those_of_a_run_without_a_cluster(survivor: Path, tiny: Path) -> None:
    expected = results(tiny)
    found = expected.glob("oneshot/landmarks/*.json")
    landmarks = [str(path.relative_to(expected)) for path in found]
    assert len(landmarks) == 12
    assert differing(survivor, expected, *SAME, *landmarks) == []


@pytest.mark.slow
def test_one_job_trains_and_each_batch_has_one_for_each_stage(survivor: Path) -> None:
    assert {name: len(jobs_named(name)) for name in FAULTLESS} == FAULTLESS
    assert [job["Comment"] for name in LOCAL for job in jobs_named(name)] == []


@pytest.mark.slow
def test_gpus_are_for_those_who_ask_for_them(survivor: Path) -> None:
    asked = {
        (name, job["Partition"], job.get("TresPerJob"))
        for name in ("train_network", "centre_targets", "locate_regions", "register", "finish")
        for job in jobs_named(name)
    }
    assert asked == {
        ("train_network", "gpu", "gres:gpu:1"),
        ("centre_targets", "gpu", "gres:gpu:1"),
        ("locate_regions", "cpu", None),
        ("register", "cpu", None),
        ("finish", "cpu", None),
    }


@pytest.mark.slow
def test_an_interrupted_run_takes_its_jobs_back(survivor: Path) -> None:
    assert states("locate_regions_001") == ["CANCELLED", "COMPLETED"]


@pytest.mark.slow
def test_a_job_over_its_memory_is_tried_again_with_more(survivor: Path) -> None:
    jobs = jobs_named("train_network")
    assert [(job["JobState"], job["MinMemoryNode"]) for job in jobs] == [
        ("FAILED", "250M"),
        ("COMPLETED", "2000M"),
    ]


@pytest.mark.slow
def test_a_job_over_its_time_is_tried_again_and_computes_only_the_rest(survivor: Path) -> None:
    assert states("register_001") == ["TIMEOUT", "COMPLETED"]
    scans = ("ear001", "ear002", "ear003")
    assert served_by(survivor, "align/001") == dict.fromkeys(scans, "known")
    assert served_by(survivor, "deform/001") == dict.fromkeys(scans, "computed")


@pytest.mark.slow
def test_a_cancelled_job_is_tried_again_with_twice_its_time_and_memory(survivor: Path) -> None:
    first, second = jobs_named("register_002")
    assert (first["JobState"], second["JobState"]) == ("CANCELLED", "COMPLETED")
    assert (first["TimeLimit"], second["TimeLimit"]) == ("00:24:00", "00:48:00")
    assert (first["MinMemoryNode"], second["MinMemoryNode"]) == ("3000M", "6000M")
    assert served_by(survivor, "align/002") == {"ear004": "known"}


@pytest.mark.slow
def test_a_job_whose_node_is_lost_is_queued_again(survivor: Path) -> None:
    (job,) = jobs_named("centre_targets_001")
    assert (job["JobState"], job["Restarts"]) == ("COMPLETED", "1")


@pytest.mark.slow
def test_afterwards_nothing_is_to_be_done(survivor: Path, root: Path) -> None:
    folder = survivor.parents[1]
    run = run_workflow(root, folder, "--dry-run", *profile_of(root), "--configfile", TINY)
    assert (run.status, run.jobs) == (0, {}), run.text
