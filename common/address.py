"""``host:port``, where institutions find a server: one form, for all who write or dial it."""

import re
from ipaddress import IPv6Address
from typing import Annotated

from pydantic import AfterValidator

_FORM = re.compile(
    r"(?P<host>[A-Za-z0-9][A-Za-z0-9.-]{0,252}|\[[^\]]*\]):(?P<port>[1-9][0-9]{0,4})"
)
_LARGEST_PORT = 2**16 - 1


def split_address(text: str) -> tuple[str, int]:
    """Return host and port; the host of ``[::1]:9092`` is ``::1``.

    Raises:
        ValueError: it is no such address.
    """
    found = _FORM.fullmatch(text)
    if found is None or int(found["port"]) > _LARGEST_PORT:
        raise ValueError(f"no host:port, as fed.example:9092 or [2001:db8::1]:9092: {text[:99]!r}")
    host = found["host"]
    if not host.startswith("["):
        return host, int(found["port"])
    # Without a zone, which means something on one machine alone.
    inner = host.strip("[]")
    if "%" in inner:
        raise ValueError(f"an address with a zone is of one machine alone: {text[:99]!r}")
    IPv6Address(inner)
    return inner, int(found["port"])


def join_address(host: str, port: int) -> str:
    """Return what `split_address` takes apart."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _checked(text: str) -> str:
    split_address(text)
    return text


Address = Annotated[str, AfterValidator(_checked)]
"""``host:port`` of a server's public API: a name, an IPv4 address, or an IPv6 one in brackets."""
