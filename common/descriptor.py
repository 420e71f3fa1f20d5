"""What the parties of one round must agree on, and the hash that binds them to it.

The digest enters every pair key, so institutions that were shown different models, masks
or cohorts produce masks that do not cancel.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from math import isfinite

from pydantic import TypeAdapter, ValidationError

from common.crypto.refusals import RingError
from common.errors import ProtocolError


@dataclass(frozen=True, slots=True)
class Segment:
    """A named stretch of the one vector an institution sends.

    ``length`` values, each at most ``bound`` in magnitude (it saturates), sent as the
    integer ``value * scale``.
    """

    name: str
    length: int
    scale: float
    bound: float

    @property
    def limit(self) -> int:
        """Largest integer magnitude one institution may contribute to a slot."""
        return int(self.bound * self.scale) + 1


@dataclass(frozen=True, slots=True)
class RoundDescriptor:
    """The public facts of one attempt (epoch) at one round.

    Hashes are lower-case hexadecimal SHA-256. ``cohort`` holds the sorted names of the
    institutions whose masks enter the sum. ``epoch`` never repeats within a run.
    """

    run: str
    plan_hash: str
    roster_hash: str
    round: int
    epoch: int
    cohort: tuple[str, ...]
    threshold: int
    ring_bits: int
    model_hash: str
    mask_hash: str
    segments: tuple[Segment, ...]

    def __post_init__(self) -> None:
        """Refuse a descriptor that contradicts itself."""
        if list(self.cohort) != sorted(set(self.cohort)):
            raise ProtocolError("cohort is not sorted or names an institution twice")
        if not 16 <= self.ring_bits <= 32:
            raise RingError(f"ring of {self.ring_bits} bits is outside 16 to 32")
        names = [segment.name for segment in self.segments]
        if len(set(names)) != len(names):
            raise ProtocolError("a segment name occurs twice in the descriptor")
        for segment in self.segments:
            sizes = (segment.scale, segment.bound, segment.scale * segment.bound)
            if segment.length < 0 or not all(isfinite(size) and size > 0 for size in sizes):
                raise ProtocolError(f"segment {segment.name!r} has no positive scale and bound")
            if len(self.cohort) * segment.limit >= 2 ** (self.ring_bits - 1):
                raise ProtocolError(
                    f"segment {segment.name!r}: {len(self.cohort)} x {segment.limit} overflows"
                    f" a ring of {self.ring_bits} bits: raise aggregation.ring_bits"
                )

    @property
    def length(self) -> int:
        """Number of ring values in the vector."""
        return sum(segment.length for segment in self.segments)

    def to_json(self) -> str:
        """Return the canonical JSON form, the one that is hashed and sent."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"), allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> "RoundDescriptor":
        """Parse `to_json`'s form; raise `ProtocolError` on anything else."""
        try:
            descriptor = _ADAPTER.validate_json(text, strict=True)
        except ValidationError as error:
            raise ProtocolError("the round descriptor cannot be read") from error
        if descriptor.to_json() != text:
            raise ProtocolError("the round descriptor is not in canonical form")
        return descriptor

    def digest(self) -> bytes:
        """Return the SHA-256 of the canonical form, 32 bytes."""
        return hashlib.sha256(b"fedprune/1/descriptor/" + self.to_json().encode()).digest()


_ADAPTER = TypeAdapter(RoundDescriptor)  # built once: it costs as much as a whole round's keys
