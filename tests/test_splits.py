"""Annotated scans to learn from: where they come from, and in which fold each is held back."""

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from stage_runs import Outcome, assert_refused, path_of, run_stage

from landmarkflow.core.errors import InputError
from landmarkflow.core.files import write_json
from landmarkflow.data.stages import SCANS, SPLITS
from landmarkflow.registry import METHODS
from landmarkflow.study.sheet import Scan, read_sheet, write_sheet
from landmarkflow.study.study import Study
from landmarkflow.workflow.configured import study_of

# Scans to learn from and evaluated ones, each with a digest of its own.
SPLIT = {f"t{n:02d}": "train" for n in range(10)} | {"v": "validation", "a": "", "b": ""}


def split(
    folder: Path,
    folds: int = 0,
    seed: int = 1,
    digests: Sequence[str] = (),
    groups: Mapping[str, str] | None = None,
) -> tuple[Outcome, list[dict[str, str]]]:
    """Split scans whose content the digests tell apart; by default no two are alike."""
    for name, digest in zip(SPLIT, digests or SPLIT, strict=True):
        record = {"scan": name, "image": f"{name}.nii", "files": 1, "bytes": 7, "sha256": digest}
        write_json(path_of(folder, SCANS, "record", name), record)
    sheet = {n: {"split": v, "group": (groups or {}).get(n, "")} for n, v in SPLIT.items()}
    by = "scan" if groups is None else "group"
    settings = {"folds": folds, "folds_by": by, "seed": seed}
    done = run_stage(SPLITS, folder, list(SPLIT), settings=settings, sheet=sheet)
    path = path_of(folder, SPLITS, "splits")
    if not path.exists():
        return done, []
    with path.open(encoding="utf-8", newline="") as file:
        return done, list(csv.DictReader(file, delimiter="\t"))


# The stage


def test_the_table_holds_the_scans_to_learn_from_and_no_evaluated_one(tmp_path: Path) -> None:
    done, rows = split(tmp_path)
    assert done.status == 0
    assert {row["scan"]: row["split"] for row in rows} == {n: s for n, s in SPLIT.items() if s}
    assert {row["fold"] for row in rows} == {"0"}


@pytest.mark.parametrize("folds", [2, 3, 4, 11])
def test_folds_are_balanced(tmp_path: Path, folds: int) -> None:
    _, rows = split(tmp_path, folds)
    counts = Counter(row["fold"] for row in rows)
    assert set(counts) == {str(fold + 1) for fold in range(folds)}
    assert max(counts.values()) - min(counts.values()) <= 1


def test_folds_are_drawn_by_the_seed_and_the_same_again(tmp_path: Path) -> None:
    one, again, other = (split(tmp_path / str(n), 4, seed)[1] for n, seed in enumerate((1, 1, 2)))
    assert one == again
    assert one != other
    folds = [row["fold"] for row in one]
    assert folds != sorted(folds)


def test_more_folds_than_scans_are_refused(tmp_path: Path) -> None:
    done, rows = split(tmp_path, 12)
    assert_refused(done, "`data.folds` is 12, expected at most the 11 scans to learn from")
    assert rows == []


def test_no_group_is_in_two_folds(tmp_path: Path) -> None:
    # One specimen of four scans, two of two, and three scans of no group.
    groups = {f"t{n:02d}": name for n, name in enumerate("AAAABBCC")}
    _, rows = split(tmp_path, 3, groups=groups)
    of_group = {(groups[r["scan"]], r["fold"]) for r in rows if r["scan"] in groups}
    assert len(of_group) == 3
    assert sorted(Counter(row["fold"] for row in rows).values()) == [3, 4, 4]
    done, _ = split(tmp_path / "more", 7, groups=groups)
    assert_refused(done, "is 7, expected at most the 6 groups of scans to learn from")


def test_an_image_is_not_learned_from_and_evaluated(tmp_path: Path) -> None:
    digests = list(SPLIT)
    # The evaluated scan a is the scan t03 under another name.
    digests[list(SPLIT).index("a")] = "t03"
    done, rows = split(tmp_path, digests=digests)
    assert_refused(done, "scan t03: holds the same image as the evaluated scan a, expected")
    assert rows == []


def test_scans_that_are_no_files_are_not_alike(tmp_path: Path) -> None:
    assert split(tmp_path, digests=[""] * len(SPLIT))[0].status == 0


def test_an_image_may_stand_twice_on_one_side(tmp_path: Path) -> None:
    digests = list(SPLIT)
    digests[1] = digests[0]
    digests[-1] = digests[-2]
    assert split(tmp_path, digests=digests)[0].status == 0


# Where they come from


def study(data: dict[str, Any], **more: Any) -> Study:
    return study_of({"study": "mine", "data": data, **more}, METHODS, Path("results"), Path("none"))


def test_a_sheet_states_split_segmentation_scale_and_gaze(tmp_path: Path) -> None:
    for name in ("a.nii", "a.csv", "s.nii", "g.csv"):
        (tmp_path / name).touch()
    rows = [
        "scan\timage\tlandmarks\tsegmentation\tsplit\tgaze\tscale",
        "t\ta.nii\ta.csv\ts.nii\ttrain\tg.csv\t250.5",
        "v\ta.nii\ta.csv\t\tvalidation",
        "e\ta.nii",
    ]
    (tmp_path / "samples.tsv").write_text("\n".join(rows))
    train, validation, evaluated = read_sheet(tmp_path / "samples.tsv")
    assert (train.split, validation.split, evaluated.split) == ("train", "validation", "")
    assert train.segmentation == str(tmp_path / "s.nii")
    assert (train.gaze, train.scale) == (str(tmp_path / "g.csv"), 250.5)
    assert (evaluated.gaze, evaluated.scale) == ("", None)
    (tmp_path / "again.tsv").write_text(write_sheet([train, validation, evaluated]))
    assert read_sheet(tmp_path / "again.tsv") == [train, validation, evaluated]
    template = {"image": str(tmp_path / "a.nii"), "landmarks": str(tmp_path / "a.csv")}
    sheet = {"sheet": str(tmp_path / "samples.tsv"), "template": template}
    found = study({"sheet": sheet})
    assert list(found.training) == ["t", "v"]
    assert list(found.scans) == ["e"]


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ("split\ttest", "`split` is 'test'"),
        ("scale\t0", "`scale` is '0': input should be greater than 0"),
        ("scale\tlong", "`scale` is 'long'"),
        ("segmentation\tnone.nii", "none.nii of column `segmentation` does not exist"),
        ("gaze\tnone.csv", "none.csv of column `gaze` does not exist"),
    ],
)
def test_a_wrong_cell_is_refused(tmp_path: Path, cell: str, said: str) -> None:
    (tmp_path / "a.nii").touch()
    column, value = cell.split("\t")
    (tmp_path / "samples.tsv").write_text(f"scan\timage\t{column}\na\ta.nii\t{value}\n")
    with pytest.raises(InputError) as error:
        read_sheet(tmp_path / "samples.tsv")
    assert f"samples.tsv, row 2: {said}" in str(error.value).replace(f"the file {tmp_path}/", "")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    names = ["template/scan.nii", "template/landmarks.csv", "scans/a.nii", "landmarks/a.csv"]
    names += ["training/scans/t.nii", "training/landmarks/t.csv", "segmentations/a.nii"]
    names += ["training/segmentations/t.nii"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def test_a_folder_of_training_holds_annotated_scans_to_learn_from(folder: Path) -> None:
    found = study({"folder": str(folder)})
    assert list(found.scans) == ["a"]
    assert found.scans["a"].segmentation == str(folder / "segmentations/a.nii")
    assert found.training == {
        "t": Scan(
            scan="t",
            image=str(folder / "training/scans/t.nii"),
            landmarks=str(folder / "training/landmarks/t.csv"),
            segmentation=str(folder / "training/segmentations/t.nii"),
            split="train",
        )
    }


def test_a_scan_to_learn_from_has_landmarks(folder: Path) -> None:
    (folder / "training/landmarks/t.csv").unlink()
    with pytest.raises(InputError, match=r"training/scans/t\.nii: has no landmarks in "):
        study({"folder": str(folder)})
    (folder / "samples.tsv").write_text("scan\timage\tsplit\nb\tscans/a.nii\ttrain\n")
    template = {"image": str(folder / "a.nii"), "landmarks": str(folder / "landmarks/a.csv")}
    (folder / "a.nii").touch()
    sheet = {"sheet": str(folder / "samples.tsv"), "template": template}
    with pytest.raises(InputError, match=r"^scan b: is to be learned from and has no landmarks$"):
        study({"sheet": sheet})


def test_a_name_on_both_sides_of_a_folder_is_refused(folder: Path) -> None:
    (folder / "training/scans/a.nii").touch()
    (folder / "training/landmarks/a.csv").touch()
    with pytest.raises(InputError, match=r"the scan id `a` stands at .*scans/a\.nii already"):
        study({"folder": str(folder)})


def test_scans_of_a_cohort_to_learn_from_are_numbered_after_all_others() -> None:
    cohort = {"seed": 3, "scans": 4, "evaluated": 2}
    before, after = (study({"cohort": {**cohort, "training": n}}) for n in (0, 5))
    assert before.scans == after.scans
    assert before.template == after.template
    assert list(before.training) == []
    assert list(after.training) == [f"ear{number:03d}" for number in range(5, 10)]
    for scan in after.training.values():
        assert scan.split == "train"
        assert scan.landmarks
        assert scan.segmentation
