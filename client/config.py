"""The institution's own file, ``client.toml``: who it is, which plan it approved, its table."""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from flwr.app import Context
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

from client.consent import KEYS, PIN, PLAN, ROSTER, read_pin, require_consent
from client.databases import Database
from client.keys import read_identity
from client.ledger import Ledger, memory_ledger
from client.ledger_file import SqliteStore
from client.limits import Limits
from client.stages import Institution, Membership
from client.trail import institution_trail, noted_lines
from common.address import Address
from common.consent.refusals import NotApprovedError
from common.crypto.roster import Roster
from common.entropy import SystemEntropy
from common.errors import ConfigError, ProtocolError
from common.facts import warnings_of
from common.parsing import read_toml
from common.plan import Plan, load_plan
from common.status import Monitoring
from common.trail.file import FileTrail
from common.trail.interface import Untold

if TYPE_CHECKING:
    from client.data import Splits

log = logging.getLogger("fedprune.client")

NODE_KEY = "client-file"
"""The SuperNode's ``--node-config`` key that holds the path of ``client.toml``."""


class MembershipConfig(BaseModel):
    """What secure aggregation needs: own keys, and everybody's public ones.

    ``roster_hash`` is what the institution approved, compared with the others out of band.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    keys: Path
    roster: Path
    roster_hash: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class LedgerConfig(BaseModel):
    """Where the ledger lies, what its lines call the table, and how much may leave it.

    All plans on the same rows must name the same file and table: they spend one budget. Adverts
    hold the file to its length, so keys that sign for one file cannot sign for another.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: Path = Path("ledger.sqlite")
    table: Annotated[str, Field(min_length=1, max_length=100)] = "records"
    limits: Limits = Limits()


def _kind_of_data(data: object) -> str:
    return "[database]" if isinstance(data, dict | Database) else "[file]"


class ServerConfig(BaseModel):
    """Where the server's fleet API is, as its certificate names it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    address: Address


class ClientConfig(BaseModel):
    """Settings an institution keeps to itself; relative paths are relative to the file.

    ``data`` is the path of a table, or ``[data]`` says which query of a database gives it. Where
    the institution joined a federation, plan and membership stand in ``consent.json`` beside the
    file instead, as does the server, and are not named here.
    """

    # The URL of a database may hold a password.
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    name: str
    plan: Path | None = None
    plan_hash: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None
    data: Annotated[
        Annotated[Path, Tag("[file]")] | Annotated[Database, Tag("[database]")],
        Discriminator(_kind_of_data),
    ]
    membership: MembershipConfig | None = None
    ledger: LedgerConfig = LedgerConfig()
    server: ServerConfig | None = None
    monitoring: Monitoring = Monitoring()


def load_config(path: Path) -> ClientConfig:
    """Read ``client.toml``; raise `ConfigError` naming the file and each problem."""
    config = read_toml(ClientConfig.model_validate, path, ConfigError)
    here = path.parent
    if (pin := read_pin(here)) is not None:
        named = (config.plan, config.plan_hash, config.membership, config.server)
        if named != (None, None, None, None):
            raise ConfigError(
                f"{path}: plan, membership and server stand in {here / PIN}, as they were approved:"
                " take them out of this file"
            )
        membership = MembershipConfig(
            keys=Path(KEYS), roster=Path(ROSTER), roster_hash=pin.roster_hash
        )
        approved = {
            "plan": Path(PLAN),
            "plan_hash": pin.plan_hash,
            "membership": membership,
            "server": ServerConfig(address=pin.address),
        }
        config = config.model_copy(update=approved)
    plan = here / config.plan if config.plan is not None else None
    data = config.data
    found = data.under(here) if isinstance(data, Database) else here / data
    return config.model_copy(update={"plan": plan, "data": found})


def load_institution(path: Path, *, looking: bool = False) -> Institution:
    """Open the institution of a ``client.toml``; ``looking`` opens nothing that is written.

    Raises:
        ConfigError: a file is wrong.
        NotApprovedError: nothing was approved, or what lies here is not what was.
        TrailError: the audit log lacks lines that the ledger notes.
    """
    config = load_config(path)
    if config.plan is None or config.plan_hash is None:
        raise NotApprovedError(
            f"{path}: no plan was approved: fedprune-client join a bundle, then approve, or name"
            " plan and plan_hash"
        )
    plan = load_plan(config.plan)
    if plan.digest() != config.plan_hash:
        raise NotApprovedError(
            f"{config.plan}: plan has hash {plan.digest()}, {path} approved {config.plan_hash}:"
            " read the plan again before approving it"
        )
    for warning in warnings_of(plan):
        log.warning(warning)
    if config.name not in plan.names:
        raise ConfigError(f"{path}: {config.name!r} is not a member in {config.plan}")
    rows = partial(_rows, config, plan)
    ledger = memory_ledger() if looking else open_ledger(config.ledger, path.parent)
    trail = Untold() if looking else institution_trail(path.parent, config.name)
    if config.membership is None:
        if plan.aggregation.kind == "secure":
            raise ConfigError(
                f"{path}: secure aggregation needs keys: add a [membership] with keys, roster and"
                " roster_hash"
            )
        return Institution(
            config.name, plan, rows, SystemEntropy(), ledger=ledger, trail=trail, home=path.parent
        )
    membership = load_membership(config.membership, config.name, path.parent)
    if isinstance(trail, FileTrail):
        # Never for one that lacks what the ledger notes: a person looks at it first.
        trail.vouch(membership.identity.signing_private, noted_lines(ledger))
    opened = Institution(
        config.name,
        plan,
        rows,
        SystemEntropy(),
        membership,
        ledger,
        trail=trail,
        home=path.parent,
    )
    if read_pin(path.parent) is None:
        return opened
    approved = (config.plan_hash, config.membership.roster_hash)
    return replace(opened, consent=partial(require_consent, path.parent, *approved))


def open_ledger(config: LedgerConfig, here: Path) -> Ledger:
    """Open or create the ledger of a client file in the folder ``here``."""
    return Ledger(SqliteStore(here / config.file), config.table, config.limits)


def load_membership(config: MembershipConfig, name: str, here: Path) -> Membership:
    """Read keys and roster; it must be the approved one (`NotApprovedError`) with these keys."""
    identity, path = read_identity(here / config.keys), here / config.roster
    try:
        roster = Roster.from_bytes(path.read_bytes())
        listed = roster.member(name)
    except (OSError, ProtocolError) as error:
        raise ConfigError(f"{path}: not a roster that holds {name!r}: {error}") from error
    if roster.digest != config.roster_hash:
        raise NotApprovedError(
            f"{path}: roster has hash {roster.digest}, {config.roster_hash} was approved:"
            " compare the members' keys before approving it"
        )
    if listed != identity.member(name):
        raise ConfigError(f"{path}: the keys of {name!r} are not those of {here / config.keys}")
    return Membership(identity, roster)


def _rows(config: ClientConfig, plan: Plan) -> Splits:
    # pandas and pandera cost a second, and most trips need no row.
    from client.data import load_table, prepare, require_trainable  # noqa: PLC0415

    table = load_table(config.data, plan.schema_)
    splits = prepare(table, plan.schema_, plan.customer_cap)
    require_trainable(splits, plan.expected_batch(config.name))
    return splits


@lru_cache(maxsize=1)
def _cached(path: Path) -> Institution:
    return load_institution(path)


def institution_of(context: Context) -> Institution:
    """Return the institution a SuperNode was started for, loaded once a process."""
    if NODE_KEY not in context.node_config:
        raise ConfigError(f"start the SuperNode with --node-config '{NODE_KEY}=\"FILE\"'")
    return _cached(Path(str(context.node_config[NODE_KEY])))
