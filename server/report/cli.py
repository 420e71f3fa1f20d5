"""``report``: the page of a run, again."""

from pathlib import Path
from typing import Annotated

import typer

from common.console import AsJson, tell_json


def report(
    directory: Annotated[Path, typer.Argument(help="Directory of a run, under way or over.")],
    as_json: AsJson = False,
) -> None:
    """Write report.html of a run, simulated or deployed: figures, tables, what is missing."""
    # matplotlib takes half a second, which --help does without.
    from server.report.page import write_report  # noqa: PLC0415

    path = write_report(directory)
    if as_json:
        tell_json({"report": str(path), "bytes": path.stat().st_size})
    else:
        typer.echo(path)
