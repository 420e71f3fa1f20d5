from dataclasses import asdict, fields

import numpy as np
from flwr.app import ArrayRecord, Context, RecordDict
from flwr.common.serde import context_from_proto, context_to_proto
from flwr.proto.message_pb2 import Context as ProtoContext
from hypothesis import given
from hypothesis import strategies as st

from client.memory import RECORD, Memory

FULL = Memory(
    run="run",
    secrets=b"private keys",
)


def kept(memory: Memory) -> Memory:
    """Return a memory after a rest in Flower's context."""
    context = Context(1, 2, {}, RecordDict(), {})
    memory.save(context.state)
    wire = context_to_proto(context).SerializeToString()
    return Memory.load(context_from_proto(ProtoContext.FromString(wire)).state)


@given(st.text(max_size=20), st.binary(max_size=50))
def test_memory_rests_in_flowers_context(run: str, secrets: bytes) -> None:
    memory = Memory(run, secrets)
    assert kept(memory) == memory
    assert kept(Memory()) == Memory()


def test_every_field_is_kept() -> None:
    empty = asdict(Memory())
    assert all(value != empty[name] for name, value in asdict(FULL).items())
    assert kept(FULL) == FULL
    assert set(asdict(FULL)) == {field.name for field in fields(Memory)}


def test_saving_replaces_what_was_there() -> None:
    state = RecordDict()
    FULL.save(state)
    Memory().save(state)
    assert Memory.load(state) == Memory()


def test_an_empty_or_foreign_state_is_a_fresh_memory() -> None:
    assert Memory.load(RecordDict()) == Memory()
    assert Memory.load(RecordDict({RECORD: ArrayRecord([np.zeros(1)])})) == Memory()


def test_secrets_never_print() -> None:
    shown = repr(FULL) + str(FULL)
    assert "run='run'" in shown
    assert "private" not in shown
