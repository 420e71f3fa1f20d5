"""Why an institution refuses a step of secure aggregation; each ``reason`` is safe to send.

ProtocolError
├── BadKeyError               bad-key               a public key that agrees on nothing
├── BadSignatureError         bad-signature         not signed by the roster's key
├── CohortWithoutMeError      cohort-without-me     asked to mask for a cohort it is not in
├── ColludersError            colluders             too many for the threshold to withstand
├── DeadAndAliveError         dead-and-alive        a second opening, for other survivors
├── DuplicatePeerError        duplicate-peer        one key under two names, one name twice
├── MaskedTwiceError          masked-twice          a second vector under the same masks
├── MissingShareError         share-missing         a cohort member's keys or shares are absent
├── NotASurvivorError         survivors-without-me
├── NotFiniteError            refused               depends on data, so it is not told apart
├── OtherDescriptorError      other-descriptor      survivors of another descriptor
├── OtherRosterError          other-roster          not the roster that was approved
├── OtherSessionError         other-session         another run, plan, round or epoch
├── OutOfOrderError           out-of-order          a stage before the one it follows
├── OwnKeyAlteredError        own-key-altered
├── RevokedPeerError          revoked-peer          a member that was revoked
├── RingError                 ring                  a ring outside 16 to 32 bits
├── RosterGrewError           roster-grew           a name or key that was never approved
├── SecondSurvivorsError      second-survivors      another survivor set than the one signed
├── SecondUnmaskError         second-unmask         the same opening once more
├── ShareAlteredError         share-altered         not what its dealer signed
├── SurvivorSetTooSmallError  survivors-too-few
├── ThresholdError            threshold
├── TooFewParticipantsError   participants-too-few
├── UnderSignedError          survivors-unsigned    fewer signatures than the threshold
└── UnknownPeerError          unknown-peer
"""

from common.errors import ProtocolError


class BadKeyError(ProtocolError):
    """A public key is malformed or of low order."""

    reason = "bad-key"


class BadSignatureError(ProtocolError):
    """A signature is not that of the key the roster names."""

    reason = "bad-signature"


class CohortWithoutMeError(ProtocolError):
    """The descriptor's cohort leaves out the institution that is asked to mask."""

    reason = "cohort-without-me"


class ColludersError(ProtocolError):
    """So many colluders could open a round twice under this threshold."""

    reason = "colluders"


class DeadAndAliveError(ProtocolError):
    """A second opening for other survivors: both secrets of one peer would bare its update."""

    reason = "dead-and-alive"


class DuplicatePeerError(ProtocolError):
    """A key stands under two names, or a name stands twice in a list."""

    reason = "duplicate-peer"


class MaskedTwiceError(ProtocolError):
    """The masks of this epoch are spent; a second vector would show the difference."""

    reason = "masked-twice"


class MissingShareError(ProtocolError):
    """The advert or the share of a member of the cohort is absent."""

    reason = "share-missing"


class NotASurvivorError(ProtocolError):
    """The survivor set leaves out the institution that is asked to open it."""

    reason = "survivors-without-me"


class NotFiniteError(ProtocolError):
    """The update holds NaN or infinity; the reason is kept vague because data caused it."""

    reason = "refused"


class OtherDescriptorError(ProtocolError):
    """The survivors are those of another descriptor than the one that was masked for."""

    reason = "other-descriptor"


class OtherRosterError(ProtocolError):
    """The roster is not the one this institution approved."""

    reason = "other-roster"


class OtherSessionError(ProtocolError):
    """A message belongs to another run, plan, round or epoch."""

    reason = "other-session"


class OutOfOrderError(ProtocolError):
    """The stored stage is not the one that this step follows."""

    reason = "out-of-order"


class OwnKeyAlteredError(ProtocolError):
    """The institution's own advert came back missing or changed."""

    reason = "own-key-altered"


class RevokedPeerError(ProtocolError):
    """A member that was revoked is made to take part."""

    reason = "revoked-peer"


class RingError(ProtocolError):
    """The ring is too small to hold a sum or too large to pack."""

    reason = "ring"


class RosterGrewError(ProtocolError):
    """A roster names a member or key that the approved one does not."""

    reason = "roster-grew"


class SecondSurvivorsError(ProtocolError):
    """The survivor set differs from the one this institution has signed."""

    reason = "second-survivors"


class SecondUnmaskError(ProtocolError):
    """The sum was opened for these survivors before; its secrets are gone."""

    reason = "second-unmask"


class ShareAlteredError(ProtocolError):
    """A sealed share is not the one its dealer signed: altered, swapped or moved."""

    reason = "share-altered"


class SurvivorSetTooSmallError(ProtocolError):
    """The survivor set is below the threshold, or few enough for the colluders to see through."""

    reason = "survivors-too-few"


class ThresholdError(ProtocolError):
    """The threshold is out of range or not the one the shares were dealt with."""

    reason = "threshold"


class TooFewParticipantsError(ProtocolError):
    """The cohort is below the threshold, or few enough for the colluders to see through."""

    reason = "participants-too-few"


class UnderSignedError(ProtocolError):
    """Fewer members than the threshold have signed the survivor set."""

    reason = "survivors-unsigned"


class UnknownPeerError(ProtocolError):
    """A name is not among those the step may concern."""

    reason = "unknown-peer"
