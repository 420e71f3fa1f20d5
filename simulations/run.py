"""A whole federation in one process: the real server and client apps over an in-process grid."""

import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from threading import current_thread, main_thread

import torch
from flwr.app import Context, Message, RecordDict
from sklearn.metrics import average_precision_score, roc_auc_score

from client.app import build_app as build_client
from client.data import Examples, Splits, require_trainable
from client.stages import Institution, Membership
from common.entropy import SeededEntropy
from common.errors import AggregationError
from common.model import Network
from common.plan import Plan
from common.privacy.budgets import accounted_delta, training_mechanism
from common.privacy.shared import abandoned_epsilon
from server.app import Task
from server.app import build_app as build_server
from server.model import GlobalModel
from server.rounds import RoundReport
from simulations.grid import RUN_ID, SERVER_NODE, InProcessGrid
from simulations.rehearsal import seeded_identity, seeded_roster

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
        steps = self.finished * self.plan.training.steps
        spent = replace(training_mechanism(self.plan), steps=steps)
        return spent.epsilon(accounted_delta(self.plan), self.plan.privacy.accountant)

    @property
    def abandoned_epsilon(self) -> float:
        """The same if every other institution tells the server its share of the noise."""
        return abandoned_epsilon(self.plan, self.finished * self.plan.training.steps)


def simulate(
    run: Run,
    splits: Mapping[str, Splits],
    seed: int,
    dropout: float = 0.0,
    watch: Watch | None = None,
) -> None:
    """Fill ``run`` by executing its plan on the institutions' rows.

    ``dropout`` is the chance that an institution leaves in a given attempt at a round, at a trip
    chosen at random. Everything random follows from ``seed``: a simulation protects nobody.
    """
    plan = run.plan
    nodes = {}
    roster = seeded_roster(plan.names, seed)
    for node, name in enumerate(plan.names, start=SERVER_NODE + 1):
        require_trainable(splits[name], plan.expected_batch(name))
        entropy = SeededEntropy(seed, f"institution/{name}")
        membership = Membership(seeded_identity(name, seed), roster)
        rows = partial(splits.__getitem__, name)
        nodes[node] = Institution(name, plan, rows, entropy, membership)

    def keep(model: GlobalModel, report: RoundReport) -> None:
        with _interrupts_held():
            run.model = model
            run.reports.append(report)
            if watch is not None:
                watch(model, report)

    server = build_server(lambda _: Task(plan, keep, roster), SeededEntropy(seed, "server"))
    client = build_client(lambda context: nodes[context.node_id])
    grid = InProcessGrid(client, nodes, departures(seed, dropout))
    server(grid, Context(RUN_ID, SERVER_NODE, {}, RecordDict(), {}))


@contextmanager
def _interrupts_held() -> Iterator[None]:
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


STAGES = {"query.advertise": 0, "train.update": 1, "query.sign": 2, "train.unmask": 2}
"""How far an attempt has come at each trip: keys, vectors, openings."""


def departures(seed: int, rate: float) -> Callable[[Message], bool]:
    """Return who is absent: with chance ``rate`` a node leaves an attempt at one of its trips."""
    entropy = SeededEntropy(seed, "departures")

    def absent(message: Message) -> bool:
        metadata = message.metadata
        stage = STAGES.get(metadata.message_type)
        if stage is None or rate <= 0:
            return False
        draw = entropy.stream(f"{metadata.dst_node_id}/{metadata.group_id}")
        leaves = int.from_bytes(draw(8), "big") < rate * 2**64
        return leaves and stage >= draw(1)[0] % 3

    return absent


def exact_metrics(
    model: GlobalModel, plan: Plan, parts: Mapping[str, Examples]
) -> tuple[float, float]:
    """Return ROC-AUC and average precision on pooled rows, which only a simulator can see."""
    network = Network(plan.model, plan.schema_.width)
    network.load(model.weights, model.mask)
    with torch.no_grad():
        logits = torch.cat([network(torch.from_numpy(part.features)) for part in parts.values()])
    labels = torch.cat([torch.from_numpy(part.labels) for part in parts.values()])
    return (
        float(roc_auc_score(labels.numpy(), logits.numpy())),
        float(average_precision_score(labels.numpy(), logits.numpy())),
    )
