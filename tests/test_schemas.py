"""The schemas that editors use, and every other file that repeats what the code says."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from docs.reference import reference
from landmarkflow.registry import METHODS, STAGES
from landmarkflow.study.runs import read_yaml
from landmarkflow.study.sheet import SHEET_COLUMNS
from landmarkflow.study.study import with_base

ROOT = Path(__file__).parents[1]
STUDIES = [ROOT / "config.yaml", *sorted(ROOT.glob("studies/*.yaml"))]
STUDIES += sorted(ROOT.glob("tests/studies/*.yaml"))
REFERENCE = reference()


def findings(name: str, data: Any) -> list[str]:
    schema = json.loads((ROOT / "workflow/schemas" / name).read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    found = jsonschema.Draft202012Validator(schema).iter_errors(data)
    return [f"{error.json_path}: {error.message}" for error in found]


@pytest.mark.parametrize("name", REFERENCE)
def test_files_are_what_the_code_says(name: str) -> None:
    hint = "run: make reference"
    assert (ROOT / name).read_text(encoding="utf-8") == REFERENCE[name], hint


def test_pages_name_every_stage_and_every_method_s_settings() -> None:
    for stage in STAGES:
        row = f"| `{stage.name}` | {stage.what} | `{stage.command}` |"
        assert REFERENCE["docs/stages.md"].count(row) == 1
    for name, method in METHODS.items():
        for setting in method.settings.model_fields:
            page = REFERENCE["docs/configuration.md"].partition(f"## `{name}`")[2]
            assert f"| `{setting}` |" in page or f"| [`{setting}`](#" in page


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_every_study_fits_the_schema_alone_and_on_its_base(path: Path) -> None:
    alone = read_yaml(path)
    assert findings("config.schema.json", alone) == []
    assert findings("config.schema.json", with_base(alone, path.parent)) == []


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"study": "a", "data": {}, "sed": 1}, "$: Additional properties are not allowed ('sed'"),
        ({"study": "a"}, "$: 'data' is a required property"),
        ({"base": "b.yaml"}, "$: 'study' is a required property"),
        ({"study": "a b", "data": {}}, "$.study: 'a b' does not match"),
        ({"study": "a", "data": {}, "runs": {"b": {}}}, "$.runs.b: 'method' is a required"),
        (
            {"study": "a", "data": {}, "oneshot": {"train": {"epochs": 0}}},
            "$.oneshot.train.epochs: 0 is less than the minimum of 1",
        ),
        (
            {"study": "a", "data": {}, "oneshot": {"align": {"optimiser": "adam"}}},
            "$.oneshot.align.optimiser: 'adam' is not one of",
        ),
    ],
)
def test_schema_of_the_configuration_finds_the_key(config: dict[str, Any], said: str) -> None:
    (finding,) = findings("config.schema.json", config)
    assert finding.startswith(said)


def test_schema_of_the_sheet_describes_a_row_of_its_columns() -> None:
    name = "samples.schema.json"
    row: dict[str, Any] = dict.fromkeys(SHEET_COLUMNS, "")
    row |= {"scan": "p001", "image": "ct/p001.png", "scale": 12.5, "spacing": 4.0}
    assert findings(name, row) == []
    assert findings(name, row | {"sex": "f"}) != []
    assert findings(name, row | {"side": "up"}) == [
        "$.side: 'up' is not one of ['left', 'right', '']"
    ]
    assert findings(name, {"image": "ct/p001"}) == ["$: 'scan' is a required property"]
