"""The report as browsers show it: nothing wider than the screen, nothing that axe calls serious."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, sync_playwright

from server.report.page import write_report
from tests.reports import write_run
from tests.support import grouped_plan

CHROMIUM = shutil.which("chromium")

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium: apt-get install chromium")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        # In a container Chromium has no sandbox of its own.
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("run")
    write_run(folder, grouped_plan(evaluation={"noise": "gaussian", "epsilon": 20.0}), seed=1)
    return write_report(folder).as_uri()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_report_fits_and_axe_finds_nothing(
    browser: Browser, address: str, width: int, scheme: str
) -> None:
    page = browser.new_page(
        viewport={"width": width, "height": 900},
        color_scheme="dark" if scheme == "dark" else "light",
    )
    said, asked = list[str](), list[str]()
    page.on("console", lambda message: said.append(message.text))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(address)
    assert [url for url in asked if not url.startswith("data:")] == [address]
    assert said == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    # A picture that could not be read has no width of its own; a squeezed one no legible text.
    sizes = "all => all.map(one => [one.naturalWidth, one.width])"
    widths = page.eval_on_selector_all("img", sizes)
    assert all(natural > 0 and min(width - 40, 400) <= shown for natural, shown in widths)
    for details in page.query_selector_all("summary"):
        details.click()
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    page.close()


def test_axe_finds_what_is_wrong(browser: Browser, address: str, tmp_path: Path) -> None:
    """Negative control: pictures without words, text without contrast."""
    text = Path(address.removeprefix("file://")).read_text(encoding="utf-8")
    (tmp_path / "bad.html").write_text(text.replace("<img alt=", "<img data-x="), encoding="utf-8")
    page = browser.new_page()
    page.goto((tmp_path / "bad.html").as_uri())
    assert "image-alt" in Axe().run(page).generate_report()
    page.close()


def test_print_is_light_whatever_the_screen_is(browser: Browser, address: str) -> None:
    page = browser.new_page(color_scheme="dark")
    page.goto(address)
    background = "getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(background) == "rgb(20, 23, 27)"
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate(background) == "rgb(255, 255, 255)"
    assert page.pdf().startswith(b"%PDF")
    page.close()
