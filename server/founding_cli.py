"""`fedprune-server init|operator|admit|revoke|publish|sign|apply|show|expire|rotate`."""

import time
from pathlib import Path
from typing import Annotated

import tomli_w
import typer

from common.consent.acts import Charter, Proposal, charter_of
from common.consent.agreement import mark_of, require_meant
from common.consent.enrolment import Enrolment, require_name
from common.consent.operators import Operators
from common.consent.refusals import MalformedError
from common.console import HERE, confirmed, tell, working
from common.crypto.keys import KEY_SIZE, verifying_key
from common.durable import write_atomically
from common.entropy import Stream, SystemEntropy
from common.errors import ConfigError
from common.parsing import read_bytes, validated
from common.plan import load_draft
from common.release.manifest import Manifest, Withdrawal
from common.secret_files import (
    create_secret,
    erase,
    new_passphrase,
)
from common.trail.events import Founded
from common.trail.interface import refusals_noted
from server import certificates, founding, successions
from server.home import (
    AUTHORITY,
    AUTHORITY_KEY,
    BUNDLE,
    CERTIFICATE,
    MEMBERS,
    OPERATOR_KEY,
    PLAN,
    PROPOSALS,
    SETTINGS,
    ServerHome,
    Settings,
    make_folders,
)
from server.trail import server_trail

TEMPLATE = """\
# The plan of {name}: what its members agree on. fedprune-server plan {plan} checks it.
name = "{name}"
# A shipped schema, or a file beside this one: schema = "loans.toml", as --schema of fedprune-sim
# takes it. What stands in it becomes part of the plan.
schema = "credit_consortium"

# Who signs for the federation, and how many of them must. Members approve these keys too.
[operators]
quorum = {quorum}
keys = {{ {keys} }}

# One for each member that is admitted; the size is the rounded number of rows it declares.
# [[institutions]]
# name = "bank-a"
# size = 5000

[training]
rounds = 60

[privacy]
epsilon = 1.0
delta = 1e-5

[pruning]
sparsity = 0.9
"""

Folder = Annotated[Path, typer.Option("--home", help="The server's or institution's folder.")]
File = Annotated[Path, typer.Argument(help="A proposal, as it was written here or sent.")]


def init(  # noqa: PLR0913, PLR0917
    name: Annotated[str, typer.Option(help="The federation's name.")],
    address: Annotated[str, typer.Option(help="Public host:port that members connect to.")],
    operator: Annotated[str, typer.Option(help="Name of the operator here.")] = "operator",
    other: Annotated[
        list[str] | None, typer.Option(help="NAME=KEY of an operator elsewhere; repeatable.")
    ] = None,
    quorum: Annotated[int, typer.Option(help="Operators that must sign each act.")] = 1,
    home: Folder = HERE,
) -> None:
    """Found a federation: an authority, a server certificate, an operator's key, a plan to fill."""
    settings = validated(
        Settings.model_validate,
        {"name": name, "address": address, "operator": operator} | _listening(address),
        "the options",
        ConfigError,
    )
    if (home / SETTINGS).exists():
        raise ConfigError(f"{home / SETTINGS}: a federation was founded here already")
    if beside := [*home.glob(BUNDLE), *home.glob(f"{MEMBERS}/**/*.json")]:
        raise ConfigError(
            f"{home / SETTINGS} is missing beside {beside[0].name}: restore it from the backup"
        )
    stream, now = _stream(), int(time.time())
    # An operator's key that is there is used: made by `operator`, or left by a crash.
    there = (home / OPERATOR_KEY).exists()
    private = founding.read_operator(home / OPERATOR_KEY) if there else _stream()(KEY_SIZE)
    keys = {operator: verifying_key(private).hex()}
    for pair in other or ():
        who, _, key = pair.partition("=")
        if who in keys:
            raise ConfigError(f"operator {who!r} is named twice: give each its own name")
        keys[who] = key
    validated(Operators.model_validate, {"quorum": quorum, "keys": keys}, "operators", ConfigError)
    passphrase = new_passphrase()
    # What a crash left of an authority signed nothing that anyone has seen.
    erase(home / AUTHORITY_KEY)
    signer, authority = certificates.new_authority(name, now, stream)
    make_folders(home)
    if not there:
        create_secret(home / OPERATOR_KEY, private, stream, passphrase)
    create_secret(home / AUTHORITY_KEY, certificates.key_pem(signer), stream, passphrase)
    write_atomically(home / AUTHORITY, certificates.certificate_pem(authority))
    successions.certify(home, settings.host, (signer, authority), now, stream, passphrase)
    written = ", ".join(f'{who} = "{key}"' for who, key in keys.items())
    plan = TEMPLATE.format(name=name, plan=home / PLAN, quorum=quorum, keys=written)
    write_atomically(home / PLAN, plan.encode())
    trail = server_trail(home, name)
    trail.vouch(private)
    trail.append(Founded(federation=name, operators=keys, quorum=quorum))
    # Last: it says that all the rest is there.
    settled = tomli_w.dumps(settings.model_dump(exclude_defaults=True))
    write_atomically(home / SETTINGS, (LISTENS + settled).encode())
    _tell_operator(operator, keys[operator])
    typer.echo(f"Fill in {home / PLAN}, admit members, then publish.")


def operator(
    name: Annotated[str, typer.Option(help="The operator's name.")], home: Folder = HERE
) -> None:
    """Make the signing key of an operator who does not run the server."""
    require_name(name)
    if (home / OPERATOR_KEY).exists():
        raise ConfigError(f"{home / OPERATOR_KEY}: exists already: an operator has one key")
    private = _stream()(KEY_SIZE)
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    create_secret(home / OPERATOR_KEY, private, _stream(), new_passphrase())
    _tell_operator(name, verifying_key(private).hex())


def admit(
    request: Annotated[Path, typer.Argument(help="An institution's request.json.")],
    home: Folder = HERE,
) -> None:
    """Propose a member, or a member's new keys, and sign that."""
    asked, place = Enrolment.from_bytes(read_bytes(request)), ServerHome(home)
    with refusals_noted(place.trail, f"admission of {asked.name}"):
        proposal = founding.propose_admission(place, asked)
    propose(place, proposal, f"admit-{asked.name}")


def revoke(
    name: Annotated[str, typer.Argument(help="The member's name.")], home: Folder = HERE
) -> None:
    """Propose that a member take part no more, from the next round on, and sign that."""
    place = ServerHome(home)
    propose(place, founding.propose_revocation(place, name), f"revoke-{name}")


def publish(
    plan: Annotated[Path | None, typer.Argument(help="Plan file; the home's if none.")] = None,
    days: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=3650,
            help="Days for which consent holds: 90, or as before if members were only revoked.",
        ),
    ] = None,
    home: Folder = HERE,
) -> None:
    """Propose the plan and the members as the bundle to join by, and sign that."""
    place, now = ServerHome(home), int(time.time())
    agreed = load_draft(plan or home / PLAN)
    expires = founding.expiry(place, agreed, now, days)
    proposal = founding.propose_charter(place, agreed, now, expires)
    propose(place, proposal, f"publish-{_number(proposal)}")


def expire(home: Folder = HERE) -> None:
    """Propose that what was published last end now, and sign that."""
    place = ServerHome(home)
    proposal = founding.propose_end(place, int(time.time()))
    propose(place, proposal, f"expire-{_number(proposal)}")


def sign(
    file: File,
    mark: Annotated[
        str, typer.Argument(help="How `all of this` began where it was read; else it is asked for.")
    ] = "",
    home: Folder = HERE,
) -> None:
    """Add this operator's signature to a proposal, once it is the one that was read."""
    proposal = _read(file)
    _tell_proposal(proposal)
    require_meant(proposal.digest, mark, lambda: confirmed("Sign all of this?"))
    signed = founding.countersigned(proposal, home / OPERATOR_KEY)
    write_atomically(file, signed.to_bytes())
    typer.echo(f"Signed: {len(signed.signatures)} signatures. At the server: apply {file.name}")


def show(file: Annotated[Path, typer.Argument(help="A request, proposal or bundle.")]) -> None:
    """Show what a file asks for, in plain words, and who signed it."""
    data = read_bytes(file)
    try:
        request = Enrolment.from_bytes(data)
    except MalformedError:
        _tell_proposal(Proposal.from_bytes(data))
        return
    from common.consent.words import enrolment_facts  # noqa: PLC0415

    tell(enrolment_facts(request))


def apply(file: File, home: Folder = HERE) -> None:
    """Have a proposal take effect, once as many operators as the quorum says have signed."""
    place, proposal = ServerHome(home), _read(file)
    with refusals_noted(place.trail, f"effect of {proposal.act.kind}"):
        founding.take_effect(place, proposal, int(time.time()))
    _tell_effect(place, proposal)


def rotate(
    authority: Annotated[
        bool, typer.Option("--authority", help="Make a new authority beside the old one.")
    ] = False,
    retire: Annotated[
        bool, typer.Option("--retire", help="Drop the old authority, which is not used any more.")
    ] = False,
    home: Folder = HERE,
) -> None:
    """Give the server a new key and certificate; members know it by its authority as before.

    A new authority takes three steps: rotate --authority and publish, which every member approves;
    rotate; rotate --retire and publish, which members only join.
    """
    place, now = ServerHome(home), int(time.time())
    if retire:
        successions.retire(place)
        typer.echo("The old authority is dropped. Publish: members join, and need not approve.")
    elif authority:
        successions.begin(place, now, _stream(), new_passphrase)
        typer.echo(
            "Made a new authority; the server is known by the old one until rotate. Publish, have"
            " every member approve that, then: fedprune-server rotate"
        )
    else:
        successions.renew(place, now, _stream(), new_passphrase)
        typer.echo(f"{home / CERTIFICATE}: renewed; `up` serves by it at once, members do nothing.")


COMMANDS = (init, operator, admit, revoke, publish, expire, sign, show, apply, rotate)


def propose(place: ServerHome, proposal: Proposal, name: str) -> bool:
    """Sign a proposal, and have it take effect if that is enough; else keep it for the others.

    Return whether it took effect.
    """
    proposal = founding.countersigned(proposal, place.path / OPERATOR_KEY)
    _tell_proposal(proposal)
    if (missing := founding.missing_signatures(place, proposal)) == 0:
        founding.take_effect(place, proposal, int(time.time()))
        _tell_effect(place, proposal)
        return True
    file = place.path / PROPOSALS / f"{name}.json"
    write_atomically(file, proposal.to_bytes())
    typer.echo(
        f"Not in effect: {missing} more of the operators must sign. Have them run fedprune-server"
        f" sign {file.name} {mark_of(proposal.digest)}, then apply it here.\n{file}"
    )
    return False


def _tell_effect(place: ServerHome, proposal: Proposal) -> None:
    act = proposal.act
    if isinstance(act, Charter):
        typer.echo(f"Published: give members {place.path / BUNDLE}.")
    elif isinstance(act, Manifest | Withdrawal):
        typer.echo(
            f"In effect. Institutions learn it by: fedprune-server release collect {act.run}"
        )
    else:
        typer.echo(f"In effect. Members: {', '.join(place.members) or 'none'}.")


def _tell_proposal(proposal: Proposal) -> None:
    # Opacus comes with what tells of a plan, and costs seconds.
    with working("reckoning what leaves, and what it spends"):
        from common.consent.words import proposal_facts  # noqa: PLC0415

        facts = list(proposal_facts(proposal))
    tell(facts)


def _tell_operator(name: str, key: str) -> None:
    from common.consent.words import key_fingerprint  # noqa: PLC0415

    tell([("operator", f"{name}={key}"), ("fingerprint", key_fingerprint(key))])


def _read(file: Path) -> Proposal:
    return Proposal.from_bytes(read_bytes(file))


def _number(proposal: Proposal) -> int:
    return charter_of(proposal).sequence


LISTENS = "# It listens at all of this machine's addresses (0.0.0.0) unless `listen` names one.\n"


def _listening(address: str) -> dict[str, str]:
    # A port of all IPv4 addresses is not reached by an IPv6 one.
    return {"listen": "::"} if address.startswith("[") else {}


def _stream() -> Stream:
    return SystemEntropy().stream("keys")
