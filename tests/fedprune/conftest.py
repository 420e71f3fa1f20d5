import pytest

from simulations.inputs import Federation, Options, assemble
from tests.commands import trial_file


@pytest.fixture(scope="session")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Federation:
    """Return the trial plan and the embedded rows of its three institutions."""
    return assemble(Options(trial_file(tmp_path_factory.mktemp("plan"))))
