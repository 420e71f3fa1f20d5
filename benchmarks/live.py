"""Does the live view keep up with 50 institutions, in how much memory, and does it leak?

A server's directory of 50 institutions grows by 10,000 events (lines of journal, table and audit
log) while the dashboard, a process of its own, shows it to readers of its stream. Counted: updates
a reader gets each second, the most memory the process ever held (VmHWM), and what it grew by from
the first quarter of the events to the last one, by which time all that is bounded is full. One
reader never reads: nothing may pile up for him.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Final

import httpx

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.server.live.federations import Federation, banks

INSTITUTIONS: Final = 50
EVENTS_A_ROUND: Final = 6
"""Lines of a round: three of the journal, two of the audit log, one of the table."""

BARS: Final = {"live_updates_per_second": 2.0, "live_mib": 150.0, "live_leak_mib": 5.0}
WARM_SHARE: Final = 0.25


class Reader(threading.Thread):
    """Counts the updates that a browser would get."""

    def __init__(self, address: str) -> None:
        """Begin at once."""
        super().__init__(daemon=True)
        self.address, self.updates, self.done = address, 0, 0
        self.start()

    def run(self) -> None:
        """Read until the server leaves."""
        try:
            with httpx.stream("GET", self.address, timeout=60) as events:
                for line in events.iter_lines():
                    if line.startswith("data: "):
                        self.updates += 1
                        self.done = json.loads(line.removeprefix("data: "))["view"]["done"]
        except httpx.TransportError:
            return


def held(process: int, kind: str) -> float:
    """Return a process' memory in MiB: VmRSS now, VmHWM at most."""
    status = Path(f"/proc/{process}/status").read_text()
    return int(status.split(f"{kind}:")[1].split()[0]) / 1024


def follow(events: int, seconds: float) -> dict[str, float]:
    """Have the dashboard follow so many events over so many seconds; return the figures."""
    rounds = events // EVENTS_A_ROUND
    with tempfile.TemporaryDirectory() as folder:
        spring = Federation(Path(folder), [*banks(INSTITUTIONS)], rounds)
        command = ("-m", "server.cli", "dashboard", "--home", folder, "--listen", "127.0.0.1:0")
        with subprocess.Popen(  # noqa: S603  (this interpreter, our own command)
            (sys.executable, *command), stderr=subprocess.PIPE, text=True, env=os.environ
        ) as process:
            assert process.stderr is not None  # noqa: S101
            try:
                address = process.stderr.readline().rpartition("live view: ")[2].strip()
                stream = f"{address}api/runs/spring/events"
                idle = httpx.Client(timeout=60)
                asleep = idle.send(idle.build_request("GET", stream), stream=True)
                reader = Reader(stream)
                started, warm = time.monotonic(), 0.0
                for number in range(rounds):
                    spring.ask()
                    spring.end()
                    if number == int(WARM_SHARE * rounds):
                        warm = held(process.pid, "VmRSS")
                    due = started + seconds * (number + 1) / rounds
                    time.sleep(max(0.0, due - time.monotonic()))
                took, updates = time.monotonic() - started, reader.updates
                deadline = time.monotonic() + 10
                while reader.done < rounds and time.monotonic() < deadline:
                    time.sleep(0.1)
                figures = {
                    "live_events": float(events),
                    "live_updates_per_second": updates / took,
                    "live_mib": held(process.pid, "VmHWM"),
                    "live_leak_mib": held(process.pid, "VmRSS") - warm,
                    "live_rounds_unseen": float(rounds - reader.done),
                }
                asleep.close()
                return figures
            finally:
                process.terminate()


def main() -> None:
    """Measure and print; ``--json`` ends with one flat object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one flat object as last line")
    parser.add_argument("--events", type=int, default=10_000, help="lines [default: 10000]")
    parser.add_argument("--seconds", type=float, default=100.0, help="over so long [default: 100]")
    options = parser.parse_args()
    figures = follow(options.events, options.seconds)
    for name, value in figures.items():
        bar = f"   bar: {'>=' if 'per' in name else '<'} {BARS[name]:g}" if name in BARS else ""
        print(f"{name:28} {value:10.2f}{bar}")
    if options.json:
        print(json.dumps({name: round(value, 3) for name, value in figures.items()}))


if __name__ == "__main__":
    main()
