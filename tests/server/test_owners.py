"""Whose a node is follows from its key, whatever it was registered as."""

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
import tomli_w
from flwr.app import Context, RecordDict

from common.crypto import node_keys
from common.entropy import SeededEntropy
from server import owners
from server.app import UP_KEY, _from_run_config
from server.control import ONLINE, UNREGISTERED
from server.desk import NoServerError
from server.executor import configured
from server.members import node_key
from server.owners import owners_at
from tests.support import plan_fields


class SuperLink:
    """What of the Control API lists nodes, and of the desk that leads to it."""

    def __init__(self, **nodes: tuple[bytes, str]) -> None:
        self.away = False
        self._nodes = [
            SimpleNamespace(public_key=key, node_id=number, status=status, name=name)
            for number, (name, (key, status)) in enumerate(nodes.items())
        ]

    def control(self) -> AbstractContextManager["SuperLink"]:
        return nullcontext(self)

    def ListNodes(self, _: object) -> SimpleNamespace:  # noqa: N802
        if self.away:
            raise httpx.ConnectError("away")
        return SimpleNamespace(nodes_info=self._nodes)


def enrolled(home: Path, file: str, seed: int) -> bytes:
    """Put a key among the members; return it as SuperLink lists it."""
    folder = home / "members"
    folder.mkdir(exist_ok=True)
    key = node_keys.generate_key(SeededEntropy(seed).stream("node"))
    (folder / file).write_text(node_keys.public_line(key))
    return node_key(folder / file)


def test_nodes_are_their_keys_owners(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ash, birch = enrolled(tmp_path, "ash.pub", 0), enrolled(tmp_path, "birch.before.pub", 1)
    stranger = enrolled(tmp_path, "gone.pub", 2)
    (tmp_path / "members" / "gone.pub").unlink()
    superlink = SuperLink(
        birch=(ash, ONLINE), ash=(stranger, ONLINE), cedar=(birch, ONLINE), gone=(ash, UNREGISTERED)
    )
    monkeypatch.setattr(owners, "find_desk", lambda home: superlink)
    found = owners_at(tmp_path, must=True)
    assert found is not None
    assert found() == {0: "ash", 2: "birch"}
    # While it is away nobody is known, rather than anybody believed.
    superlink.away = True
    assert found() == {}
    superlink.away = False
    assert found() == {0: "ash", 2: "birch"}


def test_where_no_server_is_up_nobody_knows_and_that_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert owners_at(tmp_path, must=False) is None
    assert "each node is taken at its word" in caplog.text


def test_an_executor_that_outlives_its_server_takes_no_node_at_its_word(tmp_path: Path) -> None:
    with pytest.raises(NoServerError, match="no server runs here"):
        owners_at(tmp_path, must=True)


def test_a_run_of_up_is_begun_by_nobody_who_knows_no_owners(tmp_path: Path) -> None:
    (tmp_path / "runs" / "first").mkdir(parents=True)
    (tmp_path / "runs" / "first" / "plan.toml").write_text(
        tomli_w.dumps(plan_fields(aggregation={"kind": "plain"}))
    )
    told = configured(tmp_path, "first")
    with pytest.raises(NoServerError, match="no server runs here"):
        _from_run_config(Context(0, 0, {}, RecordDict(), told))
    by_hand = {key: value for key, value in told.items() if key != UP_KEY}
    task = _from_run_config(Context(0, 0, {}, RecordDict(), by_hand))
    task.record.close()
    assert task.owners is None
