"""Figures and tables for a paper: vectors with their fonts, two widths, and TeX that compiles."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from PIL import Image
from workflow_runs import results

from landmarkflow.commands.figures import figures
from landmarkflow.core.errors import InputError
from landmarkflow.evaluation.tables import Printed

MM, POINTS = 25.4, 72
WIDTHS_MM = {"1col": 86, "2col": 178}
ENGINES = ("tectonic", "pdflatex", "lualatex", "xelatex")
DOCUMENT = r"""\documentclass{article}
\usepackage{booktabs}
\begin{document}
%s
\end{document}
"""


@pytest.fixture(scope="module")
def drawn(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("figures")
    assert figures(results(tiny), folder) == 0
    return folder


def test_each_figure_is_there_at_both_widths_as_pdf_and_png(drawn: Path) -> None:
    names = {path.name for path in drawn.iterdir()}
    of_one = ("oneshot_errors", "oneshot_radii", "oneshot_training_U-Net")
    assert names == {f"{n}_{w}{s}" for n in of_one for w in WIDTHS_MM for s in (".pdf", ".png")}


def test_a_pdf_has_its_width_its_fonts_and_no_pixels(drawn: Path) -> None:
    for path in drawn.glob("*.pdf"):
        content = path.read_bytes()
        box = re.search(rb"/MediaBox \[ 0 0 ([\d.]+) ([\d.]+) \]", content)
        assert box is not None
        width = WIDTHS_MM[path.stem.rpartition("_")[2]]
        # A training of one panel is narrower than two columns.
        assert float(box[1]) / POINTS * MM <= width + 1
        if "training" not in path.name:
            assert float(box[1]) / POINTS * MM == pytest.approx(width, abs=1)
        assert b"/FontFile2" in content
        assert b"/Type3" not in content
        assert b"/Subtype /Image" not in content
        assert b"CreationDate" not in content


def test_a_png_has_300_pixels_an_inch(drawn: Path) -> None:
    with Image.open(drawn / "oneshot_errors_1col.png") as picture:
        assert picture.width / 300 * MM == pytest.approx(86, abs=1)


def test_drawn_again_they_have_the_same_bytes(drawn: Path, tiny: Path, tmp_path: Path) -> None:
    figures(results(tiny), tmp_path)
    for path in drawn.glob("oneshot_radii*"):
        assert (tmp_path / path.name).read_bytes() == path.read_bytes()


def test_a_study_that_is_not_finished_is_refused(tiny: Path, tmp_path: Path) -> None:
    copy = tmp_path / "results/tiny"
    copy.mkdir(parents=True)
    shutil.copy(results(tiny) / "config.yaml", copy)
    with pytest.raises(InputError, match=r"holds no made\.json, expected the finished run oneshot"):
        figures(copy, tmp_path / "out")


def odd_table() -> str:
    """A table with every character that TeX takes for something else."""
    rows = [["a_b #1", "50 %"], ["x & y", "$3"], ["{~^\\}", "<|>"], ["mean ± sd", "–"]]
    return Printed("Of 100 % & all", ["Run", "n_1"], rows, foot=1).latex("tab:odd", names=1)


def test_tables_are_tex(tiny: Path, tmp_path: Path) -> None:
    found = [results(tiny) / "comparison.tex", results(tiny) / "oneshot/evaluation/table1.tex"]
    texts = [path.read_text(encoding="utf-8") for path in found] + [odd_table()]
    for text in texts:
        assert_is_a_table(text)
    engine = next(filter(None, map(shutil.which, ENGINES)), None)
    if engine is None:
        return
    document = tmp_path / "all.tex"
    document.write_text(DOCUMENT % "\n".join(texts), encoding="utf-8")
    options = [] if "tectonic" in engine else ["-interaction=nonstopmode", "-halt-on-error"]
    done = subprocess.run(
        [engine, *options, document.name], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:]
    assert document.with_suffix(".pdf").stat().st_size > 1000


def assert_is_a_table(text: str) -> None:
    """Environments are closed in their order, and each row has as many cells as columns."""
    opened: list[str] = []
    for kind, name in re.findall(r"\\(begin|end)\{(\w+)\}", text):
        if kind == "begin":
            opened.append(name)
        else:
            assert opened.pop() == name
    assert opened == []
    columns = re.search(r"\\begin\{tabular\}\{([lrc]+)\}", text)
    assert columns is not None
    body = text.partition(columns[0])[2].partition(r"\end{tabular}")[0]
    rows = [line.strip() for line in body.splitlines() if not line.strip().startswith("\\")]
    for row in filter(None, rows):
        assert row.endswith(r"\\")
        assert len(re.findall(r"(?<!\\)&", row)) == len(columns[1]) - 1, row
        assert not re.search(r"(?<!\\)[%#_$](?!\w*\\)", row.replace(r"$\pm$", "")), row
    assert text.count("{") - text.count(r"\{") == text.count("}") - text.count(r"\}")
