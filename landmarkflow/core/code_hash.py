"""Which code made a result: a hash of a module and of all that it imports from this package."""

import ast
import hashlib
import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path

PACKAGE = "landmarkflow"
INDENTED_IMPORT = re.compile(r"^[ \t]+(?:from|import) ", re.MULTILINE)


@cache
def code_hash(module: str) -> str:
    """Hash of the source of a module and of every module of the package that it needs.

    Templates of pages count as part of the modules in whose folder `templates/` they lie.

    Args:
        module: its full name, for example `landmarkflow.commands.locate_region`.

    Returns:
        16 hexadecimal digits; they change when one of those files changes, and only then.
    """
    digest = hashlib.sha256()
    for name in sorted(modules_used(module)):
        digest.update(name.encode())
        source = _source(name)
        digest.update(source.read_bytes())
        for template in sorted(source.parent.glob("templates/*")):
            digest.update(template.read_bytes())
    return digest.hexdigest()[:16]


def modules_used(module: str) -> set[str]:
    """Names of a module and of all that it imports, directly or not, from this package."""
    used: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name not in used:
            used.add(name)
            waiting.extend(_imports(name))
    return used


@cache
def _imports(module: str) -> tuple[str, ...]:
    names: set[str] = set()
    source = _source(module).read_text(encoding="utf-8")
    tree = ast.parse(source)
    # Walking every node takes longer than parsing; few modules import below their top.
    for node in ast.walk(tree) if INDENTED_IMPORT.search(source) else tree.body:
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return tuple(n for n in sorted(names) if n.startswith(PACKAGE + ".") and _is_module(n))


@cache
def _is_module(name: str) -> bool:
    path = Path(__file__).parent.parent / Path(*name.split("."))
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


@cache
def _source(module: str) -> Path:
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"no source of the module {module}")
    return Path(spec.origin)
