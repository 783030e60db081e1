"""What a method leaves of its own that the page shows: tables in Markdown, and figures."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from landmarkflow.core.errors import InputError
from landmarkflow.core.files import read_text
from landmarkflow.evaluation.tables import Printed
from landmarkflow.report.embedded import Budget, link_to

TABLE = ".md"


@dataclass(frozen=True)
class Figure:
    """A picture on the page.

    Attributes:
        source: what its element names: data, or a link.
        link: the file, relative to the page.
        width: pixels of the file.
        height: pixels of the file.
    """

    source: str
    link: str
    width: int
    height: int


@dataclass(frozen=True)
class Further:
    """One table or figure, with its caption.

    Attributes:
        caption: what it shows, in words.
        table: of a Markdown file, its text before the table as the caption; None for a figure.
        figure: of a PNG file; None for a table.
    """

    caption: str
    table: Printed | None = None
    figure: Figure | None = None


def read_markdown(path: Path) -> Printed:
    """A Markdown file with one table of pipes, as `print_markdown` writes it, and text before it.

    Raises:
        InputError: the file is missing, or a row has not as many cells as the header.
    """
    lines = read_text(path, "a table in Markdown").splitlines()
    rows = [
        [cell.strip() for cell in line.strip().strip("|").split("|")]
        for line in lines
        if line.lstrip().startswith("|")
    ]
    said = " ".join(line.strip() for line in lines if not line.lstrip().startswith("|")).strip()
    if not rows:
        return Printed(said, [], [])
    header, body = rows[0], rows[2:]
    for number, row in enumerate(body, start=1):
        if len(row) != len(header):
            raise InputError(
                f"{path}: row {number} of the table has {len(row)} cells, expected "
                f"{len(header)} as in its header"
            )
    return Printed(said, header, body)


def further_of(shows: Mapping[str, Path], base: Path, budget: Budget) -> list[Further]:
    """Tables and figures of a run in their order; a table without rows is left out.

    Args:
        shows: files by caption: Markdown tables (.md) and PNG figures.
        base: the page's folder.
        budget: bytes that the page has for pictures; a figure beyond it is linked.

    Raises:
        InputError: a file is missing, or neither of the two.
    """
    found = []
    for caption, path in shows.items():
        if path.suffix == TABLE:
            table = read_markdown(path)
            if table.rows:
                found.append(Further(caption, table=table))
            continue
        link = link_to(path, base)
        picture = budget.embed(path)
        shown = Figure(picture.source or link, link, picture.width, picture.height)
        found.append(Further(caption, figure=shown))
    return found
