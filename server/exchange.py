"""Requests out, typed replies back, by institution name, over any Flower `Grid`."""

import logging
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from flwr.app import Message
from flwr.common.serde import message_to_proto
from flwr.serverapp import Grid

from common import messages as wire
from common.console import printable
from common.crypto.roster import Roster
from common.errors import AggregationError, ProtocolError
from common.timings import Timings
from common.trail.folding import Folding
from common.trail.interface import Trail, Untold
from common.versions import OURS, OtherProtocolError, Speaker
from common.waiting import Pause
from server.adverts import Adverts
from server.awaited import Awaits
from server.owners import Owners
from server.witness import Witness

log = logging.getLogger("fedprune.server")

M = TypeVar("M", bound=wire.WireMessage)

TRIPS = {
    wire.JoinRequest: "query.join",
    wire.AdvertiseRequest: "query.advertise",
    wire.UpdateRequest: "train.update",
    wire.SignRequest: "query.sign",
    wire.UnmaskRequest: "train.unmask",
    wire.OfferRequest: "query.offer",
    wire.DeliverRequest: "query.deliver",
}

FIRST_PAUSE, LONGEST_PAUSE = 0.02, 0.5
"""Seconds between looks for replies; Flower's own wait would look every three."""

REASON_CHARACTERS = 80
"""Of a refusal that are shown; an honest one is shorter."""

JOIN_SECONDS = 2.0
"""Pause before nodes that came late, or could not answer, are asked who they are."""

OVER = frozenset({"round was opened", "round is over"})
"""Why institutions refuse a round that was finished before: the run went further than is known."""


@dataclass
class Traffic:
    """Serialised bytes of messages since the last reset, by institution; seconds by stage."""

    up: Counter[str] = field(default_factory=Counter)
    down: Counter[str] = field(default_factory=Counter)
    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))


class Caller(Protocol):
    """What a round asks of its transport."""

    roster: Roster | None
    adverts: Adverts

    def call(
        self, requests: Mapping[str, wire.WireMessage], expected: type[M], group: str
    ) -> dict[str, M]:
        """Send each institution its request; return the replies of those that answered."""
        ...


class Exchange:
    """The server's end of every trip."""

    def __init__(  # noqa: PLR0913, PLR0917
        self,
        grid: Grid,
        timeout: float,
        roster: Roster | None = None,
        adverts: Adverts | None = None,
        trail: Trail | None = None,
        timings: Timings | None = None,
        owners: Owners | None = None,
        awaits: Awaits = lambda missing: None,
    ) -> None:
        """Talk over ``grid``; a trip takes at most ``timeout`` seconds.

        ``roster`` holds the members' public keys, which plain aggregation does without, and
        ``adverts`` what they signed last, in earlier runs too. What passes is told to ``trail``,
        how long it took to ``timings``. ``owners`` says whose each node is; without it nodes are
        taken at their word. ``awaits`` is told whom `join` waits for.
        """
        self.roster = roster
        self.adverts = adverts or Adverts()
        self._grid = grid
        self._timeout = timeout
        # An institution that refuses over and over must not fill the server's disk by it.
        self.witness = Witness(Folding().onto(trail or Untold()))
        self._timings = timings or Timings()
        self._owners, self._owned = owners, dict[int, str]()
        self._awaits = awaits
        self._said: dict[str, str] = {}
        self._nodes: dict[str, int] = {}
        self._foreign: dict[str, Speaker] = {}
        self.last_epoch = -1
        self.traffic = Traffic()
        self.finished: set[str] = set()
        """Who refused a round because it is over, since this was last emptied."""
        self.refused: dict[str, str] = {}
        """Why the last trip was refused, by institution, or by node before its name is known."""

    def join(self, run: str, names: tuple[str, ...], plan_hash: str) -> None:
        """Learn which node is which member, waiting until all of ``names`` have answered.

        ``last_epoch`` is then the latest that any of them took part in.

        Raises `AggregationError` naming who is missing, who approved another plan, and who speaks
        another protocol.
        """
        deadline = time.monotonic() + self._timeout
        known = self.adverts.of(self.roster)
        request = wire.JoinRequest(run, list(known), list(known.values()))
        answered: set[int] = set()
        strays: set[str] = set()
        while set(names) - set(self._nodes) - strays and time.monotonic() < deadline:
            nodes = self._connected() - answered
            replies = self._trip(dict.fromkeys(nodes, request), wire.JoinReply, "join")
            answered |= set(replies) | {node for node in nodes if str(node) in self._foreign}
            strays |= {speaker.name for speaker in self._foreign.values()}
            for node, reply in replies.items():
                if (owner := self._owned.get(node, reply.name)) != reply.name:
                    log.warning("the node of %s says it is %.99s: left out", owner, reply.name)
                elif reply.name not in names or reply.name in self._nodes:
                    log.warning("%.99s is no member, or is here twice: left out", reply.name)
                elif reply.plan_hash != plan_hash:
                    log.warning("%s approved another plan, %.99s", reply.name, reply.plan_hash)
                    strays.add(reply.name)
                else:
                    self._nodes[reply.name] = node
                    self.last_epoch = max(self.last_epoch, reply.epoch)
                    if reply.release != OURS.release:
                        log.info("%s runs fedprune %.99r", reply.name, reply.release)
            self._awaits(self._missing(set(names) - set(self._nodes)))
            if not replies:
                time.sleep(JOIN_SECONDS)
        self._awaits({})
        if missing := set(names) - set(self._nodes):
            raise AggregationError("; ".join(self._absences(missing, strays, plan_hash)))
        self.traffic = Traffic()

    def meet(
        self, request: wire.OfferRequest, names: tuple[str, ...], group: str
    ) -> tuple[dict[str, wire.OfferReply], list[str]]:
        """Ask whoever is connected, and learn by the replies which node is which of ``names``.

        Return the replies, and why others refused. Those who are not connected are waited for, a
        trip's timeout at most. A name that is not its node's owner's is left out; where owners are
        not known, any member's node can give another's, and what two give is neither's.
        """
        deadline = time.monotonic() + self._timeout
        found: dict[str, wire.OfferReply] = {}
        asked: set[int] = set()
        refused: list[str] = []
        twice: set[str] = set()
        while True:
            nodes = self._connected() - asked
            replies = self._trip(dict.fromkeys(nodes, request), wire.OfferReply, group)
            # Who only was silent is asked again.
            asked |= {n for n in nodes if n in replies or str(n) in (self.refused | self._foreign)}
            refused += self.refused.values()
            for node, reply in replies.items():
                if (owner := self._owned.get(node, reply.name)) != reply.name:
                    claimed = printable(reply.name[:REASON_CHARACTERS])
                    refused.append(f"the node of {owner} says it is {claimed}: left out")
                elif reply.name in self._nodes:
                    twice.add(reply.name)
                elif reply.name in names:
                    self._nodes[reply.name], found[reply.name] = node, reply
            if len(asked) >= len(names) or time.monotonic() > deadline:
                foreign = (one.against(f"node {n}", "us") for n, one in self._foreign.items())
                for name in twice:
                    del self._nodes[name], found[name]
                told = (f"two nodes say they are {name}: shut the wrong one out" for name in twice)
                return found, sorted([*refused, *foreign, *told])
            time.sleep(min(JOIN_SECONDS, self._timeout))

    def _connected(self) -> set[int]:
        """Return the nodes that are connected and, where owners are known, a member's."""
        connected = set(self._grid.get_node_ids())
        if self._owners is None:
            return connected
        self._owned |= self._owners()
        return connected & self._owned.keys()

    def _missing(self, names: set[str]) -> dict[str, str]:
        """Say of each of ``names`` why it has not joined, as far as its node is known."""
        why = dict.fromkeys(names, "not connected" if self._owned else "has not joined")
        connected = set(self._grid.get_node_ids())
        for node, name in self._owned.items():
            if name in names and node in connected:
                why[name] = self.refused.get(str(node), "has not joined")
        return why

    def _absences(self, missing: set[str], strays: set[str], plan_hash: str) -> Iterator[str]:
        """Say what keeps ``missing`` from joining, and what to do about each."""
        for node, speaker in sorted(self._foreign.items()):
            if speaker.name in missing:
                missing = missing - {speaker.name}
                yield speaker.against(speaker.name, "this server")
            elif speaker.name not in self._nodes:
                yield speaker.against(f"node {node}", "this server")
        if other := missing & strays:
            yield (
                f"{', '.join(sorted(other))} approved another plan: agree on {plan_hash} and"
                " start again"
            )
        if silent := missing - strays:
            # A refusal bears no name: whom it came from is told by who is missing.
            reasons = Counter(self.refused.values()).items()
            told = ", ".join(f"{count} refused: {reason}" for reason, count in sorted(reasons))
            yield (
                f"{', '.join(sorted(silent))} did not join within {self._timeout:g} s"
                + (f" ({told}; their own logs say more)" if told else "")
                + ": start these institutions, or raise aggregation.timeout"
            )

    def await_connected(self, least: int) -> None:
        """Wait until ``least`` institutions are connected again, for a trip's timeout at most.

        To those whose connection is known to be lost a request fails at once, so that without
        this a cut of a minute would use up all attempts in a second.
        """
        deadline = time.monotonic() + self._timeout
        members = set(self._nodes.values())
        while len(members & set(self._grid.get_node_ids())) < least:
            if time.monotonic() > deadline:
                break
            time.sleep(min(JOIN_SECONDS, self._timeout))

    def call(
        self, requests: Mapping[str, wire.WireMessage], expected: type[M], group: str
    ) -> dict[str, M]:
        """Send each institution its request; return the replies of those that answered.

        Refusals, errors, malformed replies and silence until the timeout are absences.
        """
        names = {node: name for name, node in self._nodes.items()}
        by_node = {self._nodes[name]: request for name, request in requests.items()}
        started = time.monotonic()
        replies = self._trip(by_node, expected, group)
        for kind in {*map(type, requests.values())}:
            _, _, stage = TRIPS[kind].partition(".")
            self.traffic.seconds[stage] += time.monotonic() - started
        return {names[node]: reply for node, reply in replies.items()}

    def _trip(
        self, requests: Mapping[int, wire.WireMessage], expected: type[M], group: str
    ) -> dict[int, M]:
        trips = (TRIPS[type(request)] for request in requests.values())
        with self._timings.timed(next(trips, "").rpartition(".")[2]):
            return self._travelled(requests, expected, group)

    def _travelled(
        self, requests: Mapping[int, wire.WireMessage], expected: type[M], group: str
    ) -> dict[int, M]:
        names = {node: name for name, node in self._nodes.items()}
        identifiers: dict[str, int] = {}
        for node, request in self.witness.sent(requests).items():
            message = Message(
                request.to_record(),
                node,
                TRIPS[type(request)],
                ttl=self._timeout,
                group_id=group,
            )
            size = message_to_proto(message).ByteSize()
            self.traffic.down[names.get(node, "")] += size
            self._timings.moved(sent=size)
            # One at a time: a push of several leaves out the ids of those that failed.
            identifiers |= dict.fromkeys(self._grid.push_messages([message]), node)
        replies: dict[int, M] = {}
        self.refused = {}
        deadline = time.monotonic() + self._timeout
        pause = Pause(FIRST_PAUSE, LONGEST_PAUSE)
        while identifiers:
            for message in self._grid.pull_messages(list(identifiers)):
                # A dead node's error reply carries another sender: only this id can be trusted.
                if message.metadata.reply_to_message_id not in identifiers:
                    continue
                node = identifiers.pop(message.metadata.reply_to_message_id)
                what = TRIPS[type(requests[node])].rpartition(".")[2]
                said_by = names.get(node, self._owned.get(node, ""))
                self.witness.received(message, said_by, what)
                size = message_to_proto(message).ByteSize()
                self.traffic.up[names.get(node, "")] += size
                self._timings.moved(received=size)
                name, who = names.get(node, str(node)), said_by or f"node {node}"
                if (reply := self._parse(message, expected, name, who)) is not None:
                    replies[node] = reply
                    self._said.pop(who, None)
            if identifiers:
                if time.monotonic() > deadline:
                    log.warning("%d institutions were silent", len(identifiers))
                    break
                time.sleep(pause.next())
        return replies

    def _parse(self, message: Message, expected: type[M], name: str, who: str) -> M | None:
        """Read a reply; ``name`` is by whom it is known here, ``who`` what people call it."""
        if message.has_error():
            log.info("%s is gone: %.99s", who, message.error.reason)
            return None
        try:
            if wire.kind_of(message.content) == wire.Refusal.kind:
                reason = wire.Refusal.from_record(message.content).reason
                # It goes on to the operator's terminal, and is whatever an institution sent.
                self.refused[name] = printable(reason[:REASON_CHARACTERS])
                # Whoever has not approved is asked who he is every two seconds.
                asked = self._said.get(who) if expected is wire.JoinReply else None
                if asked != self.refused[name]:
                    log.warning("%s refused: %s", who, self.refused[name])
                self._said[who] = self.refused[name]
                if reason in OVER:
                    self.finished.add(name)
                return None
            return expected.from_record(message.content)
        except OtherProtocolError as error:
            speaker = self._foreign[name] = error.speaker
            known = name in self._nodes or not speaker.name
            log.warning(speaker.against(who if known else speaker.name, "this server"))
            return None
        except ProtocolError as error:
            log.warning("%s sent a malformed reply: %s", who, error)
            return None
