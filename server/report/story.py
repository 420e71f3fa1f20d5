"""A run as it is told: the headline, then how it came about, what protects it, how to repeat it."""

from pathlib import Path

import numpy as np

from common.consent.words import SEEN_BY_MEMBERS, leaving, seen_by_server
from common.facts import facts_of, pruning_of, warnings_of
from common.schema import EMBEDDED, load_schema
from common.segments import TEST, VALIDATION
from server.report import costs, quality
from server.report.files import RunFiles, read_run
from server.report.quality import NO_RIVALS, TITLES
from server.report.shapes import Card, Report, Section, Table, Text
from server.tables import LATENCY

SIMULATED = "Simulated from a seed, so it protects nobody: the same code under a CSPRNG does."
CUT_SHORT = "The run ended before its last round: what stands here is of the finished rounds."
UNKNOWN = "not recorded"

PROCESSING = (
    "Everything in this report is computed from sums over institutions that carry their noise, from"
    " the model, which carries it too, and from what the server sees anyway: who took part, bytes"
    " and seconds. That is post-processing, and costs no record any more privacy."
)
EXACT = (
    "What is called exact was computed on pooled test rows, which only a simulation can see: no"
    " deployed run has such figures, and nothing protects them."
)


def report_of(directory: Path) -> Report:
    """Return the report of the run in ``directory``.

    Raises `ConfigError` when it holds no run, or a file that no run wrote so.
    """
    return told(read_run(directory))


def told(run: RunFiles) -> Report:
    """Return the report of a run that was read."""
    plan, done = run.plan, run.finished
    kind = "simulated" if run.simulated else "federated"
    warnings = list(warnings_of(plan))
    if run.simulated:
        warnings.append(SIMULATED)
    if done < plan.training.rounds:
        warnings.append(CUT_SHORT)
    return Report(
        plan.name,
        f"A {kind} run: {len(plan.names)} institutions, {done} of {plan.training.rounds} rounds,"
        f" a {plan.model.kind} model of {plan.schema_.name} with {plan.schema_.width} inputs;"
        f" pruned: {pruning_of(plan.pruning)}.",
        tuple(warnings),
        _cards(run),
        (
            _standings(run),
            quality.by_round(run),
            quality.against_sparsity(run),
            costs.survivors_of_pruning(run),
            quality.probabilities(run),
            quality.by_group(run),
            costs.budget(run),
            costs.course(run),
            _privacy(run),
            _plan(run),
            _again(run),
        ),
    )


def _standings(run: RunFiles) -> Section:
    missing = () if any(f"auc_{name}" in run.summary for name in quality.RIVALS) else (NO_RIVALS,)
    table = quality.standings(run)
    return Section(
        "Against dense and logistic", tables=(table,) * bool(table.rows), missing=missing
    )


def _cards(run: RunFiles) -> tuple[Card, ...]:
    cards = [_quality_card(run, metric) for metric in ("auc", "pr_auc", "ks")]
    pruned = 100 * run.column("sparsity")
    kept = run.column("weights_kept")
    if pruned.size:
        cards.append(Card("sparsity", f"{pruned[-1]:.1f} %", f"{kept[-1]:,.0f} weights left"))
    else:
        cards.append(Card("sparsity", UNKNOWN, "no round is finished"))
    spent = costs.epsilon_of(run)
    beside = "" if spent is None else f"{spent[1]} if all others collude"
    unit, planned = facts_of(run.plan)["unit"], facts_of(run.plan)["planned_epsilon"]
    cards.append(
        Card(
            f"epsilon a {unit.partition(',')[0]}",
            spent[0] if spent else f"{planned} planned",
            beside or "spent so far: not recorded",
        )
    )
    cards += [_bytes_card(run), _latency_card(run)]
    return tuple(cards)


def _quality_card(run: RunFiles, metric: str) -> Card:
    rivals = [
        f"{name} {run.summary[f'{metric}_{name}']:.4f}"
        for name in quality.RIVALS
        if f"{metric}_{name}" in run.summary
    ]
    beside = ", ".join(rivals) or "dense and logistic: not trained"
    counted = _counted(run, metric)
    if (exact := run.summary.get(metric)) is not None:
        seen = "" if counted is None else f"; by the {counted[0]} counts {counted[1]}"
        name = f"{TITLES[metric]}, exact on simulated test rows"
        return Card(name, f"{exact:.4f}", beside + seen)
    if counted is None:
        return Card(TITLES[metric], UNKNOWN, "no evaluation is finished")
    return Card(f"{TITLES[metric]}, {counted[0]} counts", counted[1], beside)


def _counted(run: RunFiles, metric: str) -> tuple[str, str] | None:
    """Return the rows that the server last knew a metric of, and the metric."""
    for part in (TEST, VALIDATION):
        value, sd = run.column(f"{metric}_{part}"), run.column(f"{metric}_{part}_sd")
        known = np.flatnonzero(np.isfinite(value))
        if known.size:
            return part, quality.with_sd(value[known[-1]], sd[known[-1]])
    return None


def _bytes_card(run: RunFiles) -> Card:
    found = costs.saved(run)
    if found is None:
        return Card("bytes saved", UNKNOWN, "no training round is finished")
    sent, unpruned = found
    beside = (
        f"{sent / 1e6:,.2f} of {unpruned / 1e6:,.2f} MB up an institution, had none been pruned"
    )
    return Card("bytes saved", f"{100 * (1 - sent / unpruned):.0f} %", beside)


def _latency_card(run: RunFiles) -> Card:
    took = {form: run.shrinkage.get(form, {}).get(LATENCY, {}) for form in ("compact", "dense")}
    rows = next((rows for rows in ("256", *took["compact"]) if rows in took["compact"]), None)
    if rows is None or rows not in took["dense"]:
        return Card("latency", UNKNOWN, "it is measured as a run ends")
    beside = f"{took['dense'][rows]:.3g} ms unpruned; onnxruntime, one thread"
    return Card(f"latency of {int(rows):,} records", f"{took['compact'][rows]:.3g} ms", beside)


def _privacy(run: RunFiles) -> Section:
    facts = facts_of(run.plan)
    told_ = [
        ("leaves an institution", leaving(run.plan)),
        ("server sees", seen_by_server(run.plan)),
        ("members see", SEEN_BY_MEMBERS),
        *((name.replace("_", " "), value) for name, value in facts.items()),
    ]
    words = (PROCESSING, EXACT) if run.simulated else (PROCESSING,)
    return Section("Privacy statement", words, tuple(told_))


def _plan(run: RunFiles) -> Section:
    facts = (("plan sha256", run.plan.digest()),)
    return Section("The plan", (), facts, texts=(Text("plan.toml, all of it", run.plan.to_toml()),))


def _again(run: RunFiles) -> Section:
    versions = run.facts.get("versions", {})
    facts = [(name, str(version)) for name, version in versions.items()]
    rows = tuple((name, digest) for name, digest in run.hashes.items())
    tables = (Table("Files of the run", ("file", "sha256"), rows),)
    missing = [] if versions else ["Versions of what it ran on: an earlier release wrote none."]
    command = "fedprune-sim run plan.toml"
    if run.plan.schema_ == load_schema(EMBEDDED):
        unless = "; without --data it is the embedded consortium"
    else:
        command, unless = f"{command} --data YOUR_TABLE", ""
    if run.simulated:
        seed = run.summary["seed"]
        words = (
            "The same plan, table, seed and versions on the same kind of processor give the same"
            " model, bit for bit.",
        )
        commands = f"{command} --seed {seed} --out again\n"
        commands += "sha256sum again/model.safetensors\n"
        missing.append(
            f"The table, its --partition and --dropout: name the same ones as then{unless}."
        )
    else:
        words = (
            "A deployed run has no seed, and nobody can repeat its noise: what can be checked is"
            " that these files are those of the run. A simulation of the same plan shows what to"
            " expect of it.",
        )
        commands = f"{command} --out rehearsal\n"
        missing.append(
            "The table: it never left the institutions. Name one that you may pool, and with"
            f" --partition how it is dealt{unless}."
        )
    texts = (Text("Commands, from the run's directory", commands),)
    return Section("How to reproduce", words, tuple(facts), tables, (), tuple(missing), texts)
