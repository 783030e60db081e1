"""The two ways in which a scan or a study can go wrong without a defect in the program."""


class InputError(Exception):
    """Input that cannot be used.

    Its message is one sentence that names the file, the row or field, what was found and what
    was expected; the command line prints it without a traceback and exits with status 1.
    """


class ScanFailure(Exception):  # noqa: N818 - an outcome of the method, not an error of its use
    """The method finds no answer for one scan.

    Its message is the reason. It is recorded, the scan's landmarks are missing, and the study
    goes on.
    """
