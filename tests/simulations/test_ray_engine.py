"""The Ray engine's edges, without a start of Ray: the contract suite starts it."""

import logging
import socket
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any, cast

import pytest
from flwr.app import Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.constant import ErrorCode
from flwr.superlink.grid import InMemoryGrid

from common.errors import ConfigError
from simulations.grid import InProcessGrid
from simulations.run import Run, simulate
from tests.support import all_splits, small_plan

pytest.importorskip("ray", reason="Ray is not installed: pip install 'fedprune[ray]'")

from simulations import ray_engine
from simulations.ray_engine import EngineError, PatientGrid

Answer = Callable[[Message], Message]


def patient(answer: Answer, silences: int = 0, engine: "Future[None] | None" = None) -> PatientGrid:
    """Return a grid over one node, whose replies come after so many empty pulls."""
    app = ClientApp()
    app.query("ask")(lambda message, context: answer(message))
    inner, pulls = InProcessGrid(app, [2]), iter(range(silences))

    def pull(ids: Iterable[str]) -> Iterable[Message]:
        return [] if next(pulls, None) is not None else inner.pull_messages(ids)

    late = SimpleNamespace(
        push_messages=inner.push_messages, pull_messages=pull, get_node_ids=inner.get_node_ids
    )
    return PatientGrid(cast(InMemoryGrid, late), 1, engine or Future())


def ask(grid: PatientGrid) -> Message:
    message = Message(RecordDict(), 2, "query.ask", ttl=0.001)
    (reply,) = grid.send_and_receive([message])
    return reply


def failing(code: int) -> Answer:
    return lambda message: Message(Error(code, "a row"), reply_to=message)


def fine(message: Message) -> Message:
    return Message(message.content, reply_to=message)


def test_a_late_reply_is_waited_for_beyond_its_time_to_live() -> None:
    reply = ask(patient(fine, silences=3))
    assert not reply.has_error()
    assert list(patient(fine).get_node_ids()) == [2]


def test_who_left_answers_with_an_error_and_who_failed_ends_the_run() -> None:
    assert ask(patient(failing(ErrorCode.NODE_UNAVAILABLE))).has_error()
    with pytest.raises(EngineError, match="app failed on Ray: --debug shows how") as failed:
        ask(patient(failing(ErrorCode.CLIENT_APP_RAISED_EXCEPTION)))
    assert "a row" not in str(failed.value)


def test_nobody_is_waited_for_once_the_engine_has_stopped() -> None:
    engine: Future[None] = Future()
    engine.set_exception(ValueError("no actors"))
    assert not ask(patient(fine, engine=engine)).has_error()
    with pytest.raises(EngineError, match="engine stopped") as stopped:
        ask(patient(fine, silences=1, engine=engine))
    assert isinstance(stopped.value.__cause__, ValueError)


def test_a_cluster_that_does_not_answer_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{closed.getsockname()[1]}"
        monkeypatch.setenv(ray_engine.ADDRESS, address)
        plan = small_plan()
        with pytest.raises(ConfigError, match=rf"{address}.*ray start --head.*unset RAY_ADDRESS"):
            simulate(Run(plan), all_splits(plan), 0, engine="ray")


@pytest.mark.parametrize("level", [logging.NOTSET, logging.DEBUG])
def test_flower_is_silent_while_a_run_lasts_unless_it_is_debugged(
    monkeypatch: pytest.MonkeyPatch, level: int
) -> None:
    flower, seen = logging.getLogger("flwr"), list[bool]()
    before = flower.level

    def init(*arguments: Any, **keywords: Any) -> None:
        seen.append(flower.isEnabledFor(logging.ERROR))
        seen.append(keywords["log_to_driver"])
        raise RuntimeError

    monkeypatch.setattr("ray.init", init)
    monkeypatch.setattr(ray_engine.log, "level", level)
    ray_engine.log.manager._clear_cache()  # type: ignore[attr-defined]
    plan = small_plan()
    with pytest.raises(ConfigError):
        simulate(Run(plan), all_splits(plan), 0, engine="ray")
    assert seen == [level == logging.DEBUG] * 2
    assert flower.level == before
