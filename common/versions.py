"""Which protocol and which release a side speaks, and what two that differ are told.

Sides that speak one protocol work together, whatever their releases. Of another protocol's
message three things are read, in every version from the fourth on: its ``version``, and the
``name`` and ``release`` of who sent it where it gives them.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from common import __version__
from common.errors import ProtocolError

PROTOCOL_VERSION = 6
"""Raised with every change of a message or of the bytes it carries."""

SPOKEN = re.compile(r"[0-9A-Za-z][0-9A-Za-z._+-]{0,99}")
"""A name or release that a stranger gives, which goes into logs."""


@dataclass(frozen=True, slots=True)
class Speaker:
    """Who sent a message: its protocol, and its release and name, empty where it says none."""

    protocol: int
    release: str = ""
    name: str = ""

    def __str__(self) -> str:
        """Return what it speaks, for people."""
        release = f" (fedprune {self.release})" if self.release else ""
        return f"protocol {self.protocol}{release}"

    def against(self, them: str, us: str) -> str:
        """Say in a line who of the two, called so, is to be upgraded."""
        late = them if self.protocol < PROTOCOL_VERSION else us
        return f"{them} speaks {self}, {us} {OURS}: upgrade {late}"


OURS = Speaker(PROTOCOL_VERSION, __version__)


class OtherProtocolError(ProtocolError):
    """A message is of another version of the protocol."""

    reason = "other-protocol"

    def __init__(self, speaker: Speaker) -> None:
        """Take who sent it."""
        super().__init__(speaker.against("the other side", "this side"))
        self.speaker = speaker


def require_ours(body: Mapping[str, object]) -> None:
    """Refuse a message's body that is not of this protocol.

    Raises:
        OtherProtocolError: it is of another.
        ProtocolError: it does not say of which.
    """
    protocol = body.get("version")
    if type(protocol) is not int:
        raise ProtocolError("a message does not say which version of the protocol it is of")
    if protocol != PROTOCOL_VERSION:
        raise OtherProtocolError(Speaker(protocol, _said(body, "release"), _said(body, "name")))


def _said(body: Mapping[str, object], key: str) -> str:
    value = body.get(key)
    return value if isinstance(value, str) and SPOKEN.fullmatch(value) else ""
