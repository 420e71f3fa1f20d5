from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from server.model_file.checks import TESTS, checks_of
from server.model_file.records import Beside, Records, Released, read_records
from server.model_file.shapes import Grid, Missing
from tests.cards import (
    FACTS,
    PLAN,
    SUMMARY,
    check,
    fact,
    made,
    unpruned,
    write_audit,
    write_seeds,
    write_simulated,
)
from tests.reports import write_run
from tests.support import grouped_plan, small_plan

LOUD = grouped_plan(evaluation={"noise": "gaussian", "epsilon": 0.5})


def facts(folder: Path, text: str) -> Path:
    path = folder / "bounds.toml"
    path.write_text(text)
    return path


def test_a_whole_run_passes_and_one_cut_short_or_with_many_lost_rounds_does_not(
    tmp_path: Path,
) -> None:
    bounds = facts(tmp_path, "[thresholds]\nlost_rounds = 0.2")
    run = write_simulated(tmp_path / "run")
    assert check(run, "finished", facts=bounds).outcome == "pass"
    assert check(run, "finished").outcome == "attention"
    assert "6 of 6 rounds, 1 lost" in check(run, "finished").found
    short = write_run(tmp_path / "short", PLAN, 3)
    assert check(short, "finished", facts=bounds).outcome == "attention"


def test_discrimination_is_held_to_the_owners_bound(tmp_path: Path) -> None:
    run = write_simulated(tmp_path / "run")
    assert check(run, "discrimination").outcome == "pass"
    bounds = facts(tmp_path, "[thresholds]\nleast_auc = 0.95")
    assert check(run, "discrimination", facts=bounds).outcome == "attention"
    begun = write_run(tmp_path / "begun", PLAN, 1)
    assert check(begun, "discrimination").outcome == "missing"


@pytest.mark.parametrize("rival", ["dense", "logistic"])
def test_a_rival_may_be_better_by_the_plans_tolerance(tmp_path: Path, rival: str) -> None:
    near = write_simulated(tmp_path / "near", PLAN, **{f"auc_{rival}": 0.884})
    far = write_simulated(tmp_path / "far", PLAN, **{f"auc_{rival}": 0.9})
    assert check(near, rival).outcome == "pass"
    assert check(far, rival).outcome == "attention"
    bounds = facts(tmp_path, "[thresholds]\nloss = 0.03")
    assert check(far, rival, facts=bounds).outcome == "pass"


def test_without_baselines_of_its_own_a_run_is_held_against_seeds_or_an_unpruned_run(
    tmp_path: Path,
) -> None:
    run = write_run(tmp_path / "run", PLAN)
    assert check(run, "dense").outcome == check(run, "logistic").outcome == "missing"
    seeds = write_seeds(tmp_path / "seeds", aucs=(0.88, 0.88))
    assert "means of 2 simulated seeds" in check(run, "logistic", seeds=seeds).found
    dense = write_run(tmp_path / "dense", unpruned())
    told = check(run, "dense", dense=dense)
    assert told.outcome == "pass"
    assert "both from noised counts of test rows" in told.found
    # What is worse than the unpruned run by more than noise explains.
    rows = (tmp_path / "run" / "rounds.csv").read_text()
    auc = check(run, "discrimination").found.split(",")[0]
    assert auc in {f"{float(cell):.4f}" for cell in rows.splitlines()[-1].split(",") if cell}
    _set_last(run / "rounds.csv", "auc_test", "0.5")
    assert check(run, "dense", dense=dense).outcome == "attention"


def _set_last(path: Path, column: str, value: str, row: int = -1) -> None:
    lines = path.read_text().splitlines()
    cells = lines[row].split(",")
    cells[lines[0].split(",").index(column)] = value
    lines[row] = ",".join(cells)
    path.write_text("\n".join(lines) + "\n")


def test_an_unpruned_run_is_held_against_the_same_rows(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", PLAN)
    # Its rounds are over, but nobody counted its test rows.
    dense = write_run(tmp_path / "dense", unpruned(), rounds=6)
    assert check(run, "dense", dense=dense).outcome == "pass"
    _set_last(run / "rounds.csv", "auc_validation", "0.5")
    _set_last(run / "groups.csv", "auc", "0.6", -9)
    told = check(run, "dense", dense=dense)
    assert (told.outcome, told.found[:6]) == ("attention", "0.5000")
    assert "counts of validation rows" in told.found
    beside = made(run, dense=dense).told("pruning", "dense")
    assert isinstance(beside, Grid)
    assert beside.columns[0] == "figure, validation rows"
    pruned = {row[0]: row[3] for row in beside.rows}
    assert (pruned["ROC-AUC"], pruned["ROC-AUC, pool:south"]) == (0.5, 0.6)


def test_a_fall_between_two_evaluations_is_seen_beyond_noise_alone(tmp_path: Path) -> None:
    run = write_simulated(tmp_path / "run")
    assert check(run, "steps").outcome == "pass"
    _set_last(run / "rounds.csv", "auc_validation", "0.7")
    told = check(run, "steps")
    assert told.outcome == "attention"
    assert "from round 4 to 6" in told.found


def test_what_noise_hides_is_no_pass(tmp_path: Path) -> None:
    run = write_simulated(tmp_path, LOUD)
    for name in ("steps", "groups"):
        told = check(run, name)
        assert told.outcome == "attention"
        assert float(told.found.rpartition("noise hides ")[2]) > 0.05
    quiet = write_simulated(tmp_path / "quiet")
    assert check(quiet, "groups").outcome == "pass"


def test_scores_that_are_no_probabilities_need_attention(tmp_path: Path) -> None:
    run = write_simulated(tmp_path)
    _set_last(run / "rounds.csv", "calibration_test", "0.01")
    assert check(run, "calibration").outcome == "pass"
    _set_last(run / "rounds.csv", "calibration_test", "0.2")
    assert check(run, "calibration").outcome == "attention"


def test_the_worst_group_is_named(tmp_path: Path) -> None:
    run = write_simulated(tmp_path)
    _set_last(run / "groups.csv", "auc", "0.6", -2)
    _set_last(run / "groups.csv", "calibration", "0.3", -2)
    for name in ("groups", "group_calibration"):
        told = check(run, name)
        assert (told.outcome, told.found.partition(":")[0]) == ("attention", "pool")
        assert "pool:north" in told.found
    assert check(run, "watched").outcome == "pass"
    _set_last(run / "groups.csv", "auc", "", -2)
    assert check(run, "watched").found == "unknown: pool:north"


def test_without_groups_nobody_looked(tmp_path: Path) -> None:
    run = write_simulated(tmp_path, small_plan())
    for name in ("groups", "group_calibration", "watched"):
        assert check(run, name).outcome == "missing"
        assert "evaluation.groups" in check(run, name).found


def test_seeds_that_differ_much_need_attention(tmp_path: Path) -> None:
    run = write_simulated(tmp_path / "run")
    near = write_seeds(tmp_path / "near", aucs=(0.88, 0.879, 0.881, 0.88, 0.88))
    far = write_seeds(tmp_path / "far", aucs=(0.88, 0.8, 0.85, 0.83, 0.9))
    assert check(run, "seeds", seeds=near).outcome == "pass"
    assert check(run, "seeds", seeds=far).outcome == "attention"
    assert check(run, "seeds").outcome == "missing"


def test_a_spread_over_few_seeds_is_no_pass_however_small(tmp_path: Path) -> None:
    run = write_simulated(tmp_path / "run")
    few = write_seeds(tmp_path / "few", aucs=(0.88, 0.88, 0.88, 0.88))
    told = check(run, "seeds", seeds=few)
    assert (told.outcome, told.found) == ("attention", "sd 0.0000 around 0.8800, 4 seeds")
    assert told.threshold == "sd of at most 0.01, over 5 seeds or more"
    # What a missing test asks for is enough to make it.
    assert "--seeds 5 " in check(run, "seeds").found


def test_epsilon_beyond_the_plans_needs_attention(tmp_path: Path) -> None:
    run = write_simulated(tmp_path)
    assert check(run, "budget").outcome == "pass"
    text = (run / "facts.json").read_text()
    (run / "facts.json").write_text(text.replace('"epsilon": 0.', '"epsilon": 1.'))
    assert check(run, "budget").outcome == "attention"
    open_ = write_simulated(tmp_path / "open", small_plan(privacy={"epsilon": "none"}))
    assert check(open_, "budget").found == "NO differential privacy"
    assert check(open_, "protected").outcome == "attention"


def test_a_deployed_run_of_a_sound_plan_was_protected(tmp_path: Path) -> None:
    assert check(write_run(tmp_path / "run", PLAN), "protected").outcome == "pass"
    assert check(write_simulated(tmp_path / "sim"), "protected").outcome == "attention"


def test_a_bound_beyond_the_claim_needs_attention(tmp_path: Path) -> None:
    run = write_simulated(tmp_path / "run")
    kept, broken = write_audit(tmp_path / "kept"), write_audit(tmp_path / "broken", bound=1.2)
    assert check(run, "audit", audit=kept).outcome == "pass"
    told = check(run, "audit", audit=broken)
    assert (told.outcome, told.found) == ("attention", "1 attacks; beyond the claim: canaries")


def test_an_audit_without_an_attack_or_a_claim_refutes_nothing_and_is_no_pass(
    tmp_path: Path,
) -> None:
    run = write_simulated(tmp_path / "run")
    idle = write_audit(tmp_path / "idle", attacks=0)
    assert check(run, "audit", audit=idle).outcome == "missing"
    assert isinstance(fact(made(run, audit=idle), "privacy.audit"), Missing)
    open_ = small_plan(privacy={"epsilon": "none"})
    bare = write_audit(tmp_path / "bare", open_, bound=9.0, claim=None)
    told = check(write_simulated(tmp_path / "open", open_), "audit", audit=bare)
    assert (told.outcome, told.found) == ("attention", "1 attacks; nothing is claimed: canaries")


@pytest.mark.parametrize(
    ("state", "objected", "outcome"),
    [("final", (), "pass"), ("offered", (), "attention"), ("final", ("elm",), "attention")],
)
def test_a_release_passes_once_it_is_final_and_nobody_objects(
    tmp_path: Path, state: str, objected: tuple[str, ...], outcome: str
) -> None:
    records = read_records(write_simulated(tmp_path))
    standing: Any = SimpleNamespace(
        state=state, objected=objected, signed=("ash",), silent=(), quorum=1
    )
    files = {
        name: SimpleNamespace(sha256=records.run.hashes.get(name)) for name in records.run.hashes
    }
    manifest: Any = SimpleNamespace(files=files)
    released = Released(manifest, "00", 2, standing)
    found = TESTS["signed_off"][2](Records(records.run, released=released))
    assert found.outcome == outcome


def test_an_owner_who_leaves_out_the_validator_is_asked(tmp_path: Path) -> None:
    run = write_simulated(tmp_path / "run")
    assert check(run, "owner").outcome == "missing"
    whole = facts(tmp_path, FACTS)
    assert check(run, "owner", facts=whole).outcome == "pass"
    part = facts(tmp_path, "owner = 'Retail risk'\nintended_purpose = 'loans'")
    told = check(run, "owner", facts=part)
    assert told.outcome == "attention"
    assert "validator" in told.found


def test_every_test_says_what_it_is_held_to_or_what_it_needs(tmp_path: Path) -> None:
    for found in checks_of(read_records(write_simulated(tmp_path), Beside())).values():
        assert found.asks.endswith("?")
        assert found.found.startswith("Needs ") if found.outcome == "missing" else found.threshold
    assert SUMMARY["auc_dense"] > SUMMARY["auc"]
