"""The nodes that may connect: one public key each in ``members/``, read again when they change."""

import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_ssh_public_key
from flwr.supercore.primitives.asymmetric import public_key_to_bytes

from common.errors import ConfigError
from server.home import PUBLIC

log = logging.getLogger("fedprune.up")

SETTLE_SECONDS = 1.0
"""Between looks at ``members/``."""


class Members:
    """The members' keys in PEM, as Flower has them, each with its member's name."""

    def __init__(self, folder: Path, clock: Callable[[], float] = time.monotonic) -> None:
        """Look at nothing yet."""
        self._folder, self._clock = folder, clock
        self._due = float("-inf")
        self._seen: dict[str, tuple[int, ...]] | None = None
        self._keys: Mapping[bytes, str] = {}
        self.unreadable: frozenset[str] = frozenset()
        """Members whose keys are there and could not be read when they were last looked at."""

    def __call__(self) -> Mapping[bytes, str]:
        """Return the keys as they are, or were a second ago; what cannot be read is no member.

        Raises:
            OSError: the folder could not be listed yet.
        """
        if self._clock() >= self._due:
            try:
                if (seen := self._look()) != self._seen:
                    # Looked at before it is read, so that what changes meanwhile is seen to.
                    self._keys, self._seen = self._read(), seen
            except OSError:
                if self._seen is None:
                    raise
                # A folder that is away for a moment has no say: who is shut out stays out.
                log.warning("the members' keys cannot be listed: those known stay")
            self._due = self._clock() + SETTLE_SECONDS
        return self._keys

    def _files(self) -> list[Path]:
        # Not by `glob`, to which a folder that is not there is an empty one.
        return [path for path in self._folder.iterdir() if path.suffix == PUBLIC]

    def _look(self) -> dict[str, tuple[int, ...]]:
        seen: dict[str, tuple[int, ...]] = {}
        for path in self._files():
            try:
                found = path.stat()
            except OSError:
                continue  # It was renamed since it was listed, or its disk is ill.
            # A change of its mode alone may let it be read.
            seen[path.name] = (found.st_mtime_ns, found.st_ctime_ns, found.st_size)
        return seen

    def _read(self) -> dict[bytes, str]:
        keys: dict[bytes, str] = {}
        damaged: set[str] = set()
        for path in sorted(self._files()):
            try:
                keys[node_key(path)] = path.stem
            except (ConfigError, OSError) as error:
                log.warning("%s may not connect: %s", path.stem, error)
                damaged.add(path.stem)
        self.unreadable = frozenset(damaged)
        return keys


def node_key(path: Path) -> bytes:
    """Read a SuperNode's public key as ssh-keygen writes it; return it as Flower does, in PEM."""
    try:
        key = load_ssh_public_key(path.read_bytes())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ConfigError(f"{path}: not a public key as ssh-keygen writes it") from error
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise ConfigError(f"{path}: not an ECDSA key: make one by ssh-keygen -t ecdsa -b 384")
    return public_key_to_bytes(key)
