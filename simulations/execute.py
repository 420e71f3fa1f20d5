"""One simulated run from start to results: rounds, baselines, progress, Ctrl-C."""

import time
from pathlib import Path
from typing import Any

from rich.progress import Progress

from common.console import errors, progress_bars
from common.segments import VALIDATION
from server.model import GlobalModel
from server.model_file.page import write_model_file
from server.report.page import write_report
from server.rounds import RoundReport
from server.store import RunStore
from server.tables import LATENCY
from simulations.baselines import BASELINES, RATES, Baseline, train_baseline
from simulations.directory import write_results
from simulations.engine import IN_PROCESS
from simulations.inputs import Federation
from simulations.live import LiveRecord
from simulations.outputs import curves, rounds_of, summarise
from simulations.run import Run, Watch, simulate


def execute(  # noqa: PLR0913  (what a run may vary)
    federation: Federation,
    seed: int,
    dropout: float,
    directory: Path,
    *,
    baselines: bool,
    engine: str = IN_PROCESS,
    live: bool = False,
    shown: bool = True,
) -> dict[str, Any]:
    """Run, train the baselines, write the results; return the summary.

    Ctrl-C ends the run after the last finished round, whose results are kept; before the first
    one there is nothing to keep, and `KeyboardInterrupt` leaves this function. ``live`` has a
    journal tell of each step as well. Unless ``shown``, nothing is printed.
    """
    plan, splits = federation.plan, federation.splits
    run, store, trained = Run(plan), RunStore(directory, plan), list[Baseline]()
    record = LiveRecord(directory) if live else None
    started = time.monotonic()
    seconds = 0.0
    interrupted = False
    with progress_bars(shown=shown) as progress:
        watch = _watch(progress, plan.training.rounds + 1)

        def keep(model: GlobalModel, report: RoundReport) -> None:
            store.keep(model, report)
            if record is not None:
                record.keep(report)
            watch(model, report)

        try:
            simulate(run, splits, seed, dropout, keep, engine, record)
            seconds = time.monotonic() - started
            for name in BASELINES if baselines else ():
                per_round = _watch(progress, len(RATES) * (plan.training.rounds + 1), name)
                trained.append(train_baseline(plan, name, splits, seed, per_round, engine))
        except KeyboardInterrupt:
            interrupted = True
            if shown:
                errors.print(f"interrupted: {run.finished} finished rounds are kept")
            if run.model is None:
                raise
    summary = summarise(run, splits, seed, seconds or time.monotonic() - started, trained)
    summary["interrupted"] = interrupted
    # The seed decides what is counted here; the milliseconds stand in shrinkage.json alone.
    summary["shrinkage"] = {
        name: {figure: value for figure, value in form.items() if figure != LATENCY}
        for name, form in store.finish(run.final).items()
    }
    write_results(directory, summary, curves(rounds_of(directory), summary))
    write_report(directory)
    write_model_file(directory)
    return summary


def _watch(progress: Progress, total: int, name: str = "pruned") -> Watch:
    """Return a watcher that moves a bar of ``total`` rounds."""
    task = progress.add_task(name, total=total, state="")
    auc: list[str] = [""]

    def watch(model: GlobalModel, report: RoundReport) -> None:
        if VALIDATION in report.counts:
            auc[0] = f"AUC {report.estimates[VALIDATION].value.roc_auc:.3f}  "
        kilobytes = report.bytes_up / 1000
        state = f"{auc[0]}sparsity {report.sparsity:.1%}  {kilobytes:.1f} kB up"
        progress.update(task, advance=1, state=state)

    return watch
