"""Some of many, where all are too many to show."""

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


def evenly(values: Sequence[T], count: int) -> list[T]:
    """So many of the values, evenly spread over them, in their order; all where there are fewer."""
    count = min(count, len(values))
    return [values[int((number + 0.5) * len(values) / count)] for number in range(count)]
