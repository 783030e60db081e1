"""The runs of a study: how they are stated, what each is set by, and what is refused."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from landmarkflow.core.errors import InputError
from landmarkflow.methods.fuse.settings import FuseSettings
from landmarkflow.methods.oneshot.settings import OneShotSettings
from landmarkflow.registry import METHODS
from landmarkflow.study.runs import Run
from landmarkflow.study.study import Study
from landmarkflow.workflow.configured import study_of

ONESHOT = {"method": "oneshot"}
COHORT = {"cohort": {"scans": 3, "evaluated": 3}}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, whose studies/ has two presets of one method."""
    monkeypatch.chdir(tmp_path)
    preset("quick", {"deform": {"lbfgs": {"affine": None}}, "vote": {"peers": 2}})
    preset("other", {"locate": {"candidates": 7}})
    return tmp_path


def preset(name: str, settings: Any) -> None:
    write(Path("studies/presets/oneshot", f"{name}.yaml"), settings)


def write(path: Path, data: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(data), encoding="utf-8")


def study(**stated: Any) -> Study:
    raw = {"study": "mine", "seed": 4, "data": COHORT, **stated}
    return study_of(raw, METHODS, Path("results"), Path("studies"))


def runs(seed: int = 4, **stated: Any) -> dict[str, Run]:
    return dict(study(seed=seed, runs=stated).runs)


def refused(**stated: Any) -> str:
    with pytest.raises(InputError) as error:
        study(**stated)
    message = str(error.value)
    assert "\n" not in message
    return message


# What runs are


def test_by_default_there_is_one_run_of_the_one_shot_method() -> None:
    expected = Run("oneshot", "oneshot", "oneshot", 4, "template", OneShotSettings())
    assert study().runs == {"oneshot": expected}


def test_a_run_states_method_seed_template_and_what_it_learns_from() -> None:
    found = runs(
        first={**ONESHOT, "seed": 9, "template": "ear002"},
        second={**ONESHOT, "train": 10, "train_on": "first"},
    )
    assert (found["first"].seed, found["first"].template) == (9, "ear002")
    # A run of one seed has its entry's name, whichever the seed.
    assert found["first"].name == found["first"].entry == "first"
    assert (found["second"].train, found["second"].train_on) == (10, "first")


def test_seeds_are_runs_that_share_an_entry_and_the_study_s_own_has_its_name() -> None:
    found = runs(oneshot={**ONESHOT, "seeds": [4, 2, 30]})
    assert [(run.name, run.entry, run.seed) for run in found.values()] == [
        ("oneshot", "oneshot", 4),
        ("oneshot-seed2", "oneshot", 2),
        ("oneshot-seed30", "oneshot", 30),
    ]
    assert all(run.settings == OneShotSettings() for run in found.values())


def test_a_run_comes_after_those_that_it_reads() -> None:
    fused = {"method": "fuse", "of": ["b", "a"]}
    found = runs(fused=fused, a={**ONESHOT, "train_on": "b"}, b=ONESHOT)
    assert list(found) == ["b", "a", "fused"]
    assert found["fused"].of == ("b", "a")
    assert found["fused"].settings == FuseSettings()


# Settings: the study's, the preset's on top, the run's own on top of both


def test_a_preset_lies_on_the_study_s_settings_and_a_run_s_own_on_both() -> None:
    found = study(
        oneshot={"vote": {"peers": 1, "farthest_mm": 0.7}, "place": {"annotation_mm": 0.4}},
        runs={
            "plain": ONESHOT,
            "quick": {**ONESHOT, "preset": "quick"},
            "own": {**ONESHOT, "preset": "quick", "settings": {"vote": {"peers": 3}}},
        },
    ).runs
    settings = {name: run.settings.model_dump() for name, run in found.items()}
    assert [settings[name]["vote"]["peers"] for name in found] == [1, 2, 3]
    assert [s["deform"]["lbfgs"]["affine"] is None for s in settings.values()] == [
        False,
        True,
        True,
    ]
    for each in settings.values():
        assert each["vote"]["farthest_mm"] == 0.7
        assert each["place"]["annotation_mm"] == 0.4
    assert [run.preset for run in found.values()] == ["", "quick", "quick"]


def test_a_run_s_settings_are_checked_by_its_method() -> None:
    assert refused(runs={"a": {**ONESHOT, "settings": {"vote": {"peer": 1}}}}) == (
        "config: `runs.a`: settings: `vote.peer` is not a known key"
    )
    assert "`farthest` is 0" in refused(
        runs={"a": ONESHOT, "b": {"method": "fuse", "of": ["a"], "settings": {"farthest": 0}}}
    )
    preset("broken", {"voting": {}})
    assert refused(runs={"a": {**ONESHOT, "preset": "broken"}}) == (
        "config: `runs.a`: settings: `voting` is not a known key"
    )


SHARED = (
    "config: `runs.a`: overrules `{}`, which all runs of a study share; state it under `oneshot` "
    "for the whole study, or make another study"
)


@pytest.mark.parametrize(
    ("stated", "name"),
    [
        ({"settings": {"normalise": {"low": 0}}}, "normalise"),
        ({"settings": {"locate": {"field_mm": 30}}}, "locate"),
        ({"preset": "other"}, "locate"),
    ],
)
def test_what_all_runs_share_cannot_be_overruled(stated: dict[str, Any], name: str) -> None:
    assert refused(runs={"a": ONESHOT | stated}) == SHARED.format(name)


def test_what_all_runs_share_may_be_said_again() -> None:
    same = {"locate": {"field_mm": 30.0}}
    found = study(oneshot=same, runs={"a": {**ONESHOT, "settings": same}}).runs["a"].settings
    assert found.model_dump()["locate"]["field_mm"] == 30.0


# Refusals


@pytest.mark.parametrize(
    ("stated", "said"),
    [
        (
            {"a": {"method": "twoshot"}},
            "`runs.a`: the method is 'twoshot', expected one of oneshot",
        ),
        (
            {"a": {**ONESHOT, "preset": "none"}},
            "`runs.a`: there is no preset 'none' (studies/presets/oneshot/none.yaml)",
        ),
        ({"a": {**ONESHOT, "template": "ear9"}}, "`runs.a`: the template is 'ear9', expected an"),
        (
            {"a": ONESHOT, "b": {"method": "fuse", "of": ["c"]}},
            "`runs.b`: there is no run 'c', expected one of a, b",
        ),
        ({"a": {**ONESHOT, "train_on": "c"}}, "`runs.a`: there is no run 'c', expected one of a"),
        (
            {"a": {"method": "fuse", "of": ["b"]}, "b": {"method": "fuse", "of": ["a"]}},
            "`runs`: a reads b reads a, expected no circle",
        ),
        ({"a": {**ONESHOT, "train_on": "a"}}, "`runs`: a reads a, expected no circle"),
        ({"work": ONESHOT}, "`runs`: the name work is taken, expected another"),
        (
            {"a": {**ONESHOT, "seeds": [1, 4]}, "a-seed1": ONESHOT},
            "`runs`: the name a-seed1 is taken, expected another",
        ),
        ({"a": {"method": "fuse"}}, "`runs.a`: fuse has no runs in `of`, expected runs in `of`"),
        (
            {"b": ONESHOT, "a": {**ONESHOT, "of": ["b"]}},
            "`runs.a`: oneshot has b in `of`, expected none",
        ),
        (
            {"a": {**ONESHOT, "seed": 1, "seeds": [2]}},
            "`runs.a`: states `seed` and `seeds`, expected one of them",
        ),
        (
            {"a": {**ONESHOT, "seeds": [2, 2]}},
            "`runs.a`: `seeds` are [2, 2], expected different ones",
        ),
        ({"a": {**ONESHOT, "sed": 1}}, "`runs.a.sed` is not a known key"),
        ({"a": {**ONESHOT, "seed": -1}}, "`runs.a.seed` is -1: input should be greater than or"),
        ({"a": {**ONESHOT, "train": 0}}, "`runs.a.train` is 0: input should be greater than or"),
    ],
)
def test_a_wrong_run_is_refused_in_one_sentence(stated: dict[str, Any], said: str) -> None:
    assert refused(runs=stated).startswith(f"config: {said}")


@pytest.mark.parametrize(
    ("text", "said"), [("a: [", "is no YAML"), ("- a", "holds \"['a']\", expected keys and values")]
)
def test_a_preset_is_a_file_of_keys_and_values(text: str, said: str) -> None:
    Path("studies/presets/oneshot/bad.yaml").write_text(text)
    message = refused(runs={"a": {**ONESHOT, "preset": "bad"}})
    assert message.startswith("studies/presets/oneshot/bad.yaml: ")
    assert said in message


# A study on top of another


def test_a_study_is_its_base_with_what_differs() -> None:
    below = {"study": "base", "seed": 7, "data": COHORT, "oneshot": {"vote": {"peers": 1}}}
    write(Path("studies/below.yaml"), below)
    write(
        Path("studies/base.yaml"),
        {"base": "below.yaml", "oneshot": {"place": {"annotation_mm": 0.3}}},
    )
    raw = {"study": "mine", "base": "base.yaml", "oneshot": {"vote": {"farthest_mm": 0.9}}}
    found = study_of(raw, METHODS, Path("results"), Path("studies"))
    assert (found.config.study, found.config.seed) == ("mine", 7)
    settings = found.runs["oneshot"].settings.model_dump()
    assert settings["vote"] == {"peers": 1, "farthest_mm": 0.9}
    assert settings["place"]["annotation_mm"] == 0.3


def test_a_base_that_is_missing_or_goes_in_a_circle_is_refused() -> None:
    assert refused(base="none.yaml") == "studies/none.yaml: no such file, expected a YAML file"
    write(Path("studies/one.yaml"), {"base": "two.yaml"})
    for name in ("one.yaml", "../studies/one.yaml"):
        write(Path("studies/two.yaml"), {"base": name})
        said = refused(base="one.yaml")
        assert said == f"studies/{name}: is its own `base`, expected another study"


# The command line


def test_seeds_on_the_command_line_are_those_of_every_run_that_reads_none() -> None:
    stated = {"a": ONESHOT, "b": ONESHOT, "c": {"method": "fuse", "of": ["a", "b"]}}
    found = study(runs=stated, seeds="4 5").runs
    assert list(found) == ["a", "a-seed5", "b", "b-seed5", "c"]
    assert [list(study(seeds=n).runs) for n in (5, 0)] == [["oneshot-seed5"], ["oneshot-seed0"]]
    assert "states `seed` and `seeds`" in refused(runs={"b": {**ONESHOT, "seed": 9}}, seeds="1 2")


@pytest.mark.parametrize("seeds", ["1 two", "1 -2", "1,2", " ", "", "3.5"])
def test_other_seeds_are_refused(seeds: str) -> None:
    assert refused(seeds=seeds).startswith(f"seeds is {seeds!r}, expected different whole numbers")


def test_a_seed_twice_is_refused() -> None:
    assert refused(seeds="3 3") == (
        "config: `runs.oneshot`: `seeds` are [3, 3], expected different ones"
    )


def test_a_folder_on_the_command_line_takes_the_place_of_the_source() -> None:
    for name in ("template/scan.nii", "template/landmarks.csv", "scans/a.nii"):
        Path("given", name).parent.mkdir(parents=True, exist_ok=True)
        Path("given", name).touch()
    assert list(study(data_folder="given").scans) == ["a"]
    assert list(study().scans) == ["ear001", "ear002", "ear003"]


@pytest.mark.parametrize(
    ("stated", "said"),
    [
        ({"runs": ["oneshot"]}, "`runs` is ['oneshot']: input should be a valid dictionary"),
        ({"runs": {"a": None}}, "`runs.a` is None: input should be a valid dictionary"),
        ({"data": "scans"}, "`data` is 'scans': input should be a valid dictionary"),
    ],
)
def test_a_wrong_study_is_refused_whatever_the_command_line_says(
    stated: dict[str, Any], said: str
) -> None:
    assert refused(**stated, seeds="1 2").startswith(f"config: {said}")


@pytest.mark.parametrize("key", ["datafolder", "presets", "templates", "template_scan", "ablation"])
def test_any_other_word_on_the_command_line_is_refused(key: str) -> None:
    assert refused(**{key: "a"}) == f"config: `{key}` is not a known key"
