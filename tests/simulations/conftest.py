import pytest

from simulations.inputs import Federation, Options, assemble
from tests.commands import trial_file


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have progress drawn, once, as if a person looked."""
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("NO_COLOR", "1")


@pytest.fixture(scope="session")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Federation:
    """Return the trial plan and the embedded rows of its three institutions."""
    return assemble(Options(trial_file(tmp_path_factory.mktemp("plan"))))
