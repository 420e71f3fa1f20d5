"""All that a run needs to go on, as the bytes of one file.

Keys that came ahead are not in it: a resumed run begins an epoch of its own, in which they are
worth nothing. The digest finds damage and slips of the hand, not a forger; who may write to the
server's disk may write whatever he likes, and the institutions check what they are sent.
"""

import hashlib
import json
from dataclasses import astuple, dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load

from common.errors import ConfigError, ProtocolError
from common.export.tensor_file import tensor_bytes
from common.pruning.evidence import Traces
from common.pruning.masks import pack_mask, unpack_mask
from server.evaluation import Estimate, Metrics
from server.model import GlobalModel, Good, Watch

_VERSION: Final = 1
_STATE, _DIGEST = "checkpoint", "sha256"
_TRACES = ("initial", "velocity", "movement", "anchor", "magnitudes")

Tensors = dict[str, NDArray[Any]]


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A run between two rounds.

    ``run`` is its id, ``plan`` the plan's hash, ``roster`` the members' keys as they are sent,
    nothing in plain aggregation. ``line`` is what the journal says of the last round; before it
    the journal has ``size`` bytes with the hash ``journal``.
    """

    run: str
    plan: str
    roster: bytes
    model: GlobalModel
    line: bytes
    size: int
    journal: str

    def to_bytes(self) -> bytes:
        """Return a safetensors file; equal checkpoints give equal bytes."""
        model, watch = self.model, self.model.watch
        state = {
            "version": _VERSION,
            "run": self.run,
            "plan": self.plan,
            "roster": self.roster.decode(),
            "line": self.line.decode(),
            "size": self.size,
            "journal": self.journal,
            "round": model.round,
            "epoch": model.epoch,
            "updates": model.updates,
            "holders": model.holders,
            "culprits": sorted(model.culprits),
            "watch": [watch.limit, watch.failed, watch.target],
            "good": None if watch.good is None else watch.good.sparsity,
        }
        return _sealed(_tensors(model), json.dumps(state, sort_keys=True, separators=(",", ":")))

    @classmethod
    def from_bytes(cls, data: bytes) -> "Checkpoint":
        """Parse `to_bytes`' form; raise `ConfigError` on anything else, be it by one bit."""
        try:
            start = 8 + int.from_bytes(data[:8], "little")
            text = json.loads(data[8:start])["__metadata__"][_STATE]
            tensors = load(data)
            if _sealed(tensors, text) != data:
                raise ValueError("its digest is of another content")
            state = json.loads(text)
            if state["version"] != _VERSION:
                raise ValueError("it is of another version of fedprune")
            return cls(
                **{name: state[name] for name in ("run", "plan", "size", "journal")},
                roster=state["roster"].encode(),
                line=state["line"].encode(),
                model=_model(tensors, state),
            )
        except (ValueError, KeyError, TypeError, SafetensorError, ProtocolError) as error:
            raise ConfigError(
                "altered or damaged, or of another version: restore it together with the journal,"
                " or begin a new run in another directory"
            ) from error


def _sealed(tensors: Tensors, state: str) -> bytes:
    digest = hashlib.sha256(tensor_bytes(tensors, {_STATE: state})).hexdigest()
    return tensor_bytes(tensors, {_STATE: state, _DIGEST: digest})


def _tensors(model: GlobalModel) -> Tensors:
    tensors: Tensors = {"weights": model.weights, "mask": _packed(model.mask)}
    traces = {name: getattr(model.traces, name) for name in _TRACES}
    tensors |= {name: trace for name, trace in traces.items() if trace is not None}
    if model.moments is not None:
        tensors["moments"] = model.moments
    if (good := model.watch.good) is not None:
        reference = [astuple(good.reference.value), astuple(good.reference.sd)]
        tensors["good.weights"], tensors["good.mask"] = good.weights, _packed(good.mask)
        tensors["good.reference"] = np.array(reference)
    return tensors


def _model(tensors: Tensors, state: dict[str, Any]) -> GlobalModel:
    weights = tensors["weights"]
    good, (limit, failed, target) = None, state["watch"]
    if state["good"] is not None:
        value, sd = (Metrics(*map(float, figures)) for figures in tensors["good.reference"])
        mask = unpack_mask(tensors["good.mask"].tobytes(), weights.size)
        good = Good(tensors["good.weights"], mask, state["good"], Estimate(value, sd))
    return GlobalModel(
        weights=weights,
        mask=unpack_mask(tensors["mask"].tobytes(), weights.size),
        traces=Traces(**{name: tensors[name] for name in _TRACES if name in tensors}),
        watch=Watch(good, limit, failed, target),
        round=state["round"],
        epoch=state["epoch"],
        holders=state["holders"],
        culprits=frozenset(state["culprits"]),
        moments=tensors.get("moments"),
        updates=state["updates"],
    )


def _packed(mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    return np.frombuffer(pack_mask(mask), np.uint8)
