"""The pinned environments: one lock, agreed with by every other place that names a version."""

import ast
import re
import sys
import tomllib
from importlib import import_module
from importlib.metadata import packages_distributions
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from landmarkflow.core.code_hash import modules_used
from landmarkflow.engine.stage import Stage
from landmarkflow.registry import STAGES

ROOT = Path(__file__).parents[1]
ENVS = ROOT / "envs"
CONDA_ENVIRONMENTS = ("imaging", "torch", "elastix", "report")


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def lock() -> list[str]:
    lines = (ENVS / "lock.txt").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if not line.startswith("#")]


def conda_environment(name: str) -> dict[str, list]:
    return yaml.safe_load((ENVS / f"{name}.yaml").read_text(encoding="utf-8"))


def pip_pins(name: str) -> list[str]:
    (pins,) = (d["pip"] for d in conda_environment(name)["dependencies"] if isinstance(d, dict))
    return pins


def direct_pins() -> dict[str, list[str]]:
    return tomllib.loads((ENVS / "pins.toml").read_text(encoding="utf-8"))


def names(pins: list[str]) -> set[str]:
    return {pin.partition("==")[0] for pin in pins}


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    spec = spec_from_file_location("generate", ENVS / "generate.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_lock_has_one_exact_version_of_each_package_and_no_local_build() -> None:
    pins = lock()
    assert [pin for pin in pins if not re.fullmatch(r"[a-z0-9-]+==[0-9][0-9a-z.]*", pin)] == []
    assert len(names(pins)) == len(pins)
    assert pins == sorted(pins, key=lambda pin: pin.partition("==")[0])


def test_direct_pins_are_in_the_lock() -> None:
    assert {pin for group in direct_pins().values() for pin in group} - set(lock()) == set()


@pytest.mark.parametrize("name", CONDA_ENVIRONMENTS)
def test_conda_environment_agrees_with_the_lock(name: str) -> None:
    assert set(pip_pins(name)) <= set(lock())
    assert {*direct_pins()["imaging"], *direct_pins()[name]} <= set(pip_pins(name))


@pytest.mark.parametrize("name", CONDA_ENVIRONMENTS)
def test_conda_environment_names_its_channel_and_its_python(name: str) -> None:
    environment = conda_environment(name)
    assert environment["channels"] == ["conda-forge"]
    assert environment["dependencies"][:2] == ["python=3.11", "pip"]


def test_files_are_what_make_lock_writes(generate: ModuleType) -> None:
    found = {name: (ENVS / name).read_text(encoding="utf-8") for name in generate.generated_files()}
    assert found == generate.generated_files()


def test_another_version_than_the_pin_is_refused(generate: ModuleType) -> None:
    with pytest.raises(ValueError, match=r"^numpy \S+ is installed, but numpy==1\.0 is needed$"):
        generate.closure(["numpy==1.0"])


def imported(path: Path) -> set[str]:
    """Top-level names of all that a file imports, other than Python's own."""
    modules = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            modules.add(node.module)
    return {module.partition(".")[0] for module in modules} - set(sys.stdlib_module_names)


@pytest.mark.parametrize("folder", ["landmarkflow", "tests"])
def test_everything_imported_has_a_direct_pin(folder: str) -> None:
    pinned = names([pin for group in direct_pins().values() for pin in group])
    distributions = packages_distributions()
    folders = (ROOT / "tests", ROOT / "benchmarks")
    own = {"landmarkflow", "docs"} | {
        path.stem for folder in folders for path in folder.glob("*.py")
    }
    unpinned = {
        f"{path.relative_to(ROOT)}: {module}"
        for path in (ROOT / folder).rglob("*.py")
        for module in imported(path) - own
        if not pinned & {canonical(name) for name in distributions.get(module, [])}
    }
    assert unpinned == set()


def test_package_depends_on_what_it_imports() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    depended = {canonical(re.match(r"[\w.-]+", line)[0]) for line in project["dependencies"]}
    modules = set().union(*(imported(path) for path in (ROOT / "landmarkflow").rglob("*.py")))
    distributions = packages_distributions()
    for module in modules - {"landmarkflow"}:
        assert depended & {canonical(name) for name in distributions[module]}, module
    pinned = direct_pins()
    assert depended <= names([pin for group in pinned.values() for pin in group])


def rules() -> list[tuple[Stage, str]]:
    """The stage of each rule and the name of the conda environment that it runs in."""
    lines = [
        line
        for path in sorted((ROOT / "workflow/rules").rglob("*.smk"))
        for line in path.read_text(encoding="utf-8").splitlines()
    ]
    found, modules, environment = {}, {}, ""
    for line in lines:
        if named := re.match(r"from (\S+) import stages as (\w+)", line):
            modules[named[2]] = named[1]
        elif named := re.search(r"envs/(\w+)\.yaml", line):
            environment = named[1]
        elif named := re.search(r"FLOW\.command\((\w+)\.(\w+)\)", line):
            stage = getattr(import_module(f"{modules[named[1]]}.stages"), named[2])
            found[stage.command] = (stage, environment)
    return list(found.values())


def test_every_stage_is_run_by_a_rule() -> None:
    assert {stage.command for stage, _ in rules()} == {stage.command for stage in STAGES}


@pytest.mark.parametrize(
    ("stage", "environment"), rules(), ids=lambda value: getattr(value, "name", "")
)
def test_conda_environment_of_a_rule_holds_what_its_command_imports(
    stage: Stage, environment: str
) -> None:
    # What people call is imported only where they call it.
    used = modules_used(stage.module) | modules_used("landmarkflow.engine.cli")
    used |= modules_used("landmarkflow.registry")
    used |= {name.rpartition(".")[0] for name in used}
    paths = [Path(find_spec(name).origin) for name in used]
    modules = set().union(*map(imported, paths)) - {"landmarkflow"}
    pinned = names(pip_pins(environment))
    distributions = packages_distributions()
    missing = {m for m in modules if not pinned & {canonical(d) for d in distributions[m]}}
    assert missing == set()
