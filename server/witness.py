"""What passes between the server and its institutions, as its audit log has it."""

from collections.abc import Mapping
from dataclasses import replace
from typing import final

from flwr.app import Message

from common import messages as wire
from common.console import printable
from common.descriptor import RoundDescriptor
from common.errors import ProtocolError
from common.trail.events import Arrived, Asked, WasRefused
from common.trail.interface import Trail
from common.trail.lines import HEAD_SIZE

LONGEST = 100
"""Characters of what an institution says that are noted."""


@final
class Witness:
    """Notes requests before they leave and refusals as they come, and exchanges the logs' heads.

    ``heads`` are the last that institutions sent with a vector, in hexadecimal, by name.
    """

    def __init__(self, trail: Trail) -> None:
        """Write to ``trail``."""
        self.trail = trail
        self.heads: dict[str, str] = {}
        self._run = ""

    def sent(self, requests: Mapping[int, wire.WireMessage]) -> dict[int, wire.WireMessage]:
        """Note that vectors are asked for; return the requests with the head of this log."""
        updates = (one for one in requests.values() if isinstance(one, wire.UpdateRequest))
        for text in sorted({update.descriptor for update in updates}):
            self.trail.append(_asked(RoundDescriptor.from_json(text)))
            self.heads = {}
        head = self.trail.head
        return {node: self._headed(request, head) for node, request in requests.items()}

    def received(self, message: Message, name: str, what: str) -> None:
        """Note an arrival or a refusal, and keep the head of a vector; ``name`` may be unknown.

        ``what`` was asked.
        """
        if message.has_error():
            return
        try:
            self._received(message, name, what)
        except ProtocolError:
            return  # Whoever reads the reply says so.

    def _received(self, message: Message, name: str, what: str) -> None:
        match wire.kind_of(message.content):
            case wire.Refusal.kind:
                reason = _bounded(wire.Refusal.from_record(message.content).reason)
                self.trail.append(WasRefused(institution=name, what=what, told=reason))
            case wire.JoinReply.kind:
                reply = wire.JoinReply.from_record(message.content)
                self.trail.append(
                    Arrived(
                        run=self._run,
                        institution=_bounded(reply.name),
                        plan=_bounded(reply.plan_hash),
                        head=_head(reply.head),
                    )
                )
            case wire.UpdateReply.kind:
                self.heads[name] = _head(wire.UpdateReply.from_record(message.content).head)

    def _headed(self, request: wire.WireMessage, head: bytes) -> wire.WireMessage:
        if isinstance(request, wire.JoinRequest):
            self._run = request.run
        if head and isinstance(request, wire.JoinRequest | wire.UpdateRequest):
            return replace(request, head=head)
        return request


def _asked(descriptor: RoundDescriptor) -> Asked:
    return Asked(
        run=descriptor.run,
        round=descriptor.round,
        epoch=descriptor.epoch,
        plan=descriptor.plan_hash,
        roster=descriptor.roster_hash,
        descriptor=descriptor.digest().hex(),
        model=descriptor.model_hash,
        mask=descriptor.mask_hash,
        cohort=descriptor.cohort,
    )


def _bounded(text: str) -> str:
    """Return what an institution chose to say, short and printable."""
    return printable(text[:LONGEST])


def _head(data: bytes) -> str:
    """Return a head in hexadecimal; what is none says nothing."""
    return data.hex() if len(data) == HEAD_SIZE else ""
