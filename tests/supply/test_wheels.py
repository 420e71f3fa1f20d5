import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest

from common.bill import files_hash
from common.errors import FedpruneError
from tests.commands import ROOT, trial_file
from tests.supply.wheels import PACKAGES, REQUIREMENTS, SUMS, build_wheel, fill, install, seal

NAME = "fedprune-0.1.0-py3-none-any.whl"
METADATA = ("METADATA", "RECORD", "WHEEL", "entry_points.txt", "top_level.txt")
OUT_OF_REACH = re.compile("[Nn]o matching distribution|[Cc]onnection")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the project's wheel."""
    return build_wheel(ROOT, tmp_path_factory.mktemp("built"))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Return a copy of what the wheel is built from."""
    copy = tmp_path / "another place"
    for name in PACKAGES:
        shutil.copytree(ROOT / name, copy / name)
    shutil.copy(ROOT / "pyproject.toml", copy)
    return copy


def test_another_time_folder_and_umask_give_the_same_bytes(
    wheel: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for file in source.rglob("*"):
        os.utime(file, (2e9, 2e9))
        file.chmod(0o700 if file.is_dir() else 0o640)
    left_over = source / "build/lib/common/left_over.py"
    left_over.parent.mkdir(parents=True)
    left_over.touch()
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    monkeypatch.setenv("TZ", "Asia/Kathmandu")
    before = os.umask(0o077)
    try:
        again = build_wheel(source, tmp_path / "out")
    finally:
        os.umask(before)
    assert again.name == wheel.name == NAME
    assert again.read_bytes() == wheel.read_bytes()
    (source / "common/errors.py").write_text("# another source\n")
    assert build_wheel(source, tmp_path / "out").read_bytes() != wheel.read_bytes()


def test_the_wheel_holds_the_packages_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        modes = {entry.external_attr >> 16 & 0o777 for entry in archive.infolist()}
    shipped = [
        str(file.relative_to(ROOT))
        for package in PACKAGES
        for file in (ROOT / package).rglob("*")
        if file.suffix in {".py", ".toml", ".typed", ".html", ".css"}
        or file.parent.name == "static"
    ]
    assert sorted(names) == sorted(
        [*shipped, *(f"fedprune-0.1.0.dist-info/{name}" for name in METADATA)]
    )
    assert "common/schemas/credit_consortium.toml" in names
    assert "simulations/scenarios/consortium.toml" in names
    assert {"server/live/static/index.html", "server/live/static/uplot.js"} <= {*names}
    assert modes <= {0o644, 0o664}  # setuptools gives RECORD the second


def test_what_cannot_be_built_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[project\n")
    with pytest.raises(FedpruneError, match="pip wheel failed"):
        build_wheel(tmp_path, tmp_path / "out")


def test_a_wheel_house_is_sealed_by_hashes(wheel: Path, tmp_path: Path) -> None:
    shutil.copy(wheel, tmp_path)
    seal(tmp_path)
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    assert (tmp_path / SUMS).read_text() == f"{digest}  {NAME}\n"
    assert (tmp_path / REQUIREMENTS).read_text() == f"fedprune==0.1.0 --hash=sha256:{digest}\n"
    altered = wheel.read_bytes().replace(b"METADATA", b"METADATB")
    (tmp_path / NAME).write_bytes(altered)
    with pytest.raises(FedpruneError, match="DO NOT MATCH THE HASHES"):
        install(tmp_path, "--no-deps", "--target", tmp_path / "site")
    assert not (tmp_path / "site").exists()


def test_what_the_wheel_house_lacks_is_not_fetched(wheel: Path, tmp_path: Path) -> None:
    shutil.copy(wheel, tmp_path)
    seal(tmp_path)
    # Under --target pip takes nothing for installed, so it asks for all dependencies.
    with pytest.raises(FedpruneError, match="pip install failed"):
        install(tmp_path, "--target", tmp_path / "site")
    assert not (tmp_path / "site").exists()


def test_the_installed_wheel_runs_from_an_empty_folder(wheel: Path, tmp_path: Path) -> None:
    house, site, empty = (tmp_path / name for name in ("house", "site", "empty"))
    house.mkdir()
    empty.mkdir()
    shutil.copy(wheel, house)
    seal(house)
    install(house, "--no-deps", "--target", site)
    plan = trial_file(tmp_path)

    def run(*arguments: object) -> str:
        return subprocess.run(
            (sys.executable, *map(str, arguments)),
            cwd=empty,
            env=os.environ | {"PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        ).stdout

    run("-m", "simulations.cli", "run", plan, "--no-baselines", "--out", "trial")
    assert (empty / "trial/model.onnx").stat().st_size > 0
    # It knows what it is and what it needs, without anything of the checkout.
    bill = json.loads(
        run("-c", "from common.bill import installed_bill as b; print(b().to_json().decode())")
    )
    root = bill["metadata"]["component"]
    with zipfile.ZipFile(wheel) as archive:
        record = archive.read("fedprune-0.1.0.dist-info/RECORD").decode()
    assert root["version"] == "0.1.0"
    assert root["properties"] == [{"name": "fedprune:files-sha256", "value": files_hash(record)}]
    assert len(bill["components"]) > 60


def test_a_wheel_house_holds_what_a_lock_pins(tmp_path: Path) -> None:
    lock, house = tmp_path / "lock", tmp_path / "house"
    lock.write_text(f"# part of one\nidna=={version('idna')}\nnever==1 ; sys_platform == 'never'\n")
    house.mkdir()
    (house / "stale-1.0-py3-none-any.whl").touch()
    try:
        fill(house, lock)
    except FedpruneError as error:
        if OUT_OF_REACH.search(str(error)):
            pytest.skip("no registry within reach to take a wheel from")
        raise
    names = sorted(path.name for path in house.glob("*.whl"))
    assert names == [NAME, f"idna-{version('idna')}-py3-none-any.whl"]
    lines = (house / REQUIREMENTS).read_text().splitlines()
    assert [line.partition(" --hash=sha256:")[0] for line in lines] == [
        "fedprune==0.1.0",
        f"idna=={version('idna')}",
    ]
    install(house, "--no-deps", "--target", tmp_path / "site")
    assert (tmp_path / "site/idna/__init__.py").is_file()
