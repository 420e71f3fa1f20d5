"""Keys for programs that read them from a path: shown in memory alone, whatever lies on the disk.

Flower and OpenSSL take a file in clear text. This one has no name (memfd_create(2)): only the
child that inherits it opens it, it is gone with the processes that hold it, and no disk sees it.
"""

import hashlib
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import final

from common.errors import ConfigError, FedpruneError
from common.secret_files import SECRETS, Ask, ask_passphrase

log = logging.getLogger("fedprune.up")


@final
class Handover:
    """What ``read`` returns, for a child; read anew whenever one of ``files`` holds something else.

    ``files`` may hold more than is read: whatever the child is to start again for.
    """

    def __init__(self, read: Callable[[], bytes], *files: Path) -> None:
        """Read it; errors are those of ``read``.

        Raises:
            ConfigError: this system has no files without a name.
        """
        if sys.platform != "linux":
            raise ConfigError("keys are handed on by memfd_create: run `up` on Linux")
        self._read, self._files = read, files
        # Read last, so that what changes meanwhile is seen to have changed.
        self._times, self._held = self._look()
        data = read()
        self.handle = os.memfd_create("fedprune")
        self._write(data)

    @property
    def path(self) -> str:
        """Where a child that inherits ``handle`` finds it."""
        return f"/proc/self/fd/{self.handle}"

    def renewed(self) -> bool:
        """Read again what has changed; whether it has. What cannot be read leaves what is held."""
        try:
            if self._times == self._changed():
                return False
            self._times, now = self._look()
            if now == self._held:
                return False
            self._write(self._read())
            self._held = now
        except FileNotFoundError:
            return False  # It is being replaced, or its owner has left.
        except (FedpruneError, OSError) as error:
            log.warning("%s: what was read before stays in use", error)
            return False
        return True

    def _changed(self) -> list[tuple[int, int]]:
        # A change of its mode alone may let it be read.
        found = [file.stat() for file in self._files]
        return [(one.st_mtime_ns, one.st_ctime_ns) for one in found]

    def _look(self) -> tuple[list[tuple[int, int]], list[bytes]]:
        changed = self._changed()
        return changed, [hashlib.sha256(file.read_bytes()).digest() for file in self._files]

    def _write(self, data: bytes) -> None:
        os.ftruncate(self.handle, 0)
        os.pwrite(self.handle, data, 0)


@final
class AskedOnce:
    """A passphrase that is asked for when the first key needs it, once for all of a home.

    ``said`` is empty until then.
    """

    def __init__(self, ask: Ask = ask_passphrase) -> None:
        """Ask nothing yet."""
        self._ask, self.said = ask, ""

    def __call__(self) -> str:
        """Return the answer."""
        self.said = self.said or self._ask()
        return self.said

    def close(self) -> None:
        """Ask nobody from now on: who waits for an answer looks after nothing meanwhile."""
        self._ask = lambda: ""


def environment_without_secrets() -> dict[str, str]:
    """Return this process' environment for those who are handed what they need of it."""
    return {name: value for name, value in os.environ.items() if not name.startswith(SECRETS)}
