"""`make federation`, as it is typed: founded by commands, trained, pruned, taken down."""

import csv
import re
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from client.cli import main
from server.cli import main as server_main
from tests.commands import ROOT, invoke
from tests.deployment.federation import NAMES, ROUNDS, environment, processes_of

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc"),
]

MODULE = "tests.deployment.loopback"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("loopback")


@pytest.fixture(scope="module")
def told(folder: Path) -> str:
    """Return what `make federation` prints."""
    assert f"-m {MODULE}\n" in (ROOT / "Makefile").read_text()
    command = (sys.executable, "-m", MODULE, str(folder))
    done = subprocess.run(
        command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_it_says_who_does_what(told: str) -> None:
    typed = re.findall(r"^  \$ (fedprune-(?:server|client) \w+)", told, re.MULTILINE)
    server, client = "fedprune-server", "fedprune-client"
    assert typed == [
        f"{server} init",
        *[f"{client} init", f"{server} admit"] * len(NAMES),
        f"{server} publish",
        *[f"{client} join", f"{client} approve"] * len(NAMES),
        f"{server} up",
        f"{server} start",
    ]
    for name in NAMES:
        assert f"{name} makes its keys" in told
        assert f"{name} approves " in told
    assert told.count("online") == len(NAMES)
    assert "finished completed" in told
    assert f"Round {ROUNDS - 1}: {len(NAMES)} institutions trained" in told


def test_it_leaves_a_pruned_model_and_no_process(told: str, folder: Path) -> None:
    out = folder / "server" / "runs" / "loopback"
    rows = list(csv.DictReader((out / "rounds.csv").read_text().splitlines()))
    assert [row["survivors"] for row in rows] == ["3"] * (ROUNDS + 1)
    kept = int(rows[-1]["weights_kept"])
    mask = load_file(out / "model.safetensors")["mask"]
    assert kept == int.from_bytes(mask.tobytes(), "big").bit_count()
    assert kept < int(rows[0]["weights_kept"])
    assert f"The model: {kept:,} weights are left" in told
    assert (out / "model.onnx").is_file()
    for name in NAMES:
        assert invoke(main, "ledger", "verify", "--home", folder / name).code == 0
    assert processes_of(folder) == []


def test_its_logs_hold_and_tell_the_same_on_both_sides(told: str, folder: Path) -> None:
    assert told
    homes = [folder / "server", *(folder / name for name in NAMES)]
    for home, command in zip(homes, [server_main, *[main] * len(NAMES)], strict=True):
        assert invoke(command, "audit", "verify", "--home", home).code == 0
    logs = [home / "audit" for home in homes]
    for home, command in ((homes[0], server_main), (homes[1], main)):
        compared = invoke(command, "audit", "compare", *logs, "--home", home)
        assert compared.code == 0, compared.out
        assert compared.out.count("tells the same as the server") == len(NAMES)
