"""`fedprune-server`: what the central bank's operator does."""

from pathlib import Path
from typing import Annotated

import typer

from common.console import AsJson, command_line, new_app, tell, tell_json, warn
from common.entropy import SystemEntropy
from common.facts import facts_of, pruning_of, warnings_of
from common.plan import Plan, load_draft
from common.segments import evaluation_rounds, require_releasable, sensitivity
from server import backup_cli, founding_cli, release_cli, trail_cli
from server.live_cli import dashboard
from server.model_file.cli import model_file
from server.operate_cli import add_commands
from server.report.cli import report

app = new_app("The central bank's end of a federation.", "fedprune-server")
for command in (*founding_cli.COMMANDS, *backup_cli.COMMANDS):
    app.command()(command)
app.command()(report)
app.command()(model_file)
add_commands(app)
app.command()(dashboard)
app.add_typer(trail_cli.app, name="audit")
app.add_typer(release_cli.app, name="release")


@app.callback()
def _commands() -> None:
    """Run a federation."""


@app.command()
def plan(file: Annotated[Path, typer.Argument(help="Plan file.")], as_json: AsJson = False) -> None:
    """Check a plan and show what follows from it, with the hash that institutions approve."""
    # torch and the accountants cost seconds, which `status` and the others do without.
    from common.privacy.budgets import learning_rate, training_mechanism  # noqa: PLC0415
    from common.privacy.shared import abandoned_epsilon  # noqa: PLC0415
    from server.rounds import initial_model  # noqa: PLC0415

    agreed = load_draft(file)
    size = initial_model(agreed, SystemEntropy().stream("check")).mask.size
    mechanism = training_mechanism(agreed)
    require_releasable(agreed)
    facts = {
        "plan": agreed.name,
        "plan_sha256": agreed.digest(),
        "institutions": f"{len(agreed.institutions)}, threshold {agreed.threshold}",
        "model": f"{agreed.model.kind}, {size:,} weights on {agreed.schema_.width} features",
        "noise multiplier": f"{mechanism.noise_multiplier:.4f}, {mechanism.steps} steps",
        "learning rate": f"{learning_rate(agreed):.4g}",
        "ring": f"{agreed.aggregation.ring_bits} bits",
        "pruning": pruning_of(agreed.pruning),
        "evaluation rounds": ", ".join(map(str, evaluation_rounds(agreed))),
    }
    if apart := _apart(agreed):
        facts["counted apart"] = apart
    if agreed.privacy.epsilon != "none":
        abandoned = abandoned_epsilon(agreed, mechanism.steps)
        facts["epsilon if all others collude"] = f"{abandoned:.3f}"
    facts |= facts_of(agreed)
    if as_json:
        tell_json(facts | {"warnings": warnings_of(agreed)})
        return
    warn(warnings_of(agreed))
    tell(facts.items())


def _apart(plan: Plan) -> str:
    """Say who is looked at apart, and by how much that raises the noise of every count."""
    evaluation = plan.evaluation
    names = [*evaluation.groups, *(f"pool {pool}" for pool in evaluation.pools)]
    noise = sensitivity(plan) / plan.rows_per_unit
    return f"{', '.join(names)}; {noise:.2f} times the noise on each count" if names else ""


def main() -> None:
    """Entry point of ``fedprune-server``."""
    command_line(app)


if __name__ == "__main__":
    main()
