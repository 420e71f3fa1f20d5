"""What does Ray cost? A round on Flower's Ray engine against one in process, same run, same model.

Ten institutions of the embedded consortium, a small network. The first round is left out: it
waits for imports, and on Ray for a start, which is shown on its own. In process the institutions
work one after the other; Ray's actors side by side, as many as there are cores.

    python benchmarks/engines.py
    python benchmarks/engines.py --hidden 512 256 --steps 50
"""

import argparse
import json
import time
from itertools import pairwise
from statistics import median

import torch

from common.errors import ConfigError
from server.model import GlobalModel
from server.rounds import RoundReport
from simulations.engine import engine_of
from simulations.inputs import Federation, Options, assemble
from simulations.run import Run, simulate


def timed(federation: Federation, engine: str) -> tuple[float, float, bytes]:
    """Return seconds to the end of the first round, seconds a later one, and the final weights."""
    ends = list[float]()

    def watch(model: GlobalModel, report: RoundReport) -> None:
        ends.append(time.perf_counter())

    run, started = Run(federation.plan), time.perf_counter()
    simulate(run, federation.splits, 0, watch=watch, engine=engine)
    later = [after - before for before, after in pairwise(ends)]
    return ends[0] - started, median(later), run.final.weights.tobytes()


def main() -> None:
    """Measure and print; ``--json`` ends with one flat object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--hidden", type=int, nargs="+", default=[64, 32])
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    settings = {
        ("training", "rounds"): options.rounds,
        ("training", "steps"): options.steps,
        ("model", "hidden"): options.hidden,
    }
    federation = assemble(Options(settings=settings))
    figures: dict[str, float] = {}
    first, each, weights = timed(federation, "inprocess")
    figures |= {"inprocess_first_seconds": first, "inprocess_round_seconds": each}
    try:
        engine_of("ray")
    except ConfigError as error:
        print(f"in process alone: {error}")
    else:
        first, each, others = timed(federation, "ray")
        if others != weights:
            raise SystemExit("the engines disagree on the model")
        figures |= {"ray_first_seconds": first, "ray_round_seconds": each}
        figures["ray_vs_inprocess_round"] = each / figures["inprocess_round_seconds"]
    for name, value in figures.items():
        print(f"{name:26} {value:8.3f}")
    if options.json:
        print(json.dumps({name: round(value, 4) for name, value in figures.items()}))


if __name__ == "__main__":
    main()
