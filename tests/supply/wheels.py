"""`make wheel` and `make wheelhouse`: the same bytes each time, and installs without network."""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from packaging.utils import parse_wheel_filename

from common.console import command_line
from common.durable import write_atomically
from common.errors import FedpruneError
from tests.commands import ROOT
from tests.supply.lock import LOCK

PACKAGES = ("client", "common", "fedprune", "server", "simulations")
EPOCH = "315532800"
"""The first second a zip file can tell, 1980-01-01: a wheel says nothing of when it was built."""

SUMS, REQUIREMENTS = "SHA256SUMS", "requirements.txt"


def build_wheel(source: Path, out: Path) -> Path:
    """Build the project's wheel from ``source`` into ``out``, whatever clock and umask say.

    Setuptools takes over modes of files, and whatever an earlier build left in ``build/``, so it
    builds from a clean copy.
    """
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "fedprune"
        for file in (source / "pyproject.toml", *_shipped(source)):
            target = copy / file.relative_to(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.read_bytes())
            target.chmod(0o644)
        built = Path(folder) / "built"
        _pip("wheel", "--no-deps", "--no-index", "--no-build-isolation", "-w", built, copy)
        (wheel,) = built.glob("*.whl")
        out.mkdir(parents=True, exist_ok=True)
        return Path(shutil.copy(wheel, out))


def fill(house: Path, lock: Path) -> None:
    """Fill a new folder with wheels of all that ``lock`` pins for this machine, and ours."""
    shutil.rmtree(house, ignore_errors=True)
    house.mkdir(parents=True)
    _pip("wheel", "--no-deps", "-w", house, "--requirement", lock)
    build_wheel(ROOT, house)
    seal(house)


def seal(house: Path) -> None:
    """Write the hash of each wheel: for `sha256sum --check`, and as pip's requirements."""
    sums, requirements = [], []
    for wheel in sorted(house.glob("*.whl")):
        digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
        name, version, _, _ = parse_wheel_filename(wheel.name)
        sums.append(f"{digest}  {wheel.name}\n")
        requirements.append(f"{name}=={version} --hash=sha256:{digest}\n")
    write_atomically(house / SUMS, "".join(sums).encode())
    write_atomically(house / REQUIREMENTS, "".join(requirements).encode())


def install(house: Path, *options: object) -> None:
    """Install a sealed wheel house without network, as docs/supply-chain.md tells people to."""
    sealed = ("--require-hashes", "--requirement", house / REQUIREMENTS)
    _pip("install", "--no-index", "--find-links", house, *sealed, *options)


def _shipped(source: Path) -> list[Path]:
    """Return the files of the packages; setuptools takes from them what pyproject.toml says."""
    found = [file for name in PACKAGES for file in (source / name).rglob("*") if file.is_file()]
    return [file for file in found if "__pycache__" not in file.parts]


def _pip(*arguments: object) -> None:
    """Run pip under one clock and one umask; raise `FedpruneError` with its last line."""
    ran = subprocess.run(
        (sys.executable, "-m", "pip", "--quiet", *map(str, arguments)),
        env=os.environ | {"SOURCE_DATE_EPOCH": EPOCH},
        umask=0o022,
        capture_output=True,
        text=True,
        check=False,
    )
    if ran.returncode:
        errors = [line for line in ran.stderr.splitlines() if line.startswith("ERROR")]
        raise FedpruneError(f"pip {arguments[0]} failed: {' '.join(errors) or ran.stderr}")


def main() -> None:
    """Build our wheel, or with "wheelhouse" as argument all of them, into dist/."""
    dist = ROOT / "dist"
    if sys.argv[1:] != ["wheelhouse"]:
        print(build_wheel(ROOT, dist))
        return
    house = dist / "wheelhouse"
    fill(house, LOCK)
    print(f"{len(list(house.glob('*.whl')))} wheels, {SUMS} and {REQUIREMENTS} in {house}")


if __name__ == "__main__":
    command_line(main)
