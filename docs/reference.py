"""What the code says of settings and stages, written where people and editors look for it.

From the models and their descriptions: `config.yaml`, the schemas, the page of the settings; from
the stages: their tables.
"""

import json
import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, get_args, get_origin

import yaml
from pydantic.fields import FieldInfo

from landmarkflow.core.files import write_text
from landmarkflow.core.settings import Settings
from landmarkflow.data.stages import STAGES as SHARED
from landmarkflow.engine.stage import Stage
from landmarkflow.evaluation.stages import STAGES as EVALUATION
from landmarkflow.registry import METHODS
from landmarkflow.report.stages import STAGES as REPORT
from landmarkflow.study.config import config_model, load_config
from landmarkflow.study.sheet import Scan

ROOT = Path(__file__).parents[1]
# What the default study is about; all else in config.yaml is the models' default.
DEFAULT_STUDY: Mapping[str, Any] = {
    "study": "cochlea",
    "data": {"cohort": {}, "landmarks": ["CENTER", "TOP", "WINDOW"]},
    "runs": {"oneshot": {"method": "oneshot"}},
    "evaluate": {"published": "wang2020"},
}
# Settings that the default study does not state: they would name what it does not have.
LEFT_OUT = ("base", "folder")
WIDTH = 100
# Where comments at the end of a line begin, unless the line is longer.
COMMENT_COLUMN = 28
DIALECT = "https://json-schema.org/draft/2020-12/schema"

CONFIG_HEAD = """\
# The default study: a simulated cohort of temporal bones, made by the workflow itself. Its ears
# have a fourth landmark, oval_window, which the paper's Table 1 has not.
# Every setting with its default; a study file states only what differs. An unknown key is an
# error. `make reference` writes this file: defaults and descriptions stand in the code.

"""
SETTINGS_HEAD = """\
# Settings

Every setting stands in `config.yaml` at the top of the repository, with its default and what it
means; a study file in `studies/` states only what differs. An unknown key is an error, and so is
a value of the wrong type or range: the run stops before it starts, in one sentence that names the
key.

Lengths are in mm unless a setting's description says otherwise, intensities in the scans' own
units (HU in CT).

What holds for a run: its own `settings`; where they say nothing, its preset; then the study file,
the study file that `base` names, and the defaults below. On the command line,
`--config data_folder=<folder>` takes the scans of a folder instead of those that `data` names, and
`--config "seeds=1 2 3"` makes each run once for every one of these seeds.

In the headings, `*` stands for each entry of a list, or for the name of each. `make reference`
writes this page from the code.
"""
STAGES_HEAD = """\
# Stages

What each stage reads and writes, in `results/<study>/`: `<run>` is the run, `<scan>` each scan of
a batch, `<template>` the scan that is the run's template (`template`, unless the run names
another), `<of>` each run that is read. A stage that writes nothing below `<run>` is run once for
all runs. One that is "shared where alike" is run once for the runs in which all is alike that
decides its results; its files lie with the first of them. It is run again for a scan where a
setting, a column of the sheet or a file that it reads has changed, or its code. Each stage is a
rule of the workflow, and a command: `landmarkflow <rule> --help`. `make reference` writes this page
from the code.
"""


def main() -> None:
    """Write every file that repeats what the code says."""
    for name, text in reference().items():
        write_text(ROOT / name, text)


def reference() -> dict[str, str]:
    """Text of each file, by its path in the repository."""
    methods = {name: method.settings for name, method in METHODS.items()}
    model, default = config_model(methods), load_config(DEFAULT_STUDY, methods)
    return {
        "config.yaml": CONFIG_HEAD + "\n".join(_settings_lines(default)) + "\n",
        "workflow/schemas/config.schema.json": _as_json(_study_schema(model)),
        "workflow/schemas/samples.schema.json": _as_json(Scan.model_json_schema()),
        "docs/configuration.md": settings_page(model),
        "docs/stages.md": stages_page(),
    }


def settings_page(model: type[Settings]) -> str:
    """A table for each model of settings, as a page in Markdown."""
    places: dict[type[Settings], list[str]] = {}
    for path, inner in _sections(model):
        places.setdefault(inner, []).append(path)
    headings = {inner: ", ".join(f"`{path}`" for path in p) for inner, p in places.items()}
    headings |= {model: "The study", Scan: "Columns of a sheet of scans"}
    text = [SETTINGS_HEAD]
    for inner, heading in headings.items():
        text += [f"## {heading}\n"]
        if inner is not model:
            text += [_first_line(inner) + "\n"]
        rows = (_setting_row(name, f, headings) for name, f in inner.model_fields.items())
        text += [_table(("setting", "default", "description"), rows)]
    return "\n".join(text)


def stages_page() -> str:
    """A table for the stages of all runs, of each method and of the results, in Markdown."""
    tables: dict[str, tuple[Stage, ...]] = {"Shared by all runs": SHARED}
    tables |= {f"Method `{name}`": method.stages for name, method in METHODS.items()}
    tables["Evaluation and report"] = (*EVALUATION, *REPORT)
    columns = ("stage", "does", "rule", "reads", "writes", "settings", "module")
    text = [STAGES_HEAD]
    for heading, stages in tables.items():
        text += [f"## {heading}\n", _table(columns, map(_stage_row, stages))]
    return "\n".join(text)


def _study_schema(model: type[Settings]) -> dict[str, Any]:
    """Schema of a study file: one that is a variant of another need not say where its scans are.

    What holds between two settings, as that one lies below the other, only the models check.
    """
    schema = model.model_json_schema()
    schema["required"].remove("data")
    whole = {"if": {"not": {"required": ["base"]}}, "then": {"required": ["data"]}}
    return schema | whole


def _as_json(schema: Mapping[str, Any]) -> str:
    return json.dumps({"$schema": DIALECT, **schema}, indent=1, ensure_ascii=False) + "\n"


def _settings_lines(settings: Settings, depth: int = 0) -> Iterator[str]:
    """Lines of YAML with every setting and its description as a comment."""
    indent = "  " * depth
    for name, field in type(settings).model_fields.items():
        value, text = getattr(settings, name), field.description or ""
        inner = _models_in(field.annotation)
        if inner and not depth:
            yield ""
        if name in LEFT_OUT or (inner and value is None):
            yield from _comment(f"{name}: {text}", indent)
        elif isinstance(value, Settings):
            yield from _commented(f"{indent}{name}:", text)
            yield from _settings_lines(value, depth + 1)
        elif inner:
            yield from _comment(f"{text}; of each:", indent)
            for each, of_each in inner[0].model_fields.items():
                yield from _comment(f"{each}: {of_each.description}", indent, "#   ")
            yield f"{indent}{name}:"
            yield from _entries(value, indent + "  ")
        else:
            yield from _commented(f"{indent}{name}: {_flow(value)}", text)


def _entries(values: Any, indent: str) -> Iterator[str]:
    """A line of YAML for each model of a list, or of a mapping by name."""
    named = values.items() if isinstance(values, Mapping) else (("-", each) for each in values)
    for name, each in named:
        key = "- " if name == "-" else f"{name}: "
        # A value stays on the line of its key.
        words = (key + _flow(each)).replace(": ", ":\N{NO-BREAK SPACE}")
        lines = textwrap.wrap(words, WIDTH, initial_indent=indent, subsequent_indent=indent + "   ")
        yield from (line.replace("\N{NO-BREAK SPACE}", " ") for line in lines)


def _commented(line: str, text: str) -> Iterator[str]:
    """A line with a comment at its end, or above where that is too long."""
    whole = f"{line:<{COMMENT_COLUMN - 2}}  # {text}"
    if len(whole) <= WIDTH:
        yield whole
    else:
        yield from _comment(text, line[: len(line) - len(line.lstrip())])
        yield line


def _comment(text: str, indent: str, mark: str = "# ") -> list[str]:
    first = indent + mark
    return textwrap.wrap(text, WIDTH, initial_indent=first, subsequent_indent=first)


def _flow(value: Any) -> str:
    """A value, or what a model states, as YAML in one line."""
    options = {"default_flow_style": True, "sort_keys": False, "width": 10**6}
    return str(yaml.safe_dump([_plain(value)], **options))[1:-2]


def _plain(value: Any) -> Any:
    if isinstance(value, Settings):
        return value.model_dump(mode="json", exclude_unset=True)
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, tuple) else value


def _sections(model: type[Settings], path: str = "") -> Iterator[tuple[str, type[Settings]]]:
    """Every model of settings within one, with the path at which it stands."""
    yield path, model
    for name, field in model.model_fields.items():
        each = ".*" if get_origin(field.annotation) in (tuple, dict) else ""
        for inner in _models_in(field.annotation):
            yield from _sections(inner, f"{path}.{name}{each}".removeprefix("."))


def _models_in(annotation: Any) -> list[type[Settings]]:
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        return [annotation]
    return [inner for argument in get_args(annotation) for inner in _models_in(argument)]


def _setting_row(
    name: str, field: FieldInfo, headings: Mapping[type[Settings], str]
) -> tuple[str, ...]:
    inner = _models_in(field.annotation)
    cell = f"[`{name}`](#{_anchor(headings[inner[0]])})" if inner else f"`{name}`"
    if field.is_required():
        default = "required"
    else:
        default = (
            "see there" if isinstance(field.default, Settings) else f"`{_flow(field.default)}`"
        )
    return cell, default, field.description or ""


def _stage_row(stage: Stage) -> tuple[str, ...]:
    reads = [_place(stage, role, pattern) for role, pattern in stage.reads.items()]
    reads += [f"{_place(stage, '', pattern)} of a few scans" for pattern in stage.peers.values()]
    reads += [_place(stage, "", pattern) for pattern in stage.of.values()]
    set_by = [_setting(stage, name) for name in stage.settings]
    set_by += [f"column `{name}`" for name in stage.columns]
    return (
        f"`{stage.name}`",
        stage.what,
        f"`{stage.command}`",
        "<br>".join(dict.fromkeys(reads)),
        "<br>".join(_place(stage, role, pattern) for role, pattern in stage.writes.items()),
        ", ".join(set_by) + ("; shared where alike" if stage.once else ""),
        f"`{stage.module.removeprefix('landmarkflow.')}`",
    )


def _setting(stage: Stage, name: str) -> str:
    """A setting that decides a stage's results, without the parts of it that do not."""
    apart = [f"`{path}`" for path in stage.apart_from if path.startswith(f"{name}.")]
    return f"`{name}`" + (f" (apart from {', '.join(apart)})" if apart else "")


def _place(stage: Stage, role: str, pattern: str) -> str:
    """A pattern of paths as people write it."""
    text = pattern.replace("{", "<").replace("}", ">")
    return f"`{text}`" + (" (under some settings)" if role in stage.only_if else "")


def _table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    header = list(columns)
    lines = [header, ["---"] * len(header)]
    lines += [[_escaped(cell) for cell in row] for row in rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _escaped(cell: str) -> str:
    """A cell whose text outside code is no HTML, but for the breaks between lines."""
    cell = re.sub(r"`[^`]*`|<(?!br>)", lambda m: "&lt;" if m[0] == "<" else m[0], cell)
    return cell.replace("|", "\\|")


def _first_line(model: type[Settings]) -> str:
    return (model.__doc__ or "").partition("\n")[0]


def _anchor(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


if __name__ == "__main__":
    main()
