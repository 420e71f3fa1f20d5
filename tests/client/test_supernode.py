import inspect
import re
import threading
from itertools import islice
from unittest.mock import Mock

import httpx
import pytest
from flwr.supernode import fleet_http_connection, start_client_internal

from client.supernode import (
    AWAY_SECONDS,
    BUSY_SECONDS,
    IDLE_SECONDS,
    lasting_heartbeat,
    lasting_retries,
    paced,
)

REQUEST = httpx.Request("POST", "https://fed.example/v1/fleet/pull-messages")


def test_pauses_grow_while_no_message_comes_and_shrink_with_one() -> None:
    slept: list[float] = []
    sleep = paced(slept.append)
    for _ in range(30):
        sleep(IDLE_SECONDS)
    assert slept[0] == 0.1
    assert slept[-1] == IDLE_SECONDS
    sleep(0.5)
    assert slept[-1] == BUSY_SECONDS
    sleep(IDLE_SECONDS)
    assert slept[-1] == 0.1


def test_flowers_loop_sleeps_as_this_expects() -> None:
    source = inspect.getsource(start_client_internal)
    assert re.findall(r"\btime\.(\w+)\((.*?)\)", source) == [
        ("sleep", f"{IDLE_SECONDS:g}"),
        ("sleep", "0.5"),
        ("sleep", "0.5"),
    ]


def test_flowers_connection_takes_both_from_its_module() -> None:
    source = inspect.getsource(fleet_http_connection)
    assert source.count("make_simple_http_retry_invoker()") == 1
    assert source.count("HeartbeatSender(") == 1


def answered(code: int) -> httpx.HTTPStatusError:
    return httpx.HTTPStatusError("", request=REQUEST, response=httpx.Response(code))


@pytest.mark.parametrize(
    "error",
    [
        httpx.ConnectError("[SSL: UNEXPECTED_EOF_WHILE_READING] EOF occurred"),
        httpx.ConnectTimeout("_ssl.c:989: The handshake operation timed out"),
        httpx.ReadTimeout("The read operation timed out"),
        httpx.ReadError("[Errno 104] Connection reset by peer"),
        httpx.RemoteProtocolError("Server disconnected without sending a response."),
        answered(502),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_network_that_fails_is_tried_again(error: httpx.HTTPError) -> None:
    asked = Mock(side_effect=[error, error, "done"])
    retries = lasting_retries()
    waited: list[float] = []
    retries.wait_function = waited.append
    assert retries.invoke(asked) == "done"
    assert len(waited) == 2


@pytest.mark.parametrize(
    "error",
    [
        httpx.ConnectError("[SSL: CERTIFICATE_VERIFY_FAILED] certificate has expired"),
        answered(404),
        answered(500),
    ],
    ids=str,
)
def test_what_no_attempt_will_change_is_not_tried_again(error: httpx.HTTPError) -> None:
    asked = Mock(side_effect=[error, "done"])
    with pytest.raises(type(error)):
        lasting_retries().invoke(asked)


def test_a_server_that_is_back_is_found_soon() -> None:
    assert max(islice(lasting_retries().wait_gen_factory(), 20)) == AWAY_SECONDS


@pytest.mark.parametrize("error", [answered(500), RuntimeError("not recognised")], ids=repr)
def test_heartbeats_outlast_one_that_was_not_taken(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = threading.Event()
    errors = [error]

    def beat() -> bool:
        if errors:
            raise errors.pop()
        taken.set()
        return True

    monkeypatch.setattr("flwr.supercore.retry.retry_invoker.random.uniform", lambda *_: 0.0)
    sender = lasting_heartbeat(beat)
    sender.start()
    try:
        assert taken.wait(20)
    finally:
        sender.stop()
