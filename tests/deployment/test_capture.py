"""The judge of the wires: frames made by hand, good ones and each kind of bad."""

import struct
from ipaddress import IPv4Address

import pytest

from tests.deployment.capture import (
    ACK,
    ARP,
    CLIENT_HELLO,
    IPV4,
    SYN,
    TCP,
    Wire,
    not_tls,
    strays,
    streams,
)

MEMBER, SERVER, THIRD = "10.77.0.3", "10.77.0.2", "192.0.2.1"
WIRE = Wire(MEMBER, SERVER, 9092)
HELLO = bytes((22, 3, 1, 0, 5, CLIENT_HELLO)) + b"\0" * 4
DATA = bytes((23, 3, 3, 0, 3)) + b"abc"
CALLER, CALLED = (MEMBER, 40000), (SERVER, 9092)


def frame(
    source: tuple[str, int],
    target: tuple[str, int],
    payload: bytes = b"",
    sequence: int = 1,
    flags: int = ACK,
    protocol: int = TCP,
) -> bytes:
    segment = struct.pack("!HHIIBBHHH", source[1], target[1], sequence, 0, 0x50, flags, 0, 0, 0)
    length = 20 + len(segment) + len(payload)
    ends = [IPv4Address(end).packed for end, _ in (source, target)]
    header = struct.pack("!BBHHHBBH", 0x45, 0, length, 0, 0, 64, protocol, 0) + b"".join(ends)
    whole = bytes(12) + struct.pack("!H", IPV4) + header + segment + payload
    return whole.ljust(60, b"\0")


def question(asker: str, asked: str) -> bytes:
    addresses = [IPv4Address(end).packed for end in (asker, asked)]
    arp = struct.pack("!HHBBH", 1, IPV4, 6, 4, 1) + bytes(6) + addresses[0] + bytes(6)
    return bytes(12) + struct.pack("!H", ARP) + arp + addresses[1] + bytes(18)


SYN_SEEN = frame(CALLER, CALLED, sequence=99, flags=SYN)
GOOD = [
    question(MEMBER, SERVER),
    SYN_SEEN,
    frame(CALLED, CALLER, flags=SYN | ACK, sequence=2**32 - 1),
    frame(CALLER, CALLED, HELLO, 100),
    frame(CALLED, CALLER, b"answer", 0),
    frame(CALLER, CALLED, DATA, 100 + len(HELLO)),
]


def test_a_call_to_the_public_port_is_no_stray() -> None:
    assert list(strays(GOOD, [WIRE])) == []
    heard = streams(GOOD)
    assert heard == {(CALLER, CALLED): HELLO + DATA, (CALLED, CALLER): b"answer"}
    assert not_tls(heard[CALLER, CALLED], CLIENT_HELLO) == ""


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (frame(CALLER, (THIRD, 9092)), f"{MEMBER} to {THIRD}, protocol 6"),
        (frame(CALLER, (THIRD, 53), protocol=17), f"{MEMBER} to {THIRD}, protocol 17"),
        (frame(CALLER, (SERVER, 53), protocol=17), f"{MEMBER} to {SERVER}, protocol 17"),
        (frame(CALLER, (SERVER, 22)), f"{MEMBER} to {SERVER}, port 22"),
        (frame((SERVER, 40000), (MEMBER, 22)), f"{SERVER} to {MEMBER}, port 22"),
        (frame((SERVER, 9092), (MEMBER, 22), flags=SYN), f"{SERVER} calls {MEMBER}"),
        (question(MEMBER, "10.77.0.1"), f"{MEMBER} looks for 10.77.0.1"),
        (bytes(12) + b"\x86\xdd" + bytes(46), "a frame of type 0x86dd"),
    ],
)
def test_what_is_anything_else_is_named(bad: bytes, said: str) -> None:
    assert list(strays([*GOOD, bad], [WIRE])) == [said]


def test_streams_are_put_together_in_order_and_repeats_count_once() -> None:
    first, second = frame(CALLER, CALLED, b"one ", 100), frame(CALLER, CALLED, b"two", 104)
    again = frame(CALLER, CALLED, b"one two", 100)
    expected = {(CALLER, CALLED): b"one two"}
    assert streams([SYN_SEEN, second, first]) == expected
    assert streams([SYN_SEEN, first, second, again]) == expected
    with pytest.raises(ValueError, match="4 bytes are missing"):
        streams([SYN_SEEN, second])
    with pytest.raises(ValueError, match="no beginning"):
        streams([first])


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (b"GET / HTTP/1.1\r\n", "begins with"),
        (DATA, "begins with"),
        (HELLO + b"plain text", "at byte 10"),
        (HELLO + bytes((24, 3, 3, 0, 1, 0)), "at byte 10"),
        (HELLO + bytes((23, 2, 0, 0, 1, 0)), "at byte 10"),
        (HELLO + bytes((23, 3, 3, 0xFF, 0xFF, 0)), "at byte 10"),
    ],
)
def test_what_is_no_tls_is_told(said: bytes, why: str) -> None:
    assert not_tls(HELLO + DATA, CLIENT_HELLO) == ""
    assert not_tls(HELLO + DATA[:6], CLIENT_HELLO) == "", "a record may be on its way"
    assert why in not_tls(said, CLIENT_HELLO)
