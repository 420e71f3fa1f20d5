"""`fedprune-sim audit`: attacks on the real code, and what they prove about epsilon."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from common.console import AsJson, log_to_console, progress_bars, tell_json, warn
from common.errors import AuditError
from common.facts import warnings_of
from simulations import options

if TYPE_CHECKING:
    from common.plan import Plan
    from simulations.audit import Finding, Strength


def audit(  # noqa: PLR0913, PLR0917  (a command's options are its parameters)
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
    canaries: Annotated[
        int, typer.Option(min=8, help="Planted records; at most one a hidden unit is used.")
    ] = 128,
    draws: Annotated[
        int, typer.Option(min=1_000, help="Draws of one step, with the canary and without.")
    ] = 100_000,
    confidence: Annotated[
        float, typer.Option(min=0.5, max=0.9999, help="With which all bounds hold together.")
    ] = 0.95,
    seed: options.Seed = 0,
    out: options.Out = None,
    as_json: AsJson = False,
) -> None:
    """Attack the training code; print a lower bound on epsilon beside the claim.

    Exit code 8 when a bound exceeds the claim. An attack that fails proves nothing.
    """
    import torch  # noqa: PLC0415

    from common.durable import write_atomically  # noqa: PLC0415
    from simulations.audit import ATTACKS, Strength, summary_of  # noqa: PLC0415
    from simulations.audit import audit as attack  # noqa: PLC0415
    from simulations.directory import claimed  # noqa: PLC0415
    from simulations.inputs import Options, assemble  # noqa: PLC0415

    torch.set_num_threads(1)
    log_to_console()
    settings = options.settings_of(epsilon, delta, sparsity, rounds, unit, rows_per_customer)
    federation = assemble(Options(plan, data, schema, institutions, partition, seed, settings))
    warn(warnings_of(federation.plan))
    strength = Strength(canaries, draws, confidence)
    where = out or Path("runs") / f"{federation.plan.name}-audit-seed{seed}"
    with claimed(where) as directory:
        with progress_bars() as progress:
            bar = progress.add_task("audited", total=len(ATTACKS), state="")
            findings = attack(
                federation,
                seed,
                strength,
                lambda done, name: progress.update(bar, completed=done, state=name),
            )
        summary = summary_of(federation.plan, findings, seed, strength)
        text = json.dumps(summary, indent=2, allow_nan=False)
        write_atomically(directory / "plan.toml", federation.plan.to_toml().encode())
        write_atomically(directory / "audit.json", (text + "\n").encode())
    if as_json:
        tell_json(summary)
    else:
        _show(findings, federation.plan, strength)
        typer.echo(f"results: {directory}/")
    _require_unrefuted(findings, strength)


def _require_unrefuted(findings: "list[Finding]", strength: "Strength") -> None:
    refuted = [
        f"{finding.attack}: epsilon is at least {finding.bound:.3f}, the claim is"
        f" {finding.claim:.3f}"
        for finding in findings
        if finding.exceeds
    ]
    if refuted:
        raise AuditError(
            f"AUDIT FAILED (confidence {strength.confidence:g}): {'; '.join(refuted)}:"
            " find the fault before any record is trained on"
        )


def _show(findings: "list[Finding]", plan: "Plan", strength: "Strength") -> None:
    table = Table(
        title=f"epsilon at delta {plan.privacy.delta:g}: what is claimed, and what attacks prove",
        caption=f"All lower bounds hold together with confidence {strength.confidence:g}.",
    )
    for column in ("attack", "claim", "lower bound", "at most provable", "verdict"):
        table.add_column(column, justify="left" if column in ("attack", "verdict") else "right")
    for one in findings:
        claim = "none" if one.claim is None else f"{one.claim:.3f}"
        ceiling = "" if one.ceiling is None else f"{one.ceiling:.3f}"
        table.add_row(one.attack, claim, f"{one.bound:.3f}", ceiling, one.verdict)
    out = Console(highlight=False, soft_wrap=True)
    out.print(table)
    for one in findings:
        out.print(f"{one.attack}: {one.detail}", markup=False)
