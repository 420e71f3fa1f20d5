"""What an institution remembers between the trips of one epoch.

Advertised -> Shared -> Masked -> Revealed: each step of `secagg` takes one stage and returns
the next, and each stage holds only the secrets that later steps need. Stages rest on the
institution's own machine as bytes. Whoever stores them replaces the old stage **before** the
message of the new one leaves; the parser then refuses every repeated or reordered step.
"""

import json
from typing import Annotated, Final, Literal, Self, final

from pydantic import Field, ValidationError

from common.crypto.keys import public_key
from common.crypto.refusals import DeadAndAliveError, MaskedTwiceError, OutOfOrderError
from common.crypto.session import Advert, Body, Key, Session, Share, seed_hash
from common.errors import ProtocolError

Name = Annotated[str, Field(min_length=1)]
Secret = Annotated[Key, Field(repr=False)]

_ORDER: Final = ("advertised", "shared", "masked", "revealed")


class Stage(Body):
    """Abstract: what all stages hold and how they are stored."""

    version: Literal[1] = 1
    stage: str
    me: Name
    session: Session

    def to_bytes(self) -> bytes:
        """Return the stage, its secrets included, as canonical JSON."""
        return self.model_dump_json().encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Parse `to_bytes`' form of this very stage.

        Raises:
            MaskedTwiceError: the masks of the epoch are already spent.
            DeadAndAliveError: the round was already opened.
            OutOfOrderError: another stage is stored.
            ProtocolError: the bytes are no stage at all.
        """
        try:
            _require_stage(cls.model_fields["stage"].default, json.loads(data)["stage"])
            state = cls.model_validate_json(data)
        except (ValidationError, ValueError, TypeError, KeyError, RecursionError):
            # Without the cause: it could repeat the secrets it failed to read.
            raise ProtocolError("a stored stage cannot be read: advertise anew") from None
        if state.to_bytes() != data:
            raise ProtocolError("a stored stage is not in canonical form: advertise anew")
        return state


@final
class Advertised(Stage):
    """Keys are out; nothing is shared yet."""

    stage: Literal["advertised"] = "advertised"
    mask_private: Secret
    seal_private: Secret
    seed: Secret

    @property
    def advert(self) -> Advert:
        """The advert that belongs to these secrets."""
        return Advert(
            session_tag=self.session.tag,
            mask_public=public_key(self.mask_private),
            seal_public=public_key(self.seal_private),
            seed_hash=seed_hash(self.seed, self.session, self.me),
        )


@final
class Bundle(Body):
    """What one institution deals to another: a share of each of its two secrets."""

    seed_share: Share = Field(repr=False)
    key_share: Share = Field(repr=False)

    def to_bytes(self) -> bytes:
        """Return both shares, 66 bytes."""
        return self.seed_share + self.key_share

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Parse `to_bytes`' form; raise `ProtocolError` on anything else."""
        half = len(data) // 2
        try:
            return cls(seed_share=data[:half], key_share=data[half:])
        except ValidationError:
            raise ProtocolError(f"a bundle of {len(data)} bytes is not two shares") from None


@final
class Shared(Stage):
    """Shares are dealt under ``threshold`` to all ``adverts``; nothing is masked yet."""

    stage: Literal["shared"] = "shared"
    threshold: int
    adverts: dict[Name, Advert]
    mask_private: Secret
    seal_private: Secret
    seed: Secret
    own: Bundle = Field(repr=False)


@final
class Masked(Stage):
    """The vector is out and its masks are forgotten; ``held`` is one bundle a cohort member."""

    stage: Literal["masked"] = "masked"
    threshold: int
    held: dict[Name, Bundle] = Field(repr=False)

    @property
    def cohort(self) -> tuple[str, ...]:
        """The sorted names whose masks enter the sum."""
        return tuple(sorted(self.held))


@final
class Revealed(Stage):
    """The shares are out; no secret of the epoch is left."""

    stage: Literal["revealed"] = "revealed"
    survivors: tuple[Name, ...]


def _require_stage(wanted: str, found: str) -> None:
    if found == wanted:
        return
    if _ORDER.index(found) < _ORDER.index(wanted):
        raise OutOfOrderError(f"the stored stage is {found!r}: {wanted!r} has to come first")
    if wanted == "shared":
        raise MaskedTwiceError("a vector already left under these masks: advertise a new epoch")
    if wanted == "masked":
        raise DeadAndAliveError("this round was already opened: repeat it under a new epoch")
    raise OutOfOrderError(f"the stored stage is already {found!r}: advertise a new epoch")
