import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SKELETON = (
    "common/__init__.py",
    "common/messages.py",
    "common/schema.py",
    "common/crypto/__init__.py",
    "common/crypto/ring.py",
    "client/__init__.py",
    "client/app.py",
    "server/__init__.py",
    "server/app.py",
    "fedprune/__init__.py",
    "simulations/__init__.py",
    "simulations/run.py",
)


def lint_imports(root: Path) -> subprocess.CompletedProcess[str]:
    """Check the packages below ``root`` against the contracts of its pyproject.toml."""
    program = (
        "import sys; from importlinter.cli import lint_imports as f; sys.exit(f(no_cache=True))"
    )
    return subprocess.run(
        [sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=False
    )


@pytest.fixture
def skeleton(tmp_path: Path) -> Path:
    """Return a small copy of the layout, under the project's own contracts."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for module in SKELETON:
        (tmp_path / module).parent.mkdir(exist_ok=True)
        (tmp_path / module).touch()
    return tmp_path


def test_project_keeps_its_layers() -> None:
    result = lint_imports(ROOT)
    assert result.returncode == 0, result.stdout + result.stderr


def test_allowed_imports_pass(skeleton: Path) -> None:
    (skeleton / "common/messages.py").write_text("import flwr.app\n")
    (skeleton / "common/schema.py").write_text("import torch\n")
    (skeleton / "client/app.py").write_text("import flwr.clientapp\nimport common.messages\n")
    (skeleton / "simulations/run.py").write_text("import client.app\nimport server.app\n")
    (skeleton / "fedprune/__init__.py").write_text("import simulations.run\nimport client.app\n")
    result = lint_imports(skeleton)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(
    ("module", "source", "contract"),
    [
        ("common/schema.py", "import client.app", "never meet"),
        ("common/schema.py", "from simulations import run", "never meet"),
        ("client/app.py", "import server.app", "never meet"),
        ("server/app.py", "from client.app import *", "never meet"),
        ("server/app.py", "import simulations.run", "never meet"),
        ("simulations/run.py", "import fedprune", "never meet"),
        ("common/schema.py", "from flwr.common import RecordDict", "only in common.messages"),
        ("server/app.py", "import onnxruntime", "reporting to its maker"),
        ("common/crypto/ring.py", "import torch", "without torch"),
        ("common/crypto/ring.py", "def late() -> None:\n    import torch.nn", "without torch"),
    ],
)
def test_forbidden_import_fails(skeleton: Path, module: str, source: str, contract: str) -> None:
    (skeleton / module).write_text(source + "\n")
    result = lint_imports(skeleton)
    assert result.returncode == 1
    assert f"{contract} BROKEN" in " ".join(result.stdout.split())
    assert result.stdout.count("BROKEN") == 1
