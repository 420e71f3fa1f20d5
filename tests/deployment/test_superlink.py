"""The two Flower apps on a real SuperLink with three SuperNodes over loopback."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from common.model import layout_of
from common.pruning.masks import unpack_mask
from common.pruning.rules import deepest
from common.pruning.schedules import sparsity_after
from tests.deployment.engine import Engine
from tests.deployment.federation import NAMES, ROUNDS, found, make_plan, processes_of

pytestmark = pytest.mark.timeout(240)


@pytest.mark.long
def test_three_institutions_train_a_pruned_model_on_a_real_engine(tmp_path: Path) -> None:
    federation, out = found(tmp_path, make_plan()), tmp_path / "out"
    plan = federation.plan
    layout = layout_of(plan.model, plan.schema_.width)
    kept = [round(layout.size * (1 - sparsity_after(plan, done))) for done in range(ROUNDS + 1)]
    with Engine(tmp_path) as engine:
        for name in plan.names:
            engine.start_supernode(name, federation.institution(name) / "client.toml")
        agreed = (federation.server / "plan.toml", federation.server / "roster.json")
        ended = engine.run(*agreed, out, seconds=200)
        assert ended.status == "finished:completed", ended.log
        rows = list(csv.DictReader((out / "rounds.csv").read_text().splitlines()))
        # A fourth round, without an update, evaluates what three have trained.
        assert [(row["round"], row["survivors"]) for row in rows] == [
            (str(number), "3") for number in range(ROUNDS + 1)
        ]
        assert [row["epoch"] for row in rows] == ["1", "2", "3", "4"], "a round was repeated"

    # Beside the SuperLink, which was told of no other place.
    (adverts,) = (tmp_path / "state").glob("adverts-*.json")
    assert len(json.loads(adverts.read_bytes())) == len(NAMES)

    assert [int(row["weights_kept"]) for row in rows] == kept
    assert kept[-1] == round(layout.size * (1 - deepest(plan)))
    assert [row["auc_test"] for row in rows[:-1]] == [""] * ROUNDS
    assert 0 < float(rows[-1]["auc_test"]) < 1
    assert int(rows[-1]["bytes_up"]) < int(rows[0]["bytes_up"])

    assert (out / "model.onnx").is_file()
    tensors = load_file(out / "model.safetensors")
    mask = unpack_mask(tensors["mask"].tobytes(), layout.size)
    weights = np.concatenate([tensors[entry.name].ravel() for entry in layout.entries])
    assert mask.sum() == kept[-1]
    assert np.isfinite(weights).all()
    assert not weights[~mask].any()


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc")
def test_no_process_outlives_an_engine_left_by_an_error(tmp_path: Path) -> None:
    def leave() -> None:
        with Engine(tmp_path) as engine:
            engine.start_supernode("bank-00", tmp_path / "client.toml", stock=True)
            assert len(processes_of(tmp_path)) >= 2
            raise RuntimeError("left")

    with pytest.raises(RuntimeError, match="left") as left:
        leave()
    assert processes_of(tmp_path) == []
    (tails,) = left.value.__notes__
    assert "--- superlink" in tails
    assert "--- bank-00" in tails
