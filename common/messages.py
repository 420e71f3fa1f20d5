"""Versioned wire types and their one encoding in Flower's `RecordDict`.

A message is one ConfigRecord, because each further object of a message costs a request of
its own on Flower's engine. Parsing is strict: another version, an unknown kind, a missing,
extra or ill-typed field is a `ProtocolError`. Of another version it is read who speaks it, and no
more (`common.versions`).
"""

import hashlib
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, TypeVar

import numpy as np
from flwr.app import ConfigRecord, RecordDict
from numpy.typing import NDArray

from common import __version__
from common.errors import ProtocolError
from common.versions import PROTOCOL_VERSION, require_ours

RECORD = "fedprune"

MAX_TEXT, MAX_BYTES, MAX_ITEMS = 2**20, 2**28, 2**14
"""Longest string, bytes and list of a message; what each may really hold is checked later."""

M = TypeVar("M", bound="WireMessage")


@dataclass(frozen=True, slots=True)
class WireMessage:
    """Abstract: a message whose fields are str, int, bytes, or lists of str or bytes."""

    kind: ClassVar[str]

    def to_record(self) -> RecordDict:
        """Return the message as Flower sends it."""
        body: dict[str, Any] = {"version": PROTOCOL_VERSION, "kind": self.kind}
        body |= {part.name: getattr(self, part.name) for part in fields(self)}
        return RecordDict({RECORD: ConfigRecord(body)})

    @classmethod
    def from_record(cls: type[M], record: RecordDict) -> M:
        """Parse a record of exactly this kind; raise `ProtocolError` otherwise."""
        if set(record) != {RECORD} or not isinstance(record[RECORD], ConfigRecord):
            raise ProtocolError(f"a message must hold one record named {RECORD!r}")
        body = dict(record[RECORD])
        require_ours(body)
        del body["version"]
        if body.pop("kind", None) != cls.kind:
            raise ProtocolError(f"message is not of kind {cls.kind!r}")
        declared = {part.name: part.type for part in fields(cls)}
        if set(body) != set(declared):
            raise ProtocolError(f"message {cls.kind!r} has unknown or missing fields")
        for name, kind in declared.items():
            if not _fits(body[name], kind):
                raise ProtocolError(
                    f"field {name!r} of message {cls.kind!r} has another type or is too long"
                )
        return cls(**body)


def _fits(value: object, kind: object) -> bool:
    if kind == list[str] or kind == list[bytes]:
        inner = str if kind == list[str] else bytes
        return (
            isinstance(value, list)
            and len(value) <= MAX_ITEMS
            and all(_fits(item, inner) for item in value)
        )
    if isinstance(value, str | bytes) and len(value) > (
        MAX_TEXT if isinstance(value, str) else MAX_BYTES
    ):
        return False
    return type(value) is kind


@dataclass(frozen=True, slots=True)
class JoinRequest(WireMessage):
    """Server asks a node which institution it is.

    ``head``, here and in other messages, is that of the sender's audit log, empty if it keeps none.
    ``adverts[i]`` is the last one the server knows of ``names[i]``, in any run, with the digest of
    its session: an institution looks for its own, for the server does not know yet who it asks.
    """

    kind = "join"
    run: str
    names: list[str] = field(default_factory=list)
    adverts: list[bytes] = field(default_factory=list)
    release: str = __version__
    head: bytes = b""


@dataclass(frozen=True, slots=True)
class JoinReply(WireMessage):
    """Institution names itself, the plan it approved and the last epoch it took part in."""

    kind = "joined"
    name: str
    plan_hash: str
    epoch: int
    release: str = __version__
    head: bytes = b""


@dataclass(frozen=True, slots=True)
class AdvertiseRequest(WireMessage):
    """Server opens an epoch of a round; ``roster`` only after a revocation, else empty.

    ``advert`` is the institution's last one with the digest of its session, empty if none is known.
    """

    kind = "advertise"
    run: str
    round: int
    epoch: int
    roster: bytes = b""
    advert: bytes = b""


@dataclass(frozen=True, slots=True)
class AdvertiseReply(WireMessage):
    """Institution's signed keys for the epoch and the shares it dealt, by the roster's order."""

    kind = "advertised"
    advert: bytes
    sealed: bytes


@dataclass(frozen=True, slots=True)
class UpdateRequest(WireMessage):
    """A round: descriptor, model on surviving weights, mask if it changed, keys and shares.

    ``model`` is little-endian float32; ``mask`` is packed bits or empty. ``adverts[i]``,
    ``sealed[i]`` and ``paths[i]`` are from number i of the descriptor's cohort: its keys, what
    it dealt to the receiver, and the proof of that (none under plain aggregation).
    """

    kind = "update"
    descriptor: str
    model: bytes
    mask: bytes
    adverts: list[bytes]
    sealed: list[bytes]
    paths: list[bytes]
    head: bytes = b""


@dataclass(frozen=True, slots=True)
class UpdateReply(WireMessage):
    """The one vector of the round, packed ring values, and the keys for the next round.

    ``signature`` is the institution's over the vector. ``advert`` and ``sealed`` are those of
    `AdvertiseReply`, empty if no round follows. Under plain aggregation all but the vector is.
    """

    kind = "updated"
    vector: bytes
    signature: bytes
    advert: bytes
    sealed: bytes
    head: bytes = b""


@dataclass(frozen=True, slots=True)
class SignRequest(WireMessage):
    """Who sent a vector for the descriptor of this digest, when somebody did not."""

    kind = "sign"
    digest: bytes
    survivors: list[str]


@dataclass(frozen=True, slots=True)
class SignReply(WireMessage):
    """Institution's signature over that survivor set."""

    kind = "signed"
    signature: bytes


@dataclass(frozen=True, slots=True)
class UnmaskRequest(WireMessage):
    """Who sent a vector; with dropouts, ``signatures[i]`` of ``signers[i]`` over that set."""

    kind = "unmask"
    digest: bytes
    survivors: list[str]
    signers: list[str]
    signatures: list[bytes]


@dataclass(frozen=True, slots=True)
class UnmaskReply(WireMessage):
    """Openings of self-mask shares of survivors and of mask-key shares of the dropped."""

    kind = "unmasked"
    reveal: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class OfferRequest(WireMessage):
    """A release as operators signed it, what is said of it, and its withdrawal or nothing."""

    kind = "offer"
    manifest: bytes
    verdicts: list[bytes]
    withdrawal: bytes = b""
    release: str = __version__


@dataclass(frozen=True, slots=True)
class DeliverRequest(WireMessage):
    """One file of a release that was offered, by the run that it is of."""

    kind = "deliver"
    run: str
    name: str
    data: bytes
    release: str = __version__


@dataclass(frozen=True, slots=True)
class OfferReply(WireMessage):
    """Institution names itself, the files it lacks, and its signed word if its people gave one."""

    kind = "offered"
    name: str
    wanted: list[str]
    verdict: bytes = b""
    release: str = __version__


@dataclass(frozen=True, slots=True)
class Refusal(WireMessage):
    """An institution will not do what it was asked; the reason carries no data."""

    kind = "refused"
    reason: str


@dataclass(frozen=True, slots=True)
class Foreign(WireMessage):
    """An institution was asked in another protocol: who it is, and by ``version`` what it speaks.

    The receiver reads no more of it than `common.versions` says, which no version may change.
    """

    kind = "foreign"
    name: str
    release: str = __version__


def kind_of(record: RecordDict) -> str:
    """Return the kind a record claims to be, or an empty string."""
    body = record.get(RECORD)
    kind = body.get("kind") if isinstance(body, ConfigRecord) else None
    return kind if isinstance(kind, str) else ""


def encode_weights(weights: NDArray[np.float32]) -> bytes:
    """Return little-endian float32."""
    return weights.astype("<f4").tobytes()


def decode_weights(data: bytes, length: int) -> NDArray[np.float32]:
    """Invert `encode_weights`; refuse a wrong length or values that are not finite."""
    if len(data) != 4 * length:
        raise ProtocolError(f"model of {len(data)} bytes does not hold {length} float32 weights")
    weights = np.frombuffer(data, "<f4").astype(np.float32)
    if not np.isfinite(weights).all():
        raise ProtocolError("the model holds weights that are not finite")
    return weights


def model_hash(data: bytes) -> str:
    """Return the SHA-256 of an encoded model, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()
