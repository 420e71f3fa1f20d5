"""The tests of the validation: each asks one thing, and says what it is held to.

What lies beyond a bound by no more than noise explains passes, unless the noise hides more than
`BLIND`: then nobody has seen whether it holds.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import hypot
from typing import Final

import numpy as np

from common.facts import warnings_of
from common.release.manifest import FILES
from common.segments import VALIDATION
from server.evaluation import CONFIDENCE
from server.model_file.agreed import lost, recorded
from server.model_file.catalogue import (
    AUDITED,
    BASELINES,
    BLIND,
    COMPARED,
    ENOUGH,
    EVALUATED,
    FINISHED,
    GROUPED,
    OWNER,
    RELEASED,
    UNPRUNED,
)
from server.model_file.found import auc_of, last_groups, last_metric, part_of_both
from server.model_file.records import Records
from server.model_file.shapes import Check, Outcome
from server.report.files import Cells, numbers
from server.report.story import SIMULATED

ROUNDING: Final = 1e-6
"""Of an accountant's epsilon against the plan's."""


@dataclass(frozen=True, slots=True)
class Finding:
    """How a test came out; one that could not be made says in ``found`` what would make it."""

    outcome: Outcome
    found: str
    threshold: str = ""


Test = Callable[[Records], Finding]
TESTS: dict[str, tuple[str, str, Test]] = {}
"""By key: title, question, and what answers it."""


def asks(key: str, title: str, question: str) -> Callable[[Test], Test]:
    """Return a decorator that files a test."""

    def add(test: Test) -> Test:
        TESTS[key] = (title, question, test)
        return test

    return add


def checks_of(records: Records) -> dict[str, Check]:
    """Return every test's outcome on a run."""
    checks = {}
    for key, (title, question, test) in TESTS.items():
        found = test(records)
        checks[key] = Check(
            title=title,
            asks=question,
            outcome=found.outcome,
            found=found.found,
            threshold=found.threshold,
        )
    return checks


def _held(holds: bool, found: str, threshold: str, hidden: float = 0.0) -> Finding:
    """Return how a test came out whose noise has ``hidden`` so much: too much is no pass."""
    if hidden:
        threshold += f"; noise that hides {BLIND:g} at most"
        found += f"; noise hides {hidden:.4f}"
    return Finding("pass" if holds and hidden <= BLIND else "attention", found, threshold)


def _lacking(remedy: str) -> Finding:
    return Finding("missing", f"Needs {remedy}.")


def _with_sd(value: float, sd: float | None) -> str:
    return f"{value:.4f}" + (f", sd of noise {sd:.4f}" if sd else "")


def _loss(records: Records) -> float:
    """Return how much ROC-AUC pruning may cost."""
    said = records.owner.thresholds.loss
    return records.run.plan.pruning.tolerance if said is None else said


@asks("finished", "The run is whole", "Are all rounds over, and few of them lost?")
def _finished(records: Records) -> Finding:
    run, most = records.run, records.owner.thresholds.lost_rounds
    done, whole = run.finished, run.plan.training.rounds
    share = lost(run) / done if done else 0.0
    return _held(
        done == whole and share <= most,
        f"{done} of {whole} rounds, {lost(run)} lost",
        f"all rounds, at most {most:.0%} of them lost",
    )


@asks("discrimination", "It tells the classes apart", "Is ROC-AUC high enough, noise allowed for?")
def _discrimination(records: Records) -> Finding:
    value, sd = last_metric(records.run, "auc")
    if value is None:
        return _lacking(EVALUATED)
    least = records.owner.thresholds.least_auc
    return _held(
        value - CONFIDENCE * (sd or 0) >= least,
        _with_sd(value, sd),
        f"ROC-AUC less two sd of noise at {least:g} or more",
    )


@asks("dense", "Pruning cost little", "How much less ROC-AUC than a dense model trained alike?")
def _dense(records: Records) -> Finding:
    found = _exactly(records, "dense")
    if found is not None or records.dense is None:
        return found or _lacking(f"{BASELINES}; or {UNPRUNED}")
    part = part_of_both(records.run, records.dense)
    mine, theirs = (last_metric(one, "auc", part) for one in (records.run, records.dense))
    if mine[0] is None or theirs[0] is None:
        return _lacking(EVALUATED)
    hidden, most = CONFIDENCE * hypot(mine[1] or 0, theirs[1] or 0), _loss(records)
    return _held(
        theirs[0] - mine[0] <= most + hidden,
        f"{mine[0]:.4f} against {theirs[0]:.4f}, both from noised counts of {part} rows",
        f"at most {most:g} and two sd of noise below",
        hidden,
    )


@asks("logistic", "The network is needed", "Is it no worse than a logistic regression?")
def _logistic(records: Records) -> Finding:
    return _exactly(records, "logistic") or _lacking(BASELINES)


def _exactly(records: Records, rival: str) -> Finding | None:
    """Hold the model against one trained alike, by exact figures of one seed, or else of many."""
    summary, study, most = records.run.summary, records.study, _loss(records)
    if f"auc_{rival}" in summary:
        mine, theirs, of = summary["auc"], summary[f"auc_{rival}"], "exact on test rows"
    elif study is not None and rival in study.models:
        (mine, _), (theirs, _) = study.spread(), study.spread(rival)
        of = f"means of {len(study.seeds)} simulated seeds"
    else:
        return None
    return _held(
        theirs - mine <= most, f"{mine:.4f} against {theirs:.4f}, {of}", f"at most {most:g} below"
    )


@asks("steps", "No step of pruning broke it", "Did ROC-AUC fall between two evaluations?")
def _steps(records: Records) -> Finding:
    run, most = records.run, _loss(records)
    value, sd = (run.column(f"auc_{VALIDATION}{end}") for end in ("", "_sd"))
    known = np.flatnonzero(np.isfinite(value))
    if known.size < 2:
        return _lacking(EVALUATED)
    value, sd = value[known], np.nan_to_num(sd[known])
    falls, noise = value[:-1] - value[1:], CONFIDENCE * np.hypot(sd[:-1], sd[1:])
    at = int(np.argmax(falls - noise))
    rounds = [int(number) for number in run.number[known][at : at + 2]]
    return _held(
        bool(falls[at] - noise[at] <= most),
        f"{0 - falls[at]:+.4f} from round {rounds[0]} to {rounds[1]}, the one nearest the bound",
        f"a fall of at most {most:g} and two sd of noise",
        float(noise.max()),
    )


@asks("calibration", "Scores are probabilities", "How far are scores from shares of positives?")
def _calibration(records: Records) -> Finding:
    value, sd = last_metric(records.run, "calibration")
    if value is None:
        return _lacking(EVALUATED)
    most = records.owner.thresholds.calibration
    return _held(
        value - CONFIDENCE * (sd or 0) <= most,
        _with_sd(value, sd),
        f"calibration error less two sd of noise at most {most:g}",
        CONFIDENCE * (sd or 0),
    )


@asks("groups", "No group is served far worse", "How far is the worst group's ROC-AUC below all?")
def _groups(records: Records) -> Finding:
    rows, overall = _known(records), last_metric(records.run, "auc")[0]
    if not rows or overall is None:
        return _lacking(GROUPED)
    most = records.owner.thresholds.group_gap
    gaps = [overall - auc_of(row) - CONFIDENCE * auc_of(row, "_sd") for row in rows]
    worst = rows[int(np.argmax(gaps))]
    return _held(
        max(gaps) <= most,
        f"{worst['group']}: {_with_sd(auc_of(worst), auc_of(worst, '_sd'))}; all {overall:.4f}",
        f"at most {most:g} and two sd of noise below",
        CONFIDENCE * max(auc_of(row, "_sd") for row in rows),
    )


@asks("group_calibration", "Scores mean the same for each group", "How far off is the worst group?")
def _group_calibration(records: Records) -> Finding:
    rows = [row for row in _known(records) if row["calibration"]]
    if not rows:
        return _lacking(GROUPED)
    most = records.owner.thresholds.group_calibration
    error, sd = (np.nan_to_num(numbers(rows, f"calibration{end}")) for end in ("", "_sd"))
    at = int(np.argmax(error - CONFIDENCE * sd))
    return _held(
        bool(error[at] - CONFIDENCE * sd[at] <= most),
        f"{rows[at]['group']}: {_with_sd(error[at], sd[at])}",
        f"calibration error less two sd of noise at most {most:g}",
        CONFIDENCE * float(sd.max()),
    )


def _known(records: Records) -> list[Cells]:
    return [row for row in last_groups(records.run) if row["auc"]]


@asks("watched", "Every group can be told from noise", "Is any group's ROC-AUC unknown?")
def _watched(records: Records) -> Finding:
    rows = last_groups(records.run)
    if not rows:
        return _lacking(GROUPED)
    hidden = [row["group"] for row in rows if not row["auc"]]
    return _held(not hidden, f"unknown: {', '.join(hidden) or 'none'}", "none unknown")


@asks("seeds", "Another seed gives as good a model", "How far does ROC-AUC spread over seeds?")
def _seeds(records: Records) -> Finding:
    if records.study is None:
        return _lacking(COMPARED)
    (mean, sd), seeds = records.study.spread(), len(records.study.seeds)
    most = records.owner.thresholds.seed_sd
    return _held(
        sd <= most and seeds >= ENOUGH,
        f"sd {sd:.4f} around {mean:.4f}, {seeds} seeds",
        f"sd of at most {most:g}, over {ENOUGH} seeds or more",
    )


@asks("budget", "The budget was kept", "Is no more epsilon spent than was planned?")
def _budget(records: Records) -> Finding:
    planned, spent = records.run.plan.privacy.epsilon, recorded(records.run, "epsilon")
    if spent is None:
        return _lacking(FINISHED)
    if planned == "none" or spent == "none":
        return Finding("attention", "NO differential privacy", "a planned epsilon")
    return _held(spent <= planned + ROUNDING, f"epsilon {spent:.4f}", f"planned: {planned:g}")


@asks("protected", "Records were protected", "Is nothing open that only research may leave open?")
def _protected(records: Records) -> Finding:
    found = warnings_of(records.run.plan) + [SIMULATED] * records.run.simulated
    return _held(not found, "; ".join(found) or "nothing is open", "no warning")


@asks("audit", "Attacks do not refute epsilon", "Does any lower bound exceed the claim?")
def _audit(records: Records) -> Finding:
    findings = () if records.audit is None else records.audit["findings"]
    if not findings:
        return _lacking(AUDITED)
    unclaimed = [one["attack"] for one in findings if one["claim"] is None]
    above = [
        one["attack"]
        for one in findings
        if one["claim"] is not None and one["bound"] > one["claim"]
    ]
    told = f"{len(findings)} attacks; " + (
        f"nothing is claimed: {', '.join(unclaimed)}"
        if unclaimed and not above
        else f"beyond the claim: {', '.join(above) or 'none'}"
    )
    return _held(not above and not unclaimed, told, "a claim, and none beyond it")


@asks("signed_off", "Institutions signed it off", "Is the release final, and nobody against it?")
def _signed_off(records: Records) -> Finding:
    if records.released is None:
        return _lacking(RELEASED)
    standing = records.released.standing
    return _held(
        standing.state == "final" and not standing.objected,
        f"{standing.state}; {len(standing.signed)} signed off, {len(standing.objected)} objected,"
        f" {len(standing.silent)} not heard",
        f"final by {standing.quorum} sign-offs, no objection",
    )


@asks("files", "What was released is what the run made", "Are the files those of the manifest?")
def _files(records: Records) -> Finding:
    if records.released is None:
        return _lacking(RELEASED)
    known, here = records.released.manifest.files, records.run.hashes
    other = [name for name in FILES if here.get(name) != known[name].sha256]
    return _held(not other, f"others: {', '.join(other) or 'none'}", "each of them, by SHA-256")


@asks("owner", "Its owner says what it is for", "Are purpose, owner, validator and limits told?")
def _owner(records: Records) -> Finding:
    needed = ("intended_purpose", "out_of_scope", "owner", "validator", "oversight")
    open_ = [name for name in needed if not getattr(records.owner, name)]
    if len(open_) == len(needed):
        return _lacking(OWNER)
    told = ", ".join(open_).replace("_", " ") or "nothing"
    return _held(not open_, f"not told: {told}", "all five told")
