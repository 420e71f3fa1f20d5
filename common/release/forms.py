"""That a release's files are one model: the one whose hash the manifest has.

A file may be the one that was signed for and still hold other weights than the rounds made, if
those who signed were deceived. So whoever uses a release makes its forms anew.
"""

from collections.abc import Mapping
from typing import Final

import numpy as np

from common.errors import ModelError
from common.export.forms import compact_forms, hashes_of, read_model
from common.export.sparse_file import SPARSE, read_sparse
from common.plan import Plan
from common.pruning.compaction import CompactModel, compact
from common.release.manifest import Manifest
from common.release.refusals import AlteredModelError

MODEL: Final = "model.safetensors"

CLOSE: Final = 1e-6
"""How far folded biases may be apart: processors add and take a tanh each in its own way."""


def require_forms(manifest: Manifest, files: Mapping[str, bytes], plan: Plan) -> None:
    """Return if files that are the manifest's are also forms of its model, under its plan.

    Raises:
        AlteredModelError: one is not.
    """
    try:
        weights, mask = read_model(files[MODEL], plan)
        small = read_sparse(files[SPARSE]).model
        forms = compact_forms(small, plan)
    except ModelError as error:
        raise AlteredModelError(f"release of run {manifest.run}: {error}: do not use it") from error
    made = compact(plan.model, plan.schema_.width, weights, mask)
    known = {"model": manifest.model, "mask": manifest.mask}
    odd = [name for name, data in forms.items() if files[name] != data]
    if files["plan.toml"] != plan.to_toml().encode():
        odd.append("plan.toml")
    if hashes_of(weights, mask) != known:
        odd.append(MODEL)
    if not _alike(small, made):
        odd.append(SPARSE)
    if odd:
        raise AlteredModelError(
            f"release of run {manifest.run}: {odd[0]} was signed for, and is not the model"
            f" {manifest.model[:16]} that the manifest names: do not use it, and tell the other"
            " institutions"
        )


def _alike(one: CompactModel, other: CompactModel) -> bool:
    return (one.activation, *_shapes(one)) == (other.activation, *_shapes(other)) and all(
        np.allclose(tensor, other.tensors[name], rtol=CLOSE, atol=CLOSE)
        for name, tensor in one.tensors.items()
    )


def _shapes(model: CompactModel) -> list[tuple[str, tuple[int, ...]]]:
    return [(name, tensor.shape) for name, tensor in model.tensors.items()]
