import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import load

from common.export.tensor_file import tensor_bytes
from tests.commands import ROOT
from tests.common.export.exports import METADATA, MODELS

PROGRAM = (
    "import hashlib; from common.export.tensor_file import tensor_bytes;"
    "from tests.common.export.exports import METADATA, MODELS;"
    "print(hashlib.sha256(tensor_bytes(MODELS['mlp'].tensors, METADATA)).hexdigest())"
)


@pytest.mark.parametrize("name", MODELS)
def test_tensors_are_read_back_bit_for_bit(name: str) -> None:
    tensors = MODELS[name].tensors
    again = load(tensor_bytes(tensors, METADATA))
    assert set(again) == set(tensors)
    for tensor_name, tensor in tensors.items():
        assert again[tensor_name].shape == tensor.shape
        assert again[tensor_name].tobytes() == tensor.tobytes()


def test_memory_order_does_not_matter() -> None:
    matrix = np.arange(6, dtype=np.float32).reshape(2, 3)
    packed = tensor_bytes({"a": np.asfortranarray(matrix)}, {})
    assert packed == tensor_bytes({"a": matrix}, {})
    assert load(packed)["a"].tolist() == matrix.tolist()


def test_every_process_writes_the_same_bytes() -> None:
    hashes = {
        subprocess.run(
            [sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout
        for _ in range(3)
    }
    assert len(hashes) == 1
    assert tensor_bytes(MODELS["mlp"].tensors, METADATA) != tensor_bytes(MODELS["mlp"].tensors, {})
