"""What a person has read is what takes effect: named by the hash that was shown, or asked for.

Between the reading of a file and the word that approves or signs it, another may have taken its
place.
"""

from collections.abc import Callable

from common.consent.refusals import NotShownError

MARK = 16
"""Hexadecimal digits of a hash that name what was read: nobody makes another with the same."""


_SHOWN = 32
"""Hexadecimal digits of a fingerprint that are read out."""


def grouped(digest: str) -> str:
    """Return a hexadecimal digest's beginning in groups of four, to be read out on the phone."""
    shown = digest[:_SHOWN]
    return " ".join(shown[start : start + 4] for start in range(0, len(shown), 4))


def mark_of(digest: str) -> str:
    """Return what a person types to name the act or bundle of this hash."""
    return digest[:MARK]


def require_meant(digest: str, said: str, agrees: Callable[[], bool]) -> None:
    """Return if a person meant what has this hash, in hexadecimal.

    ``said`` is how the hash begins, spaces aside, or empty: then ``agrees`` shows what it is of
    and asks.

    Raises:
        NotShownError: another hash was said, too little of it, or no.
    """
    mark = "".join(said.split()).lower()
    if not mark:
        if not agrees():
            raise NotShownError(
                "nobody agreed: read what is shown, then say how `all of this` begins, such as"
                f" {'0' * MARK}"
            )
    elif len(mark) < MARK:
        raise NotShownError(f"{mark!r} names no hash: say {MARK} or more of its digits")
    elif not digest.startswith(mark):
        raise NotShownError(
            f"what lies here begins with {mark_of(digest)}, not {mark[:MARK]}: it is not what was"
            " shown; read it again, and ask who replaced it"
        )
