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
from dataclasses import asdict
from pathlib import Path
from typing import get_args

# The federation that the tests start is the one that is measured.
sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.deployment.cuts import How, Outage, stormy_plan, weather

SECONDS, TRIPS, ROUNDS = 180.0, 6, 400


def measure(folder: Path, seconds: float, whom: str) -> list[Outage]:
    """Return what each cut did; raise when not all come back."""
    plan = stormy_plan(ROUNDS, seconds / TRIPS)
    cut = {"one": [plan.names[:1]], "all": [plan.names], "both": [plan.names[:1], plan.names]}
    with weather(folder, plan) as storm:
        storm.await_all(0)
        return [storm.cut(names, how, seconds) for names in cut[whom] for how in get_args(How)]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--whom", choices=("one", "all", "both"), default="both")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        outages = measure(Path(folder), options.seconds, options.whom)
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
