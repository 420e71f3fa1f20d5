"""A hash tree over the sealed shares of one dealer: one signed root pins them all.

Leaves and nodes are hashed under different prefixes, and the number of leaves is known to
whoever checks a path, so a path proves one place only (RFC 6962, section 2.1).
"""

import hashlib
from collections.abc import Sequence

from common.crypto.refusals import ShareAlteredError

HASH_SIZE = 32


def root(leaves: Sequence[bytes]) -> bytes:
    """Return the 32-byte root over at least one leaf of any length."""
    return _levels(leaves)[-1][0]


def paths(leaves: Sequence[bytes]) -> list[bytes]:
    """Return for each leaf the hashes beside its way to the root, concatenated."""
    levels = _levels(leaves)[:-1]
    return [
        b"".join(
            level[sibling]
            for height, level in enumerate(levels)
            if (sibling := (index >> height) ^ 1) < len(level)
        )
        for index in range(len(leaves))
    ]


def require(expected: bytes, leaf: bytes, index: int, count: int, path: bytes) -> None:
    """Return if ``leaf`` is number ``index`` of the ``count`` leaves under the root.

    Raises:
        ShareAlteredError: it is not, or the path has another length.
    """
    node, at, width = _hash(b"\0", leaf), 0, count
    while width > 1:
        if (index ^ 1) < width:
            sibling = path[at : at + HASH_SIZE]
            at += HASH_SIZE
            node = _hash(b"\1", *((sibling, node) if index & 1 else (node, sibling)))
        index, width = index >> 1, (width + 1) // 2
    if node != expected or at != len(path):
        raise ShareAlteredError("a sealed share is not under the root its dealer signed")


def _levels(leaves: Sequence[bytes]) -> list[list[bytes]]:
    levels = [[_hash(b"\0", leaf) for leaf in leaves]]
    while len(level := levels[-1]) > 1:
        pairs = [_hash(b"\1", *level[i : i + 2]) for i in range(0, len(level) - 1, 2)]
        levels.append(pairs + level[2 * len(pairs) :])  # the odd one out rises as it is
    return levels


def _hash(prefix: bytes, *parts: bytes) -> bytes:
    return hashlib.sha256(prefix + b"".join(parts)).digest()
