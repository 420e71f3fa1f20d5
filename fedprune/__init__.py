"""The simulator and the scorer from Python: results are pandas frames and matplotlib figures.

    import fedprune

    run = fedprune.simulate(epsilon=1.0, sparsity=0.9, out="runs/first")
    run.rounds, run.quality, run.figure(), run.plan
    fedprune.score(run.directory, "new.parquet").table

For research: a simulation is driven by a seed and protects nobody, and scoring here takes any
finished model. An institution scores with ``fedprune-client score``.

Nothing is printed, and nothing is written unless ``out`` names a directory. What goes wrong is a
`common.errors.FedpruneError`, in one line that says what to do.
"""

import logging

from fedprune.comparison import Comparison, compare
from fedprune.scoring import Model, Scores, load_model, score
from fedprune.simulation import Simulation, simulate

__all__ = [
    "Comparison",
    "Model",
    "Scores",
    "Simulation",
    "compare",
    "load_model",
    "score",
    "simulate",
]

# Whoever imports a library decides where its log goes.
logging.getLogger("fedprune").addHandler(logging.NullHandler())
