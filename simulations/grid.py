"""Flower's `Grid` in one process: every message passes through Flower's own serialisation.

Nothing is shared by accident, bytes are the bytes of a deployment, and an institution that
leaves answers as a dead SuperNode does, with an error from the server's own node.
"""

from collections.abc import Callable, Iterable
from itertools import count

from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.serde import (
    context_from_proto,
    context_to_proto,
    message_from_proto,
    message_to_proto,
)
from flwr.proto.message_pb2 import Context as ProtoContext
from flwr.proto.message_pb2 import Message as ProtoMessage
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

from simulations.departures import gone

RUN_ID = 1
SERVER_NODE = 1

Absent = Callable[[Message], bool]
"""Whether the receiver of a message has left and will not see it."""


def nobody_leaves(message: Message) -> bool:
    """Let every message arrive."""
    return False


class SimulatedGrid(Grid):
    """Abstract: a grid that serves one run and on which nothing is ever late."""

    def __init__(self) -> None:
        """Take the identity of a task: Flower builds messages only inside one."""
        TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = RUN_ID, SERVER_NODE, 1

    @property
    def run(self) -> Run:
        """An empty run."""
        return Run.create_empty(RUN_ID)

    def set_run(self, run: Run) -> None:
        """Refuse: the grid serves one run."""
        raise NotImplementedError("a simulated grid serves one run")

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """Return `Message`; Flower deprecates this way of building one."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Push and pull at once."""
        return self.pull_messages(self.push_messages(messages))


class InProcessGrid(SimulatedGrid):
    """Runs a `ClientApp` for a node when a message to it is pushed."""

    def __init__(
        self, app: ClientApp, nodes: Iterable[int], absent: Absent = nobody_leaves
    ) -> None:
        """Serve ``nodes`` by ``app``, each in its own context."""
        super().__init__()
        self._app, self._absent = app, absent
        self._contexts = {
            node: _frozen(Context(RUN_ID, node, {}, RecordDict(), {})) for node in nodes
        }
        self._replies: dict[str, bytes] = {}
        self._ids = count(1)
        self.bytes_down = self.bytes_up = 0

    def get_node_ids(self) -> Iterable[int]:
        """Return the nodes."""
        return list(self._contexts)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Deliver each message and keep its serialised reply until it is pulled."""
        return [self._deliver(message) for message in messages]

    def _deliver(self, message: Message) -> str:
        identifier = str(next(self._ids))
        proto = message_to_proto(message)
        proto.metadata.message_id = identifier
        wire = proto.SerializeToString()
        self.bytes_down += len(wire)
        received = message_from_proto(ProtoMessage.FromString(wire))
        node = received.metadata.dst_node_id
        if self._absent(received):
            reply = gone(received)
            reply.metadata.__dict__["_src_node_id"] = SERVER_NODE
        else:
            context = context_from_proto(ProtoContext.FromString(self._contexts[node]))
            reply = self._app(received, context)
            self._contexts[node] = _frozen(context)
        self._replies[identifier] = message_to_proto(reply).SerializeToString()
        self.bytes_up += len(self._replies[identifier])
        return identifier

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Return the replies to these messages, once."""
        found = [self._replies.pop(name) for name in message_ids if name in self._replies]
        return [message_from_proto(ProtoMessage.FromString(wire)) for wire in found]


def _frozen(context: Context) -> bytes:
    data: bytes = context_to_proto(context).SerializeToString()
    return data
