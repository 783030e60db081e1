"""A study put together: its configuration, scans, templates and runs, without opening a scan."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from landmarkflow.core.errors import InputError
from landmarkflow.core.records import TEMPLATE
from landmarkflow.core.settings import merged
from landmarkflow.formats.scan_files import PICTURES
from landmarkflow.study.config import StudyConfig, Template, load_config
from landmarkflow.study.folder import Tell
from landmarkflow.study.reviewed import with_reviewed
from landmarkflow.study.runs import MethodFacts, Run, read_yaml, runs_of
from landmarkflow.study.same import refused_images
from landmarkflow.study.sheet import Scan, check_ids, scan_of
from landmarkflow.study.sources import source_of

# Scans that would be left over for a batch of their own, as a share of a batch.
LEFT_OVER = 0.25


@dataclass(frozen=True)
class Study:
    """A checked study.

    Attributes:
        config: the configuration.
        template: the one annotated scan; None where no method of the study starts from one.
        scans: those in which every run looks for landmarks, by id.
        runs: by name, each after those that it reads.
        templates: the scans of the sheet that are templates of runs, too.
        training: annotated scans for supervised methods; no run's results are measured on them.
        refused: why scans are not measured, by id.
        labels: of the landmarks, in order, of a study without a template.
        taught: ids of the scans that are learned from: those of `training`, or, where there are
            none and the study has folds and no template, the annotated ones among `scans`.
    """

    config: StudyConfig
    template: Template | None
    scans: Mapping[str, Scan]
    runs: Mapping[str, Run]
    templates: Mapping[str, Template] = field(default_factory=dict)
    training: Mapping[str, Scan] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)
    labels: tuple[str, ...] = ()
    taught: tuple[str, ...] = ()

    @property
    def all_templates(self) -> tuple[str, ...]:
        """Ids of the template, where there is one, and of the scans that are templates, too."""
        return (*([TEMPLATE] if self.template is not None else []), *self.templates)

    @property
    def are_pictures(self) -> bool:
        """Whether the scans are pictures, whose coordinates are pixels."""
        return next(iter(self.scans.values())).image.lower().endswith(PICTURES)

    def split_of(self, scan: str) -> str:
        """Whether a scan is learned from: train, validation, or empty."""
        stated = self.entry(scan)
        split = stated.split if isinstance(stated, Scan) else ""
        return split or ("train" if scan in self.taught else "")

    @property
    def batches(self) -> Mapping[str, tuple[str, ...]]:
        """Scans that are served by one process, in the sheet's order.

        A few that would be left over join the last batch: a process costs more than they do.
        """
        names = tuple(self.scans)
        step = self.config.batch_scans
        starts = range(0, len(names), step)
        if len(starts) > 1 and len(names) - starts[-1] <= LEFT_OVER * step:
            starts = starts[:-1]
        ends = [*starts[1:], len(names)]
        return {
            f"{number:03d}": names[start:end]
            for number, (start, end) in enumerate(zip(starts, ends, strict=True), start=1)
        }

    @property
    def teaching(self) -> tuple[str, ...]:
        """Scans from which something may be learned of others, such as how far errors reach."""
        return tuple(scan for scan in self.scans if scan not in self.refused)

    def entry(self, scan: str) -> Scan | Template:
        """What is stated of a scan, or of the template, where there is one."""
        if scan == TEMPLATE and self.template is not None:
            return self.template
        return self.templates.get(scan) or self.scans.get(scan) or self.training[scan]


def with_base(raw: Mapping[str, Any], folder: Path, below: tuple[Path, ...] = ()) -> dict[str, Any]:
    """Settings on top of the study file that their key `base` names in a folder."""
    name = raw.get("base")
    if not name:
        return dict(raw)
    path = folder / str(name)
    if path.resolve() in below:
        raise InputError(f"{path}: is its own `base`, expected another study")
    base = with_base(read_yaml(path), path.parent, (*below, path.resolve()))
    return merged(base, raw)


def load_study(
    raw: Mapping[str, Any],
    methods: Mapping[str, MethodFacts],
    results: Path,
    presets: Path,
    tell: Tell,
) -> Study:
    """Check a configuration and put its study together.

    Args:
        raw: the configuration as read from its files.
        methods: what there is to run.
        results: folder of all studies' results.
        presets: folder with `<method>/<preset>.yaml`.
        tell: is told what the user should know and is not wrong.

    Raises:
        InputError: anything in it is wrong, in one sentence.
    """
    config = load_config(raw, {name: facts.settings for name, facts in methods.items()})
    source = source_of(config, results / config.study, tell)
    runs = runs_of(config, methods, presets)
    given_scans = with_reviewed(source.scans, config.data.reviewed)
    scans = {scan.scan: scan for scan in given_scans}
    of_scan = [run for run in runs.values() if run.template != TEMPLATE]
    templates = {run.template: _further_template(run, scans) for run in of_scan}
    training = {name: scan for name, scan in scans.items() if scan.split}
    for name, scan in training.items():
        if not scan.landmarks and not scan.gaze:
            raise InputError(f"scan {name}: is to be learned from and has no landmarks")
    looked_in = {n: s for n, s in scans.items() if n not in templates and n not in training}
    if config.data.targets == "all":
        by_side = _by_side(looked_in, source.template, tell)
        looked_in = {s.scan: s for s in with_reviewed(by_side.values(), config.data.reviewed)}
    if not looked_in:
        raise InputError(f"study {config.study}: there is no scan, expected at least one")
    sided = [name for name, scan in looked_in.items() if scan.side]
    if sided and source.template is not None and not source.template.side:
        tell(
            f"the side of {len(sided)} scans ({sided[0]} is the first) is not used, since the "
            "template's is not stated (`template_side`, or `side` of a sheet's template)"
        )
    # What the workflow itself makes or fetches need not be there yet.
    given = config.data.folder or config.data.sheet
    own = {TEMPLATE: source.template} if source.template is not None else {}
    refused = refused_images(looked_in if given else {}, {**own, **templates})
    for name, reason in refused.items():
        tell(reason)
        looked_in[name] = _without_references(looked_in[name])
    taught = tuple(training)
    if source.template is None:
        without = [run for run in runs.values() if run.template == TEMPLATE]
        columns = _learned_columns(without, methods)
        taught = taught or _crossed(looked_in, columns, config.data.folds)
        entries = [({**looked_in, **training})[name] for name in taught]
        _check_taught(columns, looked_in, entries)
    labels = () if source.template is not None else (config.data.landmarks or source.labels)
    return Study(
        config, source.template, looked_in, runs, templates, training, refused, labels, taught
    )


def _learned_columns(runs: Iterable[Run], methods: Mapping[str, MethodFacts]) -> dict[str, str]:
    """From which column of the sheet each run of a study without a template learns.

    Raises:
        InputError: a run's method starts from a template.
    """
    found = {}
    for run in runs:
        facts = methods[run.method]
        if facts.needs_template:
            raise InputError(
                f"config: `runs.{run.entry}`: {run.method} starts from a template, one annotated "
                "scan, but the study has none, expected one (`template/`, or `template` of a "
                "sheet), or a method that learns from many"
            )
        if not run.train_on:
            found[run.entry] = facts.learns_from
    return found


def _crossed(scans: Mapping[str, Scan], columns: Mapping[str, str], folds: int) -> tuple[str, ...]:
    """The evaluated scans that are learned from, too, each by the networks of other folds."""
    if folds == 1:
        raise InputError(
            "config: `data.folds` is 1, expected 2 or more: each annotated scan is predicted by "
            "networks that learned from the other folds"
        )
    wanted = set(columns.values())
    return tuple(
        name for name, scan in scans.items() if folds and any(getattr(scan, c) for c in wanted)
    )


def _check_taught(
    columns: Mapping[str, str], scans: Mapping[str, Scan], taught: Sequence[Scan]
) -> None:
    """Refuse a run that has nothing to learn from.

    Raises:
        InputError: no scan that is learned from has what the run's method needs.
    """
    for entry, column in columns.items():
        if any(getattr(scan, column) for scan in taught):
            continue
        annotated = sum(bool(getattr(scan, column)) for scan in scans.values())
        if annotated and not taught:
            raise InputError(
                f"config: `runs.{entry}`: there is nothing to learn from but the {annotated} "
                "scans that are evaluated, expected others (`training/`, or `split: train` in "
                "the sheet), or `data.folds`"
            )
        raise InputError(
            f"config: `runs.{entry}`: there is nothing to learn from, no scan has {column}, "
            "expected some that have"
        )


def _by_side(scans: Mapping[str, Scan], template: Template | None, tell: Tell) -> dict[str, Scan]:
    """The scans, one whose side is not stated as two: for its left and for its right target."""
    if template is None or not template.side:
        raise InputError(
            "config: `data.targets` is all, expected the template's side, too (`template_side`, or "
            "`side` of a sheet's template)"
        )
    found = []
    for name, scan in scans.items():
        if scan.side:
            found.append(scan)
            continue
        if scan.landmarks or scan.segmentation:
            tell(f"scan {name}: its reference is not used, since its side is not stated")
        row = _without_references(scan).row
        sides = [{**row, "scan": f"{name}-{side}", "side": side} for side in ("left", "right")]
        found += [scan_of(side, f"scan {name}") for side in sides]
    check_ids((scan.scan, f"config: `data.targets`: {scan.image}") for scan in found)
    return {scan.scan: scan for scan in found}


def _without_references(scan: Scan) -> Scan:
    return scan.model_copy(update={"landmarks": "", "segmentation": "", "gaze": ""})


def _further_template(run: Run, scans: Mapping[str, Scan]) -> Template:
    """The annotated scan that is a run's template."""
    annotated = {name: scan for name, scan in scans.items() if scan.landmarks}
    if run.template not in annotated:
        some = f", such as {next(iter(annotated))}" if annotated else ""
        raise InputError(
            f"config: `runs.{run.entry}`: the template is {run.template!r}, expected an annotated "
            f"scan{some}"
        )
    scan = annotated[run.template]
    return Template(
        image=scan.image,
        landmarks=scan.landmarks,
        segmentation=scan.segmentation,
        series=scan.series,
        side=scan.side,
        frame=scan.frame,
    )
