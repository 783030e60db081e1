"""What an ablation runs: a study, and presets beside it, each once for each seed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from landmarkflow.core.errors import InputError
from landmarkflow.study.study import StudyConfig


@dataclass(frozen=True)
class Training:
    """A preset under one seed.

    Attributes:
        study: name of its folder in `results/`; the preset's own where the seed is.
        preset: the study whose settings it has and whose scans it sees.
        seed: of the training.
        config: its configuration, before it is checked.
    """

    study: str
    preset: str
    seed: int
    config: Mapping[str, Any]

    @property
    def is_another(self) -> bool:
        """Whether it is another training than the one that the preset states."""
        return self.study != self.preset


def read_seeds(stated: object) -> tuple[int, ...]:
    """Seeds as the command line gives them, separated by spaces.

    Raises:
        InputError: there is none, one is no number of at least 0, or one stands twice.
    """
    texts = str(stated).split()
    if not texts or not all(text.isdecimal() for text in texts) or len(set(texts)) < len(texts):
        raise InputError(
            f"seeds is {stated!r}, expected different whole numbers separated by spaces, such as "
            '"1 2 3"'
        )
    return tuple(map(int, texts))


def read_preset(folder: Path, name: str) -> dict[str, Any]:
    """The configuration of a preset, before it is checked.

    Args:
        folder: of the studies.
        name: of a study in it, without .yaml.

    Raises:
        InputError: there is no such study, or it states no name.
    """
    path = folder / f"{name}.yaml"
    if not path.is_file():
        raise InputError(f"presets: there is no file {path}")
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(config, dict) or not isinstance(config.get("study"), str):
        raise InputError(f"{path}: states no `study`, expected its name")
    return config


def plan(presets: Sequence[Mapping[str, Any]], seeds: Sequence[int]) -> list[Training]:
    """All trainings of an ablation, seed by seed within each preset.

    Args:
        presets: configurations, the study's own first.
        seeds: what each of them is trained with.

    Raises:
        InputError: two presets have the same name, or one has several templates.
    """
    names = [preset["study"] for preset in presets]
    for name, preset in zip(names, presets, strict=True):
        if names.count(name) > 1:
            raise InputError(f"presets: the study {name} stands twice, expected once")
        if preset.get("templates"):
            raise InputError(f"the study {name} has further templates, an ablation is of one")
    return [
        _training(name, preset, seed)
        for name, preset in zip(names, presets, strict=True)
        for seed in seeds
    ]


def _training(name: str, preset: Mapping[str, Any], seed: int) -> Training:
    own = preset.get("seed", StudyConfig.model_fields["seed"].default)
    study = name if seed == own else f"{name}-seed{seed}"
    return Training(study, name, seed, {**preset, "study": study, "seed": seed})
