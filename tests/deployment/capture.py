"""What goes over a wire between two hosts, and what of it is no TLS to the one public port.

A sniffer on a raw socket (packet(7)), and as much of Ethernet, IPv4 (RFC 791), TCP (RFC 9293) and
TLS records (RFC 8446, section 5.1) as it takes to say who talked to whom, and in what.
"""

import socket
import struct
import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address

ALL, ARP, IPV4 = 0x0003, 0x0806, 0x0800
TCP = 6
FIN, SYN, ACK = 0x01, 0x02, 0x10
SOL_PACKET, PACKET_STATISTICS = 263, 6
OUTGOING = 4
SO_RCVBUFFORCE = 33
LARGEST_FRAME = 1 << 17
"""Segments that the kernel has not cut yet are up to 64 KiB."""

RECORDS = range(20, 24)
HANDSHAKE, CLIENT_HELLO, SERVER_HELLO = 22, 1, 2

End = tuple[str, int]


@dataclass(frozen=True)
class Segment:
    """A TCP segment."""

    source: End
    target: End
    sequence: int
    flags: int
    payload: bytes


@dataclass
class Sniffer:
    """Keeps every frame that comes in by one of the interfaces named ``prefix...``.

    To be made in the network namespace whose interfaces are meant.
    """

    prefix: str
    frames: list[bytes] = field(default_factory=list)
    _ending: bool = False

    def __post_init__(self) -> None:
        """Begin."""
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ALL))
        self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)
        self._socket.settimeout(0.2)
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def _listen(self) -> None:
        while True:
            try:
                frame, (name, _, kind, *_) = self._socket.recvfrom(LARGEST_FRAME)
            except TimeoutError:
                if self._ending:
                    return
                continue
            if name.startswith(self.prefix) and kind != OUTGOING:
                self.frames.append(frame)

    def stop(self) -> int:
        """Return, once nothing has come for a moment, how many frames were lost."""
        self._ending = True
        self._thread.join()
        with self._socket:
            counted = self._socket.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8)
        return int(struct.unpack("II", counted)[1])


@dataclass(frozen=True)
class Wire:
    """A network of one institution: the two that may talk, and the port one of them offers."""

    member: str
    server: str
    port: int

    @property
    def ends(self) -> set[str]:
        return {self.member, self.server}


def strays(frames: Iterable[bytes], wires: Iterable[Wire]) -> Iterator[str]:
    """Say of each frame that has no business on any of the wires what it is."""
    pairs = [wire.ends for wire in wires]
    ports = {wire.server: wire.port for wire in wires}
    for frame in frames:
        (kind,) = struct.unpack_from("!H", frame, 12)
        if kind == ARP:
            asker, asked = (str(IPv4Address(frame[at : at + 4])) for at in (28, 38))
            if {asker, asked} not in pairs:
                yield f"{asker} looks for {asked}"
            continue
        if kind != IPV4:
            yield f"a frame of type {kind:#06x}"
            continue
        source, target = (str(IPv4Address(frame[at : at + 4])) for at in (26, 30))
        if {source, target} not in pairs or (segment := segment_of(frame)) is None:
            yield f"{source} to {target}, protocol {frame[23]}"
        elif segment.target != (target, ports.get(target)) and segment.source != (
            source,
            ports.get(source),
        ):
            yield f"{source} to {target}, port {segment.target[1]}"
        elif segment.flags & SYN and not segment.flags & ACK and target not in ports:
            yield f"{source} calls {target}"


def segment_of(frame: bytes) -> Segment | None:
    """Return the TCP segment of an Ethernet frame, if it holds a whole one over IPv4."""
    if struct.unpack_from("!H", frame, 12)[0] != IPV4 or frame[23] != TCP:
        return None
    if struct.unpack_from("!H", frame, 20)[0] & 0x3FFF:
        return None
    at = 14 + (frame[14] & 0x0F) * 4
    (length,) = struct.unpack_from("!H", frame, 16)
    source, target, sequence = struct.unpack_from("!HHI", frame, at)
    begin = at + (frame[at + 12] >> 4) * 4
    hosts = [str(IPv4Address(frame[place : place + 4])) for place in (26, 30)]
    # A frame shorter than 60 bytes is padded: the length of the datagram counts.
    payload = frame[begin : 14 + length]
    return Segment((hosts[0], source), (hosts[1], target), sequence, frame[at + 13], payload)


def streams(frames: Iterable[bytes]) -> dict[tuple[End, End], bytes]:
    """Return what was said in each direction of each connection, from its SYN on.

    Raises:
        ValueError: a connection has a gap, or no beginning.
    """
    begun: dict[tuple[End, End], list[int]] = defaultdict(list)
    parts: dict[tuple[End, End, int], dict[int, bytes]] = defaultdict(dict)
    for frame in frames:
        if (one := segment_of(frame)) is None:
            continue
        way = (one.source, one.target)
        if one.flags & SYN:
            first = (one.sequence + 1) % 2**32
            if first not in begun[way]:
                begun[way].append(first)
        elif one.payload:
            if way not in begun:
                raise ValueError(f"{way}: no beginning was seen")
            offset = (one.sequence - begun[way][-1]) % 2**32
            known = parts[*way, len(begun[way])]
            if len(one.payload) > len(known.get(offset, b"")):
                known[offset] = one.payload
    found = {}
    for (source, target, number), pieces in parts.items():
        said = b""
        for offset, payload in sorted(pieces.items()):
            if offset > len(said):
                raise ValueError(f"{source} to {target}: {offset - len(said)} bytes are missing")
            said += payload[len(said) - offset :]
        # A port that was used again is another connection.
        end = (f"{source[0]}", source[1]) if number == 1 else (f"{source[0]}#{number}", source[1])
        found[end, target] = said
    return found


def not_tls(said: bytes, hello: int) -> str:
    """Say why a stream is no sequence of TLS records that begins with ``hello``; empty if it is."""
    if said[:1] != bytes([HANDSHAKE]) or said[5:6] != bytes([hello]):
        return f"begins with {said[:6]!r}"
    at = 0
    # The last record may still be on its way.
    while at + 5 <= len(said):
        kind, major, minor, length = struct.unpack_from("!BBBH", said, at)
        if kind not in RECORDS or major != 3 or minor > 4 or length > (1 << 14) + 256:
            return f"at byte {at}: {said[at : at + 5]!r}"
        at += 5 + length
    return ""
