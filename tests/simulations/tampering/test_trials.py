from collections import Counter

import pytest

from simulations.tampering.edits import TARGETS
from simulations.tampering.ledgers import LEDGER_EDITS
from simulations.tampering.logs import LOG_EDITS
from simulations.tampering.trials import tampered

COUNTS = {"audit log": 200, "ledger": 100}
"""In `make test`; `benchmarks/tampering.py` makes more by the same code."""

WAYS = {"audit log": LOG_EDITS, "ledger": LEDGER_EDITS}


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
