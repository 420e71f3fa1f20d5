"""A federation founded by the commands that people type: four institutions, two operators."""

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import tomli_w

from client.cli import main as client_main
from common.consent.acts import Proposal
from common.consent.agreement import MARK, mark_of
from common.secret_files import create_secret
from server.cli import main as server_main
from server.home import ServerHome
from tests.commands import Outcome, invoke
from tests.support import SIZES, WIDTH, plan_fields, small_examples

NAMES = tuple(SIZES)
ADDRESS = "bank.example:9092"


@dataclass(frozen=True)
class Federation:
    """The machines of a federation, each a folder."""

    path: Path

    @property
    def server(self) -> Path:
        return self.path / "server"

    @property
    def home(self) -> ServerHome:
        return ServerHome(self.server)

    @property
    def bundle(self) -> Path:
        return self.server / "bundle.json"

    def at(self, name: str) -> Path:
        return self.path / name

    def operate(self, command: str, *arguments: object, home: str = "server") -> Outcome:
        """Run a command of ``fedprune-server`` in a folder."""
        return invoke(server_main, command, *arguments, "--home", self.path / home)

    def do(self, name: str, command: str, *arguments: object) -> Outcome:
        """Run a command of ``fedprune-client`` on an institution's machine."""
        return invoke(client_main, command, *arguments, "--home", self.path / name)

    def proposal(self, name: str) -> Path:
        return self.server / "proposals" / f"{name}.json"

    def agree(self, name: str) -> Outcome:
        """Have the second operator sign a proposal, and the first apply it."""
        good(self.sign(name))
        return self.operate("apply", self.proposal(name))

    def sign(self, name: str, home: str = "bob") -> Outcome:
        """Have an operator sign a proposal that he has read."""
        file = self.proposal(name)
        return self.operate("sign", file, mark_of(read(file).digest), home=home)

    def act(self, name: str, command: str, *arguments: object) -> None:
        """Have both operators do something."""
        good(self.operate(command, *arguments))
        good(self.agree(name))

    def enrol(self, name: str) -> None:
        """Have an institution make its keys and both operators admit it."""
        good(self.do(name, "init", "--name", name))
        self.act(f"admit-{name}", "admit", self.at(name) / "request.json")

    def publish(self, number: int, **sections: Any) -> None:
        """Have both operators publish a plan for the members that are admitted."""
        write_plan(self, **sections)
        self.act(f"publish-{number}", "publish")

    def approve(self, *names: str) -> None:
        """Have members join by the latest bundle and approve it."""
        for name in names:
            good(self.do(name, "join", self.bundle))
            good(self.consent(name))

    def consent(self, name: str) -> Outcome:
        """Have a member approve the bundle that lies there, as if it had been read."""
        pending = self.at(name) / "pending.json"
        mark = mark_of(read(pending).digest) if pending.exists() else "0" * MARK
        return self.do(name, "approve", mark)

    def copy_to(self, path: Path) -> "Federation":
        """Return the same federation elsewhere."""
        return Federation(Path(shutil.copytree(self.path, path / "copy")))


def good(outcome: Outcome) -> Outcome:
    """Return an outcome that is a success."""
    assert outcome.code == 0, outcome.err
    return outcome


def refused(outcome: Outcome, problem: str) -> str:
    """Return the one line in which a command was refused, for this reason."""
    assert outcome.code in (3, 5), outcome
    assert problem in outcome.complaint
    return outcome.complaint


def write_plan(federation: Federation, **sections: Any) -> None:
    """Write the plan of all that are admitted or were, by the operators of ``init``."""
    board = federation.home.operators.model_dump()
    names = federation.home.members.keys() | {one.name for one in federation.home.former}
    institutions = [{"name": name, "size": SIZES.get(name, 200)} for name in sorted(names)]
    evaluation = {"noise": "gaussian", "epsilon": 1.0}
    fields = {"operators": board, "institutions": institutions, "evaluation": evaluation}
    (federation.server / "plan.toml").write_text(tomli_w.dumps(plan_fields(**fields | sections)))


def found(path: Path, quorum: int = 2) -> Federation:
    """Found a federation, admit its members, and publish a plan; nobody has joined yet."""
    federation = Federation(path)
    open_server(federation, ADDRESS, quorum)
    for index, name in enumerate(NAMES):
        federation.enrol(name)
        write_table(federation.at(name) / "records.csv", index)
    federation.publish(1)
    return federation


def open_server(federation: Federation, address: str, quorum: int = 2) -> None:
    """Make the keys of both operators and the server's folder."""
    told = good(federation.operate("operator", "--name", "bob", home="bob")).out
    pair = told.splitlines()[0].split()[-1]
    options = ("--operator", "alice", "--other", pair, "--quorum", quorum)
    good(federation.operate("init", "--name", "small", "--address", address, *options))


def write_table(path: Path, seed: int) -> None:
    examples = small_examples(300, seed)
    table = pd.DataFrame(examples.features, columns=[f"x{index}" for index in range(WIDTH)])
    table.assign(bad=examples.labels.astype(np.int64)).to_csv(path, index=False)


def put_under_passphrase(file: Path, passphrase: str) -> None:
    """Lock a key that was made without a passphrase."""
    clear = file.read_bytes()
    file.unlink()
    create_secret(file, clear, os.urandom, passphrase)


def altered(bundle: Path, *keys: str, by: Any) -> Path:
    """Write a bundle in which one value is another, in the only form; return its path."""
    fields = json.loads(bundle.read_bytes())
    *parents, last = keys
    inner = fields["act"]
    for key in parents:
        inner = inner[key]
    inner[last] = by
    path = bundle.with_name("altered.json")
    path.write_text(json.dumps(fields, sort_keys=True, separators=(",", ":")))
    return path


def read(bundle: Path) -> Proposal:
    """Return what a bundle or proposal holds."""
    return Proposal.from_bytes(bundle.read_bytes())
