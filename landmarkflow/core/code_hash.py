"""Which code made a result: a hash of a module and of all that it imports from this package."""

import ast
import hashlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

PACKAGE = "landmarkflow"
ROOT = Path(__file__).parents[2]


@cache
def code_hash(module: str) -> str:
    """Returns a hash of the code of a module, by its full name, and of all it imports from here.

    It has 16 hexadecimal digits, and changes with Python's grammar as well. Comments, docstrings
    and the layout of lines do not count; templates of pages do, byte by byte, as part of the
    modules in whose folder `templates/` they lie. An unknown module is a ModuleNotFoundError.
    """
    digest = hashlib.sha256()
    for name in sorted(modules_used(module)):
        digest.update(f"{name} {_read(name)[0]}\n".encode())
    return digest.hexdigest()[:16]


def modules_used(module: str) -> set[str]:
    """Returns the names of the modules of which `code_hash` is the hash."""
    used: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name not in used:
            used.add(name)
            waiting.extend(_read(name)[1])
    return used


@cache
def _read(module: str) -> tuple[str, tuple[str, ...]]:
    """Returns the hash of a module's own code and templates, and the modules that it imports."""
    source = _source(module)
    if source is None:
        raise ModuleNotFoundError(f"no source of the module {module}")
    tree = ast.parse(source.read_bytes())
    names: set[str] = set()
    for node in _statements(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            match node.body:
                case [ast.Expr(value=ast.Constant(value=str())), *code]:
                    node.body = code
    digest = hashlib.sha256(ast.dump(tree).encode())
    for template in sorted(source.parent.glob("templates/*")):
        digest.update(template.read_bytes())
    return digest.hexdigest(), tuple(name for name in names if _source(name))


def _statements(node: ast.AST) -> Iterator[ast.AST]:
    """Yields a node and all statements in it, in a tenth of the time of a walk over every node."""
    yield node
    for field in ("body", "orelse", "finalbody", "handlers", "cases"):
        for child in getattr(node, field, ()):
            yield from _statements(child)


@cache
def _source(name: str) -> Path | None:
    """Returns the file of a module of the package, None for anything else."""
    path = ROOT.joinpath(*name.split("."))
    files = (path.with_suffix(".py"), path / "__init__.py")
    found = (file for file in files if file.is_file())
    return next(found, None) if name.partition(".")[0] == PACKAGE else None
