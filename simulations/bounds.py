"""What an attack's success proves about privacy: lower bounds on epsilon, each at a confidence.

An attack can only show that a mechanism is worse than it claims, never that it is as good.
"""

from dataclasses import dataclass, replace
from math import exp

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import beta, binom, norm

LARGEST = 50.0
"""The largest epsilon looked at: more than a plan may claim."""


@dataclass(frozen=True, slots=True)
class Guesses:
    """Of ``canaries`` fair coins, ``made`` were guessed and ``correct`` of them rightly."""

    canaries: int
    made: int
    correct: int

    def epsilon(self, delta: float, confidence: float) -> float:
        """Return the largest epsilon at ``delta`` that the guesses refute; 0 when they refute none.

        Each coin says whether one record was in the only run there was (Steinke, Nasr and
        Jagielski 2023, "Privacy Auditing with One (1) Training Run", Theorem 5.2).
        """

        def excess(epsilon: float) -> float:
            return self._chance(epsilon, delta) - (1 - confidence)

        if excess(0.0) >= 0:
            return 0.0
        return LARGEST if excess(LARGEST) < 0 else float(brentq(excess, 0.0, LARGEST, xtol=1e-6))

    def _chance(self, epsilon: float, delta: float) -> float:
        """Return the most likely that so many guesses are right under (epsilon, delta)."""
        accuracy = 1 / (1 + exp(-epsilon))
        beyond = float(binom.sf(self.correct - 1, self.made, accuracy))
        if self.correct == 0:
            return beyond
        # The chance of just missing by i or less, an i-th of it: what delta may add at most.
        short = np.arange(1, self.correct + 1)
        missed = np.cumsum(binom.pmf(self.correct - short, self.made, accuracy))
        return min(1.0, beyond + 2 * self.canaries * delta * float((missed / short).max()))


SHARES = (0.05, 0.25, 0.5, 0.75)
"""Shares of all coins that are guessed, each a try: the surest guesses, or more of them."""


@dataclass(frozen=True, slots=True)
class OneRun:
    """What an attack on one run refutes, and the most that it would have, had it never erred."""

    epsilon: float
    ceiling: float
    guesses: Guesses


def one_run(
    scores: NDArray[np.float64], members: NDArray[np.bool_], delta: float, confidence: float
) -> OneRun:
    """Return the best bound that guessing by ``scores`` [n] gives, n being 4 or more.

    Half of the guesses say "member", of the highest scores, half "no member", of the lowest.
    The numbers of guesses tried share 1 - confidence, for the best of them is taken.
    """
    order, tries = np.argsort(scores, kind="stable"), []
    each = 1 - (1 - confidence) / len(SHARES)
    for share in SHARES:
        half = max(1, int(share * len(scores)) // 2)
        correct = int(members[order[-half:]].sum() + (~members[order[:half]]).sum())
        tries.append(Guesses(len(scores), 2 * half, correct))
    bounds = [guesses.epsilon(delta, each) for guesses in tries]
    ceilings = [replace(guesses, correct=guesses.made).epsilon(delta, each) for guesses in tries]
    best = int(np.argmax(bounds))
    return OneRun(bounds[best], max(ceilings), tries[best])


def gaussian_mu(false_positives: int, false_negatives: int, draws: int, confidence: float) -> float:
    """Return the largest mu whose mu-GDP the errors of a test refute; 0 when they refute none.

    The test saw ``draws`` independent releases with the record and as many without. A mechanism
    that is mu-GDP has Phi^-1(1 - FPR) - Phi^-1(FNR) <= mu (Nasr et al. 2023, "Tight Auditing of
    Differentially Private Machine Learning", section 4; the rates by Clopper and Pearson).
    """
    highest = [
        float(beta.ppf(1 - (1 - confidence) / 2, errors + 1, draws - errors))
        if errors < draws
        else 1.0
        for errors in (false_positives, false_negatives)
    ]
    return max(0.0, float(norm.isf(highest[0]) - norm.ppf(highest[1])))


def gaussian_epsilon(mu: float, delta: float) -> float:
    """Return epsilon at ``delta`` of a mu-GDP mechanism (Dong, Roth and Su 2022, Corollary 1)."""
    if mu <= 0:
        return 0.0

    def excess(epsilon: float) -> float:
        below = norm.logcdf(-epsilon / mu - mu / 2)
        return float(norm.cdf(-epsilon / mu + mu / 2) - np.exp(epsilon + below)) - delta

    most = mu * mu / 2 + mu * float(norm.isf(delta))  # The tail of the privacy loss alone.
    return 0.0 if excess(0.0) <= 0 else float(brentq(excess, 0.0, most, xtol=1e-9))
