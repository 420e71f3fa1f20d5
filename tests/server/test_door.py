import socket
import sys
from functools import partial

import pytest

from server import door
from server.door import Door, listener


def test_places_come_free() -> None:
    with Door(socket.create_server(("127.0.0.1", 0)), most=2, each=2) as listening:
        peers = [socket.create_connection(listening.getsockname()) for _ in range(4)]
        (one, _), (two, address) = listening.accept(), listening.accept()
        for _ in range(2):
            with pytest.raises(ConnectionAbortedError):
                listening.accept()
        listening.trust(address)
        two.close()
        two.close()
        peers.append(socket.create_connection(listening.getsockname()))
        listening.accept()[0].close()
        one.close()
        for peer in peers:
            peer.close()


def test_ipv6_addresses_of_a_network_are_one() -> None:
    assert door._home("2001:db8::1") == door._home("2001:db8::ffff:2")
    assert door._home("2001:db8::1") != door._home("2001:db8:0:1::1")
    assert door._home("fe80::1%eth0") == door._home("fe80::2")
    assert door._home("192.0.2.1") != door._home("192.0.2.2")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems name these otherwise")
def test_a_connection_notices_that_its_peer_is_gone() -> None:
    with (
        listener("127.0.0.1", 0) as listening,
        socket.create_connection(listening.getsockname()) as peer,
        listening.accept()[0] as accepted,
    ):
        assert waits(accepted) == (door.GONE_SECONDS,) * 2
        assert waits(peer) == (None, 0)


def waits(connection: socket.socket) -> tuple[int | None, int]:
    """Return the seconds after which silence, and data that is not acknowledged, end it."""
    option = partial(connection.getsockopt, socket.IPPROTO_TCP)
    probes = option(socket.TCP_KEEPINTVL) * option(socket.TCP_KEEPCNT)
    on = connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    silence = option(socket.TCP_KEEPIDLE) + probes if on else None
    return silence, option(socket.TCP_USER_TIMEOUT) // 1000
