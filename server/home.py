"""The server's folder: who was admitted, who was, and the charter that was published last."""

import os
from collections.abc import Container, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ConfigDict

from common.address import Address, split_address
from common.consent.acts import Charter, Proposal, charter_of
from common.consent.enrolment import Enrolment, MemberName
from common.consent.operators import Operators
from common.crypto.roster import Roster
from common.durable import write_atomically
from common.errors import ConfigError, ProtocolError
from common.parsing import read_toml
from common.plan import Plan
from common.status import Monitoring
from common.trail.file import FileTrail
from server.trail import server_trail

SETTINGS, PLAN, ROSTER, BUNDLE = "server.toml", "plan.toml", "roster.json", "bundle.json"
AUTHORITY, AUTHORITY_KEY = "ca.pem", "ca.key"
CERTIFICATE, SERVER_KEY = "server.pem", "server.key"
OPERATOR_KEY: Final = "operator.key"
MEMBERS, FORMER, PROPOSALS = "members", "members/former", "proposals"

PUBLIC: Final = ".pub"
"""Ends the file of a node's public key, as ``flwr supernode register`` takes it."""

BEFORE: Final = f".before{PUBLIC}"
"""Ends that of the key which a member goes on with until it has approved its new ones."""


class Settings(BaseModel):
    """``server.toml``: the federation's name, the server's public address, who operates here."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: MemberName
    address: Address
    operator: MemberName
    listen: str = "0.0.0.0"  # noqa: S104  (the fleet API is public, and nothing else is)
    monitoring: Monitoring = Monitoring()

    @property
    def host(self) -> str:
        """The address without its port, as a certificate names it."""
        return split_address(self.address)[0]


class _Draft(BaseModel):
    """What a plan must hold before its institutions are known."""

    operators: Operators


@dataclass(frozen=True)
class ServerHome:
    """A server's folder."""

    path: Path

    @cached_property
    def settings(self) -> Settings:
        """What ``server.toml`` says."""
        return read_toml(Settings.model_validate, self.path / SETTINGS, ConfigError)

    @property
    def trail(self) -> FileTrail:
        """The server's audit log."""
        return server_trail(self.path)

    @property
    def bundle(self) -> Proposal | None:
        """What was published last."""
        try:
            return Proposal.from_bytes((self.path / BUNDLE).read_bytes())
        except FileNotFoundError:
            return None

    @property
    def charter(self) -> Charter:
        """The charter that was published last; raises `ConfigError` when there is none."""
        if (bundle := self.bundle) is None:
            raise ConfigError(
                f"{self.path / BUNDLE}: nothing was published: fedprune-server publish"
            )
        return charter_of(bundle)

    @property
    def operators(self) -> Operators:
        """Those who must sign: of the published charter, or of the plan before there is one."""
        if (bundle := self.bundle) is not None:
            return charter_of(bundle).operators
        return read_toml(_operators, self.path / PLAN, ConfigError)

    @property
    def members(self) -> dict[str, Enrolment]:
        """Who is admitted, by name."""
        return {one.name: one for one in self._enrolments(MEMBERS)}

    @property
    def former(self) -> list[Enrolment]:
        """Enrolments that were revoked or replaced."""
        return list(self._enrolments(FORMER))

    def roster_of(self, plan: Plan) -> Roster:
        """Return the roster of a plan's institutions, those revoked among them.

        Raises:
            ConfigError: the plan's institutions are not those that were admitted.
        """
        members, names = self.members, set(plan.names)
        revoked = {one.name for one in self.former} - members.keys()
        if unknown := sorted(names - members.keys() - revoked):
            raise ConfigError(
                f"{', '.join(unknown)} stand in the plan and were not admitted: admit them, or take"
                " them out"
            )
        if beside := sorted(members.keys() - names):
            raise ConfigError(
                f"{', '.join(beside)} were admitted and do not stand in the plan: add them as"
                " [[institutions]], or revoke them"
            )
        return Roster(
            members={name: one.member for name, one in members.items()},
            revoked=tuple(sorted(revoked & names)),
        )

    def admit(self, request: Enrolment) -> None:
        """Make a request's keys those of its member; keys they replace are former ones.

        The member's node may connect by the key it had until `settle`.
        """
        folder, name = self.path / MEMBERS, request.name
        if (replaced := self.members.get(name)) is not None:
            write_atomically(folder / f"{name}{BEFORE}", f"{replaced.node_public}\n".encode())
            write_atomically(self._former(replaced, ".json"), replaced.to_bytes())
        write_atomically(folder / f"{name}{PUBLIC}", f"{request.node_public}\n".encode())
        write_atomically(folder / f"{name}.json", request.to_bytes())

    def retire(self, name: str) -> None:
        """Put a member's keys among the former ones."""
        folder, member = self.path / MEMBERS, self.members[name]
        (folder / f"{name}{BEFORE}").unlink(missing_ok=True)
        # The enrolment last: until then the member is one.
        for end in (PUBLIC, ".json"):
            # Its key may be gone already: damaged and taken out, or by a revocation cut short.
            if (file := folder / f"{name}{end}").exists():
                file.rename(self._former(member, end))

    def settle(self, signed: Container[bytes]) -> None:
        """Shut out the nodes' earlier keys of members that use their present ones.

        Args:
            signed: Signing keys by which members have signed in a round: they approved them.
        """
        earlier = sorted((self.path / MEMBERS).glob(f"*{BEFORE}"))
        members = self.members if earlier else {}
        for file in earlier:
            member = members.get(file.name.removesuffix(BEFORE))
            if member is None or member.member.signing_public in signed:
                file.unlink(missing_ok=True)

    def _former(self, member: Enrolment, end: str) -> Path:
        was = f"{member.name}-{member.member.signing_public.hex()[:16]}"
        return self.path / FORMER / f"{was}{end}"

    def _enrolments(self, folder: str) -> Iterator[Enrolment]:
        for file in sorted((self.path / folder).glob("*.json")):
            yield Enrolment.from_bytes(file.read_bytes())


def standing_roster(path: Path, plan: Plan, now: int) -> Roster:
    """Return the roster a run goes on with: read anew before every round, for it may shrink.

    A published bundle beside it says until when.

    Raises:
        ConfigError: there is no roster, or it is not that of the plan.
        ExpiredError: the charter no longer holds.
    """
    roster = read_roster(path)
    if {*roster.names, *roster.revoked} != set(plan.names):
        raise ConfigError(f"{path}: its members are not those of the plan: use the plan's roster")
    home = ServerHome(path.parent)
    if home.bundle is not None:
        home.charter.require_current(now)
    return roster


def read_roster(path: Path) -> Roster:
    """Read the members' public keys; raise `ConfigError` when there are none."""
    try:
        return Roster.from_bytes(path.read_bytes())
    except (OSError, ProtocolError) as error:
        raise ConfigError(f"{path}: no roster can be read here: {error}") from error


def make_folders(path: Path) -> None:
    """Create a server's folders, closed to others."""
    for folder in ("", FORMER, PROPOSALS):
        os.makedirs(path / folder, mode=0o700, exist_ok=True)


def _operators(fields: dict[str, Any]) -> Operators:
    return _Draft.model_validate(fields).operators
