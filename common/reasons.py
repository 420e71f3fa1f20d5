"""The names of reasons that a refusal tells, of which there are only so many."""

from typing import Final

OTHER: Final = "other"
"""A reason that this release does not know; an institution may say anything."""

REASONS: Final = (
    "altered model",
    "another plan's model",
    "another run or plan",
    "bad-key",
    "bad-signature",
    "cohort differs from the plan",
    "cohort-without-me",
    "colluders",
    "consent",
    "consent has expired",
    "dead-and-alive",
    "duplicate-peer",
    "epoch is over",
    "epoch is too far ahead",
    "failed",
    "ledger-behind",
    "mask is not one the plan allows",
    "masked-twice",
    "model is out of bounds",
    "model or mask is not the described one",
    "not approved",
    "old release",
    "other-descriptor",
    "other-format",
    "other-protocol",
    "other-roster",
    "other-session",
    "out-of-order",
    "own-key-altered",
    "participants-too-few",
    "privacy budget",
    "protocol",
    "refused",
    "release",
    "repeated round differs",
    "revoked-peer",
    "ring",
    "ring differs from the plan",
    "roster-grew",
    "round is not in the plan",
    "round is over",
    "round was charged",
    "round was opened",
    "run is over",
    "second-survivors",
    "second-unmask",
    "segments differ from the plan",
    "share-altered",
    "share-missing",
    "survivors were signed",
    "survivors-too-few",
    "survivors-unsigned",
    "survivors-without-me",
    "terms differ from the plan",
    "threshold",
    "threshold differs from the plan",
    "unknown-peer",
    "withdrawn",
    "word on another release",
)
"""Every reason that a refusal names, and "failed" for what was no refusal."""


def known_reason(reason: str) -> str:
    """Return a reason as a label, of which there are only so many."""
    return reason if reason in REASONS else OTHER
