"""Who signs for a log: a long-lived key, for the log's own, and for what it does without.

Nothing here goes by a clock, or by where an event stands: each holds by its own signature.
"""

from collections.abc import Iterable, Sequence

from common.crypto.body import hash_facts
from common.crypto.keys import SIGNED_LOG, SIGNED_LOG_AS_IT_IS, sign, verify, verifying_key
from common.errors import ProtocolError
from common.trail.events import Event, Vouched, VouchedAsItIs
from common.trail.lines import Author


def vouch(private: bytes, author: Author, log_key: bytes) -> Vouched:
    """Return the event by which a long-lived Ed25519 key signs for a log's key."""
    signature = sign(private, SIGNED_LOG, _statement(author, log_key))
    return Vouched(by=verifying_key(private).hex(), voucher=signature.hex())


def is_vouched(event: Vouched, author: Author, log_key: bytes) -> bool:
    """Whether the key that an event names did sign for this log's key."""
    return _signed(event, SIGNED_LOG, _statement(author, log_key))


def vouch_as_it_is(
    private: bytes, author: Author, log_key: bytes, noted: Sequence[str]
) -> VouchedAsItIs:
    """Return the event by which a long-lived key does without what a log lacks of ``noted``.

    Those are hashes of lines, in the order in which they were noted elsewhere. Their number and the
    last of them are signed, so that the event excuses nothing that is noted after it.
    """
    many, last = len(noted), noted[-1]
    signature = sign(private, SIGNED_LOG_AS_IT_IS, _as_it_is(author, log_key, many, last))
    by = verifying_key(private).hex()
    return VouchedAsItIs(by=by, noted=many, last=last, voucher=signature.hex())


def given_up(
    events: Iterable[Event], owner: bytes, author: Author, log_key: bytes, noted: Sequence[str]
) -> int:
    """Return up to how many of ``noted`` this long-lived public key does without in a log."""
    return max((_given_up(event, owner, author, log_key, noted) for event in events), default=0)


def _given_up(
    event: Event, owner: bytes, author: Author, log_key: bytes, noted: Sequence[str]
) -> int:
    if not isinstance(event, VouchedAsItIs) or event.by != owner.hex():
        return 0
    many, last = event.noted, event.last
    # Of another ledger's notes it says nothing.
    of_these = 0 < many <= len(noted) and noted[many - 1] == last
    statement = _as_it_is(author, log_key, many, last)
    return many if of_these and _signed(event, SIGNED_LOG_AS_IT_IS, statement) else 0


def _signed(event: Vouched | VouchedAsItIs, label: bytes, statement: bytes) -> bool:
    try:
        verify(bytes.fromhex(event.by), label, statement, bytes.fromhex(event.voucher))
    except ProtocolError:
        return False
    return True


def _statement(author: Author, log_key: bytes) -> bytes:
    return hash_facts("log", [author.role, author.name, log_key.hex()])


def _as_it_is(author: Author, log_key: bytes, noted: int, last: str) -> bytes:
    return hash_facts("log-as-it-is", [author.role, author.name, log_key.hex(), noted, last])
