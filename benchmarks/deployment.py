"""What does the real federation cost above training, beside stock SuperNodes, and on the wire?

One plan, three institutions on loopback, the same rounds twice: on `fedprune-server up` and
`fedprune-client up` over TLS with node authentication, and on Flower's SuperLink and SuperNodes
as they come, without TLS, which start a process for every message. Overhead is a round's median
time less that of the same round in one process; the first round, which deals keys, and the last,
which trains nothing, do not count. Bytes on the wire are all that crosses the public port from
the first call to the end of the run, polls and heartbeats included, over the payload of messages.

    python benchmarks/deployment.py --json
"""

import argparse
import csv
import json
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from client.cleaning import clean
from client.data import prepare
from common.plan import Plan
from server.desk import free_port
from simulations.consortium import consortium
from simulations.run import Run, simulate

# The federation that the tests start is the one that is measured.
sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.deployment.engine import Engine
from tests.deployment.federation import (
    CLIENT,
    SERVER,
    await_health,
    by_command,
    dial,
    found,
    make_plan,
    up,
)
from tests.deployment.loopback import operate

HIDDEN = (512, 256)
CHUNK = 1 << 16


@dataclass
class Relay:
    """A TCP port that passes everything on to another and counts it."""

    port: int
    target: int
    counted: int = 0

    @contextmanager
    def open(self) -> Iterator[None]:
        """Relay until the block ends."""
        with socket.create_server(("127.0.0.1", self.port)) as server:
            threading.Thread(target=self._accept, args=(server,), daemon=True).start()
            yield

    def _accept(self, server: socket.socket) -> None:
        with suppress(OSError):
            while True:
                inner, _ = server.accept()
                outer = socket.create_connection(("127.0.0.1", self.target))
                for ends in ((inner, outer), (outer, inner)):
                    threading.Thread(target=self._pass, args=ends, daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while part := source.recv(CHUNK):
                self.counted += len(part)
                sink.sendall(part)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_WR)


def rows_of(out: Path) -> list[dict[str, str]]:
    """Return the rows of ``rounds.csv``."""
    return list(csv.DictReader((out / "rounds.csv").read_text().splitlines()))


def steady(rows: list[dict[str, str]]) -> float:
    """Return the median seconds of the rounds that are like all others."""
    return median(float(row["seconds"]) for row in rows[1:-1])


def ours(folder: Path, plan: Plan) -> tuple[float, float]:
    """Return a round's seconds and the bytes on the wire over those of the payload."""
    federation = found(folder, plan, by_command)
    relay = Relay(free_port(), int(federation.address.partition(":")[2]))
    with ExitStack() as stack:
        stack.enter_context(relay.open())
        stack.enter_context(up((SERVER, federation.server)))
        await_health(federation)
        homes = [federation.institution(name) for name in plan.names]
        for home in homes:
            dial(home, f"127.0.0.1:{relay.port}")
        stack.enter_context(up(*((CLIENT, home) for home in homes)))
        before = relay.counted
        ended = operate(federation.server, "start", "--wait", "--run", "bench")
        if ended.returncode:
            raise SystemExit(ended.stderr)
        wire = relay.counted - before
    rows = rows_of(federation.server / "runs" / "bench")
    payload = sum(int(row["bytes_up"]) + int(row["bytes_down"]) for row in rows) * len(plan.names)
    return steady(rows), wire / payload


def stock(folder: Path, plan: Plan) -> float:
    """Return a round's seconds on stock SuperNodes."""
    federation = found(folder, plan, by_command)
    with Engine(folder) as engine:
        for name in plan.names:
            file = federation.institution(name) / "client.toml"
            engine.start_supernode(name, file, stock=True)
        agreed = (federation.server / "plan.toml", federation.server / "roster.json")
        ended = engine.run(*agreed, folder / "out", 900)
    if ended.status != "finished:completed":
        raise SystemExit(ended.log)
    return steady(rows_of(folder / "out"))


def alone(plan: Plan) -> float:
    """Return a round's seconds in one process, one institution after the other."""
    tables = consortium(institutions=len(plan.names), loans=400, sizes="equal")
    read = {name: clean(tables[name], plan.schema_, name) for name in plan.names}
    run = Run(plan)
    simulate(run, {name: prepare(table, plan.schema_) for name, table in read.items()}, seed=0)
    return median(report.seconds for report in run.reports[1:-1])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    plan = make_plan(hidden=HIDDEN, rounds=options.rounds)
    training = alone(plan)
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        seconds, wire = ours(Path(one), plan)
        peer = stock(Path(other), plan)
    overhead = (seconds - training) / (peer - training)
    print(
        f"a round, seconds: alone {training:.2f}, here {seconds:.2f}, stock SuperNodes {peer:.2f}"
    )
    print(f"overhead above training: {overhead:.3f} of stock's")
    print(f"bytes on the wire: {wire:.3f} of the payload")
    if options.json:
        print(json.dumps({"round_overhead_vs_stock": overhead, "wire_vs_payload": wire}))


if __name__ == "__main__":
    main()
