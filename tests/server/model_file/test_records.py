import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.errors import ConfigError, PolicyError
from server import release_cli
from server.cli import main as server
from server.model_file.records import Beside, read_records
from server.tables import CARD, CARD_FACTS, VALIDATION_PAGE
from tests.cards import PLAN, fact, made, unpruned, write_audit, write_simulated
from tests.commands import invoke
from tests.founding import NAMES, Federation, good
from tests.releases import RUN, finished, handed, installed, release, sign_off
from tests.reports import write_run
from tests.support import small_plan


@pytest.fixture(scope="module")
def _offered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    with installed(tmp_path_factory.mktemp("installed")), pytest.MonkeyPatch.context() as patch:
        federation = finished(tmp_path_factory.mktemp("federation"))
        patch.setattr(release_cli, "_hand_round", lambda place, run: None)
        good(release(federation, "server", "offer", RUN))
        good(federation.agree(f"release-{RUN}"))
        good(release(federation, "server", "offer", RUN))
        yield federation


@pytest.fixture
def offered(_offered: Federation, tmp_path: Path) -> Federation:
    """Return a federation whose operators have released a model."""
    return _offered.copy_to(tmp_path)


def run_of(federation: Federation) -> Path:
    return federation.server / "runs" / RUN


def test_a_deployed_run_ends_with_its_model_file(offered: Federation) -> None:
    folder = run_of(offered)
    assert all((folder / name).is_file() for name in (CARD, CARD_FACTS, VALIDATION_PAGE))
    found = json.loads((folder / CARD_FACTS).read_text())
    # The release came later: only who writes the file anew tells of it.
    assert found["chapters"]["decisions"]["facts"]["state"]["state"] == "missing"
    told = found["chapters"]["identity"]["facts"]
    began = json.loads((folder / "journal.jsonl").read_text().splitlines()[0])
    assert told["roster_hash"]["value"] == began["roster"]
    assert told["run"]["value"] == began["run"]
    assert told["kind"]["value"] == "federated"
    attended = found["chapters"]["training"]["facts"]["attendance"]["value"]["rows"]
    assert [row[0] for row in attended] == sorted(NAMES)


def test_members_decisions_are_read_from_the_release(offered: Federation) -> None:
    handed(offered)
    sign_off(offered, "ash", "birch")
    handed(offered)
    written = invoke(server, "model-file", run_of(offered), "--json")
    assert written.code == 0, written.err
    assert written.summary["tests"]["signed_off"] == "attention"
    assert written.summary["tests"]["files"] == "pass"
    assert not [one for one in written.summary["missing"] if one.startswith("decisions.")]
    file = made(run_of(offered))
    assert file.told("decisions", "signed") == ("ash", "birch")
    assert file.told("decisions", "state") == "offered"
    assert file.told("decisions", "operators") == 2
    assert file.told("identity", "released_on") is not None
    assert str(file.told("materials", "bill_of")).startswith("of the machine that offered")
    sign_off(offered, "elm")
    handed(offered)
    final = made(run_of(offered))
    assert final.told("decisions", "state") == "final"
    assert final.checks["signed_off"].outcome == "pass"


def test_a_file_that_is_not_the_released_one_needs_attention(offered: Federation) -> None:
    (run_of(offered) / "model.onnx").write_bytes(b"another model")
    found = made(run_of(offered)).checks["files"]
    assert (found.outcome, found.found) == ("attention", "others: model.onnx")


def test_a_release_whose_signatures_do_not_hold_is_no_fact(offered: Federation) -> None:
    path = offered.server / "releases" / RUN / "release.json"
    text = path.read_text()
    assert '"weights":' in text
    bundle = json.loads(text)
    bundle["act"]["weights"] += 1
    path.write_text(json.dumps(bundle, sort_keys=True, separators=(",", ":")))
    with pytest.raises(PolicyError, match="sign"):
        read_records(run_of(offered))


def test_what_is_beside_must_be_of_this_plan(tmp_path: Path) -> None:
    run = write_simulated(tmp_path / "run")
    audit = write_audit(tmp_path / "audit", small_plan())
    other = write_run(tmp_path / "other", small_plan())
    pruned = write_run(tmp_path / "pruned", PLAN)
    short = write_run(tmp_path / "short", unpruned(), rounds=3)
    stopped = write_run(tmp_path / "stopped", unpruned(), seed=1, interrupted=True)
    for beside, problem in (
        (Beside(audit=audit), "audit its plan.toml"),
        (Beside(audit=run), "holds no audit.json"),
        (Beside(dense=other), "is not a run of this plan but for its pruning"),
        (Beside(dense=pruned), "prunes to 0.75"),
        (Beside(dense=short), "cut short after 3 of 6 rounds"),
        (Beside(dense=stopped), "cut short after 6 of 6 rounds"),
        (Beside(dense=tmp_path), "holds no plan.toml"),
        (Beside(facts=tmp_path / "no.toml"), "no such file"),
    ):
        with pytest.raises(ConfigError, match=problem) as caught:
            read_records(run, beside)
        assert "\n" not in str(caught.value)
    (audit / "audit.json").write_text('{"plan_sha256": 1}')
    # What is no number lies beyond no claim.
    unknown = write_audit(tmp_path / "unknown", bound=float("nan"))
    for broken in (audit, unknown):
        with pytest.raises(ConfigError, match="is not as a run wrote it"):
            read_records(run, Beside(audit=broken))


def test_an_unpruned_run_stands_beside_by_figure_and_group(tmp_path: Path) -> None:
    run = write_simulated(tmp_path / "run")
    file = made(run, dense=write_run(tmp_path / "dense", unpruned()))
    told = fact(file, "pruning.dense").model_dump()["value"]
    named = {row[0] for row in told["rows"]}
    assert {"ROC-AUC", "Calibration error", "ROC-AUC, sex=f", "Calibration error, sex=f"} <= named
    assert all(row[-1] == 0 for row in told["rows"])
