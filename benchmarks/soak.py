"""Does a long run stay as large as it was: memory, handles, files, and seconds a round?

Rounds of a small federation, in one process with the ledgers, logs and records of a deployment, or
on Flower's engine as three institutions and a server run it. Shown for every process is what 100
rounds add to resident memory and open handles after the warm-up, what they add to each file, and
how much longer the last rounds take than early ones.

    python benchmarks/soak.py --json
    python benchmarks/soak.py --engine flower --rounds 200
"""

import argparse
import json
import sys
import tempfile
from dataclasses import asdict
from math import inf
from pathlib import Path

# The federation that the tests start is the one that is measured.
sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.deployment.soak import BAR, Soak, in_process, on_flower

ENGINES = {"inprocess": (in_process, 2000), "flower": (on_flower, 200)}


def show(soak: Soak) -> None:
    """Print the slopes as tables."""
    print(f"{soak.rounds} rounds")
    print(f"{'process':28} MiB / 100 rounds  handles / 100   at the end")
    for name, slope in soak.slopes.items():
        print(
            f"{name:28} {slope.memory_mib:16.3f} {slope.handles:14.2f}"
            f"   {slope.resident_mib:.0f} MiB, {slope.handles_open} handles"
        )
    print(f"{'file':50} bytes / 100 rounds")
    for kind, added in soak.growth.items():
        if round(added):
            print(f"{kind:50} {added:18.0f}")
    print(f"late rounds take {soak.slowing:.2f} times as long as early ones")


def main() -> None:
    """Measure, print, and end with an error when a process grows beyond the bar."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--engine", choices=ENGINES, default="inprocess")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--seconds", type=float, default=inf, help="end earlier after so many")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    measure, rounds = ENGINES[options.engine]
    with tempfile.TemporaryDirectory() as folder:
        soak = measure(Path(folder) / "federation", options.rounds or rounds, options.seconds)
    show(soak)
    if options.json:
        told = {"engine": options.engine, "rounds": soak.rounds, "slowing": soak.slowing}
        slopes = {name: asdict(slope) for name, slope in soak.slopes.items()}
        print(json.dumps(told | {"slopes": slopes, "bytes_per_100_rounds": soak.growth}))
    if over := [name for name, slope in soak.slopes.items() if slope.memory_mib >= BAR]:
        raise SystemExit(f"more than {BAR:g} MiB in 100 rounds: {', '.join(over)}")


if __name__ == "__main__":
    main()
