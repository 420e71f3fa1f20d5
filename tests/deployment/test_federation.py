"""A federation over TLS with node authentication, as three institutions and a server run it."""

import io
import json
import signal
import socket
import ssl
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import httpx
import pytest
import tomli_w
from flwr.cli.build import build_fab_from_files
from flwr.common.serde import fab_to_proto, user_config_to_proto
from flwr.proto.control_pb2 import StartRunRequest
from flwr.supercore.fab import Fab

from client.supernode import WHY
from server import control
from server.desk import find_desk, free_port
from tests.commands import ROOT
from tests.deployment.federation import (
    DAY,
    NAMES,
    Authority,
    Federation,
    await_health,
    environment,
    found,
    make_node_key,
    make_plan,
    processes_of,
    start_up,
    tails,
    up,
)
from tests.deployment.loopback import operate

pytestmark = [
    pytest.mark.timeout(240),
    pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc"),
]

GONE_SECONDS = 20.0


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    made = found(tmp_path_factory.mktemp("federation"), make_plan())
    with up(("server.cli", made.server)):
        await_health(made)
        with up(*(("client.cli", made.institution(name)) for name in NAMES)):
            yield made
    assert processes_of(made.folder) == []


@pytest.mark.filterwarnings("ignore:GitWildMatchPattern:DeprecationWarning")  # Flower's own
def test_neither_another_plan_nor_another_archive_runs_here(federation: Federation) -> None:
    plan, marker = make_plan(epsilon=9.0), federation.folder / "marker"
    prepared = federation.server / "runs" / "altered"
    prepared.mkdir(parents=True)
    (prepared / "plan.toml").write_text(plan.to_toml())
    fab = Fab(sha256(evil := altered_archive(marker)).hexdigest(), evil, {})
    with control.at(find_desk(federation.server)) as superlink:
        request = StartRunRequest(
            fab=fab_to_proto(fab), override_config=user_config_to_proto({"run": "altered"})
        )
        number = superlink.StartRun(request).run_id
        deadline = time.monotonic() + 100
        ended = None
        while (ended is None or not ended.finished) and time.monotonic() < deadline:
            (ended,) = [one for one in control.runs(superlink) if one.number == number]
            time.sleep(0.5)
    assert ended is not None
    assert ended.outcome == "failed"
    assert f"approved another plan: agree on {plan.digest()}" in ended.details, tails(
        federation.server
    )
    assert all(name in ended.details for name in NAMES), "somebody agreed, or did not answer"
    assert not marker.exists()


def test_a_run_takes_a_directory_of_its_own(federation: Federation) -> None:
    (federation.server / "runs" / "taken").mkdir(parents=True)
    again = operate(federation.server, "start", "--run", "taken")
    assert again.returncode == 3
    assert "exists: name another run" in again.stderr


def altered_archive(marker: Path) -> bytes:
    code = f"open({str(marker)!r}, 'w').close()\n"
    app = {
        "publisher": "fedprune",
        "fab-include": ["client/*.py", "server/*.py"],
        "components": {"serverapp": "server.app:app", "clientapp": "client.app:app"},
        "config": {"run": ""},
    }
    project = {"name": "fedprune", "version": "0.1.0"}
    files: dict[str, bytes | Path] = {
        "pyproject.toml": tomli_w.dumps(
            {"project": project, "tool": {"flwr": {"app": app}}}
        ).encode()
    }
    for side in ("client", "server"):
        files[f"{side}/__init__.py"] = code.encode()
        files[f"{side}/app.py"] = f"{code}app = None\n".encode()
    archive = build_fab_from_files(files)[0]
    with zipfile.ZipFile(io.BytesIO(archive)) as packed:
        assert str(marker).encode() in packed.read("client/app.py")
    return archive


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/control/list-runs"),
        ("POST", "/v1/control/start-run"),
        ("POST", "/v1/runtime/acquire-task"),
        ("POST", "/v1/runtime/pull-task-input"),
        ("POST", "/v1/responses"),
        ("POST", "/v1/fleet/../control/list-runs"),
        ("POST", "/v1/fleet/%2e%2e/control/list-runs"),
        ("POST", "/v1/fleet/..%2fcontrol/list-runs"),
        ("POST", "//v1/control/list-runs"),
        ("POST", "/V1/CONTROL/list-runs"),
        ("POST", "/v1/fleet/pull-messages?to=/v1/control/list-runs"),
        ("POST", "/v1/fleet/pull-messages/"),
        ("POST", "https://127.0.0.1/v1/control/list-runs"),
        ("GET", "/v1/fleet/pull-messages"),
        ("CONNECT", "/v1/fleet/pull-messages"),
        ("POST", "/health"),
        ("GET", "/docs"),
        ("GET", "/openapi.json"),
    ],
)
def test_only_the_fleet_api_is_public(federation: Federation, method: str, path: str) -> None:
    assert ask(federation, f"{method} {path}") == 404


def test_fleet_api_and_health_are_public(federation: Federation) -> None:
    assert ask(federation, "GET /health") == 200
    # It reached SuperLink, which asks for a signature.
    assert ask(federation, "POST /v1/fleet/pull-messages") == 401


def ask(federation: Federation, line: str) -> int:
    """Send a request line as it stands, which no client library would, and return the status."""
    trusted = ssl.create_default_context(cafile=federation.server / "ca.pem")
    host, port = federation.address.split(":")
    with (
        socket.create_connection((host, int(port)), timeout=20) as plain,
        trusted.wrap_socket(plain, server_hostname=host) as link,
    ):
        head = f"{line} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/protobuf\r\n"
        link.sendall(f"{head}content-length: 0\r\nconnection: close\r\n\r\n".encode())
        status = link.makefile("rb").readline()
    return int(status.split()[1])


def test_superlink_itself_listens_on_loopback_alone(federation: Federation) -> None:
    port = find_desk(federation.server).port
    listening = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    bound = [row[1] for row in listening if row[3] == "0A" and row[1].endswith(f":{port:04X}")]
    assert bound == [f"0100007F:{port:04X}"]


def test_strangers_are_refused(federation: Federation, tmp_path: Path) -> None:
    member = federation.institution(NAMES[0])
    stranger, expired = tmp_path / "stranger", tmp_path / "expired"
    for home in (stranger, expired):
        home.mkdir()
    make_node_key(stranger)
    (stranger / "ca.pem").write_bytes(Authority.make().pem)
    past = Authority.make()
    past.issue(expired, valid=-DAY)
    (expired / "ca.pem").write_bytes(past.pem)
    desk = find_desk(federation.server)
    pair = [(expired / name).read_bytes() for name in ("server.key", "server.pem")]
    (expired / "identity.pem").write_bytes(b"".join(pair))
    port = str(free_port())
    served = (str(expired / "identity.pem"), desk.address, str(federation.server))
    gateway = subprocess.Popen(
        (sys.executable, "-m", "server.gateway", "127.0.0.1", port, *served),
        cwd=ROOT,
        env=environment(),
        stderr=subprocess.DEVNULL,
    )
    address, key = federation.address, member / "node.key"
    pinned = ("--root-certificates", str(member / "ca.pem"))
    own_key = ("--auth-supernode-private-key", str(key))
    cases = {
        "no TLS": (address, "--insecure"),
        "wrong CA": (address, "--root-certificates", str(stranger / "ca.pem"), *own_key),
        "expired": (f"127.0.0.1:{port}", "--root-certificates", str(expired / "ca.pem"), *own_key),
        "unregistered key": (
            address,
            *pinned,
            "--auth-supernode-private-key",
            str(stranger / "node.key"),
        ),
        "no key": (address, *pinned),
        "second node of a member": (address, *pinned, *own_key),
    }
    try:
        started = {name: supernode(tmp_path, *arguments) for name, arguments in cases.items()}
        said = {name: process.communicate(timeout=90)[0] for name, process in started.items()}
    finally:
        gateway.terminate()
        gateway.wait()
    ended = {name: process.returncode for name, process in started.items()}
    # Flower's SuperNode takes the public port's 401 for the end of its work.
    assert "SuperNode terminated" in said.pop("no key")
    assert ended.pop("no key") == 0
    assert set(ended.values()) == {1}, f"{ended} {said}"
    for name, text in said.items():
        assert "Exit Code: 305" in text, f"{name}: {text}"
    assert "CERTIFICATE_VERIFY_FAILED" in said["wrong CA"]
    assert "certificate has expired" in said["expired"]
    for name in ("unregistered key", "second node of a member"):
        assert WHY in said[name], said[name]
    shown = operate(federation.server, "status").stdout
    assert shown.count("online") == len(NAMES), "the member was put out"


def supernode(folder: Path, superlink: str, *arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        (
            *(sys.executable, "-m", "client.supernode", "--superlink", superlink, *arguments),
            *("--host", "127.0.0.1", "--port", str(free_port()), "--isolation", "process"),
            *("--max-retries", "1"),
        ),
        cwd=ROOT,
        env=environment() | {"FLWR_HOME": str(folder), "FLWR_TELEMETRY_ENABLED": "0"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_a_key_counts_while_it_lies_among_the_members(
    federation: Federation, tmp_path: Path
) -> None:
    make_node_key(tmp_path)
    listed = federation.server / "members" / "guest.pub"
    listed.write_bytes((tmp_path / "node.key.pub").read_bytes())
    await_nodes(federation, {*NAMES, "guest"})
    listed.unlink()
    await_nodes(federation, set(NAMES))


def await_nodes(federation: Federation, names: set[str], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    with control.at(find_desk(federation.server)) as superlink:
        while time.monotonic() < deadline:
            if {node.name for node in control.nodes(superlink)} == names:
                return
            time.sleep(0.2)
    raise AssertionError(tails(federation.server))


def test_doctors_find_nothing_wrong(federation: Federation) -> None:
    checked = operate(federation.server, "doctor", "--json")
    assert checked.returncode == 0, checked.stdout
    states = {found["what"]: found["state"] for found in json.loads(checked.stdout)}
    # A container's host sets the clock, and does not tell it so.
    assert states.pop("clock") in {"good", "note"}
    assert set(states.values()) == {"good"}
    assert {"versions", "disk", "server.pem", "server.key", "issuer", "name", "port"} <= set(states)

    home = federation.institution(NAMES[1])
    command = (sys.executable, "-m", "client.cli", "doctor", "--json", "--home", str(home))
    done = subprocess.run(
        command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    states = {found["what"]: found["state"] for found in json.loads(done.stdout)}
    assert set(states.values()) == {"good"}
    assert {"ca.pem", "node.key", "server", "clock", "plan", "data"} <= set(states)


def test_a_second_up_is_refused(federation: Federation) -> None:
    second = operate(federation.server, "up")
    assert second.returncode == 3
    assert "`up` runs here already" in second.stderr


def test_a_killed_gateway_comes_back(federation: Federation) -> None:
    (gateway,) = [
        int(number)
        for number in processes_of(federation.server)
        if b"server.gateway" in Path(f"/proc/{number}/cmdline").read_bytes()
    ]
    Path(f"/proc/{gateway}").stat()
    subprocess.run(("kill", "-9", str(gateway)), check=True)
    while Path(f"/proc/{gateway}/exe").exists():
        time.sleep(0.05)
    await_health(federation)


def test_a_killed_up_takes_its_processes_along(tmp_path: Path) -> None:
    made = found(tmp_path, make_plan())
    process = start_up("server.cli", made.server)
    try:
        await_health(made)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    deadline = time.monotonic() + GONE_SECONDS
    while (left := processes_of(tmp_path)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert left == []
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"https://{made.address}/health", trust_env=False)
