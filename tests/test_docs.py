"""The documentation: it builds without a warning, its links lead somewhere, the README is short."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").glob("*.md"))
AT_THE_TOP = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
LARGEST_README = 7168


def headings(page: Path) -> set[str]:
    """Anchors of a page's headings."""
    lines = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", line.lower()).strip().replace(" ", "-") for line in lines}


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path / "site"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    code = (tmp_path / "site/api.html").read_text(encoding="utf-8")
    assert "landmarkflow.core.files.replacing" in code


def test_every_page_is_in_the_navigation() -> None:
    site = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    assert {name for entry in site["nav"] for name in entry.values()} == {p.name for p in PAGES}


@pytest.mark.parametrize("page", [*AT_THE_TOP, *PAGES], ids=lambda page: page.name)
def test_links_lead_to_a_file_and_a_heading(page: Path) -> None:
    for link in LINK.findall(page.read_text(encoding="utf-8")):
        if link.startswith("https://"):
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), link
        assert not anchor or anchor in headings(target), link


def test_the_readme_is_short_and_shows_the_picture() -> None:
    readme = ROOT / "README.md"
    assert readme.stat().st_size <= LARGEST_README
    assert "](docs/overview.png)" in readme.read_text(encoding="utf-8")


@pytest.mark.parametrize("page", [*AT_THE_TOP, *PAGES], ids=lambda page: page.name)
def test_studies_that_pages_name_exist(page: Path) -> None:
    known = {path.stem for path in (ROOT / "studies").glob("*.yaml")} | {"cochlea", "mine", "x"}
    named = set(re.findall(r"STUDY=(\w+)", page.read_text(encoding="utf-8")))
    assert named <= known


@pytest.mark.parametrize("page", [*AT_THE_TOP, *PAGES], ids=lambda page: page.name)
def test_files_of_the_repository_that_pages_name_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    folders = "tests|studies|envs|workflow|benchmarks|profiles"
    for name in re.findall(rf"(?<![\w/<])((?:{folders})/[\w/.-]+\.\w+)", text):
        assert name == "studies/mine.yaml" or "studies/x." in name or (ROOT / name).exists(), name


def test_the_citation_names_the_version_the_licence_and_four_papers() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert citation["cff-version"] == "1.2.0"
    assert (citation["title"], citation["version"]) == (project["name"], project["version"])
    assert citation["license"] == "Apache-2.0"
    assert "Apache License" in (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert f"## [{project['version']}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    papers = citation["references"]
    assert [paper["authors"][0]["family-names"] for paper in papers] == [
        "Wang",
        "Stebani",
        "Lei",
        "Droste",
    ]
    for paper in papers:
        assert re.fullmatch(r"10\.\d{4,}/\S+", paper.get("doi", "10.0000/none")), paper["title"]
        assert paper.get("doi") or paper["url"].startswith("https://")


def test_examples_in_the_pages_are_valid_data() -> None:
    for page in [*AT_THE_TOP, *PAGES]:
        text = page.read_text(encoding="utf-8")
        for language, block in re.findall(r"^```(yaml|json)\n(.*?)^```", text, re.M | re.S):
            assert (yaml.safe_load if language == "yaml" else json.loads)(block), block
