import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray
from phantoms import LANDMARKS, bone, sampled

from landmarkflow.__main__ import COMMANDS, main
from landmarkflow.core.grids import Grid
from landmarkflow.core.points import Landmarks, PointList
from landmarkflow.core.records import Record, read_record, write_nothing, write_record
from landmarkflow.formats.landmarks import read_landmarks
from landmarkflow.formats.slicer import read_point_lists, write_markups
from landmarkflow.formats.volumes import read_volume, write_volume
from landmarkflow.images.operations import array_of, grid_of
from landmarkflow.images.sampling import resample
from landmarkflow.methods.oneshot.settings import (
    AlignSettings,
    LocateSettings,
    NormaliseSettings,
    PlaceSettings,
)

Points = NDArray[np.float64]

GRID = Grid.centred((-40.0, 25.0, 60.0), (44, 40, 36), 0.6)
CENTRE = GRID.centre
NORMALISE = NormaliseSettings().model_dump_json()
LOCATE = LocateSettings(field_mm=16.0).model_dump_json()
POINTS = Landmarks(LANDMARKS.labels, LANDMARKS.positions + CENTRE)


@dataclass
class Outcome:
    status: int
    stderr: str
    log: str


Run = Callable[..., Outcome]


@pytest.fixture
def command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """Runs a command as its rule does; what it logs is cleared away for the next."""
    logger = logging.getLogger("landmarkflow")

    def clear() -> None:
        for handler in list(logger.handlers):
            handler.close()
            logger.removeHandler(handler)

    def run(*arguments: object) -> Outcome:
        clear()
        log = tmp_path / "logs/command.log"
        status = main(["--log", str(log), *map(str, arguments)])
        return Outcome(status, capsys.readouterr().err, log.read_text(encoding="utf-8"))

    yield run
    clear()


def assert_refused(outcome: Outcome, *said: object) -> None:
    """One sentence on stderr, and the same in the log."""
    assert outcome.status == 1
    assert len(outcome.stderr.splitlines()) == 1
    for part in said:
        assert str(part) in outcome.stderr
    assert "Traceback" not in outcome.stderr
    assert outcome.stderr.strip() in outcome.log


def hounsfield(points: Points) -> Points:
    return bone(points - CENTRE) * 4024 - 1024


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    path = tmp_path / "data/ear.nii.gz"
    random = np.random.default_rng(0)
    noisy = sampled(GRID, lambda p: hounsfield(p) + random.normal(0, 20, len(p)))
    write_volume(sitk.Cast(noisy, sitk.sitkInt16), path)
    return path


@pytest.fixture
def broken(scan: Path) -> Path:
    path = scan.with_name("broken.nii.gz")
    path.write_bytes(scan.read_bytes()[:5000])
    return path


def locate(command: Run, image: Path, folder: Path, *more: str) -> Outcome:
    return command(
        "locate_regions", "--settings", LOCATE, "--intensities", NORMALISE, "--scans", "a",
        "--store", folder / "store", "--image", image, "--region", folder / "foi.nii.gz",
        "--record", folder / "foi.json", *more,
    )  # fmt: skip


# locate_regions


def test_a_scan_is_normalised_and_located(command: Run, scan: Path, tmp_path: Path) -> None:
    done = locate(command, scan, tmp_path)
    assert done.status == 0
    record = read_record(tmp_path / "foi.json")
    assert (record.stage, record.status) == ("locate", "ok")
    assert set(record.details) == {"grid", "centre", "candidates", "mixture"}
    assert record.details["grid"] == grid_of(read_volume(scan)).as_lists()
    heaviest = record.details["candidates"][0]
    assert np.linalg.norm(heaviest["centre"] - CENTRE) < 1.5
    assert heaviest["mass_mm3"] > 50
    found = read_volume(tmp_path / "foi.nii.gz")
    region = grid_of(found)
    np.testing.assert_allclose(region.spacing, [0.25] * 3)
    assert region.contains(POINTS.positions).all()
    expected = (array_of(resample(read_volume(scan), region)) + 1024) / 4024
    inner = (slice(2, -2),) * 3
    np.testing.assert_allclose(array_of(found)[inner], expected[inner].clip(0, 1), atol=1e-3)


def test_an_unreadable_scan_that_is_needed_is_refused_in_one_sentence(
    command: Run, broken: Path, tmp_path: Path
) -> None:
    assert_refused(locate(command, broken, tmp_path, "--required"), broken)
    assert not (tmp_path / "foi.nii.gz").exists()
    assert not (tmp_path / "foi.json").exists()


def test_another_unreadable_scan_is_set_aside_with_the_reason(
    command: Run, broken: Path, tmp_path: Path
) -> None:
    done = locate(command, broken, tmp_path)
    assert done.status == 0
    assert f"a: refused: {broken}: " in done.stderr
    record = read_record(tmp_path / "foi.json")
    assert (record.scan, record.stage, record.status) == ("a", "locate", "refused")
    assert str(broken) in str(record.reason)
    assert (tmp_path / "foi.nii.gz").stat().st_size == 0


def test_a_scan_without_dense_bone_fails_and_the_study_goes_on(
    command: Run, tmp_path: Path
) -> None:
    random = np.random.default_rng(0)
    soft = sampled(GRID, lambda p: 40.0 + random.normal(0, 20, len(p)))
    write_volume(soft, tmp_path / "soft.nii.gz")
    assert locate(command, tmp_path / "soft.nii.gz", tmp_path).status == 0
    record = read_record(tmp_path / "foi.json")
    assert (record.stage, record.status) == ("locate", "failed")
    assert "dense" in str(record.reason)
    assert (tmp_path / "foi.nii.gz").stat().st_size == 0


def test_wrong_settings_are_refused(command: Run, scan: Path, tmp_path: Path) -> None:
    done = locate(command, scan, tmp_path, "--intensities", '{"low": 5, "high": 1}')
    assert_refused(done, "--settings", "low (5) must be below high (1)")
    assert_refused(locate(command, scan, tmp_path, "--intensities", '{"lo": 5}'), "--settings")
    assert_refused(locate(command, scan, tmp_path, "--settings", "{"), "--settings")


def test_a_defect_has_a_status_of_its_own(command: Run, scan: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = locate(command, scan, tmp_path / "file")
    assert done.status == 2
    assert "Traceback" in done.log


def test_a_command_that_is_not_known_or_not_whole_is_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for arguments in (["locate_region"], ["--log", "a.log"], ["locate_regions", "--scans", "a"]):
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        assert stop.value.code == 2
    assert "--image" in capsys.readouterr().err


def test_each_command_describes_its_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    light = [name for name in COMMANDS if name not in ("deform_scans", "train_network")]
    assert len(light) > 8
    for name in light:
        with pytest.raises(SystemExit) as stop:
            main([name, "--help"])
        assert stop.value.code == 0
        assert f"{name} [-h]" in capsys.readouterr().out


# check_references


@pytest.fixture
def annotated(tmp_path: Path) -> Path:
    path = tmp_path / "template.mrk.json"
    write_markups(path, [PointList("reference", LANDMARKS, None)])
    return path


def check(
    command: Run,
    scan: Path,
    annotated: Path,
    *more: str,
    landmarks: Path | str = "none",
    frame: str = "none",
) -> Outcome:
    files = "--image", scan, "--template-landmarks", annotated
    given = "--landmarks", landmarks, "--frames", frame
    outputs = "--reference", scan.parent / "ref.mrk.json", "--record", scan.parent / "ref.json"
    return command("check_references", "--scans", "a", *files, *given, *outputs, *more)


def test_a_reference_comes_in_lps_and_in_the_templates_order(
    command: Run, scan: Path, annotated: Path
) -> None:
    rows = [
        f"{label},{-x},{-y},{z}"
        for label, (x, y, z) in zip(POINTS.labels, POINTS.positions, strict=True)
    ]
    landmarks = scan.with_name("a.csv")
    landmarks.write_text("\n".join(["label,x,y,z", *reversed(rows)]))
    done = check(command, scan, annotated, "--required", landmarks=landmarks)
    assert_refused(done, landmarks, "frame")
    assert check(command, scan, annotated, landmarks=landmarks, frame="RAS").status == 0
    found = read_landmarks(scan.parent / "ref.mrk.json")
    assert found.labels == POINTS.labels
    np.testing.assert_allclose(found.positions, POINTS.positions, atol=1e-4)
    assert read_record(scan.parent / "ref.json") == Record("a", "reference")


def test_a_reference_outside_its_scan_is_refused_or_set_aside(
    command: Run, scan: Path, annotated: Path
) -> None:
    landmarks = scan.with_name("a.mrk.json")
    write_markups(landmarks, [PointList("reference", LANDMARKS, None)])
    done = check(command, scan, annotated, "--required", landmarks=landmarks)
    assert_refused(done, landmarks, "4 of 4", "outside")
    assert not (scan.parent / "ref.json").exists()
    done = check(command, scan, annotated, landmarks=landmarks)
    assert done.status == 0
    assert f"a: refused: {landmarks}: " in done.stderr
    record = read_record(scan.parent / "ref.json")
    assert (record.stage, record.status) == ("reference", "refused")
    assert str(landmarks) in str(record.reason)
    assert (scan.parent / "ref.mrk.json").stat().st_size == 0


def test_a_scan_without_a_reference_has_none(command: Run, scan: Path, annotated: Path) -> None:
    assert check(command, scan, annotated).status == 0
    assert read_record(scan.parent / "ref.json") == Record("a", "reference")
    assert (scan.parent / "ref.mrk.json").stat().st_size == 0


def test_a_template_with_an_undefined_landmark_is_refused(
    command: Run, scan: Path, annotated: Path
) -> None:
    positions = LANDMARKS.positions.copy()
    positions[1] = np.nan
    write_markups(annotated, [PointList("a", Landmarks(LANDMARKS.labels, positions), None)])
    assert_refused(check(command, scan, annotated), annotated, '"knob" has no position')


# derive_segmentation


def derive(command: Run, scan: Path, landmarks: Landmarks, above: float) -> Outcome:
    points = scan.with_name("points.mrk.json")
    write_markups(points, [PointList("reference", landmarks, None)])
    return command(
        "derive_segmentation", "--above", above, "--margin-mm", 2, "--image", scan,
        "--landmarks", points, "--segmentation", scan.with_name("seg.nii.gz"),
    )  # fmt: skip


def test_a_segmentation_is_derived(command: Run, scan: Path) -> None:
    assert derive(command, scan, POINTS, 1200).status == 0
    mask = read_volume(scan.with_name("seg.nii.gz"))
    assert mask.GetPixelID() == sitk.sitkUInt8
    bright = array_of(read_volume(scan)) > 1200
    marked = array_of(mask) > 0
    assert not (marked & ~bright).any()
    assert marked.sum() > 100


def test_a_segmentation_that_cannot_be_derived_is_refused(command: Run, scan: Path) -> None:
    assert_refused(derive(command, scan, POINTS, 5000), "no voxel above 5000")
    assert_refused(derive(command, scan, POINTS.select(["tip", "knob", "bump"]), 0), "no volume")
    assert not scan.with_name("seg.nii.gz").exists()


# check_scans


def scans_checked(command: Run, folder: Path, bad_scans: str) -> Outcome:
    write_record(folder / "good.json", Record("good", "locate"))
    write_record(folder / "lost.json", Record("lost", "locate", "failed", "no dense bone"))
    write_record(folder / "bad.json", Record("bad", "reference", "refused", "bad.csv: is empty"))
    return command(
        "check_scans", "--bad-scans", bad_scans, "--checked", folder / "checked.txt", "--records",
        *(folder / f"{name}.json" for name in ("good", "lost", "bad")),
    )  # fmt: skip


def test_a_refused_scan_ends_the_run_in_an_error(command: Run, tmp_path: Path) -> None:
    done = scans_checked(command, tmp_path, "refuse")
    assert done.status == 1
    reason, sentence = done.stderr.splitlines()
    assert reason == "bad.csv: is empty"
    assert sentence.startswith("1 of 3 scans refused (bad) and all else done")
    assert not (tmp_path / "checked.txt").exists()


def test_a_refused_scan_that_may_be_set_aside_is_only_told(command: Run, tmp_path: Path) -> None:
    done = scans_checked(command, tmp_path, "set_aside")
    assert (done.status, done.stderr) == (0, "bad.csv: is empty\n")
    assert (tmp_path / "checked.txt").read_text() == "1 of 3 scans refused\n"


# Batches: place_landmarks and align_scans

FILES = {
    "region_record": "region.json",
    "centred": "centred.nii.gz",
    "centred_record": "centred.json",
    "rigid_record": "rigid.json",
    "bspline": "bspline.tfm",
    "rigid": "rigid.tfm",
    "moments": "moments.tfm",
    "refined": "refined.mrk.json",
    "refined_record": "refined.json",
    "landmarks": "landmarks.mrk.json",
    "record": "landmarks.json",
}
REASON = "no such file, expected a scan"
# How far each step before the last is off along x, mm.
MISSES = {"bspline": 0.2, "rigid": 0.5, "moments": 0.9, "centred": 2.0, "region": 5.0}


def missed(place: NDArray[np.float64], step: str) -> list[float]:
    return [float(place[0]) + MISSES[step], *place[1:].tolist()]


def centre_records(folder: Path, centre: NDArray[np.float64]) -> None:
    """Where the region's centre and the network's were found: both miss the true one."""
    off = {name: missed(centre, name) for name in ("centred", "region")}
    steps = [{"centre": [0.0, 0.0, 0.0]}, {"centre": off["centred"]}]
    write_record(folder / "centred.json", Record("good", "centre", details={"steps": steps}))
    region = {"centre": off["region"], "grid": GRID.as_lists()}
    write_record(folder / "region.json", Record("good", "locate", details=region))


@pytest.fixture
def stages(tmp_path: Path, annotated: Path) -> Path:
    """What earlier stages left of a scan that is the template, moved, and of a refused one."""
    grid = Grid.centred((0.0, 0.0, 0.0), (44, 40, 36), 0.5)
    write_volume(sampled(grid, bone), tmp_path / "template.nii.gz")
    good, bad = tmp_path / "good", tmp_path / "bad"
    write_volume(sampled(GRID, lambda p: bone(p - CENTRE)), good / "centred.nii.gz")
    for name in ("bspline", "rigid", "moments"):
        shift = sitk.TranslationTransform(3, missed(CENTRE, name))
        sitk.WriteTransform(shift, str(good / f"{name}.tfm"))
    write_record(
        tmp_path / "region.json", Record("template", "locate", details={"centre": [0.0, 0.0, 0.0]})
    )
    steps = {"steps": [{"centre": [0.0, 0.0, 0.0]}]}
    write_record(tmp_path / "centred.json", Record("template", "centre", details=steps))
    centre_records(good, CENTRE)
    write_record(good / "rigid.json", Record("good", "align", details={"mirrored": False}))
    write_markups(good / "refined.mrk.json", [PointList("refined", POINTS, None)])
    deviation = {"deviation_mm": [0.1, 0.1, 0.4, None]}
    write_record(good / "refined.json", Record("good", "refine", details=deviation))
    loop = {"loop_mm": dict.fromkeys(POINTS.labels, 0.2)}
    write_record(good / "loop.json", Record("good", "loop", details=loop))
    for name in ("centred.nii.gz", "rigid.tfm", "moments.tfm", "bspline.tfm", "refined.mrk.json"):
        write_nothing(bad / name)
    for name in ("region", "centred", "rigid", "refined", "loop"):
        write_record(bad / f"{name}.json", Record("bad", "locate", "refused", REASON))
    return tmp_path


def place(
    command: Run,
    folder: Path,
    *more: object,
    scans: tuple[str, ...] = ("good", "bad"),
    looped: tuple[str, ...] = ("good", "bad"),
) -> Outcome:
    files = [
        part
        for role, name in FILES.items()
        for part in (f"--{role}", *(folder / scan / name for scan in scans))
    ]
    return command(
        "place_landmarks", "--settings", PlaceSettings().model_dump_json(),
        "--template-landmarks", folder / "template.mrk.json",
        "--template-centred", folder / "template.nii.gz",
        "--template-centred-record", folder / "centred.json",
        "--template-region-record", folder / "region.json",
        "--loops", *(folder / scan / "loop.json" for scan in looped),
        "--loops-refined", *(folder / scan / "refined.json" for scan in looped),
        "--scans", *scans, "--store", folder / "store", *files, *more,
    )  # fmt: skip


def test_landmarks_are_placed_step_by_step_and_missing_ones_say_why(
    command: Run, stages: Path
) -> None:
    assert place(command, stages).status == 0
    final, *earlier = read_point_lists(stages / "good/landmarks.mrk.json")
    assert final.name == "final"
    np.testing.assert_allclose(final.landmarks.positions, POINTS.positions, atol=1e-4)
    assert [points.name for points in earlier] == list(MISSES)
    for points in earlier:
        off = points.landmarks.positions - POINTS.positions
        np.testing.assert_allclose(off, [[MISSES[points.name], 0.0, 0.0]] * 4, atol=2e-4)
        assert points.radius_mm is None
    assert final.radius_mm is not None
    sure, _, unsure, unknown = final.radius_mm
    assert 0.2 < sure < unsure
    assert math.isnan(unknown)
    good = read_record(stages / "good/landmarks.json")
    assert good == Record("good", "landmarks", details=good.details)
    assert good.details["median_similarity"] > 0.9
    assert good.details["scaling"] == pytest.approx(1)

    for points in read_point_lists(stages / "bad/landmarks.mrk.json"):
        assert points.landmarks.labels == LANDMARKS.labels
        assert points.landmarks.missing.all()
        assert points.notes == (f"locate refused: {REASON}",) * 4
        assert points.radius_mm is None
    record = read_record(stages / "bad/landmarks.json")
    assert record == Record("bad", "locate", "refused", REASON)


def test_a_mirrored_scan_is_mirrored_from_the_first_step(command: Run, stages: Path) -> None:
    write_record(stages / "good/rigid.json", Record("good", "align", details={"mirrored": True}))
    assert place(command, stages).status == 0
    lists = {p.name: p for p in read_point_lists(stages / "good/landmarks.mrk.json")}
    mirrored = LANDMARKS.positions * [-1.0, 1.0, 1.0] + CENTRE
    for name in ("centred", "region"):
        off = lists[name].landmarks.positions - mirrored
        np.testing.assert_allclose(off, [[MISSES[name], 0.0, 0.0]] * 4, atol=2e-4)


def test_a_study_whose_loops_all_failed_is_doubtful_and_has_no_radii(
    command: Run, stages: Path
) -> None:
    assert place(command, stages, looped=("bad",)).status == 0
    record = read_record(stages / "good/landmarks.json")
    assert record.status == "doubtful"
    assert "no scan of the study could be registered back" in str(record.reason)
    final = read_point_lists(stages / "good/landmarks.mrk.json")[0]
    assert final.radius_mm is None
    assert not final.landmarks.missing.any()


def test_an_answer_in_a_scan_of_something_else_is_doubtful(command: Run, stages: Path) -> None:
    noise = np.random.default_rng(0)
    scan = sampled(GRID, lambda p: noise.uniform(size=len(p)))
    write_volume(scan, stages / "good/centred.nii.gz")
    assert place(command, stages).status == 0
    record = read_record(stages / "good/landmarks.json")
    assert record.status == "doubtful"
    assert "expected at least 0.8" in str(record.reason)


def test_a_batch_computes_what_changed_and_links_the_rest(command: Run, stages: Path) -> None:
    assert "1/2 good: computed" in place(command, stages).stderr
    outputs = [
        stages / scan / name
        for scan in ("good", "bad")
        for name in ("landmarks.mrk.json", "landmarks.json")
    ]
    before = [path.read_bytes() for path in outputs]
    for path in outputs:
        path.unlink()
    again = place(command, stages)
    assert "1/2 good: known" in again.stderr
    assert "2/2 bad: known" in again.stderr
    assert [path.read_bytes() for path in outputs] == before

    write_record(stages / "bad/refined.json", Record("bad", "align", "failed", "unlike"))
    partly = place(command, stages)
    assert "1/2 good: known" in partly.stderr
    assert "2/2 bad: computed" in partly.stderr
    notes = read_point_lists(stages / "bad/landmarks.mrk.json")[0].notes
    assert notes[0] == "align failed: unlike"

    other = PlaceSettings(similarity_radius_mm=1.0).model_dump_json()
    assert "1/2 good: computed" in place(command, stages, "--settings", other).stderr


@pytest.mark.parametrize("role", FILES)
def test_lists_of_unequal_length_are_refused(command: Run, stages: Path, role: str) -> None:
    done = place(command, stages, f"--{role}", stages / "one.file")
    assert_refused(done, f"--{role}: found 1 values, expected one for each of the 2 scans")
    assert not (stages / "good/landmarks.json").exists()


def test_an_earlier_record_that_is_none_stops_the_batch(command: Run, stages: Path) -> None:
    (stages / "bad/refined.json").write_text("{}")
    stopped = place(command, stages, looped=("good",))
    assert stopped.status == 1
    assert str(stages / "bad/refined.json") in stopped.stderr
    # What was done before is known to the next run.
    write_record(stages / "bad/refined.json", Record("bad", "align", "failed", "unlike"))
    assert "1/2 good: known" in place(command, stages, looped=("good",)).stderr


def align(command: Run, folder: Path, hands: tuple[str, ...]) -> Outcome:
    record, nothing = folder / "bad/refined.json", folder / "bad/centred.nii.gz"
    paths = {
        "template-image": folder / "template.nii.gz",
        "template-segmentation": folder / "template.nii.gz",
        "template-centred": folder / "template.nii.gz",
        "template-centred-record": record,
        "template-region-record": record,
    }
    files = [part for name, path in paths.items() for part in (f"--{name}", path)]
    return command(
        "align_scans", "--settings", AlignSettings().model_dump_json(), *files,
        "--scans", "a", "b", "--hands", *hands, "--store", folder / "store",
        "--centred", nothing, nothing, "--centred_record", record, record,
        "--region_record", record, record, "--rigid", folder / "a.tfm", folder / "b.tfm",
        "--moments", folder / "a.m.tfm", folder / "b.m.tfm",
        "--record", folder / "a.json", folder / "b.json",
    )  # fmt: skip


def test_each_scan_has_its_hand(command: Run, stages: Path) -> None:
    assert_refused(
        align(command, stages, ("same",)), "--hands: found 1 values", "each of the 2 scans"
    )
    assert align(command, stages, ("same", "other")).status == 0
    assert read_record(stages / "b.json") == Record("b", "locate", "refused", REASON)
    # The side of one scan is not the other's business.
    changed = align(command, stages, ("same", "unknown"))
    assert "1/2 a: known" in changed.stderr
    assert "2/2 b: computed" in changed.stderr
