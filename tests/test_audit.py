"""The logs of a whole federation, from its founding to the end of a run, by people's commands."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Context, RecordDict

from client.app import build_app
from client.cli import main as client_main
from client.config import load_institution
from common.trail.events import EVENTS
from common.trail.examination import read
from common.trail.file import files_of
from common.trail.lines import Head, parsed
from common.trail.refusals import TrailError
from server.app import OUT_KEY, PLAN_KEY, ROSTER_KEY, STATE_KEY, app
from server.cli import main as server_main
from simulations.grid import RUN_ID, SERVER_NODE, InProcessGrid
from tests.commands import Outcome, invoke
from tests.founding import NAMES, Federation, found, good, refused


@pytest.fixture(scope="module")
def _ran(tmp_path_factory: pytest.TempPathFactory) -> Federation:
    federation = found(tmp_path_factory.mktemp("federation"))
    federation.publish(2, training={"rounds": 2, "steps": 2, "sample_rate": 0.2})
    federation.approve(*NAMES)
    members = {
        SERVER_NODE + 1 + place: load_institution(federation.at(name) / "client.toml")
        for place, name in enumerate(NAMES)
    }
    grid = InProcessGrid(build_app(lambda context: members[context.node_id]), members)
    home = federation.server
    paths = {
        PLAN_KEY: home / "plan.toml",
        ROSTER_KEY: home / "roster.json",
        OUT_KEY: home / "runs" / "first",
        STATE_KEY: home / "state",
    }
    config = {key: str(path) for key, path in paths.items()}
    app(grid, Context(RUN_ID, SERVER_NODE, {}, RecordDict(), dict(config)))
    return federation


@pytest.fixture
def ran(_ran: Federation, tmp_path: Path) -> Federation:
    """Return a federation of four that was founded, approved and ran to its end."""
    return _ran.copy_to(tmp_path)


def told(home: Path) -> list[dict[str, Any]]:
    lines = read(files_of(home / "audit")).lines
    return [json.loads(line.data) for line in lines]


def kinds(home: Path) -> list[str]:
    return [line["event"] for line in told(home)]


def audit(federation: Federation, name: str, command: str, *arguments: object) -> Outcome:
    main = server_main if name == "server" else client_main
    return invoke(main, "audit", command, *arguments, "--home", federation.at(name))


def test_every_act_stands_in_the_log_of_whoever_did_it(ran: Federation) -> None:
    server = kinds(ran.server)
    assert server[:3] == ["began", "vouched", "founded"]
    assert server.count("admitted") == len(NAMES)
    assert server.count("published") == 2
    rounds = ["asked", "round_over"] * 3
    run = ["run_began", *["arrived"] * 4, *rounds, "model_written", "run_ended"]
    assert server[-len(run) :] == run
    for name in NAMES:
        own = kinds(ran.at(name))
        assert own[:4] == ["began", "enrolled", "vouched", "shown"]
        assert own.count("approved") == 1
        assert own.count("joined") == 1
        assert own.count("contributed") == own.count("opened") == 3
        assert own.count("charged") >= 2
    assert {*server, *kinds(ran.at("ash"))} < {*EVENTS.names}
    ended = told(ran.server)[-1]
    assert ended["outcome"] == "finished"
    charged = [line for line in told(ran.at("ash")) if line["event"] == "charged"]
    spent = [line["epsilon"] for line in charged]
    assert spent == sorted(spent)
    assert 0 < spent[0] < spent[-1] < 3


def test_the_logs_hold_by_themselves_and_against_each_other(ran: Federation) -> None:
    for name in ("server", *NAMES):
        out = good(audit(ran, name, "verify")).out
        assert "FOUND" not in out
        assert json.loads(good(audit(ran, name, "verify", "--json")).out)["findings"] == []
    logs = [ran.at(name) / "audit" for name in ("server", *NAMES)]
    for name in ("server", "ash"):
        compared = good(audit(ran, name, "compare", *logs)).out
        assert compared.count("tells the same as the server") == len(NAMES)
    shown = good(audit(ran, "ash", "show", "--event", "contributed")).out.splitlines()
    assert len(shown) == 3
    assert "round=2" in shown[-1]
    refused(audit(ran, "ash", "show", "--event", "unknown"), "unknown event 'unknown'; known: ")


def test_a_home_is_named_as_well_as_its_audit_folder(ran: Federation, tmp_path: Path) -> None:
    homes = [ran.at(name) for name in ("server", *NAMES)]
    compared = good(audit(ran, "server", "compare", *homes)).out
    assert compared.count("tells the same as the server") == len(NAMES)
    told = audit(ran, "server", "compare", ran.server, tmp_path / "copy" / "charters")
    assert told.code == 3
    assert "charters: no such log" in told.err
    (tmp_path / "empty").mkdir()
    told = audit(ran, "server", "compare", ran.server, tmp_path / "empty")
    assert told.code == 3
    assert "empty: holds no log.jsonl: name an audit folder or a home" in told.err


def test_rotation_keeps_what_both_sides_know(ran: Federation) -> None:
    logs = [ran.at(name) / "audit" for name in ("server", *NAMES)]
    for name in ("server", *NAMES):
        closed = Path(good(audit(ran, name, "rotate")).out.strip())
        assert closed.name == "log-000000000001.jsonl"
        good(audit(ran, name, "verify"))
    good(audit(ran, "server", "compare", *logs))
    (ran.at("ash") / "audit" / "log-000000000001.jsonl").unlink()
    assert audit(ran, "ash", "verify").code == 8
    assert audit(ran, "server", "compare", *logs).code == 8


@pytest.mark.parametrize("name", ["server", "ash"])
def test_an_altered_log_is_found_and_ends_with_its_own_code(ran: Federation, name: str) -> None:
    path = ran.at(name) / "audit" / "log.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b'"epoch":2', b'"epoch":3', 1))
    outcome = audit(ran, name, "verify")
    assert outcome.code == 8
    assert "is not signed by the log's key" in outcome.out
    assert "keep it as it is" in outcome.complaint
    logs = [ran.at(one) / "audit" for one in ("server", "ash")]
    compared = audit(ran, "server", "compare", *logs)
    assert compared.code == 8
    assert "is not signed by the log's key" in compared.complaint


@pytest.mark.parametrize("name", ["server", "ash"])
def test_a_log_and_head_of_an_earlier_day_are_told_by_ledger_and_journal(
    ran: Federation, name: str
) -> None:
    """Cut together with its head, as an old backup has both, a log seems whole in itself."""
    folder = ran.at(name) / "audit"
    shutil.rmtree(folder)
    good(audit(ran, name, "vouch"))
    outcome = audit(ran, name, "verify")
    assert outcome.code == 8
    assert "notes is not in the log" in outcome.out
    logs = [ran.at(one) / "audit" for one in ("server", "ash", "birch")]
    compared = audit(ran, "birch", "compare", *logs)
    assert compared.code == 8


@pytest.mark.parametrize("left", ["nothing", "another", "earlier"])
def test_an_institution_signs_for_no_log_that_lacks_what_its_ledger_notes(
    ran: Federation, tmp_path: Path, left: str
) -> None:
    home = ran.at("ash")
    folder, config = home / "audit", home / "client.toml"
    whole = shutil.copytree(folder, tmp_path / "whole")
    load_institution(config)
    assert kinds(home).count("vouched") == 1
    shutil.rmtree(folder)
    if left == "another":
        # Whatever is done first begins it anew.
        assert ran.do("ash", "join", ran.at("birch") / "request.json").code == 5
    if left == "earlier":
        cut_off(whole, folder, home, lines=12)
    before = files_of(folder)
    for _ in range(2):
        with pytest.raises(TrailError, match="lines that were noted elsewhere") as caught:
            load_institution(config)
        assert "put its latest copy back, or sign for it as it is: audit vouch" in str(caught.value)
    assert audit(ran, "ash", "verify").code
    assert "lacks" in ran.do("ash", "rotate").complaint
    assert not (home / "next.keys.json").exists()
    assert files_of(folder) == before
    # A person who knows why may sign for it; what that log goes on to lose stops it again.
    good(audit(ran, "ash", "vouch"))
    load_institution(config)
    good(ran.do("ash", "rotate"))
    assert kinds(home)[-3:] == ["enrolled", "vouched", "vouched_as_it_is"]
    # Or puts back what was there.
    shutil.rmtree(folder)
    shutil.copytree(whole, folder)
    load_institution(config)
    good(audit(ran, "ash", "verify"))


def test_lines_of_another_key_are_none_of_the_log_that_is_signed_for(ran: Federation) -> None:
    home = ran.at("ash")
    path = home / "audit" / "log.jsonl"
    old = path.read_bytes()
    shutil.rmtree(path.parent)
    assert ran.do("ash", "join", ran.at("birch") / "request.json").code == 5
    # The lines that the ledger notes, put between the new ones.
    first, *rest = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([first, old, *rest]))
    with pytest.raises(TrailError, match="the audit log was altered"):
        load_institution(home / "client.toml")
    assert "vouched" not in kinds(home)[len(old.splitlines()) + 1 :]


def test_a_strangers_log_is_not_compared(ran: Federation, tmp_path: Path) -> None:
    good(invoke(client_main, "init", "--name", "oak", "--home", tmp_path / "oak"))
    logs = [ran.server / "audit", tmp_path / "oak" / "audit"]
    outcome = audit(ran, "server", "compare", *logs)
    assert outcome.code == 8
    assert "the home knows no institution 'oak'" in outcome.complaint
    # Of the same name, but under keys that nobody admitted.
    good(invoke(client_main, "init", "--name", "ash", "--home", tmp_path / "false"))
    outcome = audit(ran, "server", "compare", ran.server / "audit", tmp_path / "false" / "audit")
    assert "no key of 'ash' has signed for the log's key" in outcome.complaint


def test_refusals_keys_and_leaving_are_noted(ran: Federation) -> None:
    assert ran.do("ash", "join", ran.at("birch") / "request.json").code == 5
    noted = told(ran.at("ash"))[-1]
    assert (noted["event"], noted["what"], noted["told"]) == ("refused", "bundle", "consent")
    assert ran.operate("admit", ran.at("ash") / "request.json").code == 5
    noted = told(ran.server)[-1]
    assert (noted["event"], noted["what"]) == ("refused", "admission of ash")
    good(ran.do("ash", "rotate"))
    assert kinds(ran.at("ash"))[-2:] == ["enrolled", "vouched"]
    good(ran.do("ash", "leave", "--yes"))
    assert "keys.json" in told(ran.at("ash"))[-1]["erased"]
    ran.act("revoke-ash", "revoke", "ash")
    assert (told(ran.server)[-1]["event"], len(told(ran.server)[-1]["signers"])) == ("revoked", 2)
    good(audit(ran, "server", "verify"))


def test_a_log_that_cannot_be_written_keeps_the_act_from_being_done(ran: Federation) -> None:
    (ran.server / "audit" / "log.jsonl").write_bytes(b"")
    members = ran.home.members.keys()
    good(ran.operate("revoke", "birch"))
    good(ran.sign("revoke-birch"))
    assert ran.operate("apply", ran.proposal("revoke-birch")).code == 8
    assert ran.home.members.keys() == members
    shutil.rmtree(ran.at("cedar") / "audit")
    (ran.at("cedar") / "audit").write_text("in the way")
    before = (ran.at("cedar") / "consent.json").read_bytes()
    outcome = ran.do("cedar", "join", ran.bundle)
    assert outcome.code == 1
    assert "cannot be written" in outcome.complaint
    assert (ran.at("cedar") / "consent.json").read_bytes() == before


def cut_off(whole: Path, folder: Path, home: Path, lines: int) -> None:
    """Put a log and its head as they were some lines ago, under the log's own key."""
    shutil.copytree(whole, folder)
    rows = (whole / "log.jsonl").read_bytes().splitlines(keepends=True)[:-lines]
    (folder / "log.jsonl").write_bytes(b"".join(rows))
    head = Head.of(parsed(rows[-1].rstrip()), (whole / "key").read_bytes())
    (folder / "head").write_bytes(head.to_bytes().hex().encode())


def test_no_log_holds_a_secret_or_a_record(ran: Federation) -> None:
    rows = (ran.at("ash") / "records.csv").read_text().splitlines()[1:]
    cells = {cell for row in rows for cell in row.split(",") if len(cell) > 8}
    text = "\n".join(data.decode() for data in files_of(ran.at("ash") / "audit").values())
    assert len(cells) > 100
    assert not [cell for cell in cells if cell in text]
