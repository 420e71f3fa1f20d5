"""Hosts of one machine: network namespaces, each pair on a wire of its own, and one in between.

The one in between bridges each wire and is everybody's way out, which leads nowhere: what a host
sends to third addresses comes by there, and can be seen.
"""

import ctypes
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

NEW_NETWORK = 0x40000000
PORT = "port"
"""Begins the names of the interfaces at which the namespace in between hears a host."""


@dataclass(frozen=True)
class Hosts:
    """Namespaces, named after this process so that two of its kind do not meet."""

    server: str
    members: tuple[str, ...]

    @property
    def between(self) -> str:
        return self.namespace("between")

    def namespace(self, host: str) -> str:
        return f"fedprune-{os.getpid()}-{host}"

    def address(self, host: str, member: str) -> str:
        """Return an end's address on the wire of ``member``."""
        return f"10.77.{self.members.index(member)}.{2 if host == self.server else 3}"

    def way_out(self, member: str) -> str:
        return f"10.77.{self.members.index(member)}.1"

    @property
    def all(self) -> list[str]:
        return [self.namespace(host) for host in (self.server, *self.members)] + [self.between]


@contextmanager
def laid_out(server: str, members: Sequence[str]) -> Iterator[Hosts]:
    """Lay out namespaces and wires; take them down, with all processes in them, however it ends."""
    hosts = Hosts(server, tuple(members))
    try:
        for name in hosts.all:
            _ip("netns", "add", name)
            inside(name, _no_version_six)
            _ip("-n", name, "link", "set", "lo", "up")
        for number, member in enumerate(hosts.members):
            _wire(hosts, number, member)
        yield hosts
    finally:
        for name in hosts.all:
            _end_all(name)
            subprocess.run(("ip", "netns", "delete", name), capture_output=True, check=False)


def _wire(hosts: Hosts, number: int, member: str) -> None:
    between, bridge = hosts.between, f"wire{number}"
    _ip("-n", between, "link", "add", bridge, "type", "bridge")
    for side, host in enumerate((hosts.server, member)):
        port, name = f"{PORT}{number}-{side}", hosts.namespace(host)
        peer = ("peer", "name", bridge, "netns", name)
        _ip("-n", between, "link", "add", port, "type", "veth", *peer)
        _ip("-n", between, "link", "set", port, "master", bridge, "up")
        _ip("-n", name, "address", "add", f"{hosts.address(host, member)}/24", "dev", bridge)
        _ip("-n", name, "link", "set", bridge, "up")
        if host == member or number == 0:
            _ip("-n", name, "route", "add", "default", "via", hosts.way_out(member))
    _ip("-n", between, "address", "add", f"{hosts.way_out(member)}/24", "dev", bridge)
    _ip("-n", between, "link", "set", bridge, "up")


def inside(namespace: str, work: Callable[[], T]) -> T:
    """Return what ``work`` returns when done in a network namespace, by a thread of its own."""
    said: list[T] = []
    failed: list[BaseException] = []

    def enter() -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        handle = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
        try:
            if libc.setns(handle, NEW_NETWORK):
                raise OSError(ctypes.get_errno(), "setns")
            said.append(work())
        except BaseException as error:
            failed.append(error)
        finally:
            os.close(handle)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return said[0]


def _no_version_six() -> None:
    # Its neighbour discovery would be noise on the wire. A kernel may have none at all.
    for scope in ("all", "default"):
        with suppress(FileNotFoundError):
            Path(f"/proc/sys/net/ipv6/conf/{scope}/disable_ipv6").write_text("1")


def _end_all(namespace: str, seconds: float = 10.0) -> None:
    """Kill whatever runs in a namespace, and wait until it is gone."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        listed = subprocess.run(
            ("ip", "netns", "pids", namespace), capture_output=True, text=True, check=False
        )
        if not (numbers := listed.stdout.split()):
            return
        for number in numbers:
            with suppress(ProcessLookupError):
                os.kill(int(number), signal.SIGKILL)
        time.sleep(0.05)


def _ip(*arguments: str) -> None:
    done = subprocess.run(("ip", *arguments), capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
