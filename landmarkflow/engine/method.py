"""A method as the workflow knows it: its settings, its stages, and what it leaves."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from landmarkflow.core.settings import Settings
from landmarkflow.engine.stage import Stage


@dataclass(frozen=True)
class Method:
    """One method.

    Attributes:
        name: its folder, its rule file and the key of its settings.
        settings: the model of its settings.
        stages: in their order.
        steps: printed name of each list in its landmark files, the first step first.
        shared: names of settings of stages that all runs of a study share.
        histories: patterns of tables with one row an epoch, by what was trained.
        segments: whether a run leaves segmentations, by its settings and by whether its template
            was given one.
        reads_runs: whether a run of it is made of other runs (`of`).
        needs_template: whether it starts from one annotated scan, the template. One that does not
            learns from the study's annotated scans.
        learns_from: column of the sheet that a scan must have to be learned from, of a method
            that needs no template: landmarks or gaze.
        ends: stages that nothing else reads, whose files a run is asked for.
        shows: patterns of tables (Markdown) and figures (PNG) of stages in `ends` that the report
            shows, by their captions, under the run's settings.
        panels: the stage in `ends` that draws the way of each scan through the method: its role
            `panel` is a picture (WebP), and its record has `tiles`, for some landmarks their
            `landmark`, `frame` (`images.views`) and `words`, where the report may write; the
            report marks references there.
    """

    name: str
    settings: type[Settings]
    stages: tuple[Stage, ...]
    steps: Mapping[str, str]
    shared: tuple[str, ...] = ()
    histories: Mapping[str, str] = field(default_factory=dict)
    segments: Callable[[Any, bool], bool] = lambda settings, given: False
    reads_runs: bool = False
    needs_template: bool = True
    learns_from: str = "landmarks"
    ends: tuple[Stage, ...] = ()
    shows: Callable[[Any], Mapping[str, str]] = lambda settings: {}
    panels: Stage | None = None

    @property
    def panel_files(self) -> Mapping[str, str]:
        """Patterns of what `panels` writes; none where the method draws none."""
        return self.panels.writes if self.panels else {}
