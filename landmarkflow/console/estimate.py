"""Minutes and disk space that a run takes, estimated from what others took.

The figures are from runs of `cochlea200` (42 million voxels a scan) and `ear_reference` (8
million), of which docs/speed.md tells, and of the other methods' studies with their default
trainings. Another machine may be twice as fast or slow.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from landmarkflow.cohorts.kinds import KINDS, VOLUMES
from landmarkflow.console.plan import Part, Plan
from landmarkflow.core.records import TEMPLATE
from landmarkflow.study.study import Study


@dataclass(frozen=True)
class Cost:
    """CPU-seconds of a stage.

    Attributes:
        job: of each job, mostly the start of its process.
        scan: of each scan.
        megavoxel: of each million voxels of a scan.
    """

    job: float
    scan: float = 0.0
    megavoxel: float = 0.0

    def of(self, scans: int, megavoxels: float) -> float:
        """CPU-seconds of one job."""
        return self.job + scans * (self.scan + self.megavoxel * megavoxels)


COSTS = {
    "write_sheet": Cost(0.1),
    "simulate_scan": Cost(0.7, 0.5, 0.11),
    "fetch_file": Cost(3.0),
    "digest_scans": Cost(0.2, 0.0, 0.001),
    "check_references": Cost(0.3, 0.005),
    "split_scans": Cost(0.2),
    "prepare_targets": Cost(1.2),
    "locate_regions": Cost(0.7, 0.05, 0.015),
    "train_network": Cost(38.0),
    "centre_targets": Cost(1.0, 0.35),
    "align_scans": Cost(1.2, 0.1),
    "deform_scans": Cost(0.8, 0.2),
    "vote_landmarks": Cost(1.5, 3.0),
    "refine_landmarks": Cost(0.5, 0.05),
    "close_loops": Cost(2.5),
    "place_landmarks": Cost(0.4, 0.05),
    "segment_scans": Cost(0.5, 0.1),
    "draw_panels": Cost(0.6, 0.25),
    "train_dualhead": Cost(300.0),
    "predict_dualhead": Cost(4.0, 5.0),
    "calibrate_dualhead": Cost(8.0),
    "train_coarse": Cost(75.0),
    "train_zoomin": Cost(115.0),
    "calibrate_zoomin": Cost(17.0),
    "zoom_landmarks": Cost(2.5, 0.35),
    "train_saliency": Cost(465.0),
    "cluster_landmarks": Cost(80.0),
    "predict_saliency": Cost(2.0, 0.25),
    "align_pairs": Cost(35.0),
    "draw_overviews": Cost(1.0, 0.12, 0.005),
    "evaluate_landmarks": Cost(1.5),
    "write_report": Cost(4.0),
}
OTHER = Cost(0.7)
# Of a network that is not known.
TRAINING = Cost(100.0)
# Before and after the jobs, and between them: Snakemake looks at files, and cores wait for jobs.
AROUND_S = 15.0
SHARE_OF_SNAKEMAKE = 0.15
# What the stages leave of a scan: crops of the default fields of view are no larger, and of a small
# scan about this many bytes a voxel; a simulated or fetched scan; and the pictures.
CROPS_MB = 22.0
CROPS_BYTES = 5.0
SCAN_BYTES = 1.4
PICTURES_MB = 0.7
STAGES_THAT_READ = ("simulate_scan", "fetch_file", "locate_regions")
# Bytes of a voxel in a file: packed, and as they are.
PACKED, PLAIN = 1.4, 2.0
# Where nothing tells how large scans are.
UNKNOWN_MEGAVOXELS = 10.0
# Million pixels of a simulated picture, about.
SIMULATED_PICTURE = 0.5
MOST_LOOKED_AT = 10


def cost_of(part: Part, megavoxels: float) -> float:
    """CPU-seconds of one job of a rule."""
    known = COSTS.get(part.stage, TRAINING if part.stage.startswith("train_") else OTHER)
    return known.of(part.scans, megavoxels)


def seconds(plan: Plan, jobs: Mapping[str, int], cores: int) -> float:
    """Seconds that jobs take, by their rule's name, on some cores."""
    costs = {
        rule: count * cost_of(plan.part(rule), plan.megavoxels) for rule, count in jobs.items()
    }
    work = sum(costs.values()) * (1 + SHARE_OF_SNAKEMAKE) / max(cores, 1)
    # Whatever the cores, a training has one, and most other work waits for its end.
    alone = [cost for rule, cost in costs.items() if plan.part(rule).stage.startswith("train_")]
    waits = max(alone, default=0.0)
    before = sum(cost for rule, cost in costs.items() if plan.part(rule).stage in STAGES_THAT_READ)
    idle = max(waits - before / max(cores, 1), 0.0) * (1 - 1 / max(cores, 1))
    return AROUND_S + work + idle


def megabytes(plan: Plan, jobs: Mapping[str, int]) -> float:
    """MB of disk that jobs fill, by their rule's name."""
    found = 0.0
    for rule, count in jobs.items():
        part = plan.part(rule)
        scans = count * (1 if rule.endswith(f"_{TEMPLATE}") else part.scans)
        if part.stage in ("simulate_scan", "fetch_file"):
            found += scans * SCAN_BYTES * plan.megavoxels
        elif part.stage == "locate_regions":
            found += scans * min(CROPS_MB, CROPS_BYTES * plan.megavoxels) / 2
        elif part.stage in ("centre_targets", "align_scans"):
            found += scans * min(CROPS_MB, CROPS_BYTES * plan.megavoxels) / 4
        elif part.stage == "draw_overviews":
            found += scans * PICTURES_MB
    return found


def expected(plan: Plan, jobs: Mapping[str, int], cores: int) -> str:
    """One line on what a run takes."""
    return (
        f"Takes about {in_words(seconds(plan, jobs, cores))} on {cores} "
        f"{'core' if cores == 1 else 'cores'} and {size_in_words(megabytes(plan, jobs))} of disk, "
        "an estimate from other studies."
    )


def in_words(duration: float) -> str:
    """Seconds as people say them."""
    if duration < 90:
        return f"{max(round(duration / 10) * 10, 10)} s"
    if duration < 5400:
        return f"{round(duration / 60)} min"
    return f"{duration / 3600:.1f} h"


def size_in_words(megabytes: float) -> str:
    """MB as people say them."""
    return f"{megabytes / 1000:.1f} GB" if megabytes >= 1000 else f"{max(round(megabytes), 1)} MB"


def megavoxels_of(study: Study) -> float:
    """Million voxels of a scan of a study: as it is simulated, or by the sizes of some files."""
    data = study.config.data
    given = bool(data.folder or data.sheet)
    if not given and data.cohort is not None and data.cohort.kind in KINDS:
        return SIMULATED_PICTURE
    if not given and data.cohort is not None:
        x, y, z = getattr(data.cohort, VOLUMES[data.cohort.kind].settings).size
        return float(x * y * z) / 1e6
    images = [Path(scan.image) for scan in list(study.scans.values())[:MOST_LOOKED_AT]]
    sizes = [size for image in images if (size := _voxels(image)) > 0] if given else []
    return sum(sizes) / len(sizes) / 1e6 if sizes else UNKNOWN_MEGAVOXELS


def _voxels(image: Path) -> float:
    """Voxels of a file by its size alone, 0 for none."""
    try:
        files: Iterable[Path] = image.iterdir() if image.is_dir() else [image]
        size = sum(file.stat().st_size for file in files)
    except OSError:
        return 0.0
    return size / (PACKED if image.suffix.lower() == ".gz" else PLAIN)
