"""The institution's own file, ``client.toml``: who it is, which plan it approved, its table."""

from __future__ import annotations

from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from flwr.app import Context
from pydantic import BaseModel, ConfigDict, Field

from client.stages import Institution
from common.entropy import SystemEntropy
from common.errors import ConfigError
from common.parsing import read_toml
from common.plan import Plan, load_plan

if TYPE_CHECKING:
    from client.data import Splits

NODE_KEY = "client-file"
"""The SuperNode's ``--node-config`` key that holds the path of ``client.toml``."""


class ClientConfig(BaseModel):
    """Settings an institution keeps to itself; relative paths are relative to the file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    plan: Path
    plan_hash: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    data: Path


def load_config(path: Path) -> ClientConfig:
    """Read ``client.toml``; raise `ConfigError` naming the file and each problem."""
    config = read_toml(ClientConfig.model_validate, path, ConfigError)
    here = path.parent
    return config.model_copy(update={"plan": here / config.plan, "data": here / config.data})


def load_institution(path: Path) -> Institution:
    """Open the institution of a ``client.toml``; its plan must have the approved hash."""
    config = load_config(path)
    plan = load_plan(config.plan)
    if plan.digest() != config.plan_hash:
        raise ConfigError(
            f"{config.plan}: plan has hash {plan.digest()}, {path} approved {config.plan_hash}:"
            " read the plan again before approving it"
        )
    if config.name not in plan.names:
        raise ConfigError(f"{path}: {config.name!r} is not a member in {config.plan}")
    return Institution(config.name, plan, partial(_rows, config, plan), SystemEntropy())


def _rows(config: ClientConfig, plan: Plan) -> Splits:
    # pandas and pandera cost a second, and most trips need no row.
    from client.data import load_table, prepare, require_trainable  # noqa: PLC0415

    splits = prepare(load_table(config.data, plan.schema_), plan.schema_)
    require_trainable(splits, plan.expected_batch(config.name))
    return splits


@lru_cache(maxsize=1)
def _cached(path: Path) -> Institution:
    return load_institution(path)


def institution_of(context: Context) -> Institution:
    """Return the institution a SuperNode was started for, loaded once a process."""
    return _cached(Path(str(context.node_config[NODE_KEY])))
