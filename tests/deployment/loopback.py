"""A whole federation on this machine, as `make federation` runs it: founded, run, taken down.

    python -m tests.deployment.loopback [FOLDER]

Everybody types the commands that they would type on their own machines. What is left of it, the
model among it, stays in FOLDER if one is named.
"""

import csv
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from tests.deployment.federation import (
    CLIENT,
    SERVER,
    Step,
    await_health,
    by_command,
    command,
    found,
    make_plan,
    tails,
    up,
)

RUN = "loopback"

operate = partial(command, SERVER)
"""Run `fedprune-server` on a directory."""


def shown(step: Step) -> None:
    """Tell who does what, and do it."""
    print(f"{step.words}\n  $ {step.line}", flush=True)
    by_command(step)


def main(folder: Path) -> None:
    """Train and prune with three institutions on the embedded data."""
    began = time.monotonic()
    federation = found(folder, make_plan(), shown)
    server, names = federation.server, federation.plan.names
    homes = [(CLIENT, federation.institution(name)) for name in names]
    print("The central bank starts its server, and the institutions their nodes.")
    print("  $ fedprune-server up; fedprune-client up", flush=True)
    with up((SERVER, server)):
        await_health(federation)
        with up(*homes):
            arguments = ("start", "--wait", "--run", RUN)
            try:
                shown(Step("The central bank starts a run and waits.", SERVER, server, arguments))
            except SystemExit as error:
                raise SystemExit(f"{error}{tails(server)}") from None
            print(operate(server, "status").stdout)
    print("All processes have stopped.")
    tell(server / "runs" / RUN, federation.plan.training.rounds)
    print(f"All of it took {time.monotonic() - began:.0f} s.")


def tell(out: Path, rounds: int) -> None:
    """Print what a run gave."""
    rows = list(csv.DictReader((out / "rounds.csv").read_text().splitlines()))
    for row in rows[:rounds]:
        print(
            f"Round {row['round']}: {row['survivors']} institutions trained;"
            f" {int(row['weights_kept']):,} weights, {int(row['bytes_up']):,} bytes from each."
        )
    last = rows[-1]
    auc, sd = float(last["auc_test"]), float(last["auc_test_sd"])
    left = f"{int(last['weights_kept']):,} weights are left, {float(last['sparsity']):.0%} are gone"
    print(f"The model: {left}; ROC-AUC {auc:.3f} on test rows, give or take {sd:.3f}.")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as name:
            main(Path(name))
