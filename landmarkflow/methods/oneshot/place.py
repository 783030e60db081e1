"""Place the template's landmarks in a scan, each with a radius calibrated without any reference.

A few scans of the study are registered back to the template. Where the loop ends, beside where it
began, is the study's own measure of error; what the windows say of a landmark (`refine`) spreads
it over the landmarks.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from landmarkflow.core.files import read_json
from landmarkflow.core.grids import Grid
from landmarkflow.core.points import Landmarks, PointList
from landmarkflow.core.records import Record, read_record
from landmarkflow.engine.batch import Batch
from landmarkflow.engine.store import Task
from landmarkflow.formats.slicer import read_complete_markups, write_markups, write_steps
from landmarkflow.formats.transforms import read_transform
from landmarkflow.formats.written import read_written
from landmarkflow.images.extent import Extent
from landmarkflow.methods.oneshot.landmarks import place_landmarks, shift, similarity_around
from landmarkflow.methods.oneshot.settings import PlaceSettings
from landmarkflow.methods.oneshot.template import LEAST_CUT, annotated_of

Array = NDArray[np.float64]

# Of the loops' landmarks so many end within the length that measures the study's error. Beyond,
# single loops that went astray decide.
LOOP_SHARE = 0.8
# A scan whose loops end this many times as far off as is usual was lost, and measures no error.
LOST = 3.0

# Of the depth of a landmark well inside, a smaller share is close to the border.
CLOSE_SHARE = 0.25
# How much a radius grows where none of a landmark's surroundings is seen, and for each mm beyond
# the scan's border.
UNSEEN_GROWTH, BEYOND_GROWTH = 1.0, 0.5

FINAL = "final"
# The lists after the final one, from the last step back to the first.
TRANSFORMS = ("bspline", "rigid", "moments")
CENTRES = {"centred": "align_record", "region": "locate_record"}
STEPS = (*TRANSFORMS, *CENTRES)


@dataclass(frozen=True)
class Calibration:
    """What a study's loops say.

    Attributes:
        loop_mm: within which `LOOP_SHARE` of the landmarks return.
        deviation_mm: the landmarks' median deviation in the same scans.
    """

    loop_mm: float
    deviation_mm: float


def calibrate(loops: Array, deviations: Array) -> Calibration | None:
    """Measure a study's error.

    Args:
        loops: (scans, n) mm from where a landmark began to where it returned.
        deviations: (m,) mm of the landmarks of the same scans; NaN where there is none.

    Returns:
        The calibration; None where there is nothing to measure.
    """
    known = deviations[np.isfinite(deviations)]
    if not len(loops) or not len(known):
        return None
    of_scan = np.median(loops, axis=1)
    kept = loops[of_scan <= LOST * np.median(of_scan)]
    return Calibration(float(np.quantile(kept, LOOP_SHARE)), float(np.median(known)))


def radii(deviation: Array, calibration: Calibration | None, settings: PlaceSettings) -> Array:
    """The radius, (n,) mm, that holds 9 of 10 true places around landmarks of (n,) deviations.

    r² = annotation² + (`radius_in_loops` · loop)² · (1 + deviation / usual deviation): annotations
    of one point scatter too, and what misleads both ways of a loop alike is common to all
    landmarks. NaN where the study has no calibration.
    """
    if calibration is None:
        return np.full(len(deviation), np.nan)
    # At the border of a scan, where no window fits, a landmark is as unsure as usual, and more:
    # see `grown`.
    ratio = np.nan_to_num(deviation, nan=calibration.deviation_mm) / calibration.deviation_mm
    detection = settings.radius_in_loops * calibration.loop_mm * np.sqrt(1 + ratio)
    radius: Array = np.hypot(settings.annotation_mm, detection)
    return radius


def grown(radius: Array, found: Landmarks, scan: Extent, near_mm: float) -> Array:
    """Radii, (n,) mm, that grow near the border of a scan, where less tells a landmark's place.

    Args:
        radius: (n,) mm, of landmarks well inside.
        found: the landmarks, LPS mm.
        scan: what the scan shows.
        near_mm: how far from the border a landmark is as sure as any.
    """
    depth = scan.depth(found.positions)
    unseen = np.clip(1 - depth / near_mm, 0, 2) / 2
    beyond = np.clip(-depth, 0, None)
    return np.asarray(radius * (1 + UNSEEN_GROWTH * unseen) + BEYOND_GROWTH * beyond)


def beyond_border(
    depth: Array, cut_share: float, spacing_mm: float, near_mm: float
) -> NDArray[np.bool_]:
    """(n,) which landmarks a scan does not show, as far as can be told.

    A landmark outside is sometimes registered a little way inside. So one that is close to the
    border counts, too, where the border cuts the target.

    Args:
        depth: (n,) mm to the scan's border, below 0 beyond it.
        cut_share: of the target, what lies beyond the border.
        spacing_mm: of the scan; half a voxel beyond is rounding.
        near_mm: how deep a landmark is well inside.
    """
    least = CLOSE_SHARE * near_mm if cut_share > LEAST_CUT else -spacing_mm / 2
    return np.asarray(depth < least)


@dataclass(frozen=True)
class Evidence:
    """What tells a wrong answer from a right one in a scan.

    Attributes:
        median_similarity: of the landmarks' surroundings, in [-1, 1].
        median_deviation_mm: of the places; None where no landmark has one.
        scaling: how many times as far apart as the template's the landmarks lie; 1 for one alone.
        beyond: landmarks that lie beyond the border of the scan, or as close to it.
        most_unlike: the landmark whose surroundings are the least similar.
        lowest_similarity: of these surroundings.
    """

    median_similarity: float
    median_deviation_mm: float | None
    scaling: float
    beyond: tuple[str, ...] = ()
    most_unlike: str = ""
    lowest_similarity: float = 1.0

    @staticmethod
    def of(
        annotated: Landmarks,
        found: Landmarks,
        similarity: Array,
        deviation: Array,
        beyond: NDArray[np.bool_],
    ) -> "Evidence":
        """Sum up what is known of landmarks in LPS mm.

        Args:
            annotated: the template's.
            found: in the scan.
            similarity: (n,) in [-1, 1]; NaN where the scan shows a part of the surroundings alone.
            deviation: (n,) mm, NaN for none.
            beyond: (n,) which landmarks lie beyond the scan's border, as `beyond_border` tells.
        """
        known = deviation[np.isfinite(deviation)]
        size = _size(annotated)
        alike, seen = np.nan_to_num(similarity, nan=1.0), similarity[~np.isnan(similarity)]
        lowest = int(np.argmin(alike))
        return Evidence(
            float(np.median(seen)) if len(seen) else 1.0,
            float(np.median(known)) if len(known) else None,
            _size(found) / size if size > 0 else 1.0,
            tuple(label for label, out in zip(found.labels, beyond, strict=True) if out),
            found.labels[lowest],
            float(alike[lowest]),
        )


def doubts(
    evidence: Evidence, calibration: Calibration | None, settings: PlaceSettings
) -> list[str]:
    """What makes a scan's landmarks doubtful, one clause each."""
    reasons = []
    if evidence.beyond:
        reasons.append(
            "the target reaches the border of the scan: beyond it, or close to it, lie "
            f"{', '.join(evidence.beyond)}"
        )
    if not evidence.median_similarity >= settings.least_similarity:
        reasons.append(
            f"the landmarks' surroundings are alike to {evidence.median_similarity:.2f} in the "
            f"median, expected at least {settings.least_similarity:g}"
        )
    if not evidence.lowest_similarity >= settings.least_landmark_similarity:
        reasons.append(
            f"the surroundings of the landmark {evidence.most_unlike} are alike to "
            f"{evidence.lowest_similarity:.2f}, expected at least "
            f"{settings.least_landmark_similarity:g}"
        )
    if not 1 / settings.most_scaling <= evidence.scaling <= settings.most_scaling:
        reasons.append(
            f"the landmarks lie {evidence.scaling:.2f} times as far apart as the template's, "
            f"expected at most {settings.most_scaling:g} times more or less"
        )
    if calibration is None:
        reasons.append(
            "no scan of the study could be registered back, so nothing says how sure the "
            "landmarks are"
        )
    elif evidence.median_deviation_mm is None:
        reasons.append("every landmark lies at the border of the scan")
    else:
        unsure = evidence.median_deviation_mm / calibration.deviation_mm
        if unsure > settings.most_unsure:
            reasons.append(
                f"the landmarks' places are {unsure:.1f} times as unsure as usual in this study, "
                f"expected at most {settings.most_unsure:g} times"
            )
    return reasons


def _size(landmarks: Landmarks) -> float:
    """Root mean square distance from the centre, mm."""
    return float(np.linalg.norm(landmarks.positions.std(axis=0)))


def run(batch: Batch) -> None:
    """Place the landmarks of every scan; where there are none, say why at each."""
    settings = batch.settings(PlaceSettings)
    annotated = annotated_of(batch)
    template = read_written(batch.path("template_centred"))
    starts = {
        "centred": _centre_of(batch.path("template_centre_record")),
        "region": _centre_of(batch.path("template_locate_record")),
    }
    calibration = _calibration(read_json(batch.path("calibration"))["loops"])
    training = read_json(batch.path("training"))

    def compute(task: Task) -> Record:
        target = read_written(task.inputs["crop"])
        transforms = {name: read_transform(task.inputs[name]) for name in TRANSFORMS}
        aligned = read_record(task.inputs["align_record"]).details
        for name, record in CENTRES.items():
            goal = _centre_of(task.inputs[record])
            transforms[name] = shift(starts[name], goal, mirrored=aligned["mirrored"])
        final = read_complete_markups(task.inputs["refined"])
        located = read_record(task.inputs["locate_record"]).details
        scan = Extent(Grid.of_lists(located["grid"]))
        near = settings.similarity_radius_mm
        similarity = similarity_around(
            annotated, transforms["bspline"], final, template, target, radius_mm=near
        )
        similarity = np.where(scan.holds(final.positions, near), similarity, np.nan)
        deviation = _deviation(task.inputs["refine_record"])
        radius = grown(radii(deviation, calibration, settings), final, scan, near)
        notes = (f"{shown} side",) * len(final.labels) if (shown := aligned.get("side")) else ()
        write_markups(
            task.outputs["landmarks"], [PointList(FINAL, final, radius, notes)], scan=task.scan
        )
        steps = {name: place_landmarks(annotated, way) for name, way in transforms.items()}
        if "voted" in task.inputs:
            steps = {"voted": read_complete_markups(task.inputs["voted"]), **steps}
        lists = [PointList(name, points, None, notes) for name, points in steps.items()]
        write_steps(task.outputs["steps"], lists, scan=task.scan)
        depth, spacing = scan.depth(final.positions), float(scan.grid.spacing.max())
        cut_share = read_record(task.inputs["deform_record"]).details["cut_share"]
        beyond = beyond_border(depth, cut_share, spacing, near)
        evidence = Evidence.of(annotated, final, similarity, deviation, beyond)
        alike = [None if np.isnan(value) else round(float(value), 4) for value in similarity]
        details = {
            "side": aligned.get("side", ""),
            "mirrored": aligned["mirrored"],
            "image": located.get("image"),
            **asdict(evidence),
            "similarity": dict(zip(final.labels, alike, strict=True)),
            "devices": [training["device"], _device_of(task.inputs["centre_record"])],
        }
        reasons = doubts(evidence, calibration, settings)
        return Record.judged(task.scan, "place", reasons, details)

    def write_missing(task: Task, record: Record) -> None:
        nowhere = Landmarks(annotated.labels, np.full((len(annotated.labels), 3), np.nan))
        notes = (f"{record.stage} {record.status}: {record.reason}",) * len(annotated.labels)
        for role, names in (("landmarks", (FINAL,)), ("steps", STEPS)):
            lists = [PointList(name, nowhere, None, notes) for name in names]
            write_markups(task.outputs[role], lists, scan=task.scan)

    also = {"calibration": calibration and asdict(calibration)}
    batch.run(compute, also=also, nothing=write_missing)


def _calibration(loops: list[dict[str, Any]]) -> Calibration | None:
    """What the scans say that were registered back."""
    distances = [list(loop["loop_mm"].values()) for loop in loops]
    deviations = [np.array(loop["deviation_mm"], dtype=np.float64) for loop in loops]
    return calibrate(np.array(distances), np.concatenate([np.empty(0), *deviations]))


def _deviation(record: Path) -> Array:
    """(n,) mm, NaN where a landmark has none."""
    return np.array(read_record(record).details["deviation_mm"], dtype=np.float64)


def _centre_of(record: Path) -> Array:
    """The region's centre (Eq. 1), that of the crop chosen, or the last of Algorithm 2, LPS mm."""
    details = read_record(record).details
    return np.array(details["steps"][-1]["centre"] if "steps" in details else details["centre"])


def _device_of(record: Path) -> str:
    return str(read_record(record).details["device"])
