"""`fedprune-sim`: the whole federation on one machine, from a table to a pruned model."""

import json
import logging
import sys
import time
from contextlib import ExitStack
from math import nan
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from common.console import (
    DEBUG,
    INTERRUPTED,
    AsJson,
    command_line,
    errors,
    log_to_console,
    new_app,
    printable,
    tell_json,
    warn,
)
from common.facts import warnings_of
from server.model_file.cli import model_file
from server.report.cli import report
from simulations import options
from simulations.audit_cli import audit
from simulations.compare_cli import compare
from simulations.tune_cli import tune

app = new_app(
    "Simulate a federation: private training, secure sums, a pruned model.", "fedprune-sim"
)


BELOW = 0.02
"""ROC-AUC by which a model may fall short of what it is held against without a word."""


app.command()(audit)
app.command()(compare)
app.command()(tune)
app.command()(report)
app.command()(model_file)


@app.command()
def run(  # noqa: PLR0913, PLR0917  (a command's options are its parameters)
    plan: options.PlanFile = None,
    data: options.Data = None,
    schema: options.Schema = None,
    institutions: options.Institutions = None,
    partition: options.Partition = None,
    epsilon: options.Epsilon = None,
    unit: options.Unit = None,
    rows_per_customer: options.RowsPerCustomer = None,
    delta: options.Delta = None,
    sparsity: options.Sparsity = None,
    rounds: options.Rounds = None,
    aggregation: Annotated[
        str | None, typer.Option(help="secure, or plain for research [default: secure]")
    ] = None,
    seed: options.Seed = 0,
    dropout: Annotated[
        float, typer.Option(min=0, max=1, help="Chance that an institution leaves a round.")
    ] = 0.0,
    out: options.Out = None,
    baselines: Annotated[
        bool, typer.Option("--baselines/--no-baselines", help="Train logistic and dense too.")
    ] = True,
    engine: options.Engine = "inprocess",
    live: Annotated[
        bool, typer.Option("--live", help="Show the run in a browser as it goes on.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Train, aggregate and prune across simulated institutions.

    Options are shorthand: the effective plan is written beside the results. Ctrl-C keeps the
    finished rounds.
    """
    # Seconds of imports, which --help can do without and Ctrl-C must be able to end.
    import torch  # noqa: PLC0415

    from simulations.directory import claimed  # noqa: PLC0415
    from simulations.engine import engine_of  # noqa: PLC0415
    from simulations.execute import execute  # noqa: PLC0415
    from simulations.inputs import Options, assemble  # noqa: PLC0415
    from simulations.live import shown  # noqa: PLC0415

    started = time.monotonic()
    torch.set_num_threads(1)
    log_to_console()
    engine_of(engine)
    settings = options.settings_of(epsilon, delta, sparsity, rounds, unit, rows_per_customer)
    settings["aggregation", "kind"] = aggregation
    federation = assemble(Options(plan, data, schema, institutions, partition, seed, settings))
    warn(warnings_of(federation.plan))
    place = out or Path("runs") / f"{federation.plan.name}-seed{seed}"
    earlier = (place / "summary.json").is_file()
    with ExitStack() as page:
        with claimed(place) as directory:
            if earlier:
                errors.print(f"replaces the earlier run in {printable(str(place))}/", markup=False)
            if live:
                page.enter_context(shown(directory))
            summary = execute(
                federation, seed, dropout, directory, baselines=baselines, engine=engine, live=live
            )
        if as_json:
            tell_json(summary)
        else:
            _show(summary, directory, time.monotonic() - started)
    if summary["interrupted"]:
        sys.exit(INTERRUPTED)  # What is kept was told already.


def _show(summary: dict[str, Any], directory: Path, took: float) -> None:
    rounds = summary["rounds"]
    table = Table(title=f"{rounds} round{'s'[: rounds != 1]}, seed {summary['seed']}")
    for column in ("model", "ROC-AUC", "PR-AUC", "weights"):
        table.add_column(column, justify="left" if column == "model" else "right")
    total = summary["weights_total"]
    rows = {
        f"pruned {summary['sparsity']:.1%}": ("", summary["weights_kept"]),
        "dense": ("_dense", total),
        "logistic": ("_logistic", summary.get("weights_logistic")),
    }
    for name, (suffix, weights) in rows.items():
        if f"auc{suffix}" in summary:
            auc, pr_auc = summary[f"auc{suffix}"], summary[f"pr_auc{suffix}"]
            table.add_row(name, f"{auc:.4f}", f"{pr_auc:.4f}", f"{weights:,}")
    out = Console(highlight=False, soft_wrap=True)
    out.print(table)
    shrank = json.loads((directory / "shrinkage.json").read_text())
    for line in (*_facts(summary, took), *_shrinkage(shrank), *shortfall(summary)):
        out.print(line, markup=False)
    out.print(f"results: {directory}/", markup=False)


def shortfall(summary: dict[str, Any]) -> list[str]:
    """Return a line of advice where pruning, or the network itself, costs more than `BELOW`."""
    known = {
        end: summary[f"auc{end}"] for end in ("", "_dense", "_logistic") if f"auc{end}" in summary
    }
    dense, logistic = known.get("_dense", nan), known.get("_logistic", nan)
    more = "bring more rows or institutions"
    if summary["epsilon"] != "none":
        more += " or a larger --epsilon"
    if logistic - dense > BELOW:
        short, by = "dense", logistic - dense
        advice = f'take a plan of model.kind = "logistic" and sparsity 0, or {more}'
    else:
        short, by = "pruned", max(known.values()) - summary["auc"]
        advice = f"lower --sparsity (fedprune-sim compare tries several), or {more}"
    best = "logistic" if max(known.values()) == logistic else "dense"
    return [f"WELL BELOW {best}: {short}, by {by:.4f} ROC-AUC; {advice}"] * (by > BELOW)


def _facts(summary: dict[str, Any], took: float) -> list[str]:
    epsilon = summary["epsilon"]
    budget = epsilon if epsilon == "none" else f"{epsilon:.3f} at delta {summary['delta']:g}"
    if summary["noise"] == "shared":
        budget += f" ({summary['epsilon_if_others_collude']:.3f} if all others collude)"
    private = summary["auc_private"]
    sent = [
        "nothing" if count is None else f"{count:,}"
        for count in (summary["bytes_up_first_round"], summary["bytes_up_last_round"])
    ]
    seen = "auc seen by the server: " + ("not released" if private is None else f"{private:.4f}")
    watched = []
    if (worst := summary["worst_group"]) is not None:
        least = summary["groups"][worst]
        auc, sd = least["auc"], least["auc_sd"]
        watched.append(f"worst group seen by the server: {worst}, {auc:.4f} (sd {sd:.4f})")
    if summary["guard"] is not None:
        watched.append(f"guard, last: {summary['guard']}")
    return [
        f"epsilon={budget}  unit={summary['unit']}",
        f"noise={summary['noise']}  noise_source={summary['noise_source']}",
        f"evaluation={summary['evaluation']}",
        f"aggregation={summary['aggregation']}: {summary['protocol']}",
        seen,
        *watched,
        f"bytes up per institution: {sent[0]} in the first round, {sent[1]} in the last",
        f"{summary['seconds']:.1f} s to train it, {took:.1f} s for all; simulated from a seed, so"
        " it protects nobody",
    ]


def _shrinkage(forms: dict[str, dict[str, Any]]) -> list[str]:
    dense, small, sparse = (forms[name] for name in ("dense", "compact", "sparse"))
    batches = " / ".join(f"{int(rows):,}" for rows in dense["latency_ms"])
    times, before = (
        " / ".join(f"{took:.2g}" for took in form["latency_ms"].values()) for form in (small, dense)
    )
    return [
        f"compacted: {small['neurons']:,} of {dense['neurons']:,} neurons,"
        f" {small['flops_per_record']:,} of {dense['flops_per_record']:,} operations a record",
        f"bytes: {sparse['bytes_stored']:,} sparse, {small['bytes_stored']:,} compacted,"
        f" {dense['bytes_stored']:,} before",
        f"ms in onnxruntime for {batches} records: {times}, before {before}",
    ]


def main() -> None:
    """Entry point of ``fedprune-sim``; at ``--debug`` an engine is as talkative as it likes."""
    level = logging.DEBUG if DEBUG in sys.argv else logging.NOTSET
    logging.getLogger("fedprune.engine").setLevel(level)
    command_line(app)


if __name__ == "__main__":
    main()
