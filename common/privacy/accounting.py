"""What private training costs: a mechanism is one value, and Opacus' accountants price it.

Opacus is imported when a price is asked for: it costs seconds, and plans and messages are
read in processes that never ask.
"""

import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from math import inf

import numpy as np

from common.errors import BudgetError

EPSILON_TOLERANCE = 1e-3
"""How far below the budget calibration may stop."""

PRV_ERROR, PRV_RELATIVE_ERROR = 0.01, 0.003
"""PRV's bound is at most this far above the truth: Opacus' default .01 is 3 % of epsilon .3."""


COUNTS_ACCOUNTANT = "rdp"
"""What prices noised counts, whatever the plan names for training.

A few levels of discrete noise are not a Gaussian's, and PRV would tell too little; its Renyi
divergences are a Gaussian's at most (Canonne, Kamath and Steinke 2020, Theorem 4).
"""


@dataclass(frozen=True, slots=True)
class SampledGaussian:
    """``steps`` Gaussian mechanisms on Poisson samples.

    ``noise_multiplier`` is the standard deviation of the noise over the L2 sensitivity;
    0 means no noise and an infinite epsilon.
    """

    noise_multiplier: float
    sample_rate: float
    steps: int

    def epsilon(self, delta: float, accountant: str) -> float:
        """Return epsilon at ``delta`` by Opacus' accountant ("prv": Gopi et al. 2021; "rdp")."""
        return composed_epsilon((self,), delta, accountant)

    def calibrated(self, epsilon: float, delta: float, accountant: str) -> "SampledGaussian":
        """Return the mechanism with the least noise that spends at most ``epsilon``."""
        noise_multiplier = _noise_multiplier(
            epsilon, delta, self.sample_rate, self.steps, accountant
        )
        return replace(self, noise_multiplier=noise_multiplier)


def composed_epsilon(mechanisms: Sequence[SampledGaussian], delta: float, accountant: str) -> float:
    """Return epsilon at ``delta`` of several mechanisms on the same records, one after another."""
    steps: Counter[tuple[float, float]] = Counter()
    for mechanism in mechanisms:
        steps[mechanism.noise_multiplier, mechanism.sample_rate] += mechanism.steps
    history = tuple(sorted((*kind, number) for kind, number in steps.items() if number))
    if any(noise_multiplier == 0 for noise_multiplier, *_ in history):
        return inf
    return _epsilon(history, delta, accountant) if history else 0.0


@lru_cache(maxsize=256)
def _epsilon(history: tuple[tuple[float, float, int], ...], delta: float, accountant: str) -> float:
    from opacus.accountants import create_accountant  # noqa: PLC0415

    ledger = create_accountant(mechanism=accountant)
    ledger.history = list(history)
    with _quiet():
        epsilon = float(ledger.get_epsilon(delta=delta, **_error(accountant, inf)))
        if accountant == "prv" and epsilon < PRV_ERROR / PRV_RELATIVE_ERROR:
            error = _error(accountant, epsilon - PRV_ERROR)
            epsilon = float(ledger.get_epsilon(delta=delta, **error))
        return epsilon


def _error(accountant: str, epsilon: float) -> dict[str, float]:
    """Return how far above the truth PRV's bound may lie: finer for a smaller budget."""
    if accountant != "prv":
        return {}
    return {"eps_error": max(5e-4, min(PRV_ERROR, PRV_RELATIVE_ERROR * epsilon))}


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence advice on RDP orders, each of which is a bound, and PRV's log(0) at sample rate 1."""
    with warnings.catch_warnings(), np.errstate(divide="ignore"):
        warnings.filterwarnings("ignore", "Optimal order is the", UserWarning)
        yield


@lru_cache(maxsize=64)
def _noise_multiplier(
    epsilon: float, delta: float, sample_rate: float, steps: int, accountant: str
) -> float:
    from opacus.accountants.utils import get_noise_multiplier  # noqa: PLC0415

    try:
        with _quiet():
            noise_multiplier: float = get_noise_multiplier(
                target_epsilon=epsilon,
                target_delta=delta,
                sample_rate=sample_rate,
                steps=steps,
                accountant=accountant,
                epsilon_tolerance=EPSILON_TOLERANCE * min(1.0, epsilon),
                **_error(accountant, epsilon),
            )
    except ValueError as error:
        raise BudgetError(
            f"epsilon {epsilon:g} at delta {delta:g} cannot be met in {steps} steps:"
            " raise privacy.epsilon or lower training.rounds"
        ) from error
    return noise_multiplier
