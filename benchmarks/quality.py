"""What does pruning cost in quality, under the same privacy budget and data?

For each budget and seed: the pruned run at the default learning rate, and the dense and the
logistic model at the best of three rates by validation rows. Prints a table; `--json` ends with
one flat object: mean test ROC-AUC by model and budget, the gaps, seconds of a pruned run.

    python benchmarks/quality.py --data UCI_Credit_Card.csv.gz --schema uci_default --seeds 5
"""

import argparse
import json
import os
import time
from pathlib import Path
from statistics import mean, median, stdev

import torch

from simulations.baselines import BASELINES, train_baseline
from simulations.inputs import Options, assemble
from simulations.run import Run, exact_metrics, simulate

SHARED = Path(os.environ.get("FEDPRUNE_SHARED_DATA", Path(__file__).parents[2] / "shared/data"))
TABLE = SHARED / "uci_default" / "UCI_Credit_Card.csv.gz"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=TABLE if TABLE.exists() else None)
    parser.add_argument("--schema")
    parser.add_argument("--epsilons", nargs="+", default=["1", "0.3", "none"])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    schema = options.schema or ("uci_default" if options.data == TABLE else None)
    torch.set_num_threads(1)

    figures: dict[str, float] = {}
    print(f"{'epsilon':8} {'model':9} {'ROC-AUC':8} {'sd':6} {'seconds':>8}")
    for text in options.epsilons:
        epsilon = text if text == "none" else float(text)
        scores: dict[str, list[float]] = {"pruned": [], **{name: [] for name in BASELINES}}
        seconds: list[float] = []
        for seed in range(options.seeds):
            settings = {("privacy", "epsilon"): epsilon}
            federation = assemble(
                Options(data=options.data, schema=schema, seed=seed, settings=settings)
            )
            run, started = Run(federation.plan), time.perf_counter()
            simulate(run, federation.splits, seed)
            seconds.append(time.perf_counter() - started)
            test = {name: part.test for name, part in federation.splits.items()}
            scores["pruned"].append(exact_metrics(run.final, federation.plan, test)[0])
            for name in BASELINES:
                trained = train_baseline(federation.plan, name, federation.splits, seed)
                scores[name].append(trained.auc)
        for name, values in scores.items():
            spread = stdev(values) if len(values) > 1 else 0.0
            took = f"{median(seconds):8.1f}" if name == "pruned" else ""
            print(f"{text:8} {name:9} {mean(values):.4f}   {spread:.4f} {took}", flush=True)
            figures[f"auc_{name}_epsilon_{text}"] = mean(values)
        figures[f"gap_to_dense_epsilon_{text}"] = mean(scores["dense"]) - mean(scores["pruned"])
        figures[f"seconds_epsilon_{text}"] = median(seconds)
    if options.json:
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
