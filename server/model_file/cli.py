"""``model-file``: what a model-risk function needs to know of a run's model."""

from pathlib import Path
from typing import Annotated

import typer

from common.console import AsJson, tell_json


def model_file(  # noqa: PLR0913, PLR0917  (a command's options are its parameters)
    directory: Annotated[Path, typer.Argument(help="Directory of a run, under way or over.")],
    facts: Annotated[
        Path | None,
        typer.Option(help="TOML file of what only the owner knows: purpose, limits, bounds."),
    ] = None,
    seeds: Annotated[
        Path | None,
        typer.Option(
            "--other-seeds", help="Directory of a comparison, or of a run a seed, of the same plan."
        ),
    ] = None,
    dense: Annotated[
        Path | None, typer.Option(help="Directory of a run of the same plan, unpruned.")
    ] = None,
    audit: Annotated[
        Path | None, typer.Option(help="Directory of a privacy audit of the same plan.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write model-card.md, model-card.json and validation.html of a run: all that is recorded.

    A run ends with them; with more records beside it, less is missing.
    """
    # matplotlib takes half a second, which --help does without.
    from server.model_file.page import write_model_file  # noqa: PLC0415
    from server.model_file.records import Beside  # noqa: PLC0415

    written = write_model_file(directory, Beside(facts, seeds, dense, audit))
    if as_json:
        tell_json(
            {
                "files": [str(path) for path in written.paths],
                "tests": {key: one.outcome for key, one in written.file.checks.items()},
                "missing": [f"{one.chapter}.{one.key}" for one in written.file.missing],
            }
        )
    else:
        for path in written.paths:
            typer.echo(path)
