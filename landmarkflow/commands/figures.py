"""`landmarkflow figures`: the curves of a finished study as figures for a paper."""

from pathlib import Path

from landmarkflow.commands.review import study_at
from landmarkflow.commands.studies import say
from landmarkflow.core.errors import InputError, about
from landmarkflow.registry import METHODS
from landmarkflow.report.paper import write_figures


def figures(folder: Path, output: Path) -> int:
    """Draw a study's curves at the widths of one and two columns, as PDF and as PNG.

    Args:
        folder: of a finished study, results/<study>.
        output: folder of the figures.

    Raises:
        InputError: the study is not finished, or has nothing to draw.
    """
    study, folder = study_at(folder), folder.resolve()
    runs = {name: folder / name for name in study.runs}
    for name, home in runs.items():
        if not (home / "made.json").is_file():
            raise InputError(f"{home}: holds no made.json, expected the finished run {name}")
    histories = {
        name: {
            what: folder / pattern.format(run=name)
            for what, pattern in METHODS[run.method].histories.items()
            if (folder / pattern.format(run=name)).is_file()
        }
        for name, run in study.runs.items()
    }
    with about(folder):
        written = write_figures(runs, histories, output)
    say(f"{len(written)} files: {output}")
    return 0
