"""The two ways in which a scan or a study can go wrong without a defect in the program."""

import re

_CONTROLS = re.compile("[\\x00-\\x1f\\x7f-\\x9f\\u2028\\u2029\\ud800-\\udfff]")


def _escaped(control: re.Match[str]) -> str:
    return control[0].encode("unicode_escape").decode("ascii")


class InputError(Exception):
    """Input that cannot be used.

    Its message is one sentence that names the file, the row or field, what was found and what
    was expected; the command line prints it without a traceback and exits with status 1. It stays
    on one line whatever it quotes: control characters stand in it as escapes.
    """

    def __init__(self, sentence: str) -> None:
        super().__init__(_CONTROLS.sub(_escaped, sentence))


class ScanFailure(Exception):  # noqa: N818 - an outcome of the method, not an error of its use
    """The method finds no answer for one scan.

    Its message is the reason. It is recorded, the scan's landmarks are missing, and the study
    goes on.
    """
