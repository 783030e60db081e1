"""The base of all settings: checked, frozen, and refused in one sentence where they do not fit."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator


class Settings(BaseModel):
    """Base of all settings: frozen, an unknown key is an error, and so is NaN or infinity."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _completed(cls, stated: Any) -> Any:
        """What a section states, on top of that section's own defaults.

        They may be others than those of its class, which two sections may share.
        """
        if not isinstance(stated, Mapping):
            return stated
        whole = dict(stated)
        for name, field in cls.model_fields.items():
            if isinstance(field.default, Settings) and isinstance(whole.get(name), Mapping):
                whole[name] = merged(field.default.model_dump(), whole[name])
        return whole


def section(model: type[Settings], **values: Any) -> Any:
    """A field whose own settings stand at their defaults; the model's docstring describes it."""
    text = (model.__doc__ or "").partition("\n")[0].rstrip(".")
    return Field(model(**values), description=text[0].lower() + text[1:])


def explain(error: ValidationError) -> str:
    """Put pydantic's first finding into one sentence, with the number of others."""
    first, *others = error.errors()
    key = ".".join(str(part) for part in first["loc"]) or "the whole"
    if first["type"] == "extra_forbidden":
        text = f"`{key}` is not a known key"
    elif first["type"] == "missing":
        text = f"`{key}` is missing"
    else:
        message = first["msg"].removeprefix("Value error, ")
        text = f"`{key}` is {first['input']!r}: {message[0].lower()}{message[1:]}"
    return text + (f" (and {len(others)} more)" if others else "")


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Settings `above` on top of others: mappings are merged key by key, the rest is replaced."""
    result = dict(below)
    for key, value in above.items():
        old = result.get(key)
        both = isinstance(old, Mapping) and isinstance(value, Mapping)
        result[key] = merged(old, value) if both else value  # type: ignore[arg-type]
    return result
