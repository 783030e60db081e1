import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from landmarkflow.commands.write_schemas import schemas
from landmarkflow.study.study import SHEET_COLUMNS

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "workflow" / "schemas"
STUDIES = [ROOT / "config.yaml", *sorted(ROOT.glob("studies/*.yaml"))]
STUDIES += sorted(ROOT.glob("tests/studies/*.yaml"))


def validator(name: str) -> jsonschema.Draft202012Validator:
    schema = json.loads((FOLDER / name).read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def findings(name: str, data: Any) -> list[str]:
    return [f"{error.json_path}: {error.message}" for error in validator(name).iter_errors(data)]


def test_schemas_are_what_the_models_say() -> None:
    found = {path.name: json.loads(path.read_text("utf-8")) for path in FOLDER.iterdir()}
    hint = "run: python -m landmarkflow write_schemas --folder workflow/schemas"
    assert found == schemas(), hint


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_every_study_fits_the_schema(path: Path) -> None:
    assert findings("config.schema.json", yaml.safe_load(path.read_text("utf-8"))) == []


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"study": "a", "data": {}, "sed": 1}, "$: Additional properties are not allowed ('sed'"),
        ({"study": "a"}, "$: 'data' is a required property"),
        ({"study": "a b", "data": {}}, "$.study: 'a b' does not match"),
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
    row = dict.fromkeys(SHEET_COLUMNS, "") | {"scan": "p001", "image": "ct/p001"}
    assert findings(name, row) == []
    assert findings(name, row | {"sex": "f"}) != []
    assert findings(name, row | {"side": "up"}) == [
        "$.side: 'up' is not one of ['left', 'right', '']"
    ]
    assert findings(name, {"image": "ct/p001"}) == ["$: 'scan' is a required property"]
