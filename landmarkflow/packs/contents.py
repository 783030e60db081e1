"""What a pack holds: the stages that a new scan goes through, and the files that they read.

A pack is a zip of `pack.json` and of files as a study's results folder has them. Which stages there
are, and which files each reads and writes, is said by the program, not by the pack.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, ValidationError

from landmarkflow.core.code_hash import code_hash
from landmarkflow.core.errors import InputError
from landmarkflow.core.settings import Settings, explain
from landmarkflow.engine.stage import Places, Stage
from landmarkflow.study.config import Digest, Identifier, ScanId, Side, Unit

NAME = "pack.json"
FORMAT = 1
# Parts of a file's path below the results folder: no part is empty, or begins with a dot.
PATH = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)+")
# What a stage writes of a scan that people want, by the role that it has in a stage that writes it.
PRODUCTS = ("landmarks", "record", "found", "picture")
Code = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{16}$")]
FilePath = Annotated[str, StringConstraints(pattern=rf"^{PATH.pattern}$", max_length=240)]


class Part(Settings):
    """A stage as it is run for a new scan."""

    command: str = Field(description="its command")
    code: Code = Field(description="the hash of the code that made the run")
    run: str = Field(pattern="^[A-Za-z0-9_-]*$", description="name of its run; empty for a shared")
    template: ScanId = Field(description="the scan that is the run's template")
    side: Side = Field("", description="the side that the template shows")
    values: dict[str, Any] = Field({}, description="its settings by name")
    peers: tuple[ScanId, ...] = Field((), description="scans of the study that it reads, too")
    of: tuple[Identifier, ...] = Field((), description="runs that it reads")


class PackedFile(Settings):
    """A file of a pack."""

    size: int = Field(ge=0, description="bytes")
    sha256: Digest = Field(description="digest of its content")


class Contents(Settings):
    """`pack.json`."""

    format: Literal[1] = Field(description="of the pack")
    study: Identifier = Field(description="the study that made it")
    run: Identifier = Field(description="its run")
    method: Identifier = Field(description="the run's method")
    unit: Unit = Field(description="of radii")
    largest_gib: float = Field(gt=0, le=1024, description="that a scan may hold in memory")
    parts: tuple[Part, ...] = Field(min_length=1, max_length=200, description="in their order")
    files: dict[FilePath, PackedFile] = Field(max_length=20_000, description="beside pack.json")
    known: dict[ScanId, str] = Field(
        {}, description="digests of the scans that it learned from, or that its stages read, too"
    )


def contents_of(text: bytes, stages: Mapping[str, Stage]) -> Contents:
    """Check a `pack.json`.

    Args:
        text: its bytes.
        stages: every stage by its command.

    Raises:
        InputError: it is none of a pack that this program can use.
    """
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        raise InputError(f"{NAME} is no JSON, expected a pack that landmarkflow wrote") from None
    found = data.get("format") if isinstance(data, dict) else None
    if found != FORMAT:
        raise InputError(f"{NAME} states the format {found!r}, expected {FORMAT}")
    try:
        contents = Contents.model_validate_json(text)
    except ValidationError as error:
        raise InputError(f"{NAME}: {explain(error)}") from None
    for part in contents.parts:
        if part.command not in stages:
            raise InputError(f"{NAME} names the stage {part.command!r}, which there is not")
    return contents


def other_code(contents: Contents, stages: Mapping[str, Stage]) -> list[str]:
    """Commands of the stages whose code is another than that which made the run."""
    return [p.command for p in contents.parts if p.code != code_hash(stages[p.command].module)]


def has_role(part: Part, stage: Stage, role: str) -> bool:
    """Whether a part reads or writes a role under its settings."""
    return stage.has(role, part.values)


def patterns_read(part: Part, stage: Stage) -> list[str]:
    """Patterns of the files that a part reads of a scan, with run, template and peers put in."""
    run, template = part.run, part.template
    of_scan = [p for role, p in stage.reads.items() if has_role(part, stage, role)]
    of_peers = [p.replace("{scan}", peer) for p in stage.peers.values() for peer in part.peers]
    of_runs = [
        pattern.replace("{of}", of)
        for role, pattern in stage.of.items()
        for of in part.of
        if has_role(part, stage, role)
    ]
    found = of_scan + of_peers + of_runs
    return [p.replace("{run}", run).replace("{template}", template) for p in found]


def patterns_written(part: Part, stage: Stage) -> dict[str, str]:
    """Pattern of each role that a part writes of a scan, with its run put in."""
    return {
        role: pattern.replace("{run}", part.run).replace("{template}", part.template)
        for role, pattern in stage.writes.items()
        if has_role(part, stage, role)
    }


def needed(
    parts: Sequence[Part], stages: Mapping[str, Stage], products: Sequence[str]
) -> tuple[list[Part], list[str]]:
    """The parts without which there are no products, and the files that they read beside these.

    Args:
        parts: all that a study runs for a scan, each after those whose files it reads.
        stages: every stage by its command.
        products: patterns of the files that are wanted.

    Returns:
        Those parts in their order, and the paths of the other files, which no part writes.
    """
    wanted, kept = list(products), []
    for part in reversed(parts):
        stage = stages[part.command]
        if set(patterns_written(part, stage).values()) & set(wanted):
            kept.append(part)
            wanted += patterns_read(part, stage)
    return kept[::-1], sorted({path for path in wanted if "{scan}" not in path})


def places_of(part: Part, results: Any) -> Places:
    """Where the files of a part's run lie below a results folder."""
    return Places(results, part.run, part.template)
