"""How a federation comes to be and changes: each act is proposed, signed by a quorum, applied."""

from pathlib import Path

from common.consent.acts import Admission, Charter, Proposal, Revocation, charter_of
from common.consent.approval import only_shrinks
from common.consent.authority import require_authority
from common.consent.enrolment import Enrolment
from common.consent.operators import Operators
from common.consent.refusals import (
    KeyEnrolledError,
    NameTakenError,
    NotAMemberError,
    OtherFederationError,
    ReadmittedError,
    ReplayedError,
)
from common.crypto.keys import KEY_SIZE
from common.durable import write_atomically
from common.errors import ConfigError
from common.plan import Plan
from common.release.folder import keep_charter
from common.release.manifest import Manifest, Withdrawal
from common.secret_files import Ask, ask_passphrase, read_secret
from server.home import AUTHORITY, BUNDLE, ROSTER, ServerHome, read_roster
from server.releases import open_release, publish_release, withdraw_release
from server.trail import act_event

DAY = 24 * 3600
"""Seconds."""

CONSENT_DAYS = 90
"""For which consent holds unless the operators say otherwise."""


def propose_admission(home: ServerHome, request: Enrolment) -> Proposal:
    """Propose a member, or a member's new keys; see `require_admissible` for what is refused."""
    require_admissible(home, request)
    return Proposal(act=Admission(federation=home.settings.name, enrolment=request))


def propose_revocation(home: ServerHome, name: str) -> Proposal:
    """Propose that a member take part no more; raise `NotAMemberError` if it is none."""
    member = _member(home, name).member
    act = Revocation(federation=home.settings.name, name=name, signing_public=member.signing_public)
    return Proposal(act=act)


def propose_charter(home: ServerHome, plan: Plan, now: int, expires: int) -> Proposal:
    """Propose the next charter: a plan with the members as they are; times in Unix seconds.

    Raises:
        ConfigError: the plan is not one of the members, or names no operators.
    """
    if plan.operators is None:
        raise ConfigError("the plan names no operators: add [operators] with quorum and keys")
    if expires <= now:
        raise ConfigError("the charter would have expired when it is issued: set a later --days")
    bundle = home.bundle
    act = Charter(
        federation=home.settings.name,
        sequence=1 if bundle is None else home.charter.sequence + 1,
        issued=now,
        expires=expires,
        address=home.settings.address,
        authority=(home.path / AUTHORITY).read_text(),
        plan=plan.to_dict(),
        roster=home.roster_of(plan),
    )
    return Proposal(act=act)


def expiry(home: ServerHome, plan: Plan, now: int, days: int | None) -> int:
    """Return when the next charter ends: after ``days``, or with the last if it only shrinks that.

    A later end needs everybody's approval, which a revocation must not wait for.
    """
    if days is None and home.bundle is not None and (last := home.charter).expires > now:
        following = charter_of(propose_charter(home, plan, now, last.expires))
        if only_shrinks(last, following):
            return last.expires
    return now + (days or CONSENT_DAYS) * DAY


def propose_end(home: ServerHome, now: int) -> Proposal:
    """Propose that what was published last hold no longer than now."""
    last = home.charter
    ended = {"sequence": last.sequence + 1, "issued": now, "expires": now}
    roster = home.roster_of(last.agreed)
    return Proposal(act=last.model_copy(update=ended | {"roster": roster}))


def require_admissible(home: ServerHome, request: Enrolment) -> None:
    """Let new keys in, or a member's own successors.

    Raises:
        ReadmittedError: a key was revoked or replaced before.
        NameTakenError: the name is a member's, whose keys did not sign for these.
        KeyEnrolledError: a key is another member's, or this very one's.
    """
    if any(request.keys & former.keys for former in home.former):
        raise ReadmittedError(
            f"a key of {request.name!r} was revoked or replaced: have it make new ones"
        )
    members = home.members
    for name, member in members.items():
        if request.keys & member.keys:
            raise KeyEnrolledError(f"a key of {request.name!r} is enrolled as {name!r} already")
    old = request.succession
    if (current := members.get(request.name)) is not None:
        if old is None or old.signing_public != current.member.signing_public:
            raise NameTakenError(
                f"{request.name!r} is a member, and its keys did not sign for these: have it run"
                " fedprune-client rotate, or revoke it first"
            )
    elif old is not None:
        raise NotAMemberError(f"{request.name!r} is no member whose keys could be replaced")


def countersigned(proposal: Proposal, key_file: Path, ask: Ask = ask_passphrase) -> Proposal:
    """Return a proposal with the signature of the operator whose key lies in a file."""
    return proposal.signed(read_operator(key_file, ask))


def read_operator(key_file: Path, ask: Ask = ask_passphrase) -> bytes:
    """Return an operator's Ed25519 key; raise `ConfigError` if the file holds none."""
    private = read_secret(key_file, ask)
    if len(private) != KEY_SIZE:
        raise ConfigError(f"{key_file}: holds no operator's key: restore it from the backup")
    return private


def missing_signatures(home: ServerHome, proposal: Proposal) -> int:
    """Return how many more operators must sign; raise `UnsignedError` for a wrong signature."""
    act = proposal.act
    missing = 0
    for board in _boards(home, proposal):
        signed = board.signed_by(act.label, proposal.statement, proposal.signatures)
        missing = max(missing, board.quorum - len(signed))
    return missing


def take_effect(home: ServerHome, proposal: Proposal, now: int) -> None:
    """Do what a proposal says, if a quorum signed it and it still fits what is.

    Raises:
        UnsignedError: fewer have signed than the quorum; nothing is done.
        ConsentError: the proposal no longer fits: its subclass says why.
    """
    act = proposal.act
    if act.federation != home.settings.name:
        raise OtherFederationError(f"the proposal is for {act.federation}: apply it there")
    proposal.require(*_boards(home, proposal))
    match act:
        case Admission(enrolment=request):
            require_admissible(home, request)
            old = request.succession
            replaces = old.signing_public.hex() if old is not None else ""
            home.trail.append(act_event(proposal, replaces))
            home.admit(request)
        case Revocation(name=name, signing_public=key):
            if _member(home, name).member.signing_public != key:
                raise NotAMemberError(
                    f"{name!r} has other keys by now: propose its revocation anew"
                )
            home.trail.append(act_event(proposal))
            # A run takes the roster anew before each round: nothing waits for a publication.
            _shrink(home, name)
            home.retire(name)
        case Charter():
            _publish(home, proposal, act, now)
        case Manifest():
            publish_release(home, proposal)
        case Withdrawal():
            withdraw_release(home, proposal)


def _publish(home: ServerHome, proposal: Proposal, charter: Charter, now: int) -> None:
    due = 1 if home.bundle is None else home.charter.sequence + 1
    if charter.sequence != due:
        raise ReplayedError(
            f"the charter has number {charter.sequence}, {due} is due: propose it anew"
        )
    here = (home.settings.address, (home.path / AUTHORITY).read_text())
    # An end must not wait for an address or authority that are about to change.
    if (charter.address, charter.authority) != here and charter.expires > now:
        raise OtherFederationError(
            "the charter names another address or authority than this server's: propose it anew"
        )
    if charter.roster != home.roster_of(charter.agreed):
        raise NotAMemberError(
            "members have changed since the charter was proposed: propose it anew"
        )
    require_authority(charter.authority, now)
    home.trail.append(act_event(proposal))
    # The bundle last: it is what counts as published.
    keep_charter(home.path, proposal)
    write_atomically(home.path / ROSTER, charter.roster.to_bytes())
    write_atomically(home.path / BUNDLE, proposal.to_bytes())


def _boards(home: ServerHome, proposal: Proposal) -> tuple[Operators, ...]:
    """Return whose quorums must sign: those in force, and those that a charter brings.

    A release is withdrawn by whose release it is: institutions know it by them.
    """
    match proposal.act:
        case Charter(operators=coming):
            return home.operators, coming
        case Withdrawal(run=run):
            return (open_release(home, run).charter.operators,)
    return (home.operators,)


def _shrink(home: ServerHome, name: str) -> None:
    if home.bundle is not None and name in (roster := read_roster(home.path / ROSTER)).members:
        write_atomically(home.path / ROSTER, roster.without(name).to_bytes())


def _member(home: ServerHome, name: str) -> Enrolment:
    if (found := home.members.get(name)) is None:
        raise NotAMemberError(f"{name!r} is no member: {', '.join(home.members) or 'none'} are")
    return found
