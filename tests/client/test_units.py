"""Customers as the unit: what the clipped sum is and how far one moves it, by brute force."""

from dataclasses import dataclass, replace
from math import sqrt

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import binomtest, chi2
from torch.nn.functional import binary_cross_entropy_with_logits

from client.data import Examples
from client.training import LocalSteps, SharedStep, release, sample, train
from common.entropy import SeededEntropy
from common.model import Network
from common.plan import ModelPlan
from common.privacy.noise import Grid

Floats = NDArray[np.float64]

KINDS = st.sampled_from(["logistic", "mlp", "wide_and_deep"])
FINE = Grid(2.0**-30, 0.0)
SIGNIFICANCE = 1e-5


@dataclass(frozen=True)
class Case:
    """A random model and mask, and a few customers with up to ``cap`` rows each."""

    network: Network
    examples: Examples
    cap: int
    max_grad_norm: float

    def gradients(self) -> Floats:
        """Return each row's gradient [n, size] on surviving weights, by plain autograd."""
        rows = []
        mask = self.network.mask.numpy().astype(np.float64)
        for features, label in zip(self.examples.features, self.examples.labels, strict=True):
            self.network.zero_grad()
            logits = self.network(torch.from_numpy(features)[None])
            binary_cross_entropy_with_logits(logits, torch.tensor([label])).backward()
            parts = dict(self.network.named_parameters())
            grads = [parts[entry.name].grad for entry in self.network.layout.entries]
            rows.append(np.concatenate([g.flatten().numpy() for g in grads if g is not None]))
        return np.array(rows, np.float64) * mask

    def without(self, customer: int) -> "Case":
        """Return the case without one customer."""
        assert self.examples.customers is not None
        rows = self.examples.customers != customer
        left = np.unique(self.examples.customers[rows], return_inverse=True)[1]
        part = Examples(
            self.examples.features[rows], self.examples.labels[rows], pd.DataFrame(), left
        )
        return replace(self, examples=part)

    def released(self, row_norm: float) -> Floats:
        """Return the sum that shared noise would cover, on all weights."""
        shared = SharedStep(1.0, row_norm, bound=2.0**20, grid=FINE)
        levels = release(self.network, self.examples, shared, SeededEntropy(0).stream("r"))
        total = np.zeros(self.network.layout.size)
        total[self.network.mask.numpy() > 0] = levels * FINE.step
        return total

    def trained(self) -> Floats:
        """Return the sum that local noise would cover: a step's way at rate -1."""
        far = 1024.0
        local = LocalSteps(1, 1.0, 1.0, far, self.max_grad_norm, 0.0, self.cap)
        start = self.network.flat.numpy().copy()
        update = train(self.network, self.examples, local, SeededEntropy(0).stream("t"))
        self.network.load(start, self.network.mask.numpy() > 0)
        return -update.astype(np.float64) / far


@st.composite
def cases(draw: st.DrawFn) -> Case:
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    cap, width = draw(st.integers(1, 4)), draw(st.integers(1, 6))
    held = random.integers(1, cap + 1, draw(st.integers(1, 6)))
    customers = random.permutation(np.repeat(np.arange(len(held)), held))
    hidden = draw(st.lists(st.integers(1, 8), min_size=1, max_size=2))
    network = Network(ModelPlan.model_validate({"kind": draw(KINDS), "hidden": hidden}), width)
    size = network.layout.size
    mask = random.uniform(size=size) < draw(st.sampled_from([0.3, 1.0]))
    network.load(random.normal(size=size).astype(np.float32), mask)
    features = random.uniform(-1, 1, (len(customers), width)).astype(np.float32)
    labels = random.integers(0, 2, len(customers)).astype(np.float32)
    examples = Examples(features, labels, pd.DataFrame(), customers)
    return Case(network, examples, cap, draw(st.floats(0.05, 4)))


def by_hand(case: Case, row_norm: float) -> Floats:
    """Return the sum over customers of the sums over their rows, each row clipped alone."""
    gradients, customers = case.gradients(), case.examples.customers
    assert customers is not None
    total = np.zeros(case.network.layout.size)
    for customer in range(customers.max() + 1):
        for gradient in gradients[customers == customer]:
            norm = np.linalg.norm(gradient)
            total += gradient * min(1.0, row_norm / (norm + 1e-6))
    return total


@given(cases())
@settings(max_examples=60)
def test_the_sums_of_both_modes_are_the_ones_computed_by_hand(case: Case) -> None:
    row_norm = case.max_grad_norm / case.cap
    expected = by_hand(case, row_norm)
    # Relative to what the rows give, because they may cancel in the sum.
    given_sum = np.minimum(np.linalg.norm(case.gradients(), axis=1), row_norm).sum()
    for found in (case.released(row_norm), case.trained()):
        assert np.linalg.norm(found - expected) <= 1e-5 * given_sum + 1e-7


@given(cases())
@settings(max_examples=60)
def test_a_customer_moves_the_sum_by_at_most_the_clipping_norm(case: Case) -> None:
    row_norm = case.max_grad_norm / case.cap
    everybody = case.released(row_norm)
    assert case.examples.customers is not None
    for customer in np.unique(case.examples.customers):
        if len(case.examples) == (case.examples.customers == customer).sum():
            others = np.zeros_like(everybody)
        else:
            others = case.without(customer).released(row_norm)
        assert np.linalg.norm(everybody - others) <= case.max_grad_norm * (1 + 1e-4)


def agreeing(rows: int, cap: int) -> Case:
    """Return a customer whose rows are alike and steep, beside another with one row."""
    network = Network(ModelPlan(kind="logistic"), 3)
    network.load(np.zeros(4, np.float32), np.ones(4, np.bool_))
    features = np.ones((rows + 1, 3), np.float32)
    customers = np.array([0] * rows + [1])
    labels = np.ones(rows + 1, np.float32)
    return Case(network, Examples(features, labels, pd.DataFrame(), customers), cap, 0.5)


@pytest.mark.parametrize("rows", [2, 4])
def test_records_clipped_alone_let_a_customer_through(rows: int) -> None:
    case = agreeing(rows, cap=rows)

    def moved(row_norm: float, case: Case) -> float:
        return float(np.linalg.norm(case.released(row_norm) - case.without(0).released(row_norm)))

    assert moved(case.max_grad_norm / rows, case) == pytest.approx(case.max_grad_norm, rel=1e-4)
    # The record's clip, and a customer with more rows than the cap.
    assert moved(case.max_grad_norm, case) == pytest.approx(rows * case.max_grad_norm, rel=1e-4)
    beyond = agreeing(rows + 1, cap=rows)
    assert moved(case.max_grad_norm / rows, beyond) > 1.2 * case.max_grad_norm


def customers_of(held: list[int]) -> Examples:
    """Return shuffled customers with so many rows each; a row's feature is its customer."""
    customers = np.random.default_rng(0).permutation(np.repeat(np.arange(len(held)), held))
    features = customers[:, None].astype(np.float32)
    return Examples(features, np.zeros(len(customers), np.float32), pd.DataFrame(), customers)


HELD = [1, 2, 3, 4] * 30


def presence(examples: Examples, rate: float, batches: int) -> NDArray[np.bool_]:
    """Return which customers are in each batch [batches, customers]; they come whole or fail."""
    stream = SeededEntropy(0).stream("batches")
    seen = np.zeros((batches, len(HELD)), np.bool_)
    for batch in seen:
        rows = sample(examples, rate, stream)
        assert (np.diff(rows) > 0).all()
        counts = np.bincount(examples.features[rows, 0].astype(int), minlength=len(HELD))
        assert (np.isin(counts, 0) | (counts == HELD)).all()
        batch[:] = counts > 0
    return seen


def complaints(seen: NDArray[np.bool_], rate: float) -> set[str]:
    """Return which tests a presence table [batches, customers] fails at ``rate``."""
    failed = set()
    batches, customers = seen.shape
    if binomtest(int(seen.sum()), seen.size, rate).pvalue < SIGNIFICANCE:
        failed.add("rate")
    spread = rate * (1 - rate)
    # Each customer at the rate by itself, and each batch a binomial number of them.
    for name, totals, of in (
        ("equal", seen.sum(0), batches),
        ("independent", seen.sum(1), customers),
    ):
        statistic = ((totals - of * rate) ** 2).sum() / (of * spread)
        tails = chi2.cdf(statistic, len(totals)), chi2.sf(statistic, len(totals))
        if min(tails) < SIGNIFICANCE:
            failed.add(name)
    centred = seen - rate
    following = (centred[1:] * centred[:-1]).mean() / spread
    if abs(following) > 4.5 / sqrt(seen.size):
        failed.add("repetition")
    return failed


def test_customers_come_whole_at_the_rate_and_by_themselves() -> None:
    seen = presence(customers_of(HELD), 0.1, 600)
    assert complaints(seen, 0.1) == set()
    assert "rate" in complaints(seen, 0.105)
    random = np.random.default_rng(1)
    fixed = np.array([random.permutation(len(HELD)) < 12 for _ in range(600)])
    assert complaints(fixed, 0.1) == {"independent"}
    assert "repetition" in complaints(np.repeat(seen[:300], 2, axis=0), 0.1)
    by_rows = random.uniform(size=(600, len(HELD))) < 1 - 0.9 ** np.array(HELD)
    assert {"rate", "equal"} <= complaints(by_rows, 0.1)


def test_records_drawn_one_by_one_tear_customers_apart() -> None:
    examples = customers_of(HELD)
    records = replace(examples, customers=None)
    rows = sample(records, 0.5, SeededEntropy(0).stream("batches"))
    assert examples.customers is not None
    counts = np.bincount(examples.customers[rows], minlength=len(HELD))
    assert ((counts > 0) & (counts < HELD)).any()


def test_nobody_is_a_batch_too() -> None:
    nobody = Examples(np.zeros((0, 1), np.float32), np.zeros(0, np.float32), pd.DataFrame())
    for customers in (None, np.zeros(0, np.intp)):
        held = replace(nobody, customers=customers)
        assert len(sample(held, 0.5, SeededEntropy(0).stream("batches"))) == 0
