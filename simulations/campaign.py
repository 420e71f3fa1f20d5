"""Many cells: kept one by one as they finish, run here or in processes, none lost by another.

A runner is all that a further engine needs: it takes cells by key and yields what came of each.
"""

import multiprocessing
import os
import signal
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Thread

import torch
from pydantic import ValidationError

from common.console import log_to_console, progress_bars
from common.durable import PARTIAL, write_atomically
from common.errors import ConfigError, FedpruneError
from simulations.cells import Cell, Outcome, execute_cell
from simulations.run import interrupts_held

CELLS = "cells"
"""The folder of finished cells, one file each."""

SUFFIX = ".json"


@dataclass(frozen=True)
class Failure:
    """Why a cell has no outcome, in one line."""

    reason: str


Results = Generator[tuple[str, Outcome | Failure], None, None]
Runner = Callable[[Mapping[str, Cell]], Results]
"""From cells by key to each key with what came of it, in any order."""


class CellStore:
    """Finished cells under ``directory``/cells, by their keys."""

    def __init__(self, directory: Path, *, fresh: bool = False) -> None:
        """Create the folder; with ``fresh`` forget what earlier commands left there."""
        self._folder = directory / CELLS
        self._folder.mkdir(exist_ok=True)
        for path in self._folder.glob(f"*{SUFFIX}{'*' if fresh else PARTIAL}"):
            path.unlink()

    def load(self, key: str) -> Outcome | None:
        """Return what a cell found, if it was ever finished; raise `ConfigError` on damage."""
        path = self._folder / f"{key}{SUFFIX}"
        if not path.exists():
            return None
        try:
            return Outcome.model_validate_json(path.read_bytes())
        except ValidationError as error:
            raise ConfigError(
                f"{path}: is no finished cell: remove it, or start over with --fresh"
            ) from error

    def keep(self, key: str, outcome: Outcome) -> None:
        """Write a finished cell: whole or not at all."""
        text = outcome.model_dump_json(indent=1) + "\n"
        write_atomically(self._folder / f"{key}{SUFFIX}", text.encode())


def finish(
    cells: Mapping[str, Cell],
    store: CellStore,
    runner: Runner,
    title: str,
    *,
    shown: bool = True,
) -> dict[str, Outcome | Failure]:
    """Return what came of each cell, with progress under ``title`` if it is ``shown``.

    Finished ones are not run again, failed ones are. Ctrl-C leaves this function; what is
    finished by then is kept.
    """
    found = ((key, store.load(key)) for key in cells)
    results: dict[str, Outcome | Failure] = {key: one for key, one in found if one is not None}
    left = {key: cell for key, cell in cells.items() if key not in results}
    total = sum(len(cell.plans) for cell in cells.values())
    done = total - sum(len(cell.plans) for cell in left.values())
    failed = 0
    # The runner is closed at once when Ctrl-C comes here, and ends its processes then.
    with progress_bars(shown=shown) as progress, closing(runner(left)) as running:
        task = progress.add_task(title, total=total, completed=done, state="")
        for key, result in running:
            if isinstance(result, Outcome):
                store.keep(key, result)
            results[key] = result
            failed += isinstance(result, Failure)
            state = f"{len(results)} of {len(cells)} cells" + f", {failed} failed" * bool(failed)
            progress.update(task, advance=len(cells[key].plans), state=state)
    return results


def attempt(cell: Cell, engine: str = "inprocess") -> Outcome | Failure:
    """Execute a cell; its error is its own, Ctrl-C everybody's."""
    try:
        return execute_cell(cell, engine)
    except FedpruneError as error:
        return Failure(str(error))
    except Exception as error:
        return Failure(f"unexpected {type(error).__name__}")


def here(cells: Mapping[str, Cell], engine: str = "inprocess") -> Results:
    """Run cells one after another from this process, each on an engine."""
    for key, cell in cells.items():
        yield key, attempt(cell, engine)


def runner_of(jobs: int, engine: str = "inprocess") -> Runner:
    """Return what runs so many cells at a time.

    Raises `ConfigError` for many at a time on an engine that already spreads each of them.
    """
    if jobs == 1:
        return here if engine == "inprocess" else partial(here, engine=engine)
    if engine != "inprocess":
        raise ConfigError(
            f"--jobs {jobs} would start engine {engine!r} as often: it spreads each run by itself;"
            " leave --jobs out"
        )
    return partial(_in_processes, jobs)


def _in_processes(jobs: int, cells: Mapping[str, Cell]) -> Results:
    with _workers(jobs) as pool:
        with _deaf_to_interrupts():
            futures = {pool.submit(attempt, cell): key for key, cell in cells.items()}
        for future in as_completed(futures):
            try:
                yield futures[future], future.result()
            except BrokenProcessPool:
                reason = "a worker was killed: start again, with fewer --jobs if memory is short"
                yield futures[future], Failure(reason)


@contextmanager
def _workers(jobs: int) -> Iterator[ProcessPoolExecutor]:
    """Give processes of one torch thread each, and end them at once when the block fails."""
    others = set(multiprocessing.active_children())
    # A fork would copy torch's threads in whatever state they are.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(jobs, mp_context=context, initializer=_begin)
    try:
        yield pool
    except BaseException:
        for worker in set(multiprocessing.active_children()) - others:
            worker.terminate()
        # The pool's own thread buries them: of two that wait for one process, one hears nothing.
        pool.shutdown(cancel_futures=True)
        raise
    pool.shutdown()


def _begin() -> None:
    torch.set_num_threads(1)
    log_to_console()
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Leave nothing running after a parent that was killed and could not say so."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """Start processes that never hear Ctrl-C, which a terminal sends to all: the parent ends them.

    They inherit what is blocked here; a press in between reaches the parent after the block,
    whichever of its threads it was delivered to.
    """
    with interrupts_held():
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
