"""A whole federation on one engine: the real server and client apps, driven by a seed."""

import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import current_thread, main_thread
from typing import NamedTuple

import torch
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from client.data import Examples, Splits, require_trainable
from common.entropy import SeededEntropy
from common.errors import AggregationError
from common.model import Network
from common.plan import Plan
from common.privacy.shared import abandoned_epsilon
from server.app import Task, build_app
from server.model import GlobalModel
from server.record import Record, Unrecorded
from server.rounds import RoundReport
from server.spent import spent_epsilon
from simulations.engine import IN_PROCESS, Members, engine_of

Watch = Callable[[GlobalModel, RoundReport], None]


@dataclass
class Run:
    """What a simulation has done so far; complete unless it was interrupted."""

    plan: Plan
    model: GlobalModel | None = None
    reports: list[RoundReport] = field(default_factory=list)

    @property
    def final(self) -> GlobalModel:
        """The model after the last finished round."""
        if self.model is None:
            raise AggregationError("no round was finished: there is no model to show")
        return self.model

    @property
    def finished(self) -> int:
        """Training rounds that are done, lost ones included."""
        return min(len(self.reports), self.plan.training.rounds)

    @property
    def epsilon(self) -> float:
        """What the finished rounds have spent of an institution's training budget."""
        return spent_epsilon(self.plan, self.finished)

    @property
    def abandoned_epsilon(self) -> float:
        """The same if every other institution tells the server its share of the noise."""
        return abandoned_epsilon(self.plan, self.finished * self.plan.training.steps)


def simulate(  # noqa: PLR0913, PLR0917  (what a run may vary)
    run: Run,
    splits: Mapping[str, Splits],
    seed: int,
    dropout: float = 0.0,
    watch: Watch | None = None,
    engine: str = IN_PROCESS,
    record: Record | None = None,
) -> None:
    """Fill ``run`` by executing its plan on the institutions' rows.

    ``dropout`` is the chance that an institution leaves in a given attempt at a round, at a trip
    chosen at random. Everything random follows from ``seed``: a simulation protects nobody.
    ``engine`` names one of `simulations.engine`; all give the same models bit for bit.
    ``record`` is told of each step of an attempt at a round.
    """
    plan, execute = run.plan, engine_of(engine)
    for name in plan.names:
        require_trainable(splits[name], plan.expected_batch(name))
    members = Members(plan, splits, seed, dropout)

    def keep(model: GlobalModel, report: RoundReport) -> None:
        with interrupts_held():
            run.model = model
            run.reports.append(report)
            if watch is not None:
                watch(model, report)

    task = Task(plan, keep, members.roster, record=record or Unrecorded())
    execute(build_app(lambda _: task, SeededEntropy(seed, "server")), members)


@contextmanager
def interrupts_held() -> Iterator[None]:
    """Answer Ctrl-C only after the block: a round is then finished everywhere or nowhere."""
    if current_thread() is not main_thread():  # Python answers Ctrl-C in the main thread alone.
        yield
        return
    pressed = []
    previous = signal.signal(signal.SIGINT, lambda *_: pressed.append(True))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
    if pressed and callable(previous):
        previous(signal.SIGINT, None)


class Exact(NamedTuple):
    """Quality on pooled rows, which only a simulator can see."""

    auc: float
    pr_auc: float
    ks: float


def exact_metrics(model: GlobalModel, plan: Plan, parts: Mapping[str, Examples]) -> Exact:
    """Return ROC-AUC, average precision and Kolmogorov-Smirnov distance on pooled rows."""
    network = Network(plan.model, plan.schema_.width)
    network.load(model.weights, model.mask)
    with torch.no_grad():
        logits = torch.cat([network(torch.from_numpy(part.features)) for part in parts.values()])
    labels = torch.cat([torch.from_numpy(part.labels) for part in parts.values()])
    told, scored = labels.numpy(), logits.numpy()
    alarms, hits, _ = roc_curve(told, scored)
    return Exact(
        auc=float(roc_auc_score(told, scored)),
        pr_auc=float(average_precision_score(told, scored)),
        ks=float((hits - alarms).max()),
    )
