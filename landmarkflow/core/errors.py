"""The two ways in which a scan or a study can go wrong without a defect in the program."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_CONTROLS = re.compile("[\\x00-\\x1f\\x7f-\\x9f\\u2028\\u2029\\ud800-\\udfff]")


class InputError(Exception):
    """Input that cannot be used.

    Its message is one sentence that names the file, the row or field, what was found and what
    was expected; the command line prints it without a traceback and exits with status 1. It stays
    on one line whatever it quotes: control characters stand in it as escapes.
    """

    def __init__(self, sentence: str) -> None:
        super().__init__(
            _CONTROLS.sub(lambda c: c[0].encode("unicode_escape").decode("ascii"), sentence)
        )


class ScanFailure(Exception):  # noqa: N818 - an outcome of the method, not an error of its use
    """The method finds no answer for one scan, for the reason that its message gives.

    The reason is recorded, the scan's landmarks are missing, and the study goes on.
    """


@contextmanager
def about(path: Path) -> Iterator[None]:
    """Names a file, or a folder, in each refusal that names neither it nor a file in it yet."""
    try:
        yield
    except InputError as error:
        name, said = str(InputError(str(path))), str(error)
        if said.startswith((f"{name}: ", f"{name}/")):
            raise
        raise InputError(f"{name}: {said}") from None
