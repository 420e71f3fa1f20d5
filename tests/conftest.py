import os
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import settings
from xdist.scheduler import LoadFileScheduling  # type: ignore[import-untyped]

ROOT = Path(__file__).resolve().parents[1]
SHARED_DATA = "FEDPRUNE_SHARED_DATA"
FEDERATIONS = "tests/deployment"


def pytest_configure() -> None:
    # One thread: results must not depend on how a sum is divided, nor workers on each other.
    torch.set_num_threads(1)
    # A busy machine must not fail a property that holds.
    settings.register_profile("patient", deadline=None)
    settings.load_profile("patient")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # They take longest, and wait more than they work.
    items.sort(key=lambda item: not item.nodeid.startswith(FEDERATIONS))


class OneFederation(LoadFileScheduling):  # type: ignore[misc]
    """Files for workers, but whole federations for one: two at once would starve each other."""

    def _split_scope(self, nodeid: str) -> str:
        return FEDERATIONS if nodeid.startswith(FEDERATIONS) else str(super()._split_scope(nodeid))


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> OneFederation:
    return OneFederation(config, log)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of real tables, beside the checkout or where the environment says."""
    named = os.environ.get(SHARED_DATA)
    places = [Path(named)] if named else [parent / "shared" / "data" for parent in ROOT.parents]
    for place in places:
        if (place / "README.md").is_file():
            return place
    pytest.skip(f"no real tables: put them in ../shared/data or name their folder in {SHARED_DATA}")
