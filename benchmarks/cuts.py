"""Does a federation outlast networks that are away for minutes, and how soon is it whole again?

Five institutions, threshold four, each behind a wire of its own to the server's public port. One
run, in the middle of which wires are cut for `--seconds`: those of one institution or of all,
their connections reset, or nothing on them arriving any more. Counted are the rounds that the
others finished meanwhile, the rounds lost, and the seconds from the end of the cut to that of the
first round in which all take part again. A trip may take a sixth of a cut.

    python benchmarks/cuts.py --json
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import get_args

# The federation that the tests start is the one that is measured.
sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.deployment.cuts import How, Outage, stormy_plan, weather

SECONDS, TRIPS, ROUNDS = 180.0, 6, 400


def measure(folder: Path, seconds: float, cuts: Iterable[tuple[How, int]]) -> list[Outage]:
    """Return what each cut did, of so many institutions; raise when not all come back."""
    plan = stormy_plan(ROUNDS, seconds / TRIPS)
    with weather(folder, plan) as storm:
        storm.await_all(0)
        return [storm.cut(plan.names[:count], how, seconds) for how, count in cuts]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--how", choices=get_args(How), action="append")
    parser.add_argument("--institutions", type=int, choices=range(1, 6), action="append")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        cuts = product(options.how or get_args(How), options.institutions or (1, 5))
        outages = measure(Path(folder), options.seconds, cuts)
    for one in outages:
        print(
            f"{one.how:8} {len(one.names)} of 5 for {options.seconds:g} s:"
            f" {one.rounds_of_others} rounds without, {one.rounds_lost} lost,"
            f" all back after {one.seconds_to_return:.1f} s"
        )
    if options.json:
        print(json.dumps({"seconds": options.seconds, "outages": [asdict(one) for one in outages]}))


if __name__ == "__main__":
    main()
