import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from server.live import app as live
from server.live.app import HEARTBEAT_SECONDS, KINDS, Feed, build_app
from server.live.story import CURVES
from server.live.watch import Runs
from tests.server.live.federations import Federation

NAMES = ("ash", "birch", "cedar", "elm")


@pytest.fixture
def spring(tmp_path: Path) -> Federation:
    federation = Federation(tmp_path, NAMES, rounds=50)
    federation.go(3)
    return federation


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 10.0
        return self.now


@pytest.fixture
def feed(spring: Federation) -> Feed:
    return Feed(Runs(spring.home, Clock()), "start", Clock(), tick=0.001)


def parsed(event: bytes) -> tuple[str, dict[str, Any]]:
    found = re.fullmatch(r"id: (.+)\nevent: look\ndata: (.+)\n\n", event.decode())
    assert found is not None, event
    return found[1], json.loads(found[2])


async def next_look(stream: AsyncIterator[bytes]) -> tuple[str, dict[str, Any]]:
    async for event in stream:
        if event.startswith(b"id: "):
            return parsed(event)
    raise AssertionError("the stream has ended")


async def get(feed: Feed, path: str, method: str = "GET") -> httpx.Response:
    transport = httpx.ASGITransport(build_app(feed))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        return await client.request(method, path)


def test_a_reader_gets_all_and_then_what_is_new(spring: Federation, feed: Feed) -> None:
    async def read() -> None:
        stream = feed.stream("spring")
        name, look = await next_look(stream)
        assert (look["from"], len(look["points"]), look["view"]["done"]) == (0, 3, 3)
        assert name.endswith(".3")
        spring.go(1)
        _, look = await next_look(stream)
        assert (look["from"], [point[0] for point in look["points"]]) == (3, [3])

    asyncio.run(read())


def test_a_slow_reader_gets_one_event_for_many_changes(spring: Federation, feed: Feed) -> None:
    async def read() -> None:
        stream = feed.stream("spring")
        await next_look(stream)
        for _ in range(20):
            spring.go(1)
            await feed.look("spring")
        _, look = await next_look(stream)
        assert (look["from"], len(look["points"]), look["view"]["done"]) == (3, 20, 23)

    asyncio.run(read())


def test_who_comes_back_goes_on_where_he_was(spring: Federation, feed: Feed) -> None:
    async def read() -> None:
        last, _ = await next_look(feed.stream("spring"))
        spring.go(2)
        _, look = await next_look(feed.stream("spring", last))
        assert (look["from"], len(look["points"])) == (3, 2)
        # Ids of another process, or of nobody, begin anew.
        for other in (last.replace("start", "other"), "start.9.9.3", "start", "3", "start.x.y"):
            _, look = await next_look(feed.stream("spring", other))
            assert (look["from"], len(look["points"])) == (0, 5)

    asyncio.run(read())


def test_a_quiet_run_shows_signs_of_life(feed: Feed) -> None:
    async def read() -> list[bytes]:
        stream = feed.stream("spring")
        return [await anext(stream) for _ in range(3)]

    assert HEARTBEAT_SECONDS == 15
    assert asyncio.run(read())[1:] == [b": still here\n\n"] * 2


def test_a_stream_ends_with_its_run_or_its_server(spring: Federation, feed: Feed) -> None:
    async def read() -> None:
        assert [event async for event in feed.stream("gone")] == []
        stream = feed.stream("spring")
        await next_look(stream)
        feed.ended = True
        assert [event async for event in stream] == []

    asyncio.run(read())


def test_runs_are_listed_and_read(feed: Feed) -> None:
    listed = asyncio.run(get(feed, "/api/runs")).json()
    assert [one["name"] for one in listed["runs"]] == ["spring"]
    assert listed["curves"] == list(CURVES)
    run = asyncio.run(get(feed, "/api/runs/spring")).json()
    assert run["view"]["counted"] == len(run["points"]) == 3


@pytest.mark.parametrize(
    "path",
    [
        *("/api/runs/gone", "/api/runs/gone/events", "/api/runs/%2e%2e", "/api/runs/..%2Fspring"),
        *("/static/index.html", "/static/..%2fapp.py", "/docs", "/openapi.json", "/redoc"),
    ],
)
def test_nothing_else_is_there(feed: Feed, path: str) -> None:
    assert asyncio.run(get(feed, path)).status_code == 404


@pytest.mark.parametrize("name", ["", *(f"static/{name}" for name in KINDS)])
def test_the_page_and_its_parts_are_served(feed: Feed, name: str) -> None:
    reply = asyncio.run(get(feed, f"/{name}"))
    assert reply.status_code == 200
    assert reply.headers["content-type"].partition(";")[0] in {
        *("text/html", "text/javascript", "text/css", "image/svg+xml", "text/plain")
    }
    assert len(reply.content) > 100
    assert asyncio.run(get(feed, f"/{name}", "HEAD")).status_code == 200


def test_readers_are_counted_and_capped(
    spring: Federation, feed: Feed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "MOST_READERS", 2)

    async def read() -> None:
        feed.readers = 2
        refused = await get(feed, "/api/runs/spring/events")
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "30")
        assert (await get(feed, "/api/runs/spring/events", "HEAD")).status_code == 200
        feed.readers = 1
        going = asyncio.create_task(get(feed, "/api/runs/spring/events"))
        while feed.readers < 2:
            await asyncio.sleep(0)
        feed.ended = True
        reply = await going
        assert reply.headers["content-type"].startswith("text/event-stream")
        assert feed.readers == 1

    asyncio.run(read())
