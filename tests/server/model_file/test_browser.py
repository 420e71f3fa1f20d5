"""The validation's page as browsers show it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser

from server.model_file.page import write_model_file
from server.model_file.records import Beside
from tests.cards import FACTS, write_seeds, write_simulated
from tests.pages import CHROMIUM, NO_CHROMIUM, chromium, require_light_print, require_sound

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason=NO_CHROMIUM)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("file")
    (folder / "facts.toml").write_text(FACTS)
    run = write_simulated(folder / "run")
    beside = Beside(facts=folder / "facts.toml", seeds=write_seeds(folder / "seeds"))
    *_, page = write_model_file(run, beside).paths
    return page.as_uri()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_page_fits_and_axe_finds_nothing(
    browser: Browser, address: str, width: int, scheme: str
) -> None:
    require_sound(browser, address, width, scheme)


def test_axe_finds_what_is_wrong(browser: Browser, address: str, tmp_path: Path) -> None:
    """Negative control: an outcome in a colour that nobody can read."""
    text = Path(address.removeprefix("file://")).read_text(encoding="utf-8")
    assert "--good:#1d6b45" in text
    bad = text.replace("--good:#1d6b45", "--good:#dfe8df").replace("Content-Security", "X")
    (tmp_path / "bad.html").write_text(bad, encoding="utf-8")
    page = browser.new_page(color_scheme="light")
    page.goto((tmp_path / "bad.html").as_uri())
    assert "color-contrast" in Axe().run(page).generate_report()
    page.close()


def test_print_is_light_and_leaves_no_missing_fact_out(browser: Browser, address: str) -> None:
    require_light_print(browser, address)
    page = browser.new_page()
    page.goto(address)
    page.emulate_media(media="print")
    assert page.get_by_text("fedprune-sim audit PLAN --out DIR").last.is_visible()
    assert page.get_by_text("Annex IV, 1(c) and 2(a)").is_visible()
    page.close()
