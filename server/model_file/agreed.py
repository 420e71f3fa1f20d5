"""What a plan and the run's own notes say of a model: what it is, its data, training, privacy."""

from collections import Counter
from typing import Any

import numpy as np

from common.consent.words import SEEN_BY_MEMBERS, leaving, seen_by_server
from common.facts import facts_of
from common.plan import TRAIN_SHARE, Plan
from common.release.manifest import schema_hash
from common.schema import NumericColumn, token
from server.model_file.records import Records
from server.model_file.shapes import Grid, Value
from server.report.files import RunFiles
from server.tables import MODEL

Values = dict[str, Value | None]
"""Facts by the keys of their chapter; None, or a key that is not there, is a missing one."""

SAID = (
    *("intended_purpose", "decisions", "users", "population", "out_of_scope", "owner"),
    *("developer", "validator", "materiality", "risk_class", "oversight"),
)
"""What of its purpose only the owner can say."""


def recorded(run: RunFiles, name: str) -> Any:
    """Return what ``facts.json`` or the summary says of a run; None if neither does."""
    return run.facts.get(name, run.summary.get(name))


def lost(run: RunFiles) -> int:
    """Return how many of them are without a sum."""
    trained = run.number < run.plan.training.rounds
    return int((run.column("survivors")[trained] == 0).sum())


def identity(records: Records) -> Values:
    """Tell which model this is."""
    run, released = records.run, records.released
    return {
        "name": run.plan.name,
        "kind": "simulated from a seed: it protects nobody" if run.simulated else "federated",
        "complete": f"{run.finished} of {run.plan.training.rounds}",
        "run": run.began.get("run"),
        "plan_hash": run.plan.digest(),
        "roster_hash": run.began.get("roster") or None,
        "model_hash": run.hashes.get(MODEL),
        "released_on": None if released is None else _day(released.manifest.made),
    }


def purpose(records: Records) -> Values:
    """Tell what the score means, and what its owner says it is for."""
    label, owner = records.run.plan.schema_.label, records.owner
    return {
        "outcome": f"whether {label.column} is {label.positive}, and not {label.negative}",
        "output": "a logit, and a score between 0 and 1: the higher, the likelier that outcome",
        **{name: getattr(owner, name) for name in SAID},
    }


def data(records: Records) -> Values:
    """Tell what a table holds by the schema, and where the owner says it is from."""
    plan, owner = records.run.plan, records.owner
    schema = plan.schema_
    ratios = tuple(
        f"{one.name}: {one.numerator} / {one.denominator}, clipped to {one.lo:g} to {one.hi:g}"
        for one in schema.ratios
    )
    held = round(100 * TRAIN_SHARE)
    return {
        "schema": schema.name,
        "schema_hash": schema_hash(plan),
        "inputs": schema.width,
        "columns": _columns(plan),
        "ratios": ratios or "none",
        "protected": schema.protected or "none",
        "duplicates": {"keep": "kept", "drop": "left out"}[schema.duplicates],
        "split": f"by a hash of the row: {held} % train, 8 % validation, 20 % test",
        "institutions": Grid(
            columns=("institution", "declared rows"),
            rows=tuple((one.name, one.size) for one in plan.institutions),
        ),
        "data_source": owner.data_source,
        "data_period": owner.data_period,
        "outcome_window": owner.outcome_window,
    }


def training(records: Records) -> Values:
    """Tell how the weights came about."""
    run = records.run
    plan, began = run.plan, bool(run.rounds)
    model, steps = plan.model, plan.training
    hidden = "" if model.kind == "logistic" else f", hidden layers {_widths(model.hidden)}"
    kind = plan.optimiser
    server = f"{kind.kind} at the server, momentum {kind.momentum:g}"
    return {
        "architecture": f"{model.kind}{hidden}; {model.activation}; {plan.schema_.width} inputs",
        "weights": None if run.model is None else run.model.layout.size,
        "rounds": steps.rounds,
        "lost": lost(run) if began else None,
        "batches": f"{steps.steps} local steps a round, each row with chance {steps.sample_rate:g}",
        "learning_rate": recorded(run, "learning_rate"),
        "clipping": plan.privacy.max_grad_norm,
        "optimiser": server if plan.privacy.noise == "shared" else "averages of local steps",
        "aggregation": (
            f"{plan.aggregation.kind}, threshold {plan.threshold} of {len(plan.names)},"
            f" {plan.aggregation.colluders} colluders withstood"
            if plan.aggregation.kind == "secure"
            else "PLAIN: the server sees every institution's update"
        ),
        "attendance": _attendance(run),
    }


def privacy(records: Records) -> Values:
    """Tell budgets, what left whom, and what attacks found."""
    run, facts = records.run, facts_of(records.run.plan)
    audit = records.audit
    return {
        "planned_epsilon": run.plan.privacy.epsilon,
        "spent_epsilon": recorded(run, "epsilon"),
        "epsilon_if_others_collude": recorded(run, "epsilon_if_others_collude"),
        "delta": run.plan.privacy.delta,
        "unit": facts["unit"],
        "held_by_many": facts["held_by_many"],
        "accountant": run.plan.privacy.accountant,
        "noise": f"{facts['noise']}, {facts['noise_source']}",
        "noise_multiplier": recorded(run, "noise_multiplier"),
        "evaluation": facts["evaluation"],
        "leaves": leaving(run.plan),
        "server_sees": seen_by_server(run.plan),
        "members_see": SEEN_BY_MEMBERS,
        "audit": None
        if audit is None or not audit["findings"]
        else Grid(
            columns=("attack", "claimed epsilon", "lower bound", "verdict"),
            rows=tuple(
                (one["attack"], one["claim"], one["bound"], one["verdict"])
                for one in audit["findings"]
            ),
        ),
    }


def _columns(plan: Plan) -> Grid:
    rows = []
    for column in plan.schema_.columns:
        if isinstance(column, NumericColumn):
            holds = f"{column.lo:g} to {column.hi:g}" + ", log" * column.log
            holds += f"; codes {', '.join(map(token, column.codes))}" if column.codes else ""
            beyond = column.outside
        else:
            holds, beyond = ", ".join(map(token, column.values)), "refuse"
        rows.append((column.name, column.kind, holds, beyond, column.missing, column.encoded))
    heads = ("column", "kind", "holds", "what is beyond", "what is missing", "input")
    return Grid(columns=heads, rows=tuple(rows))


def _attendance(run: RunFiles) -> Grid | None:
    """Count in how many rounds each institution's vector is; the server sees that anyway."""
    counted = [names for names in run.survivors.values() if names]
    if not counted:
        return None
    seen = Counter(name for names in counted for name in names)
    return Grid(
        columns=("institution", "rounds", "absent"),
        rows=tuple((name, seen[name], len(counted) - seen[name]) for name in run.plan.names),
    )


def _widths(hidden: tuple[int, ...]) -> str:
    return " and ".join(map(str, hidden))


def _day(moment: int) -> str:
    return str(np.datetime64(moment, "s").astype("datetime64[D]"))
