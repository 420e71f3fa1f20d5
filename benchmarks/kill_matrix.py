"""Does a federation survive kill -9 of any of its processes at any stage of a round?

Five institutions, threshold four: each of SuperLink, ServerApp, SuperNode and executor is killed
at each of ten moments of a run of its own, 40 cases one after the other on one federation. Every
case has to end in a finished run, by itself or after a named stop and `resume`, whose every
round's counts are exactly those of its survivors' rows (they travel in one masked vector with the
update), and every ledger has to verify. One that does not is told with the logs, and the command
ends with 1. It takes half an hour, for a killed SuperNode is refused until its last heartbeat has
expired.

    python benchmarks/kill_matrix.py --json
"""

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

# The cases of the tests, and all the others.
sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.deployment.matrix import (
    CASES,
    BrokenLedgerError,
    Ended,
    HangError,
    WrongSumsError,
    brought_up,
)

TIMEOUT = 100.0
"""Seconds a trip: longer than a killed SuperNode stays away, so that no start misses it."""

NAMED = (WrongSumsError, BrokenLedgerError, HangError)


def main() -> None:
    """Play the cases and count how they ended."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", nargs="*", help="PROCESS/MOMENT each [default: all]")
    parser.add_argument("--json", action="store_true", help="end with one flat JSON object")
    options = parser.parse_args()
    chosen = [tuple(case.split("/")) for case in options.cases or map("/".join, CASES)]
    ends: list[Ended] = []
    failures: Counter[type[AssertionError]] = Counter()
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, brought_up(Path(folder), TIMEOUT) as matrix:
        for process, moment in chosen:
            try:
                end = matrix.play(f"{process}-{moment}".lower(), (process, moment))
            except AssertionError as error:
                failures[type(error)] += 1
                print(f"{process:9} {moment:10} {type(error).__name__}: {error}", flush=True)
                continue
            ends.append(end)
            said = f"{end.seconds:5.0f} s, killed at {end.landed}, fewest survivors {end.least}"
            print(f"{process:9} {moment:10} {said} {end.stopped}".rstrip(), flush=True)
    count = Counter(bool(end.stopped) for end in ends)
    figures = {
        "cases": len(chosen),
        "finished_alone": count[False],
        "named_stops_resumed": count[True],
        "wrong_sums": failures[WrongSumsError],
        "broken_ledgers": failures[BrokenLedgerError],
        "hangs": failures[HangError],
        "failed_otherwise": failures.total() - sum(failures[one] for one in NAMED),
        "killed_at_the_very_line": sum(end.exact for end in ends),
        "rounds_lost": sum(len(end.lost) for end in ends),
        "seconds": round(time.perf_counter() - started, 1),
    }
    print(
        json.dumps(figures) if options.json else "\n".join(f"{k}: {v}" for k, v in figures.items())
    )
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
