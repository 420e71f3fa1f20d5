"""Are a thousand random edits of what is kept as evidence all found?

`python benchmarks/tampering.py [EDITS] [--json]`; so many of each kind of evidence. One that is not
found ends it.
"""

import argparse
import json
import time
from collections import Counter

from simulations.tampering.edits import TARGETS
from simulations.tampering.trials import tampered


def main() -> None:
    """Edit every target in turn and count what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("edits", type=int, nargs="?", default=1000)
    parser.add_argument("--json", action="store_true", help="end with one flat JSON object")
    options = parser.parse_args()
    figures: dict[str, float] = {}
    for name in TARGETS.names:
        found: Counter[str] = Counter()
        started = time.perf_counter()
        for trial in tampered(name, options.edits):
            if not trial.findings:
                raise SystemExit(f"{name}: edit {trial.edit!r} was not found")
            found[trial.edit] += 1
        label = name.replace(" ", "_")
        figures |= {
            f"{label}_edits": options.edits,
            f"{label}_found": sum(found.values()),
            f"{label}_seconds": round(time.perf_counter() - started, 1),
            **{f"{label}_{edit}": count for edit, count in found.items()},
        }
    print(
        json.dumps(figures) if options.json else "\n".join(f"{k}: {v}" for k, v in figures.items())
    )


if __name__ == "__main__":
    main()
