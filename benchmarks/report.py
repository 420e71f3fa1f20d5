"""How long do report and model file of a long run of many institutions take; how large are they?

The run's directory is written by the record that deployed runs have: 300 rounds of 50
institutions, groups and pools counted apart, a journal with everybody's name. What is in it is
made up. The command runs as a person starts it, in a process of its own: seconds from its start
to its end, imports included, and the processor's seconds, which other work on the machine does
not add to.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from common.entropy import SeededEntropy
from common.plan import Plan, plan_from_dict
from common.segments import TEST, VALIDATION, count_names, counting_noise, evaluation_rounds
from server.model import GlobalModel
from server.record import RunRecord
from server.rounds import RoundReport, initial_model
from server.tables import REPORT, VALIDATION_PAGE

ROUNDS, INSTITUTIONS = 300, 50
BARS = {
    "report_seconds": 3.0,
    "report_megabytes": 1.5,
    "model_file_seconds": 3.0,
    "model_file_megabytes": 1.0,
}
PAGES = {"report": REPORT, "model-file": VALIDATION_PAGE}
"""Commands, and the page that each writes."""


def plan_of(rounds: int, institutions: int) -> Plan:
    """Return a plan with groups and pools, as large as the question asks."""
    names = [f"bank-{index:02d}" for index in range(institutions)]
    return plan_from_dict(
        {
            "name": "report",
            "schema": "uci_default",
            "institutions": [{"name": name, "size": 3_000} for name in names],
            "training": {"rounds": rounds},
            "privacy": {"accountant": "rdp"},
            "evaluation": {
                "groups": ["SEX", "EDUCATION"],
                "pools": {"east": names[: institutions // 2], "west": names[institutions // 2 :]},
            },
        }
    )


def reports_of(plan: Plan, model: GlobalModel) -> Iterator[tuple[GlobalModel, RoundReport]]:
    """Yield rounds that might have been: a few absences, counts that get better, less and less."""
    draw, rounds, size = np.random.default_rng(0), plan.training.rounds, model.mask.size
    bins = plan.evaluation.bins
    for number in range(rounds + 1):
        kept = round(size * (1 - 0.9 * min(1.0, 2 * number / rounds)))
        here = [name for name in plan.names if draw.uniform() > 0.02]
        parts = [VALIDATION] if number in evaluation_rounds(plan) else []
        parts += [TEST] * (number == rounds)
        names = [name for part in parts for name in count_names(plan, part)]
        noise = {name: counting_noise(plan, name.partition("/")[0], len(here)) for name in names}
        centres = np.arange(bins) / bins
        shape = np.concatenate(
            [np.exp(-(((centres - middle) / 0.15) ** 2)) for middle in (0.3, 0.5)]
        )
        counts = {
            name: (900 * shape + draw.normal(0, noise[name], 2 * bins)).round() for name in names
        }
        mask = np.arange(size) < kept
        model = replace(model, mask=mask, round=number + 1)
        yield (
            model,
            RoundReport(
                round=number,
                epoch=number + 1,
                survivors=tuple(here),
                kept=kept,
                sparsity=1 - kept / size,
                counts=counts,
                noise=noise,
                bytes_up=3 * kept + 2_000,
                bytes_down=4 * kept + 9_000,
                seconds=float(draw.uniform(1, 2)),
                stages={"update": float(draw.uniform(0.5, 1)), "unmask": 0.1},
            ),
        )


def write_run(directory: Path, rounds: int = ROUNDS, institutions: int = INSTITUTIONS) -> None:
    """Have the store write a whole run, its report too."""
    plan = plan_of(rounds, institutions)
    record = RunRecord(directory, plan)
    entropy = SeededEntropy(0)
    _, model = record.begin(
        lambda: ("benchmark", initial_model(plan, entropy.stream("initial-weights")))
    )
    for last, report in reports_of(plan, model):
        record.note("tried", replace(last, epoch=report.epoch))
        record.keep(last, report)
    record.finish(last)
    record.close()


def measure(directory: Path, command: str) -> tuple[float, float]:
    """Write in a process of its own; return its seconds, and those of the processor."""
    (directory / PAGES[command]).unlink()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    subprocess.run(  # noqa: S603  (this interpreter, our own command)
        [sys.executable, "-m", "simulations.cli", command, str(directory)],
        check=True,
        capture_output=True,
    )
    took = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return took, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def reporting(turns: int = 3) -> dict[str, float]:
    """Return the figures, each time the best of ``turns``: other work only adds to it."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "run"
        write_run(place)
        figures = dict[str, float]()
        for command, page in PAGES.items():
            times = [measure(place, command) for _ in range(turns)]
            name = command.replace("-", "_")
            figures |= {
                f"{name}_seconds": min(took for took, _ in times),
                f"{name}_processor_seconds": min(used for _, used in times),
                f"{name}_megabytes": (place / page).stat().st_size / 1e6,
            }
    return figures


def main() -> None:
    """Measure and print; ``--json`` ends with one flat object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one flat object as last line")
    parser.add_argument("--turns", type=int, default=3, help="turns, best counts [default: 3]")
    options = parser.parse_args()
    figures = reporting(options.turns)
    for name, value in figures.items():
        side = f"   bar: < {BARS[name]:g}" if name in BARS else ""
        print(f"{name:28} {value:10.3f}{side}")
    if options.json:
        print(json.dumps({name: round(value, 3) for name, value in figures.items()}))


if __name__ == "__main__":
    main()
