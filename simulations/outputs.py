"""What a simulation leaves behind: the summary, and the curves as a picture."""

from collections.abc import Mapping
from io import StringIO
from math import isfinite, nan
from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from client.data import Splits
from common.facts import facts_of
from common.privacy.budgets import learning_rate, training_mechanism
from common.segments import TEST, count_names
from server.evaluation import Estimate
from server.groups import apart, worst
from server.tables import GROUP_COLUMNS, GROUPS, METRICS, ROUNDS
from simulations.baselines import Baseline
from simulations.run import Run, exact_metrics


def summarise(
    run: Run, splits: Mapping[str, Splits], seed: int, seconds: float, baselines: list[Baseline]
) -> dict[str, Any]:
    """Return the summary of a run; bytes are per institution, all trips of a round.

    ``auc``, ``pr_auc`` and ``ks`` are exact on the pooled test rows, which only a simulator sees;
    ``auc_private`` and its like are what the server computed from the sums, each with the
    standard deviation of the noise in them (None until the last round); so is what stands under
    ``groups``, for each protected group and pool. ``guard`` is its last verdict.
    """
    plan, model = run.plan, run.final
    returns = plan.pruning.guard == "step_back"
    test = {name: part.test for name, part in splits.items()}
    exact = exact_metrics(model, plan, test)
    # Where the guard returned to an earlier model, these counts are not of the one delivered.
    released = [
        report.estimates
        for report in run.reports
        if TEST in report.counts and not (returns and report.verdict and report.verdict.fell)
    ]
    # A lost round moved no full vector, so it says nothing of the model's size.
    trained = [r for r in run.reports if r.round < plan.training.rounds and r.survivors]
    private = plan.privacy.epsilon != "none"
    summary = {
        "auc": exact.auc,
        **_private(released[-1][TEST] if released else None),
        "pr_auc": exact.pr_auc,
        "ks": exact.ks,
        "epsilon": run.epsilon if private else "none",
        "epsilon_if_others_collude": run.abandoned_epsilon if private else "none",
        **_by_group(run, released[-1] if released else {}),
        "sparsity": 1 - model.kept / model.mask.size,
        "weights_total": model.mask.size,
        "weights_kept": model.kept,
        "rounds": run.finished,
        "bytes_up_first_round": trained[0].bytes_up if trained else None,
        "bytes_up_last_round": trained[-1].bytes_up if trained else None,
        "seconds": seconds,
        **facts_of(plan),
        "noise_multiplier": training_mechanism(plan).noise_multiplier,
        "delta": plan.privacy.delta,
        "learning_rate": learning_rate(plan),
        "seed": seed,
        "plan_sha256": plan.digest(),
    }
    for baseline in baselines:
        summary[f"auc_{baseline.name}"] = baseline.auc
        summary[f"pr_auc_{baseline.name}"] = baseline.pr_auc
        summary[f"ks_{baseline.name}"] = baseline.ks
        summary[f"learning_rate_{baseline.name}"] = baseline.learning_rate
        summary[f"weights_{baseline.name}"] = baseline.weights
    return summary


def _private(released: Estimate | None) -> dict[str, float | None]:
    shown: dict[str, float | None] = {}
    for name, field in METRICS.items():
        for end, found in (("", released and released.value), ("_sd", released and released.sd)):
            number = getattr(found, field) if found else nan
            shown[f"{name}_private{end}"] = number if isfinite(number) else None
    return shown


def _by_group(run: Run, released: Mapping[str, Estimate]) -> dict[str, Any]:
    """Return ROC-AUC on test rows by group and pool, who fares worst, the guard's last verdict."""
    seen = apart(released, TEST)
    shown = {}
    for name in count_names(run.plan, TEST)[1:]:
        group = name.removeprefix(f"{TEST}/")
        known = _private(seen.get(group))
        shown[group] = {"auc": known["auc_private"], "auc_sd": known["auc_private_sd"]}
    verdicts = [report.verdict for report in run.reports if report.verdict is not None]
    return {
        "groups": shown,
        "worst_group": worst(seen),
        "guard": str(verdicts[-1]) if verdicts else None,
    }


PANELS = ("ROC-AUC", "sparsity, %", "kB up per institution")


def rounds_of(directory: Path) -> pd.DataFrame:
    """Return the rounds of a run, as its ``rounds.csv`` has them; NaN is what was not released."""
    return pd.read_csv(directory / ROUNDS)


def groups_of(directory: Path) -> pd.DataFrame:
    """Return its ``groups.csv``; without groups and pools it has no rows."""
    file = directory / GROUPS
    return pd.read_csv(file) if file.exists() else pd.DataFrame(columns=GROUP_COLUMNS)


def figure_of(rounds: pd.DataFrame, summary: Mapping[str, Any]) -> Figure:
    """Return AUC, sparsity and bytes by round, as a figure that a telephone can show."""
    figure = Figure(figsize=(5, 7.5), layout="constrained")
    auc, sparsity, traffic = figure.subplots(3, 1, sharex=True, height_ratios=(3, 2, 2))
    reports = rounds[rounds["survivors"] > 0]
    evaluated = reports[reports["auc_validation"].notna()]
    if len(evaluated):
        # The bars are one standard deviation of the evaluation's own noise.
        seen, sd = evaluated["auc_validation"], evaluated["auc_validation_sd"]
        bars = (seen - (seen - sd).clip(lower=0), (seen + sd).clip(upper=1) - seen)
        label = "validation, from the sums"
        auc.errorbar(evaluated["round"], seen, bars, fmt="o-", capsize=3, label=label)
    auc.plot([summary["rounds"]], [summary["auc"]], "D", color="C3", label="test, exact")
    for index, name in enumerate(("logistic", "dense")):
        if f"auc_{name}" in summary:
            level = summary[f"auc_{name}"]
            auc.axhline(level, color="grey", ls=("--", ":")[index], label=f"test, {name}")
    auc.legend(fontsize=9)
    # What comes after the last round of training is an evaluation alone.
    trained = reports[reports["round"] < summary["rounds"]]
    sparsity.plot(trained["round"], 100 * trained["sparsity"], color="C1")
    sparsity.set_ylim(-2, 102)
    traffic.plot(trained["round"], trained["bytes_up"] / 1000, color="C2")
    traffic.set_ylim(bottom=0)
    for axes, title in zip((auc, sparsity, traffic), PANELS, strict=True):
        axes.set_title(title)
        axes.tick_params(labelbottom=True)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    traffic.set_xlabel("round")
    return figure


def curves(rounds: pd.DataFrame, summary: Mapping[str, Any]) -> str:
    """Return the same as an SVG, whose bytes follow from what it shows."""
    with matplotlib.rc_context(
        {"svg.hashsalt": "fedprune", "font.size": 10, "svg.fonttype": "path"}
    ):
        drawing = StringIO()
        figure_of(rounds, summary).savefig(drawing, format="svg", metadata={"Date": None})
    return drawing.getvalue()
