"""What an ablation runs."""

from pathlib import Path

import pytest

from landmarkflow.core.errors import InputError
from landmarkflow.study.ablation import plan, read_preset, read_seeds

MINE = {"study": "mine", "seed": 2, "data": {}}
OTHER = {"study": "other", "data": {}}


def test_seeds_are_separated_by_spaces() -> None:
    assert read_seeds("1 2  30") == (1, 2, 30)
    assert read_seeds(4) == (4,)


@pytest.mark.parametrize("stated", ["", "1 two", "1 -2", "3 3", "1,2", [1, 2], None])
def test_other_seeds_are_refused(stated: object) -> None:
    with pytest.raises(InputError, match="expected different whole numbers separated by spaces"):
        read_seeds(stated)


def test_each_preset_is_trained_with_each_seed() -> None:
    trainings = plan([MINE, OTHER], (1, 2))
    assert [(t.study, t.preset, t.seed, t.is_another) for t in trainings] == [
        ("mine-seed1", "mine", 1, True),
        ("mine", "mine", 2, False),
        ("other", "other", 1, False),
        ("other-seed2", "other", 2, True),
    ]
    assert trainings[0].config == {"study": "mine-seed1", "seed": 1, "data": {}}
    assert MINE["study"] == "mine"


def test_a_preset_beside_itself_is_refused() -> None:
    with pytest.raises(InputError, match="the study mine stands twice"):
        plan([MINE, OTHER, MINE], (1,))


def test_a_preset_is_a_study(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("study: a\nseed: 3\n", encoding="utf-8")
    assert read_preset(tmp_path, "a") == {"study": "a", "seed": 3}
    with pytest.raises(InputError, match=r"there is no file .*b\.yaml"):
        read_preset(tmp_path, "b")
    (tmp_path / "b.yaml").write_text("seed: 3\n", encoding="utf-8")
    with pytest.raises(InputError, match="states no `study`"):
        read_preset(tmp_path, "b")


def test_a_study_of_several_templates_is_not_compared() -> None:
    with pytest.raises(InputError, match="the study a has further templates"):
        plan([{"study": "a", "templates": ["b"]}], (1,))
