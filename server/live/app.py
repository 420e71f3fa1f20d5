"""The web application: one page, the list of runs, each run as JSON and as a stream of events."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict
from importlib.resources import files
from typing import Any, Final, final

from fastapi import FastAPI, HTTPException, Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from server.live.story import CURVES
from server.live.watch import TICK_SECONDS, Look, Runs

MOST_READERS: Final = 32
"""Streams at a time."""

HEARTBEAT_SECONDS: Final = 15.0
"""Between signs of life of a quiet run, by which the departed are noticed as well."""

KINDS: Final = {
    "live.js": "text/javascript; charset=utf-8",
    "live.css": "text/css; charset=utf-8",
    "icon.svg": "image/svg+xml",
    "uplot.js": "text/javascript; charset=utf-8",
    "uplot.css": "text/css; charset=utf-8",
    "uplot-LICENSE.txt": "text/plain; charset=utf-8",
}
"""All that is served beside the page, from `static/`, by its content type."""

PAGE: Final = "index.html"
READ: Final = ["GET", "HEAD"]

Clock = Callable[[], float]


@final
class Feed:
    """The runs as the readers of all streams see them; it keeps nothing for any of them.

    ``start`` names this process, so that a browser that comes back to another one begins anew.
    """

    def __init__(
        self, runs: Runs, start: str, clock: Clock = time.monotonic, tick: float = TICK_SECONDS
    ) -> None:
        """Nobody reads yet."""
        self._runs, self._start, self._clock, self._tick = runs, start, clock, tick
        self._one = asyncio.Lock()
        self.readers = 0
        self.ended = False

    async def look(self, name: str) -> Look | None:
        """Return a run as it is now; files are read by one thread at a time."""
        async with self._one:
            return await asyncio.to_thread(self._runs.look, name)

    async def listed(self) -> list[dict[str, Any]]:
        """Return the runs to choose from."""
        async with self._one:
            return [asdict(one) for one in await asyncio.to_thread(self._runs.listed)]

    async def stream(self, name: str, last: str = "") -> AsyncIterator[bytes]:
        """Yield a run as server-sent events: at most one a tick, each with all that is new.

        An event is made when it can be sent. Whoever reads slowly is therefore sent less often,
        and nothing waits for him. ``last`` is the id of the last event that he has.
        """
        generation, _, count = last.removeprefix(f"{self._start}.").rpartition(".")
        known = int(count) if count.isdecimal() and last.startswith(f"{self._start}.") else 0
        version: tuple[str, int] | None = None
        quiet = self._clock()
        while not self.ended and (look := await self.look(name)) is not None:
            if version != (look.generation, look.version):
                first = known if generation == look.generation else 0
                yield event(look, f"{self._start}.{look.generation}.{len(look.points)}", first)
                generation, known = look.generation, len(look.points)
                version, quiet = (look.generation, look.version), self._clock()
            elif self._clock() - quiet >= HEARTBEAT_SECONDS:
                yield b": still here\n\n"
                quiet = self._clock()
            await asyncio.sleep(self._tick)


def event(look: Look, name: str, first: int) -> bytes:
    """Return one event: the view, and the points from ``first`` on."""
    body = {"view": look.view, "from": first, "points": look.points[first:]}
    text = json.dumps(body, separators=(",", ":"), allow_nan=False)
    return f"id: {name}\nevent: look\ndata: {text}\n\n".encode()


def build_app(feed: Feed) -> FastAPI:
    """Return the application; `server.live.door.Door` stands before it."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    folder = files("server.live") / "static"
    shipped = {name: (folder / name).read_bytes() for name in (PAGE, *KINDS)}

    @app.api_route("/", methods=READ)
    async def page() -> Response:
        return Response(shipped[PAGE], media_type="text/html; charset=utf-8")

    @app.api_route("/static/{name}", methods=READ)
    async def static(name: str) -> Response:
        if name not in KINDS:
            raise HTTPException(404)
        return Response(shipped[name], headers={"content-type": KINDS[name]})

    @app.api_route("/api/runs", methods=READ)
    async def runs() -> Response:
        return JSONResponse({"runs": await feed.listed(), "curves": CURVES})

    @app.api_route("/api/runs/{name}", methods=READ)
    async def run(name: str) -> Response:
        look = await feed.look(name)
        if look is None:
            raise HTTPException(404)
        return JSONResponse({"view": look.view, "from": 0, "points": look.points})

    @app.api_route("/api/runs/{name}/events", methods=READ)
    async def events(name: str, request: Request) -> Response:
        if await feed.look(name) is None:
            raise HTTPException(404)
        if request.method == "HEAD":
            return Response(media_type="text/event-stream")
        if feed.readers >= MOST_READERS:
            raise HTTPException(503, headers={"retry-after": "30"})
        # Counted here, not at the first event: many could come before any of them is sent.
        feed.readers += 1
        stream = feed.stream(name, request.headers.get("last-event-id", ""))
        return Streamed(stream, feed)

    return app


class Streamed(StreamingResponse):
    """A stream whose reader is no longer counted when it has ended, however it did."""

    def __init__(self, stream: AsyncIterator[bytes], feed: Feed) -> None:
        """Send ``stream`` to a reader of ``feed``."""
        super().__init__(stream, media_type="text/event-stream")
        self._feed = feed

    async def __call__(self, *call: Any) -> None:
        """Send until either side leaves."""
        try:
            await super().__call__(*call)
        finally:
            self._feed.readers -= 1
