"""The command line for people."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from landmarkflow.commands.check import check
from landmarkflow.commands.clean import clean
from landmarkflow.commands.run import run
from landmarkflow.commands.studies import DEFAULT
from landmarkflow.core.errors import InputError

RUN = "a study, from scans to report; goes on where it was stopped"
CHECK = "read all scans and references and detect nothing: what is refused and why, minutes, disk"
INIT = "a study of the scans in a folder, with a word on every file that is found there"
PACK = "a finished run as one file, for `detect`"
DETECT = "the landmarks of further scans by a packed run, without a study"
REVIEW = "a page on which to look at what a run found, the most doubtful scans first, and mend it"
SLICER = "a scene of 3D Slicer for each scan of a run: points, segments, transforms"
SUGGEST = "which scans to annotate next, so that a further run gains most, and why"
FIGURES = "a study's curves for a paper: PDF and PNG, one and two columns wide"
CLEAN = "what of a study's results can be deleted, and how much that frees"
VARY = "scans as other scanners and exports would have made them, a group for each change"
STAGE = "the commands of the workflow's rules, one for each stage: stage --help"
STUDY = "name of a study in studies/, or path of its .yaml file"
DATA = "folder with template/ and scans/"


def main(arguments: Sequence[str]) -> int:
    """Run one command; return 0, or 1 after one sentence on what is wrong."""
    parser = argparse.ArgumentParser(
        prog="landmarkflow", description="One annotated scan in, landmarks in hundreds out."
    )
    names = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    add_init(names.add_parser("init", help=INIT, description=f"Write {INIT}."))
    add_check(names.add_parser("check", help=CHECK, description=f"{CHECK[0].upper()}{CHECK[1:]}."))
    add_run(names.add_parser("run", help=RUN, description=f"Run {RUN}."))
    add_pack(names.add_parser("pack", help=PACK, description=f"Write {PACK}."))
    add_detect(names.add_parser("detect", help=DETECT, description=f"Find {DETECT}."))
    add_review(names.add_parser("review", help=REVIEW, description=f"Open {REVIEW}."))
    add_suggest(names.add_parser("suggest", help=SUGGEST, description=f"Say {SUGGEST}."))
    add_figures(names.add_parser("figures", help=FIGURES, description=f"Draw {FIGURES}."))
    add_slicer(names.add_parser("slicer", help=SLICER, description=f"Write {SLICER}."))
    add_clean(names.add_parser("clean", help=CLEAN, description=f"Say {CLEAN}; delete nothing."))
    add_vary(names.add_parser("vary", help=VARY, description=f"Write {VARY}."))
    names.add_parser("stage", help=STAGE)
    chosen, more = parser.parse_known_args(arguments)
    if more and chosen.command != "run":
        parser.error(f"unrecognized arguments: {' '.join(more)}")
    chosen.more = [option for option in more if option != "--"]
    try:
        status: int = chosen.do(chosen)
    except InputError as error:
        sys.stderr.write(f"landmarkflow: {error}\n")
        return 1
    return status


def add_run(parser: argparse.ArgumentParser) -> None:
    """Declare what `run` takes."""
    parser.set_defaults(do=lambda c: run(c.study, c.data, c.seeds, c.cores, c.more))
    parser.epilog = "Other options go to Snakemake, such as --dry-run."
    add = parser.add_argument
    add("study", nargs="?", default=DEFAULT, metavar="STUDY", help=f"{STUDY} ({DEFAULT})")
    add("--data", default="", metavar="FOLDER", help=DATA)
    add("--cores", default="all", metavar="N", help="processor cores (all)")
    add("--seeds", default="", metavar='"1 2 3"', help="make each run once for every seed")


def add_check(parser: argparse.ArgumentParser) -> None:
    """Declare what `check` takes."""
    parser.set_defaults(do=lambda c: check(c.study, c.data, c.cores))
    here = len(os.sched_getaffinity(0))
    add = parser.add_argument
    add("study", metavar="STUDY", help=STUDY)
    add("--data", default="", metavar="FOLDER", help=DATA)
    add("--cores", type=int, default=here, metavar="N", help=f"of the run to come ({here})")


def add_clean(parser: argparse.ArgumentParser) -> None:
    """Declare what `clean` takes."""
    parser.set_defaults(do=lambda c: clean(c.study, yes=c.yes))
    parser.add_argument("study", metavar="STUDY", help="name of a study with results in results/")
    parser.add_argument("--yes", action="store_true", help="delete it")


def add_init(parser: argparse.ArgumentParser) -> None:
    """Declare what `init` takes."""
    parser.set_defaults(do=_init)
    add = parser.add_argument
    add("folder", type=Path, metavar="FOLDER", help="with scans, one of them annotated")
    add("-o", "--output", type=Path, default=Path(), metavar="FOLDER", help="of the study (.)")
    add("--template", default="", metavar="ID", help="the annotated scan to start from")
    add("--side", choices=("left", "right"), default="", help="that the template shows")


def add_pack(parser: argparse.ArgumentParser) -> None:
    """Declare what `pack` takes."""
    parser.set_defaults(do=_pack)
    parser.add_argument("run", type=Path, metavar="RUN", help="folder results/<study>/<run>")
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="FILE", help="to write, x.lmk say"
    )


def add_detect(parser: argparse.ArgumentParser) -> None:
    """Declare what `detect` takes."""
    parser.set_defaults(do=_detect)
    add = parser.add_argument
    add("model", type=Path, metavar="MODEL", help="file of `landmarkflow pack`")
    add("scans", type=Path, nargs="+", metavar="SCAN", help="a file, or folder of a DICOM series")
    add("-o", "--output", type=Path, required=True, metavar="FOLDER", help="of the answers")
    add("--side", choices=("left", "right"), default="", help="that the scans show")
    add("--series", default="", metavar="UID", help="number or UID of the DICOM series")
    add("--group", default="", metavar="NAME", help="group that the scans belong to")
    add("--no-picture", action="store_true", help="do not draw the scans")
    add("--json", action="store_true", help="a line of JSON for each scan")
    add("--device", choices=("auto", "cpu"), default="auto", help="cpu: use no GPU")


def add_review(parser: argparse.ArgumentParser) -> None:
    """Declare what `review` takes."""
    parser.set_defaults(do=_review)
    add = parser.add_argument
    add("study", type=Path, metavar="STUDY", help="folder results/<study>, finished")
    add("--run", default="", metavar="NAME", help="of a study with several runs")
    add("--reviewer", default="", metavar="NAME", help="who looks at them (the user's name)")
    add("--port", type=int, default=0, metavar="N", help="of the page (a free one)")
    add("--no-browser", action="store_true", help="only print the page's address")
    add("--niivue", type=Path, default=None, metavar="FILE", help="NiiVue's package, not fetched")


def add_slicer(parser: argparse.ArgumentParser) -> None:
    """Declare what `slicer` takes."""
    parser.set_defaults(do=_slicer)
    add = parser.add_argument
    add("study", type=Path, metavar="STUDY", help="folder results/<study>, finished")
    add("--run", default="", metavar="NAME", help="of a study with several runs")
    add("--scan", nargs="+", default=[], metavar="ID", help="these scans alone")
    add("--fcsv", action="store_true", help="points as .fcsv, too, for 3D Slicer 4")


def add_suggest(parser: argparse.ArgumentParser) -> None:
    """Declare what `suggest` takes."""
    parser.set_defaults(do=_suggest)
    parser.add_argument("run", type=Path, metavar="RUN", help="folder results/<study>/<run>")
    parser.add_argument("-n", type=int, default=4, metavar="N", help="how many scans (4)")


def add_figures(parser: argparse.ArgumentParser) -> None:
    """Declare what `figures` takes."""
    parser.set_defaults(do=_figures)
    parser.add_argument("study", type=Path, metavar="STUDY", help="folder results/<study>")
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="FOLDER", help="of the figures"
    )


def add_vary(parser: argparse.ArgumentParser) -> None:
    """Declare what `vary` takes."""
    parser.set_defaults(do=_vary)
    add = parser.add_argument
    add("folder", type=Path, metavar="FOLDER", help=DATA)
    add("-o", "--output", type=Path, required=True, metavar="FOLDER", help="of the copies")
    add("--changes", nargs="*", default=[], metavar="NAME", help="some of them (all)")
    add("--template", default="", metavar="NAME", help="change of the template's scan, too")


# What opens images and networks takes seconds to import, which other commands need not wait for.


def _init(chosen: argparse.Namespace) -> int:
    from landmarkflow.commands.init import init  # noqa: PLC0415

    return init(chosen.folder, chosen.output, chosen.template, chosen.side)


def _pack(chosen: argparse.Namespace) -> int:
    from landmarkflow.commands.pack import pack_run  # noqa: PLC0415

    return pack_run(chosen.run, chosen.output)


def _detect(chosen: argparse.Namespace) -> int:
    from landmarkflow.commands.detect import Options, detect  # noqa: PLC0415

    options = Options(
        chosen.side,
        chosen.series,
        picture=not chosen.no_picture,
        as_json=chosen.json,
        device=chosen.device,
        group=chosen.group,
    )
    return detect(chosen.model, chosen.scans, chosen.output, options)


def _review(chosen: argparse.Namespace) -> int:
    from landmarkflow.commands.review import Options, review  # noqa: PLC0415

    browser = not chosen.no_browser
    options = Options(chosen.run, chosen.port, chosen.reviewer, browser, chosen.niivue)
    return review(chosen.study, options)


def _slicer(chosen: argparse.Namespace) -> int:
    from landmarkflow.commands.slicer import Options, slicer  # noqa: PLC0415

    return slicer(chosen.study, Options(chosen.run, fcsv=chosen.fcsv, scans=chosen.scan))


def _suggest(chosen: argparse.Namespace) -> int:
    from landmarkflow.commands.suggest import suggest_scans  # noqa: PLC0415

    return suggest_scans(chosen.run, chosen.n)


def _figures(chosen: argparse.Namespace) -> int:
    from landmarkflow.commands.figures import figures  # noqa: PLC0415

    return figures(chosen.study, chosen.output)


def _vary(chosen: argparse.Namespace) -> int:
    from landmarkflow.commands.vary import vary  # noqa: PLC0415

    return vary(chosen.folder, chosen.output, chosen.changes, chosen.template)
