"""The report as browsers show it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser

from server.report.page import write_report
from tests.pages import CHROMIUM, NO_CHROMIUM, chromium, require_light_print, require_sound
from tests.reports import write_run
from tests.support import grouped_plan

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason=NO_CHROMIUM)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


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
    require_sound(browser, address, width, scheme)


def test_axe_finds_what_is_wrong(browser: Browser, address: str, tmp_path: Path) -> None:
    """Negative control: pictures without words, text without contrast."""
    text = Path(address.removeprefix("file://")).read_text(encoding="utf-8")
    (tmp_path / "bad.html").write_text(text.replace("<img alt=", "<img data-x="), encoding="utf-8")
    page = browser.new_page()
    page.goto((tmp_path / "bad.html").as_uri())
    assert "image-alt" in Axe().run(page).generate_report()
    page.close()


def test_print_is_light_whatever_the_screen_is(browser: Browser, address: str) -> None:
    require_light_print(browser, address)
