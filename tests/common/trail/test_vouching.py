from common.crypto.keys import verifying_key
from common.trail.lines import Author
from common.trail.vouching import given_up, is_vouched, vouch, vouch_as_it_is

PRIVATE, OTHER = bytes(range(32)), bytes(range(1, 33))
ASH = Author("institution", "ash")
NOTED = ["aa" * 32, "bb" * 32, "cc" * 32]


def test_a_long_lived_key_signs_for_one_log_alone() -> None:
    event = vouch(OTHER, ASH, verifying_key(PRIVATE))
    assert is_vouched(event, ASH, verifying_key(PRIVATE))
    assert not is_vouched(event, Author("institution", "birch"), verifying_key(PRIVATE))
    assert not is_vouched(event, ASH, verifying_key(OTHER))


def test_what_is_done_without_is_of_one_log_and_of_what_was_noted_by_then() -> None:
    log, owner = verifying_key(PRIVATE), verifying_key(OTHER)
    event = vouch_as_it_is(OTHER, ASH, log, NOTED[:2])
    assert given_up([event], owner, ASH, log, NOTED) == 2
    assert given_up([event, vouch(OTHER, ASH, log)], owner, ASH, log, NOTED[:2]) == 2
    for changed in (
        event.model_copy(update={"noted": 3, "last": NOTED[2]}),
        event.model_copy(update={"noted": 0}),
        event.model_copy(update={"by": log.hex()}),
        event.model_copy(update={"voucher": vouch(OTHER, ASH, log).voucher}),
    ):
        assert given_up([changed], owner, ASH, log, NOTED) == 0
    for other in (NOTED[:1], NOTED[::-1][:1] * 2, []):
        assert given_up([event], owner, ASH, log, other) == 0
    assert given_up([event], log, ASH, log, NOTED) == 0
    assert given_up([event], owner, ASH, owner, NOTED) == 0
    assert given_up([event], owner, Author("institution", "birch"), log, NOTED) == 0
