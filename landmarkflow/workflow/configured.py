"""The study that a configuration and the command line state."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from landmarkflow.core.errors import InputError
from landmarkflow.core.settings import merged
from landmarkflow.engine.method import Method
from landmarkflow.study.folder import Tell
from landmarkflow.study.runs import MethodFacts
from landmarkflow.study.study import Study, load_study, with_base


def study_of(
    settings: Mapping[str, Any],
    methods: Mapping[str, Method],
    results: Path,
    studies: Path,
    tell: Tell = lambda line: None,
) -> Study:
    """The study of a configuration and of what the command line says beside it.

    Args:
        settings: the configuration; `data_folder` overrules where its scans are, `seeds` how often
            each of its runs is made.
        methods: every method.
        results: folder of all studies' results.
        studies: folder of the study files, for `base`, with `presets/`.
        tell: is told what the user should know and is not wrong, a line each.

    Raises:
        InputError: anything in it is wrong, in one sentence.
    """
    stated = with_base(settings, studies)
    if folder := stated.pop("data_folder", None):
        stated = merged(stated, {"data": {"folder": str(folder)}})
    if (seeds := stated.pop("seeds", None)) is not None:
        stated["runs"] = _with_seeds(stated.get("runs"), str(seeds))
    facts = {
        m.name: MethodFacts(m.settings, m.shared, m.reads_runs, m.needs_template, m.learns_from)
        for m in methods.values()
    }
    return load_study(stated, facts, results, studies / "presets", tell)


def _with_seeds(runs: Any, seeds: str) -> Any:
    """The runs of a study, each that reads no other once for every seed."""
    numbers = seeds.split()
    if not numbers or not all(number.isdecimal() for number in numbers):
        raise InputError(
            f"seeds is {seeds!r}, expected different whole numbers separated by spaces, such as "
            '"1 2 3"'
        )
    stated = runs or {"oneshot": {"method": "oneshot"}}
    if not isinstance(stated, Mapping):
        return stated
    several = {"seeds": [int(number) for number in numbers]}
    alone = [n for n, run in stated.items() if isinstance(run, Mapping) and not run.get("of")]
    return merged(stated, dict.fromkeys(alone, several))
