"""What protects a record is drawn from the stream it was given, and from nothing else."""

import ast
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from client.clipping import ClippedSum
from client.training import LocalSteps, train
from common.entropy import SeededEntropy
from common.model import Network, initial_weights
from common.plan import ModelPlan
from tests.support import WIDTH, small_examples

ROOT = Path(__file__).resolve().parents[2]
GUARDED = ("client", "common/privacy", "common/crypto", "common/entropy.py")
INSTALLED = ("client", "common", "server")
GENERATORS = {
    "random",  # the module, numpy.random, and Tensor.random_
    "random_",
    "default_rng",
    "RandomState",
    "Generator",
    "manual_seed",
    "normal",
    "normal_",
    "uniform",
    "uniform_",
    "bernoulli",
    "bernoulli_",
    "exponential_",
    "multinomial",
    "rand",
    "randn",
    "randint",
    "randperm",
    "rand_like",
    "randn_like",
    "randint_like",
    "dropout",
}


def generators(source: str) -> set[str]:
    """Return the names of generators that a module mentions, whatever it imports them as."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute):
            found.add(node.attr)
        elif isinstance(node, ast.Name):
            found.add(node.id)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names]
            if isinstance(node, ast.ImportFrom):
                names.append(node.module or "")
            found |= {part for name in names for part in name.split(".")}
    return found & GENERATORS


def guarded() -> list[Path]:
    places = [ROOT / name for name in GUARDED]
    files = [
        file for place in places for file in ([place], sorted(place.rglob("*.py")))[place.is_dir()]
    ]
    assert len(files) > 20
    return files


@pytest.mark.parametrize("file", guarded(), ids=lambda file: str(file.relative_to(ROOT)))
def test_no_generator_but_the_stream(file: Path) -> None:
    assert generators(file.read_text()) == set()


def test_no_seeded_source_is_made_where_records_are() -> None:
    # Simulations and tests make theirs in code, so no setting of a bank's could ask for one.
    files = [file for side in INSTALLED for file in sorted((ROOT / side).rglob("*.py"))]
    naming = [file.relative_to(ROOT) for file in files if "SeededEntropy" in file.read_text()]
    assert naming == [Path("common/entropy.py")]


@pytest.mark.parametrize(
    "source",
    [
        "import random",
        "import numpy.random",
        "from numpy.random import default_rng as fresh",
        "import numpy as np\nnp.random.normal(0, 1)",
        "import torch\nnoise = torch.randn(3)",
        "weights.normal_(0, 1)",
        "torch.Generator().manual_seed(1)",
        "from torch import rand as draw",
    ],
)
def test_generators_are_recognised(source: str) -> None:
    assert generators(source)


def test_training_ignores_every_global_generator() -> None:
    examples = small_examples(100, seed=1)
    local = LocalSteps(3, 0.3, 30.0, 0.5, 1.0, 1.2)
    plan = ModelPlan(hidden=(8, 4))

    def update(seed: int, label: str) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        torch.manual_seed(seed)
        np.random.seed(seed)
        random.seed(seed)
        network = Network(plan, WIDTH)
        start = initial_weights(plan, WIDTH, SeededEntropy(0).stream("initial"))
        network.load(start, np.ones(network.layout.size, np.bool_))
        return train(network, examples, local, SeededEntropy(0).stream(label))

    np.testing.assert_array_equal(update(1, "a"), update(2, "a"))
    assert not np.array_equal(update(1, "a"), update(1, "b"))


def test_training_leaves_global_generators_alone() -> None:
    network = Network(ModelPlan(hidden=(8, 4)), WIDTH)
    network.load(np.ones(network.layout.size, np.float32), np.ones(network.layout.size, np.bool_))
    before = torch.get_rng_state(), str(np.random.get_state()), random.getstate()
    examples = small_examples(50, seed=1)
    train(network, examples, LocalSteps(2, 0.5, 20.0, 0.5, 1.0, 1.2), SeededEntropy(0).stream("a"))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert str(np.random.get_state()) == before[1]
    assert random.getstate() == before[2]


def test_float32_sums_stay_within_the_slack_that_is_charged() -> None:
    # One record's effect in float32 against its exact gradient, in a batch of a thousand.
    plan = ModelPlan(hidden=(64, 32))
    examples = small_examples(1_000, seed=3)
    network = Network(plan, WIDTH)
    size = network.layout.size
    network.load(
        np.random.default_rng(0).normal(0, 0.5, size).astype(np.float32), np.ones(size, np.bool_)
    )
    clipped_sum = ClippedSum(network, 1.0)
    features, labels = torch.from_numpy(examples.features), torch.from_numpy(examples.labels)
    everyone = clipped_sum(features, labels)
    for index in (0, 500, 999):
        others = torch.arange(1_000) != index
        effect = (everyone - clipped_sum(features[others], labels[others])).norm()
        assert effect <= 1 + 1e-3
        alone = clipped_sum(features[index : index + 1], labels[index : index + 1])
        assert float(effect - alone.norm()) <= 1e-4
