"""What an audit log can say: a frozen model an event, in one registry by name.

Another feature adds its events by deriving from `Event` under ``@EVENTS.register(name)``. A field
is never renamed or given another meaning: a changed event takes a new name, so that old logs stay
readable. Hashes and keys are lower-case hexadecimal, times Unix seconds. Nothing of a record and no
secret is ever in an event; what depends on records stands in an institution's own log alone.
"""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from common.crypto.body import Body
from common.registry import Registry

Hash = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
"""SHA-256 or a public key."""

Head = Annotated[str, Field(pattern="^([0-9a-f]{208})?$")]
"""Another log's last line as its owner signed it (`common.trail.lines.Head`), or nothing."""

Text = Annotated[str, Field(max_length=1000)]
Count = Annotated[int, Field(ge=0)]
Names = tuple[Text, ...]


class Event(Body):
    """Abstract: one thing that happened; the docstring's first line stands in the README."""

    kind: ClassVar[str] = ""


class _Events(Registry[type[Event]]):
    """The events by name; each class knows its own."""

    def register(self, name: str) -> Any:
        """Return a decorator that files a model under ``name``, and tells it."""
        file = super().register(name)

        def add(event: type[Event]) -> type[Event]:
            event.kind = name
            return file(event)

        return add


EVENTS = _Events("event")


@EVENTS.register("began")
class Began(Event):
    """First line of a log: the key that signs all its lines."""

    key: Hash


@EVENTS.register("vouched")
class Vouched(Event):
    """The owner's long-lived key (roster's or an operator's) signs for the log's key."""

    by: Hash
    voucher: Annotated[str, Field(pattern="^[0-9a-f]{128}$")]


@EVENTS.register("vouched_as_it_is")
class VouchedAsItIs(Event):
    """The owner's key signs for the log though it lacks some of what was noted elsewhere till then.

    `noted` is how many lines that was, `last` the hash of the last.
    """

    by: Hash
    noted: Count
    last: Hash
    voucher: Annotated[str, Field(pattern="^[0-9a-f]{128}$")]


@EVENTS.register("continued")
class Continued(Event):
    """First line after a rotation: the file that ended, its SHA-256, its lines."""

    file: Text
    sha256: Hash
    lines: Count


@EVENTS.register("healed")
class Healed(Event):
    """A last line that a crash left unfinished was cut off: how many bytes, and their SHA-256."""

    removed: Count
    sha256: Hash


@EVENTS.register("refused")
class Refused(Event):
    """Something asked of this side was not done; `told` is all that the other side heard."""

    what: Text
    told: Text
    because: Text


@EVENTS.register("refused_again")
class RefusedAgain(Event):
    """The same was refused for the same reason so many times more, in a minute or over."""

    what: Text
    told: Text
    times: Annotated[int, Field(ge=1)]


@EVENTS.register("restored")
class Restored(Event):
    """The home was restored from a backup of this time: lines since then are gone."""

    made: Count


# At the server.


@EVENTS.register("founded")
class Founded(Event):
    """A federation was founded, with these operators."""

    federation: Text
    operators: dict[str, Hash]
    quorum: Count


@EVENTS.register("admitted")
class Admitted(Event):
    """A member was enrolled by its signing key, in place of an earlier one if there was one."""

    institution: Text
    signing_public: Hash
    replaces: Annotated[str, Field(pattern="^([0-9a-f]{64})?$")]
    signers: tuple[Hash, ...]


@EVENTS.register("revoked")
class Revoked(Event):
    """A member takes part no more."""

    institution: Text
    signing_public: Hash
    signers: tuple[Hash, ...]


@EVENTS.register("published")
class Published(Event):
    """A charter was published for the members to approve, or to end what they approved."""

    number: Count
    charter: Hash
    plan: Hash
    roster: Hash
    members: Names
    expires: Count
    signers: tuple[Hash, ...]


@EVENTS.register("run_began")
class RunBegan(Event):
    """A process begins a run or goes on with one, at this round."""

    run: Text
    plan: Hash
    roster: Annotated[str, Field(pattern="^([0-9a-f]{64})?$")]
    round: Count


@EVENTS.register("arrived")
class Arrived(Event):
    """An institution answered the question who it is, with the head of its own log."""

    run: Text
    institution: Text
    plan: Text
    head: Head


@EVENTS.register("asked")
class Asked(Event):
    """An attempt (epoch) at a round asks its cohort for vectors: descriptor, model and mask."""

    run: Text
    round: Count
    epoch: Count
    plan: Hash
    roster: Hash
    descriptor: Hash
    model: Hash
    mask: Hash
    cohort: Names


@EVENTS.register("was_refused")
class WasRefused(Event):
    """An institution refused a trip, and told this reason."""

    institution: Text
    what: Text
    told: Text


@EVENTS.register("was_refused_again")
class WasRefusedAgain(Event):
    """The same institution refused the same so many times more, in a minute or over.

    `told` is "other" for all reasons that this release does not know, taken together.
    """

    institution: Text
    what: Text
    told: Text
    times: Annotated[int, Field(ge=1)]


@EVENTS.register("round_over")
class RoundOver(Event):
    """A round ended: who is in its sum (nobody if it was lost), and the model made of it.

    Bytes are those of one institution on average; `heads` are the survivors' logs at their vectors.
    """

    run: Text
    round: Count
    epoch: Count
    survivors: Names
    model: Hash
    mask: Hash
    kept: Count
    bytes_up: Count
    bytes_down: Count
    heads: dict[str, Head]


@EVENTS.register("run_ended")
class RunEnded(Event):
    """A process is done with a run: finished, stopped, or failed for a kind of error."""

    run: Text
    outcome: Literal["finished", "stopped", "failed"]
    error: Text


@EVENTS.register("model_written")
class ModelWritten(Event):
    """The model of a run's last round is about to be written in each form for release."""

    run: Text
    round: Count
    model: Hash
    mask: Hash


@EVENTS.register("release_offered")
class ReleaseOffered(Event):
    """Operators released a model; `release` is the manifest's hash, which those below name too."""

    run: Text
    plan: Hash
    release: Hash
    model: Hash
    mask: Hash
    signers: tuple[Hash, ...]


@EVENTS.register("verdict_taken")
class VerdictTaken(Event):
    """An institution's signed word on a release came in: sign-off or objection."""

    run: Text
    release: Hash
    institution: Text
    word: Text


# On both sides.


@EVENTS.register("release_final")
class ReleaseFinal(Event):
    """As many institutions as the plan says have signed a release off: it may be used."""

    run: Text
    release: Hash
    signed: Names


@EVENTS.register("release_withdrawn")
class ReleaseWithdrawn(Event):
    """Operators took a release back."""

    run: Text
    release: Hash
    signers: tuple[Hash, ...]


# At an institution.


@EVENTS.register("release_received")
class ReleaseReceived(Event):
    """A release was checked and is kept here; nothing is said of it by that."""

    run: Text
    plan: Hash
    release: Hash
    model: Hash
    mask: Hash


@EVENTS.register("signed_off")
class SignedOff(Event):
    """This institution is about to sign a release off."""

    run: Text
    release: Hash


@EVENTS.register("objected")
class Objected(Event):
    """This institution is about to object to a release; the reason stays in this log."""

    run: Text
    release: Hash
    reason: Text


@EVENTS.register("scored_unreleased")
class ScoredUnreleased(Event):
    """A table is about to be scored by a model that is not final, and why it is not."""

    model: Hash
    because: Text


@EVENTS.register("enrolled")
class Enrolled(Event):
    """Keys were made, and a request to be a member under them, or to replace those in use."""

    institution: Text
    signing_public: Hash
    agreement_public: Hash


@EVENTS.register("shown")
class Shown(Event):
    """A bundle was checked and shown; nothing holds yet by that."""

    number: Count
    charter: Hash
    plan: Hash
    roster: Hash


@EVENTS.register("approved")
class Approved(Event):
    """A charter is put in force: by approval, or by itself where it only shrinks an earlier one."""

    number: Count
    charter: Hash
    plan: Hash
    roster: Hash
    authority: Hash
    address: Text
    expires: Count
    by: Literal["approval", "shrinking"]


@EVENTS.register("left")
class Left(Event):
    """Consent was withdrawn and these key files erased."""

    erased: Names


@EVENTS.register("joined")
class Joined(Event):
    """The institution told a run who it is; `head` is that of the server's log."""

    run: Text
    plan: Hash
    head: Head


@EVENTS.register("shrank")
class Shrank(Event):
    """A roster with fewer members is taken over from the server."""

    run: Text
    roster: Hash
    revoked: Names


@EVENTS.register("charged")
class Charged(Event):
    """The ledger charged a round's release of one part of the rows, before any work.

    `epsilon` is what the table has lost so far over all runs, an upper bound by RDP; null without
    noise or where runs hide different units.
    """

    run: Text
    plan: Hash
    round: Count
    epoch: Count
    part: Text
    unit: Text
    noise_multiplier: float
    sample_rate: float
    steps: Count
    delta: float
    epsilon: float | None


@EVENTS.register("contributed")
class Contributed(Event):
    """The vector of a round is about to leave, for the model and mask that were received.

    `again` marks the stored vector of a repeated round; `head` is that of the server's log.
    """

    run: Text
    plan: Hash
    round: Count
    epoch: Count
    descriptor: Hash
    model: Hash
    mask: Hash
    again: bool
    head: Head


@EVENTS.register("opened")
class Opened(Event):
    """The institution's part in opening a round's sum over these survivors is about to leave."""

    run: Text
    round: Count
    epoch: Count
    survivors: Names
