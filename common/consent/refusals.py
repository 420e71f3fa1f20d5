"""Why a step of founding a federation is refused, on either side; no message holds a secret.

PolicyError
└── ConsentError               abstract
    ├── MalformedError           not a request, proposal or bundle in its only form
    ├── UnprovedError            keys that their owner did not prove to hold
    ├── NameTakenError           a second enrolment under a member's name
    ├── KeyEnrolledError         a key that another enrolment brought
    ├── ReadmittedError          a revoked or replaced key that comes back
    ├── UnsignedError            fewer operators' signatures than the quorum, or a wrong one
    ├── OtherOperatorsError      not signed by the operators that were approved
    ├── OtherFederationError     of another federation than the one that was joined
    ├── ReplayedError            a bundle no newer than one that was seen
    ├── ExpiredError             after the day until which consent holds
    ├── NotAMemberError          a roster without this institution, or with other keys for it
    ├── AuthorityError           a certificate that is no authority's, or out of date
    ├── NotShownError            not what was shown to the person who approves or signs
    └── NotApprovedError         nothing was approved, or something else than what runs
"""

from common.errors import PolicyError


class ConsentError(PolicyError):
    """Abstract: consent is missing, or what asks for it cannot be trusted."""

    reason = "consent"


class MalformedError(ConsentError):
    """A file is not a request, proposal or bundle in its only form."""


class UnprovedError(ConsentError):
    """A request's keys are not all proved by their owner."""


class NameTakenError(ConsentError):
    """A member's name is asked for by someone who does not hold its keys."""


class KeyEnrolledError(ConsentError):
    """A key stands in another enrolment."""


class ReadmittedError(ConsentError):
    """A key that was revoked or replaced is brought back."""


class UnsignedError(ConsentError):
    """Too few operators have signed, or one of the signatures is not theirs."""


class OtherOperatorsError(ConsentError):
    """Too few of the operators that this institution approved have signed."""


class OtherFederationError(ConsentError):
    """The bundle names another federation."""


class ReplayedError(ConsentError):
    """The bundle is older than one that was seen, or another one of the same number."""


class ExpiredError(ConsentError):
    """The day until which consent holds has passed."""

    reason = "consent has expired"


class NotAMemberError(ConsentError):
    """The roster leaves this institution out, or gives it keys that are not its own."""


class AuthorityError(ConsentError):
    """The certificate is no authority's, or not valid now."""


class NotShownError(ConsentError):
    """What lies here is not what the person who approves or signs it has read."""


class NotApprovedError(ConsentError):
    """What is asked for was not approved, or no longer is."""

    reason = "not approved"
