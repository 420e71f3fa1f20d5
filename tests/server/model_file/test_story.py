import json
import shutil
from pathlib import Path

import pytest

from common.errors import ConfigError
from server.model_file.catalogue import ALWAYS, CHAPTERS, OWNER, RELEASED
from server.model_file.checks import TESTS
from server.model_file.owner import OwnerFacts, Thresholds, read_owner
from server.model_file.shapes import Grid, Missing, ModelFile
from server.model_file.story import TELLERS
from tests.cards import (
    FACTS,
    PLAN,
    fact,
    made,
    unpruned,
    write_audit,
    write_seeds,
    write_simulated,
)
from tests.reports import write_run
from tests.support import small_plan

NO_RELEASE = {
    f"{part.key}.{slot.key}" for part in CHAPTERS for slot in part.slots if slot.remedy == RELEASED
}
BILL = {"materials.bill_of", "materials.bill"}
EVALUATED = {
    *(f"performance.{key}" for key in ("source", "count_noise", "metrics", "observed", "expected")),
    "performance.bands",
    *(f"monitoring.{key}" for key in ("advice", "reference", "stability_index", "fall", "change")),
}
GROUPED = {f"groups.{key}" for key in ("counted", "figures", "worst", "unread")}
OWNED = {
    f"{part.key}.{slot.key}" for part in CHAPTERS for slot in part.slots if slot.remedy == OWNER
}


@pytest.fixture(scope="module")
def _complete(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("complete")
    run = write_simulated(folder / "run")
    began = {"event": "began", "run": "run-1", "plan": PLAN.digest(), "roster": "ab" * 32}
    kept = {"event": "kept", "round": 0, "survivors": ["ash", "elm"]}
    lines = [json.dumps(event) + "\n" for event in (began, kept)]
    (run / "journal.jsonl").write_text("".join(lines))
    write_seeds(folder / "seeds")
    write_audit(folder / "audit")
    write_run(folder / "dense", unpruned())
    (folder / "facts.toml").write_text(FACTS)
    bill = {"components": [{"name": "torch", "version": "2.13.0"}]}
    (run / "bill.cdx.json").write_text(json.dumps(bill))
    return folder


@pytest.fixture
def complete(_complete: Path, tmp_path: Path) -> Path:
    """Return a folder of a run with all that can be recorded of it, but for a release."""
    shutil.copytree(_complete, tmp_path / "all")
    return tmp_path / "all"


def beside(folder: Path) -> dict[str, Path]:
    names = {"seeds": "seeds", "audit": "audit", "dense": "dense", "facts": "facts.toml"}
    return {name: folder / file for name, file in names.items() if (folder / file).exists()}


def missing(file: ModelFile) -> set[str]:
    return {f"{one.chapter}.{one.key}" for one in file.missing}


def test_every_chapter_and_fact_stands_in_every_file(complete: Path, tmp_path: Path) -> None:
    begun = write_run(tmp_path / "begun", small_plan(), rounds=0)
    for file in (made(complete / "run", **beside(complete)), made(begun)):
        assert [*file.chapters] == [part.key for part in CHAPTERS] == [*TELLERS]
        for part in CHAPTERS:
            assert [*file.chapters[part.key].facts] == [slot.key for slot in part.slots]
        assert [*file.checks] == [*TESTS]


def test_of_a_complete_run_nothing_is_missing_but_its_release(complete: Path) -> None:
    file = made(complete / "run", **beside(complete))
    assert missing(file) == NO_RELEASE
    assert file.told("identity", "roster_hash") == "ab" * 32
    assert file.told("identity", "plan_hash") == PLAN.digest()
    assert file.told("purpose", "outcome") == "whether bad is 1, and not 0"
    assert file.told("purpose", "out_of_scope") == ("mortgages", "companies")
    assert file.told("reproduction", "seed") == 1
    bill = file.told("materials", "bill")
    assert isinstance(bill, Grid)
    assert bill.rows == (("torch", "2.13.0", None, None),)


@pytest.mark.parametrize(
    ("taken", "lacks", "needs"),
    [
        ("facts.toml", OWNED, "--facts"),
        ("seeds", {"stability.seeds", "stability.models", "stability.by_seed"}, "--other-seeds"),
        ("audit", {"privacy.audit"}, "--audit"),
        ("dense", {"pruning.dense"}, "--dense"),
        ("run/summary.json", {"pruning.rivals"}, "fedprune-sim"),
        ("run/facts.json", {"reproduction.versions", "privacy.spent_epsilon"}, "the run"),
        ("run/counts.csv", EVALUATED, "an evaluation"),
        ("run/groups.csv", GROUPED, "evaluation.groups"),
        ("run/shrinkage.json", {"pruning.forms"}, "the end of the run"),
        ("run/model.safetensors", {"identity.model_hash", "pruning.layers"}, "a finished round"),
        ("run/journal.jsonl", {"identity.run", "training.attendance"}, "fedprune-server start"),
    ],
)
def test_what_is_taken_away_is_named_with_what_would_tell_it(
    complete: Path, taken: str, lacks: set[str], needs: str
) -> None:
    before = missing(made(complete / "run", **beside(complete)))
    path = complete / taken
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    file = made(complete / "run", **beside(complete))
    assert lacks <= missing(file) - before
    for name in lacks:
        found = fact(file, name)
        assert isinstance(found, Missing)
        assert needs in found.remedy


def test_without_a_bill_in_the_folder_it_is_of_this_machine_or_missing(
    complete: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (complete / "run" / "bill.cdx.json").unlink()

    def nothing() -> None:
        raise ConfigError("fedprune is not installed")

    monkeypatch.setattr("server.model_file.records.installed_bill", nothing)
    assert missing(made(complete / "run")) >= BILL


def test_a_run_that_just_began_tells_its_plan_and_names_the_rest(tmp_path: Path) -> None:
    file = made(write_run(tmp_path, small_plan(), rounds=0))
    assert missing(file) >= EVALUATED | GROUPED | {"pruning.steps", "identity.model_hash"}
    assert ALWAYS not in {one.remedy for one in file.missing}
    assert file.told("privacy", "planned_epsilon") == 1.0
    assert file.told("data", "inputs") == 4
    known = file.told("limits", "known")
    assert isinstance(known, tuple)
    assert "No evaluation was finished: nothing is known of its quality." in known


def test_what_nobody_protected_is_said_loudly(tmp_path: Path) -> None:
    plan = small_plan(privacy={"epsilon": "none"}, aggregation={"kind": "plain"})
    file = made(write_simulated(tmp_path, plan))
    said = " ".join(file.warnings)
    assert "NO differential privacy" in said
    assert "the server sees every institution's update" in said
    assert "protects nobody" in said
    assert str(file.told("training", "aggregation")).startswith("PLAIN")


def test_logistic_models_and_shared_noise_are_told_in_their_own_words(tmp_path: Path) -> None:
    plan = small_plan(
        model={"kind": "logistic"},
        privacy={"noise": "shared"},
        training={"steps": 1},
        optimiser={"kind": "adam"},
    )
    file = made(write_run(tmp_path, plan, rounds=0))
    assert "hidden" not in str(file.told("training", "architecture"))
    assert "adam at the server" in str(file.told("training", "optimiser"))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("purpose = 'loans'", "purpose"),
        ("owner = ''", "owner"),
        ("[thresholds]\nleast_auc = 1.5", "thresholds.least_auc 1.5"),
        ("owner = ", "not readable as TOML"),
    ],
)
def test_facts_that_say_what_no_file_says_are_refused(
    tmp_path: Path, text: str, problem: str
) -> None:
    path = tmp_path / "facts.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=problem) as caught:
        read_owner(path)
    assert "\n" not in str(caught.value)


def test_every_fact_of_the_owner_stands_in_some_chapter() -> None:
    slots = {slot.key for part in CHAPTERS for slot in part.slots}
    assert {*OwnerFacts.model_fields} - {"thresholds"} == {name.split(".")[1] for name in OWNED}
    assert {*OwnerFacts.model_fields} - {"thresholds"} <= slots
    assert Thresholds().loss is None
