"""What the Dockerfile and the compose file must say, whatever engine reads them."""

import re
from copy import deepcopy
from itertools import combinations
from pathlib import Path

import pytest

from server.desk import Public
from tests.commands import ROOT
from tests.docker.chamber import admitted
from tests.docker.recipe import FOLDER, Compose, Recipe, read_compose, read_recipe

TARGETS = ("server", "institution")
RECIPE, COMPOSE = read_recipe(), read_compose()
INSTITUTIONS = ("bank-a", "bank-b", "bank-c")
BUILDERS = re.compile(r"\b(apt|apt-get|apk|gcc|g\+\+|build-essential|make|cargo|curl|wget)\b")
REGISTRY = re.compile(r"\b([a-z0-9-]+\.)+(com|io|org|net|example)\b|https?://")


def test_every_word_is_known_and_another_is_not_passed_over() -> None:
    assert [step.word for step in RECIPE.steps][:2] == ["ARG", "FROM"]
    with pytest.raises(ValueError, match="'ADD' is no instruction"):
        _ = Recipe("FROM a AS b\nADD x /x").stages
    with pytest.raises(ValueError, match="a name of its own"):
        _ = Recipe("FROM a AS b\nFROM a").stages
    (step,) = Recipe("RUN --mount=type=bind,target=/w \\\n  # why\n  one \\\n  && two").steps
    assert (step.options, step.rest) == ((("mount", "type=bind,target=/w"),), "one && two")


def test_the_base_has_a_tag_and_comes_from_nowhere_else() -> None:
    bases = {stage.base for stage in RECIPE.stages.values()} - RECIPE.stages.keys()
    assert bases == {"python:3.11-slim", "scratch"}
    for file in FOLDER.iterdir():
        if file.is_file() and file.suffix != ".md":
            assert not REGISTRY.search(file.read_text()), file


@pytest.mark.parametrize("target", TARGETS)
def test_an_image_builds_nothing_and_runs_as_nobody_in_particular(target: str) -> None:
    stages = RECIPE.chain(target)
    assert [stage.name for stage in stages] == ["runtime", target]
    steps = [step for stage in stages for step in stage.steps]
    runs = [step.rest for step in steps if step.word == "RUN"]
    assert not any(BUILDERS.search(run) or "pip" in run for run in runs)
    # The build stage has none either: wheels alone.
    installs = [s.rest for s in RECIPE.stages["build"].all("RUN") if "--requirement" in s.rest]
    assert all("--only-binary :all:" in rest for rest in installs)
    assert len(installs) == 1
    assert [step.rest for step in steps if step.word == "USER"] == ["10001:10001"]
    after = [step.word for step in steps[[step.word for step in steps].index("USER") :]]
    assert not {"RUN", "COPY"} & set(after)
    copies = [step for step in steps if step.word == "COPY"]
    assert [dict(step.options) for step in copies] == [{"from": "build"}]
    command = f"fedprune-{'client' if target == 'institution' else 'server'}"
    by_word = {step.word: step for step in steps}
    assert by_word["ENTRYPOINT"].form == [command]
    assert by_word["CMD"].form == ["up"]
    assert by_word["HEALTHCHECK"].form == [command, "healthcheck"]
    assert {"interval", "timeout", "start-period"} <= dict(by_word["HEALTHCHECK"].options).keys()


def test_only_the_server_has_a_port() -> None:
    exposed = {name: [s.rest for s in stage.all("EXPOSE")] for name, stage in RECIPE.stages.items()}
    assert {name for name, ports in exposed.items() if ports} == {"server"}
    assert exposed["server"] == ["9092"]


def test_what_is_copied_is_there_and_no_secret_can_come_along() -> None:
    copied = [
        source
        for stage in RECIPE.stages.values()
        for step in stage.all("COPY")
        if "from" not in dict(step.options)
        for source in step.rest.split()[:-1]
    ]
    assert set(copied) == {
        *("requirements.lock", "pyproject.toml", "common", "client", "server"),
        *("simulations", "fedprune"),
    }
    for source in copied:
        assert (ROOT / source).exists()
        assert admitted(source)
    assert admitted("common/schemas/credit_consortium.toml")
    refused = (".git", ".venv/bin/python", "runs/demo", "docker/federation/bank-a/passphrase")
    for path in (*refused, "server.key", "client.toml", "tests", "common/__pycache__/plan.pyc"):
        assert not admitted(path), path
    secrets = [step.options for step in RECIPE.steps if "secret" in str(step.options)]
    assert len(secrets) == 1, "one secret, and mounted: it is in no layer"
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    assert "docker/federation/" in ignored


def faults(compose: Compose) -> list[str]:
    """Return what a compose file leaves open, by service and word."""
    found = []
    for name, service in compose.services.items():
        wanted = {
            "read_only": True,
            "cap_drop": ["ALL"],
            "security_opt": ["no-new-privileges:true"],
            "user": "10001:10001",
            "init": True,
        }
        found += [f"{name}: {w}" for w, v in wanted.items() if service.fields.get(w) != v]
        forbidden = ("privileged", "cap_add", "network_mode", "pid", "ipc", "devices", "ports")
        found += [f"{name}: {word}" for word in forbidden if word in service.fields]
        found += [
            f"{name}: {target}"
            for target, options in service.tmpfs
            if not {"noexec", "nosuid", "nodev"} <= set(options.split(","))
        ]
        if not service.tmpfs:
            found.append(f"{name}: tmpfs")
    for one, other in combinations(compose.services.values(), 2):
        if set(one.networks) & set(other.networks) and "server" not in (one.name, other.name):
            found.append(f"{one.name}, {other.name}: network")
        places = [{source for source, _, _ in both.volumes} for both in (one, other)]
        if places[0] & places[1]:
            found.append(f"{one.name}, {other.name}: volume")
        held = [{compose.secret(source) for source, _ in both.secrets} for both in (one, other)]
        if held[0] & held[1]:
            found.append(f"{one.name}, {other.name}: secret")
    found += [
        f"{name}: not internal"
        for name, network in compose.fields["networks"].items()
        if not (network or {}).get("internal")
    ]
    return found


def test_each_service_is_shut_in_and_meets_the_server_alone() -> None:
    assert faults(COMPOSE) == []
    assert set(COMPOSE.services) == {"server", *INSTITUTIONS}
    assert {s.target for s in COMPOSE.services.values()} <= RECIPE.stages.keys()
    assert COMPOSE.services["server"].networks == [*INSTITUTIONS]
    for name in INSTITUTIONS:
        service = COMPOSE.services[name]
        assert service.target == "institution"
        assert service.networks == [name]
        assert service.secrets == [(name, "passphrase")]
        assert ("/table", False) in [(target, writable) for _, target, writable in service.volumes]
    for service in COMPOSE.services.values():
        build = service.fields["build"]
        assert (FOLDER / build["context"] / build["dockerfile"]).resolve() == FOLDER / "Dockerfile"
        assert service.environment == {"FEDPRUNE_PASSPHRASE_FILE": "/run/secrets/passphrase"}
        home = RECIPE.stages["runtime"].all("WORKDIR")[0].rest
        assert [target for _, target, writable in service.volumes if writable] == [home]


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"read_only": False}, "bank-a: read_only"),
        ({"cap_drop": []}, "bank-a: cap_drop"),
        ({"user": "0:0"}, "bank-a: user"),
        ({"ports": ["9464:9464"]}, "bank-a: ports"),
        ({"tmpfs": ["/tmp"]}, "bank-a: /tmp"),
        ({"networks": ["bank-a", "bank-b"]}, "bank-a, bank-b: network"),
        (
            {"secrets": [{"source": "bank-b", "target": "passphrase"}]},
            "bank-a, bank-b: secret",
        ),
        ({"volumes": ["./federation/server/home:/var/lib/fedprune"]}, "server, bank-a: volume"),
    ],
)
def test_a_service_that_is_left_open_is_found(change: dict[str, object], fault: str) -> None:
    fields = deepcopy(COMPOSE.fields)
    fields["services"]["bank-a"].update(change)
    assert fault in faults(Compose(fields))


def test_the_address_of_the_guide_is_the_services_own_name() -> None:
    guide = (FOLDER / "README.md").read_text()
    (address,) = set(re.findall(r"--address (\S+)", guide))
    assert Public(address=address).host in COMPOSE.services
    assert Public(address=address).port == int(RECIPE.stages["server"].all("EXPOSE")[0].rest)


def test_the_recipe_is_one_file_beside_its_ignore_file() -> None:
    assert Path(f"{FOLDER / 'Dockerfile'}.dockerignore").is_file()


def test_a_packed_wheelhouse_is_installed_by_hash_and_no_second_index_is_asked() -> None:
    (step,) = [s for s in RECIPE.stages["build"].all("RUN") if "--requirement" in s.rest]
    by_hash, _, by_lock = step.rest.partition("else")
    assert "if [ -f /wheelhouse/requirements.txt ]" in by_hash
    for option in ("--no-index", "--require-hashes", "--requirement /wheelhouse/requirements.txt"):
        assert option in by_hash
    assert "--requirement requirements.lock" in by_lock
    assert "EXTRA_INDEX" not in (ROOT / "docker" / "Dockerfile").read_text()
