"""What does shared noise reach, by budget and by colluders withstood?

Ten institutions, threshold 7, 300 rounds of one step, 90 % sparsity; test ROC-AUC on pooled rows
and by institution, which only a simulator can see. Sums are plain: a masked run gives the same
bits. Prints a table; `--json` ends with one flat object.

    python benchmarks/shared_noise.py --seeds 5
    python benchmarks/shared_noise.py --partition natural --epsilons 1
    python benchmarks/shared_noise.py --table bank_marketing --epsilons 1 --colluders 2 --folds
"""

import argparse
import json
import os
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch

from client.data import FOLDS
from simulations.inputs import Federation, Options, assemble
from simulations.run import Run, exact_metrics, simulate

SHARED = Path(os.environ.get("FEDPRUNE_SHARED_DATA", Path(__file__).parents[2] / "shared/data"))
TABLES = {
    "uci_default": SHARED / "uci_default" / "UCI_Credit_Card.csv.gz",
    "bank_marketing": SHARED / "bank_marketing" / "bank-additional-full.csv.gz",
}
SETTINGS: dict[tuple[str, str], Any] = {
    ("training", "rounds"): 300,
    ("training", "steps"): 1,
    ("privacy", "noise"): "shared",
    ("aggregation", "kind"): "plain",
    ("aggregation", "threshold"): 7,
    ("pruning", "sparsity"): 0.9,
}


def aucs(federation: Federation, seed: int) -> tuple[float, list[float]]:
    """Train; return the pooled test ROC-AUC, and each institution's."""
    run = Run(federation.plan)
    simulate(run, federation.splits, seed)
    test = {name: part.test for name, part in federation.splits.items()}
    single = [exact_metrics(run.final, run.plan, {name: test[name]})[0] for name in test]
    return exact_metrics(run.final, run.plan, test)[0], single


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", choices=TABLES, default="uci_default")
    parser.add_argument("--partition", default="iid")
    parser.add_argument("--epsilons", nargs="+", type=float, default=[0.3, 1.0])
    parser.add_argument("--colluders", nargs="+", type=int, default=[0, 2])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--folds", action="store_true", help="another test fifth for each seed")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if not TABLES[options.table].exists():
        raise SystemExit(f"{TABLES[options.table]} is not here: set FEDPRUNE_SHARED_DATA")
    torch.set_num_threads(1)

    figures: dict[str, float] = {}
    print(f"{options.table}, {options.partition}, {options.seeds} seeds")
    print("epsilon colluders pooled  (sd)   institutions: worst  mean   best")
    for epsilon in options.epsilons:
        for colluders in options.colluders:
            settings = SETTINGS | {
                ("privacy", "epsilon"): epsilon,
                ("aggregation", "colluders"): colluders,
            }
            results = []
            for seed in range(options.seeds):
                source = (TABLES[options.table], options.table, 10, options.partition)
                fold = seed % FOLDS if options.folds else 0
                federation = assemble(Options(None, *source, seed, settings, fold))
                results.append(aucs(federation, seed))
            totals, single = [total for total, _ in results], [one for _, one in results]
            figures[f"auc_epsilon_{epsilon:g}_colluders_{colluders}"] = mean(totals)
            print(
                f"{epsilon:<7g} {colluders:<9} {mean(totals):.4f}"
                f" ({stdev(totals) if len(totals) > 1 else 0.0:.4f})"
                f"                {mean(map(min, single)):.4f} {mean(map(mean, single)):.4f}"
                f" {mean(map(max, single)):.4f}",
                flush=True,
            )
    if options.json:
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
