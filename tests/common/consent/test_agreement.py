import pytest

from common.consent.agreement import MARK, mark_of, require_meant
from common.consent.refusals import NotShownError

DIGEST = "0123456789abcdef" * 4


def never() -> bool:
    raise AssertionError("nobody is to be asked")


@pytest.mark.parametrize("said", [mark_of(DIGEST), DIGEST, "0123 4567 89AB CDEF 0123"])
def test_what_was_read_is_named_by_how_its_hash_begins(said: str) -> None:
    require_meant(DIGEST, said, never)


@pytest.mark.parametrize("said", ["0" * MARK, DIGEST[1:], DIGEST + "0", DIGEST[: MARK - 1], "0"])
def test_anything_else_is_refused(said: str) -> None:
    with pytest.raises(NotShownError):
        require_meant(DIGEST, said, never)


def test_who_says_nothing_is_asked() -> None:
    require_meant(DIGEST, "", lambda: True)
    with pytest.raises(NotShownError, match="nobody agreed"):
        require_meant(DIGEST, " ", lambda: False)
