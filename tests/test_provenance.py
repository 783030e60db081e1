import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import landmarkflow
from landmarkflow.core.code_hash import modules_used

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


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def test_a_hash_changes_with_a_used_module_and_with_no_other(package: Path) -> None:
    modules = ("images.masks", "images.bsplines", "formats.tables")
    before = hashes(package, *modules)
    assert len(set(before)) == 3
    assert before == hashes(package, *modules)

    edit(package / "formats/tables.py", '"the centre', '"The centre')
    edit(package / "images/bsplines.py", "ORDER = 3", "ORDER = 2")
    masks, bsplines, tables = hashes(package, *modules)
    assert masks == before[0]
    assert bsplines != before[1]
    assert tables != before[2]

    # All three reach it.
    edit(package / "core/errors.py", "class ScanFailure", "ANOTHER = 1\n\n\nclass ScanFailure")
    assert not {*before} & {*hashes(package, *modules)}


def test_comments_docstrings_and_the_layout_change_nothing(package: Path) -> None:
    path = package / "words.py"
    path.write_text(
        '"""A module."""\n\n\nclass Word:\n    """A class."""\n\n'
        '    def read(self):\n        """A method."""\n        return ["a", "b"]\n\n'
        '    async def write(self):\n        """Another."""\n        return "c"\n'
    )
    before = hashes(package, "words")
    for old, new in [
        ('"""A module."""', '"""Another module."""'),
        ('"""A class."""', "# A comment."),
        ('"""A method."""\n', ""),
        ('"""Another."""', '"""A method, too."""  # Said here.'),
        ('["a", "b"]', '[\n            "a",\n            "b",\n        ]'),
    ]:
        edit(path, old, new)
        assert hashes(package, "words") == before
    for old, new in [('"c"', '"d"'), ('"a"', '"e"'), ("read", "reads"), ("async def", "def")]:
        edit(path, old, new)
        after = hashes(package, "words")
        assert after != before
        before = after


def test_texts_that_are_no_docstrings_count(package: Path) -> None:
    (package / "words.py").write_text('def word():\n    """A docstring."""\n    "a text"\n')
    before = hashes(package, "words")
    edit(package / "words.py", "a text", "another")
    assert hashes(package, "words") != before


def test_a_template_of_a_page_counts_byte_by_byte(package: Path) -> None:
    before = hashes(package, "report.page", "images.masks")
    template = next((package / "report/templates").iterdir())
    template.write_bytes(template.read_bytes() + b"\n")
    page, masks = hashes(package, "report.page", "images.masks")
    assert page != before[0]
    assert masks == before[1]


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


@pytest.mark.parametrize("module", ["methods.oneshot.locate", "report.page", "formats.volumes"])
def test_all_that_a_module_loads_counts(module: str) -> None:
    name = f"landmarkflow.{module}"
    loaded = python(Path(landmarkflow.__file__).parent.parent, LOADED, name)
    assert name in loaded
    assert set(loaded) <= modules_used(name)


def test_a_method_s_stage_depends_on_what_it_uses_alone() -> None:
    used = modules_used("landmarkflow.methods.oneshot.locate")
    assert {"landmarkflow.formats.volumes", "landmarkflow.core.files"} <= used
    later = ("network", "train", "centre", "align", "deform", "landmarks")
    assert not used & {f"landmarkflow.methods.oneshot.{name}" for name in later}
    assert not [name for name in used if name.split(".")[1] in ("cohorts", "evaluation", "report")]


def test_an_unknown_module_has_no_hash() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"landmarkflow\.nowhere"):
        modules_used("landmarkflow.nowhere")
