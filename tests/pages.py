"""Pages by their tags, and in a browser: none wider than the screen, none with what axe finds."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from html.parser import HTMLParser

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, sync_playwright

CHROMIUM = shutil.which("chromium")
NO_CHROMIUM = "no chromium: apt-get install chromium"


class Page(HTMLParser):
    """Collects the tags of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@contextmanager
def chromium() -> Iterator[Browser]:
    """Give a browser; in a container Chromium has no sandbox of its own."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


def require_sound(browser: Browser, address: str, width: int, scheme: str) -> None:
    """Open a page at this width and scheme; fail on what it fetches, says, cuts off or hides."""
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


def require_light_print(browser: Browser, address: str) -> None:
    """Fail unless paper is white whatever the screen is."""
    page = browser.new_page(color_scheme="dark")
    page.goto(address)
    background = "getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(background) == "rgb(20, 23, 27)"
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate(background) == "rgb(255, 255, 255)"
    assert page.pdf().startswith(b"%PDF")
    page.close()
