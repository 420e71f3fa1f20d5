"""Who takes part, under one hash that every key and descriptor is bound to."""

import hashlib
from collections.abc import Iterable


def roster_hash(names: Iterable[str]) -> str:
    """Return the SHA-256 of the members' names, in hexadecimal; keys are not pinned yet."""
    return hashlib.sha256(b"fedprune/1/roster/" + "\n".join(sorted(names)).encode()).hexdigest()
