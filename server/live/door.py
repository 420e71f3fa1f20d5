"""Who may ask for the live view, and what every answer says to browsers.

GET and HEAD alone. Behind an address that is not of loopback everybody needs the token, once in the
address, then in a cookie. A page of another site reaches neither: a name that its owner has point
here is no name of ours (DNS rebinding), and a browser says which site a request comes from.
"""

import hmac
from collections.abc import Collection
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from ipaddress import ip_address
from typing import Final, final
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE: Final = "fedprune-live"
LEAST_TOKEN: Final = 22
"""Characters: 128 bits in base64."""

HEADERS: Final = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self';"
        " img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-frame-options": "DENY",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}

_OWN: Final = frozenset({"same-origin", "none"})


@dataclass(frozen=True, slots=True)
class Keys:
    """What opens the door: a token, if one is needed, and names by which people dial it."""

    token: str = ""
    names: frozenset[str] = frozenset({"localhost"})


@final
class Door:
    """Wraps an ASGI app: whatever is not let in never reaches it."""

    def __init__(self, app: ASGIApp, keys: Keys) -> None:
        """Let in by these keys."""
        self._app, self._keys = app, keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass on; every answer carries `HEADERS`."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            answer = self._refusal(scope) or self._app
            await answer(scope, receive, _with_headers(send))

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        if not is_own_host(headers.getlist("host"), self._keys.names):
            return PlainTextResponse("unknown host: name it by --name\n", 421)
        if scope["method"] not in ("GET", "HEAD"):
            return PlainTextResponse("read-only\n", 405, {"allow": "GET, HEAD"})
        # An address that is typed or followed is fine from anywhere; data and code are not.
        site = headers.get("sec-fetch-site", "none")
        if site not in _OWN and headers.get("sec-fetch-mode") != "navigate":
            return PlainTextResponse("not from another site\n", 403)
        return self._challenge(scope, headers) if self._keys.token else None

    def _challenge(self, scope: Scope, headers: Headers) -> Response | None:
        kind, _, bearer = headers.get("authorization", "").partition(" ")
        if (kind.lower() == "bearer" and self._is_token(bearer)) or self._is_token(
            cookie_of(headers)
        ):
            return None
        asked = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        if not self._is_token(asked):
            return PlainTextResponse(
                "a token is needed: open the address that the dashboard printed\n",
                401,
                {"www-authenticate": "Bearer"},
            )
        # Out of the address line, where it would be seen and kept.
        answer = RedirectResponse("/", 303)
        answer.set_cookie(COOKIE, self._keys.token, httponly=True, samesite="strict")
        return answer

    def _is_token(self, text: str) -> bool:
        return hmac.compare_digest(text.encode(), self._keys.token.encode())


def is_own_host(hosts: Collection[str], names: Collection[str]) -> bool:
    """Whether the one Host of a request is an address in digits, or one of these names.

    A name of somebody else's may be made to point here; digits cannot.
    """
    if len(hosts) != 1:
        return False
    (host,) = hosts
    name, colon, port = host.rpartition(":")
    name = name if colon and port.isdecimal() else host
    try:
        ip_address(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        return name.lower() in names
    return True


def cookie_of(headers: Headers) -> str:
    """Return the token of a request's cookie, or nothing."""
    try:
        cookie = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return ""
    return cookie.value if cookie else ""


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).update(HEADERS)
        await send(message)

    return sending
