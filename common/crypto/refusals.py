"""Why an institution refuses a step of secure aggregation; each ``reason`` is safe to send.

ProtocolError
├── BadKeyError               bad-key             a public key that agrees on nothing
├── CohortWithoutMeError      cohort-without-me   asked to mask for a cohort it is not in
├── DeadAndAliveError         dead-and-alive      a second opening of the same round
├── DuplicatePeerError        duplicate-peer      one key under two names, one name twice
├── MaskedTwiceError          masked-twice        a second vector under the same masks
├── MissingShareError         share-missing       a member of the cohort dealt nothing
├── NotASurvivorError         survivors-without-me
├── NotFiniteError            refused             depends on data, so it is not told apart
├── OtherSessionError         other-session       another run, plan, roster, round or epoch
├── OutOfOrderError           out-of-order        a stage before the one it follows
├── OwnKeyAlteredError        own-key-altered
├── ShareAlteredError         share-altered
├── SurvivorSetTooSmallError  survivors-too-few
├── ThresholdError            threshold
├── TooFewParticipantsError   participants-too-few
└── UnknownPeerError          unknown-peer
"""

from common.errors import ProtocolError


class BadKeyError(ProtocolError):
    """A public key is malformed or of low order."""

    reason = "bad-key"


class CohortWithoutMeError(ProtocolError):
    """The descriptor's cohort leaves out the institution that is asked to mask."""

    reason = "cohort-without-me"


class DeadAndAliveError(ProtocolError):
    """A second opening could combine both secrets of one peer, and so bare its update."""

    reason = "dead-and-alive"


class DuplicatePeerError(ProtocolError):
    """A key stands under two names, or a name stands twice in a list."""

    reason = "duplicate-peer"


class MaskedTwiceError(ProtocolError):
    """The masks of this epoch are spent; a second vector would show the difference."""

    reason = "masked-twice"


class MissingShareError(ProtocolError):
    """A member of the cohort has no share in the inbox."""

    reason = "share-missing"


class NotASurvivorError(ProtocolError):
    """The survivor set leaves out the institution that is asked to open it."""

    reason = "survivors-without-me"


class NotFiniteError(ProtocolError):
    """The update holds NaN or infinity; the reason is kept vague because data caused it."""

    reason = "refused"


class OtherSessionError(ProtocolError):
    """A message belongs to another run, plan, roster, round or epoch."""

    reason = "other-session"


class OutOfOrderError(ProtocolError):
    """The stored stage is not the one that this step follows."""

    reason = "out-of-order"


class OwnKeyAlteredError(ProtocolError):
    """The institution's own advert came back missing or changed."""

    reason = "own-key-altered"


class ShareAlteredError(ProtocolError):
    """A sealed share does not open: altered, swapped, or dealt under other facts."""

    reason = "share-altered"


class SurvivorSetTooSmallError(ProtocolError):
    """The survivor set is below the threshold."""

    reason = "survivors-too-few"


class ThresholdError(ProtocolError):
    """The threshold is out of range or not the one the shares were dealt with."""

    reason = "threshold"


class TooFewParticipantsError(ProtocolError):
    """The adverts or the cohort are below the threshold."""

    reason = "participants-too-few"


class UnknownPeerError(ProtocolError):
    """A name is not among those the step may concern."""

    reason = "unknown-peer"
