"""What runs in the actors of Flower's Ray engine: the institutions that messages come for."""

import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

import ray
import torch
from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from flwr.common.constant import PARTITION_ID_KEY
from ray import ObjectRef

from client.app import build_app
from client.data import Splits
from client.ledger import Ledger
from client.stages import Institution
from simulations.context_store import ContextStore
from simulations.departures import gone
from simulations.engine import FIRST_NODE, Members


@dataclass(frozen=True)
class RemoteSplits(Mapping[str, Splits]):
    """Each institution's rows, in Ray's object store."""

    refs: Mapping[str, "ObjectRef[Splits]"]

    def __getitem__(self, name: str) -> Splits:
        """Fetch an institution's rows, which the processes of a machine share."""
        rows: Splits = ray.get(self.refs[name])
        return rows

    def __iter__(self) -> Iterator[str]:
        """Return the names."""
        return iter(self.refs)

    def __len__(self) -> int:
        """Return the number of institutions."""
        return len(self.refs)


@dataclass(frozen=True)
class RemoteApp:
    """The app of all institutions as it travels with every message: where to find what it needs."""

    members: "ObjectRef[Members]"

    def __call__(self, message: Message, context: Context) -> Message:
        """Answer as the institution of the context's partition, unless it has left."""
        return _serve(self.members)(message, context)


@lru_cache(maxsize=1)
def _serve(ref: "ObjectRef[Members]") -> Callable[[Message, Context], Message]:
    """Return the app of a simulation, built once a process."""
    # One thread, as everywhere: sums must not depend on how they are divided.
    torch.set_num_threads(1)
    # Rows in the object store are read-only, and nothing writes to them.
    warnings.filterwarnings("ignore", "The given NumPy array is not writable")
    members: Members = ray.get(ref)
    leaves, served = members.leaves, dict[str, tuple[Institution, ContextStore]]()

    def institution_for(context: Context) -> Institution:
        name = members.plan.names[_place(context)]
        if name not in served:
            store = ContextStore()
            served[name] = members.institution(name, Ledger(store, "simulated")), store
        institution, store = served[name]
        store.state = context.state
        return institution

    app: ClientApp = build_app(institution_for)

    def answer(message: Message, context: Context) -> Message:
        if leaves(FIRST_NODE + _place(context), message.metadata):
            return gone(message)
        return app(message, context)

    return answer


def _place(context: Context) -> int:
    """Return the place in the plan of the institution that a context is of."""
    return int(context.node_config[PARTITION_ID_KEY])
