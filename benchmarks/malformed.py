"""Is a million malformed inputs refused by type, or read as exactly what it says?

`python benchmarks/malformed.py [INPUTS] [--json]`; the first untyped error ends it. A tenth of the
inputs are whole messages, the others bytes for every decoder inside them and of the disk.
"""

import argparse
import json
import time
from collections import Counter

from simulations.mutations import (
    mutated_records,
    mutations,
    require_record_refused_or_itself,
    require_refused_or_itself,
)

MESSAGES_AMONG = 10


def main() -> None:
    """Feed every decoder and every kind of message in turn."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("inputs", type=int, nargs="?", default=1_000_000)
    parser.add_argument("--json", action="store_true", help="end with one flat JSON object")
    options = parser.parse_args()
    refused: Counter[str] = Counter()
    started = time.perf_counter()
    records = options.inputs // MESSAGES_AMONG
    for decoder, data in mutations(options.inputs - records, seed=0):
        refused[decoder.name] += require_refused_or_itself(decoder, data)
    for message, record in mutated_records(records, seed=0):
        refused[f"message_{message.kind}"] += require_record_refused_or_itself(message, record)
    figures = {
        "inputs": options.inputs,
        "untyped_errors": 0,
        "seconds": round(time.perf_counter() - started, 1),
        **{f"refused_{name}": count for name, count in refused.items()},
    }
    print(
        json.dumps(figures) if options.json else "\n".join(f"{k}: {v}" for k, v in figures.items())
    )


if __name__ == "__main__":
    main()
