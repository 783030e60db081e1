"""Arrows between the rooms of the package point one way, and a method is a room of its own."""

import ast
import re
from collections import defaultdict
from pathlib import Path

import pytest

from landmarkflow.registry import METHODS, STAGES

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "landmarkflow"
GROUND = {"core"}
FILES = GROUND | {"formats", "images"}
# What each room may import; the modules beside the rooms put them together.
MAY_IMPORT = {
    "core": set(),
    "images": GROUND,
    "formats": FILES,
    "learning": FILES,
    "engine": FILES,
    "cohorts": FILES,
    "study": FILES | {"cohorts", "evaluation", "report"},
    "data": FILES | {"engine", "cohorts"},
    "methods": FILES | {"engine", "learning", "data"},
    "evaluation": FILES | {"engine", "data"},
    "report": FILES | {"engine", "data", "evaluation"},
    # Puts a study and the stages of its methods together, as rules.
    "workflow": FILES | {"cohorts", "data", "engine", "study"},
    # Before and beside a run: they know the workflow, and nothing of a run knows them.
    "console": FILES | {"cohorts", "engine", "study", "workflow"},
    "packs": FILES | {"engine", "study", "data", "workflow", "registry"},
    # Beside a finished run: pages on which people look at it. It knows no study and no method.
    "review": FILES | {"evaluation"},
    "commands": FILES
    | {"engine", "study", "data", "evaluation", "report", "review"}
    | {"console", "packs", "workflow", "registry"},
}
ROOMS = sorted(path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists())


def imports(path: Path) -> list[ast.Import | ast.ImportFrom]:
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    return [node for node in nodes if isinstance(node, ast.Import | ast.ImportFrom)]


def names(node: ast.Import | ast.ImportFrom) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [f"{node.module}.{alias.name}" for alias in node.names]


def own_imports(path: Path) -> list[str]:
    found = [name for node in imports(path) for name in names(node)]
    return [name for name in found if name.startswith("landmarkflow.")]


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_what_lies_below_it(room: str) -> None:
    for path in (PACKAGE / room).rglob("*.py"):
        others = {name.split(".")[1] for name in own_imports(path)} - {room}
        # Settings of the evaluation and the report are part of a study; nothing else of them is.
        if room == "study":
            settings = [n for n in own_imports(path) if n.split(".")[1] in ("evaluation", "report")]
            assert all(name.split(".")[2] == "settings" for name in settings), path
        assert others <= MAY_IMPORT[room], path


def test_a_method_imports_no_other_method() -> None:
    for path in (PACKAGE / "methods").rglob("*.py"):
        own = path.relative_to(PACKAGE / "methods").parts[0]
        methods = [n for n in own_imports(path) if n.startswith("landmarkflow.methods.")]
        others = [name.split(".")[2] for name in methods]
        assert set(others) <= {own}, path


def test_rooms_import_each_other_in_no_circle() -> None:
    arrows: dict[str, set[str]] = defaultdict(set)
    for room in ROOMS:
        for path in (PACKAGE / room).rglob("*.py"):
            arrows[room] |= {name.split(".")[1] for name in own_imports(path)} - {room}

    def reached(room: str, seen: frozenset[str] = frozenset()) -> set[str]:
        found = arrows[room] - seen
        return found | {far for near in found for far in reached(near, seen | found)}

    assert [room for room in ROOMS if room in reached(room)] == []


def test_the_code_hash_sees_every_import() -> None:
    for path in PACKAGE.rglob("*.py"):
        froms = [node for node in imports(path) if isinstance(node, ast.ImportFrom)]
        relative = [node for node in froms if node.level]
        assert relative == [], path
        # The command line alone imports by name: the module of the one command that is run.
        dynamic = re.findall(r"import_module|__import__", path.read_text(encoding="utf-8"))
        assert not dynamic or path.name == "cli.py", path


def test_no_module_is_long() -> None:
    def length(path: Path) -> int:
        return len(path.read_text(encoding="utf-8").splitlines())

    assert [path.name for path in PACKAGE.rglob("*.py") if length(path) > 450] == []
    assert [path.name for path in (ROOT / "workflow").rglob("*.smk") if length(path) > 220] == []


def test_one_word_goes_through_a_stage() -> None:
    for stage in STAGES:
        assert stage.module.rpartition(".")[2] in (stage.name, MODULES.get(stage.name))
        own = [p for p in stage.writes.values() if p.startswith(("work/", "{run}/work/"))]
        folders = {p.removeprefix("{run}/").split("/")[1] for p in own}
        assert folders <= {stage.name, FOLDERS.get(stage.name)}, stage.name


# A stage that writes for people, or serves several, has its folder named for them.
FOLDERS = {"simulate": "data", "fetch": "data"}
MODULES = {"compare": "comparison"}


def test_settings_of_a_method_carry_the_names_of_its_stages() -> None:
    method = METHODS["oneshot"]
    keys = set(method.settings.model_fields)
    assert keys - {stage.name for stage in method.stages} == {"normalise"}


def test_evaluation_rules_name_no_stage_of_a_method() -> None:
    words = {stage.name for method in METHODS.values() for stage in method.stages}
    for path in (ROOT / "workflow/rules").glob("*.smk"):
        text = path.read_text(encoding="utf-8")
        assert re.findall(rf"\b({'|'.join(words)})\.", text) == [], path


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.command)
def test_a_stage_is_called_verb_and_object(stage: object) -> None:
    assert re.fullmatch(r"[a-z]+(_[a-z]+)+", stage.command)  # type: ignore[attr-defined]
