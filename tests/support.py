"""A federation small enough for a test: its plan, its rows, one institution, one request."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any

import numpy as np
import pandas as pd
import pytest
from flwr.app import Message
from flwr.clientapp import ClientApp
from numpy.typing import NDArray

from client import stages, update
from client.app import build_app
from client.data import Examples, Splits
from client.entries import Place
from client.ledger import memory_ledger
from client.memory import Memory
from client.spending import budget_of, charges_of
from client.stages import Institution, Membership
from client.training import LocalSteps, train
from common import messages as wire
from common.crypto.opening import parcels as parcels_of
from common.crypto.roster import Roster, roster_hash
from common.crypto.session import Offer, Parcel
from common.descriptor import RoundDescriptor
from common.entropy import Entropy, SeededEntropy, Stream
from common.model import Network
from common.plan import Plan, plan_from_dict
from common.pruning.masks import Mask, mask_hash, pack_mask
from common.pruning.rules import units_of
from common.segments import segments_of
from server.exchange import Exchange
from server.model import GlobalModel
from server.rounds import initial_model
from simulations.grid import Absent, InProcessGrid, nobody_leaves
from simulations.rehearsal import seeded_identity, seeded_roster

WIDTH = 4
SIZES = {"ash": 200, "birch": 150, "cedar": 100, "elm": 200}
FIELDS: dict[str, Any] = {
    "name": "small",
    "schema": {
        "name": "four",
        "label": {"column": "bad", "positive": 1, "negative": 0},
        "columns": [
            {"name": f"x{index}", "kind": "numeric", "lo": -1, "hi": 1} for index in range(WIDTH)
        ],
    },
    "institutions": [{"name": name, "size": size} for name, size in SIZES.items()],
    "model": {"hidden": [8, 4]},
    "training": {"rounds": 6, "steps": 2, "sample_rate": 0.2},
    "privacy": {"epsilon": 1.0, "delta": 1e-3, "accountant": "rdp"},
    "aggregation": {"timeout": 5.0},
    "pruning": {"sparsity": 0.75, "start": 0.0, "end": 0.6},
    "evaluation": {"rounds": 3, "bins": 10, "noise": "none"},
}


def plan_fields(**sections: Any) -> dict[str, Any]:
    """Return the plan's fields; a mapping is merged into its section, all else replaces it."""
    merged = {
        name: FIELDS.get(name, {}) | value if isinstance(value, Mapping) else value
        for name, value in sections.items()
    }
    return FIELDS | merged


def small_plan(**sections: Any) -> Plan:
    """Return a plan of four institutions that trains in well under a second."""
    return plan_from_dict(plan_fields(**sections))


def customer_plan(rows: int, **sections: Any) -> Plan:
    """Return the small plan with a customer of at most so many rows as its unit."""
    schema = FIELDS["schema"] | {"customer": "id"}
    privacy = {"unit": "id", "rows_per_customer": rows} | sections.pop("privacy", {})
    return small_plan(schema=schema, privacy=privacy, **sections)


PROTECTED = [
    {"name": "sex", "kind": "categorical", "values": ["f", "m"], "protected": True},
    {
        "name": "age",
        "kind": "numeric",
        "lo": 18,
        "hi": 100,
        "protected": True,
        "missing": "indicator",
    },
]
"""Columns that small rows have beside their features, where a plan counts groups."""

NORTH, SOUTH = ["ash", "birch", "cedar"], ["elm", "fir", "gum"]


def grouped_plan(**sections: Any) -> Plan:
    """Return the small plan of six institutions, with five groups by two columns and two pools."""
    members = SIZES | {"fir": 120, "gum": 180}
    evaluation = {
        "groups": ["sex", "age"],
        "cuts": {"age": [30, 50]},
        "pools": {"south": SOUTH, "north": NORTH},
    } | sections.pop("evaluation", {})
    base = {
        "schema": FIELDS["schema"] | {"columns": FIELDS["schema"]["columns"] + PROTECTED},
        "institutions": [{"name": name, "size": size} for name, size in members.items()],
    }
    return small_plan(**base | sections, evaluation=evaluation)


def small_examples(rows: int, seed: int, width: int = WIDTH) -> Examples:
    """Return rows whose label follows two of the features and their product."""
    draw = np.random.default_rng(seed)
    features = draw.uniform(-1, 1, (rows, width)).astype(np.float32)
    log_odds = 2 * features[:, 0] - features[:, 1] + 2 * features[:, 2] * features[:, 3]
    labels = (draw.uniform(size=rows) < 1 / (1 + np.exp(-log_odds))).astype(np.float32)
    protected = pd.DataFrame(
        {
            "sex": draw.choice(["f", "m"], rows),
            "age": np.where(draw.uniform(size=rows) < 0.1, np.nan, draw.uniform(18, 90, rows)),
        }
    )
    return Examples(features, labels, protected)


def small_splits(seed: int, rows: int = 150) -> Splits:
    """Return train, validation and test rows, 72/8/20 as a real table would be split."""
    counts = round(0.72 * rows), round(0.08 * rows), round(0.2 * rows)
    train, validation, test = (
        small_examples(count, 10 * seed + part) for part, count in enumerate(counts)
    )
    return Splits(train, validation, test, "memory")


def all_splits(plan: Plan, rows: int = 200) -> dict[str, Splits]:
    """Return different rows for each institution of the plan."""
    return {name: small_splits(index, rows) for index, name in enumerate(plan.names)}


def count_training(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that grows with every training of an institution."""
    calls: list[int] = []

    def counted(
        network: Network, examples: Examples, local: LocalSteps, stream: Stream
    ) -> NDArray[np.float32]:
        calls.append(local.steps)
        return train(network, examples, local, stream)

    monkeypatch.setattr(update, "train", counted)
    return calls


def small_institution(plan: Plan, name: str = "ash", entropy: Entropy | None = None) -> Institution:
    """Return a member with its rows; its entropy is seeded unless it is given."""
    index = plan.names.index(name)
    rows = partial(small_splits, index, 200)
    membership = Membership(seeded_identity(name, 0), roster_of(plan))
    entropy = entropy or SeededEntropy(0, f"institution/{name}")
    return Institution(name, plan, rows, entropy, membership)


def forget(*institutions: Institution) -> None:
    """Give institutions that tests share an empty ledger."""
    for institution in institutions:
        object.__setattr__(institution, "ledger", memory_ledger())


def mask_keeping(plan: Plan, kept: int) -> Mask:
    """Return a mask that the plan allows and that keeps ``kept`` weights, the first to go last."""
    units = units_of(plan)
    return units.mask(np.arange(units.count) < kept - units.fixed)


def stand(
    institution: Institution, round_number: int, epoch: int, opened: int, mask: bytes = b""
) -> Memory:
    """Have an institution's ledger say where it stands in the run; return its memory."""
    forget(institution)
    ledger, plan_hash, now = institution.ledger, institution.plan.digest(), institution.now
    last = Place("run", plan_hash, round_number, epoch)
    trained = charges_of(institution.plan, segments_of(institution.plan, round_number, 1))
    ledger.charge(last, trained, budget_of(institution.plan), now)
    ledger.store(last, "binding", mask, b"vector", now)
    ledger.mark("epoch", last, now)
    ledger.mark("opened", replace(last, round=opened), now)
    return Memory(run="run")


def roster_of(plan: Plan) -> Roster:
    """Return the public keys of the plan's institutions."""
    return _roster(plan.names)


_roster = lru_cache(maxsize=8)(partial(seeded_roster, seed=0))


def start_of(plan: Plan, round_number: int = 0, epoch: int = 1) -> GlobalModel:
    """Return an unpruned model as the server would send it in a round."""
    model = initial_model(plan, SeededEntropy(0, "server").stream("initial-weights"))
    return replace(model, round=round_number, epoch=epoch)


def describe(
    plan: Plan, model: GlobalModel, cohort: tuple[str, ...] | None = None, run: str = "run"
) -> RoundDescriptor:
    """Return the honest descriptor of a round."""
    return RoundDescriptor(
        run=run,
        plan_hash=plan.digest(),
        roster_hash=(
            roster_hash(plan.names) if plan.aggregation.kind == "plain" else roster_of(plan).digest
        ),
        round=model.round,
        epoch=model.epoch,
        cohort=plan.names if cohort is None else cohort,
        threshold=plan.threshold,
        ring_bits=plan.aggregation.ring_bits,
        model_hash=wire.model_hash(wire.encode_weights(model.weights[model.mask])),
        mask_hash=mask_hash(model.mask),
        segments=segments_of(plan, model.round, model.kept),
    )


def request_of(
    model: GlobalModel, descriptor: RoundDescriptor, parcels: Mapping[str, Parcel] | None = None
) -> wire.UpdateRequest:
    """Return the update request of a round, with its mask."""
    inbox = [parcel for _, parcel in sorted((parcels or {}).items())]
    return wire.UpdateRequest(
        descriptor=descriptor.to_json(),
        model=wire.encode_weights(model.weights[model.mask]),
        mask=pack_mask(model.mask),
        adverts=[parcel.advert.to_bytes() for parcel in inbox],
        sealed=[parcel.sealed for parcel in inbox],
        paths=[parcel.path for parcel in inbox],
    )


def deal(
    members: Mapping[str, Institution],
    memories: dict[str, Memory],
    round_number: int = 0,
    epoch: int = 1,
) -> dict[str, dict[str, Parcel]]:
    """Take all members through the key trip; return what each of them was dealt."""
    offers = {}
    for name, member in members.items():
        call = wire.AdvertiseRequest("run", round_number, epoch)
        memories[name], reply = stages.advertise(member, memories.get(name, Memory()), call)
        offers[name] = Offer.from_bytes(reply.advert, reply.sealed, len(members))
    roster = roster_of(next(iter(members.values())).plan)
    return parcels_of(offers, roster, sorted(members))


FIRST_NODE = 2


def node_of(plan: Plan, name: str) -> int:
    """Return the node of an institution in `connect`'s grid."""
    return FIRST_NODE + plan.names.index(name)


def leaving(plan: Plan, names: str, trip: str, groups: Callable[[str], bool]) -> Absent:
    """Return who is absent: these institutions, at a trip of the groups ("round/epoch")."""
    nodes = {node_of(plan, name) for name in names.split()}

    def absent(message: Message) -> bool:
        facts = message.metadata
        return facts.dst_node_id in nodes and facts.message_type == trip and groups(facts.group_id)

    return absent


def connect(
    plan: Plan,
    absent: Absent = nobody_leaves,
    entropy: Entropy | None = None,
    wrap: Callable[[ClientApp], ClientApp] = lambda app: app,
) -> tuple[Exchange, InProcessGrid]:
    """Return the server's end of a federation of real client apps, all joined."""
    members = {node_of(plan, name): small_institution(plan, name, entropy) for name in plan.names}
    app = wrap(build_app(lambda context: members[context.node_id]))
    grid = InProcessGrid(app, members, absent)
    exchange = Exchange(grid, plan.aggregation.timeout, roster_of(plan))
    exchange.join("run", plan.names, plan.digest())
    return exchange, grid
