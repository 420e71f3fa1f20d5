import os
from pathlib import Path

import pytest
import torch
from hypothesis import settings

ROOT = Path(__file__).resolve().parents[1]
SHARED_DATA = "FEDPRUNE_SHARED_DATA"


def pytest_configure() -> None:
    # One thread: results must not depend on how a sum is divided, nor workers on each other.
    torch.set_num_threads(1)
    # A busy machine must not fail a property that holds.
    settings.register_profile("patient", deadline=None)
    settings.load_profile("patient")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of real tables, beside the checkout or where the environment says."""
    named = os.environ.get(SHARED_DATA)
    places = [Path(named)] if named else [parent / "shared" / "data" for parent in ROOT.parents]
    for place in places:
        if (place / "README.md").is_file():
            return place
    pytest.skip(f"no real tables: put them in ../shared/data or name their folder in {SHARED_DATA}")
