"""Do ten thousand schedules of faults all end in right sums or named aborts?

`python benchmarks/faults.py [SCHEDULES] [--json]`; the first violation ends it with its seed.
"""

import argparse
import json
import logging
import time
from collections import Counter

from simulations.faults import ViolationError, play


def main() -> None:
    """Play the schedules and count what happened."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("schedules", type=int, nargs="?", default=10_000)
    parser.add_argument("--json", action="store_true", help="end with one flat JSON object")
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    faults: Counter[str] = Counter()
    ends: Counter[str] = Counter()
    started = time.perf_counter()
    for seed in range(options.schedules):
        try:
            outcome = play(seed)
        except ViolationError as error:
            raise SystemExit(f"schedule {seed}: {error}") from error
        faults += outcome.faults
        ends["right sums"] += outcome.opened
        ends["rounds lost"] += outcome.lost
        ends["named aborts"] += bool(outcome.abort)
    figures = {
        "schedules": options.schedules,
        "wrong_sums": 0,
        "hangs": 0,
        "seconds": round(time.perf_counter() - started, 1),
        **{name.replace(" ", "_"): count for name, count in (ends + faults).items()},
    }
    print(
        json.dumps(figures) if options.json else "\n".join(f"{k}: {v}" for k, v in figures.items())
    )


if __name__ == "__main__":
    main()
