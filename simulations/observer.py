"""The strongest observer that the threat model allows, and what it sees of one institution.

The server is dishonest: it sends a model of its own making. Under local noise all others side
with it, so that the sum less their vectors is the institution's own update; under shared noise
the sum of `Plan.noise_shares` institutions is left, whose noise nobody knows. The institutions
are the real client apps, in process, and do not know what they take part in.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from client.app import build_app
from client.data import Splits
from client.stages import Institution
from common import messages as wire
from common.crypto import ring
from common.crypto.roster import Roster
from common.descriptor import RoundDescriptor
from common.entropy import SeededEntropy
from common.errors import AggregationError
from common.model import MaskedLinear, Network
from common.plan import Plan
from common.privacy.budgets import learning_rate
from common.privacy.shared import shared_grid
from common.pruning.evidence import Traces
from common.segments import GRADIENT, UPDATE
from server.adverts import Adverts
from server.aggregation import Attempt
from server.exchange import Exchange
from server.model import GlobalModel
from simulations.canaries import Canaries
from simulations.grid import SERVER_NODE, InProcessGrid

M = TypeVar("M", bound=wire.WireMessage)
RUN = "audit"

OWN = 1e-4
"""Share of the clipping norm from which a record is said to move a weight."""


@dataclass
class Collusion:
    """The transport of a server whose accomplices send zeros: the sum is that of ``honest``."""

    honest: tuple[str, ...]
    exchange: Exchange
    roster: Roster | None = None
    adverts: Adverts = field(default_factory=Adverts)

    def call(
        self, requests: Mapping[str, wire.WireMessage], expected: type[M], group: str
    ) -> dict[str, M]:
        """Ask the honest alone; raise `AggregationError` when one of them does not answer."""
        asked = {name: requests[name] for name in self.honest}
        replies = self.exchange.call(asked, expected, group)
        if missing := sorted(asked.keys() - replies.keys()):
            raise AggregationError(f"{', '.join(missing)} refused to take part in the audit")
        for name in requests.keys() - asked.keys():
            request = cast(wire.UpdateRequest, requests[name])
            descriptor = RoundDescriptor.from_json(request.descriptor)
            zeros = ring.pack(np.zeros(descriptor.length, np.uint32), descriptor.ring_bits)
            replies[name] = cast(M, wire.UpdateReply(zeros, b"", b"", b""))
        return replies


def honest_names(plan: Plan, target: str) -> tuple[str, ...]:
    """Return ``target`` and whose noise is left beside its own when the others collude."""
    count = plan.noise_shares if plan.privacy.noise == "shared" else 1
    return (target, *[name for name in plan.names if name != target][: count - 1])


def observe(
    plan: Plan,
    target: str,
    splits: Mapping[str, Splits],
    weights: NDArray[np.float32],
    seed: int,
) -> NDArray[np.float64]:
    """Return the sum over the run of all noised clipped sums that the observer can see [size].

    Every round of a plan with plain aggregation shows the institutions the same ``weights``.
    """
    honest = honest_names(plan, target)
    nodes = {
        node: Institution(
            name,
            plan,
            partial(splits.__getitem__, name),
            SeededEntropy(seed, f"audit/institution/{name}"),
        )
        for node, name in enumerate(honest, start=SERVER_NODE + 1)
    }
    app = build_app(lambda context: nodes[context.node_id])
    exchange = Exchange(InProcessGrid(app, nodes), plan.aggregation.timeout)
    exchange.join(RUN, honest, plan.digest())
    mask, traces = np.ones(len(weights), np.bool_), Traces.begin(weights)
    seen = np.zeros(len(weights))
    for number in range(plan.training.rounds):
        model = GlobalModel(weights, mask, traces, round=number, epoch=number)
        _, sums = Attempt(model, plan, RUN, Collusion(honest, exchange)).run()
        seen += sums[UPDATE if UPDATE in sums else GRADIENT]
    if plan.privacy.noise == "shared":
        return seen * shared_grid(plan).step
    return -seen * plan.expected_batch(target) / (plan.weight(target) * learning_rate(plan))


def scores(
    plan: Plan,
    canaries: Canaries,
    weights: NDArray[np.float32],
    seen: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return how much of each canary's clipped gradients is in what was ``seen`` [m].

    About 1 for a member and 0 for any other, were there nothing else in the sums.
    """
    network = Network(plan.model, plan.schema_.width)
    network.load(weights, np.ones(len(weights), np.bool_))
    features = torch.from_numpy(canaries.features)
    gradients = record_gradients(network, features, torch.zeros(len(canaries)))
    norms = gradients.norm(dim=1, keepdim=True)
    gradients *= plan.rows_per_unit * (plan.row_norm / norms).clamp(max=1)
    # Weights that one canary alone moves say more of it than those on which all records act.
    moved = gradients.abs() > OWN * plan.privacy.max_grad_norm
    own = moved & (moved.sum(0) == 1)
    if own.any(1).all():
        gradients *= own
    effect = gradients.square().sum(1).double().numpy()
    draws = plan.training.rounds * plan.training.steps * plan.training.sample_rate
    found: NDArray[np.float64] = gradients.double().numpy() @ seen / (draws * effect)
    return found


def record_gradients(network: Network, features: Tensor, labels: Tensor) -> Tensor:
    """Return each record's gradient of the logistic loss [n, size], neither clipped nor masked.

    The attack's own computation: it must not inherit a fault of what it attacks.
    """
    layers = {name: one for name, one in network.named_modules() if isinstance(one, MaskedLinear)}
    for layer in layers.values():
        layer.capturing = True
    logits = network(features)
    logits.backward(logits.detach().sigmoid() - labels)
    parts = []
    for entry in network.layout.entries:
        name, _, kind = entry.name.rpartition(".")
        inputs, outputs = layers[name].captured
        outer = outputs[:, :, None] * inputs.detach()[:, None, :]
        parts.append(outer.flatten(1) if kind == "weight" else outputs)
    return torch.cat(parts, 1)
