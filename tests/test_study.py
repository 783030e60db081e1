from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from landmarkflow.core.errors import InputError
from landmarkflow.study.study import (
    Scan,
    StudyConfig,
    cohort_number,
    load_config,
    load_study,
    read_sheet,
    scans_of_folder,
    write_sheet,
)

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
        (config(sed=2), "`sed` is not a known key"),
        (config(oneshot={"locate": {"spacing": 1}}), "`oneshot.locate.spacing` is not a known key"),
        ({"data": {}}, "`study` is missing"),
        (config(data={"sheet": {"sheet": "a.tsv"}}), "`data.sheet.template` is missing"),
        (config(batch_scans="many"), "`batch_scans` is 'many': input should be a valid integer"),
        (config(seed=-1), "`seed` is -1: input should be greater than or equal to 0"),
        (config(study="a/b"), "`study` is 'a/b'"),
        (config(study=2020), "`study` is 2020: input should be a valid string"),
        (config(bad_scans="skip"), "`bad_scans` is 'skip': input should be 'refuse' or"),
        (
            config(oneshot={"normalise": {"low": 5, "high": 5}}),
            "low (5) must be below high (5)",
        ),
        (
            config(oneshot={"train": {"network": {"window_pixels": 50}}}),
            "window_pixels (50) must be a multiple of 4",
        ),
        (
            config(oneshot={"locate": {"dense": {"mean": float("nan"), "sd": 1}}}),
            "`oneshot.locate.dense.mean` is nan",
        ),
        (config(target={"above": float("nan")}), "`target.above` is nan"),
        ([], "the whole"),
        (None, "the whole"),
    ],
)
def test_a_wrong_configuration_is_refused_with_its_key(raw: Any, said: str) -> None:
    message = refused(lambda: load_config(raw))
    assert message.startswith("config: ")
    assert said in message


def test_further_findings_are_counted() -> None:
    assert refused(lambda: load_config(config(sed=2, sead=3))).endswith("(and 1 more)")


def test_an_origin_states_digests_and_valid_ids() -> None:
    origin = {"url": "https://example.org", "template": ORIGIN_SCAN, "scans": {"a b": ORIGIN_SCAN}}
    assert "a b" in refused(lambda: load_config(config(data={"origin": origin})))
    origin["url"] = "http://example.org"
    assert "`data.origin.url`" in refused(lambda: load_config(config(data={"origin": origin})))


# Sources


def study(data: dict[str, Any], **more: Any) -> StudyConfig:
    return load_config({"study": "mine", "data": data} | more)


def test_a_study_has_one_source(tmp_path: Path) -> None:
    assert "`data` gives no source" in refused(lambda: load_study(study({}), tmp_path))
    origin = {"url": "https://example.org", "template": ORIGIN_SCAN, "scans": {"a": ORIGIN_SCAN}}
    both = study({"cohort": {}, "origin": origin})
    assert "`data` gives cohort and origin" in refused(lambda: load_study(both, tmp_path))


def test_only_the_seed_of_the_cohort_changes_its_sides(tmp_path: Path) -> None:
    def sides(seed: int, cohort_seed: int) -> list[str]:
        cohort = {"scans": 20, "seed": cohort_seed}
        found = load_study(study({"cohort": cohort}, seed=seed), tmp_path)
        return [scan.side for scan in found.scans.values()]

    assert sides(1, 1) == sides(2, 1)
    assert sides(1, 1) != sides(1, 2)


def test_a_cohort_has_its_scans_sides_and_references(tmp_path: Path) -> None:
    found = load_study(study({"cohort": {"scans": 5, "evaluated": 2}}, batch_scans=2), tmp_path)
    assert tuple(found.scans) == ("ear001", "ear002", "ear003", "ear004", "ear005")
    assert found.evaluated == ("ear001", "ear002")
    assert found.batches == {
        "001": ("ear001", "ear002"),
        "002": ("ear003", "ear004"),
        "003": ("ear005",),
    }
    assert found.template.side == "right"
    assert {scan.side for scan in found.scans.values()} <= {"left", "right"}
    assert found.scans["ear003"].image == f"{tmp_path}/data/scans/ear003.nii.gz"


def test_the_templates_name_is_no_scans(tmp_path: Path) -> None:
    origin = {
        "url": "https://example.org",
        "template": ORIGIN_SCAN,
        "scans": {"template": ORIGIN_SCAN},
    }
    message = refused(lambda: load_study(study({"origin": origin}), tmp_path))
    assert "data.origin.scans" in message
    assert "`template`" in message


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
        ("a\timages/none.nii.gz", ("row 2", "images/none.nii.gz", "`image` does not exist")),
        ("a\timages/a.nii.gz\tleft\tp.fcsv", ("row 2", "`landmarks` does not exist")),
        (
            "b\timages/a.nii.gz\na\timages/a.nii.gz\nb\timages/b.nii.gz",
            ("row 4", "`b`", "row 2 already"),
        ),
        ("x/y\timages/a.nii.gz", ("row 2", "'x/y'", "letters, digits")),
        ("x y\timages/a.nii.gz", ("row 2", "'x y'")),
        ("..\timages/a.nii.gz", ("row 2", "'..'")),
        ("-a\timages/a.nii.gz", ("row 2", "'-a'", "the first a letter or digit")),
        ("a.b\timages/a.nii.gz", ("row 2", "'a.b'")),
        ("a" * 65 + "\timages/a.nii.gz", ("row 2", "up to 64")),
        ("\timages/a.nii.gz", ("row 2", "scan id is ''")),
        ("a", ("row 2", "`image` is ''")),
        ("a\timages/a.nii.gz\trigth", ("row 2", "`side` is 'rigth'", "'left', 'right'")),
        ("a\timages/a.nii.gz\t\t\tXYZ", ("row 2", "`frame` is 'XYZ'")),
        ("a\timages/a.nii.gz\t\t\t\tmore", ("row 2", "has 6 cells, expected 5")),
        ("template\timages/a.nii.gz", ("row 2", "`template`")),
        ("", ("no rows",)),
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


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("# only a comment\n\n", "is empty"),
        ("scan\timage\tnotes\n", "`notes` is not a known column, expected scan, image, side"),
        ("scan,image\na,a.nii.gz\n", "separated by tabs"),
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


def test_a_sheet_that_is_missing_or_no_text_is_refused(tmp_path: Path) -> None:
    assert "no such file" in refused(lambda: read_sheet(tmp_path / "none.tsv"))
    (tmp_path / "excel.tsv").write_bytes("scan\timage\n".encode("utf-16"))
    assert "is not UTF-8" in refused(lambda: read_sheet(tmp_path / "excel.tsv"))


def test_a_sheets_template_must_exist(tmp_path: Path) -> None:
    path = sheet(tmp_path, "scan\timage\na\timages/a.nii.gz\n")
    template = {"image": str(path), "landmarks": str(tmp_path / "none.fcsv")}
    source = study({"sheet": {"sheet": str(path), "template": template}})
    message = refused(lambda: load_study(source, tmp_path))
    assert "data.sheet.template" in message
    assert "none.fcsv" in message
    template["landmarks"] = str(tmp_path / "points/a.fcsv")
    source = study({"sheet": {"sheet": str(path), "template": template}})
    assert tuple(load_study(source, tmp_path).scans) == ("a",)


# Further templates


def test_a_scan_that_is_a_template_is_none_of_the_scans(tmp_path: Path) -> None:
    config = study({"cohort": {"scans": 3}}, templates=["ear002"])
    plain = load_study(study({"cohort": {"scans": 3}}), tmp_path)
    found = load_study(config, tmp_path)
    assert tuple(found.scans) == ("ear001", "ear003")
    assert tuple(found.templates) == ("ear002",)
    assert found.template == plain.template
    template = load_study(config, tmp_path, "ear002").template
    assert template.image == plain.scans["ear002"].image
    assert template.landmarks == plain.scans["ear002"].landmarks
    assert template.segmentation == f"{tmp_path}/data/segmentations/ear002.nii.gz"
    assert template.side == plain.scans["ear002"].side
    assert [cohort_number(scan) for scan in ("template", "ear001", "ear003")] == [0, 1, 3]


def test_a_folder_may_hold_a_further_templates_segmentation(folder: Path) -> None:
    touch(folder / "segmentations/ear.01.nrrd")
    config = study({"folder": str(folder)}, templates=["ear-01", "series"])
    found = load_study(config, folder).templates
    assert found["ear-01"].segmentation == str(folder / "segmentations/ear.01.nrrd")
    assert found["series"].segmentation == ""


@pytest.mark.parametrize(
    ("templates", "said"),
    [
        (["ear-09"], "`templates`: ear-09 is no scan of the study"),
        (["B6D2-F1"], "`templates`: B6D2-F1 has no landmarks, expected an annotated scan"),
        (["series", "series"], "`templates`: series stands twice, expected once"),
    ],
)
def test_a_further_template_is_an_annotated_scan(
    folder: Path, templates: list[str], said: str
) -> None:
    config = study({"folder": str(folder)}, templates=templates)
    assert said in refused(lambda: load_study(config, folder))


# Folders


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    touch(
        tmp_path / "template/scan.nrrd",
        tmp_path / "template/landmarks.fcsv",
        tmp_path / "scans/ear.01.nii.gz",
        tmp_path / "scans/B6D2 F1.mha",
        tmp_path / "scans/series/1.dcm",
        tmp_path / "scans/.DS_Store",
        tmp_path / "scans/ear.01.txt",
        tmp_path / "landmarks/ear.01.mrk.json",
        tmp_path / "landmarks/series.csv",
    )
    return tmp_path


def test_a_folder_makes_a_sheet_with_ids_from_its_names(folder: Path) -> None:
    template, scans = scans_of_folder(folder, "left")
    assert template.image == str(folder / "template/scan.nrrd")
    assert template.landmarks == str(folder / "template/landmarks.fcsv")
    assert (template.segmentation, template.side) == ("", "left")
    assert [(scan.scan, Path(scan.image).name, Path(scan.landmarks).name) for scan in scans] == [
        ("B6D2-F1", "B6D2 F1.mha", ""),
        ("ear-01", "ear.01.nii.gz", "ear.01.mrk.json"),
        ("series", "series", "series.csv"),
    ]


def test_a_folder_goes_before_the_configurations_own_source(folder: Path) -> None:
    found = load_study(study({"folder": str(folder), "cohort": {}}), folder)
    assert "ear-01" in found.scans
    assert found.evaluated == ("ear-01", "series")


def test_sides_come_from_the_folders_sheet_by_id_or_file_name(folder: Path) -> None:
    (folder / "samples.tsv").write_text("scan\tside\near.01\tleft\nB6D2-F1\tright\n")
    _, scans = scans_of_folder(folder)
    assert {scan.scan: scan.side for scan in scans} == {
        "ear-01": "left",
        "B6D2-F1": "right",
        "series": "",
    }


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("near.02\tleft", ("row 2", "no scan 'near.02'")),
        ("ear.01\tL", ("row 2", "the side is 'L'", "left, right")),
        ("ear.01\tleft\near-01\tright", ("row 3", "'ear-01' stands twice")),
    ],
)
def test_a_wrong_side_is_refused_with_its_row(
    folder: Path, rows: str, said: tuple[str, ...]
) -> None:
    (folder / "samples.tsv").write_text(f"scan\tside\n{rows}\n")
    message = refused(lambda: scans_of_folder(folder))
    for part in ("samples.tsv", *said):
        assert part in message


def test_two_names_that_make_one_id_are_refused(folder: Path) -> None:
    touch(folder / "scans/ear-01.nii.gz")
    message = refused(lambda: scans_of_folder(folder))
    for part in ("ear-01.nii.gz", "ear.01.nii.gz", "`ear-01`"):
        assert part in message


@pytest.mark.parametrize(
    ("name", "said"), [("template.nii.gz", "`template`"), ("_a.nii.gz", "'_a'")]
)
def test_a_file_whose_name_makes_no_id_is_refused(folder: Path, name: str, said: str) -> None:
    touch(folder / "scans" / name)
    message = refused(lambda: scans_of_folder(folder))
    assert str(folder / "scans" / name) in message
    assert said in message


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        ("template/scan.nrrd", "found no scan (scan.nii.gz, say) of the template"),
        ("template/landmarks.fcsv", "found no landmarks (landmarks.mrk.json) of the template"),
    ],
)
def test_a_folder_without_a_whole_template_is_refused(
    folder: Path, missing: str, said: str
) -> None:
    (folder / missing).unlink()
    message = refused(lambda: scans_of_folder(folder))
    assert str(folder / "template") in message
    assert said in message


def test_a_folder_without_scans_is_refused(tmp_path: Path) -> None:
    assert "no such folder" in refused(lambda: scans_of_folder(tmp_path / "none"))
    touch(tmp_path / "template/scan.nii", tmp_path / "template/landmarks.csv")
    assert str(tmp_path / "scans") in refused(lambda: scans_of_folder(tmp_path))
    (tmp_path / "scans").mkdir()
    source = study({"folder": str(tmp_path)})
    assert "there is no scan" in refused(lambda: load_study(source, tmp_path))


def test_the_templates_segmentation_is_found(folder: Path) -> None:
    touch(folder / "template/segmentation.nii.gz")
    template, _ = scans_of_folder(folder)
    assert template.segmentation == str(folder / "template/segmentation.nii.gz")
