"""The page in a real browser: what it shows, how it is used, and what axe finds."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect, sync_playwright

from server.desk import free_port
from tests.server.live.dashboards import dashboard
from tests.server.live.federations import Federation, banks, simulated

MARKUP = "<img src=x onerror=alert(1)>"
SHOWN_MS = 20_000


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("no Chromium on this machine: install the system's package")
    # Chromium refuses its own sandbox to root.
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=arguments)
        yield started
        started.close()


@pytest.fixture
def spring(tmp_path: Path) -> Federation:
    federation = Federation(tmp_path, [*banks(50)], 60)
    federation.go(20, without=["bank-07"])
    federation.refuse("bank-07")
    simulated(tmp_path)
    return federation


@pytest.fixture
def address(spring: Federation) -> Iterator[str]:
    with dashboard(spring.home, "--listen", "127.0.0.1:0") as printed:
        yield printed


def opened(browser: Browser, address: str, **context: Any) -> Page:
    """Open the page; whatever its scripts or the security policy complain of fails the test."""
    page = browser.new_context(reduced_motion="reduce", **context).new_page()
    page.set_default_timeout(SHOWN_MS)
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: complaints.append(dialog.message))
    page.goto(address)
    expect(page.locator("#link")).to_have_text("live", timeout=SHOWN_MS)
    expect(page.locator("#members tr").first).to_be_visible(timeout=SHOWN_MS)
    assert complaints == []
    return page


def test_what_happens_is_seen_without_a_reload(
    browser: Browser, spring: Federation, address: str
) -> None:
    page = opened(browser, f"{address}#spring")
    expect(page.locator("#progress-text")).to_have_text("20 of 60 training rounds are over")
    expect(page.locator("#members tr")).to_have_count(50)
    expect(page.locator("#members tr").nth(7)).to_contain_text("in no sum yet")
    expect(page.locator("#members-said")).to_contain_text("Not in the last sum: bank-07.")
    expect(page.locator("#refusals tr")).to_contain_text(["bank-07"])
    expect(page.locator("#audit tr").first).to_contain_text("was_refused")
    curve = page.get_by_role("img", name="Institutions in the sum by round: 20 rounds")
    expect(curve).to_be_visible()
    expect(page.locator("#curves canvas")).to_have_count(4)
    spring.go(4)
    spring.ask()
    expect(page.locator("#stage")).to_have_text(
        "round 24: institutions train and send masked vectors", timeout=SHOWN_MS
    )
    expect(page.locator("#said")).to_have_text("24 of 60 rounds are over.", timeout=SHOWN_MS)
    expect(page.locator("#points tr")).to_have_count(24)
    expect(page.locator("#points th").first).to_have_text("23")


def test_stages_of_a_round_are_not_read_out(
    browser: Browser, spring: Federation, address: str
) -> None:
    page = opened(browser, f"{address}#spring")
    said = page.locator("#said")
    expect(said).to_have_attribute("role", "status")
    expect(said).to_have_text("Run spring is running.")
    spring.ask()
    expect(page.locator("#stage")).to_contain_text("round 20", timeout=SHOWN_MS)
    expect(said).to_have_text("Run spring is running.")
    spring.refuse("bank-09")
    expect(said).to_have_text("1 new refusals.", timeout=SHOWN_MS)


def test_a_run_is_chosen_by_the_keyboard_and_stays_after_a_reload(
    browser: Browser, address: str
) -> None:
    page = opened(browser, f"{address}#spring")
    page.keyboard.press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.get_by_label("Run", exact=True)).to_be_focused()
    page.keyboard.press("Home")
    expect(page.locator("#phase")).to_have_text("finished", timeout=SHOWN_MS)
    expect(page.locator("#simulated")).to_be_visible()
    expect(page.locator("#members tr")).to_have_count(4)
    # The log beside it is a server's, and no simulation's.
    expect(page.locator("#audit-box")).to_be_hidden()
    expect(page.locator("#refusals-said")).to_contain_text("simulations keep none")
    page.reload()
    expect(page.locator("#phase")).to_have_text("finished", timeout=SHOWN_MS)
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.locator("summary")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#points tr")).to_have_count(6)
    expect(page.locator("#points tr").first).to_be_visible()


def test_names_of_others_are_text(browser: Browser, tmp_path: Path) -> None:
    federation = Federation(tmp_path, ["ash", "birch", "cedar"], 9, MARKUP.replace("/", ""))
    federation.go(1)
    federation.refuse(MARKUP, MARKUP)
    with dashboard(tmp_path, "--listen", "127.0.0.1:0") as address:
        page = opened(browser, address)
        expect(page.locator("#refusals tr")).to_contain_text([MARKUP])
        expect(page.locator("#runs option")).to_have_text(MARKUP)
        assert page.locator("img[src=x]").count() == 0


def test_a_lost_connection_is_told_and_mended(browser: Browser, spring: Federation) -> None:
    listen = ("--listen", f"127.0.0.1:{free_port()}")
    with dashboard(spring.home, *listen) as address:
        page = opened(browser, f"{address}#spring")
    expect(page.locator("#link")).to_contain_text("connection lost", timeout=SHOWN_MS)
    expect(page.locator("#said")).to_have_text("The connection is lost.")
    expect(page.locator("#points tr")).to_have_count(20)
    spring.go(2)
    with dashboard(spring.home, *listen):
        expect(page.locator("#link")).to_have_text("live", timeout=2 * SHOWN_MS)
        expect(page.locator("#points tr")).to_have_count(22, timeout=SHOWN_MS)


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_it_fits_and_axe_finds_nothing(
    browser: Browser, address: str, width: int, theme: str
) -> None:
    viewport = {"width": width, "height": 900}
    page = opened(browser, f"{address}#spring", viewport=viewport, color_scheme=theme)
    page.locator("summary").click()
    assert page.evaluate("document.documentElement.scrollWidth") == width
    widths = page.locator("#curves canvas").evaluate_all("all => all.map(one => one.clientWidth)")
    assert all(250 < shown <= width for shown in widths)
    found = Axe().run(page).response["violations"]
    assert [(one["impact"], one["id"]) for one in found] == []


def test_axe_does_find_what_is_wrong(browser: Browser, address: str) -> None:
    page = opened(browser, f"{address}#spring")
    page.locator("label[for=runs]").evaluate("label => label.remove()")
    found = Axe().run(page).response["violations"]
    assert [one["id"] for one in found if one["impact"] in ("serious", "critical")] == [
        "select-name"
    ]
