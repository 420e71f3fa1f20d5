"""The reference pages are those of the code, and tell of all there is."""

from pathlib import Path

import pytest

from tests.docs.outside import READMES, ROOT, relinked
from tests.docs.reference import FOLDER, pages


@pytest.fixture(scope="module")
def made() -> dict[str, str]:
    return pages()


def test_the_committed_pages_are_current(made: dict[str, str]) -> None:
    found = {path.name: path.read_text() for path in FOLDER.glob("*.md")}
    stale = [name for name in made.keys() | found.keys() if made.get(name) != found.get(name)]
    assert not stale, f"run make docs, and commit docs/reference: {stale}"


@pytest.mark.parametrize(
    ("page", "said"),
    [
        ("plan.md", '| `sparsity` | number from 0 below 1 or `"auto"` | `0.9` |'),
        ("plan.md", "`displacement`, `gradient`, `magnitude`"),
        ("schema.md", "| `log` | true or false | `false` |"),
        ("settings.md", "## `[ledger.limits]` in client.toml"),
        ("events.md", "## was_refused"),
        ("errors.md", "`SurvivorSetTooSmallError` | 5 | survivors-too-few |"),
        ("errors.md", "· `BudgetError` | 7 |"),
    ],
)
def test_what_is_looked_up_is_there(made: dict[str, str], page: str, said: str) -> None:
    assert said in made[page]


def test_links_lead_to_what_there_is() -> None:
    for path in (ROOT / "docs").rglob("*.md"):
        relinked(path.read_text(), path.relative_to(ROOT / "docs").as_posix())
    for source, page in {**READMES, "README.md": "../README.md"}.items():
        relinked((ROOT / source).read_text(), page)
    told = relinked("[a](../common/privacy/README.md#unit) [b](../common/plan.py)", "index.md")
    assert told == "[a](depth/privacy.md#unit) b (`common/plan.py`)"
    with pytest.raises(FileNotFoundError, match=r"gone\.md"):
        relinked("[a](gone.md)", "index.md")


def test_every_page_is_in_the_menu() -> None:
    menu = (ROOT / "properdocs.yml").read_text()
    shown = {f"docs/{path.relative_to(ROOT / 'docs')}" for path in (ROOT / "docs").rglob("*.md")}
    assert all(f": {path.removeprefix('docs/')}\n" in menu for path in shown)
    assert all(Path(page).as_posix() in menu for page in READMES.values())
