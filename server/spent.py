"""What a run has spent of its budget so far, and what it ran on: facts that only it can tell."""

import json
import platform
from dataclasses import replace
from importlib.metadata import version

from common import __version__
from common.plan import Plan
from common.privacy.budgets import accounted_delta, learning_rate, training_mechanism
from common.privacy.shared import abandoned_epsilon

PACKAGES = ("flwr", "torch", "opacus", "numpy", "cryptography", "onnxruntime")
"""On which results or protection rest."""


def spent_epsilon(plan: Plan, rounds: int) -> float:
    """Return what the first ``rounds`` spend of an institution's training budget."""
    spent = replace(training_mechanism(plan), steps=rounds * plan.training.steps)
    return spent.epsilon(accounted_delta(plan), plan.privacy.accountant)


def facts_json(plan: Plan, rounds: int) -> bytes:
    """Return ``facts.json`` after so many finished training rounds, lost ones included."""
    private = plan.privacy.epsilon != "none"
    steps = rounds * plan.training.steps
    facts = {
        "rounds": rounds,
        "epsilon": spent_epsilon(plan, rounds) if private else "none",
        "epsilon_if_others_collude": abandoned_epsilon(plan, steps) if private else "none",
        "delta": plan.privacy.delta,
        "noise_multiplier": training_mechanism(plan).noise_multiplier,
        "learning_rate": learning_rate(plan),
        "versions": {
            "fedprune": __version__,
            "python": platform.python_version(),
            **{package: version(package) for package in PACKAGES},
        },
    }
    return (json.dumps(facts, indent=2, allow_nan=False) + "\n").encode()
