"""`landmarkflow review`: a page on which people look at what a run found, and mend it."""

import getpass
import os
import tempfile
import unicodedata
import webbrowser
from dataclasses import dataclass
from pathlib import Path

from landmarkflow.commands.studies import ROOT, say, tell
from landmarkflow.core.errors import InputError
from landmarkflow.formats.landmarks import frame_of, read_landmarks
from landmarkflow.registry import METHODS
from landmarkflow.review.desk import FOLDER, Desk, Subject
from landmarkflow.review.niivue import bundle
from landmarkflow.review.server import ReviewServer
from landmarkflow.review.volumes import Source, Volumes
from landmarkflow.study.runs import Run, read_yaml
from landmarkflow.study.study import Study
from landmarkflow.workflow.configured import study_of

LONGEST_NAME = 80
# Without any of these a browser in the terminal would be opened, where there is one.
SCREENS = ("DISPLAY", "WAYLAND_DISPLAY", "WSL_DISTRO_NAME")


@dataclass(frozen=True)
class Options:
    """What `review` is told beside the study.

    Attributes:
        run: whose answers are looked at; empty where the study has one.
        port: of the page; 0 for a free one.
        reviewer: who looks at them; empty for the user's name.
        browser: whether a browser is opened.
        niivue: NiiVue's package as a file, None to fetch it.
    """

    run: str = ""
    port: int = 0
    reviewer: str = ""
    browser: bool = True
    niivue: Path | None = None


def review(folder: Path, options: Options) -> int:
    """Serve the page until Ctrl+C.

    Args:
        folder: of a finished study, results/<study>.
        options: the rest.

    Raises:
        InputError: the study is not finished, or anything else stands in the way.
    """
    reviewer = _reviewer(options.reviewer)
    study = study_at(folder)
    subject = subject_of(study, folder.resolve(), options.run)
    viewer = bundle(options.niivue)
    with tempfile.TemporaryDirectory(prefix="landmarkflow-") as shown:
        largest = int(study.config.data.largest_gib * 2**30)
        desk = Desk(subject, reviewer, Volumes(Path(shown), largest))
        with ReviewServer(desk, viewer, options.port) as server:
            say(f"{len(desk.names)} scans of {subject.study}, run {subject.run}, for {reviewer}.")
            say(f"The page, for this machine alone: {server.url}")
            say(f"Answers go to {subject.folder / FOLDER}. Ctrl+C ends it; nothing is lost.")
            if options.browser and any(map(os.environ.get, SCREENS)):
                webbrowser.open(server.url)
            try:
                server.serve_forever()
            except KeyboardInterrupt:
                say("")
    return 0


def study_at(folder: Path) -> Study:
    """The study that a results folder was made from.

    Raises:
        InputError: the folder is none, or the study's scans are gone.
    """
    settings = folder / "config.yaml"
    if not settings.is_file():
        raise InputError(f"{folder}: holds no config.yaml, expected results/<study>")
    results = folder.resolve().parent
    return study_of(read_yaml(settings), METHODS, results, ROOT / "studies", tell)


def subject_of(study: Study, folder: Path, name: str) -> Subject:
    """What is looked at: a run of a study, with its template.

    Raises:
        InputError: there is no such run, it is not finished, or its template cannot be read.
    """
    run = finished_run(study, folder, name)
    labels, template, landmarks = study.labels, None, None
    chosen = tuple(study.config.data.landmarks)
    if study.template is not None:
        entry = study.entry(run.template)
        image = Path(entry.image)
        marked = read_landmarks(Path(entry.landmarks), frame_of(entry.frame), image.name)
        labels, template = marked.labels, Source(image, entry.series)
        landmarks = marked.select(chosen or labels)
    return Subject(
        study=study.config.study,
        run=run.name,
        folder=folder / run.name,
        labels=labels,
        looked_for=chosen or labels,
        scans={name: Source(Path(scan.image), scan.series) for name, scan in study.scans.items()},
        template=template,
        landmarks=landmarks,
        unit="px" if study.are_pictures else "mm",
    )


def finished_run(study: Study, folder: Path, name: str) -> Run:
    """A run of a study by its name, or the only one.

    Raises:
        InputError: there is no such run, there are several, or it is not finished.
    """
    names = ", ".join(study.runs)
    if name and name not in study.runs:
        raise InputError(f"--run {name}: the study has no such run, expected one of {names}")
    if not name and len(study.runs) > 1:
        raise InputError(f"{folder}: has the runs {names}: say which with --run")
    run = study.runs[name or next(iter(study.runs))]
    if not (folder / run.name / "scans.csv").is_file():
        raise InputError(f"{folder / run.name}: holds no scans.csv, expected a finished run")
    return run


def _reviewer(stated: str) -> str:
    try:
        name = stated.strip() or getpass.getuser()
    except (KeyError, OSError):
        raise InputError("--reviewer: this user has no name, expected who looks at them") from None
    if len(name) > LONGEST_NAME or any(unicodedata.category(letter)[0] == "C" for letter in name):
        raise InputError(f"--reviewer {name[:LONGEST_NAME]!r}: expected a name in one line")
    return name
