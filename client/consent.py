"""What an institution's home holds: its keys, what it was shown, and what it approved.

Each step writes what takes effect last of all, so that a crash leaves the state before it.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from client.keys import create_identity, read_identity
from client.trail import approved_event, shown_event
from common.consent.acts import Charter, Proposal, charter_of
from common.consent.approval import (
    Pin,
    only_shrinks,
    require_bundle,
    require_newer,
    require_no_return,
    retired_after,
)
from common.consent.enrolment import Enrolment, require_name
from common.consent.refusals import ConsentError, MalformedError, NotApprovedError
from common.crypto import node_keys
from common.crypto.roster import Identity, Roster
from common.durable import READABLE, write_atomically
from common.entropy import Stream
from common.errors import ConfigError
from common.release.folder import keep_charter, kept_charter
from common.secret_files import Ask, ask_passphrase, create_secret, erase, read_secret
from common.trail.interface import Trail, Untold

PIN: Final = "consent.json"
"""What was approved; without it nothing is."""

PLAN, ROSTER, AUTHORITY, BUNDLE = "plan.toml", "roster.json", "ca.pem", "bundle.json"
"""The approved charter, in the forms in which it is used, and as it came."""

PENDING: Final = "pending.json"
"""The bundle that was joined by and waits for approval."""

KEYS, NODE_KEY, REQUEST = "keys.json", "node.key", "request.json"
"""Keys in use, and the request that made them known."""

COMING: Final = "next."
"""How the names of keys begin that wait for their roster to be approved."""

PUBLIC: Final = ".pub"


@dataclass(frozen=True)
class Shown:
    """A charter beside the one it follows, whose roster is the one after revocations."""

    charter: Charter
    before: Charter | None
    in_force: bool
    """Whether it holds already: it was approved, or only revokes or ends earlier."""

    digest: str
    """Of the bundle, in hexadecimal."""


@dataclass(frozen=True)
class Home:
    """An institution's folder; ``shrunk`` is what its ledger made of the approved roster, if any.

    Times are Unix seconds.
    """

    path: Path
    shrunk: Roster | None = None
    trail: Trail = field(default_factory=Untold)

    def create_keys(self, name: str, stream: Stream, choose: Ask) -> Enrolment:
        """Make the keys of a new member and return its request, which is written too.

        ``choose`` is asked for their passphrase, if keys can be made.

        Raises:
            ConfigError: there is a request already, or the name cannot be a member's.
        """
        # Before any file: keys without their request could neither be used nor made again.
        require_name(name)
        self.path.mkdir(parents=True, exist_ok=True)
        if (request := self.path / REQUEST).exists():
            raise ConfigError(f"{request}: exists already: keys are made once, then rotated")
        return self._create("", name, stream, choose)

    def rotate(self, stream: Stream, choose: Ask, ask: Ask = ask_passphrase) -> Enrolment:
        """Make keys to replace those in use once a roster with them is approved.

        Raises:
            ConfigError: a request for others waits already.
        """
        name = self.name
        if (request := self.path / f"{COMING}{REQUEST}").exists():
            raise ConfigError(
                f"{request}: exists already: send it, or give it up: fedprune-client rotate"
                " --discard"
            )
        return self._create(COMING, name, stream, choose, read_identity(self.path / KEYS, ask))

    def discard(self) -> list[str]:
        """Erase keys that were to replace those in use; return the files that are gone.

        Raises:
            ConfigError: a bundle that lies here has them in its roster.
        """
        coming, name = self.path / f"{COMING}{REQUEST}", self.name
        if coming.exists():
            member = self._request(COMING).member
            pin = self.pin
            approved = approved_bundle(self.path, pin) if pin is not None else None
            for bundle in (approved, self._waiting()):
                if bundle is not None and member == charter_of(bundle).roster.members.get(name):
                    raise ConfigError(
                        f"{coming}: the operators have taken these keys in: fedprune-client approve"
                    )
        gone = [
            f"{COMING}{file}" for file in (KEYS, NODE_KEY) if erase(self.path / f"{COMING}{file}")
        ]
        for public in (NODE_KEY + PUBLIC, REQUEST):
            (self.path / f"{COMING}{public}").unlink(missing_ok=True)
        return gone

    def join(self, data: bytes, now: int) -> Shown:
        """Check a bundle and keep it for approval; what only shrinks holds at once.

        Raises:
            ConsentError: the subclass names why the bundle is refused; nothing is kept of it.
        """
        bundle = Proposal.from_bytes(data)
        shown = self._checked(bundle, now)
        self.trail.append(shown_event(bundle, shown.charter))
        _write(self.path / PENDING, data)
        if shown.in_force:
            self._put_in_force(bundle, shown)
        return shown

    def approve(self, now: int, require_meant: Callable[[Shown], None]) -> Shown:
        """Pin the plan, roster, authority and address of the bundle that was joined by.

        ``require_meant`` raises unless it is the one that whoever approves has read.
        """
        if (bundle := self._bundle(PENDING)) is None:
            raise NotApprovedError(
                f"{self.path / PENDING}: no bundle waits for approval: fedprune-client join one"
            )
        shown = self._checked(bundle, now)
        require_meant(shown)
        self._put_in_force(bundle, shown)
        return shown

    def leave(self) -> list[str]:
        """Erase all private keys and withdraw consent; return the files that are gone."""
        # Consent goes first: whatever runs refuses its next round.
        (self.path / PIN).unlink(missing_ok=True)
        (self.path / PENDING).unlink(missing_ok=True)
        gone = []
        for begin in ("", COMING):
            gone += [f"{begin}{name}" for name in (KEYS, NODE_KEY)]
            for public in (REQUEST, NODE_KEY + PUBLIC):
                (self.path / f"{begin}{public}").unlink(missing_ok=True)
        return [name for name in gone if erase(self.path / name)]

    @property
    def name(self) -> str:
        """The name under which the institution asked to be a member."""
        return self.enrolment.name

    @property
    def enrolment(self) -> Enrolment:
        """The request that made the keys in use known."""
        return self._request("")

    @property
    def pin(self) -> Pin | None:
        """What was approved, if anything was."""
        return read_pin(self.path)

    def _create(
        self,
        begin: str,
        name: str,
        stream: Stream,
        choose: Ask,
        before: Identity | None = None,
    ) -> Enrolment:
        """Make keys and, last, the request for them; go on with keys that a crash left alone."""
        files = [self.path / f"{begin}{file}" for file in (KEYS, NODE_KEY, REQUEST)]
        keys, node_file, request_file = files
        passphrase = choose()
        if not node_file.exists():
            drawn = node_keys.private_file(node_keys.generate_key(stream))
            create_secret(node_file, drawn, stream, passphrase)
        if not keys.exists():
            create_identity(keys, stream, passphrase)
        node = node_keys.read_private(read_secret(node_file, lambda: passphrase))
        identity = read_identity(keys, lambda: passphrase)
        _write(node_file.with_name(node_file.name + PUBLIC), _line(node_keys.public_line(node)))
        request = Enrolment.make(name, identity, node, before)
        _write(request_file, request.to_bytes())
        return request

    def _checked(self, bundle: Proposal, now: int) -> Shown:
        pin = self.pin
        approved = approved_bundle(self.path, pin) if pin is not None else None
        seen = [one for one in (approved, self._waiting()) if one is not None]
        before: Charter | None = None
        retired: tuple[bytes, ...] = ()
        if pin is not None and approved is not None:
            before, retired = self._standing(charter_of(approved)), pin.retired
            retired += tuple(
                member.signing_public
                for name, member in charter_of(approved).roster.members.items()
                if name not in before.roster.members
            )
        coming = self.path / f"{COMING}{REQUEST}"
        requests = [self._request(begin) for begin in ("", COMING)[: 1 + coming.exists()]]
        members = tuple(request.member for request in requests)
        charter = require_bundle(bundle, self.name, members, now, before)
        if pin is not None:
            # Before the first approval nobody vouches for what was shown.
            require_newer(bundle, *seen)
        require_no_return(charter, retired)
        same = approved is not None and bundle.digest == approved.digest
        shrinks = before is not None and only_shrinks(before, charter)
        return Shown(charter, before, same or shrinks, bundle.digest)

    def _standing(self, approved: Charter) -> Charter:
        """Return the approved charter after the revocations that the ledger noted."""
        roster = self.shrunk or approved.roster
        return approved.model_copy(update={"roster": roster})

    def _put_in_force(self, bundle: Proposal, shown: Shown) -> None:
        charter, pin = shown.charter, self.pin
        self.trail.append(approved_event(bundle, charter, by_itself=shown.in_force))
        retired = retired_after(shown.before, charter, pin.retired if pin is not None else ())
        keep_charter(self.path, bundle)
        _write(self.path / PLAN, charter.agreed.to_toml().encode())
        _write(self.path / ROSTER, charter.roster.to_bytes())
        _write(self.path / AUTHORITY, charter.authority.encode())
        self._take_new_keys(charter)
        _write(self.path / PIN, Pin.of(bundle, retired).to_bytes())
        # What was read, whatever lies by now where it waited.
        _write(self.path / BUNDLE, bundle.to_bytes())
        if self._waiting() == bundle:
            (self.path / PENDING).unlink()

    def _take_new_keys(self, charter: Charter) -> None:
        """Put rotated keys in place of the old, which nothing is left of."""
        coming = self.path / f"{COMING}{REQUEST}"
        if not coming.exists() or charter.roster.member(self.name) != self._request(COMING).member:
            return
        # The request last: it says that something is left to do.
        for name in (KEYS, NODE_KEY, NODE_KEY + PUBLIC, REQUEST):
            if (fresh := self.path / f"{COMING}{name}").exists():
                erase(self.path / name)
                fresh.replace(self.path / name)

    def _request(self, begin: str) -> Enrolment:
        path = self.path / f"{begin}{REQUEST}"
        try:
            return Enrolment.from_bytes(path.read_bytes())
        except FileNotFoundError as error:
            raise ConfigError(
                f"{path}: no keys were made here: fedprune-client init --name NAME"
            ) from error

    def _bundle(self, name: str) -> Proposal | None:
        try:
            return Proposal.from_bytes((self.path / name).read_bytes())
        except FileNotFoundError:
            return None
        except ConsentError as error:
            raise MalformedError(f"{self.path / name}: {error}") from error

    def _waiting(self) -> Proposal | None:
        """Return the bundle that waits for approval; a damaged one keeps no other out."""
        with suppress(ConsentError):
            return self._bundle(PENDING)
        return None


def read_pin(home: Path) -> Pin | None:
    """Return what was approved in a home, if anything was."""
    try:
        return Pin.from_bytes((home / PIN).read_bytes())
    except FileNotFoundError:
        return None


def approved_bundle(home: Path, pin: Pin) -> Proposal:
    """Return the bundle that was approved, by its hash: under its name a person may put the next.

    Raises:
        MalformedError: it is nowhere, or damaged.
    """
    if (kept := kept_charter(home, pin.charter)) is not None:
        return kept
    with suppress(FileNotFoundError):
        bundle = Proposal.from_bytes((home / BUNDLE).read_bytes())
        if bundle.digest == pin.charter:
            return bundle
    raise MalformedError(
        f"{home / BUNDLE}: is not the bundle that was approved: restore the backup"
    )


def require_consent(home: Path, plan_hash: str, roster_hash: str, now: int) -> None:
    """Let a round begin while what it runs is what its institution approves, read anew each time.

    Raises:
        NotApprovedError: the institution left, or approved something else.
        ExpiredError: the charter no longer holds.
    """
    if (pin := read_pin(home)) is None:
        raise NotApprovedError("the institution has left the federation: its consent is gone")
    pin.require(plan_hash, roster_hash, now)


def _line(text: str) -> bytes:
    return f"{text}\n".encode()


def _write(path: Path, data: bytes) -> None:
    write_atomically(path, data, READABLE)
