"""`fedprune-sim tune`: pruning parameters by the private metric, and the price of searching."""

import json
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from common.console import AsJson, log_to_console, progress_bars, tell_json, warn
from common.errors import ConfigError
from common.facts import facts_of, warnings_of
from simulations import options

if TYPE_CHECKING:
    from simulations.inputs import Federation
    from simulations.tune import Search, Tried

SHOWN = 10

SIMULATED = "Simulated from seeds, so it protects nobody."


def tune(  # noqa: PLR0913, PLR0917  (a command's options are its parameters)
    plan: options.PlanFile = None,
    data: options.Data = None,
    schema: options.Schema = None,
    institutions: options.Institutions = None,
    partition: options.Partition = None,
    epsilon: options.Epsilon = None,
    unit: options.Unit = None,
    rows_per_customer: options.RowsPerCustomer = None,
    delta: options.Delta = None,
    sparsity: Annotated[
        str, typer.Option(help="Final share of zero weights, or search.")
    ] = "search",
    rounds: options.Rounds = None,
    trials: Annotated[int, typer.Option(min=1, max=10_000, help="How many runs.")] = 30,
    worth: Annotated[
        float, typer.Option(min=0, max=1, help="ROC-AUC a halving of the weights is worth.")
    ] = 0.002,
    seed: options.Seed = 0,
    fresh: options.Fresh = False,
    out: options.Out = None,
    as_json: AsJson = False,
) -> None:
    """Search score, allocation, granularity, schedule and sparsity by the private ROC-AUC.

    Ends with what the search would spend on real records. The same command goes on where an
    interrupted one stopped.
    """
    import torch  # noqa: PLC0415

    from common.durable import write_atomically  # noqa: PLC0415
    from simulations.campaign import CELLS, CellStore  # noqa: PLC0415
    from simulations.directory import claimed  # noqa: PLC0415
    from simulations.inputs import Options, assemble  # noqa: PLC0415

    try:
        from simulations.tune import Search, best_of  # noqa: PLC0415
        from simulations.tune import tune as search_for  # noqa: PLC0415
    except ModuleNotFoundError as error:
        if error.name != "optuna":
            raise
        raise ConfigError("optuna is not installed: pip install 'fedprune[tune]'") from error

    torch.set_num_threads(1)
    log_to_console()
    fixed = None if sparsity == "search" else options.share(sparsity)
    settings = options.settings_of(epsilon, delta, fixed, rounds, unit, rows_per_customer)
    federation = assemble(Options(plan, data, schema, institutions, partition, seed, settings))
    warn(warnings_of(federation.plan))
    search = Search(trials, seed, fixed, worth)
    where = out or Path("runs") / f"{federation.plan.name}-tune-seed{seed}"
    with claimed(where, kept=frozenset({CELLS})) as directory:
        store = CellStore(directory, fresh=fresh)
        with progress_bars() as progress:
            bar = progress.add_task("tuned", total=trials, state="")
            tried = search_for(federation, search, store, lambda _: progress.advance(bar))
        summary = _summary(federation, search, tried)
        text = json.dumps(summary, indent=2, allow_nan=False)
        best = best_of(tried).plan or federation.plan
        write_atomically(directory / "tune.json", (text + "\n").encode())
        write_atomically(directory / "plan.toml", federation.plan.to_toml().encode())
        write_atomically(directory / "recommended.toml", best.to_toml().encode())
    if as_json:
        tell_json(summary)
    else:
        _show(summary)
        typer.echo(f"results: {directory}/, the best plan: {directory / 'recommended.toml'}")


def _summary(federation: "Federation", search: "Search", tried: "list[Tried]") -> dict[str, Any]:
    from simulations.tune import best_of, cost_of  # noqa: PLC0415

    best, base = best_of(tried), federation.plan
    cost = cost_of([one.plan for one in tried if one.outcome is not None and one.plan is not None])
    spent = {
        name: epsilon if isfinite(epsilon) else "none"
        for name, epsilon in (
            ("training", cost.training),
            ("validation", cost.validation),
            ("test", cost.test),
        )
    }
    return {
        "ranked_by": "private validation ROC-AUC, as the server would see it",
        "trials": [_row(one) for one in tried],
        "best": _row(best) | {"auc_test": best.outcome.test if best.outcome else None},
        "worth": search.worth if search.sparsity is None else None,
        "search_epsilon": spent,
        "seed": search.seed,
        **facts_of(base),
        "plan_sha256": base.digest(),
    }


def _row(one: "Tried") -> dict[str, Any]:
    final = one.outcome.final if one.outcome else None
    return {
        "number": one.number,
        **one.parameters,
        "value": one.value,
        "auc_private": final.private if final else None,
        "auc_private_sd": final.private_sd if final else None,
        "weights_kept": one.outcome.kept if one.outcome else None,
        "reason": one.reason,
    }


def _show(summary: dict[str, Any]) -> None:
    out = Console(highlight=False, soft_wrap=True)
    out = out if out.is_terminal else Console(highlight=False, soft_wrap=True, width=120)
    table = Table(
        title=f"the best of {len(summary['trials'])}, ± the noise of the metric alone",
        box=SIMPLE_HEAD,
    )
    names = ("score", "granularity", "allocation", "schedule")
    for name in ("", *names, "from-to", "sparsity", "weights", "ROC-AUC"):
        table.add_column(name, no_wrap=True)
    valued = [row for row in summary["trials"] if row["value"] is not None]
    for row in sorted(valued, key=lambda row: (-row["value"], row["number"]))[:SHOWN]:
        sd = "" if row["auc_private_sd"] is None else f" ± {row['auc_private_sd']:.3f}"
        table.add_row(
            str(row["number"]),
            *(row[name] for name in names),
            f"{row['start']:.2f}-{row['end']:.2f}",
            f"{row['sparsity']:.3f}",
            f"{row['weights_kept']:,}",
            f"{row['auc_private']:.3f}{sd}",
        )
    out.print(table)
    for line in told(summary):
        out.print(line, markup=False)


def told(summary: dict[str, Any]) -> list[str]:
    """Return what must be said of a search: how far to believe it, and what it would spend."""
    best, spent = summary["best"], summary["search_epsilon"]
    count = sum(row["weights_kept"] is not None for row in summary["trials"])
    price = ", ".join(
        f"{'unbounded' if epsilon == 'none' else f'{epsilon:.2f}'} a {role} record"
        for role, epsilon in spent.items()
    )
    failed = len(summary["trials"]) - len([r for r in summary["trials"] if r["value"] is not None])
    lines = [
        f"best: trial {best['number']}, private ROC-AUC {best['auc_private']:.4f}, exact on test"
        f" rows {best['auc_test']:.4f}; trial 0 has the plan's own parameters",
        f"The best of {count} noisy values flatters itself: confirm it by fedprune-sim compare.",
        f"On real data these {count} runs would spend epsilon {price}, at delta"
        f" {summary['delta']}: search on public or synthetic data, or charge it.",
        SIMULATED,
    ]
    if failed:
        lines.insert(1, f"without a value: {failed} of the trials; tune.json says why")
    return lines
