"""`landmarkflow pack`: a finished run as one file, which needs nothing else."""

from pathlib import Path

from landmarkflow.commands.studies import PROGRAM, ROOT, say, tell
from landmarkflow.console.estimate import size_in_words
from landmarkflow.core.errors import InputError
from landmarkflow.packs.pack import pack
from landmarkflow.registry import METHODS, STAGES
from landmarkflow.study.runs import read_yaml
from landmarkflow.workflow.configured import study_of
from landmarkflow.workflow.rules import Workflow

SUFFIX = ".lmk"


def pack_run(folder: Path, path: Path) -> int:
    """Pack a run.

    Args:
        folder: of the run, results/<study>/<run>.
        path: the file to write.

    Raises:
        InputError: the folder is none of a finished run, or the path has another suffix.
    """
    if path.suffix != SUFFIX:
        raise InputError(f"-o {path}: has the suffix {path.suffix!r}, expected {SUFFIX}")
    folder = folder.resolve()
    settings = folder.parent / "config.yaml"
    if not (folder / "made.json").is_file() or not settings.is_file():
        raise InputError(f"{folder}: is no finished run, expected results/<study>/<run>")
    root = folder.parents[1]
    study = study_of(read_yaml(settings), METHODS, root, ROOT / "studies", tell)
    contents = pack(Workflow(study, METHODS, STAGES, root), folder.name, path)
    size = size_in_words(path.stat().st_size / 1e6)
    say(f"{path}: {contents.method} of the study {contents.study}, {size}")
    say(f"Landmarks of a further scan: {PROGRAM} detect {path} <scan> -o <folder>")
    return 0
