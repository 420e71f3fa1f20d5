"""`fedprune-sim run --live`: the run's own live view, in a process beside it.

The page shows files. What a server's journal has and a simulation has not, who is in which sum, is
noted in the same form while somebody looks.
"""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import final

from common.console import errors
from common.errors import FedpruneError
from server.aggregation import Step
from server.journal import JOURNAL, Journal, line_of
from server.model import GlobalModel
from server.record import Start
from server.rounds import RoundReport

END_SECONDS = 10.0


@final
class LiveRecord:
    """Notes a simulated run in its directory's journal; it remembers nothing to go on from."""

    def __init__(self, directory: Path) -> None:
        """Begin the journal of a run."""
        self._journal = Journal(directory / JOURNAL)

    def begin(self, fresh: Callable[[], Start]) -> Start:
        """Return what ``fresh`` draws."""
        run, model = fresh()
        self._note("began", run=run)
        return run, model

    def note(self, step: Step, model: GlobalModel) -> None:
        """Note a step of an attempt before it is taken."""
        self._note(step, round=model.round, epoch=model.epoch)

    def keep(self, report: RoundReport) -> None:
        """Note who is in a round's sum."""
        self._note("kept", round=report.round, epoch=report.epoch, survivors=list(report.survivors))

    def close(self) -> None:
        """Let go of the journal."""
        self._journal.close()

    def _note(self, event: str, **facts: object) -> None:
        self._journal.append(line_of({"event": event, **facts}))


@contextmanager
def shown(directory: Path) -> Iterator[None]:
    """Show a run's directory on a free port of loopback; it ends with the block, or with Enter.

    Raises:
        FedpruneError: the live view does not start.
    """
    with subprocess.Popen(  # noqa: S603  (this interpreter, our own module)
        # Not from the folder it happens to run in: only installed code.
        (sys.executable, "-P", "-m", "server.live.serve", str(directory.resolve())),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        # Ctrl-C ends the run, whose last files are still to be seen.
        start_new_session=True,
        text=True,
    ) as process:
        assert process.stdin is not None and process.stdout is not None  # noqa: S101, PT018
        try:
            if not (address := process.stdout.readline().strip()):
                raise FedpruneError("the live view did not start: run without --live")
            errors.print(f"live view: {address}", markup=False)
            yield
            if sys.stdin.isatty():
                errors.print(f"the live view stays at {address} until Enter", markup=False)
                with suppress(KeyboardInterrupt, EOFError):
                    input()
        finally:
            # It ends with its input, as it does when this process is killed.
            process.stdin.close()
            try:
                process.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
