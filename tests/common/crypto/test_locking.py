"""A secret under a passphrase comes back under that one alone, and whole."""

import pytest

from common.crypto import locking
from common.crypto.locking import LOCKED, is_locked, lock, unlock
from common.entropy import SeededEntropy
from common.errors import ConfigError

SECRET = b"thirty-two bytes of private keys"


@pytest.fixture
def locked(monkeypatch: pytest.MonkeyPatch) -> bytes:
    """Return a locked secret; the derivation is cheap but for the test that needs it dear."""
    monkeypatch.setattr(locking, "_COST", 2**4)
    return lock(SECRET, "right", SeededEntropy(0).stream("lock"))


def test_a_secret_comes_back_under_its_passphrase(locked: bytes) -> None:
    assert is_locked(locked)
    assert not is_locked(SECRET)
    assert SECRET not in locked
    assert unlock(locked, "right") == SECRET


def test_a_guess_costs_64_mib() -> None:
    assert 128 * locking._COST * locking._BLOCK == 64 * 2**20
    stream = SeededEntropy(0).stream("lock")
    first, second = lock(SECRET, "right", stream), lock(SECRET, "right", stream)
    assert first != second, "each file has its own salt"
    assert unlock(second, "right") == SECRET


@pytest.mark.parametrize("passphrase", ["", "Right", "right "])
def test_another_passphrase_is_refused(locked: bytes, passphrase: str) -> None:
    with pytest.raises(ConfigError, match="passphrase is wrong") as caught:
        unlock(locked, passphrase)
    assert caught.value.__cause__ is None


def test_any_altered_or_missing_byte_is_refused(locked: bytes) -> None:
    for place in range(len(LOCKED), len(locked)):
        changed = bytearray(locked)
        changed[place] ^= 1
        with pytest.raises(ConfigError):
            unlock(bytes(changed), "right")
    for size in (len(LOCKED), len(LOCKED) + 20, len(locked) - 1):
        with pytest.raises(ConfigError):
            unlock(locked[:size], "right")
