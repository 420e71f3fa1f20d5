"""One cell of a comparison: plans on one federation's rows and one seed, and what came of them.

Cells are summed in the plain, in half the time: with the same seed a masked run gives the same
bits. Bytes are those of the masked vector that a secure round would send.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from client.data import Splits
from common.crypto.ring import check_slots, packed_size
from common.layout import layout_of
from common.plan import Plan, plan_from_dict
from common.privacy.budgets import learning_rate
from common.pruning.allocation import ALLOCATIONS
from common.pruning.rules import units_of
from common.pruning.schedules import sparsity_after
from common.pruning.selection import prune
from common.segments import VALIDATION, segments_of
from server.model import GlobalModel
from server.pruning import pruned_share
from server.rounds import RoundReport
from simulations.run import Run, exact_metrics, simulate


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Stop(_Record):
    """An evaluation: ROC-AUC on validation rows of the model that ``bytes_up`` have bought.

    ``private`` is what the server sees, with the standard deviation of its noise (None when the
    noise left nothing to compute); ``exact`` what only a simulator does. Bytes are an
    institution's vectors up to here.
    """

    round: int
    bytes_up: int
    private: float | None
    private_sd: float | None
    exact: float


class Overlap(_Record):
    """Jaccard index of a round's surviving units with others: 1 is the same, 0 none in common.

    ``previous`` are the survivors a round earlier, ``initial`` those that the magnitudes of the
    initial weights alone would keep at the same sparsity.
    """

    round: int
    previous: float
    initial: float


class Layer(_Record):
    """Surviving weights of one tensor."""

    name: str
    kept: int
    size: int


class Outcome(_Record):
    """What a cell found; ``test`` and ``test_pr`` are exact on the pooled test rows, read once."""

    learning_rate: float
    weights: int
    kept: int
    test: float
    test_pr: float
    bytes_first: int
    bytes_last: int
    stops: tuple[Stop, ...]
    overlaps: tuple[Overlap, ...]
    layers: tuple[Layer, ...]

    @property
    def final(self) -> Stop:
        """The evaluation of the finished model."""
        return self.stops[-1]


@dataclass(frozen=True, eq=False)
class Cell:
    """Plans, the best of which by exact validation AUC counts, on ``splits`` by ``seed``."""

    plans: tuple[Plan, ...]
    splits: Mapping[str, Splits]
    seed: int

    def key(self, data: str) -> str:
        """Return what the outcome follows from, as a hash; ``data`` is that of the rows."""
        facts = json.dumps([[plan.digest() for plan in self.plans], self.seed, data])
        return hashlib.sha256(b"fedprune/1/cell/" + facts.encode()).hexdigest()


def execute_cell(cell: Cell, engine: str = "inprocess") -> Outcome:
    """Train a cell's plans and return the outcome of the best; all else reads no test row.

    It is the same on each engine.
    """
    traces = [_trained(plan, cell, engine) for plan in cell.plans]
    best = max(traces, key=lambda trace: trace.stops[-1].exact)
    plan, model = best.plan, best.run.final
    test = exact_metrics(model, plan, {name: part.test for name, part in cell.splits.items()})
    masks = layout_of(plan.model, plan.schema_.width).split(model.mask)
    return Outcome(
        learning_rate=learning_rate(plan),
        weights=model.mask.size,
        kept=model.kept,
        test=test.auc,
        test_pr=test.pr_auc,
        bytes_first=best.sent[0],
        bytes_last=best.sent[-1],
        stops=tuple(best.stops),
        overlaps=tuple(best.overlaps),
        layers=tuple(
            Layer(name=name, kept=int(mask.sum()), size=mask.size) for name, mask in masks.items()
        ),
    )


def _trained(plan: Plan, cell: Cell, engine: str) -> "_Trace":
    trace = _Trace(plan, cell.splits)
    simulate(trace.run, cell.splits, cell.seed, watch=trace.watch, engine=engine)
    return trace


class _Trace:
    """Follows one training round by round."""

    def __init__(self, plan: Plan, splits: Mapping[str, Splits]) -> None:
        fields = plan.to_dict()
        fields["aggregation"]["kind"] = "plain"
        self.plan, self.run = plan, Run(plan_from_dict(fields))
        self.sent: list[int] = []
        self.stops: list[Stop] = []
        self.overlaps: list[Overlap] = []
        self._validation = {name: part.validation for name, part in splits.items()}
        self._received: GlobalModel | None = None

    def watch(self, model: GlobalModel, report: RoundReport) -> None:
        """Note a finished round."""
        received, self._received = self._received, model
        if received is not None and VALIDATION in report.counts:
            seen = report.estimates[VALIDATION]
            self.stops.append(
                Stop(
                    round=report.round,
                    bytes_up=sum(self.sent),
                    private=_finite(seen.value.roc_auc),
                    private_sd=_finite(seen.sd.roc_auc),
                    exact=exact_metrics(received, self.plan, self._validation)[0],
                )
            )
        if report.round < self.plan.training.rounds:
            self.sent.append(vector_bytes(self.plan, report.round, report.kept))
            self.overlaps.append(_overlap(self.plan, received, model))


def vector_bytes(plan: Plan, round_number: int, kept: int) -> int:
    """Return the bytes of an institution's masked vector in a round of ``kept`` weights.

    Keys and sealed shares, which a secure round sends beside it, are of one size whatever is kept.
    """
    bits = plan.aggregation.ring_bits
    length = sum(segment.length for segment in segments_of(plan, round_number, kept))
    return packed_size(length + len(check_slots(bytes(32), bits)), bits)


def _overlap(plan: Plan, before: GlobalModel | None, model: GlobalModel) -> Overlap:
    units = units_of(plan)
    everything = np.ones_like(model.mask)
    # The last block of a row may be shorter, so that a share of units is no sparsity of blocks.
    due = sparsity_after(plan, model.round) if units.blocks else pruned_share(model, plan)
    allocation = ALLOCATIONS.require(plan.pruning.allocation)
    first = prune(np.abs(model.traces.initial), everything, units, due, allocation)
    alive = units.alive(model.mask)
    previous = everything if before is None else before.mask
    return Overlap(
        round=model.round,
        previous=_jaccard(alive, units.alive(previous)),
        initial=_jaccard(alive, units.alive(first)),
    )


def _jaccard(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    either = int((one | other).sum())
    return int((one & other).sum()) / either if either else 1.0


def _finite(number: float) -> float | None:
    return number if isfinite(number) else None


def data_digest(splits: Mapping[str, Splits]) -> str:
    """Return the SHA-256 of all that a simulation reads of its institutions' rows."""
    digest = hashlib.sha256(b"fedprune/1/data/")
    for name, part in sorted(splits.items()):
        for rows in (part.train, part.validation, part.test):
            protected = pd.util.hash_pandas_object(rows.protected, index=False).to_numpy()
            arrays = [rows.features, rows.labels, protected]
            arrays += [] if rows.customers is None else [rows.customers]
            digest.update(repr((name, *((a.shape, a.dtype.str) for a in arrays))).encode())
            for array in arrays:
                digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
