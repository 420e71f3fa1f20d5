"""An institution's answers: one function a trip, memory and request in, memory and reply out.

The trip that trains stands in `client.update`. Stock Flower starts a process a message, so
these import neither torch nor pandas.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from client.memory import Memory
from client.policy import TermsChangedError, require_epoch
from common import messages as wire
from common.crypto import secagg
from common.crypto.roster import roster_hash
from common.crypto.session import Advert, Session
from common.crypto.stages import Advertised, Masked
from common.entropy import Entropy
from common.errors import ProtocolError
from common.plan import Plan

if TYPE_CHECKING:
    from client.data import Splits


@dataclass(frozen=True)
class Institution:
    """A member: its name, the plan it approved, where its prepared rows come from, its entropy."""

    name: str
    plan: Plan
    rows: Callable[[], Splits]
    entropy: Entropy

    @cached_property
    def splits(self) -> Splits:
        """The prepared rows, read when first needed."""
        return self.rows()


def join(
    institution: Institution, memory: Memory, request: wire.JoinRequest
) -> tuple[Memory, wire.JoinReply]:
    """Say who this is and which plan it approved; an unfit table keeps it from joining."""
    _ = institution.splits
    return memory, wire.JoinReply(institution.name, institution.plan.digest())


def advertise(
    institution: Institution, memory: Memory, request: wire.AdvertiseRequest
) -> tuple[Memory, wire.AdvertiseReply]:
    """Make fresh keys for an epoch."""
    plan = institution.plan
    require_epoch(memory, request.run, request.round, request.epoch, plan)
    session = Session(
        run=request.run,
        plan_hash=plan.digest(),
        roster_hash=roster_hash(plan.names),
        round=request.round,
        epoch=request.epoch,
    )
    stream = institution.entropy.stream(f"epoch-{request.epoch}/advertise")
    state, advert = secagg.advertise(institution.name, session, stream)
    memory = replace(memory, run=request.run, epoch=request.epoch, secrets=state.to_bytes())
    return memory, wire.AdvertiseReply(advert.to_bytes())


def share(
    institution: Institution, memory: Memory, request: wire.ShareRequest
) -> tuple[Memory, wire.ShareReply]:
    """Deal shares of this epoch's secrets to the cohort."""
    state = Advertised.from_bytes(memory.secrets)
    adverts = by_name(request.names, request.adverts)
    if not set(adverts) <= set(institution.plan.names):
        raise TermsChangedError("an advert comes from outside the plan")
    shared, sealed = secagg.share(
        state,
        {name: Advert.from_bytes(data) for name, data in adverts.items()},
        institution.plan.threshold,
        institution.entropy.stream(f"epoch-{memory.epoch}/share"),
    )
    memory = replace(memory, secrets=shared.to_bytes())
    return memory, wire.ShareReply(list(sealed), list(sealed.values()))


def unmask(
    institution: Institution, memory: Memory, request: wire.UnmaskRequest
) -> tuple[Memory, wire.UnmaskReply]:
    """Open this institution's part of the sum over the survivors, once."""
    state = Masked.from_bytes(memory.secrets)
    revealed, reveal = secagg.reveal(state, request.survivors)
    memory = replace(memory, opened=memory.round, secrets=revealed.to_bytes())
    return memory, wire.UnmaskReply(reveal.to_bytes())


def by_name(names: list[str], values: list[bytes]) -> dict[str, bytes]:
    """Pair a message's two lists; raise `ProtocolError` unless they fit one to one."""
    if len(names) != len(values) or len(set(names)) != len(names):
        raise ProtocolError("names and values do not pair up one to one")
    return dict(zip(names, values, strict=True))
