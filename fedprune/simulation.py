"""One simulated federation, from a table to a pruned model."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from common.facts import warnings_of
from common.plan import Plan
from common.schema import FeatureSchema
from fedprune.scoring import Model, load_model
from fedprune.settling import (
    PathLike,
    lent,
    one_thread,
    options_of,
    placed,
    settings_of,
    unnamed_removed,
)
from simulations.directory import claimed
from simulations.engine import IN_PROCESS, engine_of
from simulations.execute import execute
from simulations.inputs import assemble
from simulations.outputs import figure_of, groups_of, rounds_of

MODELS = {"pruned": ("", "weights_kept"), "dense": ("_dense", "weights_total")} | {
    "logistic": ("_logistic", "weights_logistic")
}


@dataclass(frozen=True, eq=False)
class Simulation:
    """A finished run: ``metrics`` are its ``summary.json``, ``directory`` holds all its files."""

    directory: Path
    plan: Plan
    metrics: Mapping[str, Any] = field(repr=False)

    @cached_property
    def rounds(self) -> pd.DataFrame:
        """A row a round: survivors, weights, bytes, and the metrics that the server saw."""
        return rounds_of(self.directory)

    @cached_property
    def groups(self) -> pd.DataFrame:
        """A row a round and protected group or pool; none where the plan has neither."""
        return groups_of(self.directory)

    @property
    def quality(self) -> pd.DataFrame:
        """ROC-AUC and PR-AUC, exact on test rows, and weights, of each model that was trained."""
        return pd.DataFrame(
            {
                name: {
                    "roc_auc": self.metrics[f"auc{suffix}"],
                    "pr_auc": self.metrics[f"pr_auc{suffix}"],
                    "weights": self.metrics[weights],
                }
                for name, (suffix, weights) in MODELS.items()
                if f"auc{suffix}" in self.metrics
            }
        ).T.astype({"weights": int})

    @property
    def shrinkage(self) -> pd.DataFrame:
        """A row a form of the model: weights, neurons, operations, bytes as stored and packed."""
        shrank = self.metrics["shrinkage"]
        return pd.DataFrame(shrank).T.astype(int)

    @property
    def epsilon(self) -> float | None:
        """What the run has spent of a unit's budget; None where nothing is bounded."""
        spent = self.metrics["epsilon"]
        return None if spent == "none" else float(spent)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the plan leaves unprotected, in words."""
        return tuple(warnings_of(self.plan))

    @cached_property
    def model(self) -> Model:
        """The pruned model, ready to score."""
        return load_model(self.directory)

    def figure(self) -> Figure:
        """Return AUC, sparsity and bytes by round, as in ``curves.svg``."""
        return figure_of(self.rounds, self.metrics)


def simulate(  # noqa: PLR0913  (what a run may vary)
    plan: Plan | PathLike | None = None,
    *,
    data: pd.DataFrame | PathLike | None = None,
    schema: FeatureSchema | PathLike | None = None,
    institutions: int | None = None,
    partition: str | None = None,
    epsilon: float | str | None = None,
    sparsity: float | None = None,
    rounds: int | None = None,
    settings: Mapping[str, object] | None = None,
    seed: int = 0,
    dropout: float = 0.0,
    baselines: bool = True,
    engine: str = IN_PROCESS,
    out: PathLike | None = None,
) -> Simulation:
    """Run a federation on one machine and return what came of it, as ``fedprune-sim run`` does.

    An interrupt ends the run after its last finished round, and that much is returned.

    Args:
        plan: a plan or its file; without one, its defaults.
        data: rows with the schema's columns, or a CSV or Parquet file; without it, the embedded
            consortium.
        schema: a schema, the name of a shipped one or a file; needed with ``data`` unless the
            plan has it.
        institutions: how many.
        partition: how rows are dealt: natural, iid, dirichlet, quantity or a column.
        epsilon: a unit's budget over the run, or "none".
        sparsity: final share of zero weights.
        rounds: of training.
        settings: any other option of the plan, as in ``{"pruning.score": "displacement"}``.
        seed: drives everything random.
        dropout: chance that an institution leaves a round.
        baselines: train the logistic and the dense model too.
        engine: inprocess, or ray.
        out: directory of results; without it they last as long as the result.

    Raises:
        FedpruneError: as the command says it.
    """
    engine_of(engine)
    chosen = settings_of(
        settings, privacy__epsilon=epsilon, pruning__sparsity=sparsity, training__rounds=rounds
    )
    options = options_of(plan, data, schema, institutions, partition, seed, chosen)
    place = placed(out)
    with unnamed_removed(out, place), one_thread():
        federation = assemble(options)
        with claimed(place) as directory:
            execute(
                federation,
                seed,
                dropout,
                directory,
                baselines=baselines,
                engine=engine,
                shown=False,
            )
    return lent(read_simulation(place, federation.plan), out, place)


def read_simulation(directory: Path, plan: Plan) -> Simulation:
    """Return a run as its files have it."""
    return Simulation(directory, plan, json.loads((directory / "summary.json").read_text()))
