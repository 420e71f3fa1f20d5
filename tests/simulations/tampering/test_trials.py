from collections import Counter

import numpy as np
import pytest

from common.trail.examination import read
from common.trail.file import HEAD
from simulations.tampering.edits import TARGETS
from simulations.tampering.ledgers import LEDGER_EDITS
from simulations.tampering.logs import LOG_EDITS
from simulations.tampering.releases import RELEASE_EDITS
from simulations.tampering.trials import tampered

COUNTS = {"audit log": 200, "ledger": 100, "release": 200}
"""In `make test`; `benchmarks/tampering.py` makes more by the same code."""

WAYS = {"audit log": LOG_EDITS, "ledger": LEDGER_EDITS, "release": RELEASE_EDITS}


@pytest.mark.parametrize("name", TARGETS.names)
def test_every_edit_is_found(name: str) -> None:
    done: Counter[str] = Counter()
    for trial in tampered(name, COUNTS[name], seed=1):
        assert trial.findings, trial.edit
        done[trial.edit] += 1
    assert done.keys() == WAYS[name].keys()


@pytest.mark.parametrize("name", TARGETS.names)
def test_honest_files_are_found_to_be(name: str) -> None:
    target = TARGETS.require(name)(0)
    assert target.found(target.files) == []
    assert target.content(target.files) == target.content(dict(target.files))


def test_a_chain_alone_does_not_find_lines_cut_off_its_end() -> None:
    """The negative control: a check without the head lets such edits through, and only such."""
    target = TARGETS.require("audit log")(0)
    draw = np.random.default_rng(0)
    missed: Counter[str] = Counter()
    for name in ("drop_end", "drop_line", "repeat_line", "swap_lines", "splice_line"):
        for _ in range(30):
            after = LOG_EDITS[name](dict(target.files), target.others, draw)
            logs = {file: data for file, data in after.items() if file != HEAD}
            missed[name] += after != target.files and not read(logs).findings
    assert missed["drop_end"] > 0
    assert not missed["repeat_line"] + missed["swap_lines"] + missed["splice_line"]
