import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from client.cli import main as client
from client.ledger_file import SqliteStore
from server import control, desk
from server.cli import main as server
from simulations.cli import main as sim
from simulations.consortium import consortium
from tests.commands import invoke, trial_file
from tests.ledgers import NOON, TRAIN, at, budget, ledger_on
from tests.models import random_network, write_model
from tests.reference.commands import every_command
from tests.support import WIDTH, small_plan

MAINS = {"fedprune-server": server, "fedprune-client": client, "fedprune-sim": sim}
FINDING = {"what", "state", "said", "remedy"}
LOG = {"log", "lines", "from", "to", "key", "signed for by", "last line", "findings"}
LINE = {"line", "time", "event"}
COMPARED = {"path", "log", "differences"}
SMALL = "--rounds 1 --out {out}"

TYPED = {
    "fedprune-server status": ("--home {server}", {"institutions", "runs", "notes"}),
    "fedprune-server doctor": ("--home {server}", FINDING),
    "fedprune-server plan": ("{plan}", {"plan", "plan_sha256", "model", "delta", "warnings"}),
    "fedprune-server audit verify": ("--home {server}", LOG),
    "fedprune-server audit show": ("--home {server}", LINE),
    "fedprune-server audit compare": ("{server}/audit {bank}/audit --home {server}", COMPARED),
    "fedprune-client doctor": ("--home {bank}", FINDING),
    "fedprune-client check": (
        "{table} --schema credit_consortium",
        {"source", "rows_read", "rows_kept", "duplicates", "missing", "out_of_range"}
        | {"train", "validation", "test"},
    ),
    "fedprune-client score": (
        "--model {model} --data {rows} --out {scores} --blank --unreleased",
        {"out", "rows", "unscored", "faults"},
    ),
    "fedprune-client ledger show": (
        "--home {ledger}",
        {"table", "runs", "spent", "line", "head"},
    ),
    "fedprune-client ledger verify": ("--home {ledger}", {"lines"}),
    "fedprune-client audit verify": ("--home {bank}", LOG),
    "fedprune-client audit show": ("--home {bank}", LINE),
    "fedprune-client audit compare": ("{server}/audit {bank}/audit --home {bank}", COMPARED),
    "fedprune-sim run": (
        f"{{plan}} --no-baselines {SMALL}",
        {"auc", "epsilon", "sparsity", "shrinkage", "interrupted", "plan_sha256"},
    ),
    "fedprune-server report": ("{run}", {"report", "bytes"}),
    "fedprune-sim report": ("{run}", {"report", "bytes"}),
    "fedprune-server model-file": ("{run}", {"files", "tests", "missing"}),
    "fedprune-sim model-file": ("{run}", {"files", "tests", "missing"}),
    "fedprune-sim compare": (
        f"{{plan}} --seeds 1 --rank exact --sparsity 0.5 {SMALL}",
        {"recommended", "table", "ranked_by", "failed", "left_out", "plan_sha256"},
    ),
    "fedprune-sim tune": (
        f"{{plan}} --trials 1 {SMALL}",
        {"trials", "best", "search_epsilon", "plan_sha256"},
    ),
    "fedprune-sim audit": (
        f"{{plan}} --canaries 8 --draws 1000 {SMALL}",
        {"passed", "findings", "epsilon", "confidence", "plan_sha256"},
    ),
}
"""What to type for each command with ``--json``, and what its answer, or each part, must hold."""

ELSEWHERE = {"fedprune-client validate"} | {
    f"fedprune-{side} release {verb}" for side in ("server", "client") for verb in ("list", "show")
}
"""They need a release, as tests/test_release.py has one."""

CLIENT = 'name = "ash"\ndata = "table.csv"\n[ledger]\ntable = "loans"\n'


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return a federation's homes, a ledger, a model and tables, by the names typed above."""
    folder = tmp_path_factory.mktemp("places")
    names = ("server", "bank", "ledger", "model", "rows.csv", "scores.csv", "table.csv")
    found = {name.partition(".")[0]: folder / name for name in names}
    found["plan"], found["run"] = trial_file(folder), folder / "run"
    trial = ("run", found["plan"], "--no-baselines", "--rounds", "1", "--out", found["run"])
    assert invoke(sim, *trial).code == 0
    options = ("--name", "fed", "--address", "fed.example:9092", "--home", found["server"])
    assert invoke(server, "init", *options).code == 0
    assert invoke(client, "init", "--name", "ash", "--home", found["bank"]).code == 0
    request = found["bank"] / "request.json"
    assert invoke(server, "admit", request, "--home", found["server"]).code == 0
    found["ledger"].mkdir()
    (found["ledger"] / "client.toml").write_text(CLIENT)
    ledger = ledger_on(SqliteStore(found["ledger"] / "ledger.sqlite"))
    ledger.charge(at(0), (TRAIN,), budget(), NOON)
    write_model(found["model"], small_plan(), random_network(small_plan()))
    cells = np.zeros((3, WIDTH))
    cells[1, 0] = np.nan
    columns = [f"x{index}" for index in range(WIDTH)]
    pd.DataFrame(cells, columns=columns).to_csv(found["rows"], index=False)
    next(iter(consortium(institutions=3).values())).to_csv(found["table"], index=False)
    return found


def answer(name: str, places: dict[str, Path], out: Path) -> Any:
    """Return what a command says with ``--json``: the whole of its standard output."""
    arguments = TYPED[name][0].format(**places, out=out).split()
    app, *words = name.split()
    outcome = invoke(MAINS[app], *words, *arguments, "--json")
    # What a doctor finds is the machine's affair: whether a port is free, or an address known.
    assert outcome.code in ((0, 1) if words[-1] == "doctor" else (0,)), outcome.err
    assert len(outcome.out.splitlines()) == 1
    return json.loads(outcome.out)


def test_every_json_is_tested() -> None:
    with_json = {
        name for name, one in every_command() if any("--json" in each.opts for each in one.params)
    }
    assert with_json == set(TYPED) | ELSEWHERE


@pytest.mark.parametrize("name", TYPED)
def test_json_is_alone_and_of_one_shape(
    name: str, places: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desk, "find_desk", lambda home: None)
    monkeypatch.setattr(control, "at", lambda found: nullcontext())
    monkeypatch.setattr(control, "nodes", lambda superlink: [])
    monkeypatch.setattr(control, "runs", lambda superlink: [RUN])
    said = answer(name, places, tmp_path / "out")
    parts = said if isinstance(said, list) else [said]
    assert parts
    for part in parts:
        assert part.keys() >= TYPED[name][1]


RUN = control.RunState(7, "first", "finished", "failed", "a full disk", "2026-01-02T03:04:05.678")


def test_what_is_counted_is_told(places: dict[str, Path], tmp_path: Path) -> None:
    scored = answer("fedprune-client score", places | {"scores": tmp_path / "s.csv"}, tmp_path)
    assert (scored["rows"], scored["unscored"]) == (3, 1)
    assert scored["faults"] == [{"column": "x0", "problem": "is missing", "rows": 1}]
    ledger = answer("fedprune-client ledger show", places, tmp_path)
    (run,) = ledger["runs"]
    assert (run["rounds"], run["state"]) == (1, "open")
    assert [one["window"] for one in ledger["spent"]][-2:] == ["year", "ever"]
    assert 0 < run["epsilon"] <= ledger["spent"][-1]["spent"]
