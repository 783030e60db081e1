from pathlib import Path
from typing import Any

import pytest
import yaml

from landmarkflow.study.study import load_config

ROOT = Path(__file__).parent.parent
DEFAULT = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))
# What the default study is about; all else in config.yaml repeats the models' defaults.
CHOSEN = {
    "study": "cochlea",
    "batch_scans": 12,
    "data": {"cohort": {}},
    "evaluate": {"published": "wang2020"},
}
NOT_OF_THIS_STUDY = {"data.folder", "data.sheet", "data.origin"}


def test_config_yaml_states_the_defaults_of_the_models() -> None:
    assert load_config(DEFAULT) == load_config(CHOSEN)


def test_config_yaml_states_every_setting() -> None:
    absent = set(_absent(load_config(DEFAULT).model_dump(mode="json"), DEFAULT))
    assert absent == NOT_OF_THIS_STUDY


@pytest.mark.parametrize("path", sorted((ROOT / "studies").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_study_is_a_valid_configuration_named_as_its_file(path: Path) -> None:
    assert load_config(yaml.safe_load(path.read_text(encoding="utf-8"))).study == path.stem


def _absent(complete: dict[str, Any], stated: dict[str, Any], above: str = "") -> list[str]:
    found = []
    for key, value in complete.items():
        if key not in stated:
            found.append(above + key)
        elif isinstance(value, dict) and isinstance(stated[key], dict):
            found += _absent(value, stated[key], f"{above}{key}.")
    return found
