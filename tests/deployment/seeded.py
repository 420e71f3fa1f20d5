"""`up` on either side with executors that draw from a seed, as simulated parties do.

    python -m tests.deployment.seeded up --home HOME

All else is what is installed: SuperLink, the public port, SuperNodes, TLS, keys, files, ledgers.
Only this module, which is not installed, starts such executors, and only by code: no plan, file
or environment variable reaches the entropy of a real one.
"""

import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import client.cli
import client.executor
import client.up
import server.cli
import server.executor
import server.up
from client.config import load_institution
from client.stages import Institution
from common.entropy import SeededEntropy
from common.processes import Child
from server.app import _from_run_config, build_app

MODULE = "tests.deployment.seeded"
SEED = 11
EXECUTORS = ("client.executor", "server.executor")


def open_seeded(path: Path) -> Institution:
    """Open the institution of a ``client.toml`` with the entropy of its simulated namesake."""
    opened = load_institution(path)
    return replace(opened, entropy=SeededEntropy(SEED, f"institution/{opened.name}"))


def with_seed(children: Callable[..., list[Child]]) -> Callable[..., list[Child]]:
    """Return the same children, their executor started by this module."""

    def seeded(*arguments: object) -> list[Child]:
        return [
            replace(
                child,
                command=[
                    part
                    for given in child.command
                    for part in ((MODULE, given) if given in EXECUTORS else (given,))
                ],
            )
            for child in children(*arguments)
        ]

    return seeded


def main(command: str, *arguments: str) -> None:
    """Do what the installed command or executor of this name does."""
    if command == "client.executor":
        vars(client.executor)["load_institution"] = open_seeded
        client.executor.main(*arguments)
    elif command == "server.executor":
        app = build_app(_from_run_config, SeededEntropy(SEED, "server"))
        vars(server.executor)["Executor"] = partial(server.executor.Executor, server=app)
        server.executor.main(*arguments)
    elif (Path(arguments[-1]) / "server.toml").is_file():
        vars(server.up)["children"] = with_seed(server.up.children)
        server.cli.main()
    else:
        vars(client.up)["children"] = with_seed(client.up.children)
        client.cli.main()


if __name__ == "__main__":
    main(*sys.argv[1:])
