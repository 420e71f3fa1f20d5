"""What does each pruning family reach at each sparsity, under the same budget and seeds?

One setting of the default plan is changed at a time. The dense model has the best of three
learning rates by validation rows, the pruned ones the default rate. Prints a Markdown table of
mean test ROC-AUC (`docs/families.md` holds one); `--json` ends with one flat object that holds
the gaps to the dense model.

    python benchmarks/families.py --seeds 5 --jobs 2
"""

import argparse
import json
import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch

from common.errors import ConfigError
from simulations.baselines import train_baseline
from simulations.inputs import Options, assemble
from simulations.run import Run, exact_metrics, simulate

SHARED = Path(os.environ.get("FEDPRUNE_SHARED_DATA", Path(__file__).parents[2] / "shared/data"))
TABLE = SHARED / "uci_default" / "UCI_Credit_Card.csv.gz"

FAMILIES: dict[str, dict[str, Any]] = {
    "magnitude (default)": {},
    "mean magnitude": {"score": "mean_magnitude"},
    "displacement": {"score": "displacement"},
    "gradient": {"score": "gradient"},
    "movement": {"score": "movement"},
    "Taylor": {"score": "taylor"},
    "random (control)": {"score": "random"},
    "layer by layer": {"allocation": "layer"},
    "ERK": {"allocation": "erk"},
    "linear schedule": {"schedule": "linear"},
    "one shot": {"schedule": "one_shot"},
    "iterative": {"schedule": "iterative"},
    "iterative, rewinding": {"schedule": "iterative", "rewind": True},
    "iterative, regrowth .3": {"schedule": "iterative", "regrowth": 0.3},
    "L1": {"penalty": "l1"},
    "L2": {"penalty": "l2"},
    "neurons": {"granularity": "neuron"},
    "neurons, displacement": {"granularity": "neuron", "score": "displacement"},
    "neurons, group lasso": {"granularity": "neuron", "penalty": "group_lasso"},
    "neurons, random": {"granularity": "neuron", "score": "random"},
    "blocks of 20": {"granularity": "block", "block": 20},
}
DENSE = "dense"

Cell = tuple[str, float, int]


def auc_of(cell: Cell, epsilon: float) -> float | None:
    """Return the test ROC-AUC of a family at a sparsity and seed; None where it cannot be."""
    name, sparsity, seed = cell
    torch.set_num_threads(1)
    settings: dict[tuple[str, str], Any] = {
        ("privacy", "epsilon"): epsilon,
        ("aggregation", "kind"): "plain",
        ("pruning", "sparsity"): sparsity,
    }
    settings |= {("pruning", key): value for key, value in FAMILIES.get(name, {}).items()}
    try:
        federation = assemble(
            Options(data=TABLE, schema="uci_default", seed=seed, settings=settings)
        )
    except ConfigError:
        return None
    if name == DENSE:
        return train_baseline(federation.plan, DENSE, federation.splits, seed).auc
    run = Run(federation.plan)
    simulate(run, federation.splits, seed)
    test = {member: part.test for member, part in federation.splits.items()}
    return exact_metrics(run.final, run.plan, test)[0]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epsilon", type=float, default=1.0)
    parser.add_argument("--sparsities", nargs="+", type=float, default=[0.5, 0.75, 0.9, 0.95, 0.98])
    parser.add_argument("--families", nargs="+", choices=FAMILIES, default=list(FAMILIES))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if not TABLE.exists():
        raise SystemExit(f"{TABLE} is not here: set FEDPRUNE_SHARED_DATA")
    seeds = range(options.seeds)
    rows = [(DENSE, [0.0]), *((name, options.sparsities) for name in options.families)]
    cells = [(name, share, seed) for name, shares in rows for share in shares for seed in seeds]
    figures: dict[str, float] = {}
    print("| family | " + " | ".join(f"{share:.0%}" for share in options.sparsities) + " |")
    print("|---" * (len(options.sparsities) + 1) + "|")
    with ProcessPoolExecutor(options.jobs, get_context("spawn")) as pool:
        found = pool.map(auc_of, cells, [options.epsilon] * len(cells))
        for name, shares in rows:
            texts = []
            for share in shares:
                values = [auc for _ in seeds if (auc := next(found)) is not None]
                spread = stdev(values) if len(values) > 1 else 0.0
                texts.append(f"{mean(values):.4f} ({spread:.4f})" if values else "-")
                if values:
                    figures[f"auc_{name}_{share:g}"] = mean(values)
            print(f"| {name} | " + " | ".join(texts) + " |", flush=True)
    dense = figures[f"auc_{DENSE}_0"]
    gaps = {name.replace("auc", "gap", 1): dense - auc for name, auc in figures.items()}
    if options.json:
        print(json.dumps(figures | gaps))


if __name__ == "__main__":
    main()
