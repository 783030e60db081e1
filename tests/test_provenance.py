import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import landmarkflow
from landmarkflow.core.code_hash import modules_used

COMMANDS = "landmarkflow.commands"
HASHES = """
import json, sys
from landmarkflow.core.code_hash import code_hash
print(json.dumps({name: code_hash(name) for name in sys.argv[1:]}))
"""
LOADED = """
import importlib, json, sys
importlib.import_module(sys.argv[1])
print(json.dumps([n for n, m in sys.modules.items() if n.startswith("landmarkflow.")
                  and not hasattr(m, "__path__")]))
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A copy of the package that can be edited."""
    copy = tmp_path / "landmarkflow"
    shutil.copytree(
        Path(landmarkflow.__file__).parent, copy, ignore=shutil.ignore_patterns("__pycache__")
    )
    return copy


def python(folder: Path, code: str, *arguments: str) -> list[str]:
    environment = os.environ | {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result: list[str] = json.loads(done.stdout)
    return result


def hashes(package: Path, *modules: str) -> list[str]:
    found = python(package.parent, HASHES, *(f"landmarkflow.{module}" for module in modules))
    return list(dict(found).values())


def append(path: Path, text: str) -> None:
    path.write_text(path.read_text(encoding="utf-8") + text, encoding="utf-8")


def test_a_hash_changes_with_a_used_module_and_with_no_other(package: Path) -> None:
    commands = ("commands.locate_regions", "commands.align_scans", "commands.place_landmarks")
    before = hashes(package, *commands)
    assert len(set(before)) == 3
    assert before == hashes(package, *commands)

    append(package / "oneshot/align.py", "# another\n")
    append(package / "cohort/shapes.py", "# another\n")
    locate, align, place = hashes(package, *commands)
    assert (locate, place) == (before[0], before[2])
    assert align != before[1]

    # locate_regions reaches files.py through records.py and volumes.py.
    append(package / "files.py", "# another\n")
    assert hashes(package, *commands)[0] != before[0]


def test_a_file_written_anew_with_the_same_content_changes_nothing(package: Path) -> None:
    before = hashes(package, "commands.locate_regions")
    text = (package / "volumes.py").read_bytes()
    (package / "volumes.py").unlink()
    (package / "volumes.py").write_bytes(text)
    assert hashes(package, "commands.locate_regions") == before


def test_imports_inside_functions_and_of_whole_modules_count(package: Path) -> None:
    (package / "used_late.py").write_text("VALUE = 1\n")
    (package / "used_whole.py").write_text("VALUE = 1\n")
    (package / "user.py").write_text(
        "from landmarkflow import used_whole\n\n\n"
        "def late():\n    import landmarkflow.used_late as late\n    return late.VALUE\n"
    )
    before = hashes(package, "user")
    (package / "used_late.py").write_text("VALUE = 2\n")
    between = hashes(package, "user")
    (package / "used_whole.py").write_text("VALUE = 2\n")
    assert len({*before, *between, *hashes(package, "user")}) == 3


def test_modules_that_import_each_other_have_a_hash(package: Path) -> None:
    (package / "one.py").write_text("import landmarkflow.two\n")
    (package / "two.py").write_text("import landmarkflow.one\n")
    one, two = hashes(package, "one", "two")
    assert len(one) == len(two) == 16


@pytest.mark.parametrize("command", ["locate_regions", "check_references", "place_landmarks"])
def test_all_that_a_command_loads_counts(command: str) -> None:
    name = f"{COMMANDS}.{command}"
    loaded = python(Path(landmarkflow.__file__).parent.parent, LOADED, name)
    assert name in loaded
    assert set(loaded) <= modules_used(name)


def test_locating_depends_on_its_own_stage_alone() -> None:
    used = modules_used(f"{COMMANDS}.locate_regions")
    assert {f"landmarkflow.{name}" for name in ("oneshot.locate", "volumes", "files")} <= used
    later = ("network", "train", "centre", "align", "deform", "landmarks")
    assert not used & {f"landmarkflow.methods.oneshot.{name}" for name in later}
    assert not [name for name in used if name.split(".")[1] in ("cohort", "evaluation", "report")]


def test_an_unknown_module_has_no_hash() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"landmarkflow\.nowhere"):
        modules_used("landmarkflow.nowhere")
