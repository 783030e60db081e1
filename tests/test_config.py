"""The default study, the studies and presets beside it, and what is said of each setting."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest

from docs.reference import DEFAULT_STUDY
from landmarkflow.core.settings import Settings
from landmarkflow.registry import METHODS
from landmarkflow.study.config import StudyConfig, config_model, load_config
from landmarkflow.study.runs import MethodFacts, Run, read_yaml, runs_of
from landmarkflow.study.sheet import Scan
from landmarkflow.study.study import with_base

ROOT = Path(__file__).parent.parent
STUDIES = sorted((ROOT / "studies").glob("*.yaml"))
PRESETS = sorted((ROOT / "studies/presets").glob("*/*.yaml"))
MODELS = {name: method.settings for name, method in METHODS.items()}
FACTS = {m.name: MethodFacts(m.settings, m.shared, m.reads_runs) for m in METHODS.values()}
DEFAULT = read_yaml(ROOT / "config.yaml")
NOT_OF_THIS_STUDY = {"base", "data.folder", "data.sheet", "data.origin", "evaluate.length"}
NAMELESS = ("SheetSource", "Template", "LengthSettings")
# Where another name than the file's is meant: its results are the default study's.
NAMES = {"cochlea_ablation": "cochlea"}


def loaded(path: Path) -> tuple[StudyConfig, dict[str, Run]]:
    config = load_config(with_base(read_yaml(path), path.parent), MODELS)
    return config, runs_of(config, FACTS, ROOT / "studies/presets")


def models(annotation: Any) -> Iterator[type[Settings]]:
    """Every model of settings in an annotation, those within others too."""
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        yield annotation
        for field in annotation.model_fields.values():
            yield from models(field.annotation)
    for argument in get_args(annotation):
        yield from models(argument)


def test_config_yaml_states_the_defaults_of_the_models() -> None:
    found, expected = load_config(DEFAULT, MODELS), load_config(DEFAULT_STUDY, MODELS)
    assert found.model_dump() == expected.model_dump()


def sections(default: Settings) -> Iterator[tuple[str, ...]]:
    """Where each section lies below some settings."""
    for name in type(default).model_fields:
        if isinstance(value := getattr(default, name), Settings):
            yield (name,)
            yield from ((name, *below) for below in sections(value))


@pytest.mark.parametrize("method", MODELS)
def test_a_section_stated_in_part_keeps_its_other_defaults(method: str) -> None:
    default = MODELS[method]()
    for path in sections(default):
        section: Any = default.model_dump()
        for name in path:
            section = section[name]
        for key, value in section.items():
            stated: Any = {key: value}
            for name in reversed(path):
                stated = {name: stated}
            assert MODELS[method].model_validate(stated) == default, (path, key)


def test_config_yaml_states_every_setting_and_describes_it() -> None:
    config = load_config(DEFAULT, MODELS)
    assert set(_absent(config.model_dump(mode="json"), DEFAULT)) == NOT_OF_THIS_STUDY
    text = (ROOT / "config.yaml").read_text(encoding="utf-8")
    assert max(map(len, text.splitlines())) <= 100
    words = " ".join(text.replace("#", " ").split())
    for model in models(config_model(MODELS)):
        if model.__name__ not in NAMELESS and "Origin" not in model.__name__:
            for field in model.model_fields.values():
                assert " ".join(str(field.description).split()) in words


@pytest.mark.parametrize(
    "model", dict.fromkeys((*models(config_model(MODELS)), Scan)), ids=lambda m: m.__name__
)
def test_every_setting_is_described_in_words_that_end_without_a_full_stop(
    model: type[Settings],
) -> None:
    assert (model.__doc__ or "").partition("\n")[0].endswith(".")
    for name, field in model.model_fields.items():
        assert field.description, name
        assert not field.description.endswith("."), name


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_every_study_is_valid_and_named_as_its_file(path: Path) -> None:
    config, runs = loaded(path)
    assert config.study == NAMES.get(path.stem, path.stem)
    assert next(iter(runs)) in [name for name, method in METHODS.items() if not method.reads_runs]


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_every_preset_fits_its_method(path: Path) -> None:
    model = METHODS[path.parent.name].settings
    assert model.model_validate(read_yaml(path)) != model()


def test_the_ablation_shares_scans_and_first_run_with_the_default_study() -> None:
    default, runs = loaded(ROOT / "config.yaml")
    ablation, more = loaded(ROOT / "studies/cochlea_ablation.yaml")
    assert ablation.model_dump(exclude={"runs"}) == default.model_dump(exclude={"runs"})
    assert more["oneshot"] == runs["oneshot"]
    assert list(more) == ["oneshot", "oneshot-seed2", "oneshot-seed3"]


def test_a_variant_is_its_base_with_what_differs() -> None:
    base, _ = loaded(ROOT / "studies/mouse_skull.yaml")
    few, runs = loaded(ROOT / "studies/mouse_skull_few.yaml")
    apart = {"study", "base", "runs"}
    assert few.model_dump(exclude=apart) == base.model_dump(exclude=apart)
    assert runs["fused"].of == ("oneshot", "strain-129S1", "strain-129X1")
    fast, _ = loaded(ROOT / "studies/mouse_skull_fast.yaml")
    assert fast.data == base.data
    assert fast.of_method("oneshot") != base.of_method("oneshot")


def test_the_paper_s_settings_are_a_run_beside_the_default_ones() -> None:
    _, runs = loaded(ROOT / "studies/cochlea_paper.yaml")
    assert runs["oneshot"].settings == METHODS["oneshot"].settings()
    assert runs["paper"].settings.model_dump()["deform"]["method"] == "elastix"


def _absent(complete: dict[str, Any], stated: dict[str, Any], above: str = "") -> list[str]:
    found = []
    for key, value in complete.items():
        if key not in stated:
            found.append(above + key)
        elif isinstance(value, dict) and isinstance(stated[key], dict) and key != "runs":
            found += _absent(value, stated[key], f"{above}{key}.")
    return found
