"""A release on Flower's engine: out through the fleet port, and back as signed words alone."""

import csv
from pathlib import Path

import pytest

from client.cli import main as client_main
from common.release.manifest import FILES
from server.cli import main as server_main
from tests.commands import invoke
from tests.deployment.federation import (
    NAMES,
    await_health,
    found,
    make_plan,
    processes_of,
    tails,
    up,
)
from tests.releases import installed

pytestmark = [
    pytest.mark.long,
    pytest.mark.timeout(240),
    pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc"),
    pytest.mark.filterwarnings("ignore:GitWildMatchPattern:DeprecationWarning"),  # Flower's own
]

RUN = "small"


def test_a_model_is_released_signed_off_and_used(tmp_path: Path) -> None:
    federation = found(tmp_path / "federation", make_plan(rounds=1))
    server = federation.server

    def operate(*arguments: object) -> str:
        done = invoke(server_main, *arguments, "--home", server)
        assert done.code == 0, done.err + tails(server)
        return done.out

    def do(name: str, *arguments: object, code: int = 0) -> str:
        home = federation.institution(name)
        done = invoke(client_main, *arguments, "--home", home)
        assert done.code == code, done.err + tails(home)
        return done.out + done.err

    def score(name: str, code: int = 0) -> str:
        home = federation.institution(name)
        files = ("--model", home / "releases" / RUN, "--data", home / "loans.csv")
        return do(name, "score", *files, "--out", home / "scores.csv", "--force", code=code)

    with installed(tmp_path / "installed"), up(("server.cli", server)):
        await_health(federation)
        with up(*(("client.cli", federation.institution(name)) for name in NAMES)):
            operate("start", "--wait", "--run", RUN)
            told = operate("release", "offer", RUN)
            assert "In effect." in told
            assert "nobody; 2 needed" in told
            assert f"holds    {', '.join(NAMES)}" in told
            assert "is not final: 0 of 2 institutions needed" in score(NAMES[0], code=5)
            for name in NAMES[:2]:
                tested = do(name, "validate", RUN)
                assert "all institutions" in tested
                do(name, "release", "sign-off", RUN, tested.split()[-1])
            assert f"{', '.join(NAMES[:2])}; 2 needed" in operate("release", "collect", RUN)
            status = operate("status")
            assert "release:" not in status
        # What was handed round serves without a server.
    assert processes_of(federation.folder) == []
    for name in NAMES:
        score(name)
        home = federation.institution(name)
        assert "final" in do(name, "release", "list")
        with (home / "scores.csv").open(newline="") as file:
            assert len(list(csv.DictReader(file))) == 400
        for file_name in FILES:
            there, here = (at / "releases" / RUN / file_name for at in (server, home))
            assert there.read_bytes() == here.read_bytes()
    logs = [server / "audit", *(federation.institution(name) / "audit" for name in NAMES)]
    assert operate("audit", "compare", *logs).count("tells the same as the server") == len(NAMES)
