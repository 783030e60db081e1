"""What a study is about: its configuration, where its scans come from, and its templates.

Refusals whose whole sentences stand in test_bad_inputs.py are not repeated here.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from landmarkflow.core.errors import InputError
from landmarkflow.registry import METHODS
from landmarkflow.study.config import StudyConfig, Template, load_config
from landmarkflow.study.sheet import Scan, read_sheet, write_sheet
from landmarkflow.study.sources import cohort_number, origin_file, source_of
from landmarkflow.study.study import Study
from landmarkflow.workflow.configured import study_of

MODELS = {name: method.settings for name, method in METHODS.items()}
ORIGIN_FILE = {"path": "a.nii.gz", "sha256": "0" * 64}
ORIGIN_SCAN = {"image": ORIGIN_FILE, "landmarks": ORIGIN_FILE}


def refused(call: Callable[[], Any]) -> str:
    """Returns the message of a refusal: one sentence on one line."""
    with pytest.raises(InputError) as error:
        call()
    message = str(error.value)
    assert "\n" not in message
    assert "pydantic" not in message
    return message


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


# Configuration


def config(**more: Any) -> dict[str, Any]:
    return {"study": "mine", "data": {"cohort": {"scans": 3}}} | more


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (config(oneshot={"locate": {"spacing": 1}}), "`oneshot.locate.spacing` is not a known key"),
        ({"data": {}}, "`study` is missing"),
        (config(data={"sheet": {}}), "`data.sheet.sheet` is missing"),
        (config(seed=-1), "`seed` is -1: input should be greater than or equal to 0"),
        (config(bad_scans="skip"), "`bad_scans` is 'skip': input should be 'refuse' or"),
        (config(unit="cm"), "`unit` is 'cm': input should be 'mm', 'px' or '%'"),
        (config(runs={}), "`runs` is {}: dictionary should have at least 1 item"),
        (config(runs={"a b": {"method": "oneshot"}}), "`runs.a b.[key]` is 'a b'"),
        (config(runs={"a": {}}), "`runs.a.method` is missing"),
        (config(runs={"a": {"method": "oneshot", "presets": 1}}), "`runs.a.presets` is not a"),
        (config(fuse={"farthest_mm": 1}), "`fuse.farthest_mm` is not a known key"),
        (config(data={"cohort": {"trainings": 1}}), "`data.cohort.trainings` is not a known key"),
        (config(evaluate={"radius": 1}), "`evaluate.radius` is not a known key"),
        (config(report={"dpis": 1}), "`report.dpis` is not a known key"),
        (config(oneshot={"normalise": {"low": 5, "high": 5}}), "low (5) must be below high (5)"),
        (
            config(oneshot={"train": {"network": {"window_pixels": 50}}}),
            "window_pixels (50) must be a multiple of 4",
        ),
        (
            config(oneshot={"locate": {"dense": {"mean": float("nan"), "sd": 1}}}),
            "`oneshot.locate.dense.mean` is nan",
        ),
        ([], "the whole"),
        (None, "the whole"),
    ],
)
def test_a_wrong_configuration_is_refused_with_its_key(raw: Any, said: str) -> None:
    message = refused(lambda: load_config(raw, MODELS))
    assert message.startswith("config: ")
    assert said in message


def test_further_findings_are_counted() -> None:
    assert refused(lambda: load_config(config(sed=2, sead=3), MODELS)).endswith("(and 1 more)")


def test_an_origin_states_digests_and_valid_ids() -> None:
    origin = {"url": "https://example.org", "template": ORIGIN_SCAN, "scans": {"a b": ORIGIN_SCAN}}
    raw = config(data={"origin": origin})
    assert "a b" in refused(lambda: load_config(raw, MODELS))
    origin["url"] = "http://example.org"
    assert "`data.origin.url`" in refused(lambda: load_config(raw, MODELS))


# Sources


def study(data: dict[str, Any], **more: Any) -> Study:
    raw = {"study": "mine", "data": data, **more}
    return study_of(raw, METHODS, Path("results"), Path("studies"))


def test_a_study_has_one_source() -> None:
    origin = {"url": "https://example.org", "template": ORIGIN_SCAN, "scans": {"a": ORIGIN_SCAN}}
    both = {"cohort": {}, "origin": origin}
    assert "`data` gives cohort and origin" in refused(lambda: study(both))


def test_only_the_seed_of_the_cohort_changes_its_sides() -> None:
    def sides(seed: int, cohort_seed: int) -> list[str]:
        found = study({"cohort": {"scans": 20, "seed": cohort_seed}}, seed=seed)
        return [scan.side for scan in found.scans.values()]

    assert sides(1, 1) == sides(2, 1)
    assert sides(1, 1) != sides(1, 2)


def test_a_cohort_has_its_scans_sides_and_references() -> None:
    found = study({"cohort": {"scans": 5, "evaluated": 2}}, batch_scans=2)
    assert tuple(found.scans) == ("ear001", "ear002", "ear003", "ear004", "ear005")
    assert [name for name, scan in found.scans.items() if scan.landmarks] == ["ear001", "ear002"]
    assert found.batches == {
        "001": ("ear001", "ear002"),
        "002": ("ear003", "ear004"),
        "003": ("ear005",),
    }
    assert found.template.side == "right"
    assert {scan.side for scan in found.scans.values()} <= {"left", "right"}
    assert found.scans["ear003"].image == "results/mine/work/data/scans/ear003.nii.gz"
    assert [cohort_number(scan) for scan in ("template", "ear001", "ear003")] == [0, 1, 3]


@pytest.mark.parametrize(
    ("scans", "sizes"), [(12, [12]), (14, [14]), (15, [15]), (16, [12, 4]), (27, [12, 15])]
)
def test_a_few_scans_left_over_join_the_last_batch(scans: int, sizes: list[int]) -> None:
    found = study({"cohort": {"scans": scans, "evaluated": 1}}, batch_scans=12)
    assert [len(batch) for batch in found.batches.values()] == sizes
    assert [scan for batch in found.batches.values() for scan in batch] == list(found.scans)


def test_the_templates_name_is_no_scans() -> None:
    scans = {"template": ORIGIN_SCAN}
    origin = {"url": "https://example.org", "template": ORIGIN_SCAN, "scans": scans}
    message = refused(lambda: study({"origin": origin}))
    assert "data.origin.scans" in message
    assert "`template`" in message


def test_each_fetched_file_has_its_address_and_digest() -> None:
    def files(name: str, digits: str) -> dict[str, Any]:
        kinds = zip(("image", "landmarks"), digits, strict=True)
        return {kind: {"path": f"{kind}/{name}.bin", "sha256": d * 64} for kind, d in kinds}

    origin = {"url": "https://example.org", "template": files("t", "01")}
    found = study({"origin": origin | {"scans": {"a": files("a", "23")}}})
    assert found.scans["a"].image == "results/mine/work/data/scans/a.nii.gz"
    assert found.config.data.origin is not None
    for name, path, digit in (
        ("scans/template.nii.gz", "image/t.bin", "0"),
        ("landmarks/template.mrk.json", "landmarks/t.bin", "1"),
        ("scans/a.nii.gz", "image/a.bin", "2"),
        ("landmarks/a.mrk.json", "landmarks/a.bin", "3"),
    ):
        expected = {"url": f"https://example.org/{path}", "sha256": digit * 64}
        assert origin_file(found.config.data.origin, name) == expected


# Sheets


def sheet(folder: Path, text: str) -> Path:
    touch(folder / "images/a.nii.gz", folder / "images/b.nii.gz", folder / "points/a.fcsv")
    path = folder / "samples.tsv"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_sheet_is_read_relative_to_its_folder(tmp_path: Path) -> None:
    text = (
        "# made by hand\n"
        "scan\timage\tside\tlandmarks\tframe\n"
        "a\timages/a.nii.gz\tleft\tpoints/a.fcsv\tRAS\n\n"
        f" b-2_x \t{tmp_path}/images/b.nii.gz\r\n"
    )
    a, b = read_sheet(sheet(tmp_path, text))
    assert a == Scan(
        scan="a",
        image=str(tmp_path / "images/a.nii.gz"),
        side="left",
        landmarks=str(tmp_path / "points/a.fcsv"),
        frame="RAS",
    )
    assert b == Scan(scan="b-2_x", image=str(tmp_path / "images/b.nii.gz"))


def test_a_written_sheet_reads_as_the_same_scans(tmp_path: Path) -> None:
    touch(tmp_path / "a b.nii.gz", tmp_path / "a.csv")
    scans = [
        Scan(scan="a", image=str(tmp_path / "a b.nii.gz"), landmarks=str(tmp_path / "a.csv")),
        Scan(scan="b", image=str(tmp_path / "a b.nii.gz"), side="right", frame="LPS"),
    ]
    (tmp_path / "samples.tsv").write_text(write_sheet(scans))
    assert read_sheet(tmp_path / "samples.tsv") == scans


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("a+b\timages/a.nii.gz", ("row 2", "'a+b'")),
        ("a" * 65 + "\timages/a.nii.gz", ("row 2", "up to 64")),
        ("\timages/a.nii.gz", ("row 2", "scan id is ''")),
        ("a", ("row 2", "`image` is ''")),
        ("a\timages/a.nii.gz\t\t\t\tmore", ("row 2", "has 6 cells, expected 5")),
        ("template\timages/a.nii.gz", ("row 2", "`template`")),
        ("# a\timages/a.nii.gz", ("no rows",)),
    ],
)
def test_a_wrong_row_is_refused_with_its_number(
    tmp_path: Path, rows: str, said: tuple[str, ...]
) -> None:
    path = sheet(tmp_path, f"scan\timage\tside\tlandmarks\tframe\n{rows}\n")
    message = refused(lambda: read_sheet(path))
    assert str(path) in message
    for part in said:
        assert part in message


UID = "1.2.840.113619.2.55.3.604688119.868.1099.9"


def test_a_uid_is_an_id_with_dashes_for_its_dots_which_is_told(tmp_path: Path) -> None:
    text = f"scan\timage\n{UID}\timages/a.nii.gz\np.001\timages/a.nii.gz\nb\timages/a.nii.gz\n"
    path = sheet(tmp_path, text)
    told: list[str] = []
    dashed = UID.replace(".", "-")
    assert [scan.scan for scan in read_sheet(path, told.append)] == [dashed, "p-001", "b"]
    assert told == [
        f"{path}: dots in the ids of scans (2) are dashes in the results, {dashed} for {UID}"
    ]


def test_a_uid_names_folders_and_files_of_a_folder_and_a_run_s_template(tmp_path: Path) -> None:
    names = ("template/scan.nii", "template/landmarks.csv", f"scans/{UID}/1", "scans/a.nii")
    touch(*(tmp_path / name for name in names), tmp_path / f"landmarks/{UID}.mrk.json")
    (tmp_path / "samples.tsv").write_text(f"scan\tseries\n{UID}\t3\n")
    found = study({"folder": str(tmp_path)})
    scan = found.scans[UID.replace(".", "-")]
    assert scan.landmarks == str(tmp_path / f"landmarks/{UID}.mrk.json")
    assert scan.series == "3"
    again = study({"folder": str(tmp_path)}, runs={"a": {"method": "oneshot", "template": UID}})
    assert again.entry(UID.replace(".", "-")).series == "3"


def test_a_template_in_a_folder_may_have_a_series(tmp_path: Path) -> None:
    touch(tmp_path / "template/scan/1", tmp_path / "template/landmarks.csv")
    touch(tmp_path / "scans/a.nii")
    found = study({"folder": str(tmp_path), "template_series": "1.2.3"})
    assert found.template.series == "1.2.3"
    (tmp_path / "samples.tsv").write_text("scan\tseries\na\t3\n")
    said = f"`series` is 3, but {tmp_path}/scans/a.nii is no folder, expected one with DICOM files"
    assert said in refused(lambda: study({"folder": str(tmp_path)}))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("# only a comment\n\n", "is empty"),
        ("scan\timage\tnotes\n", "`notes` is not a known column, expected scan, image, side"),
        ("scan\timage\timage\n", "the column `image` twice"),
        ("image\tside\na\tleft\n", "has no column `scan`, found image, side"),
        ("scan\tside\na\tleft\n", "has no column `image`"),
    ],
)
def test_a_wrong_header_is_refused(tmp_path: Path, text: str, said: str) -> None:
    path = sheet(tmp_path, text)
    message = refused(lambda: read_sheet(path))
    assert str(path) in message
    assert said in message


def test_a_sheet_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "excel.tsv").write_bytes("scan\timage\n".encode("utf-16"))
    assert "is not UTF-8" in refused(lambda: read_sheet(tmp_path / "excel.tsv"))


# Further templates


def of_templates(*names: str) -> dict[str, Any]:
    """A run for each of these templates."""
    return {f"by-{name}": {"method": "oneshot", "template": name} for name in names}


def test_a_scan_that_is_a_template_is_none_of_the_scans() -> None:
    plain = study({"cohort": {"scans": 3}})
    found = study({"cohort": {"scans": 3}}, runs=of_templates("template", "ear002", "ear002"))
    assert tuple(found.scans) == ("ear001", "ear003")
    assert found.template == plain.template
    assert found.entry("template") == plain.template
    scan = plain.scans["ear002"]
    assert found.templates == {
        "ear002": Template(
            image=scan.image,
            landmarks=scan.landmarks,
            segmentation="results/mine/work/data/segmentations/ear002.nii.gz",
            side=scan.side,
        )
    }
    assert found.entry("ear002") == found.templates["ear002"]
    assert found.entry("ear001") == found.scans["ear001"]


def test_a_folder_may_hold_a_further_template_s_segmentation(folder: Path) -> None:
    touch(folder / "segmentations/ear.01.nrrd")
    found = study({"folder": str(folder)}, runs=of_templates("ear-01", "series")).templates
    assert found["ear-01"].segmentation == str(folder / "segmentations/ear.01.nrrd")
    assert found["series"].segmentation == ""


@pytest.mark.parametrize("template", ["ear-09", "B6D2-F1"], ids=["no scan", "no landmarks"])
def test_a_further_template_is_an_annotated_scan(folder: Path, template: str) -> None:
    found = refused(lambda: study({"folder": str(folder)}, runs=of_templates(template)))
    assert found == (
        f"config: `runs.by-{template}`: the template is '{template}', expected an annotated scan, "
        "such as ear-01"
    )


# Folders


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    touch(
        tmp_path / "template/scan.nrrd",
        tmp_path / "template/landmarks.fcsv",
        tmp_path / "scans/ear.01.nii.gz",
        tmp_path / "scans/B6D2 F1.mha",
        tmp_path / "scans/picture.PNG",
        tmp_path / "scans/series/1.dcm",
        tmp_path / "landmarks/ear.01.mrk.json",
        tmp_path / "landmarks/series.csv",
    )
    return tmp_path


def source(folder: Path, side: str = "") -> tuple[Template, Sequence[Scan]]:
    data = {"folder": str(folder), "template_side": side}
    config: StudyConfig = load_config({"study": "mine", "data": data}, MODELS)
    found = source_of(config, Path("results/mine"), lambda line: None)
    return found.template, found.scans


def test_a_folder_makes_a_sheet_with_ids_from_its_names(folder: Path) -> None:
    template, scans = source(folder, "left")
    assert template.image == str(folder / "template/scan.nrrd")
    assert template.landmarks == str(folder / "template/landmarks.fcsv")
    assert (template.segmentation, template.side) == ("", "left")
    assert [(scan.scan, Path(scan.image).name, Path(scan.landmarks).name) for scan in scans] == [
        ("B6D2-F1", "B6D2 F1.mha", ""),
        ("ear-01", "ear.01.nii.gz", "ear.01.mrk.json"),
        ("picture", "picture.PNG", ""),
        ("series", "series", "series.csv"),
    ]


def test_a_folder_goes_before_the_configuration_s_own_source(folder: Path) -> None:
    for found in (
        study({"folder": str(folder), "cohort": {}}),
        study({"cohort": {}}, data_folder=str(folder)),
    ):
        assert "ear-01" in found.scans
        assert found.config.data.folder == str(folder)


def test_sides_and_scales_come_from_the_folder_s_sheet_by_id_or_file_name(folder: Path) -> None:
    (folder / "samples.tsv").write_text("scan\tside\tscale\near.01\tleft\t2.5\nB6D2-F1\tright\n")
    _, scans = source(folder)
    assert {scan.scan: (scan.side, scan.scale) for scan in scans} == {
        "ear-01": ("left", 2.5),
        "B6D2-F1": ("right", None),
        "picture": ("", None),
        "series": ("", None),
    }


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("near.02\tleft", ("row 2", "no scan 'near.02'")),
        ("ear.01\tboth", ("row 2", "`side` is 'both': input should be 'left', 'right' or ''")),
        ("ear.01\tleft\t0", ("row 2", "`scale` is '0': input should be greater than 0")),
        ("ear.01\tleft\near-01\tright", ("row 3", "'ear-01' stands twice")),
    ],
)
def test_a_wrong_side_is_refused_with_its_row(
    folder: Path, rows: str, said: tuple[str, ...]
) -> None:
    (folder / "samples.tsv").write_text(f"scan\tside\tscale\n{rows}\n")
    message = refused(lambda: source(folder))
    for part in ("samples.tsv", *said):
        assert part in message


@pytest.mark.parametrize(
    ("name", "said"), [("template.nii.gz", "`template`"), ("_a.nii.gz", "'_a'")]
)
def test_a_file_whose_name_makes_no_id_is_refused(folder: Path, name: str, said: str) -> None:
    touch(folder / "scans" / name)
    message = refused(lambda: source(folder))
    assert str(folder / "scans" / name) in message
    assert said in message


def test_a_folder_without_a_template_s_scan_is_refused(folder: Path) -> None:
    (folder / "template/scan.nrrd").unlink()
    said = f"{folder}/template: found no scan (scan.nii.gz, say) of the template"
    assert refused(lambda: source(folder)) == said


def test_the_templates_scan_may_be_a_series_and_its_files_have_any_capitals(folder: Path) -> None:
    (folder / "template/scan.nrrd").unlink()
    touch(folder / "template/Scan/1.dcm", folder / "template/SEGMENTATION.NII.GZ")
    template, _ = source(folder)
    assert template.image == str(folder / "template/Scan")
    assert template.segmentation == str(folder / "template/SEGMENTATION.NII.GZ")


def test_the_templates_segmentation_is_found(folder: Path) -> None:
    touch(folder / "template/segmentation.nii.gz")
    template, _ = source(folder)
    assert template.segmentation == str(folder / "template/segmentation.nii.gz")
