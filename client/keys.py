"""An institution's long-lived keys on its own disk, readable by their owner alone."""

import json
import os
import stat
from pathlib import Path

from pydantic import ValidationError

from common.crypto.roster import Identity
from common.entropy import Stream
from common.errors import ConfigError

_OWNER_ONLY = 0o600


def create_identity(path: Path, stream: Stream) -> Identity:
    """Draw keys and write them to a new file of mode 0600.

    Raises:
        ConfigError: the file exists, or cannot be written.
    """
    identity = Identity.generate(stream)
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _OWNER_ONLY)
        with os.fdopen(handle, "wb") as file:
            file.write(identity.model_dump_json().encode())
            os.fsync(file.fileno())
    except OSError as error:
        raise ConfigError(f"{path}: keys cannot be written: {error.strerror}") from error
    return identity


def read_identity(path: Path) -> Identity:
    """Read the keys that `create_identity` wrote.

    Raises:
        ConfigError: the file is missing, open to others than its owner, or holds no keys.
    """
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            if mode & ~_OWNER_ONLY:
                raise ConfigError(
                    f"{path}: mode {mode:04o} lets others at the private keys:"
                    f" chmod {_OWNER_ONLY:04o} {path}"
                )
            return Identity.model_validate(
                {name: bytes.fromhex(key) for name, key in json.loads(file.read()).items()}
            )
    except OSError as error:
        raise ConfigError(f"{path}: keys cannot be read: {error.strerror}") from error
    except (ValidationError, ValueError, TypeError, AttributeError):
        # Without the cause: it could repeat the keys it failed to read.
        raise ConfigError(f"{path}: holds no keys: restore it from the backup") from None
