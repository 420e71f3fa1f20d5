"""Who leaves an attempt at a round, and at which trip: the seed says it, alike on all engines."""

from collections.abc import Callable

from flwr.app import Error, Message, Metadata
from flwr.common.constant import ErrorCode

from common.entropy import SeededEntropy

STAGES = {"query.advertise": 0, "train.update": 1, "query.sign": 2, "train.unmask": 2}
"""How far an attempt has come at each trip: keys, vectors, openings."""

Leaves = Callable[[int, Metadata], bool]
"""Whether the node of this number has left and will not see a message."""


def departures(seed: int, rate: float) -> Leaves:
    """Return who is absent: with chance ``rate`` a node leaves an attempt at one of its trips.

    Numbers count from 2 in the order of the plan, whatever an engine calls its nodes.
    """
    entropy = SeededEntropy(seed, "departures")

    def leaves(number: int, metadata: Metadata) -> bool:
        stage = STAGES.get(metadata.message_type)
        if stage is None or rate <= 0:
            return False
        draw = entropy.stream(f"{number}/{metadata.group_id}")
        return int.from_bytes(draw(8), "big") < rate * 2**64 and stage >= draw(1)[0] % 3

    return leaves


def gone(message: Message) -> Message:
    """Return what Flower answers for a node that is not there."""
    return Message(Error(ErrorCode.NODE_UNAVAILABLE, "gone"), reply_to=message)
