"""The site is built strictly, loads nothing from elsewhere, and tells of this program."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from fasttail.cli import app

ROOT = Path(__file__).parents[2]
COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("mkdocs", reason="the docs extra")
    out = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(out)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return out


def test_every_page_is_there_and_loads_nothing_from_elsewhere(site: Path) -> None:
    pages = {path.stem: path.read_text(encoding="utf-8") for path in site.glob("*.html")}
    assert set(pages) >= {path.stem for path in (ROOT / "docs").glob("*.md")}
    for name, html in pages.items():
        loading = re.findall(r"<(?:script|link|img|iframe)\b[^>]*>", html)
        assert loading
        assert not [tag for tag in loading if "//" in tag], name
    for sheet in site.rglob("*.css"):
        assert "url(http" not in sheet.read_text(encoding="utf-8"), sheet


def test_the_command_line_page_has_every_option_and_example(site: Path) -> None:
    html = (site / "cli.html").read_text(encoding="utf-8")
    options = 0
    for name, command in COMMANDS.items():
        assert f'id="{name}"' in html
        for option in command.params:
            for text in option.opts:
                options += text.startswith("--")
                assert not text.startswith("--") or f"<code>{text}</code>" in html
        assert command.epilog.split("\n\n")[1].split()[1] in html
    assert options > 50
    for variable in ("FASTTAIL_DATA", "FASTTAIL_SHARDS", "FASTTAIL_KERNEL_DIR", "NO_COLOR"):
        assert variable in html


@pytest.mark.parametrize("name", ["cli.md", "configuration.md"])
def test_the_reference_in_the_repository_is_that_of_the_program(name: str) -> None:
    spec = importlib.util.spec_from_file_location("docs_hooks", ROOT / "tools" / "docs_hooks.py")
    assert spec is not None
    assert spec.loader is not None
    hooks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hooks)
    page = (ROOT / "docs" / name).read_text(encoding="utf-8")
    assert hooks.current(name, page) == page, "python tools/docs_hooks.py writes it"


def test_documented_variables_are_those_that_the_program_reads() -> None:
    source = "".join(path.read_text() for path in (ROOT / "fasttail").rglob("*.py"))
    page = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    read = set(re.findall(r"\bFASTTAIL_[A-Z_]+\b", source))
    assert {"FASTTAIL_DATA", "FASTTAIL_SHARDS", "FASTTAIL_QUIET"} <= read
    assert {name for name in read if f"`{name}`" not in page} == set()
