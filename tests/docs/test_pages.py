"""What the pages claim, against the program: commands, counts, figures."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import typer

from fasttail import datasets
from fasttail.cli import app
from fasttail.datasets.longtail import tail_counts
from fasttail.datasets.published import KNOWN
from fasttail.shards.columns import COLUMNS

DOCS = Path(__file__).parents[2] / "docs"
COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]


def text(name: str) -> str:
    return (DOCS / f"{name}.md").read_text(encoding="utf-8")


def commands(page: str) -> list[str]:
    """Lines of code that call fasttail, joined where they go on."""
    found, fenced = [], False
    for line in page.replace("\\\n", " ").splitlines():
        if line.startswith("```"):
            fenced = not fenced
        elif fenced or line.startswith("    "):
            found.append(line.strip())
    by_torchrun = re.compile(r"python -m fasttail\.torchrun (-\S+ [^-\s]\S* +)+")
    found = [by_torchrun.sub("fasttail ", line) for line in found]
    return [line for line in found if re.match(r"fasttail [a-z-]", line)]


@pytest.mark.parametrize("name", sorted(path.stem for path in DOCS.glob("*.md")))
def test_commands_on_the_pages_parse(name: str) -> None:
    for line in commands(text(name)):
        words = shlex.split(line, comments=True)
        command, *arguments = words[words.index("fasttail") + 1 :]
        if command.startswith("-") or "..." in words:
            continue
        # Raises where an option is unknown or a required one is missing.
        COMMANDS[command].make_context(command, arguments)


def test_links_to_files_beside_the_pages_lead_to_one() -> None:
    links = [
        link
        for page in DOCS.glob("*.md")
        for link in re.findall(r"\]\((\.\./[^)#]*)", page.read_text())
    ]
    examples = {path.name for path in (DOCS.parent / "examples").glob("*.py")}
    assert {Path(link).name for link in links} >= examples
    assert all((DOCS / link).exists() for link in links)


def test_pages_have_commands_to_check() -> None:
    assert sum(len(commands(path.read_text(encoding="utf-8"))) for path in DOCS.glob("*.md")) > 25


def test_every_data_set_has_a_section_and_the_published_counts() -> None:
    page = text("datasets")
    headings = " ".join(re.findall(r"^## (.*)$", page, re.MULTILINE))
    assert all(name in headings for name in datasets.names())
    rows = {
        match[1]: [cell.strip() for cell in match[0].split("|")[2:-1]]
        for match in re.finditer(r"^\| \[`([a-z0-9-]+)`\].*$", page, re.MULTILINE)
    }
    for name, known in KNOWN.items():
        splits = [
            f"{known.images[s]:,}" if s in known.images else "" for s in ("train", "val", "test")
        ]
        ends = f"{known.largest:,} to {known.smallest}"
        assert rows[name] == [f"{known.classes:,}", *splits, ends]
    for name, n_max, classes in (("cifar10-lt", 5000, 10), ("cifar100-lt", 500, 100)):
        counts_C = tail_counts(n_max, 100, classes)
        assert rows[name][1] == f"{counts_C.sum():,}"
        assert rows[name][4] == f"{n_max:,} to {counts_C[-1]}"
        assert f"{tail_counts(n_max, 50, classes).sum():,}" in page


def test_scaling_rests_on_figures_of_the_other_pages() -> None:
    page = text("scaling")
    for figure, source in (
        ("38.1", "plan"),
        ("166.9", "plan"),
        ("5,083", "benchmarks"),
        ("105 KB", "engines"),
        ("282", "plan"),
        ("0.04 ms", "plan"),
    ):
        assert figure in page
        assert figure in text(source), f"{figure} is no longer in {source}.md"
    a_sample = sum(
        dtype.itemsize for name, dtype in COLUMNS.items() if name not in ("indptr", "names")
    )
    assert f"{a_sample} bytes" in page
    assert f"{10**9 * 105e3 / 2**35:,.0f} files" in page
    assert f"{10**9 / (800 * 64):,.0f}" in page
    assert f"{np.round(10**9 / (100 * 64 * 5083 / 2)):.0f} s" in page
