"""Networks that fail: a port before the server's for each institution, cut and healed at will."""

import asyncio
import json
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from client.consent import PIN, read_pin
from common.durable import write_atomically
from common.plan import Plan, plan_from_dict
from server.desk import LOOPBACK, free_port
from server.journal import JOURNAL
from tests.deployment.federation import (
    CLIENT,
    SERVER,
    Federation,
    await_health,
    found,
    make_plan,
    tails,
    up,
)
from tests.deployment.loopback import operate

RUN = "stormy"
CHUNK = 1 << 16
AT_ONCE = struct.pack("ii", 1, 0)
"""SO_LINGER by which a closed connection is reset."""

READY_SECONDS, BACK_SECONDS = 120.0, 120.0

How = Literal["reset", "swallow"]
"""Connections are reset and refused, or nothing on them arrives any more, on new ones neither."""


@dataclass
class Wire:
    """A port of loopback that passes everything on to another, until it is cut."""

    target: int
    port: int = field(default_factory=free_port)
    _how: How | None = None
    _ends: set[asyncio.StreamWriter] = field(default_factory=set)
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)
    _flows: asyncio.Event = field(default_factory=asyncio.Event)

    @contextmanager
    def open(self) -> Iterator["Wire"]:
        """Carry until the block ends."""
        self._flows.set()
        server = self._loop.run_until_complete(
            asyncio.start_server(self._carry, LOOPBACK, self.port)
        )
        thread = threading.Thread(target=self._loop.run_forever)
        thread.start()
        try:
            yield self
        finally:
            asyncio.run_coroutine_threadsafe(self._close(server), self._loop).result(10)
            self._loop.call_soon_threadsafe(self._loop.stop)
            thread.join()
            self._loop.close()

    def cut(self, how: How) -> None:
        """Let nothing through any more."""
        self._loop.call_soon_threadsafe(self._cut, how)

    def heal(self) -> None:
        """Let everything through again; what was swallowed is sent again, as TCP would."""
        self._loop.call_soon_threadsafe(self._heal)

    def _cut(self, how: How) -> None:
        self._how = how
        self._flows.clear()
        if how == "reset":
            for end in self._ends:
                end.transport.abort()

    def _heal(self) -> None:
        self._how = None
        self._flows.set()

    async def _close(self, server: asyncio.Server) -> None:
        server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        for end in self._ends:
            end.transport.abort()
        await asyncio.sleep(0)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ends = [self._end(writer)]
        try:
            if self._how == "reset":
                return
            await self._flows.wait()
            onward, outer = await asyncio.open_connection(LOOPBACK, self.target)
            ends.append(self._end(outer))
            await asyncio.gather(self._pass(reader, outer), self._pass(onward, writer))
        except (OSError, asyncio.CancelledError):
            pass  # The other end, or the test, is over.
        finally:
            for end in ends:
                self._ends.discard(end)
                end.transport.abort()

    def _end(self, writer: asyncio.StreamWriter) -> asyncio.StreamWriter:
        connection: socket.socket = writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
        self._ends.add(writer)
        return writer

    async def _pass(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while part := await source.read(CHUNK):
            await self._flows.wait()
            sink.write(part)
            await sink.drain()
        with suppress(OSError, RuntimeError):
            sink.write_eof()


@dataclass(frozen=True)
class Outage:
    """A cut of some institutions, rounds without them and without anybody, how long until all met.

    ``seconds_to_return`` counts from the end of the cut to that of the first round of all.
    """

    how: How
    names: tuple[str, ...]
    rounds_of_others: int
    rounds_lost: int
    seconds_to_return: float


@dataclass(frozen=True)
class Weather:
    """A federation behind wires, and the one run on it."""

    federation: Federation
    wires: dict[str, Wire]
    run: str

    @property
    def kept(self) -> list[dict[str, Any]]:
        """The rounds that are over, as the journal has them."""
        journal = self.federation.server / "runs" / self.run / JOURNAL
        lines = journal.read_text().splitlines() if journal.exists() else []
        events = [json.loads(line) for line in lines if line.endswith("}")]
        return [event for event in events if event["event"] == "kept"]

    def cut(self, names: tuple[str, ...], how: How, seconds: float) -> Outage:
        """Cut institutions off for so long; return once all took part in a later round."""
        before = len(self.kept)
        for name in names:
            self.wires[name].cut(how)
        time.sleep(seconds)
        meanwhile, healed = len(self.kept), time.monotonic()
        for name in names:
            self.wires[name].heal()
        self.await_all(meanwhile)
        back = time.monotonic() - healed
        survivors = [set(event["survivors"]) for event in self.kept[before:]]
        others = set(self.federation.plan.names) - set(names)
        without = sum(bool(found) and found <= others for found in survivors)
        return Outage(how, names, without, survivors.count(set()), back)

    def await_all(self, beyond: int) -> None:
        """Wait for a round beyond the first ``beyond`` in which everybody took part."""
        deadline, everybody = time.monotonic() + BACK_SECONDS, set(self.federation.plan.names)
        while time.monotonic() < deadline:
            if any(set(event["survivors"]) == everybody for event in self.kept[beyond:]):
                return
            time.sleep(0.1)
        raise AssertionError(f"{self.kept[beyond:]}\n{self.logs()}")

    def logs(self) -> str:
        """Return the ends of everybody's logs."""
        homes = (self.federation.institution(name) for name in self.federation.plan.names)
        return "\n".join(map(tails, (self.federation.server, *homes)))


def stormy_plan(rounds: int, timeout: float) -> Plan:
    """Return a plan of five institutions, one of whom may be missing."""
    fields = make_plan(rounds=rounds).model_dump(mode="json", by_alias=True)
    names = [f"bank-{index:02d}" for index in range(5)]
    fields["institutions"] = [{"name": name, "size": 400} for name in names]
    fields["aggregation"] |= {"timeout": timeout}
    return plan_from_dict(fields)


@contextmanager
def weather(folder: Path, plan: Plan) -> Iterator[Weather]:
    """Found a federation, have each institution dial a wire of its own, and start a run."""
    federation = found(folder, plan)
    public = int(federation.address.rpartition(":")[2])
    homes = [(CLIENT, federation.institution(name)) for name in plan.names]
    with ExitStack() as stack:
        wires = {name: stack.enter_context(Wire(public).open()) for name in plan.names}
        for name, wire in wires.items():
            dial(federation.institution(name), f"{LOOPBACK}:{wire.port}")
        stack.enter_context(up((SERVER, federation.server)))
        await_health(federation)
        stack.enter_context(up(*homes))
        for _, home in homes:
            await_line(home / "logs" / "executor.log", "ready: ")
        started = operate(federation.server, "start", "--run", RUN)
        assert started.returncode == 0, started.stderr
        yield Weather(federation, wires, RUN)


def dial(home: Path, address: str) -> None:
    """Have an institution reach the server it approved at another address."""
    pin = read_pin(home)
    assert pin is not None
    moved = pin.model_copy(update={"address": address})
    write_atomically(home / PIN, moved.to_bytes())


def await_line(log: Path, said: str) -> None:
    """Wait until a log says something."""
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        if log.exists() and said in log.read_text():
            return
        time.sleep(0.1)
    raise AssertionError(f"{log} does not say {said!r}")
