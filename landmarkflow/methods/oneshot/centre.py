"""Centre the target by iterated three-view localisation (Algorithm 2)."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass

import numpy as np
import SimpleITK as sitk
import torch
from numpy.typing import NDArray

from landmarkflow.core.errors import ScanFailure
from landmarkflow.core.records import Record, read_record
from landmarkflow.engine.batch import Batch
from landmarkflow.engine.store import Task
from landmarkflow.formats.written import read_written, write_volume
from landmarkflow.images.operations import array_of, grid_of, shrunk
from landmarkflow.images.sampling import resample
from landmarkflow.learning.device import best_device, device_name
from landmarkflow.methods.oneshot.crops import crop_around
from landmarkflow.methods.oneshot.localiser import Localiser, places_in, predict_joint
from landmarkflow.methods.oneshot.network import folded, load_network
from landmarkflow.methods.oneshot.settings import CentreSettings, TrainSettings

# A candidate around which the network marks this share of what it marks around the best is a rival:
# registration tells which of them is the target.
RIVAL_SHARE = 0.3
# Two places closer than this share of the network's window are of one target.
APART_IN_WINDOWS = 0.25


@dataclass(frozen=True)
class Step:
    """One iteration: the mass centre (LPS mm) and how far it moved (mm)."""

    centre: tuple[float, float, float]
    move_mm: float


@dataclass(frozen=True)
class Found:
    """Where iteration from one candidate ended: joint probability, iterations, its mass."""

    joint: sitk.Image
    steps: tuple[Step, ...]
    converged: bool

    @property
    def position(self) -> NDArray[np.float64]:
        """The last mass centre, (3,) LPS mm."""
        return np.array(self.steps[-1].centre)


@dataclass(frozen=True)
class Centred:
    """What `centre` finds in one scan; `rivals` are other places that may hold the target."""

    crop: sitk.Image
    probability: sitk.Image
    steps: tuple[Step, ...]
    converged: bool
    candidate: int
    candidate_mass_mm3: tuple[float, ...]
    mass_mm3: float
    rivals: tuple[tuple[float, float, float], ...]


def centre(
    region: sitk.Image,
    candidates: NDArray[np.float64],
    localiser: Localiser,
    settings: CentreSettings,
) -> Centred:
    """Choose the candidate that holds the target and iterate the window onto its mass centre.

    Args:
        region: normalised crop on the LPS-aligned working grid.
        candidates: (n, 3) possible centres, LPS mm; with none the network looks for them in the
            whole region.
        localiser: the trained network.
        settings: slices of the first iteration, tolerance ε, greatest number of iterations, size
            of the final crop.

    Returns:
        The crop around the target (air outside the region), the joint probability in the last
        window, every iteration's centre and move, and the rivals' centres, LPS mm.

    Raises:
        ScanFailure: the network marks less than `least_mass` of the target's volume around every
            candidate.
    """
    seen = shrunk(region, localiser.settings.spacing_mm)
    if not len(candidates):
        candidates = places_in(seen, localiser)
    if not len(candidates):
        raise ScanFailure("the network marks nothing in the whole scan, expected the target")
    found = [
        (candidate, predict_joint(seen, candidate, localiser, settings.first_every))
        for candidate in candidates.astype(np.float64)
    ]
    masses = tuple(_mass(joint) for _, joint in found)
    order = sorted(range(len(found)), key=lambda number: -masses[number])
    chosen = order[0]
    best = _iterated(seen, found[chosen], localiser, settings, len(candidates))
    kept = [best]
    for number in order[1:]:
        if masses[number] < RIVAL_SHARE * masses[chosen]:
            break
        if _is_apart(mass_centre(found[number][1], seen), kept, localiser):
            with suppress(ScanFailure):
                rival = _iterated(seen, found[number], localiser, settings, 1)
                kept += [rival] if _is_apart(rival.position, kept, localiser) else []
    return Centred(
        crop=crop_around(region, best.position, settings.field_mm),
        probability=best.joint,
        steps=best.steps,
        converged=best.converged,
        candidate=chosen,
        candidate_mass_mm3=masses,
        mass_mm3=_mass(best.joint),
        rivals=tuple(_triple(rival.position) for rival in kept[1:]),
    )


def _iterated(
    seen: sitk.Image,
    start: tuple[NDArray[np.float64], sitk.Image],
    localiser: Localiser,
    settings: CentreSettings,
    count: int,
) -> Found:
    """Iterate the window from one of `count` candidates onto the mass centre."""
    position, joint = start
    steps, every, converged = list[Step](), settings.first_every, False
    while not converged and len(steps) < settings.iterations:
        if _mass(joint) < settings.least_mass * localiser.target_mm3:
            raise ScanFailure(
                f"the network marks {_mass(joint):.2f} mm³ of target around the best of "
                f"{count} candidate regions; expected at least "
                f"{settings.least_mass:g} of the template's {localiser.target_mm3:.1f} mm³"
            )
        moved = mass_centre(joint, seen)
        steps.append(Step(_triple(moved), float(np.linalg.norm(moved - position))))
        converged = every == 1 and steps[-1].move_mm < settings.tolerance_mm
        position, every = moved, 1
        if not converged:
            joint = predict_joint(seen, position, localiser)
    return Found(joint, tuple(steps), converged)


def _is_apart(place: NDArray[np.float64], kept: Sequence[Found], localiser: Localiser) -> bool:
    """Whether a place is another target's than those kept."""
    apart = APART_IN_WINDOWS * localiser.settings.window_mm
    return all(np.linalg.norm(place - other.position) > apart for other in kept)


def mass_centre(joint: sitk.Image, seen: sitk.Image) -> NDArray[np.float64]:
    """Centre Σ p·ρ·x / Σ p·ρ (Eq. 1) of a probability map over the region's intensities, LPS mm.

    Raises:
        ScanFailure: the weights p·ρ are all zero.
    """
    grid = grid_of(joint)
    weight = array_of(joint).astype(np.float64) * array_of(resample(seen, grid))
    if weight.sum() <= 0:
        raise ScanFailure("the network marks only air, whose mass centre is nowhere")
    axes = [weight.sum(axis=tuple(a for a in range(3) if a != 2 - k)) for k in range(3)]
    index = [float(profile @ np.arange(len(profile)) / weight.sum()) for profile in axes]
    centre: NDArray[np.float64] = grid.to_physical(np.array([index]))[0]
    return centre


def _mass(joint: sitk.Image) -> float:
    """Volume of the target that a probability map stands for, mm³."""
    return float(array_of(joint).sum(dtype=np.float64) * np.prod(joint.GetSpacing()))


def _triple(point: NDArray[np.float64]) -> tuple[float, float, float]:
    return float(point[0]), float(point[1]), float(point[2])


def run(batch: Batch) -> None:
    """Centre every scan of the batch with one loading of the network."""
    torch.set_num_threads(batch.threads)
    settings = batch.settings(CentreSettings)
    network_settings = batch.settings(TrainSettings, "train").network
    device = best_device()
    network, target_mm3 = load_network(batch.path("weights"), network_settings)
    localiser = Localiser(folded(network).to(device), network_settings, device, target_mm3)

    def compute(task: Task) -> Record:
        candidates = read_record(task.inputs["locate_record"]).details["candidates"]
        centres = np.array([candidate["centre"] for candidate in candidates]).reshape(-1, 3)
        found = centre(read_written(task.inputs["region"]), centres, localiser, settings)
        write_volume(found.crop, task.outputs["centred"])
        write_volume(found.probability, task.outputs["probability"])
        details = {
            "converged": found.converged,
            "steps": [asdict(step) for step in found.steps],
            "candidate": found.candidate,
            "candidate_mass_mm3": found.candidate_mass_mm3,
            "mass_mm3": found.mass_mm3,
            "rivals": found.rivals,
            "device": device_name(device),
        }
        said = (
            f"not converged after {len(found.steps)} iterations; the last moved the centre by "
            f"{found.steps[-1].move_mm:.2f} mm"
        )
        return Record.judged(task.scan, "centre", [] if found.converged else [said], details)

    batch.run(compute, also={"threads": batch.threads, "device": device.type})
