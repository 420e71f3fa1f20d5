"""A charter in plain words: what is trained, what leaves, what it costs, who sees what."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from math import ceil
from typing import Any

from common.consent.acts import Admission, Charter, Proposal, Revocation
from common.consent.agreement import grouped
from common.consent.authority import authority_fingerprints
from common.consent.enrolment import Enrolment
from common.crypto.keys import SIGNATURE_SIZE
from common.crypto.ring import check_slots
from common.crypto.roster import Member
from common.crypto.sealing import SEALED_SIZE
from common.crypto.session import ADVERT_SIZE
from common.facts import evaluation_of, pruning_of, sum_of, unit_of, warnings_of
from common.groups import groups_of
from common.layout import layout_of
from common.plan import Plan
from common.privacy.budgets import training_mechanism
from common.privacy.shared import abandoned_epsilon
from common.release.manifest import Manifest, Withdrawal
from common.release.words import manifest_facts
from common.segments import evaluation_rounds, sends_magnitudes, values_of

Facts = Iterator[tuple[str, str]]
"""What is told, and what of it; every line of a file of others."""


def key_fingerprint(*keys: str) -> str:
    """Return the fingerprint of public keys, as text."""
    return grouped(hashlib.sha256(b"fedprune/1/keys/" + " ".join(keys).encode()).hexdigest())


def member_fingerprint(member: Member) -> str:
    """Return the fingerprint of a member's two keys; what its own ``init`` showed."""
    return key_fingerprint(member.signing_public.hex(), member.agreement_public.hex())


def day(moment: int) -> str:
    """Return a Unix time as a date and minute."""
    return f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%d %H:%M} UTC"


def enrolment_facts(request: Enrolment) -> Facts:
    """Tell who asks to be a member, and by which keys."""
    yield "name", request.name
    yield "keys", member_fingerprint(request.member)
    yield "node key", key_fingerprint(request.node_public)
    if request.succession is not None:
        yield "replaces", f"signing key {request.succession.signing_public.hex()[:16]}..."


def proposal_facts(proposal: Proposal) -> Facts:
    """Tell what a proposal would do, and who signed it."""
    match proposal.act:
        case Admission(enrolment=request):
            yield "proposal", f"admit {request.name} to {proposal.act.federation}"
            yield from enrolment_facts(request)
        case Revocation(name=name):
            yield "proposal", f"revoke {name} of {proposal.act.federation}"
            yield "signing key", f"{proposal.act.signing_public.hex()[:16]}..."
        case Charter():
            yield from charter_facts(proposal.act)
        case Manifest():
            yield "proposal", f"release the model of run {proposal.act.run}"
            yield from manifest_facts(proposal.act)
        case Withdrawal(run=run, manifest=manifest, reason=reason):
            yield "proposal", f"withdraw release {grouped(manifest)} of run {run}"
            yield "reason", reason
    if not isinstance(proposal.act, Charter):
        yield "all of this", grouped(proposal.digest)
    for key in sorted(proposal.signatures):
        yield "signature by key", key_fingerprint(key)


def charter_facts(charter: Charter, name: str = "") -> Facts:
    """Tell all that the institution ``name`` would approve."""
    plan, roster = charter.agreed, charter.roster
    sizes = {institution.name: institution.size for institution in plan.institutions}
    yield "federation", f"{charter.federation}, charter {charter.sequence}"
    yield "issued", f"{day(charter.issued)}, holds until {day(charter.expires)}"
    yield "server", charter.address
    yield "authority", _authorities(charter.authority)
    for operator, key in sorted(charter.operators.keys.items()):
        yield f"operator {operator}", key_fingerprint(key)
    yield "quorum", f"{charter.operators.quorum} of {len(charter.operators.keys)} operators"
    for member in roster.names:
        you = " (you)" * (member == name)
        keys = member_fingerprint(roster.members[member])
        yield f"member {member}{you}", f"{keys}, declares {sizes[member]:,} rows"
    for revoked in roster.revoked:
        yield f"member {revoked}", "revoked"
    yield "all of this", grouped(Proposal(act=charter).digest)
    yield "roster hash", roster.digest
    yield "plan hash", plan.digest()
    yield from plan_facts(plan)


def plan_facts(plan: Plan) -> Facts:
    """Tell what a plan does with records, and what of them is told to whom."""
    training, private = plan.training, plan.privacy.epsilon != "none"
    size = layout_of(plan.model, plan.schema_.width).size
    yield (
        "trained",
        f"{plan.name}: a {plan.model.kind} model of {size:,} weights for"
        f" {plan.schema_.label.column!r} from {plan.schema_.width} features of schema"
        f" {plan.schema_.name}, {training.rounds} rounds of {training.steps} steps",
    )
    yield "columns read", ", ".join(column.name for column in plan.schema_.columns)
    yield "pruned", pruning_of(plan.pruning)
    yield "leaves you", leaving(plan)
    if apart := _apart(plan):
        yield "counted apart", apart
    if private:
        unit, delta = unit_of(plan), plan.privacy.delta
        other = abandoned_epsilon(plan, training_mechanism(plan).steps)
        yield "epsilon", f"{plan.privacy.epsilon:g} for each {unit}, at delta {delta:g}"
        yield "held by many", sum_of(plan)
        yield "if all others collude", f"epsilon {other:.3g} at delta {delta:g}"
    else:
        yield "epsilon", "none: NO differential privacy"
    yield "evaluation", evaluation_of(plan)
    yield "server sees", seen_by_server(plan)
    yield "members see", SEEN_BY_MEMBERS
    yield (
        "model is final",
        f"once {plan.release_quorum} of {len(plan.names)} institutions have signed it off",
    )
    for warning in warnings_of(plan):
        yield "WARNING", warning


SEEN_BY_MEMBERS = "the model and its mask each round; nobody's vector"


def leaving(plan: Plan) -> str:
    """Say all that an institution sends, at most: in the largest round, before anything is pruned.

    What Flower puts around it, and names of the protocol's fields, come on top.
    """
    size = layout_of(plan.model, plan.schema_.width).size
    bits, secure = plan.aggregation.ring_bits, plan.aggregation.kind == "secure"
    largest = max(values_of(plan, number, size) for number in range(plan.training.rounds + 1))
    slots = len(check_slots(bytes(32), bits)) if secure else 0
    values = largest + slots
    evaluations = ", ".join(map(str, evaluation_rounds(plan)))
    said = (
        f"one vector a round, at most {ceil(values * bits / 8):,} bytes before pruning: the update"
        f" of the weights; with it, in rounds {evaluations}, counts of held-out rows by score"
    )
    trained = range(plan.training.rounds)
    cut = [str(number) for number in trained if sends_magnitudes(plan, number)]
    if cut:
        said += f"; in {len(cut)} rounds, {cut[0]} to {cut[-1]}, the magnitudes of your own weights"
    if secure:
        dealt = ADVERT_SIZE + SIGNATURE_SIZE + len(plan.names) * SEALED_SIZE
        said += (
            f". Beside it {dealt:,} bytes of public keys, sealed shares and signatures, and what"
            " opens the sum"
        )
    return f"{said}. No row, no column, no size of a table"


def seen_by_server(plan: Plan) -> str:
    """Say what the server learns of institutions."""
    if plan.aggregation.kind != "secure":
        return "EVERY institution's vector"
    return (
        f"the sum over {plan.threshold} institutions or more, and who took part; one vector"
        f" never, {_colluding(plan.aggregation.colluders)}"
    )


def differences(before: Charter, after: Charter) -> Facts:
    """Tell what a charter changes of an earlier one; nothing when it only has a later number."""
    old, new = before.roster.members, after.roster.members
    for name in sorted(new.keys() - old.keys()):
        yield f"NEW member {name}", member_fingerprint(new[name])
    for name in sorted(old.keys() - new.keys()):
        yield f"member {name}", "revoked" if name in after.roster.revoked else "gone"
    for name in sorted(old.keys() & new.keys()):
        if old[name] != new[name]:
            was, now = member_fingerprint(old[name]), member_fingerprint(new[name])
            yield f"member {name}", f"keys {was} -> {now}"
    for name in sorted({*before.roster.revoked} - {*after.roster.revoked}):
        yield f"member {name}", "its revocation is taken back"
    changes = {
        "server": (before.address, after.address),
        "authority": (before.authority, after.authority),
        "holds until": (before.expires, after.expires),
    }
    shown: dict[str, Callable[[Any], str]] = {"authority": _authorities, "holds until": day}
    for what, (was_, now_) in changes.items():
        if was_ != now_:
            told = shown.get(what, str)
            yield what, f"{told(was_)} -> {told(now_)}"
    if (old_plan := before.agreed.digest()) != (new_plan := after.agreed.digest()):
        # An order that differs stands in no single value, and makes another plan.
        yield "plan hash", f"{old_plan} -> {new_plan}"
    flat, later = _flat(before.plan), _flat(after.plan)
    for path in sorted(flat.keys() | later.keys()):
        if flat.get(path) != later.get(path):
            yield f"plan {path}", f"{flat.get(path, 'absent')} -> {later.get(path, 'absent')}"


def _apart(plan: Plan) -> str:
    """Say whose held-out rows are counted by themselves, and of which institutions."""
    evaluation = plan.evaluation
    groups = groups_of(plan.schema_, evaluation.groups, evaluation.cuts)
    said = [f"{column} ({', '.join(names)})" for column, names in groups.items()]
    said += [f"pool {pool} ({', '.join(members)})" for pool, members in evaluation.pools.items()]
    return "; ".join(said)


def _colluding(count: int) -> str:
    if count == 0:
        return "unless an institution is at its side"
    return f"not even with {count} institution{'s'[: count != 1]} at its side"


def _authorities(pem: str) -> str:
    return " and ".join(map(grouped, authority_fingerprints(pem)))


def _flat(value: object, path: str = "") -> Mapping[str, str]:
    """Return the leaves of nested values as JSON, by dotted path; lists of names by name."""
    if isinstance(value, list) and all(isinstance(item, dict) and "name" in item for item in value):
        value = {item["name"]: item for item in value}
    if not isinstance(value, dict):
        return {path: json.dumps(value)}
    parts = [_flat(part, f"{path}.{key}".strip(".")) for key, part in value.items()]
    return {key: leaf for part in parts for key, leaf in part.items()}
