"""An institution's long-lived keys on its own disk, readable by their owner alone."""

import json
from pathlib import Path

from pydantic import ValidationError

from common.crypto.roster import Identity
from common.entropy import Stream
from common.errors import ConfigError
from common.secret_files import Ask, ask_passphrase, create_secret, read_secret


def create_identity(path: Path, stream: Stream, passphrase: str = "") -> Identity:
    """Draw keys and write them to a new file of mode 0600, under a passphrase if there is one.

    Raises:
        ConfigError: the file exists, or cannot be written.
    """
    identity = Identity.generate(stream)
    create_secret(path, identity.model_dump_json().encode(), stream, passphrase)
    return identity


def read_identity(path: Path, ask: Ask = ask_passphrase) -> Identity:
    """Read the keys that `create_identity` wrote.

    Raises:
        ConfigError: the file is missing, open to others than its owner, or holds no keys; or the
            passphrase is missing or wrong.
    """
    data = read_secret(path, ask)
    try:
        return Identity.model_validate(
            {name: bytes.fromhex(key) for name, key in json.loads(data).items()}
        )
    except (ValidationError, ValueError, TypeError, AttributeError):
        # Without the cause: it could repeat the keys it failed to read.
        raise ConfigError(f"{path}: holds no keys: restore it from the backup") from None
