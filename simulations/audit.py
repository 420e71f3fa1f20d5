"""The privacy audit: what attacks on the real code prove about epsilon, beside what is claimed."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from torch.nn.functional import binary_cross_entropy_with_logits

from client.data import Examples, Splits
from common.entropy import SeededEntropy, Stream
from common.model import Network
from common.plan import TRAIN_SHARE, Plan, plan_from_dict
from common.privacy.budgets import training_mechanism
from common.privacy.noise import poisson_sample
from server.model import GlobalModel
from simulations.bounds import OneRun, gaussian_epsilon, one_run
from simulations.canaries import craft
from simulations.dirac import audit_step
from simulations.inputs import Federation
from simulations.observer import honest_names, observe, scores
from simulations.run import Run, simulate
from simulations.traps import trap_weights, traps

ATTACKS = ("canaries", "final model", "one step")
"""What is done, one after another."""

BOUNDS = 4
"""Bounds that share 1 - confidence, so that all bounds hold together."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A lower bound on epsilon beside the claim; None claims nothing.

    ``ceiling`` is the largest bound the attack could have given; None where nothing limits it.
    """

    attack: str
    claim: float | None
    bound: float
    ceiling: float | None
    detail: str

    @property
    def exceeds(self) -> bool:
        """Whether the claim is refuted."""
        return self.claim is not None and self.bound > self.claim

    @property
    def verdict(self) -> str:
        """What the finding says of the claim, in words."""
        if self.claim is None:
            return "nothing is claimed"
        if self.exceeds:
            return "EXCEEDED"
        reachable = self.ceiling is None or self.ceiling > self.claim
        return "not exceeded" if reachable else "not exceeded (out of reach)"


@dataclass(frozen=True, slots=True)
class Strength:
    """How hard an audit tries, and the confidence with which all its bounds hold together."""

    canaries: int = 128
    draws: int = 100_000
    confidence: float = 0.95

    @property
    def each(self) -> float:
        """The confidence of a single attack's bounds."""
        return 1 - (1 - self.confidence) / BOUNDS


def audit(
    federation: Federation,
    seed: int,
    strength: Strength,
    watch: Callable[[int, str], None] = lambda done, name: None,
) -> list[Finding]:
    """Attack an institution's real training code, one step of it, and a whole run's model.

    ``watch`` is told how many of `ATTACKS` are done, and which one begins.
    The institution that declares the fewest rows is the target: there a record weighs most.
    """
    fields = federation.plan.to_dict()
    # The same vectors without masks: those who side with the server could take them off.
    fields["aggregation"]["kind"] = "plain"
    plan = plan_from_dict(fields, "the audited plan")
    target = min(plan.institutions, key=lambda one: (one.size, one.name)).name
    stream = SeededEntropy(seed, "audit").stream("step")
    attacks: tuple[Callable[[], list[Finding]], ...] = (
        lambda: [_canaries(plan, target, federation.splits, seed, strength)],
        lambda: [_membership(plan, federation.splits, seed, strength)],
        lambda: _step(plan, target, strength, stream),
    )
    findings = []
    for done, (name, attack) in enumerate(zip(ATTACKS, attacks, strict=True)):
        watch(done, name)
        findings += attack()
    return findings


def summary_of(
    plan: Plan, findings: list[Finding], seed: int, strength: Strength
) -> dict[str, Any]:
    """Return what ``audit.json`` holds."""
    return {
        "passed": not any(finding.exceeds for finding in findings) if _claim(plan) else None,
        "epsilon": plan.privacy.epsilon,
        "delta": plan.privacy.delta,
        **asdict(strength),
        "findings": [asdict(one) | {"verdict": one.verdict} for one in findings],
        "seed": seed,
        "plan_sha256": plan.digest(),
    }


def _claim(plan: Plan) -> float | None:
    return None if plan.privacy.epsilon == "none" else plan.privacy.epsilon


def _canaries(
    plan: Plan, target: str, splits: Mapping[str, Splits], seed: int, strength: Strength
) -> Finding:
    honest = honest_names(plan, target)
    known = np.concatenate([splits[name].train.features for name in honest])
    count = min(strength.canaries, traps(plan) or strength.canaries)
    stream = SeededEntropy(seed, "audit").stream("canaries")
    canaries = craft(plan.schema_, count, known, stream)
    weights = trap_weights(plan, canaries)
    planted = {**splits, target: canaries.planted(splits[target], plan.customer_cap)}
    seen = observe(plan, target, planted, weights, seed)
    told = scores(plan, canaries, weights, seen)
    found = one_run(told, canaries.members, plan.privacy.delta, strength.each)
    return _guessed("canaries", plan, found, told, canaries.members)


def _membership(plan: Plan, splits: Mapping[str, Splits], seed: int, strength: Strength) -> Finding:
    """Guess from the final model's loss which ordinary rows it was trained on.

    A row's hash, or its customer's, put it among the training rows or kept it out. Of the
    training rows, so many are looked at that a row looked at is one of them with chance one half;
    of a customer, who is in or out with all rows, one row is.
    """
    run = Run(plan)
    simulate(run, splits, seed)
    stream = SeededEntropy(seed, "audit").stream("rows")
    rate = (1 - TRAIN_SHARE) / TRAIN_SHARE
    told, members = [], []
    for part in splits.values():
        inside = -_losses(run.final, plan, part.train)
        inside = inside[poisson_sample(len(inside), rate, stream)]
        outside = [-_losses(run.final, plan, rows) for rows in (part.validation, part.test)]
        told += [inside, *outside]
        members += [np.ones(len(inside), np.bool_), *(np.zeros(len(o), np.bool_) for o in outside)]
    everyone, coins = np.concatenate(told), np.concatenate(members)
    found = one_run(everyone, coins, plan.privacy.delta, strength.each)
    return _guessed("final model", plan, found, everyone, coins)


def _losses(model: GlobalModel, plan: Plan, rows: Examples) -> NDArray[np.float64]:
    network = Network(plan.model, plan.schema_.width)
    network.load(model.weights, model.mask)
    with torch.no_grad():
        logits, labels = network(torch.from_numpy(rows.features)), torch.from_numpy(rows.labels)
        losses = binary_cross_entropy_with_logits(logits, labels, reduction="none")
    found: NDArray[np.float64] = losses.double().numpy()
    return found if rows.customers is None else found[_firsts(rows.customers)]


def _firsts(customers: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return the place of each customer's first row."""
    return np.unique(customers, return_index=True)[1]


def _guessed(
    attack: str, plan: Plan, found: OneRun, told: NDArray[np.float64], members: NDArray[np.bool_]
) -> Finding:
    guesses = found.guesses
    detail = (
        f"{guesses.correct} of {guesses.made} guesses right, {guesses.canaries} coins,"
        f" attack AUC {roc_auc_score(members, told):.3f}"
    )
    return Finding(attack, _claim(plan), found.epsilon, found.ceiling, detail)


def _step(plan: Plan, target: str, strength: Strength, stream: Stream) -> list[Finding]:
    """Audit a step of a whole network and of a pruned one, and price a run of the worse."""
    multiplier = training_mechanism(plan).noise_multiplier
    claim = gaussian_epsilon(1 / multiplier, plan.privacy.delta) if multiplier else None
    findings, audits = [], []
    for name, pruned in (("one step", False), ("one step, pruned", True)):
        found = audit_step(plan, target, strength.draws, strength.each, stream, pruned=pruned)
        wrong = found.false_positives + found.false_negatives
        detail = f"{wrong:,} of {2 * found.draws:,} draws taken for their opposite"
        findings.append(Finding(name, claim, found.epsilon, None, detail))
        audits.append(found)
    worse = max(audits, key=lambda found: found.mu)
    most = f"noise at most {1 / worse.mu:.3f}" if worse.mu else "any noise is possible"
    claimed = f"{most} times a record's effect, {multiplier:.3f} claimed"
    run = Finding("run of such steps", _claim(plan), worse.run_epsilon, None, claimed)
    return [*findings, run]
