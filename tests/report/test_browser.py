"""Pages in a real browser, Debian's chromium."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fasttail import report
from fasttail.report.inspect import show

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")
playwright = pytest.importorskip("playwright.sync_api")
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no chromium here")

SIZES = """[...document.querySelectorAll('svg, img')].map(it => {
  const box = it.getBoundingClientRect();
  return it.tagName + ' ' + (box.width > 20 && box.height > 20 &&
    (it.tagName != 'IMG' || it.naturalWidth > 0));
})"""
WIDTH = "document.documentElement.scrollWidth"
COLOURS = """['body', 'svg text', '.plot svg path[style*="--joint"]'].map(it => {
  const style = getComputedStyle(document.querySelector(it));
  return it == 'body' ? style.backgroundColor : style.fill + style.stroke;
})"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        launched = driver.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield launched
        launched.close()


def opened(browser: Any, page: Path, *, width: int, scheme: str) -> tuple[Any, list[str]]:
    """The page, and what the browser's console said."""
    context = browser.new_context(
        viewport={"width": width, "height": 800}, color_scheme=scheme, offline=True
    )
    tab = context.new_page()
    said: list[str] = []
    tab.on("console", lambda message: said.append(message.text))
    tab.on("pageerror", lambda error: said.append(str(error)))
    tab.on("dialog", lambda dialog: said.append(f"dialog: {dialog.message}"))
    tab.goto(page.as_uri())
    return tab, said


@pytest.fixture(scope="module")
def pages(
    run_dir: Path, hostile_shards: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    show(hostile_shards, as_json=True, html=folder / "inspect.html", seconds=0.01)
    both = report.write_all([run_dir, run_dir], folder / "both.html")
    return {"run": run_dir / report.PAGE, "runs": both, "inspect": folder / "inspect.html"}


@pytest.mark.parametrize(("name", "figures"), [("run", 8), ("runs", 16), ("inspect", 2)])
def test_pictures_are_drawn_nothing_scrolls_sideways_and_the_console_is_silent(
    browser: Any, pages: dict[str, Path], name: str, figures: int
) -> None:
    for width, scheme in ((375, "light"), (1400, "dark")):
        tab, said = opened(browser, pages[name], width=width, scheme=scheme)
        assert said == []
        assert tab.evaluate(WIDTH) == width
        sizes = tab.evaluate(SIZES)
        assert sizes.count("svg true") == figures
        assert sizes.count("IMG true") >= 5
        assert not [it for it in sizes if it.endswith("false")]
        assert "<script>alert(1)</script>&\"'" in tab.inner_text("body")


def test_a_page_follows_light_and_dark(browser: Any, pages: dict[str, Path]) -> None:
    light, dark = (
        opened(browser, pages["run"], width=800, scheme=scheme)[0].evaluate(COLOURS)
        for scheme in ("light", "dark")
    )
    assert all(a != b for a, b in zip(light, dark, strict=True))
    assert not any(colour == "none" or "var" in colour for colour in (*light, *dark))


def test_the_results_of_several_runs_are_not_cut_off_at_1200_px(
    browser: Any, pages: dict[str, Path]
) -> None:
    tab, _ = opened(browser, pages["runs"], width=1200, scheme="light")
    cut = "[...document.querySelectorAll('.scroll')].map(it => it.scrollWidth - it.clientWidth)"
    assert set(tab.evaluate(cut)) == {0}
    assert "chosen on val" in tab.inner_text("#results")
