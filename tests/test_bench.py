"""What the bench reads out of a run; the bench itself takes twenty minutes."""

import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray
from phantoms import sampled
from scipy.spatial.transform import Rotation
from stage_runs import command_of, run_command

from landmarkflow.core.grids import Grid
from landmarkflow.core.records import Record, write_record
from landmarkflow.evaluation.stages import CHECK
from landmarkflow.report.page import write_report
from landmarkflow.report.settings import ReportSettings

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    for name in ("bench", "pose", "report", "suggested"):
        monkeypatch.delitem(sys.modules, name, raising=False)


def test_costs_are_read_from_the_logs_of_jobs(tmp_path: Path) -> None:
    import bench  # noqa: PLC0415

    for folder in ("work/references", "mine/landmarks"):
        write_record(tmp_path / folder / "a.json", Record("a", "locate"))
    settings = {"bad_scans": "refuse"}
    for batch in ("001", "002"):
        command = command_of(
            CHECK, tmp_path, ["a"], settings=settings, sheet={"a": {"side": ""}}, of="mine"
        )
        done = run_command(tmp_path / f"work/logs/check/{batch}.log", command)
        assert done.status == 0, done.stderr
    (row,) = bench.stage_costs(tmp_path, scans=2)
    assert row["stage"] == "check"
    assert row["cpu_s_per_scan"] > 0.1
    assert row["peak_mb"] > 20


def test_a_scan_that_went_astray_is_counted_and_not_averaged() -> None:
    import bench  # noqa: PLC0415

    row = bench.summary("plain", [[0.1, 0.3], [0.2, 0.2], [6.0, 7.0]], 12.34, 100)
    assert (row["scans"], row["failed"], row["mean_mm"]) == (3, 1, 0.2)
    assert row["cpu_s_per_scan"] == 12.3


def test_the_machines_pace_is_noted_beside_what_is_measured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import bench  # noqa: PLC0415

    monkeypatch.setattr(bench, "PACE_EVERY_S", 0.05)
    with bench.paced() as paces:
        spent, _ = bench.measured([sys.executable, "-c", "sum(range(20_000_000))"])
    assert len(paces) > 1
    assert min(paces) > 0.05
    assert spent > 0.1
    assert bench.pace_of([0.1, 0.2]) == 0.15


def head(points: NDArray[np.float64]) -> NDArray[np.float32]:
    """A long body, a limb and a knob, of which no two sides are alike."""
    parts = (([0, 0, 0], [5, 3.2, 10]), ([6, 0, 6], [5, 2.4, 2]), ([0, 4, -8], [2, 4, 2]))
    total = sum(np.exp(-((((points - c) / r) ** 2).sum(axis=1))) for c, r in parts)
    return (100 * total).astype(np.float32)


def test_a_turned_head_is_laid_on_the_template() -> None:
    import pose  # noqa: PLC0415

    grid = Grid.centred((0.0, 0.0, 0.0), (48, 48, 48), 1.0)
    turn = Rotation.from_euler("xyz", [100, -30, 160], degrees=True).as_matrix()
    shift = np.array([1.0, -0.5, 0.7])
    template = sampled(grid, head)
    scan = sampled(grid, lambda p: head((p - shift) @ turn))
    images = (sitk.Cast(image, sitk.sitkFloat32) for image in (template, scan))
    found = pose.laid_on(*images, above=25.0)
    points = np.array([[6.0, 2.0, 4.0], [-4.0, 8.0, 0.0], [0.0, -6.0, -8.0]])
    mapped = np.array([found.TransformPoint(p) for p in points.tolist()])
    np.testing.assert_allclose(mapped, points @ turn.T + shift, atol=0.3)


def test_the_report_of_more_scans_stays_small_and_is_seen_at_once(tmp_path: Path) -> None:
    import report  # noqa: PLC0415

    settings = ReportSettings(dpi=50)
    run = report.write_results(tmp_path, scans=30, landmarks=12, drawn=1, settings=settings)
    page = tmp_path / "report.html"
    write_report(page, {"study": "more scans"}, [run])
    # Of 200 scans the same share is 12 MB.
    assert page.stat().st_size < 30 / 200 * 12e6
    shown = report.open_page(page)
    if shown is None:
        pytest.skip("no Chromium, or no Playwright, is installed")
    assert shown.complaints == ()
    assert 0 < shown.painted_s < shown.seen_s < 10


def test_suggested_templates_are_fused_beside_drawn_ones(tmp_path: Path) -> None:
    import suggested  # noqa: PLC0415

    orders = {"suggested": ["a", "b"], **suggested.drawn(["c", "d", "e"], 2, 2)}
    assert orders["drawn1"] != orders["drawn2"]
    assert all(set(order) < {"c", "d", "e"} for order in list(orders.values())[1:])
    runs = suggested.with_templates({"study": "x"}, orders, [1, 2])["runs"]
    assert runs["a"] == {"method": "oneshot", "template": "a"}
    assert runs["suggested-2"] == {"method": "fuse", "of": ["oneshot", "a", "b"]}
    assert runs["drawn1-1"]["of"] == ["oneshot", orders["drawn1"][0]]
    means = {"oneshot": 0.4, "suggested-1": 0.2, "suggested-2": 0.1}
    means |= {"drawn1-1": 0.3, "drawn2-1": 0.1, "drawn1-2": 0.2, "drawn2-2": 0.2}
    lines = ["run,mean", *(f"{run},{mean}" for run, mean in means.items())]
    (tmp_path / "comparison.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    table = suggested.table_of(tmp_path, orders, [1, 2]).splitlines()
    assert table[2:] == [
        "| 0 | 0.400 | 0.400 | 0.400 | 0.400 |",
        "| 1 | 0.200 | 0.200 | 0.300 | 0.100 |",
        "| 2 | 0.100 | 0.200 | 0.200 | 0.200 |",
    ]
