from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from client.clipping import ClippedSum
from client.training import LocalSteps
from common.privacy import noise
from simulations.audit import Finding, Strength, audit, summary_of
from simulations.inputs import Federation
from simulations.run import Run
from tests.commands import trial_plan

STRENGTH = Strength(canaries=64, draws=20_000)
LOCAL: dict[str, Any] = {
    "model": {"hidden": [64]},
    "training": {"rounds": 20, "steps": 5},
    "privacy": {"epsilon": 1.0},
}
SHARED: dict[str, Any] = {
    "model": {"hidden": [64]},
    "training": {"rounds": 60, "steps": 1},
    "privacy": {"epsilon": 1.0, "noise": "shared"},
}


def findings_of(federation: Federation, sections: dict[str, Any]) -> dict[str, Finding]:
    plan = trial_plan(**sections)
    found = audit(Federation(plan, federation.splits), 0, STRENGTH)
    return {finding.attack: finding for finding in found}


def silence(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(sigma: float, count: int, stream: object) -> NDArray[np.int32]:
        return np.zeros(count, np.int32)

    monkeypatch.setattr(noise, "discrete_gaussian", nothing)


def unclip(monkeypatch: pytest.MonkeyPatch) -> None:
    real = ClippedSum._norms
    monkeypatch.setattr(ClippedSum, "_norms", lambda self: 0 * real(self))


@pytest.mark.parametrize("sections", [LOCAL, SHARED], ids=["local", "shared"])
def test_honest_code_stays_below_its_claims(
    federation: Federation, sections: dict[str, Any]
) -> None:
    found = findings_of(federation, sections)
    assert {one.verdict for one in found.values()} == {"not exceeded"}
    assert found["canaries"].bound < 0.5
    assert found["one step"].bound > 0.5 * (found["one step"].claim or 0) > 0
    assert found["run of such steps"].claim == found["canaries"].claim == 1


@pytest.mark.parametrize("sections", [LOCAL, SHARED], ids=["local", "shared"])
@pytest.mark.parametrize("sabotage", [silence, unclip])
def test_canaries_find_what_is_broken(
    federation: Federation, monkeypatch: pytest.MonkeyPatch, sections: dict[str, Any], sabotage: Any
) -> None:
    sabotage(monkeypatch)
    found = findings_of(federation, sections)
    for attack in ("canaries", "one step", "run of such steps"):
        assert found[attack].verdict == "EXCEEDED"
        assert found[attack].bound > 1.2
    # A model that generalises as well as ever shows nothing of it.
    assert found["final model"].bound < 1


def test_broken_clipping_of_a_pruned_network_is_found(
    federation: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("client.clipping._squares", lambda layer, inputs, gradients: [
        gradients.new_zeros(len(gradients)) for _ in range(1 + (layer.bias is not None))
    ])  # fmt: skip
    found = findings_of(federation, LOCAL)
    assert found["one step, pruned"].exceeds
    assert found["run of such steps"].exceeds
    assert not found["one step"].exceeds


def test_halved_noise_is_for_the_one_step_audit_to_find(
    federation: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = LocalSteps.grid

    def halved(local: LocalSteps, size: int) -> noise.Grid | None:
        grid = real(local, size)
        return grid and noise.Grid(grid.step, grid.sigma / 2)

    monkeypatch.setattr(LocalSteps, "grid", halved)
    found = findings_of(federation, LOCAL)
    assert found["one step"].exceeds
    assert found["run of such steps"].exceeds
    assert not found["canaries"].exceeds


def test_memorised_rows_are_found(federation: Federation, monkeypatch: pytest.MonkeyPatch) -> None:
    # A model that knows its rows by heart: here, one that answers each with its label.
    def learnt(model: object, plan: object, rows: Any) -> NDArray[np.float64]:
        inside = any(rows is part.train for part in federation.splits.values())
        return np.zeros(len(rows)) if inside else np.ones(len(rows))

    monkeypatch.setattr("simulations.audit._losses", learnt)
    monkeypatch.setattr("simulations.audit.simulate", lambda run, *_: None)
    monkeypatch.setattr(Run, "final", None)
    found = findings_of(federation, LOCAL)["final model"]
    assert found.bound == found.ceiling
    assert found.bound > 4
    assert "attack AUC 1.000" in found.detail


def test_without_a_claim_there_is_no_verdict(federation: Federation) -> None:
    none = LOCAL | {"privacy": {"epsilon": "none"}}
    found = findings_of(federation, none)
    assert {one.verdict for one in found.values()} == {"nothing is claimed"}
    assert not any(one.exceeds for one in found.values())
    assert found["canaries"].bound > 1.2
    assert found["one step"].bound > 10
    summary = summary_of(trial_plan(**none), list(found.values()), 0, STRENGTH)
    assert summary["passed"] is None


def test_verdict_tells_what_was_out_of_reach() -> None:
    assert Finding("a", 3.0, 0.5, 2.0, "").verdict == "not exceeded (out of reach)"
    assert Finding("a", 1.0, 0.5, 2.0, "").verdict == "not exceeded"
    assert Finding("a", 1.0, 1.5, 2.0, "").verdict == "EXCEEDED"
    assert Finding("a", 1.0, 1.0, 2.0, "").verdict == "not exceeded"
