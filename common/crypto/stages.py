"""What an institution remembers between the trips of one epoch.

Two things, each replaced as a whole: the keys that are prepared for a session to come, and
how far the present one is (masked, then revealed). Each holds only the secrets that later
steps need. They rest on the institution's own machine as bytes. Whoever stores them replaces
the old state **before** the message of the new one leaves; the lookups here then refuse every
repeated or reordered step.
"""

from collections.abc import Collection
from typing import Annotated, Literal, Self, final

from pydantic import Field, ValidationError

from common.crypto.body import Body, Key, Name
from common.crypto.refusals import (
    DeadAndAliveError,
    MaskedTwiceError,
    OtherDescriptorError,
    OutOfOrderError,
    SecondUnmaskError,
)
from common.crypto.session import Advert, Opening, Session
from common.descriptor import RoundDescriptor
from common.errors import ProtocolError

Secret = Annotated[Key, Field(repr=False)]


@final
class Prepared(Body):
    """Keys are out and shares dealt for one session; the sealing key is forgotten already."""

    session: Session
    advert: Advert
    mask_private: Secret
    seed: Secret


@final
class Held(Body):
    """The keys of the two shares that one dealer dealt to me."""

    seed: Opening = Field(repr=False)
    key: Opening = Field(repr=False)


@final
class Masked(Body):
    """The vector is out and its masks are forgotten; ``held`` opens what the cohort dealt.

    ``digest`` is the descriptor's; ``signed`` the survivor set I have put my name to, if any.
    """

    stage: Literal["masked"] = "masked"
    session: Session
    digest: Key
    cohort: tuple[Name, ...]
    held: dict[Name, Held] = Field(repr=False)
    signed: tuple[Name, ...] = ()


@final
class Revealed(Body):
    """The openings for the ``survivors`` are out; no secret of the epoch is left."""

    stage: Literal["revealed"] = "revealed"
    session: Session
    digest: Key
    survivors: tuple[Name, ...]


@final
class State(Body):
    """Everything an institution keeps of secure aggregation between two trips."""

    version: Literal[4] = 4
    prepared: Prepared | None = None
    current: Annotated[Masked | Revealed, Field(discriminator="stage")] | None = None

    def to_bytes(self) -> bytes:
        """Return the state, its secrets included, as canonical JSON."""
        return self.model_dump_json().encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Parse `to_bytes`' form, or nothing at all as a fresh state.

        Raises:
            ProtocolError: the bytes are no state.
        """
        if not data:
            return cls()
        try:
            state = cls.model_validate_json(data)
        except ValidationError:
            # Without the cause: it could repeat the secrets it failed to read.
            raise ProtocolError("a stored state cannot be read: advertise anew") from None
        if state.to_bytes() != data:
            raise ProtocolError("a stored state is not in canonical form: advertise anew")
        return state

    def prepared_for(self, descriptor: RoundDescriptor) -> Prepared:
        """Return the keys for a descriptor's session.

        Raises:
            MaskedTwiceError: they have masked a vector already.
            OutOfOrderError: none were advertised.
            OtherRosterError, OtherSessionError: they belong to another session.
        """
        if self.current is not None and self.current.session == Session.of(descriptor):
            raise MaskedTwiceError("a vector already left under these masks: begin a new epoch")
        if self.prepared is None:
            raise OutOfOrderError("no keys are prepared: advertise first")
        self.prepared.session.require(descriptor)
        return self.prepared

    def masked_for(self, digest: bytes, survivors: Collection[str]) -> Masked:
        """Return the masked stage of a descriptor's digest, to open it for these survivors.

        Raises:
            OutOfOrderError: no vector was masked.
            OtherDescriptorError: one was masked for another descriptor.
            SecondUnmaskError: it was opened for these survivors already.
            DeadAndAliveError: it was opened for others.
        """
        if self.current is None:
            raise OutOfOrderError("no vector was masked: mask one first")
        if self.current.digest != digest:
            raise OtherDescriptorError("the survivors are those of another descriptor")
        if isinstance(self.current, Revealed):
            if set(survivors) != set(self.current.survivors):
                raise DeadAndAliveError("this round was opened for other survivors: go on")
            raise SecondUnmaskError("this round was already opened: go on to the next")
        return self.current
