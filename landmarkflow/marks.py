"""What Snakemake is told of outputs: a module apart, since jobs need no Snakemake."""

from collections.abc import Mapping
from pathlib import Path

from snakemake.io import report


def in_report(written: Mapping[str, list[str]], **categories: str) -> dict[str, list[str]]:
    """Mark outputs for Snakemake's own report, `snakemake --report`.

    Args:
        written: the outputs of a rule, by role.
        categories: under which heading the files of a role stand; a run's below its name.
    """

    def marked(file: str, category: str) -> str:
        of_run = "{run}" if "{run" in file else None
        found: str = report(
            file, category=category, subcategory=of_run, labels={"file": Path(file).name}
        )
        return found

    return {
        role: [marked(file, categories[role]) for file in files] if role in categories else files
        for role, files in written.items()
    }
