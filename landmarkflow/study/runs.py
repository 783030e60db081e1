"""The runs of a study: each a method with its settings, on the scans that all runs share."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from landmarkflow.core.errors import InputError
from landmarkflow.core.files import read_text
from landmarkflow.core.settings import Settings, explain, merged
from landmarkflow.study.config import RESERVED, RunEntry, StudyConfig


@dataclass(frozen=True)
class MethodFacts:
    """What a study must know of a method.

    Attributes:
        settings: the model of its settings.
        shared: names of settings of stages that all runs share.
        reads_runs: whether a run of it is made of other runs.
        needs_template: whether it starts from the template.
        learns_from: column of the sheet that a scan must have to be learned from, where it needs
            none.
    """

    settings: type[Settings]
    shared: tuple[str, ...] = ()
    reads_runs: bool = False
    needs_template: bool = True
    learns_from: str = "landmarks"


@dataclass(frozen=True)
class Run:
    """One run.

    Attributes:
        name: its folder in the results.
        entry: the name under which the study states it; runs that differ only in their seed share
            one, and are pooled in the tables.
        method: name of its method.
        seed: of training and registration.
        template: id of the scan that is its template.
        settings: of the method, with preset and the run's own on top.
        of: runs whose landmarks it reads.
        train: annotated scans that it learns from; None is all.
        train_on: the run whose answers it learns from, if one.
        preset: name of its preset, if it has one.
    """

    name: str
    entry: str
    method: str
    seed: int
    template: str
    settings: Settings
    of: tuple[str, ...] = ()
    train: int | None = None
    train_on: str = ""
    preset: str = ""


def runs_of(
    config: StudyConfig, methods: Mapping[str, MethodFacts], presets: Path
) -> dict[str, Run]:
    """All runs of a study, by name, each after those that it reads.

    Args:
        config: the study.
        methods: what there is to run.
        presets: folder with `<method>/<preset>.yaml`.

    Raises:
        InputError: a run names an unknown method, preset or run, overrules what all runs share, has
            a name that another run or a folder has, or reads itself by way of others.
    """
    runs: dict[str, Run] = {}
    for entry, stated in config.runs.items():
        for run in _expanded(entry, stated, config, methods, presets):
            if run.name in runs or run.name in RESERVED:
                raise InputError(f"config: `runs`: the name {run.name} is taken, expected another")
            runs[run.name] = run
    return _ordered(runs)


def _expanded(
    entry: str,
    stated: RunEntry,
    config: StudyConfig,
    methods: Mapping[str, MethodFacts],
    presets: Path,
) -> Iterator[Run]:
    """One run for each seed; that with the study's own seed has the entry's name."""
    where = f"config: `runs.{entry}`"
    if stated.method not in methods:
        raise InputError(
            f"{where}: the method is {stated.method!r}, expected one of {', '.join(methods)}"
        )
    facts = methods[stated.method]
    if facts.reads_runs != bool(stated.of):
        expected = "runs in `of`" if facts.reads_runs else "none"
        raise InputError(
            f"{where}: {stated.method} has {', '.join(stated.of) or 'no runs'} in `of`, expected "
            f"{expected}"
        )
    if stated.seed is not None and stated.seeds:
        raise InputError(f"{where}: states `seed` and `seeds`, expected one of them")
    if len(set(stated.seeds)) < len(stated.seeds):
        raise InputError(f"{where}: `seeds` are {list(stated.seeds)}, expected different ones")
    settings = _settings(where, stated, config, facts, presets)
    own = config.seed if stated.seed is None else stated.seed
    for seed in stated.seeds or (own,):
        yield Run(
            name=entry if seed == own else f"{entry}-seed{seed}",
            entry=entry,
            method=stated.method,
            seed=seed,
            template=stated.template,
            settings=settings,
            of=stated.of,
            train=stated.train,
            train_on=stated.train_on,
            preset=stated.preset,
        )


def _settings(
    where: str, stated: RunEntry, config: StudyConfig, facts: MethodFacts, presets: Path
) -> Settings:
    below = config.of_method(stated.method)
    above = merged(_preset(where, stated, presets), stated.settings)
    try:
        found = facts.settings.model_validate(merged(below.model_dump(exclude_unset=True), above))
    except ValidationError as error:
        raise InputError(f"{where}: settings: {explain(error)}") from None
    for name in facts.shared:
        if getattr(found, name) != getattr(below, name):
            raise InputError(
                f"{where}: overrules `{name}`, which all runs of a study share; state it under "
                f"`{stated.method}` for the whole study, or make another study"
            )
    return found


def _preset(where: str, stated: RunEntry, presets: Path) -> dict[str, Any]:
    if not stated.preset:
        return {}
    path = presets / stated.method / f"{stated.preset}.yaml"
    if not path.is_file():
        raise InputError(f"{where}: there is no preset {stated.preset!r} ({path})")
    return read_yaml(path)


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file that holds a mapping.

    Raises:
        InputError: it is missing, no YAML, or holds something else.
    """
    try:
        data = yaml.safe_load(read_text(path, "a YAML file"))
    except yaml.YAMLError as error:
        raise InputError(f"{path}: is no YAML ({' '.join(str(error).split())})") from None
    if not isinstance(data, dict):
        raise InputError(f"{path}: holds {str(data)[:80]!r}, expected keys and values")
    return data


def _ordered(runs: Mapping[str, Run]) -> dict[str, Run]:
    """The runs, each after those that it reads."""
    result: dict[str, Run] = {}

    def add(name: str, readers: tuple[str, ...]) -> None:
        if name in readers:
            raise InputError(
                f"config: `runs`: {' reads '.join((*readers, name))}, expected no circle"
            )
        run = runs[name]
        for other in (*run.of, *filter(None, [run.train_on])):
            if other not in runs:
                raise InputError(
                    f"config: `runs.{run.entry}`: there is no run {other!r}, expected one of "
                    f"{', '.join(runs)}"
                )
            add(other, (*readers, name))
        result.setdefault(name, run)

    for name in runs:
        add(name, ())
    return result
