import zlib

import numpy as np

from common.export.shrinkage import flops_per_record, shrinkage
from common.export.sparse_file import sparse_bytes
from common.export.tensor_file import tensor_bytes
from common.layout import layout_of
from common.plan import ModelPlan
from common.pruning.compaction import compact, unpruned
from tests.common.export.exports import METADATA, MODELS, WIDTH

PLAN = ModelPlan(kind="wide_and_deep", hidden=(8, 4))
SIZE = layout_of(PLAN, WIDTH).size


def test_each_form_is_counted() -> None:
    weights = np.random.default_rng(0).normal(size=SIZE).astype(np.float32)
    mask = np.ones(SIZE, np.bool_)
    parts = layout_of(PLAN, WIDTH).split(mask)
    parts["hidden.0.weight"][2:] = parts["hidden.0.bias"][2:] = False
    parts["hidden.1.weight"][0, 0] = False
    dense = unpruned(PLAN, WIDTH, weights * mask)
    small = compact(PLAN, WIDTH, weights, mask)
    forms = shrinkage(dense, small, METADATA)
    assert [form.neurons for form in forms.values()] == [12, 6, 6]
    # 6-2-4-1 and the skip, one of the values in it a zero.
    stored = 6 * 2 + 2 + 2 * 4 + 4 + 4 + 1 + 6
    assert [form.weights for form in forms.values()] == [SIZE, stored, stored - 1]
    assert forms["dense"].flops_per_record == 2 * 6 * 8 + 8 + 2 * 8 * 4 + 4 + 2 * 4 + 2 * 6
    assert forms["compact"].flops_per_record == 2 * 6 * 2 + 2 + 2 * 2 * 4 + 4 + 2 * 4 + 2 * 6
    files = {
        "dense": tensor_bytes(dense.tensors, METADATA),
        "compact": tensor_bytes(small.tensors, METADATA),
        "sparse": sparse_bytes(small, METADATA),
    }
    assert {name: form.bytes_stored for name, form in forms.items()} == {
        name: len(file) for name, file in files.items()
    }
    assert {name: form.bytes_compressed for name, form in forms.items()} == {
        name: len(zlib.compress(file, 9)) for name, file in files.items()
    }


def test_what_is_not_pruned_does_not_shrink() -> None:
    weights = np.random.default_rng(0).normal(size=SIZE).astype(np.float32)
    dense = unpruned(PLAN, WIDTH, weights)
    forms = shrinkage(dense, compact(PLAN, WIDTH, weights, np.ones(SIZE, np.bool_)), METADATA)
    assert forms["compact"] == forms["dense"]
    assert forms["sparse"].weights == SIZE


def test_linear_models_count_their_products() -> None:
    assert flops_per_record(MODELS["logistic"]) == 2 * WIDTH
    assert flops_per_record(MODELS["a constant"]) == 0
